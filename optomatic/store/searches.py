"""Searches: one record a fit, the lists of its units in pages, and the versions of keys.

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
                            it began
                  part_of, more   of an iteration of successive halving, the search of the first
                            one, and columns of its table with one value each
    search_units  {_id: "<listing>:<n>", v, ids: [...], candidates: [...], events: [...], by,
                   parts: [...], at, checksum}
                  n       from 0 on, so that a list may have any size; from 10**9 on: units that
                          were added to a search
                  candidates  [text, keys, shown, reason] of each (records.Candidate); of the keys
                          of its units the first characters, blanks between; shown is in pairs.
                          Their units may stand on other pages
                  events  what its generator was asked and told, in order, where it has one
                  parts   on page -1 alone: hashes of the parts that workers need for these units
                  at      when it was written or asked for last, by the server's clock
    environments  {_id: last 16 characters of keys, v, versions: [[distribution, version], ...]}
                  there are as many as sets of versions that searches were made with: few, and
                  never changed

A listing has the name of its search, or, where all units are known as the search begins, a digest
of them and of the candidates.  Equal searches share that one, so each but the first adds its
record and nothing else.  A reference is written down before the look-up whether its target is
there, in this order: record, pages, page -1, parts, units; :mod:`~optomatic.store.removal` says
why.

Units may be added to a search from elsewhere, while its client may be there or not.  They are
listed with the units of the search, and wait under an id of their own: the client, which knows
nothing of them, goes on to score and to await its own units.  Their pages are in the search's own
list, from 10**9 on: those of the client come before.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import zip_longest
from typing import Any, NamedTuple

from pymongo.database import Database

from optomatic.errors import LONGEST_NAME
from optomatic.records import (
    SCHEMA,
    SCORELESS,
    UNFINISHED,
    Candidate,
    JobSpec,
    SearchRecord,
    TaskSignature,
    Work,
)
from optomatic.store.batches import ids_in
from optomatic.store.documents import (
    INVALID,
    JobSpecForm,
    ListedForm,
    Misfit,
    PageForm,
    RecordForm,
    SearchForm,
    VersionsForm,
    checksum_of,
    key_of,
    piece_of,
    pieces_of,
    read,
    storable,
)
from optomatic.store.retry import VALID, Outage, RetryingCollection, array, slices
from optomatic.store.workers import is_gone, seen_since

#: Ids in one document: 100 bytes each.
IDS = 20_000
#: A list of at most so many units is written without a look whether it is there.
_SHORT_LIST = 1_000
#: The page that names parts, and the first one of units that were added.
_PARTS, _FIRST_ADDED = -1, 10**9
#: Characters of a key that tell the units of one search apart.
_SHORT = 16
#: Longer params are those of their units only; so many characters of params are on one page.
_LONGEST_TEXT, _TEXTS = 16_000, 4_000_000
#: A client that was not seen for so many seconds is gone.
_GONE = 60.0
#: Units whose lists are read to count failures; of further searches they are not known.
_MOST_UNITS = 200_000
#: The update of a search that goes on.  Nobody waits for a client that has ended.
_AGAIN: dict[str, Any] = {
    "state": "running",
    "extended": True,
    "ended_at": None,
    "seen_at": {"$cond": [{"$eq": ["$state", "running"]}, "$seen_at", None]},
}
Row = tuple[str | None, str, list[tuple[str, str]], str | None]


def added_to(search: str) -> str:
    """Return the id under which units wait that were added to `search`."""
    return f"{search}+"


def search_of(waiting: str) -> str:
    """Return the search whose units wait under an id."""
    return waiting.removesuffix(added_to(""))


def ids_that_wait(search: str) -> list[str]:
    """Return the ids under which units of `search` may wait."""
    return [search, added_to(search)]


def listings_of(search: str, shared: str | None) -> tuple[str, ...]:
    """Return the names of the lists of a search, that of added units last."""
    return (shared, search) if shared else (search,)


def state_of(record: RecordForm | ListedForm, now: datetime, *, waits: bool) -> str:
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


@dataclass(frozen=True, slots=True)
class EarlierSearch:
    """A stored search whose scores another one may use.

    ``n_units`` are those so far, ``listings`` the names of the lists of its units.
    """

    id: str
    n_units: int
    signature: TaskSignature
    listings: tuple[str, ...]


class Listed(NamedTuple):
    """Units (each id once), candidates and events of a search.

    A unit of a candidate that was not asked for yet has the id "".
    """

    ids: list[str]
    candidates: list[Candidate]
    events: list[Any]


class Searches:
    """The searches of a store, and the lists of their units.  Every call may be repeated."""

    def __init__(self, database: Database[dict[str, Any]], outage: Outage | None = None) -> None:
        self._searches = RetryingCollection(database["searches"], outage)
        self._pages = RetryingCollection(database["search_units"], outage)
        self._units = RetryingCollection(database["units"], outage)
        self._environments = RetryingCollection(database["environments"], outage)

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
        listing = None
        if unit_ids:
            listing = checksum_of(unit_ids, [_row(candidate) for candidate in candidates])
        fields = {k: _literal(v) for k, v in asdict(record).items() if k != "id"}
        signature = record.signature and asdict(record.signature)
        about = (signature, listing, record.facts, record.part_of, record.more)
        document: dict[str, Any] = {
            **fields,
            "v": SCHEMA,
            "state": "running",
            "n_units": len(unit_ids),
            "asked": _asked_document(asked),
            "listing": listing,
            "checksum": checksum_of(record.id, storable(record.name), *about),
            "began_at": "$$NOW",
            "seen_at": "$$NOW",
            "ended_at": None,
            "summary": None,
            "best": None,
        }
        self._searches.update({"_id": record.id}, [{"$set": document}], upsert=True)
        if listing is None:
            return record.id
        self._share(listing, unit_ids, candidates)
        return listing

    def _share(
        self, listing: str, unit_ids: Sequence[str], candidates: Sequence[Candidate]
    ) -> None:
        """Write a list that is named by its content, unless it is there."""
        pages = {f"{listing}:{n}": own for n, own in enumerate(paged(unit_ids, candidates))}
        # A removal that has begun before leaves it alone from now on.
        whole = {"_id": {"$in": list(pages)}, "state": {"$ne": INVALID}}
        is_long = len(unit_ids) > _SHORT_LIST  # it takes longer to write than to look for
        there = self._pages.update(whole, [{"$set": {"at": "$$NOW"}}]) if is_long else 0
        if there < len(pages):
            for page, own in pages.items():
                self._set_page(page, _content(page, *own))

    def need(self, listing: str, shas: Collection[str]) -> None:
        """Note that units of a list are made of these parts, before the parts are stored."""
        parts = {"$setUnion": [array("$parts"), sorted(shas)]}
        self._set_page(f"{listing}:{_PARTS}", {"ids": [], "parts": parts})

    def extend(
        self,
        search: str,
        number: int,
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
        page = f"{search}:{number}"
        self._set_page(page, _content(page, unit_ids, candidates, [list(one) for one in events]))
        counts = {"n_units": n_units, "n_candidates": n_candidates, "seen_at": "$$NOW"}
        return bool(self._searches.update({"_id": search, "state": "running"}, [{"$set": counts}]))

    def note_asked(self, search: str, asked: JobSpec | None) -> None:
        """Note what more units of `search` can be made of, if it can be written down."""
        if asked is not None:
            self._note(search, asked=_asked_document(asked))

    def touch(self, search: str) -> None:
        """Note that the client of `search` is there."""
        self._note(search, seen_at="$$NOW")

    def left(self, search: str) -> None:
        """Note that the client of `search` left on purpose: nobody waits for it."""
        self._note(search, seen_at=None)

    def note_best(self, search: str, best: Mapping[str, Any]) -> None:
        """Note the candidate that a search has chosen, and its score."""
        self._note(search, best={"$literal": dict(best)})

    def go_on(self, search: str) -> None:
        """Note that units of `search` wait again, without a client that awaits them."""
        self._note(search, **_AGAIN)

    def _note(self, search: str, **fields: Any) -> None:
        self._searches.update({"_id": search}, [{"$set": fields}])

    def finish(self, search: str, state: str, summary: Mapping[str, Any]) -> None:
        """Note how a search ended; one that was withdrawn stays so."""
        end = {"state": state, "summary": {"$literal": dict(summary)}}
        end.update(seen_at="$$NOW", ended_at="$$NOW")
        self._searches.update({"_id": search, "state": {"$ne": "cancelled"}}, [{"$set": end}])

    # -- written by others -----------------------------------------------------------------

    def add(self, search: str, candidates: Sequence[Candidate], *, goes_on: bool) -> None:
        """Note that `search` asks for more candidates; others may add some at the same time.

        It `goes_on`, as running, if some of them have no score yet.
        """
        token = secrets.token_hex(8)
        there = [piece_of(page.id)[1] for page in self._read([search])]
        number = max([_FIRST_ADDED, *(n + 1 for n in there)])
        unit_ids = list(dict.fromkeys(i for candidate in candidates for i in candidate.units))
        for ids, some in paged(unit_ids, candidates):
            while not self._take(f"{search}:{number}", ids, some, token):
                number += 1
            number += 1
        # Counted after the writing: of several at once the largest count is right.
        n_units = len(set(self.unit_ids(search)))
        counts = {name: {"$max": [f"${name}", n_units]} for name in ("n_units", "n_candidates")}
        self._note(search, **counts, **(_AGAIN if goes_on else {}))

    def _take(
        self, page: str, unit_ids: Sequence[str], candidates: Sequence[Candidate], token: str
    ) -> bool:
        """Write a page, and return whether nobody else had that number."""
        first = {"by": token, **_content(page, unit_ids, candidates)}
        self._set_page(page, {name: {"$ifNull": [f"${name}", v]} for name, v in first.items()})
        return self._pages.find_one({"_id": page, "by": token}, {"_id": 1}) is not None

    def _set_page(self, page: str, fields: Mapping[str, Any]) -> None:
        self._pages.update(
            {"_id": page}, [{"$set": {"v": SCHEMA, **fields, "at": "$$NOW"}}, VALID], upsert=True
        )

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
        query = {**_with_iterations(search), "state": "running", **seen_since(seconds)}
        return self._searches.find_one(query, {"_id": 1}) is not None

    def record(self, search: str) -> dict[str, Any]:
        """Return the record of `search` as it is stored; empty if there is none."""
        return self._searches.find_one({"_id": search}) or {}

    def records(self, search: str) -> list[RecordForm]:
        """Return the record of `search`, and those of its later iterations if it has some."""
        query = _with_iterations(search)
        return self._searches.read(RecordForm, query, sort=[("began_at", 1)])

    def iterations(self, search: str) -> list[str]:
        """Return `search`, and the ids of its later iterations, of successive halving."""
        later = self._searches.find({"part_of": search}, {"_id": 1}, sort=[("began_at", 1)])
        return [search, *(document["_id"] for document in later)]

    def asked(self, search: str) -> JobSpec | None:
        """Return what more units can be made of, None if nothing was noted."""
        found = self._searches.find_one({"_id": search, "v": SCHEMA}, {"asked": 1}) or {}
        try:
            spec = read(JobSpecForm, found.get("asked") or {})
        except Misfit:
            return None
        work = {**spec.work, "env": dict(spec.work["env"])}
        work["requires"] = tuple(work["requires"])
        return JobSpec(spec.key, Work(**work), dict(spec.environment))

    def unit_ids(self, search: str) -> list[str]:
        """Return the ids of the units of `search`, in the order of its candidates."""
        return [unit_id for page in self._read(self._lists(search)) for unit_id in page.ids]

    def listed(self, search: str) -> Listed:
        """Return the units, candidates and events of `search`."""
        pages = self._read(self._lists(search))
        ids = list(dict.fromkeys(unit_id for page in pages for unit_id in page.ids))
        known = {key_of(unit_id)[:_SHORT]: unit_id for unit_id in ids}
        candidates = [_candidate(row, known) for page in pages for row in page.candidates]
        return Listed(ids, candidates, [event for page in pages for event in page.events])

    def events(self, search: str) -> list[list[Any]]:
        """Return what the generator of a search was asked and told, in order."""
        return [event for page in self._read([search]) for event in page.events]

    def invalid_lists(self, search: str) -> int:
        """Return how many pages of the lists of `search` could not be read."""
        ranges = [pieces_of(listing) for listing in self._lists(search)]
        query = {"$or": ranges, "state": INVALID}
        return len(self._pages.find(query, {"_id": 1})) if ranges else 0

    def _lists(self, search: str) -> tuple[str, ...]:
        record = self._searches.find_one({"_id": search}, {"listing": 1})
        return listings_of(search, record.get("listing")) if record else ()

    def _read(self, listings: Sequence[str]) -> list[PageForm]:
        """Return all pages of these lists, by number."""
        return self._sorted([pieces_of(listing) for listing in listings])

    def _sorted(self, ranges: Sequence[Mapping[str, Any]]) -> list[PageForm]:
        found = self._pages.read(PageForm, {"$or": ranges}) if ranges else []
        return sorted(found, key=lambda page: piece_of(page.id)[1])

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
        return [
            EarlierSearch(s.id, s.n_units, _signature_of(s), listings_of(s.id, s.listing))
            for s in found
        ]

    def earlier(self, moment: datetime, most: int) -> list[RecordForm]:
        """Return the searches that began before `moment`, the latest first, at most so many."""
        query = {"began_at": {"$lt": moment}}
        return self._searches.read(RecordForm, query, sort=[("began_at", -1)], limit=most)

    def units_of(self, searches: Sequence[EarlierSearch], most: int) -> dict[str, list[str]]:
        """Return the ids of the units of several searches in one query.

        Of a search with more than `most` only the first page.
        """
        whole = {name for s in searches if s.n_units <= most for name in s.listings}
        cut = {search.listings[0] for search in searches if search.n_units > most} - whole
        ids: dict[str, list[str]] = {}
        ranges = [*map(pieces_of, whole), *({"_id": f"{listing}:0"} for listing in cut)]
        for page in self._sorted(ranges):
            ids.setdefault(piece_of(page.id)[0], []).extend(page.ids)
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

    def other_versions(self, ours: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
        """Return the sets of versions besides `ours`, by the end of keys; note new ones."""
        found = self._environments.read(VersionsForm, {})
        known = {one.id: dict(one.versions) for one in found}
        for end in ours.keys() - known.keys():
            versions = [list(pair) for pair in sorted(ours[end].items())]
            change = {"v": SCHEMA, "versions": {"$literal": versions}}
            self._environments.update({"_id": end}, [{"$set": change}, VALID], upsert=True)
        return {end: versions for end, versions in known.items() if end not in ours}

    # -- read only, for people ---------------------------------------------------------------

    def all(self) -> list[ListedForm]:
        """Return all searches, the latest first."""
        return self._searches.look(ListedForm, {}, sort=[("began_at", -1)])

    def names(self, limit: int = 0, ids: Collection[str] | None = None) -> list[tuple[str, str]]:
        """Return id and name of searches, or of those with `ids`, the latest first.

        With `limit` at most so many.
        """
        query = {"v": SCHEMA} if ids is None else {"v": SCHEMA, "_id": {"$in": [*ids]}}
        found = self._searches.find(query, {"name": 1}, sort=[("began_at", -1)], limit=limit)
        return [(str(one["_id"]), str(one.get("name", ""))) for one in found]

    def count_waiting(self, searches: Sequence[str]) -> Counter[str]:
        """Return how many units each of `searches` waits for, in one query."""
        origin = {waits_as: s for s in searches for waits_as in ids_that_wait(s)}
        wanted = {"wanted_by": {"$in": list(origin)}}
        pipeline: list[dict[str, Any]] = [
            {"$match": {**wanted, "state": {"$in": list(UNFINISHED)}}},
            {"$project": {"_id": 0, "wanted_by": 1, "size": 1}},
            {"$unwind": "$wanted_by"},
            {"$group": {"_id": "$wanted_by", "n": {"$sum": {"$ifNull": ["$size", 1]}}}},
        ]
        counts: Counter[str] = Counter()
        for found in self._units.aggregate(pipeline) if searches else ():
            if found["_id"] in origin:
                counts[origin[found["_id"]]] += found["n"]
        return counts

    def count_without_score(self, searches: Sequence[ListedForm]) -> dict[str, Counter[str]]:
        """Return how many units of each of `searches` have ended without a score, by state.

        Of searches beyond the first 200,000 units nothing is returned.
        """
        # No unit that has ended is wanted by anybody: an index finds those.
        states = [*SCORELESS, "cancelled", INVALID]
        unwanted = {"wanted_by": [], "state": {"$in": states}, "kind": {"$ne": "call"}}
        found = self._units.find(unwanted, {"state": 1, "ids": 1})
        found.sort(key=lambda document: "ids" not in document)  # some may have ended since
        ended = {unit_id: d["state"] for d in found for unit_id in ids_in(d)}
        if not ended:
            return {search.id: Counter() for search in searches}
        left, names = _MOST_UNITS, dict[str, tuple[str, ...]]()
        for search in searches:
            left -= search.n_units
            if left < 0:
                break
            names[search.id] = listings_of(search.id, search.listing)
        ids = self._ids_on({listing for listings in names.values() for listing in listings})
        return {
            search: Counter(
                ended[unit_id]
                for unit_id in {i for name in listings for i in ids.get(name, ())}
                if unit_id in ended
            )
            for search, listings in names.items()
        }

    def _ids_on(self, listings: Collection[str]) -> dict[str, list[str]]:
        """Return the ids of units on the pages of lists, by list."""
        ids: dict[str, list[str]] = {}
        for some in slices(sorted(listings)):
            query = {"$or": [pieces_of(listing) for listing in some], "state": {"$ne": INVALID}}
            for page in self._pages.find(query, {"ids": 1}):
                own = page.get("ids")
                ids.setdefault(piece_of(page["_id"])[0], []).extend(
                    own if isinstance(own, list) else ()
                )
        return ids


def paged(
    unit_ids: Sequence[str], candidates: Sequence[Candidate]
) -> Iterator[tuple[Sequence[str], Sequence[Candidate]]]:
    """Cut units and candidates into pages of a bounded size."""
    runs: list[list[Candidate]] = []
    size = _TEXTS
    for candidate in candidates:
        own = len(candidate.text or "") + (_SHORT + 1) * len(candidate.units)
        if not runs or size + own > _TEXTS:
            runs.append([])
            size = 0
        runs[-1].append(candidate)
        size += own
    return zip_longest(slices(unit_ids, IDS), runs, fillvalue=())


def _row(candidate: Candidate) -> Row:
    text = candidate.text
    keys = " ".join(key_of(unit_id)[:_SHORT] for unit_id in candidate.units)
    shown = [(storable(name), storable(value)) for name, value in candidate.shown.items()]
    return text if len(text or "") <= _LONGEST_TEXT else None, keys, shown, candidate.reason


def _candidate(row: Row, known: Mapping[str, str]) -> Candidate:
    text, keys, shown, reason = row
    return Candidate(text, tuple(known.get(key, "") for key in keys.split()), dict(shown), reason)


def _content(
    page: str,
    ids: Sequence[str],
    candidates: Sequence[Candidate] = (),
    events: Sequence[Any] = (),
) -> dict[str, Any]:
    """Return the fields of a page, for an update that is a pipeline."""
    listed, told = list(ids), list(events)
    rows = [_row(candidate) for candidate in candidates]
    checksum = checksum_of(page, listed, told, rows)
    fields = {"ids": listed, "candidates": rows, "events": told, "checksum": checksum}
    return {name: {"$literal": value} for name, value in fields.items()}


def _asked_document(asked: JobSpec | None) -> dict[str, Any]:
    """Return the stored form, for an update that is a pipeline."""
    if asked is None:
        return {"$literal": None}
    work = asdict(asked.work)
    # Not every name of a distribution may name a field.
    work["env"] = [list(pair) for pair in sorted(asked.work.env.items())]
    environment = [list(pair) for pair in sorted(asked.environment.items())]
    checksum = checksum_of(asked.key, work, environment)
    own = {"key": asked.key, "work": work, "environment": environment, "checksum": checksum}
    return {"$literal": own}


def _with_iterations(search: str) -> dict[str, Any]:
    return {"$or": [{"_id": search}, {"part_of": search}]}


def _named(names: Sequence[str]) -> dict[str, list[Any]]:
    """Match searches that have one of `names` as id or name, as these are stored."""
    wanted = {"$in": [storable(name) for name in names if len(name) <= LONGEST_NAME]}
    return {"$or": [{"_id": wanted}, {"name": wanted}]}


def _signature_of(search: SearchForm) -> TaskSignature:
    signature = search.signature or {}
    return TaskSignature(signature["digest"], tuple(signature["splits"]), signature["n_train"])


def _literal(value: Any) -> Any:
    """Keep the text of users out of the evaluation of the update."""
    return {"$literal": storable(value) if isinstance(value, str) else value}
