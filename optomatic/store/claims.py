"""The queue, for a worker: claim, start, renew, release, complete, fail, reap.

Each write carries the claim's token, a random 128-bit number made before it is sent.  If a reply
was lost, reading the units of the token settles it.  A worker that was thought dead cannot change
a unit that is no longer its own.

The first good result wins, from any worker: one whose lease ran out has computed the same
score as the next one.  A failure counts only from the worker that holds the claim: the trouble of
a stale worker cannot hide a good run.

A lease that runs out after the start is charged to the unit: it may be what killed its worker.
After ``timing.max_losses`` of them it is ``dead``, and only an explicit retry reopens it.  Nothing
else is ever charged.
"""

from __future__ import annotations

import builtins
import random
import re
import secrets
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from pymongo.database import Database

from optomatic.records import SCHEMA, Failure, Job, Lease, Result, Returned, Timing
from optomatic.store.batches import (
    BATCH,
    SINGLE,
    UNWANTED,
    Batch,
    Batches,
    after,
    held,
    taken,
)
from optomatic.store.documents import (
    NOBODY,
    BatchForm,
    Document,
    UnitForm,
    error_document,
    fields_of,
    jobs_of,
    result_document,
    storable,
)
from optomatic.store.indexes import ORDER
from optomatic.store.retry import Outage, RetryingCollection
from optomatic.store.workers import this_process

#: The fields that claim and reap compute with.  One document of another form would make the whole
#: statement fail, for everybody.
SANE: Mapping[str, Any] = {
    "v": SCHEMA,
    "losses": {"$gte": 0},
    "attempt": {"$gte": 0},
    "runs": {"$gte": 0},
    "wanted_by": {"$type": "array"},
    "history": {"$type": "array"},
    "lost_on": {"$type": "array"},
}
_QUEUED_OR_CANCELLED = {"$cond": [UNWANTED, "cancelled", "queued"]}
#: Units that were never lost, and others.
_CALM: Mapping[str, Any] = {"losses": 0}
_LOST: Mapping[str, Any] = {"losses": {"$gt": 0}}
#: Failures of a unit for want of memory and such, on any workers, before it counts as failed.
_MACHINE_TRIES = 3
#: Claimers look at so many times more units than they take, and take some of them by chance.
_SPREAD = 4
#: A claimer that lost most of what it tried begins next time up to so many batches further on.
_FURTHER = 16
#: Lost attempts, and hosts of losses, that are kept of a unit.
_HISTORY = 5
#: Exceptions of the machine, not of the estimator, by the names under which they are stored.
_MACHINE_TYPES = frozenset(
    f"builtins.{name}"
    for name, kind in vars(builtins).items()
    if isinstance(kind, type) and issubclass(kind, MemoryError | OSError | ImportError)
) | {"numpy._core._exceptions._ArrayMemoryError", "numpy.core._exceptions._ArrayMemoryError"}


def is_of_the_machine(failures: Collection[Failure]) -> bool:
    """Return whether another machine might do better.

    Errors that a call of joblib raises are for its caller alone.

    >>> is_of_the_machine([Failure("fit", "builtins.MemoryError", "", "")])
    True
    """
    return any(f.type in _MACHINE_TYPES and f.stage != "call" for f in failures)


#: Errors of the settings of a process: warnings as errors (``python -W error``), rounding errors as
#: errors (``numpy.errstate``).  And a part that is damaged in the store: a new fit mends it.
_SETTINGS = re.compile(
    r"Warning$|^builtins\.FloatingPointError$|^optomatic\.errors\.BundleDamaged$"
)


def is_of_its_moment(failures: Collection[Failure]) -> bool:
    """Return whether a later run might do better, so that no search is served with the failure.

    >>> is_of_its_moment([Failure("fit", "sklearn.exceptions.ConvergenceWarning", "", "")])
    True
    """
    return is_of_the_machine(failures) or any(_SETTINGS.search(f.type) for f in failures)


#: The condition for stored documents of that kind.
ERRORS_OF_A_MOMENT: Mapping[str, Any] = {
    "error.failures.type": {"$in": [*sorted(_MACHINE_TYPES), _SETTINGS]}
}


