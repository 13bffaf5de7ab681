"""One record a fit: the question, the process that asked, and the outcome.

::

    searches      {_id, v, name, estimator, space, scoring, n_candidates, n_splits, n_units, env,
                   process, state: running | completed | interrupted | cancelled, began_at,
                   seen_at, ended_at, summary, withdrawn, asked, extended, listing,
                   signature: {digest, splits, n_train} or None,
                   facts: how its table is made (results/table.py), part_of, more,
                   best: {index, score, metric} or None}
                  seen_at   None where no client is to be waited for
                  withdrawn somebody cancelled it
                  asked     what more units can be made of; extended: units were added
                  listing   the list of its units that equal searches share, if all were known as
                            it began (listings)
                  part_of, more   of an iteration of successive halving, the search of the first
                            one, and columns of its table with one value each
    environments  {_id: last 16 characters of keys, v, versions: [[distribution, version], ...]}
                  there are as many as sets of versions that searches were made with: few, and
                  never changed

Units may be added to a search from elsewhere, while its client may be there or not.  They are
listed with the units of the search, and wait under an id of their own: the client, which knows
nothing of them, goes on to score and to await its own units.  Their pages are in the search's own
list, from 10**9 on: those of the client come before.
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
)
from optomatic.store.retry import VALID, Outage, RetryingCollection
from optomatic.store.unit_lists import Listed, Listings, listing_of, listings_of, paged
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


class Searches:
    """The searches of a store.  Every call may be repeated."""

    def __init__(self, database: Database[dict[str, Any]], outage: Outage | None = None) -> None:
        self._searches = RetryingCollection(database["searches"], outage)
        self._listings = Listings(RetryingCollection(database["search_units"], outage))

    # -- written by its client -------------------------------------------------------------

    def open(
        self,
        record: SearchRecord,
        unit_ids: Sequence[str],
        candidates: Sequence[Candidate] = (),
        asked: JobSpec | None = None,
    ) -> str:
        """Write the record of a search that begins, and the units that it asks for.

        Called before the look-up which of them have a score: these stay from now on.  `asked` says
        what more units can be made of.  Return the name of the list of its units.
        """
        listing = listing_of(unit_ids, candidates) if unit_ids else None
        fields = {k: _literal(v) for k, v in asdict(record).items() if k != "id"}
        document: dict[str, Any] = {**fields, "v": SCHEMA, "state": "running"}
        document["n_units"] = len(unit_ids)
        document.update(asked=asked_document(asked), listing=listing)
        signature = record.signature and asdict(record.signature)
        name = storable(record.name)
        about = (signature, listing, record.facts, record.part_of, record.more)
        document["checksum"] = checksum_of(record.id, name, *about)
        moments = {"began_at": "$$NOW", "seen_at": "$$NOW", "ended_at": None}
        document.update(summary=None, best=None)
        self._searches.update({"_id": record.id}, [{"$set": {**document, **moments}}], upsert=True)
        if listing is None:
            return record.id
        self._listings.share(listing, unit_ids, candidates)
        return listing

    def need(self, listing: str, shas: Collection[str]) -> None:
        """Note that units of a list are made of these parts, before the parts are stored."""
        self._listings.need(listing, shas)

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
        """Add a page, the next from 0 on, of units, and of what its generator was asked and told.

        The numbers are those of the whole search now.  Return whether it goes on: not once
        somebody withdrew it.
        """
        self._listings.write(search, page, unit_ids, candidates, events)
        counts = {"n_units": n_units, "n_candidates": n_candidates, "seen_at": "$$NOW"}
        return bool(self._searches.update({"_id": search, "state": "running"}, [{"$set": counts}]))

    def note_asked(self, search: str, asked: JobSpec | None) -> None:
        """Note what more units of `search` can be made of, if it can be written down."""
        if asked is not None:
            change = {"$set": {"asked": asked_document(asked)}}
            self._searches.update({"_id": search}, [change])

    def touch(self, search: str) -> None:
        """Note that the client of `search` is there."""
        self._searches.update({"_id": search}, [{"$set": {"seen_at": "$$NOW"}}])

    def left(self, search: str) -> None:
        """Note that the client of `search` left on purpose: nobody waits for it."""
        self._searches.update({"_id": search}, [{"$set": {"seen_at": None}}])

    def finish(self, search: str, state: str, summary: Mapping[str, Any]) -> None:
        """Note how a search ended; one that was withdrawn stays so."""
        end = {"state": state, "summary": {"$literal": dict(summary)}}
        end.update(seen_at="$$NOW", ended_at="$$NOW")
        query = {"_id": search, "state": {"$ne": "cancelled"}}
        self._searches.update(query, [{"$set": end}])

    def note_best(self, search: str, best: Mapping[str, Any]) -> None:
        """Note the candidate that a search has chosen, and its score."""
        self._searches.update({"_id": search}, [{"$set": {"best": {"$literal": dict(best)}}}])

    # -- written by others -----------------------------------------------------------------

    def add(self, search: str, candidates: Sequence[Candidate], *, goes_on: bool) -> None:
        """Note that `search` asks for more candidates; others may add some at the same time.

        It `goes_on`, as running, if some of them have no score yet.
        """
        token = secrets.token_hex(8)
        number = max(_FIRST_PAGE, *(n + 1 for n in self._listings.numbers(search)), 0)
        unit_ids = list(dict.fromkeys(i for candidate in candidates for i in candidate.units))
        for ids, some in paged(unit_ids, candidates):
            while not self._listings.take(search, number, ids, some, token):
                number += 1
            number += 1
        # Counted after the writing: of several at once the largest count is right.
        n_units = len(set(self.unit_ids(search)))
        counts = {name: {"$max": [f"${name}", n_units]} for name in ("n_units", "n_candidates")}
        self._searches.update(
            {"_id": search}, [{"$set": {**counts, **(_AGAIN if goes_on else {})}}]
        )

    def go_on(self, search: str) -> None:
        """Note that units of `search` wait again, without a client that awaits them."""
        self._searches.update({"_id": search}, [{"$set": _AGAIN}])

    def withdraw(self, search: str, *, goes_on: bool = False) -> None:
        """Cancel `search`; its client then ends with SearchCancelled.

        One that has ended stays so, unless it `goes_on` with units that were added.
        """
        states = ["running", "completed", "interrupted"] if goes_on else ["running"]
        self._searches.update(
            {"_id": search, "state": {"$in": states}},
            [{"$set": {"state": "cancelled", "withdrawn": True, "ended_at": "$$NOW"}}],
        )

    # -- read one --------------------------------------------------------------------------

    def withdrawn(self, search: str) -> bool:
        """Return whether somebody cancelled or removed `search`.

        One that was cancelled may go on with units that were added since.
        """
        found = self._searches.find_one({"_id": search}, {"state": 1, "withdrawn": 1})
        return found is None or found.get("state") == "cancelled" or bool(found.get("withdrawn"))

    def is_running(self, search: str, seconds: float = 30.0) -> bool:
        """Return whether `search` has not ended, and its client was seen in the last `seconds`."""
        recent = {"$gt": ["$seen_at", {"$subtract": ["$$NOW", round(1000 * seconds)]}]}
        own = [{"_id": search}, {"part_of": search}]
        query = {"$or": own, "state": "running", "$expr": recent}
        return self._searches.find_one(query, {"_id": 1}) is not None

    def record(self, search: str) -> dict[str, Any]:
        """Return the record of `search` as it is stored; empty if there is none."""
        return self._searches.find_one({"_id": search}) or {}

    def records(self, search: str) -> list[RecordForm]:
        """Return the record of `search`, and those of its later iterations if it has some."""
        query = {"$or": [{"_id": search}, {"part_of": search}]}
        return self._searches.read(RecordForm, query, sort=[("began_at", 1)])

    def iterations(self, search: str) -> list[str]:
        """Return `search`, and the ids of its later iterations, of successive halving."""
        later = self._searches.find({"part_of": search}, {"_id": 1}, sort=[("began_at", 1)])
        return [search, *(document["_id"] for document in later)]

    def asked(self, search: str) -> JobSpec | None:
        """Return what more units can be made of, None if nothing was noted."""
        found = self._searches.find_one({"_id": search, "v": SCHEMA}, {"asked": 1}) or {}
        try:
            return _asked(read(JobSpecForm, found.get("asked") or {}))
        except Misfit:
            return None

    def unit_ids(self, search: str) -> list[str]:
        """Return the ids of the units of `search`, in the order of its candidates."""
        return self._listings.ids(self._lists(search))

    def listed(self, search: str) -> Listed:
        """Return the units, candidates and events of `search`."""
        return self._listings.listed(self._lists(search))

    def events(self, search: str) -> list[list[Any]]:
        """Return what the generator of a search was asked and told, in order."""
        return self._listings.events(search)

    def invalid_lists(self, search: str) -> int:
        """Return how many lists of units of `search` could not be read."""
        return self._listings.invalid(self._lists(search))

    def _lists(self, search: str) -> tuple[str, ...]:
        record = self._searches.find_one({"_id": search}, {"listing": 1})
        return listings_of(record) if record else ()

    # -- find some -------------------------------------------------------------------------

    def about(
        self, digest: str, most: int, names: Sequence[str] | None = None
    ) -> list[EarlierSearch]:
        """Return searches of the same :class:`TaskSignature`, the latest first, at most so many.

        With `names` only searches that have one of these as name or id.
        """
        named = {} if names is None else _named(names)
        query = {"signature.digest": digest, **named}
        found = self._searches.read(SearchForm, query, sort=[("began_at", -1)], limit=most)
        return [EarlierSearch(s.id, s.n_units, _signature_of(s), _listings_of(s)) for s in found]

    def earlier(self, moment: datetime, most: int) -> list[RecordForm]:
        """Return the searches that began before `moment`, the latest first, at most so many."""
        query = {"began_at": {"$lt": moment}}
        return self._searches.read(RecordForm, query, sort=[("began_at", -1)], limit=most)

    def units_of(self, searches: Sequence[EarlierSearch], most: int) -> dict[str, list[str]]:
        """Return the ids of the units of several searches in one query.

        Of a search with more than `most` only the first page.
        """
        large = {search.listings[0] for search in searches if search.n_units > most}
        small = {name for s in searches if s.n_units <= most for name in s.listings}
        ids = self._listings.first_ids(small, large - small)
        return {s.id: [i for name in s.listings for i in ids.get(name, ())] for s in searches}

    def ids_of(self, name: str) -> list[str]:
        """Return the ids of the searches that have `name` as name or id, the latest first.

        Of successive halving that of the first iteration, unless a later one is named by its id.
        """
        of_id, of_name = _named([name])["$or"]
        query = {"$or": [of_id, {**of_name, "part_of": None}]}
        return [d["_id"] for d in self._searches.find(query, {"_id": 1}, sort=[("began_at", -1)])]

    def that_are_there(self, names: Sequence[str]) -> set[str]:
        """Return those of `names` that are the name or the id of a search."""
        found = self._searches.read(SearchForm, _named(names))
        there = {text for search in found for text in (search.id, search.name)}
        return {name for name in names if storable(name) in there}

    def sizes_of(self, ids: Sequence[str]) -> dict[str, tuple[str, int]]:
        """Return name and number of units of the searches that are there, by id."""
        found = self._searches.read(SearchForm, {"_id": {"$in": list(ids)}})
        return {search.id: (search.name, search.n_units) for search in found}

    def latest_names(self, most: int) -> list[str]:
        """Return the names of searches, the latest first, at most so many."""
        found = self._searches.read(SearchForm, {}, sort=[("began_at", -1)], limit=10 * most)
        return list(dict.fromkeys(search.name for search in found))[:most]

    def that_may_wait(self, names: Sequence[str]) -> list[list[str]]:
        """Return for each of `names` the ids under which units of its searches may wait.

        Searches that have ended have none, so that a name may be used again and again.
        """
        query = {"$and": [_named(names), {"$or": [{"state": "running"}, {"extended": True}]}]}
        found = self._searches.read(SearchForm, query, sort=[("began_at", 1)])
        return [
            [
                i
                for s in found
                if storable(name) in (s.id, s.name)
                for i in (ids_that_wait(s.id) if s.extended else [s.id])
            ]
            for name in names
        ]


class Environments:
    """The sets of versions that a store has scores of."""

    def __init__(self, database: Database[dict[str, Any]], outage: Outage | None = None) -> None:
        self._environments = RetryingCollection(database["environments"], outage)

    def others(self, ours: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
        """Return the sets besides `ours`, by the end of keys; note the new ones of `ours`."""
        found = self._environments.read(VersionsForm, {})
        known = {one.id: dict(one.versions) for one in found}
        for end in ours.keys() - known.keys():
            versions = [list(pair) for pair in sorted(ours[end].items())]
            change = {"v": SCHEMA, "versions": {"$literal": versions}}
            self._environments.update({"_id": end}, [{"$set": change}, VALID], upsert=True)
        return {end: versions for end, versions in known.items() if end not in ours}


#: The update of a search that goes on.  Nobody waits for a client that has ended.
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


#: A client that was not seen for so many seconds is gone.
_GONE = 60.0


class Seen(Protocol):
    """The fields of a search that tell its state."""

    @property
    def state(self) -> str: ...

    @property
    def seen_at(self) -> datetime | None: ...

    @property
    def process(self) -> Process: ...


def state_of(record: Seen, now: datetime, *, waits: bool) -> str:
    """Return the state of a search, as people see it, by the server's clock.

    Beyond the stored ones: ``left`` to workers on purpose, while units wait for it, and
    ``abandoned`` if its client vanished.  That shows at once on the same machine, and a minute
    later elsewhere.
    """
    if record.state != "running":
        return record.state
    if record.seen_at is None:
        return "left" if waits else "completed"
    unseen = (now - record.seen_at).total_seconds() > _GONE
    return "abandoned" if unseen or is_gone(record.process) else "running"


def _named(names: Sequence[str]) -> dict[str, list[Any]]:
    """Match searches that have one of `names` as id or name, as these are stored."""
    wanted = {"$in": [storable(name) for name in names if len(name) <= LONGEST_NAME]}
    return {"$or": [{"_id": wanted}, {"name": wanted}]}


def _signature_of(search: SearchForm) -> TaskSignature:
    signature = search.signature or {}
    return TaskSignature(signature["digest"], tuple(signature["splits"]), signature["n_train"])


def _listings_of(search: SearchForm) -> tuple[str, ...]:
    return listings_of({"_id": search.id, "listing": search.listing})


def _literal(value: Any) -> Any:
    """Keep the text of users out of the evaluation of the update."""
    return {"$literal": storable(value) if isinstance(value, str) else value}
