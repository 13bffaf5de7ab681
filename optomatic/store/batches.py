"""Batches: many units that are queued, claimed and started together, as one document.

A document costs the server ten times what a unit in a batch costs, and most units are short: they
are queued, scored and stored without trouble.  So a search queues many units in batches.  A batch
is queued and running as a unit is, under the same fields, and waits for the same searches.

It ends when each of its units has a document of its own:

- A result is inserted as the document of its unit, in its final state.  The ``_id`` is the latch:
  what is there already was stored by another worker, or is no longer in the hands of this one.
- When anything else happens, the batch is opened: what has no result becomes queued units of
  their own.  So it is where the batch is larger than a claim, was lost or given back, or another
  search wants a part of it.

Only who holds the claim of a batch opens it.  It inserts the units that are not there yet, and
removes the batch if that did not change meanwhile.  Whoever repeats that, as a process died in
between, changes nothing.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from optomatic.records import SCHEMA, UNFINISHED, Job
from optomatic.store.documents import (
    INVALID,
    NOBODY,
    BatchForm,
    Document,
    batch_document,
    jobs_of,
    own_fields,
    unpacked,
)
from optomatic.store.retry import RetryingCollection
from optomatic.store.workers import this_process

#: So many units at least are queued in batches.
LEAST = 64
#: Units in a batch.  The first are smaller, as a worker that does not know yet how long units
#: take claims only a few.
SIZES = (2, 8, 32, 64, 128)
#: Batches of more than `LEAST` units are made where there are so many: several workers share them.
_SHARED = 8
#: Characters of the params of a batch, about.
_CHARACTERS = 500_000
#: Seconds for which a process holds a batch that it opens.
_OPENING = 30.0
#: The condition for units that are no batches.
SINGLE: Mapping[str, Any] = {"size": None}
#: The condition for batches.
BATCH: Mapping[str, Any] = {"size": {"$gt": 0}}


def after(seconds: float) -> dict[str, Any]:
    """Return the moment `seconds` from now, by the server's clock."""
    return {"$add": ["$$NOW", round(1000 * seconds)]}


#: Holds where no search waits for a unit any more.
UNWANTED: Mapping[str, Any] = {"$eq": [{"$size": "$wanted_by"}, 0]}
#: The fields of a unit that nobody wants any more and nobody works on.
FREE: Mapping[str, Any] = {**NOBODY, "state": "cancelled"}


