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

from optomatic.records import SCHEMA, EarlierSearch, Recipe, SearchRecord, Subject
from optomatic.store.documents import storable
from optomatic.store.extending import IDS, Extending, added_to, asked_document, pages_of
from optomatic.store.faults import Outage
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
            [
                {"_id": f"{record.id}:{n}", "v": SCHEMA, "search": record.id, "ids": list(ids)}
                for n, ids in enumerate(slices(unit_ids, IDS))
            ]
        )
        fields = {k: _literal(v) for k, v in asdict(record).items() if k != "id"}
        document = {**fields, "v": SCHEMA, "state": "running", "n_units": len(unit_ids)}
        document["asked"] = asked_document(asked)
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
        ids = list(unit_ids)
        document = {"_id": f"{search}:{page}", "v": SCHEMA, "search": search, "ids": ids}
        self._units.insert([{**document, "events": [list(event) for event in events]}])
        counts = {"n_units": n_units, "n_candidates": n_candidates, "seen_at": "$$NOW"}
        return bool(self._searches.update({"_id": search, "state": "running"}, [{"$set": counts}]))

    def events(self, search: str) -> list[list[Any]]:
        """Return what the generator of a search was asked and told, in order."""
        pages = self._units.find({**pages_of(search), "v": SCHEMA}, {"events": 1})
        pages.sort(key=_number_of)
        return [event for page in pages for event in page.get("events", ())]

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
        pages = self._units.find({**pages_of(search), "v": SCHEMA}, {"ids": 1})
        pages.sort(key=_number_of)
        return [unit_id for page in pages for unit_id in page["ids"]]

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
        query: dict[str, Any] = {"subject.digest": digest, "v": SCHEMA}
        if names is not None:
            query["$or"] = [{"_id": {"$in": list(names)}}, {"name": {"$in": list(names)}}]
        fields = {"n_units": 1, "subject": 1}
        found = self._searches.find(query, fields, sort=[("began_at", -1)], limit=most)
        return [EarlierSearch(d["_id"], d["n_units"], _subject_of(d["subject"])) for d in found]

    def units_of(self, searches: Sequence[EarlierSearch], most: int) -> dict[str, list[str]]:
        """Return the ids of the units of several searches in one query.

        Of a search that has more than `most`, those on its first page.
        """
        if not searches:
            return {}
        ranges = [{"_id": f"{s.id}:0"} if s.n_units > most else pages_of(s.id) for s in searches]
        pages = self._units.find({"$or": ranges, "v": SCHEMA}, {"ids": 1, "search": 1})
        found: dict[str, list[str]] = {search.id: [] for search in searches}
        for page in sorted(pages, key=_number_of):
            found[page["search"]] += page["ids"]
        return found

    def is_running(self, search: str, seconds: float = 30.0) -> bool:
        """Tell whether `search` has not ended, and its client was seen in the last `seconds`."""
        recent = {"$gt": ["$seen_at", {"$subtract": ["$$NOW", round(1000 * seconds)]}]}
        query = {"_id": search, "state": "running", "$expr": recent}
        return self._searches.find_one(query, {"_id": 1}) is not None

    def ids_of(self, name: str) -> list[str]:
        """Return the ids of the searches that have `name` as name or id, the latest first."""
        query = {"$or": [{"_id": name}, {"name": name}]}
        return [d["_id"] for d in self._searches.find(query, {"_id": 1}, sort=[("began_at", -1)])]

    def that_are_there(self, names: Sequence[str]) -> set[str]:
        """Return those of `names` that are the name or the id of a search."""
        wanted = {"$in": list(names)}
        found = self._searches.find({"$or": [{"_id": wanted}, {"name": wanted}]}, {"name": 1})
        return {text for d in found for text in (d["_id"], d["name"])}.intersection(names)

    def that_may_wait(self, names: Sequence[str]) -> list[list[str]]:
        """Return for each of `names` the ids under which units of its searches may wait.

        In their order.  Of searches that have ended there are none, so that a name may be used
        again and again.
        """
        wanted = {"$in": list(names)}
        query = {
            "$and": [
                {"$or": [{"_id": wanted}, {"name": wanted}]},
                {"$or": [{"state": "running"}, {"extended": True}]},
            ]
        }
        found = self._searches.find(query, {"name": 1, "extended": 1}, sort=[("began_at", 1)])
        return [
            [i for d in found if name in (d["_id"], d["name"]) for i in _ids(d)] for name in names
        ]


def _ids(document: Mapping[str, Any]) -> list[str]:
    search = document["_id"]
    return [search, added_to(search)] if document.get("extended") else [search]


def _subject_of(document: Mapping[str, Any]) -> Subject:
    return Subject(document["digest"], tuple(document["splits"]), document["n_train"])


def _number_of(page: Mapping[str, Any]) -> int:
    return int(page["_id"].rpartition(":")[2])


def _literal(value: Any) -> Any:
    """Keep what comes from users out of the evaluation of the update."""
    return {"$literal": storable(value) if isinstance(value, str) else value}
