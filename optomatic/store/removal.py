"""Remove searches, and all that nothing refers to any more, beside searches that run.

A record refers to the lists of its units and to the parts of its job spec; a list refers to its
units, by their keys, and to parts.  Two rules make it safe without a lock, and without waiting:

1. A search writes its references down before it looks whether their targets are there.  Each list
   and part that it finds or stores gets a new ``at``.
2. A removal takes the server's time first, and reads the references afterwards.  It removes only
   lists and parts with an ``at`` before that time, each by one statement.

So a reference from before the reading is seen there.  A later one meets a list or part that is
too new to be removed, or one that is gone and is stored again.  Units have no ``at``: new lists
are read before and after each thousand of them.  Scores that were listed in between are put back.
A unit that waits is never removed.  The record goes first and the list last: a removal that was
cut off leaves things that nothing refers to, for the next one.

Units of another search may be made of parts of a removed one, which had queued them first; then
the parts are noted in the list of the other one.

A removal changes no document that it cannot read, and with `dry_run` none at all.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

from pymongo.database import Database

from optomatic._uri import redact
from optomatic.errors import SearchRunning, StoreError, StoreIncompatible
from optomatic.records import SCHEMA, TERMINAL
from optomatic.store.batches import BATCH, batches_of
from optomatic.store.documents import (
    INVALID,
    Document,
    Form,
    Misfit,
    PageForm,
    SearchForm,
    fields_of,
    is_piece,
    key_of,
    piece_of,
    pieces_of,
    read,
)
from optomatic.store.jobs import Jobs
from optomatic.store.parts import SEARCHES, Parts
from optomatic.store.retry import Filter, Outage, RetryingCollection, slices
from optomatic.store.searches import Searches, ids_that_wait, listings_of

#: A client that was seen in the last so many seconds may be there: the lease of a search that
#: scores in its own process, ten times the usual one.
_SEEN = timedelta(seconds=300)
#: The result of a joblib call is stored before the call is: so long it may lie there.
_RETURNED = timedelta(hours=1)
#: States in which units of a removed search go: unreadable ones too.
_REMOVED = (*TERMINAL, INVALID)
#: Keys that are looked for in all lists at once, and pages that are read at once.
_KEYS, _PAGES = 200_000, 20
F = TypeVar("F", bound=Form)
_SHA = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Removed:
    """Numbers of removed records, or of those to remove (``dry_run``).

    Attributes
    ----------
    searches : int
    units : int
        Scores, failures, and units that were withdrawn.
    parts : int
        Estimators, data, splits, functions, and leftovers of interrupted uploads.
    bytes : int
        BSON sizes of all documents, with the lists of units and the sets of versions.  MongoDB
        compresses documents, and reuses their space.
    dry_run : bool
        Nothing was removed.
    """

    searches: int = 0
    units: int = 0
    parts: int = 0
    bytes: int = 0
    dry_run: bool = False


class Removal:
    """The removals of a store.  Any number at the same time, and beside anything else."""

    def __init__(
        self,
        database: Database[dict[str, Any]],
        jobs: Jobs,
        records: Searches,
        parts: Parts,
        outage: Outage | None = None,
    ) -> None:
        self.jobs = jobs
        self.records = records
        self.parts = parts
        self.searches = RetryingCollection(database["searches"], outage)
        self.pages = RetryingCollection(database["search_units"], outage)
        self.units = RetryingCollection(database["units"], outage)
        self.environments = RetryingCollection(database["environments"], outage)

    def remove(
        self,
        name: str | None = None,
        *,
        older_than: timedelta | None = None,
        dry_run: bool = False,
    ) -> Removed:
        """Remove searches and all that only they refer to; without `name`, orphans too.

        Raise `ValueError` if there is no search of that name or id, and :class:`SearchRunning` if
        one of them runs and no age is given.  Raise :class:`StoreIncompatible` if a search of
        another version may refer to something that this one does not know.
        """
        moment = self.jobs.server_time()
        read_all(self.searches, SearchForm, {})
        other = self.searches.find_one({"v": {"$ne": SCHEMA}}, {"v": 1})
        if other is not None:
            raise StoreIncompatible(
                f"The record of the search {other['_id']!r} is of another version of optomatic "
                f"({other.get('v')!r} in place of {SCHEMA}), so what it needs cannot be told. "
                "Nothing was removed. Remove with the newest version in use."
            )
        chosen = self._chosen(name, older_than, moment)
        return _OneRemoval(self, chosen, moment, everything=name is None, dry_run=dry_run).run()

    # -- which searches --------------------------------------------------------------------

    def _chosen(
        self, name: str | None, older_than: timedelta | None, moment: datetime
    ) -> list[Document]:
        """Return the records to remove, none of which runs."""
        if name is None and older_than is None:
            return []
        named = [{"_id": name}, {"name": name}, {"part_of": name}]
        query = {} if name is None else {"$or": named}
        fields = ("name", "state", "began_at", "seen_at", "ended_at", "listing", "asked.work.spec")
        found = self.searches.find(query, dict.fromkeys(fields, 1))
        if name is not None and not found:
            raise ValueError(
                f"There is no search of the name or id {name!r} in the database, so nothing was "
                "removed. Look at the name, and at db."
            )
        if older_than is not None:
            found = [d for d in found if self._ended_before(d, moment - older_than)]
        running = self._running(found, moment)
        if running and older_than is None:
            raise SearchRunning(
                f"The search {running[0]['name']!r} ({running[0]['_id']}) runs: units wait for "
                "workers, or its client was seen in the last five minutes. Nothing was removed. "
                f"Cancel it first: optomatic.attach({running[0]['_id']!r}, db=...).cancel()."
            )
        return [document for document in found if document not in running]

    def _ended_before(self, record: Document, limit: datetime) -> bool:
        if record["ended_at"] is not None:
            return bool(record["ended_at"] <= limit)
        # Nobody noted its end: it was left to workers, or its client was killed.
        last = max(record["began_at"], record["seen_at"] or record["began_at"])
        if last > limit:
            return False
        pages = {"$or": [pieces_of(listing) for listing in _listings(record)]}
        listed = {key_of(i) for page in read_all(self.pages, PageForm, pages) for i in page.ids}
        later = {"completed_at": {"$gt": limit}}
        return next(self.units.each("key", sorted(listed), later, {"_id": 1}), None) is None

    def _running(self, records: Sequence[Document], moment: datetime) -> list[Document]:
        there = [
            d
            for d in records
            if d["state"] == "running" and d["seen_at"] and d["seen_at"] > moment - _SEEN
        ]
        waiting = self._waiting([d["_id"] for d in records])
        return there + [d for d in records if d["_id"] in waiting and d not in there]

    def _waiting(self, searches: Sequence[str]) -> set[str]:
        """Return those of `searches` for which units wait."""
        return {
            search
            for some in slices(searches)
            if self.jobs.waits([i for search in some for i in ids_that_wait(search)])
            for search in some
            if self.jobs.waits(ids_that_wait(search))
        }

    def delete_records(self, records: Sequence[Document]) -> list[Document]:
        """Delete records that are as they were read; return those that are gone."""
        ids = [d["_id"] for d in records]
        for some in slices(records):
            as_read = [{k: d[k] for k in ("_id", "state", "ended_at")} for d in some]
            self.searches.delete({"$or": as_read})
        there = {d["_id"] for d in self.searches.each("_id", ids, {}, {"_id": 1})}
        gone = [d for d in records if d["_id"] not in there]
        # Somebody added to one of them in that moment: nobody waits for a search that is gone.
        for search in self._waiting([d["_id"] for d in gone]):
            for waits_as in ids_that_wait(search):
                self.jobs.cancel(waits_as)
        return gone


def read_all(collection: RetryingCollection, form: type[F], query: Filter) -> list[F]:
    """Return all documents that match, in their form; raise StoreError if one does not have it.

    Nothing is removed then: the document may refer to anything.  It is left as it is.
    """
    found = []
    for document in collection.find({**query, "v": SCHEMA}, {**fields_of(form), "state": 1}):
        why = "it was set aside as invalid" if document.get("state") == INVALID else ""
        try:
            found.append(read(form, document))
        except Misfit as misfit:
            why = why or str(misfit)
        if why:
            raise StoreError(
                f"The record {document['_id']!r:.100} in {collection.collection.name} cannot be "
                f"read ({redact(why)}), so what it needs cannot be told. No score was removed. "
                "Give it back its former state, which stands in its field 'invalid' if it has "
                "one, or delete that document."
            )
    return found


class _OneRemoval:
    """One call of :meth:`Removal.remove`."""

    def __init__(
        self,
        store: Removal,
        chosen: list[Document],
        moment: datetime,
        *,
        everything: bool,
        dry_run: bool,
    ) -> None:
        self._store = store
        self._searches, self._pages, self._units = store.searches, store.pages, store.units
        self._parts = store.parts
        self._headers, self._chunks = store.parts.headers, store.parts.chunks
        self._chosen = chosen
        self._everything = everything
        self._dry = dry_run
        self._old = {"at": {"$not": {"$gte": moment}}}
        self._since = {"at": {"$gte": moment}}
        self._moment = moment
        #: Keys that were listed since, by page.
        self._fresh: dict[str, set[str]] = {}
        #: In a dry run, the keys whose units would be gone.
        self._going: set[str] = set()
        self._bytes = 0

    def run(self) -> Removed:
        """Remove, and return what."""
        for some in slices([d["_id"] for d in self._chosen]):
            self._bytes += self._searches.measure({"_id": {"$in": list(some)}})[1]
        if not self._dry:
            self._chosen = self._store.delete_records(self._chosen)
        dead, live, _ = self._lists()
        units = sum(
            self._remove_units(keys, states, live) for keys, states in self._candidates(dead)
        )
        units += self._remove_withdrawn()
        dead, live, job_specs = self._lists()
        parts = self._remove_parts(self._unneeded_parts(dead, live, job_specs))
        if self._everything:
            parts += self._remove_returned()
            if not self._dry:
                self._parts.release([])  # those that a removal which was cut off has left
            self._remove(self._chunks, self._chunks_of_nothing())
            self._remove(self._store.environments, self._unused_environments())
        self._remove(self._pages, dead)
        return Removed(len(self._chosen), units, parts, self._bytes, self._dry)

    # -- references -----------------------------------------------------------------------

    def _lists(self) -> tuple[list[str], list[str], set[str]]:
        """Return the pages of lists to remove, those of others, and the parts of job specs."""
        found = self._pages.find({}, {"_id": 1}, sort=[("_id", 1)])
        pages = [d["_id"] for d in found if is_piece(d["_id"])]
        # Records are written before pages, so are read after them.
        records = self._searches.find({}, {"listing": 1, "asked.work.spec": 1})
        gone = {document["_id"] for document in self._chosen}
        records = [document for document in records if document["_id"] not in gone]
        live = {listing for record in records for listing in _listings(record)}
        mine = {listing for record in self._chosen for listing in _listings(record)}
        dead = [
            page
            for page in pages
            if (name := piece_of(page)[0]) not in live and (self._everything or name in mine)
        ]
        others = [page for page in pages if piece_of(page)[0] in live]
        return dead, others, _job_specs(records)

    def _on(self, pages: Sequence[str]) -> Iterator[tuple[str, set[str]]]:
        """Yield the list and the keys of each page, reading a few at once."""
        for page in self._read(pages):
            yield piece_of(page.id)[0], set(map(key_of, page.ids))

    def _read(self, pages: Sequence[str]) -> Iterator[PageForm]:
        for some in slices(pages, _PAGES):
            yield from read_all(self._pages, PageForm, {"_id": {"$in": list(some)}})

    def _parts_on(self, pages: Iterable[str]) -> set[str]:
        first = [page for page in pages if piece_of(page)[1] < 0]
        return {sha for page in self._read(first) for sha in page.parts}

    # -- units -----------------------------------------------------------------------------

    def _candidates(self, dead: Sequence[str]) -> Iterator[tuple[set[str], Sequence[str]]]:
        """Yield keys of units that may be gone, many at once, and the states in which they may."""
        keys: set[str] = set()
        for _, some in self._on(dead):
            keys |= some
            if len(keys) >= _KEYS:
                yield keys, _REMOVED
                keys = set()
        yield keys, _REMOVED
        last = ""
        while self._everything:
            query = {"key": {"$gt": last}, "kind": {"$ne": "call"}, "state": {"$in": TERMINAL}}
            found = self._units.find(query, {"key": 1, "_id": 0}, sort=[("key", 1)], limit=_KEYS)
            yield {document["key"] for document in found}, TERMINAL
            if len(found) < _KEYS:
                return
            last = found[-1]["key"]

    def _remove_units(self, keys: set[str], states: Sequence[str], live: Sequence[str]) -> int:
        """Remove the units of those `keys` that no list of `live` has."""
        keys = keys - self._going
        for _, needed in self._on(live if keys else []):
            keys -= needed
        count = 0
        for some in slices(sorted(keys)):
            left = set(some).difference(*self._listed_since())
            unneeded = _unneeded(left, states)
            count += self._measure(self._units, unneeded)
            if self._dry:
                self._going |= left
                continue
            scores = self._units.find({**unneeded, "state": "completed"})
            self._units.delete(unneeded)
            listed = left.intersection(set().union(*self._listed_since()))
            self._units.insert([score for score in scores if score["key"] in listed])
        return count

    def _remove_withdrawn(self) -> int:
        """Remove batches that nobody waits for: of their units nothing is stored."""
        of = [batches_of(document["_id"]) for document in self._chosen]
        count = 0
        for own in [{}] if self._everything else of:
            query = {**BATCH, "state": {"$in": ["cancelled", INVALID]}, "wanted_by": [], **own}
            found = self._units.find({**query, "v": SCHEMA}, {"size": 1})
            count += sum(document["size"] for document in found)
            self._remove(self._units, [document["_id"] for document in found])
        return count

    def _listed_since(self) -> Iterable[set[str]]:
        """Return the keys that were listed since the removal began, page by page."""
        pages = [d["_id"] for d in self._pages.find(self._since, {"_id": 1})]
        for page in pages:
            if page not in self._fresh:
                self._fresh[page] = set().union(*(keys for _, keys in self._on([page])))
        return self._fresh.values()

    def _left_of(self, keys: Sequence[str]) -> list[Document]:
        """Return what units there are of `keys` once this is done."""
        query: dict[str, Any] = {"key": {"$in": list(keys)}}
        if going := self._going.intersection(keys):
            query["$nor"] = [_unneeded(going, _REMOVED)]
        return self._units.find(query, {"key": 1, "spec": 1, "params_text": 1})

    # -- parts -----------------------------------------------------------------------------

    def _unneeded_parts(
        self, dead: Sequence[str], live: Sequence[str], job_specs: set[str]
    ) -> set[str]:
        """Return the parts that only removed searches refer to."""
        parts = self._parts_on(dead) | _job_specs(self._chosen)
        if self._everything:
            parts |= {d["_id"] for d in self._headers.find({"holders": SEARCHES}, {"_id": 1})}
        parts -= job_specs | self._parts_on(live)
        return parts - self._noted_elsewhere(parts, dead, live)

    def _noted_elsewhere(
        self, parts: set[str], dead: Sequence[str], live: Sequence[str]
    ) -> set[str]:
        """Note those of `parts` in lists of which units are made of them; return these."""
        named: dict[str, set[str]] = {}
        for _, keys in self._on(dead if parts else []):
            for some in slices(sorted(keys)):
                for unit in self._left_of(some):
                    if names := parts.intersection(_named_in(unit)):
                        named.setdefault(unit["key"], set()).update(names)
        noted: set[str] = set()
        for listing, keys in self._on(live if named else []):
            names = set().union(*(named[key] for key in keys & named.keys()))
            if names and not self._dry:
                self._store.records.need(listing, names)
            noted |= names
        return noted

    def _remove_parts(self, shas: Collection[str]) -> int:
        count = 0
        for some in slices(sorted(shas), 100):
            old = {"_id": {"$in": list(some)}, **self._old}
            count += self._count_parts({**old, "holders": [SEARCHES]})
            if not self._dry:
                self._parts.release([SEARCHES], old)
        return count

    def _count_parts(self, query: Filter) -> int:
        """Return of how many parts the headers match; note the bytes."""
        shas = [document["_id"] for document in self._headers.find(query, {"_id": 1})]
        if shas:
            self._measure(self._chunks, {"$or": [pieces_of(sha) for sha in shas]})
        return self._measure(self._headers, query)

    def _remove_returned(self) -> int:
        """Remove returned values that nobody fetched, as their calls of joblib are gone."""
        query = {"holders": {"$exists": False}, "at": {"$lt": self._moment - _RETURNED}}
        shas = {document["_id"] for document in self._headers.find(query, {"_id": 1})}
        calls = self._units.find({"kind": "call"}, {"own": 1, "result.sha": 1}) if shas else []
        shas -= {sha for call in calls for sha in _named_in(call)}
        count = 0
        for some in slices(sorted(shas), 100):
            old = {"_id": {"$in": list(some)}, **query}
            count += self._count_parts(old)
            if not self._dry:
                self._headers.delete(old)
                self._chunks.delete({"$or": [pieces_of(sha) for sha in some], **self._old})
        return count

    def _chunks_of_nothing(self) -> list[str]:
        """Return the chunks without a header, which is written before them."""
        found = self._chunks.find({}, {"_id": 1}, sort=[("_id", 1)])
        chunks = [d["_id"] for d in found if is_piece(d["_id"])]
        there = {d["_id"] for d in self._headers.find({}, {"_id": 1})}
        return [chunk for chunk in chunks if piece_of(chunk)[0] not in there]

    def _unused_environments(self) -> list[str]:
        """Return the sets of versions of which there is no unit."""
        own = {"_id": {"$type": "string"}, "state": {"$ne": INVALID}, "v": SCHEMA}
        ends = [d["_id"] for d in self._store.environments.find(own, {"_id": 1})]
        query = [(end, {"key": {"$regex": f"{re.escape(end)}$"}}) for end in ends]
        return [end for end, of_end in query if self._units.find_one(of_end, {"_id": 1}) is None]

    # -- counting --------------------------------------------------------------------------

    def _remove(self, collection: RetryingCollection, ids: Sequence[str]) -> None:
        """Remove documents that nobody has asked for since this began."""
        for some in slices(ids):
            query = {"_id": {"$in": list(some)}, **self._old}
            self._measure(collection, query)
            if not self._dry:
                collection.delete(query)

    def _measure(self, collection: RetryingCollection, query: Filter) -> int:
        count, size = collection.measure(query)
        self._bytes += size
        return count


def _unneeded(keys: Collection[str], states: Sequence[str]) -> dict[str, Any]:
    """Return the query for the units of `keys` that nobody waits for."""
    # Nobody waits for a unit that could not be read, whatever it says.
    invalid = [{"state": INVALID}] if INVALID in states else []
    states = [state for state in states if state != INVALID]
    ways = [{"state": {"$in": states}, "wanted_by": []}, *invalid]
    return {"key": {"$in": list(keys)}, "$or": ways, "v": SCHEMA, "kind": {"$ne": "call"}}


def _named_in(document: Any) -> set[str]:
    """Return the parts that a unit, a call or a job spec is made of."""
    # In any field, of any form: a part that is named is needed.
    return {*_SHA.findall(repr(document))}


def _job_specs(records: Iterable[Document]) -> set[str]:
    """Return the parts that more units of searches would be made of."""
    return {sha for record in records for sha in _named_in(record.get("asked"))}


def _listings(record: Document) -> tuple[str, ...]:
    return listings_of(record["_id"], record.get("listing"))
