"""What is added to a search from elsewhere, while its client may be there or not.

It is listed with the units of the search, and waits under an id of its own: the client of the
search, which knows nothing of it, goes on to score and to await what it has asked for itself.
Its pages are in the search's own list, from 10**9 on: those of the client come before.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Protocol

from pymongo.database import Database

from optomatic.errors import LONGEST_NAME
from optomatic.records import (
    SCHEMA,
    Candidate,
    JobSpec,
    Process,
    SearchRecord,
    TaskSignature,
    Work,
)
from optomatic.store.documents import storable
from optomatic.store.forms import (
    JobSpecForm,
    Misfit,
    RecordForm,
    SearchForm,
    VersionsForm,
    checksum_of,
    read,
    search_checksum,
)
from optomatic.store.listings import Listed, Listings, listing_of, listings_of, paged
from optomatic.store.retry import VALID, Outage, RetryingCollection
from optomatic.store.workers import is_gone

_FIRST_PAGE = 10**9


def added_to(search: str) -> str:
    """Return the id under which units wait that were added to `search`."""
    return f"{search}+"


def search_of(waiting: str) -> str:
    """Return the search whose units wait under an id."""
    return waiting.removesuffix(added_to(""))


def ids_that_wait(search: str) -> list[str]:
    """Return the ids under which units of `search` may wait."""
    return [search, added_to(search)]


@dataclass(frozen=True, slots=True)
class EarlierSearch:
    """A stored search whose scores another one may use.

    ``n_units`` are those so far, ``listings`` the names of the lists of its units.
    """

    id: str
    n_units: int
    signature: TaskSignature
    listings: tuple[str, ...]


class Extending:
    """Calls that make a search wider.  Every call may be repeated."""

    def __init__(self, searches: RetryingCollection, pages: RetryingCollection) -> None:
        self._searches = searches
        self._listings = Listings(pages)

    def need(self, listing: str, shas: Collection[str]) -> None:
        """Note that units of a list are made of these parts, before they are stored."""
        self._listings.need(listing, shas)

    def unit_ids(self, search: str) -> list[str]:
        """Return the ids of the units that `search` asks for, in the order of its candidates."""
        record = self._searches.find_one({"_id": search}, {"listing": 1})
        return self._listings.ids(listings_of(record)) if record else []

    def listed(self, search: str) -> Listed:
        """Return what `search` asks for: units, candidates, events."""
        record = self._searches.find_one({"_id": search}, {"listing": 1})
        return self._listings.listed(listings_of(record)) if record else Listed([], [], [])

    def invalid_lists(self, search: str) -> int:
        """Return how many lists of units of `search` could not be read."""
        record = self._searches.find_one({"_id": search}, {"listing": 1})
        return self._listings.invalid(listings_of(record)) if record else 0

    def note_asked(self, search: str, asked: JobSpec | None) -> None:
        """Note what more units of `search` can be made of, if that can be written down."""
        if asked is not None:
            change = {"$set": {"asked": asked_document(asked)}}
            self._searches.update({"_id": search}, [change])

    def asked(self, search: str) -> JobSpec | None:
        """Return what :meth:`note_asked` wrote, None if there is nothing."""
        found = self._searches.find_one({"_id": search, "v": SCHEMA}, {"asked": 1}) or {}
        try:
            return _asked(read(JobSpecForm, found.get("asked") or {}))
        except Misfit:
            return None

    def add(self, search: str, candidates: Sequence[Candidate], *, goes_on: bool) -> None:
        """Note that `search` asks for more candidates, whoever else adds some at the same time.

        Parameters
        ----------
        goes_on : bool
            Some of them have no score yet: the search is running (again).
        """
        token = secrets.token_hex(8)
        number = max(_FIRST_PAGE, *(n + 1 for n in self._listings.numbers(search)), 0)
        unit_ids = list(dict.fromkeys(i for candidate in candidates for i in candidate.units))
        for ids, some in paged(unit_ids, candidates):
            while not self._listings.take(search, number, ids, some, token):
                number += 1
            number += 1
        # Counted after the writing: of several at once the one who saw the most is right.
        n_units = len(set(self.unit_ids(search)))
        counts = {name: {"$max": [f"${name}", n_units]} for name in ("n_units", "n_candidates")}
        self._searches.update(
            {"_id": search}, [{"$set": {**counts, **(_AGAIN if goes_on else {})}}]
        )

    def go_on(self, search: str) -> None:
        """Note that units of `search` wait again, which nobody awaits."""
        self._searches.update({"_id": search}, [{"$set": _AGAIN}])


#: A search that goes on.  Nobody waits for a client that has ended.
_AGAIN: dict[str, Any] = {
    "state": "running",
    "extended": True,
    "ended_at": None,
    "seen_at": {"$cond": [{"$eq": ["$state", "running"]}, "$seen_at", None]},
}


def asked_document(asked: JobSpec | None) -> dict[str, Any]:
    """Return the stored form, for an update that is a pipeline."""
    if asked is None:
        return {"$literal": None}
    work = asdict(asked.work)
    # A name of a distribution may hold what a field's name must not.
    work["env"] = [list(pair) for pair in sorted(asked.work.env.items())]
    environment = [list(pair) for pair in sorted(asked.environment.items())]
    checksum = checksum_of(asked.key, work, environment)
    own = {"key": asked.key, "work": work, "environment": environment, "checksum": checksum}
    return {"$literal": own}


def _asked(spec: JobSpecForm) -> JobSpec:
    work = spec.work
    env, requires = dict(work["env"]), tuple(work["requires"])
    whole = Work(**{**work, "env": env, "requires": requires})
    return JobSpec(spec.key, whole, dict(spec.environment))


# Which versions stand behind the ends of keys.
#
# ::
#
#     environments  {_id: last 16 characters of keys, v, versions: [[distribution, version], ...]}
#
# There are as many as sets of versions that searches were made with: few, and never changed.


class Environments:
    """The sets of versions that a store has scores of.  Every call may be repeated."""

    def __init__(self, database: Database[dict[str, Any]], outage: Outage | None = None) -> None:
        self._environments = RetryingCollection(database["environments"], outage)

    def others(self, ours: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
        """Return what is known besides `ours`, by the end of keys; note what is new of `ours`."""
        found = self._environments.read(VersionsForm, {})
        known = {one.id: dict(one.versions) for one in found}
        for end in ours.keys() - known.keys():
            versions = [list(pair) for pair in sorted(ours[end].items())]
            change = {"v": SCHEMA, "versions": {"$literal": versions}}
            self._environments.update({"_id": end}, [{"$set": change}, VALID], upsert=True)
        return {end: versions for end, versions in known.items() if end not in ours}


# One record a fit: what was asked, by whom, with what, and what came of it.
#
# ::
#
#     searches      {_id, v, name, estimator, space, scoring, n_candidates, n_splits, n_units, env,
#                    process, state: running | completed | interrupted | cancelled, began_at,
#                    seen_at, ended_at, summary, withdrawn, asked, extended, listing,
#                    signature: {digest, splits, n_train} or None,
#                    facts: how its table is made (results/stored_table.py), part_of, more,
#                    best: {index, score, metric} or None}
#                   seen_at is None where no client is to be waited for; withdrawn: somebody
#                   cancelled it; asked, extended: see extending; listing: the list of its units
#                   that equal searches share, if they were known as it began (listings); part_of,
#                   more: of an iteration of successive halving, the search of the first one, and
#                   columns of its table with one value each


class Searches(Extending):
    """The searches of a store.  Every call may be repeated."""

    def __init__(self, database: Database[dict[str, Any]], outage: Outage | None = None) -> None:
        pages = RetryingCollection(database["search_units"], outage)
        super().__init__(RetryingCollection(database["searches"], outage), pages)

    def open(
        self,
        record: SearchRecord,
        unit_ids: Sequence[str],
        candidates: Sequence[Candidate] = (),
        asked: JobSpec | None = None,
    ) -> str:
        """Write the record of a search that begins, and which units it asks for.

        To be called before it is looked which of them have a score: these stay from now on.

        Parameters
        ----------
        asked : JobSpec, optional
            What more of them can be made of, where that can be written down.

        Returns
        -------
        str
            The name of the list of its units.
        """
        listing = listing_of(unit_ids, candidates) if unit_ids else None
        fields = {k: _literal(v) for k, v in asdict(record).items() if k != "id"}
        document: dict[str, Any] = {**fields, "v": SCHEMA, "state": "running"}
        document["n_units"] = len(unit_ids)
        document.update(asked=asked_document(asked), listing=listing)
        signature = record.signature and asdict(record.signature)
        name = storable(record.name)
        about = (signature, listing, record.facts, record.part_of, record.more)
        document["checksum"] = search_checksum(record.id, name, *about)
        moments = {"began_at": "$$NOW", "seen_at": "$$NOW", "ended_at": None}
        document.update(summary=None, best=None)
        self._searches.update({"_id": record.id}, [{"$set": {**document, **moments}}], upsert=True)
        if listing is None:
            return record.id
        self._listings.share(listing, unit_ids, candidates)
        return listing

    def extend(
        self,
        search: str,
        page: int,
        unit_ids: Sequence[str],
        candidates: Sequence[Candidate],
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
        self._listings.write(search, page, unit_ids, candidates, events)
        counts = {"n_units": n_units, "n_candidates": n_candidates, "seen_at": "$$NOW"}
        return bool(self._searches.update({"_id": search, "state": "running"}, [{"$set": counts}]))

    def events(self, search: str) -> list[list[Any]]:
        """Return what the generator of a search was asked and told, in order."""
        return self._listings.events(search)

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

    def note_best(self, search: str, best: Mapping[str, Any]) -> None:
        """Note which candidate a search has chosen, and by which score."""
        self._searches.update({"_id": search}, [{"$set": {"best": {"$literal": dict(best)}}}])

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
        """Return whether somebody cancelled or removed `search`.

        One that was cancelled may go on with what was added since.
        """
        found = self._searches.find_one({"_id": search}, {"state": 1, "withdrawn": 1})
        return found is None or found.get("state") == "cancelled" or bool(found.get("withdrawn"))

    def record(self, search: str) -> dict[str, Any]:
        """Return the record of `search` as it is stored; empty if there is none."""
        return self._searches.find_one({"_id": search}) or {}

    def records(self, search: str) -> list[RecordForm]:
        """Return the record of `search`, and those of its later iterations if it has some."""
        query = {"$or": [{"_id": search}, {"part_of": search}]}
        return self._searches.read(RecordForm, query, sort=[("began_at", 1)])

    def parts(self, search: str) -> list[str]:
        """Return `search`, and the ids of its later iterations if it has some."""
        later = self._searches.find({"part_of": search}, {"_id": 1}, sort=[("began_at", 1)])
        return [search, *(document["_id"] for document in later)]

    def about(
        self, digest: str, most: int, names: Sequence[str] | None = None
    ) -> list[EarlierSearch]:
        """Return searches whose scores are about the same, the latest first, at most so many.

        Parameters
        ----------
        digest : str
            Of their :class:`~optomatic.records.TaskSignature`.
        names : sequence of str, optional
            Only searches that have one of these as name or id.

        Notes
        -----
        Reads through all records, as :meth:`ids_of` does: they are few beside units, and an index
        that comes later never gets ready on a set of one node that listens on a socket only.
        """
        query: dict[str, Any] = {"signature.digest": digest}
        if names is not None:
            query["$or"] = [{"_id": _any_of(names)}, {"name": _any_of(names)}]
        found = self._searches.read(SearchForm, query, sort=[("began_at", -1)], limit=most)
        return [EarlierSearch(s.id, s.n_units, _signature_of(s), _listings_of(s)) for s in found]

    def earlier(self, moment: datetime, most: int) -> list[RecordForm]:
        """Return the searches that began before `moment`, the latest first, at most so many."""
        query = {"began_at": {"$lt": moment}}
        return self._searches.read(RecordForm, query, sort=[("began_at", -1)], limit=most)

    def units_of(self, searches: Sequence[EarlierSearch], most: int) -> dict[str, list[str]]:
        """Return the ids of the units of several searches in one query.

        Of a search that has more than `most`, those on its first page.
        """
        large = {search.listings[0] for search in searches if search.n_units > most}
        small = {name for s in searches if s.n_units <= most for name in s.listings}
        ids = self._listings.first_ids(small, large - small)
        return {s.id: [i for name in s.listings for i in ids.get(name, ())] for s in searches}

    def is_running(self, search: str, seconds: float = 30.0) -> bool:
        """Tell whether `search` has not ended, and its client was seen in the last `seconds`."""
        recent = {"$gt": ["$seen_at", {"$subtract": ["$$NOW", round(1000 * seconds)]}]}
        own = [{"_id": search}, {"part_of": search}]
        query = {"$or": own, "state": "running", "$expr": recent}
        return self._searches.find_one(query, {"_id": 1}) is not None

    def ids_of(self, name: str) -> list[str]:
        """Return the ids of the searches that have `name` as name or id, the latest first.

        Of successive halving that of the first iteration, unless a later one is named by its id.
        """
        whole = {"name": _any_of([name]), "part_of": None}
        query = {"$or": [{"_id": _any_of([name])}, whole]}
        return [d["_id"] for d in self._searches.find(query, {"_id": 1}, sort=[("began_at", -1)])]

    def that_are_there(self, names: Sequence[str]) -> set[str]:
        """Return those of `names` that are the name or the id of a search."""
        wanted = _any_of(names)
        found = self._searches.read(SearchForm, {"$or": [{"_id": wanted}, {"name": wanted}]})
        there = {text for search in found for text in (search.id, search.name)}
        return {name for name in names if storable(name) in there}

    def sizes_of(self, ids: Sequence[str]) -> dict[str, tuple[str, int]]:
        """Return name and number of units of searches, by id, of those that are there."""
        found = self._searches.read(SearchForm, {"_id": {"$in": list(ids)}})
        return {search.id: (search.name, search.n_units) for search in found}

    def latest_names(self, most: int) -> list[str]:
        """Return the names of searches, the latest first, at most so many."""
        found = self._searches.read(SearchForm, {}, sort=[("began_at", -1)], limit=10 * most)
        return list(dict.fromkeys(search.name for search in found))[:most]

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


#: A client that was not seen for so many seconds is gone.
_GONE = 60.0


class Seen(Protocol):
    """What the state of a search is told from."""

    @property
    def state(self) -> str:
        """As it is stored."""

    @property
    def seen_at(self) -> datetime | None:
        """When its client was seen last."""

    @property
    def process(self) -> Process:
        """That of its client."""


def state_of(record: Seen, now: datetime, *, waits: bool) -> str:
    """Return the state of a search, as people see it.

    Parameters
    ----------
    record : RecordForm or the like
    now : datetime
        The server's clock.
    waits : bool
        Whether units wait for it.

    Returns
    -------
    {"running", "left", "abandoned", "completed", "interrupted", "cancelled"}
        ``left``: on purpose, to workers.  ``abandoned``: its client vanished, which is seen at once
        on the same machine, and a minute later elsewhere.
    """
    if record.state != "running":
        return record.state
    if record.seen_at is None:
        return "left" if waits else "completed"
    unseen = (now - record.seen_at).total_seconds() > _GONE
    return "abandoned" if unseen or is_gone(record.process) else "running"


def _any_of(names: Sequence[str]) -> dict[str, list[str]]:
    """Match what has one of `names`, as these are stored."""
    return {"$in": [storable(name) for name in names if len(name) <= LONGEST_NAME]}


def _signature_of(search: SearchForm) -> TaskSignature:
    signature = search.signature or {}
    return TaskSignature(signature["digest"], tuple(signature["splits"]), signature["n_train"])


def _listings_of(search: SearchForm) -> tuple[str, ...]:
    return listings_of({"_id": search.id, "listing": search.listing})


def _ids_of(search: SearchForm) -> list[str]:
    return [search.id, added_to(search.id)] if search.extended else [search.id]


def _literal(value: Any) -> Any:
    """Keep what comes from users out of the evaluation of the update."""
    return {"$literal": storable(value) if isinstance(value, str) else value}