def unless_wanted(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return what sets `fields` of units that no search waits for."""
    return {name: {"$cond": [UNWANTED, value, f"${name}"]} for name, value in fields.items()}


def joined(searches: Sequence[str], priority: int) -> dict[str, Any]:
    """Return the stage of an update that has searches wait for units without an end."""
    wanted_by = {"$setUnion": ["$wanted_by", {"$literal": list(searches)}]}
    again = {"$and": [{"$eq": ["$state", "cancelled"]}, {"$gt": [{"$size": wanted_by}, 0]}]}
    return {
        "$set": {
            "wanted_by": wanted_by,
            "priority": {"$max": ["$priority", priority]},
            "state": {"$cond": [again, "queued", "$state"]},
        }
    }


def held(token: str) -> dict[str, Any]:
    """Return the condition for units and batches under a claim."""
    return {"claim": token, "state": "running"}


def taken(token: str, worker: str, seconds: float) -> dict[str, Any]:
    """Return what a claim sets."""
    return {
        "state": "running",
        "worker": {"$literal": worker},
        "host": {"$literal": this_process().host},
        "claim": token,
        "started": False,
        "attempt": {"$add": ["$attempt", 1]},
        "claimed_at": "$$NOW",
        "lease_until": after(seconds),
    }


def ids_in(document: Document) -> list[str]:
    """Return the ids of the units of a batch, or that of a single unit."""
    return list(document["ids"]) if "ids" in document else [document["_id"]]


def begun_in(batch: Document) -> set[str]:
    """Return the units of a batch that are started and have no result, or were when it was lost."""
    return {batch["ids"][place] for place in batch["began"]}


def batches_of(search: str) -> dict[str, Any]:
    """Return the query for the batches that a search has queued."""
    return {"_id": {"$gte": f"batch:{search}:", "$lt": f"batch:{search};"}}


def in_batches(documents: Sequence[Document], search: str, *, first: bool) -> Iterator[Document]:
    """Yield batches of new units of a search, in their order; `first` are its first ones."""
    most = max(LEAST, min(SIZES[-1], len(documents) // _SHARED))
    sizes = iter(SIZES if first else SIZES[-1:])
    size, some, room = min(next(sizes), most), list[Document](), _CHARACTERS
    for document in documents:
        full = len(some) >= size or room < 0
        if some and (full or not _alike(some[0], document)):
            yield batch_document(some, f"batch:{search}:{secrets.token_hex(8)}")
            size, some, room = min(next(sizes, most), most), [], _CHARACTERS
        some.append(document)
        room -= len(document["params_text"])
    if some:
        yield batch_document(some, f"batch:{search}:{secrets.token_hex(8)}")


def _alike(one: Document, other: Document) -> bool:
    common = ("constraints", "queue", "kind", "options", "priority")
    spec = {**one["spec"], "split": other["spec"]["split"]}
    return spec == other["spec"] and all(one[name] == other[name] for name in common)


class Batch:
    """A batch that this process has claimed."""

    def __init__(self, document: Document, form: BatchForm) -> None:
        self.id: str = document["_id"]
        self._document = document
        self._units = own_fields(document)
        self._places = {unit_id: place for place, unit_id in enumerate(document["ids"])}
        #: The units without a result, and those of them that are started.
        self.left, self.began = set(self._units), set[str]()
        self.jobs: list[Job] = jobs_of(form, self._units)
        self._claimed_at: datetime = document["claimed_at"]
        self._clock = time.monotonic()

    def now(self) -> datetime:
        """Return the server's time: the one of the claim, and what has passed since."""
        return self._claimed_at + timedelta(seconds=time.monotonic() - self._clock)

    def places(self, ids: Collection[str]) -> list[int]:
        """Return the places of these, which are about to start, and of all that have begun."""
        return sorted(self._places[unit_id] for unit_id in self.began.union(ids))

    def started(self, ids: Collection[str]) -> None:
        """Note that these are started."""
        if not self.began:
            self._document["started_at"] = self.now()
        self.began.update(ids)

    def ended(self, ids: Iterable[str]) -> None:
        """Note that these have a document of their own."""
        self.left.difference_update(ids)
        self.began.difference_update(ids)

    def documents(self, fields: Mapping[str, Mapping[str, Any]]) -> list[Document]:
        """Return documents of units that ended with their first run, by id with these fields."""
        whole = {**self._document, **NOBODY, "wanted_by": [], "runs": 1}
        return unpacked(whole, {unit_id: self._units[unit_id] for unit_id in fields}, fields)


class Batches:
    """The batches of a store."""

    def __init__(self, units: RetryingCollection) -> None:
        self._units = units

    def with_any(self, ids: Sequence[str], fields: Sequence[str] = ()) -> list[Document]:
        """Return the batches that have any of these units, with all fields if none are named."""
        found = self._units.each("ids", ids, {}, dict.fromkeys(fields, 1) or None)
        return list({str(document["_id"]): document for document in found}.values())

    def pending(self, ids: Collection[str]) -> list[Document]:
        """Return documents for those of `ids` that are in batches, as if these were opened."""
        found: list[Document] = []
        for batch in self.with_any(list(ids)):
            if self._units.formed(BatchForm, [batch]):
                own = {i: fields for i, fields in own_fields(batch).items() if i in ids}
                began = begun_in(batch)
                for document in unpacked(batch, own):
                    started = batch["started"] and document["_id"] in began
                    found.append({**document, "started": started})
        return found

    def open_queued(self, name: str) -> bool:
        """Open a batch if it is queued or cancelled, in whatever process; return whether it was."""
        token = secrets.token_hex(16)
        query = {"_id": name, "state": {"$in": ["queued", "cancelled"]}, "v": SCHEMA}
        if not self._units.update(query, [{"$set": taken(token, "", _OPENING)}]):
            return False
        return self.open(name, token)

    def open(
        self,
        name: str,
        token: str,
        *,
        kept: Collection[str] = (),
        ran: Collection[str] | None = None,
    ) -> bool:
        """Make single units of what a batch under `token` holds; return whether it was held.

        They are queued, or cancelled if nobody wants them.  Those `kept` stay in the hands of this
        worker, under the same token.  Those that `ran` count as run, all that had begun if these
        are not given.  If an earlier worker lost the batch, those are charged.
        """
        query = {"_id": name, **held(token)}
        batch = self._units.find_one(query)
        if batch is None or not self._units.formed(BatchForm, [batch]):
            return False
        if ran is None and not kept:  # claimed only to be opened
            batch["attempt"] -= 1
        began = begun_in(batch)
        ran = began if ran is None else began.intersection(ran)
        charged = began if batch["losses"] else ()
        state = "queued" if batch["wanted_by"] else "cancelled"
        free = {**NOBODY, "state": state}
        units = unpacked(batch, own_fields(batch))
        for unit in units:
            unit_id = unit["_id"]
            if unit_id not in charged:
                unit.update(losses=0, lost_on=[], history=[])
            if unit_id in kept:
                unit.update(started=unit_id in began, runs=int(unit_id in began))
            else:
                unit.update(**free, runs=int(unit_id in ran))
        if there := self._units.insert(units):
            # Other searches have queued these alone, or an earlier process has opened the batch.
            states = [*UNFINISHED, "cancelled"]
            query = {"_id": {"$in": there}, "state": {"$in": states}, "v": SCHEMA}
            self._units.update(query, [joined(batch["wanted_by"], batch["priority"])])
        self._remove(batch, [unit["_id"] for unit in units])
        return True

    def _remove(self, batch: Document, ids: Sequence[str]) -> None:
        """Remove a batch that was opened, once the same searches wait for its units."""
        name, wanted_by = batch["_id"], batch["wanted_by"]
        while not self._units.delete({"_id": name, **held(batch["claim"]), "wanted_by": wanted_by}):
            now = self._units.find_one({"_id": name}, {"claim": 1, "wanted_by": 1})
            if now is None:  # the reply to the first try was lost
                return
            gone, new = {*wanted_by} - {*now["wanted_by"]}, {*now["wanted_by"]} - {*wanted_by}
            rest = {"$setDifference": ["$wanted_by", {"$literal": sorted(gone)}]}
            wanted = {"wanted_by": {"$setUnion": [rest, {"$literal": sorted(new)}]}}
            own = {"_id": {"$in": list(ids)}, "state": {"$in": list(UNFINISHED)}}
            self._units.update(own, [{"$set": wanted}, {"$set": unless_wanted(FREE)}])
            if now["claim"] != batch["claim"]:  # its next holder opens it again, in vain
                return
            wanted_by = now["wanted_by"]

    def make_room(self, name: str) -> None:
        """Have units of a batch that cannot be read queued anew: it keeps them elsewhere."""
        change = [{"$set": {"invalid.ids": "$ids"}}, {"$unset": "ids"}]
        self._units.update({"_id": name, "state": INVALID}, change)
