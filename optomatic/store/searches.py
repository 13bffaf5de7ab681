"""One record a fit: what was asked, by whom, with what, and what came of it.

::

    searches      {_id, v, name, estimator, space, scoring, n_candidates, n_splits, n_units, env,
                   process, state: running | completed | interrupted | cancelled, began_at,
                   seen_at, ended_at, summary, withdrawn, asked, extended,
                   subject: {digest, splits, n_train} or None}   absent in older records
                  seen_at is None where no client is to be waited for; withdrawn: somebody
                  cancelled it; asked, extended: see extending
    search_units  {_id: "<search>:<n>", v, search, ids: [...], events: [...]}
                  so a search may have any size, and grow; events: what its generator was asked
                  and told, in order, where it has one (plan/course/schedule.py)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pymongo.database import Database

from optomatic.errors import LONGEST_NAME
from optomatic.records import SCHEMA, EarlierSearch, Recipe, SearchRecord, Subject
from optomatic.store.documents import storable
from optomatic.store.extending import (
    IDS,
    Extending,
    added_to,
    asked_document,
    number_of,
    page_document,
    pages_of,
)
from optomatic.store.faults import Outage
from optomatic.store.forms import INVALID, PageForm, SearchForm, checksum_of
from optomatic.store.patient import Patient
from optomatic.store.submitting import slices


class Searches(Extending):
    """The searches of a store.  Every call may be repeated."""

    def __init__(self, database: Database[dict[str, Any]], outage: Outage | None = None) -> None:
        searches, units = (
            Patient(database["searches"], outage),
            Patient(database["search_units"], outage),
        )
        super().__init__(searches, units)

    def open(
        self, record: SearchRecord, unit_ids: Sequence[str], asked: Recipe | None = None
    ) -> None:
        """Write the record of a search that begins, and which units it asks for.

        The units first, so that a search that is there is there with all of them.  `asked` is
        what more of them can be made of, where that can be written down.
        """
        self._units.insert(
            [page_document(record.id, n, ids) for n, ids in enumerate(slices(unit_ids, IDS))]
        )
        fields = {k: _literal(v) for k, v in asdict(record).items() if k != "id"}
        document = {**fields, "v": SCHEMA, "state": "running", "n_units": len(unit_ids)}
        document["asked"] = asked_document(asked)
        subject = record.subject and asdict(record.subject)
        document["checksum"] = checksum_of(record.id, storable(record.name), subject)
        moments = {"began_at": "$$NOW", "seen_at": "$$NOW", "ended_at": None, "summary": None}
        self._searches.update({"_id": record.id}, [{"$set": {**document, **moments}}], upsert=True)

    def extend(
        self,
        search: str,
        page: int,
        unit_ids: Sequence[str],
        events: Sequence[Sequence[Any]],
        *,
        n_units: int,
        n_candidates: int,
    ) -> bool:
        """Add to what a search asks for, and to what its generator was asked and told.

        Parameters
        ----------
        page : int
            Consecutive, from 0.
        n_units, n_candidates : int
            Of the whole search now.

        Returns
        -------
        bool
            Whether it goes on; False once somebody withdrew it.
        """
        self._units.insert([page_document(search, page, unit_ids, events)])
        counts = {"n_units": n_units, "n_candidates": n_candidates, "seen_at": "$$NOW"}
        return bool(self._searches.update({"_id": search, "state": "running"}, [{"$set": counts}]))

    def events(self, search: str) -> list[list[Any]]:
        """Return what the generator of a search was asked and told, in order."""
        return [event for page in self._pages(search) for event in page.events]

    def touch(self, search: str) -> None:
        """Note that the client of `search` is there."""
        self._searches.update({"_id": search}, [{"$set": {"seen_at": "$$NOW"}}])

    def left(self, search: str) -> None:
        """Note that the client of `search` has gone on purpose: nobody waits for it."""
        self._searches.update({"_id": search}, [{"$set": {"seen_at": None}}])

    def finish(self, search: str, state: str, summary: Mapping[str, Any]) -> None:
        """Note how a search ended; one that was withdrawn stays so."""
        self._searches.update(
            {"_id": search, "state": {"$ne": "cancelled"}},
            [
                {
                    "$set": {
                        "state": state,
                        "summary": {"$literal": dict(summary)},
                        "seen_at": "$$NOW",
                        "ended_at": "$$NOW",
                    }
                }
            ],
        )

    def withdraw(self, search: str, *, goes_on: bool = False) -> None:
        """Note that somebody cancels `search`; its client then ends with SearchCancelled.

        One that has ended stays as it ended, unless it `goes_on` with what was added to it.
        """
        states = ["running", "completed", "interrupted"] if goes_on else ["running"]
        self._searches.update(
            {"_id": search, "state": {"$in": states}},
            [{"$set": {"state": "cancelled", "withdrawn": True, "ended_at": "$$NOW"}}],
        )

    def withdrawn(self, search: str) -> bool:
        """Tell whether somebody cancelled `search`; it may go on with what was added since."""
        found = self._searches.find_one({"_id": search}, {"state": 1, "withdrawn": 1}) or {}
        return found.get("state") == "cancelled" or bool(found.get("withdrawn"))

    def record(self, search: str) -> dict[str, Any]:
        """Return the record of `search` as it is stored; empty if there is none."""
        return self._searches.find_one({"_id": search}) or {}

    def unit_ids(self, search: str) -> list[str]:
        """Return the ids of the units that `search` asks for, in the order of its candidates."""
        return [unit_id for page in self._pages(search) for unit_id in page.ids]

    def invalid_pages(self, search: str) -> int:
        """Return how many lists of units of `search` could not be read."""
        return len(self._units.find({**pages_of(search), "state": INVALID}, {"_id": 1}))

    def _pages(self, search: str) -> list[PageForm]:
        return sorted(self._units.read(PageForm, pages_of(search)), key=number_of)

    def about(
        self, digest: str, most: int, names: Sequence[str] | None = None
    ) -> list[EarlierSearch]:
        """Return searches whose scores are about the same, the latest first, at most so many.

        Parameters
        ----------
        digest : str
            Of their :class:`~optomatic.records.Subject`.
        names : sequence of str, optional
            Only searches that have one of these as name or id.

        Notes
        -----
        Reads through all records, as :meth:`ids_of` does: they are few beside units, and an index
        that comes later never gets ready on a set of one node that listens on a socket only.
        """
        query: dict[str, Any] = {"subject.digest": digest}
        if names is not None:
            query["$or"] = [{"_id": _any_of(names)}, {"name": _any_of(names)}]
        found = self._searches.read(SearchForm, query, sort=[("began_at", -1)], limit=most)
        return [EarlierSearch(s.id, s.n_units, _subject_of(s)) for s in found]

    def units_of(self, searches: Sequence[EarlierSearch], most: int) -> dict[str, list[str]]:
        """Return the ids of the units of several searches in one query.

        Of a search that has more than `most`, those on its first page.
        """
        if not searches:
            return {}
        ranges = [{"_id": f"{s.id}:0"} if s.n_units > most else pages_of(s.id) for s in searches]
        found: dict[str, list[str]] = {search.id: [] for search in searches}
        for page in sorted(self._units.read(PageForm, {"$or": ranges}), key=number_of):
            if page.search in found:
                found[page.search] += page.ids
        return found

    def is_running(self, search: str, seconds: float = 30.0) -> bool:
        """Tell whether `search` has not ended, and its client was seen in the last `seconds`."""
        recent = {"$gt": ["$seen_at", {"$subtract": ["$$NOW", round(1000 * seconds)]}]}
        query = {"_id": search, "state": "running", "$expr": recent}
        return self._searches.find_one(query, {"_id": 1}) is not None

    def ids_of(self, name: str) -> list[str]:
        """Return the ids of the searches that have `name` as name or id, the latest first."""
        query = {"$or": [{"_id": _any_of([name])}, {"name": _any_of([name])}]}
        return [d["_id"] for d in self._searches.find(query, {"_id": 1}, sort=[("began_at", -1)])]

    def that_are_there(self, names: Sequence[str]) -> set[str]:
        """Return those of `names` that are the name or the id of a search."""
        wanted = _any_of(names)
        found = self._searches.read(SearchForm, {"$or": [{"_id": wanted}, {"name": wanted}]})
        there = {text for search in found for text in (search.id, search.name)}
        return {name for name in names if storable(name) in there}

    def that_may_wait(self, names: Sequence[str]) -> list[list[str]]:
        """Return for each of `names` the ids under which units of its searches may wait.

        In their order.  Of searches that have ended there are none, so that a name may be used
        again and again.
        """
        wanted = _any_of(names)
        query = {
            "$and": [
                {"$or": [{"_id": wanted}, {"name": wanted}]},
                {"$or": [{"state": "running"}, {"extended": True}]},
            ]
        }
        found = self._searches.read(SearchForm, query, sort=[("began_at", 1)])
        return [
            [i for s in found if storable(name) in (s.id, s.name) for i in _ids_of(s)]
            for name in names
        ]


def _any_of(names: Sequence[str]) -> dict[str, list[str]]:
    """Match what has one of `names`, as these are stored."""
    return {"$in": [storable(name) for name in names if len(name) <= LONGEST_NAME]}


def _subject_of(search: SearchForm) -> Subject:
    subject = search.subject or {}
    return Subject(subject["digest"], tuple(subject["splits"]), subject["n_train"])


def _ids_of(search: SearchForm) -> list[str]:
    return [search.id, added_to(search.id)] if search.extended else [search.id]


def _literal(value: Any) -> Any:
    """Keep what comes from users out of the evaluation of the update."""
    return {"$literal": storable(value) if isinstance(value, str) else value}
