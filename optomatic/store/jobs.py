"""The queue, for a search: submit, look up, wait, read, cancel, retry.

::

    submit --> queued --claim--> running --good result--> completed   (from any state)
      ^          ^  ^               |--failures (fenced)--> failed
    cancelled <--+  |               |--release (fenced)--> queued, nobody charged
     (unwanted)     +--lease over or process died, losses < 3
                     losses >= 3 --> dead --retry--> queued

:mod:`~optomatic.store.claims` has the other half, for a worker.  Every operation is written with
majority and journal, may be repeated, and is decided by the server's clock alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar

from pymongo.database import Database

from optomatic.garbage import without_collector
from optomatic.records import (
    ENDED,
    SCHEMA,
    SCORELESS,
    UNFINISHED,
    Described,
    Inspected,
    LostAttempt,
    Outcome,
    SetAside,
    Unit,
)
from optomatic.store.batches import (
    BATCH,
    FREE,
    LEAST,
    SINGLE,
    UNWANTED,
    Batches,
    begun_in,
    ids_in,
    in_batches,
    joined,
    unless_wanted,
)
from optomatic.store.claims import ERRORS_OF_A_MOMENT, any_of, is_of_its_moment
from optomatic.store.documents import (
    INVALID,
    NOBODY,
    BatchForm,
    DescribedForm,
    Document,
    EndForm,
    InspectedForm,
    RunningForm,
    UnitForm,
    check_sizes,
    fields_of,
    key_of,
    outcome_of,
    own_fields,
    unit_documents,
    unpacked,
)
from optomatic.store.indexes import ORDER
from optomatic.store.retry import Outage, RetryingCollection, readable, slices, with_retries

T = TypeVar("T")

#: Started units; an index serves it.
_RUNNING = {"state": "running", "started": True, "lease_until": {"$type": "date"}}
_MOST_SHOWN = 10_000


@dataclass(frozen=True, slots=True)
class Glance:
    """The state of a unit, and the time of its end."""

    state: str
    ended: datetime | None


class Submitted(NamedTuple):
    """Odd records that were met while units were queued.

    ``invalid`` counts the units that replaced a record which could not be read.  ``foreign`` are
    units that another version of optomatic has queued, in a form of its own.
    """

    invalid: int = 0
    foreign: tuple[str, ...] = ()


class Jobs:
    """The units of a store, for searches.  Safe to share among threads, not across a fork."""

    def __init__(
        self,
        database: Database[dict[str, Any]],
        outage: Outage | None = None,
        *,
        prepare: Callable[[], None] = lambda: None,
    ) -> None:
        self._units = RetryingCollection(database["units"], outage)
        self._batches = Batches(self._units)
        self._database = database
        self._prepare = prepare

    def server_time(self) -> datetime:
        """Return the server's clock."""
        hello = with_retries(lambda: self._database.client.admin.command("hello"), Outage(5.0))
        moment: datetime = hello["localTime"]
        return moment.replace(tzinfo=UTC)

    # -- look up and submit ----------------------------------------------------------------

    @without_collector()
    def stored(self, units: Sequence[Unit]) -> dict[str, Outcome]:
        """Return the ends that the store has for `units` already, by the id that was asked.

        A completed unit serves by key, whatever its constraints, if it has the train scores that
        are asked for.  Of several the unit's own comes first, then the earliest.  Failed and dead
        ones serve under equal constraints only, and failures of the machine never.
        """
        found: dict[str, Outcome] = {}
        for some in slices(units):
            asked = {unit.key: unit for unit in some}
            query = {"key": {"$in": list(asked)}, "state": {"$in": list(ENDED)}}
            ends = self._units.read(EndForm, query, lambda end: (end, outcome_of(end)))
            found.update(_best_ends(asked, ends))
        return found

    def completed(self, keys: Sequence[str]) -> list[str]:
        """Return those of `keys` that have a score."""
        completed = {"state": "completed", "v": SCHEMA}
        return sorted({d["key"] for d in self._units.each("key", keys, completed, {"key": 1})})

    @without_collector()
    def submit(
        self, units: Sequence[Unit], search: str, *, priority: int = 0, retry_failed: bool = False
    ) -> Submitted:
        """Queue `units` for `search`; on return each waits with it, or has an end.

        `units` are those that :meth:`stored` did not serve, in the order in which to score them.
        The record of `search` and the parts of its units are in the store already.  Units of
        another version, by their schema number, are left as they are.  Units of a higher
        `priority` are claimed first; `retry_failed` queues failed and dead ones again.

        Raise :class:`RecordTooLarge` before anything is queued.
        """
        check_sizes(units)
        self._prepare()
        invalid, foreign, first = 0, list[str](), 0
        for some in slices(units):
            documents = unit_documents(some, search, priority, first)
            first += len(some)
            together = len(units) >= LEAST
            met = self._join_or_insert(documents, search, priority, retry_failed, together=together)
            invalid += met.invalid
            foreign += met.foreign
        return Submitted(invalid, tuple(foreign))

    def _join_or_insert(
        self,
        documents: Sequence[Document],
        search: str,
        priority: int,
        retry_failed: bool,
        *,
        together: bool,
    ) -> Submitted:
        """Join units that are there, and queue the others: `together` in batches, or each alone."""
        ids = [document["_id"] for document in documents]
        held, odd = self._join_batches(ids, search, priority)
        there, met = self._there(ids)
        met = Submitted(met.invalid + odd.invalid, met.foreign + odd.foreign)
        known = {*held, *there, *odd.foreign}
        new = [document for document in documents if document["_id"] not in known]
        # What another search inserts meanwhile is left as it is, and joined below.
        left: Sequence[Document] = []
        if together and new:
            left, queued = self._insert_batches(new, search)
            ids = [unit_id for unit_id in ids if unit_id not in queued]
        elif new:
            refused = self._units.insert(new)
            # Batches that came meanwhile, whose search has not seen these.
            self._join_batches(ids, search, priority)
            own = {document["_id"] for document in new}.difference(refused)
            ids = [unit_id for unit_id in ids if unit_id not in own]
        if ids:
            self._join(ids, search, priority, retry_failed=retry_failed)
        if there and len(self._units.find({"_id": {"$in": [*there]}}, {"_id": 1})) < len(there):
            left = documents  # a cancelled or failed one was removed before it was joined
        if left:
            more = self._join_or_insert(left, search, priority, retry_failed, together=False)
            return Submitted(met.invalid + more.invalid, met.foreign + more.foreign)
        return met

    def _join(self, ids: Sequence[str], search: str, priority: int, *, retry_failed: bool) -> None:
        """Have `search` wait for units that are there and have no end; queue others again."""
        again = ids
        if not retry_failed:  # only those that a later run may do better
            passing = {"_id": {"$in": ids}, "state": "failed", **ERRORS_OF_A_MOMENT}
            again = [document["_id"] for document in self._units.find(passing, {"_id": 1})]
        if again:
            self.retry(again, search)
        own = {"_id": {"$in": ids}, "v": SCHEMA, "wanted_by": {"$type": "array"}}
        states = [*UNFINISHED, "cancelled"]
        self._units.update({**own, "state": {"$in": states}}, [joined([search], priority)])

    def _insert_batches(
        self, new: Sequence[Document], search: str
    ) -> tuple[list[Document], set[str]]:
        """Queue units in batches.

        Return those that another search has just queued so, and those that are in batches now.
        """
        batches = list(in_batches(new, search, first=new[0]["sequence"] == 0))
        refused = set(self._units.insert(batches))
        own = {unit_id: batch["_id"] for batch in batches for unit_id in batch["ids"]}
        # Either this sees units that others have just queued alone, or they see these batches.
        alone = self._units.find({"_id": {"$in": list(own)}}, {"_id": 1})
        opened = {own[document["_id"]] for document in alone} - refused
        for name in opened:
            self._batches.open_queued(name)
        left = [document for document in new if own[document["_id"]] in refused]
        return left, {unit_id for unit_id, name in own.items() if name not in opened | refused}

    def _join_batches(
        self, ids: Sequence[str], search: str, priority: int
    ) -> tuple[set[str], Submitted]:
        """Join the batches that workers have, and open others, as they may have more units.

        Return the units that were joined, and odd batches.
        """
        held, invalid, foreign = set[str](), 0, set[str]()
        for batch in self._batches.with_any(ids, ("v", "state", "ids")):
            own = set(ids_in(batch)).intersection(ids)
            if batch.get("v") != SCHEMA:
                foreign |= own
            elif batch["state"] == INVALID:
                self._batches.make_room(batch["_id"])
                invalid += len(own)
            elif self._join_batch(batch["_id"], search, priority):
                held |= own
        return held, Submitted(invalid, tuple(sorted(foreign)))

    def _join_batch(self, name: str, search: str, priority: int) -> bool:
        """Join a batch if a worker has it, else open it; return whether it was joined."""
        running = {"_id": name, "state": "running", "v": SCHEMA}
        while not self._units.update(running, [joined([search], priority)]):
            if self._batches.open_queued(name):
                return False
            queued = {"_id": name, "state": {"$in": [*UNFINISHED, "cancelled"]}}
            if self._units.find_one(queued, {"_id": 1}) is None:  # others have opened it
                return False
        return True

    def _there(self, ids: Sequence[str]) -> tuple[set[str], Submitted]:
        """Return which of `ids` are there; make room for those that cannot be read."""
        found = self._units.find({"_id": {"$in": list(ids)}}, {"v": 1})
        if not found:
            return set(), Submitted()
        there = {document["_id"] for document in found}
        foreign = tuple(d["_id"] for d in found if d.get("v") != SCHEMA or d["v"] is True)
        query = {"_id": {"$in": [*there]}}
        self._units.read(UnitForm, {**query, **SINGLE})
        gone = self._units.find({**query, "state": INVALID, "v": SCHEMA}, {"_id": 1})
        invalid = [document["_id"] for document in gone]
        self._units.make_room(invalid)
        return there.difference(invalid), Submitted(len(invalid), foreign)

    def retry(self, ids: Sequence[str], search: str) -> int:
        """Queue failed and dead units again for `search`, with no losses and failures counted."""
        fresh = {"state": "queued", "losses": 0, "machine_failures": 0, "wanted_by": [search]}
        empty = ("result", "completed_by", "completed_on", "completed_at", "error")
        return self._units.update(
            {"_id": {"$in": list(ids)}, "state": {"$in": list(SCORELESS)}},
            {"$set": {**NOBODY, **fresh, **dict.fromkeys(empty)}},
        )

    # -- wait and cancel -------------------------------------------------------------------

    def waits(self, search: str | Sequence[str]) -> bool:
        """Return whether a unit that `search` (or one of several) wants has no end yet."""
        return self._units.find_one(_unfinished(search), {"_id": 1}) is not None

    def waiting(self, search: str) -> list[str]:
        """Return the ids of the units that `search` wants and that have no end yet."""
        found = self._units.find(_unfinished(search), {"ids": 1})
        return [unit_id for document in found for unit_id in ids_in(document)]

    def queued_for(self, searches: Sequence[str]) -> bool:
        """Return whether a unit that one of `searches` wants is queued."""
        query = {"wanted_by": any_of(searches), "state": "queued"}
        return self._units.find_one(query, {"_id": 1}) is not None

    def pulse(self, searches: Sequence[str]) -> Any:
        """Return None while a worker scores for `searches`, else the next unit in the queue.

        While that stays the same, no worker scores for them.
        """
        waiting = {"wanted_by": any_of(searches)}
        live = {"state": "running", "$expr": {"$gt": ["$lease_until", "$$NOW"]}}
        if self._units.find_one({**waiting, **live}, {"_id": 1}) is not None:
            return None
        return self._units.find({**waiting, "state": "queued"}, {"attempt": 1}, sort=ORDER, limit=1)

    def notify(self, searches: Sequence[str]) -> None:
        """Wake idle workers for queued units of `searches` that may have become possible."""
        queued = {"wanted_by": any_of(searches), "state": "queued", "v": SCHEMA}
        found = self._units.find_one(queued, {"_id": 1})
        if found is not None:
            notified = {"$set": {"notified_at": "$$NOW"}}
            self._units.update({"_id": found["_id"], **queued}, [notified])

    def check(self, search: str | Sequence[str]) -> None:
        """Set aside units of a search that no worker can claim or give back."""
        self._units.read(UnitForm, {**_unfinished(search), **SINGLE})
        self._units.read(BatchForm, {**_unfinished(search), **BATCH})

    def queues_of(self, search: str) -> list[str]:
        """Return the queues in which `search` has units queued: one, or a few."""
        queues: list[str] = []
        query = {"wanted_by": search, "state": "queued", "queue": {"$nin": queues}, "v": SCHEMA}
        while (found := self._units.find_one(query, {"queue": 1})) is not None:
            queues.append(found["queue"])
        return queues

    def cancel(self, search: str, ids: Sequence[str] | None = None) -> None:
        """Withdraw the units (of `ids`, if given) that only `search` waits for.

        A worker that runs such a unit learns of it with its next heartbeat.  A result that comes
        all the same is welcome.
        """
        some: dict[str, Any] = {}
        if ids is not None:
            some["_id"] = {"$in": list(ids)}
            for batch in self._batches.with_any(ids, ("_id",)):
                self._batches.open_queued(batch["_id"])
        free = {"$set": unless_wanted(FREE)}
        self._units.update({**_unfinished(search), **some}, [_leave(search), free])

    def cancel_queued(self, search: str) -> None:
        """Withdraw the queued units that only `search` waits for, in one update."""
        cancelled = {"$set": {"state": {"$cond": [UNWANTED, "cancelled", "$state"]}}}
        query = {"wanted_by": search, "state": "queued"}
        self._units.update(query, [_leave(search), cancelled])

    # -- read ------------------------------------------------------------------------------

    @without_collector()
    def outcomes(self, ids: Sequence[str]) -> dict[str, Outcome]:
        """Return what the store has for `ids`, in whatever state."""
        return {
            outcome.id: outcome
            for some in slices(ids)
            for outcome in self._units.read(EndForm, {"_id": {"$in": list(some)}}, outcome_of)
        }

    def described(self, ids: Sequence[str]) -> dict[str, Described]:
        """Return the unit of each of `ids`, by the id that was asked.

        A completed unit under other constraints serves too.  Units that are not there, or in the
        form of another version, are missing.
        """
        return self._read(ids, DescribedForm, lambda unit: Described(**_described(unit)))

    def inspected(self, ids: Sequence[str]) -> dict[str, Inspected]:
        """Return as :meth:`described`, with the worker, the host and the times of each."""
        return self._read(ids, InspectedForm, _inspected)

    def ends(self, ids: Sequence[str]) -> dict[str, Outcome]:
        """Return the outcome of each of `ids`, as of :meth:`described`."""
        return self._read(ids, EndForm, outcome_of)

    @without_collector()
    def _read(self, ids: Sequence[str], form: Any, made: Callable[[Any], Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}

        def row(end: Any) -> tuple[str, str, Any]:
            return end.id, end.state, made(end)

        for some in slices(ids):
            query = {"key": {"$in": list(map(key_of, some))}}
            found.update(_best(some, self._units.read(form, query, row)))
            pending = self._batches.pending({*some}.difference(found))
            found.update(_best(some, self._units.formed(form, pending, row)))
        return found

    def states(self, ids: Sequence[str]) -> dict[str, str]:
        """Return the state of each of `ids`, as of :meth:`described`; ``invalid`` ones too."""
        return {unit_id: found.state for unit_id, found in self.glances(ids).items()}

    def glances(self, ids: Sequence[str]) -> dict[str, Glance]:
        """Return the state of each of `ids`, as :meth:`states` does, and when it ended."""
        found = {}
        for some in slices(ids):
            keys = {"key": {"$in": list(map(key_of, some))}}
            query = {"$or": [keys, {"_id": {"$in": list(some)}}], "v": SCHEMA}
            rows = self._units.find(query, {"key": 1, "state": 1, "completed_at": 1})
            glances = [Glance(str(d.get("state")), _moment(d.get("completed_at"))) for d in rows]
            states = [(d["_id"], d.get("state")) for d in rows]
            found.update(_best(some, [(*s, g) for s, g in zip(states, glances, strict=True)]))
            for pending in self._batches.pending({*some}.difference(found)):
                found[pending["_id"]] = Glance(pending["state"], None)
        return found

    def payloads(self, ids: Sequence[str]) -> dict[str, tuple[str, str]]:
        """Return the exact params of each of `ids`, and the payload that has their objects."""
        own = {"v": SCHEMA, "state": {"$ne": INVALID}}
        fields = {"params_text": 1, "spec.payload": 1}
        found = list(self._units.each("_id", ids, own, fields))
        found += self._batches.pending({*ids}.difference(d["_id"] for d in found))
        return {d["_id"]: (d["params_text"], d["spec"].get("payload") or "") for d in found}

    def without_score(self, ids: Sequence[str]) -> list[str]:
        """Return those of `ids` that have failed, or were given up, and have no score."""
        query = {"state": {"$in": list(SCORELESS)}, "v": SCHEMA}
        wanted = {key_of(unit_id): unit_id for unit_id in ids}
        found = self._units.each("key", list(wanted), query, {"key": 1})
        return list(dict.fromkeys(wanted[document["key"]] for document in found))

    def running_for(self, searches: Sequence[str]) -> Counter[tuple[str, str]]:
        """Return how many units of `searches` are being scored, by worker and host."""
        query = {"wanted_by": any_of(searches), "state": "running"}
        found = self._units.find(query, {"worker": 1, "host": 1})
        return Counter((str(d.get("worker")), str(d.get("host"))) for d in found)

    def at_work(self, search: str) -> list[tuple[str, str, bool]]:
        """Return the units of `search` that workers hold: unit, worker, whether it is started."""
        query = {"wanted_by": search, "state": "running", "v": SCHEMA}
        fields = dict.fromkeys(("worker", "started", "began", "ids"), 1)
        return [
            (unit_id, str(d.get("worker")), d.get("started") is True and unit_id in began)
            for d in self._units.find(query, fields)
            for began in [begun_in(d) if "ids" in d else {d["_id"]}]
            for unit_id in ids_in(d)
        ]

    def poisonous(self, searches: Sequence[str]) -> Counter[int]:
        """Return how many units that `searches` wait for have ended a worker, by how often."""
        query = {"wanted_by": any_of(searches), "losses": {"$gt": 0}}
        found = self._units.find(query, {"losses": 1})
        return Counter(d["losses"] for d in found if isinstance(d["losses"], int))

    def running(self, searches: Sequence[str] | None = None) -> list[RunningForm]:
        """Return the units that are being scored, those that began first at the top.

        With `searches` only those that one of them waits for.
        """
        how: dict[str, Any] = {"sort": [("claimed_at", 1)], "limit": _MOST_SHOWN}
        some = {} if searches is None else {"wanted_by": any_of(searches)}
        fields = {
            **fields_of(RunningForm),
            **dict.fromkeys(("began", "ids", "packed", "sequence"), 1),
        }
        units: list[Document] = []
        for found in self._units.find({**_RUNNING, **some, "v": SCHEMA}, fields, **how):
            if "packed" in found:
                own = own_fields(found)
                units += unpacked(found, {unit_id: own[unit_id] for unit_id in begun_in(found)})
            else:
                units.append(found)
        return readable(RunningForm, units)

    def held(self) -> Counter[str]:
        """Return how many units each worker is at."""
        at_once = {"$cond": [{"$isArray": "$began"}, {"$size": {"$ifNull": ["$began", []]}}, 1]}
        by_worker = {"$group": {"_id": "$worker", "n": {"$sum": at_once}}}
        found = self._units.aggregate([{"$match": _RUNNING}, by_worker])
        return Counter({str(one["_id"]): one["n"] for one in found})

    def made_of(self, ids: Sequence[str]) -> tuple[set[str], set[str]]:
        """Return the parts that units are made of, and the queues that they are queued in."""
        parts: set[str] = set()
        queues: set[str] = set()
        for unit in self._units.each("_id", ids, {}, {"spec": 1, "queue": 1}):
            spec = {k: v for k, v in unit["spec"].items() if k not in ("split", "env")}
            parts |= {sha for sha in spec.values() if sha is not None}
            queues.add(unit["queue"])
        return parts, queues

    # -- records that this version does not read -------------------------------------------

    def foreign(self, ids: Sequence[str]) -> list[str]:
        """Return those of `ids` that another version of optomatic has queued."""
        found = self._units.each("_id", ids, {"v": {"$ne": SCHEMA}}, {"_id": 1})
        return [document["_id"] for document in found]

    def foreign_for(self, searches: Sequence[str]) -> list[str]:
        """Return the units in the form of another version that `searches` wait for."""
        found = self._units.find({**_unfinished(searches), "v": {"$ne": SCHEMA}}, {"_id": 1})
        return [document["_id"] for document in found]

    def set_aside(self, ids: Sequence[str]) -> list[SetAside]:
        """Return the records of `ids` that could not be read, those of queued anew included."""
        fields = {"invalid": 1}
        there = self._units.each("_id", ids, {"v": SCHEMA, "state": INVALID}, fields)
        replaced = self._units.each("invalid.of", ids, {"v": SCHEMA}, fields)
        return [_set_aside(document) for document in (*there, *replaced)]

    def invalid(self, ids: Sequence[str]) -> int:
        """Return how many records of `ids` could not be read, and now stand beside them."""
        return sum(1 for _ in self._units.each("invalid.of", ids, {}, {"_id": 1}))


def _unfinished(search: str | Sequence[str]) -> dict[str, Any]:
    return {"wanted_by": any_of(search), "state": {"$in": list(UNFINISHED)}}


def _leave(search: str) -> dict[str, Any]:
    """Return the stage of an update that takes a search off the units that it waits for."""
    return {"$set": {"wanted_by": {"$setDifference": ["$wanted_by", [{"$literal": search}]]}}}


def _best_ends(
    asked: Mapping[str, Unit], ends: Iterable[tuple[EndForm, Outcome]]
) -> dict[str, Outcome]:
    """Choose for each unit the end that serves it best, if any does."""
    best: dict[str, tuple[Any, Outcome]] = {}
    for end, outcome in ends:
        unit = asked[end.key]
        rank = end.id != unit.id, end.completed_at, end.id
        if _serves(outcome, unit) and (unit.id not in best or rank < best[unit.id][0]):
            best[unit.id] = rank, outcome
    return {unit_id: outcome for unit_id, (_, outcome) in best.items()}


def _serves(outcome: Outcome, unit: Unit) -> bool:
    result = outcome.result
    if outcome.state == "completed":
        wants_train = unit.work.options.get("return_train_score")
        return not wants_train or (result is not None and result.train is not None)
    passing = result is not None and is_of_its_moment(result.failures)
    return outcome.id == unit.id and (outcome.state == "dead" or not passing)


def _best(ids: Sequence[str], rows: Iterable[tuple[Any, Any, T]]) -> dict[str, T]:
    """Choose the best row (id, state, value) for the key of each id, and return its value."""
    wanted = {key_of(unit_id): unit_id for unit_id in ids}
    best: dict[str, tuple[tuple[bool, bool, bool], T]] = {}
    for found_id, state, value in rows:
        key = key_of(found_id) if isinstance(found_id, str) else ""
        if not key or (unit_id := wanted.get(key)) is None:
            continue
        # A completed one serves under all constraints; one that cannot be read is the last resort.
        rank = (state != "completed", found_id != unit_id, state == INVALID)
        if unit_id not in best or rank < best[unit_id][0]:
            best[unit_id] = rank, value
    return {unit_id: value for unit_id, (_, value) in best.items()}


# Fields for people: odd values in them do no harm.


def _moment(value: Any) -> datetime | None:
    return value if isinstance(value, datetime) else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _set_aside(document: Document) -> SetAside:
    kept = document.get("invalid")
    kept = kept if isinstance(kept, dict) else {}
    why, of = kept.get("why"), _text(kept.get("of")) or str(document["_id"])
    return SetAside(of, _text(why) or "for an unknown reason", _moment(kept.get("at")))


def _described(unit: DescribedForm) -> dict[str, Any]:
    about = {"params": unit.params, "params_text": unit.params_text}
    return {**about, "split": unit.spec["split"], "outcome": outcome_of(unit)}


def _inspected(unit: InspectedForm) -> Inspected:
    worker, host, began, ended = None, None, None, None
    if unit.state in ("completed", "failed"):
        worker, host = unit.completed_by, _text(unit.completed_on)
        began, ended = _moment(unit.started_at), unit.completed_at
    elif unit.state == "running":
        worker, host = _text(unit.worker), _text(unit.host)
        began = _moment(unit.started_at) if unit.started is True else None
    losses = [
        LostAttempt(
            loss.attempt if isinstance(loss.attempt, int) else None,
            _text(loss.worker),
            _text(loss.host),
            _moment(loss.began),
            _moment(loss.at),
            loss.why,
        )
        for loss in unit.history
    ]
    return Inspected(
        **_described(unit),
        kind=unit.kind,
        attempt=unit.attempt,
        worker=worker,
        host=host,
        began=began,
        ended=ended,
        lost=tuple(losses),
    )