class Claims:
    """The units of a store, for workers.  Safe to share among threads, not across a fork."""

    def __init__(
        self,
        database: Database[dict[str, Any]],
        outage: Outage | None = None,
        *,
        timing: Timing | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._units = RetryingCollection(database["units"], outage)
        self._batches = Batches(self._units)
        #: The batches that this process has claimed, by token.
        self._claimed: dict[str, Batch] = {}
        #: The token of the last claim.
        self._last = ""
        #: The last claim met a batch.
        self._in_batches = False
        self._timing = timing or Timing()
        self._rng = rng or random.Random()
        self._crowded = False

    def claim(
        self,
        worker: str,
        count: int,
        *,
        queues: Sequence[str] | None = None,
        search: str | Sequence[str] | None = None,
        alone: bool = True,
        most: int | None = None,
    ) -> Lease:
        """Take up to `count` queued units: of these queues, and for this search or these.

        A batch is taken as a whole, if it has at most twice as many, and at most `most`.

        `alone` says that the worker has nothing else started.  Only then it may get a unit that
        was lost before, and gets it alone: should the worker die again, no other unit is blamed.

        The lease has no jobs if there is nothing to claim.  No two leases ever hold one unit at
        the same time; a lease that is not started lapses after ``timing.unstarted``.
        """
        queued = _queued(queues, search)
        room = 2 * count if most is None else min(2 * count, most)
        while True:
            token = self._last = secrets.token_hex(16)
            jobs: list[Job] | None
            # One claimer alone takes the head of the queue: candidates are scored in their order.
            # What is one document costs one command.
            calm = {**queued, **_CALM}
            heads: list[UnitForm | Document] = []
            if (self._in_batches or count == 1) and not self._crowded:
                jobs = self._take_head(token, worker, calm, room)
                if jobs:
                    return Lease(token, tuple(jobs))
                if jobs is not None:
                    continue
            else:
                heads = (self._crowded and self._by_chance(calm, count)) or self._head(calm, count)
            if not heads and alone:
                heads = self._head({**queued, **_LOST}, 1)
            if not heads:
                if alone:
                    self._set_aside_odd({**_where(queues, search), "state": "queued"})
                return Lease("", ())
            self._in_batches = not isinstance(heads[0], UnitForm)
            if isinstance(heads[0], UnitForm):
                singles = [head for head in heads if isinstance(head, UnitForm)]
                jobs = self._take_units(token, worker, singles)
                few = 2 * len(jobs) < len(singles)
            else:
                jobs = self._take_batch(token, worker, heads[0], room)
                few = jobs is None
            # Many claimers in lockstep all take the head of the queue, and most come away empty.
            self._crowded = few
            if jobs or few:
                return Lease(token, tuple(jobs or ()))

    def give_back_last(self) -> None:
        """Give back what is left of the last claim, for a caller that was interrupted in it."""
        left = {**held(self._last), "started": False, "wanted_by": {"$type": "array"}}
        self._units.update(left, [{"$set": {**NOBODY, "state": _QUEUED_OR_CANCELLED}}])

    def any_lost(self, queues: Sequence[str] | None, search: str | Sequence[str] | None) -> bool:
        """Return whether a unit is queued, for these, that was lost before and has to run alone."""
        return bool(self._head({**_queued(queues, search), **_LOST}, 1))

    def anything_queued(self) -> bool:
        """Return whether any unit is queued: one cheap look."""
        query = {"state": "queued", "queue": {"$gte": ""}}  # any queue: so that an index serves
        return self._units.find_one(query, {"_id": 1}) is not None

    def anything_runs(self) -> bool:
        """Return whether any worker holds a unit: else none can be taken back."""
        query = {"state": "running", "lease_until": {"$type": "date"}}  # an index serves it
        return self._units.find_one(query, {"_id": 1}) is not None

    def _by_chance(self, calm: dict[str, Any], count: int) -> list[UnitForm | Document]:
        skip = self._rng.randrange(_FURTHER * count)
        how: dict[str, Any] = {"sort": ORDER, "limit": _SPREAD * count, "skip": skip}
        ids = [document["_id"] for document in self._units.find(calm, {"_id": 1}, **how)]
        some = self._rng.sample(ids, min(count, len(ids)))
        return self._head({**calm, "_id": {"$in": some}}, count) if some else []

    def _head(self, query: dict[str, Any], count: int) -> list[UnitForm | Document]:
        """Return the first units in the queue, in their form, and batches without their units."""
        while True:
            fields = {**fields_of(UnitForm), "size": 1}
            # One batch is taken at a time.
            limit = 1 if self._in_batches else count
            documents = self._units.find(query, fields, sort=ORDER, limit=limit)
            if self._in_batches and documents and "size" not in documents[0]:
                self._in_batches = False
                continue
            heads: list[UnitForm | Document] = []
            for document in documents:
                # An odd record may have any _id.
                single = "size" not in document
                heads += self._units.formed(UnitForm, [document]) if single else [document]
            if heads or not documents:
                return heads  # else read on behind those that were set aside

    def _take_units(self, token: str, worker: str, units: Sequence[UnitForm]) -> list[Job]:
        # A unit that was lost meanwhile is not taken among others.
        among_others = _CALM if len(units) > 1 else {}
        queued = {"_id": {"$in": [unit.id for unit in units]}, "state": "queued", **among_others}
        self._units.update(queued, [{"$set": taken(token, worker, self._timing.unstarted)}])
        mine = {d["_id"]: d for d in self._units.find(held(token), {"attempt": 1, "losses": 1})}
        for unit in units:
            if unit.id in mine:
                unit.attempt, unit.losses = mine[unit.id]["attempt"], mine[unit.id]["losses"]
        return [job for unit in units if unit.id in mine for job in jobs_of(unit)]

    def _take_batch(self, token: str, worker: str, head: Document, count: int) -> list[Job] | None:
        """Claim a batch that is new and not too large, and open it otherwise.

        Return its units, none if it was opened, None if another worker has it.
        """
        document = self._take({"_id": head["_id"], "state": "queued", **SANE}, token, worker)
        return None if document is None else self._jobs_in(document, token, count)

    def _take_head(
        self, token: str, worker: str, query: Mapping[str, Any], count: int
    ) -> list[Job] | None:
        """Claim what is first in the queue, a batch as :meth:`_take_batch` does.

        Return its units, none if it was opened or cannot be read, None if nothing is queued.
        """
        document = self._take(query, token, worker)
        self._in_batches = document is not None and "size" in document
        if document is None:
            return None
        if self._in_batches:
            return self._jobs_in(document, token, count)
        return [job for unit in self._units.formed(UnitForm, [document]) for job in jobs_of(unit)]

    def _take(self, query: Mapping[str, Any], token: str, worker: str) -> Document | None:
        change = [{"$set": taken(token, worker, self._timing.unstarted)}]
        return self._units.take(query, change, sort=ORDER, mine=held(token))

    def _jobs_in(self, document: Document, token: str, count: int) -> list[Job]:
        """Return the units of a batch that was just claimed; none if it has to be opened."""
        forms = self._units.formed(BatchForm, [document])
        if not forms:
            return []
        # It was claimed before, if not by this call alone.
        if document["losses"] or document["attempt"] > 1 or document["size"] > count:
            self._batches.open(document["_id"], token)
            return []
        batch = self._claimed[token] = Batch(document, forms[0])
        return batch.jobs

    def _set_aside_odd(self, query: Mapping[str, Any]) -> None:
        """Set aside units that no worker can claim, as they have not the form of one."""
        odd = {**query, "$nor": [dict(SANE)]}
        if self._units.find_one({**odd, "v": SCHEMA}, {"_id": 1}) is not None:
            for form, some in ((UnitForm, SINGLE), (BatchForm, BATCH)):
                self._units.read(form, {**odd, **some})

    def queued_queues(self, most: int, searches: Sequence[str] | None = None) -> dict[str, str]:
        """Return at most so many queues that are not empty, and a search that waits for each.

        Only units that one of `searches` waits for count, if they are given.
        """
        wanted = {} if searches is None else {"wanted_by": {"$in": list(searches)}}
        queues: dict[str, str] = {}
        while len(queues) < most:
            query = {**wanted, "state": "queued", "queue": {"$gte": "", "$nin": [*queues]}}
            found = self._units.find_one({**query, "v": SCHEMA}, {"queue": 1, "wanted_by": 1})
            if found is None:
                break
            names = found.get("wanted_by")
            names = names if isinstance(names, list) else []
            queues[found["queue"]] = next((name for name in names if isinstance(name, str)), "")
        return queues

    def start(self, token: str, ids: Sequence[str], seconds: float | None = None) -> frozenset[str]:
        """Record that `ids` begin now, before any user code runs for them.

        Return those that this worker still holds, now with a lease of `seconds` (``timing.lease``).
        """
        lease = self._timing.lease if seconds is None else seconds
        if (batch := self._claimed.get(token)) is not None:
            now = {"started": True, "started_at": "$$NOW", "lease_until": after(lease)}
            now = {**now, "began": {"$literal": batch.places(ids)}}
            if self._units.update({"_id": batch.id, **held(token)}, [{"$set": now}]):
                batch.started(ids)
                return frozenset(batch.left.intersection(ids))
            self._claimed.pop(token, None)
        wanted = {"_id": {"$in": list(ids)}, **held(token)}
        now = {"started": True, "started_at": "$$NOW", "lease_until": after(lease)}
        change = [{"$set": {**now, "runs": {"$add": ["$runs", 1]}}}]
        # A start that is repeated, as its reply was lost, must not count a second run.
        started = self._units.update({**wanted, "started": False}, change)
        if started == len(ids):
            return frozenset(ids)
        mine = self._units.find({**wanted, "started": True}, {"_id": 1})
        return frozenset(document["_id"] for document in mine)

    def renew(
        self, held: Mapping[str, Collection[str]], seconds: float | None = None
    ) -> frozenset[str]:
        """Extend the leases of all started units of these claims, ids by token; a heartbeat.

        They last for `seconds` from now (``timing.lease``).  Return the ids that this worker does
        not hold any more.  A heartbeat that comes after the lease ran out still saves it, if no
        process took the unit back meanwhile.
        """
        if not held:
            return frozenset()
        lease = self._timing.lease if seconds is None else seconds
        ids: dict[str, Collection[str]] = {}
        for token, some in held.items():
            batch = self._claimed.get(token)
            ids.update({i: [i] for i in some} if batch is None else {batch.id: some})
        mine = {"claim": {"$in": list(held)}, "state": "running", "started": True}
        mine["_id"] = {"$in": list(ids)}  # not the copy of a document
        if self._units.update(mine, [{"$set": {"lease_until": after(lease)}}]) == len(ids):
            return frozenset()
        there = {document["_id"] for document in self._units.find(mine, {"_id": 1})}
        return frozenset(unit for name, some in ids.items() if name not in there for unit in some)

    def release(self, token: str, ids: Sequence[str], *, begun: Collection[str] = ()) -> None:
        """Give back units that are not finished; no loss is charged.

        For those of `ids` that have `begun`, user code ran already.  The start of the others is
        taken back, so that ``runs`` counts what really ran.
        """
        if not ids:
            return
        if self._open(token, ids, ran=begun):
            return
        never_ran = {"$and": ["$started", {"$not": [{"$in": ["$_id", {"$literal": [*begun]}]}]}]}
        runs = {"$subtract": ["$runs", {"$cond": [never_ran, 1, 0]}]}
        mine = {"_id": {"$in": list(ids)}, **held(token), "wanted_by": {"$type": "array"}}
        free = {**NOBODY, "runs": runs, "state": _QUEUED_OR_CANCELLED}
        self._units.update(mine, [{"$set": free}])

    def complete(
        self,
        worker: str,
        token: str,
        results: Mapping[str, Result | Returned],
        *,
        tries: int = _MACHINE_TRIES,
    ) -> frozenset[str]:
        """Store results, by unit id; on return they are on the server's disk.

        A result with failures makes its unit ``failed``.  A failure of the machine (no memory, no
        file, no module) does so after `tries` of them; before, the unit is queued for another
        worker.  The parts of what joblib's calls returned are in the store already.

        Return the units whose result was not taken: another one was there first, or, for a
        failure, this worker does not hold the claim any more.
        """
        return self.complete_all(worker, {token: results}, tries=tries)

    def complete_all(
        self,
        worker: str,
        owed: Mapping[str, Mapping[str, Result | Returned]],
        *,
        tries: int = _MACHINE_TRIES,
    ) -> frozenset[str]:
        """Store results of several claims, by token, as :meth:`complete` does those of one."""
        late = frozenset[str]()
        for token, results in self._insert(worker, owed).items():
            late |= self._complete_single(worker, token, results, tries)
        return late

    def _complete_single(
        self, worker: str, token: str, results: Mapping[str, Result | Returned], tries: int
    ) -> frozenset[str]:
        """Store results of units that have a document; return those that were not taken."""
        scores = {
            unit_id: result_document(unit_id, result, None)
            for unit_id, result in results.items()
            if isinstance(result, Result) and not result.failures and result.extra is None
        }
        others = [item for item in results.items() if item[0] not in scores]
        changes = [_end(*item, token, worker, tries) for item in others]
        matched = self._complete_together(scores, worker) if scores else 0
        matched += self._units.update_each(changes) if changes else 0
        if matched == len(results):
            return frozenset()
        # Units that this worker completed were stored by a call whose reply was lost.
        stored = self._units.find({"_id": {"$in": list(results)}}, {"completed_by": 1})
        taken = {d["_id"] for d in stored if d["completed_by"] == worker}
        return frozenset(set(results) - taken)

    def _insert(
        self, worker: str, owed: Mapping[str, Mapping[str, Result | Returned]]
    ) -> dict[str, Mapping[str, Result | Returned]]:
        """Insert the results of units of batches; return what has a document already, by token.

        No claim is asked for: as long as a unit has no document, it is in the batch, and the
        batch is opened before another worker gets it.
        """
        rest: dict[str, Mapping[str, Result | Returned]] = {}
        inserted: dict[str, Batch] = {}
        documents: list[Document] = []
        for token, results in owed.items():
            batch = self._claimed.get(token)
            if batch is None:
                rest[token] = results
            elif any(is_of_the_machine(result.failures) for result in results.values()):
                # Such a unit may be queued again, by itself.
                self._open(token)
                rest[token] = results
            else:
                inserted[token] = batch
                documents += batch.documents(_ends(results, worker, batch.now()))
        there = set(self._units.insert(documents))
        for token, batch in inserted.items():
            batch.ended(owed[token])
            if known := {i: result for i, result in owed[token].items() if i in there}:
                rest[token] = known
        if over := {token: batch.id for token, batch in inserted.items() if not batch.left}:
            ids, tokens = list(over.values()), list(over)
            self._units.delete({"_id": {"$in": ids}, "claim": {"$in": tokens}, "state": "running"})
            for token in over:
                self._claimed.pop(token, None)
        return {token: results for token, results in rest.items() if results}

    def _open(
        self, token: str, released: Collection[str] = (), ran: Collection[str] | None = None
    ) -> bool:
        """Make single units of a batch under `token`, and keep those not `released`.

        Return whether there was one.
        """
        if (batch := self._claimed.get(token)) is None:
            return False
        kept = batch.left.difference(released)
        held = self._batches.open(batch.id, token, kept=kept, ran=ran)
        if not held:  # others have it, or nobody: a good result of what is kept still counts
            batch.ended(released)
        if held or not batch.left:
            self._claimed.pop(token, None)
        return held

    def _complete_together(self, scores: Mapping[str, dict[str, Any]], worker: str) -> int:
        """Store results that are small, in one update; return how many were taken.

        The server takes twice as long for as many updates of one unit each.
        """
        number = {"$indexOfArray": [{"$literal": list(scores)}, "$_id"]}
        result = {"$arrayElemAt": [{"$literal": list(scores.values())}, number]}
        query = {"_id": {"$in": list(scores)}, **_LATCH}
        ended = {**_ended("completed", result, None), **_now_by(worker)}
        return self._units.update(query, [{"$set": ended}])

    def reap(self) -> int:
        """Take back the units whose leases ran out by the server's clock; return how many.

        Only a process in good standing may call this: after an outage or a suspended machine all
        leases look over, though their workers live.
        """
        over = {"$expr": {"$lt": ["$lease_until", "$$NOW"]}}
        return self._take_back({"state": "running", **SANE, **over}, "its lease ran out", None)

    def reap_workers(self, workers: Sequence[str], why: str) -> int:
        """Take back at once the units of `workers`, whose processes are known to be gone."""
        if not workers:
            return 0
        theirs = {"state": "running", **SANE, "worker": {"$in": list(workers)}}
        return self._take_back(theirs, why, None)

    def crash(self, token: str, unit_id: str, why: str, host: str) -> bool:
        """Take back a unit whose process died while its worker lives; return whether it was held.

        `why` is the signal or exit status of the process on `host`.
        """
        self._open(token)
        query = {"_id": unit_id, "claim": token, "state": "running", **SANE}
        return bool(self._take_back(query, why, host))

    def _take_back(self, query: dict[str, Any], why: str, host: str | None) -> int:
        where = {"$literal": storable(host)} if host else {"$ifNull": ["$host", "an unknown host"]}
        entry = {
            "attempt": "$attempt",
            "worker": "$worker",
            "host": where,
            "began": {"$cond": ["$started", {"$ifNull": ["$started_at", None]}, None]},
            "at": "$$NOW",
            "why": {"$literal": storable(why)},
        }
        loss = {
            "losses": {"$add": ["$losses", {"$cond": ["$started", 1, 0]}]},
            "lost_on": {"$cond": ["$started", _appended("$lost_on", where), "$lost_on"]},
            "history": _appended("$history", entry),
        }
        dead = {"$gte": ["$losses", self._timing.max_losses]}
        state = {"$cond": [dead, "dead", _QUEUED_OR_CANCELLED]}
        wanted_by = {"$cond": [{"$eq": ["$state", "dead"]}, [], "$wanted_by"]}
        # Each stage reads the fields that the one before has set.
        change = [loss, {**NOBODY, "state": state}, {"wanted_by": wanted_by}]
        return self._units.update(query, [{"$set": stage} for stage in change])


def _appended(field: str, entry: Any) -> dict[str, Any]:
    """Return the expression for the last entries of an array, with a new one."""
    return {"$slice": [{"$concatArrays": [field, [entry]]}, -_HISTORY]}


def _queued(queues: Sequence[str] | None, search: str | Sequence[str] | None) -> dict[str, Any]:
    return {"state": "queued", **SANE, **_where(queues, search)}


def _where(queues: Sequence[str] | None, search: str | Sequence[str] | None) -> dict[str, Any]:
    """Return the condition for units of queues and searches; an index serves it."""
    query: dict[str, Any] = {}
    if queues is not None:
        query["queue"] = {"$in": list(queues)}
    if search is not None:
        query["wanted_by"] = any_of(search)
    return query or {"queue": {"$gte": ""}}  # any queue


def any_of(search: str | Sequence[str]) -> Any:
    """Return the condition for a search, or for one of several."""
    return search if isinstance(search, str) else {"$in": list(search)}


#: The first good result counts, in any state but completed, and no other ever.
_LATCH: Mapping[str, Any] = {"state": {"$ne": "completed"}}


def _state(error: Any) -> str:
    return "failed" if error else "completed"


def _ends(
    results: Mapping[str, Result | Returned], worker: str, now: datetime
) -> dict[str, Document]:
    """Return what a result sets of its unit, by id of the unit."""
    common = {"completed_by": worker, "completed_on": this_process().host, "completed_at": now}
    ends: dict[str, Document] = {}
    for unit_id, result in results.items():
        error = error_document(result.failures) if result.failures else None
        own = {"result": result_document(unit_id, result, error), "error": error}
        ends[unit_id] = {**common, **own, "state": _state(error)}
    return ends


def _ended(state: str, result: Any, error: Any) -> dict[str, Any]:
    """Return the fields of a unit with a result; in an update these are expressions."""
    return {**NOBODY, "state": state, "wanted_by": [], "result": result, "error": error}


def _now_by(worker: str) -> dict[str, Any]:
    """Return expressions for who has stored a result, and when."""
    return {
        "completed_by": {"$literal": worker},
        "completed_on": {"$literal": this_process().host},
        "completed_at": "$$NOW",
    }


def _end(
    unit_id: str, result: Result | Returned, token: str, worker: str, tries: int
) -> tuple[dict[str, Any], list[Any]]:
    """Return the query and the update that end a unit with a result."""
    error = error_document(result.failures) if result.failures else None
    # Text of users goes through $literal: a pipeline evaluates "$5 missing".
    document = {"$literal": result_document(unit_id, result, error)}
    ended = {**_ended(_state(error), document, {"$literal": error}), **_now_by(worker)}
    if not error:
        return {"_id": unit_id, **_LATCH}, [{"$set": ended}]
    query = {"_id": unit_id, **held(token)}
    if not is_of_the_machine(result.failures):
        return query, [{"$set": ended}]
    # Queue it for another worker, or, after so many tries, end it.
    count = {"machine_failures": {"$add": [{"$ifNull": ["$machine_failures", 0]}, 1]}}
    queued = {**dict.fromkeys(ended), **NOBODY, "state": _QUEUED_OR_CANCELLED}
    queued.update(error=ended["error"], wanted_by="$wanted_by")
    over = {"$gte": ["$machine_failures", tries]}
    either = {name: {"$cond": [over, value, queued[name]]} for name, value in ended.items()}
    return query, [{"$set": count}, {"$set": either}]
