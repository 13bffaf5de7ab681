"""What workers ask of the queue: claim, start, renew, release, complete, fail, reap."""

from __future__ import annotations

import builtins
import random
import re
import secrets
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from optomatic.records import SCHEMA, Failure, Lease, Result, Returned, Timing
from optomatic.store.documents import NOBODY, error_document, job_of, result_document, storable
from optomatic.store.forms import UnitForm
from optomatic.store.retry import Patient
from optomatic.store.workers import this_process

# Claim, start, renew, release: how a unit gets into a worker's hands and stays there.
#
# Each write carries the claim's token, a random 128-bit number made before it is sent.  So a
# call whose reply was lost is settled by reading what the token holds, and a worker that
# was thought dead changes nothing that is not its own any more.


#: What claim and reap can compute with.  One document of another form would make the whole
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
_ORDER = (("priority", -1), ("sequence", 1))
#: Claimers look at so many times more units than they take, and take some of them by chance.
_SPREAD = 4
#: A claimer that lost most of what it tried begins next time up to so many batches further on.
_FURTHER = 16


#: Units that were never lost.
_CALM: Mapping[str, Any] = {"losses": 0}


def after(seconds: float) -> dict[str, Any]:
    """Return the moment `seconds` from now, by the server's clock."""
    return {"$add": ["$$NOW", round(1000 * seconds)]}


class Claiming:
    """The calls by which a worker gets and keeps units.  Safe to share among threads."""

    def __init__(self, units: Patient, timing: Timing, rng: random.Random) -> None:
        self._units = units
        self._timing = timing
        self._rng = rng
        self._crowded = False

    def claim(
        self,
        worker: str,
        count: int,
        *,
        queues: Sequence[str] | None = None,
        search: str | Sequence[str] | None = None,
        alone: bool = True,
    ) -> Lease:
        """Take up to `count` queued units.

        Parameters
        ----------
        worker : str
        count : int
        queues : sequence of str, optional
            Only units of these queues.
        search : str or sequence of str, optional
            Only units that this search, or one of these, waits for.
        alone : bool
            Whether the worker has nothing else started.  Only then a unit that was lost
            before may be handed out, and then it comes alone, so that nobody else can be
            blamed should its worker die again.

        Returns
        -------
        Lease
            With no jobs if there is nothing to claim.  No two leases ever hold one unit at
            the same time; a lease that is not started lapses after ``timing.unstarted``.
        """
        queued = _queued(queues, search)
        units = self._some_of(queued, count) or (self._a_lost_one(queued) if alone else [])
        if not units:
            self._sort_out(queued)
            return Lease("", ())
        token = secrets.token_hex(16)
        lease = self._take(token, worker, units)
        # Many claimers in lockstep all take the head of the queue, and most come away empty.
        self._crowded = 2 * len(lease.jobs) < len(units)
        return lease

    def _sort_out(self, queued: dict[str, Any]) -> None:
        """Set aside what nobody can claim as it has not the form of a unit."""
        others = {name: queued[name] for name in queued.keys() - SANE.keys()}
        self._units.read(UnitForm, {**others, "$nor": [dict(SANE)]})

    def check(self, search: str | Sequence[str]) -> None:
        """Set aside what a search waits for and nobody can claim or give back."""
        waiting = {"$in": [search] if isinstance(search, str) else list(search)}
        query = {"wanted_by": waiting, "state": {"$in": ["queued", "running"]}}
        self._units.read(UnitForm, query)

    def any_lost(self, queues: Sequence[str] | None, search: str | Sequence[str] | None) -> bool:
        """Tell whether a unit is queued, for these, that was lost before, and has to run alone."""
        return bool(self._a_lost_one(_queued(queues, search)))

    def anything_queued(self) -> bool:
        """Tell whether anything is queued at all, for anybody: one cheap look."""
        query = {"state": "queued", "queue": {"$gte": ""}}  # any queue: so that an index serves
        return self._units.find_one(query, {"_id": 1}) is not None

    def anything_runs(self) -> bool:
        """Tell whether any worker holds anything: without it nothing can be taken back."""
        query = {"state": "running", "lease_until": {"$type": "date"}}  # an index serves it
        return self._units.find_one(query, {"_id": 1}) is not None

    def _some_of(self, queued: dict[str, Any], count: int) -> list[UnitForm]:
        calm = {**queued, **_CALM}
        # Alone in the queue take its head, so that candidates are worked off in their order.
        return (self._crowded and self._by_chance(calm, count)) or self._head(calm, count)

    def _by_chance(self, calm: dict[str, Any], count: int) -> list[UnitForm]:
        skip = self._rng.randrange(_FURTHER * count)
        how: dict[str, Any] = {"sort": _ORDER, "limit": _SPREAD * count, "skip": skip}
        ids = [document["_id"] for document in self._units.find(calm, {"_id": 1}, **how)]
        some = self._rng.sample(ids, min(count, len(ids)))
        return self._head({**calm, "_id": {"$in": some}}, count) if some else []

    def _a_lost_one(self, queued: dict[str, Any]) -> list[UnitForm]:
        return self._head({**queued, "losses": {"$gt": 0}}, 1)

    def _head(self, query: dict[str, Any], count: int) -> list[UnitForm]:
        return self._units.read(UnitForm, query, sort=_ORDER, limit=count)

    def _take(self, token: str, worker: str, units: Sequence[UnitForm]) -> Lease:
        # One that was lost meanwhile is not taken among others.
        among_others = _CALM if len(units) > 1 else {}
        self._units.update(
            {"_id": {"$in": [unit.id for unit in units]}, "state": "queued", **among_others},
            [
                {
                    "$set": {
                        "state": "running",
                        "worker": {"$literal": worker},
                        "host": {"$literal": this_process().host},
                        "claim": token,
                        "started": False,
                        "attempt": {"$add": ["$attempt", 1]},
                        "claimed_at": "$$NOW",
                        "lease_until": after(self._timing.unstarted),
                    }
                }
            ],
        )
        mine = {d["_id"]: d for d in self._units.find(_held(token), {"attempt": 1, "losses": 1})}
        taken = [unit for unit in units if unit.id in mine]
        return Lease(token, tuple(job_of(unit, **_counts(mine[unit.id])) for unit in taken))

    def start(self, token: str, ids: Sequence[str], seconds: float | None = None) -> frozenset[str]:
        """Record that `ids` begin now, before anything of the user's runs for them.

        Returns
        -------
        frozenset of str
            Those that are still ours, now with a lease of `seconds` (``timing.lease``).
        """
        lease = self._timing.lease if seconds is None else seconds
        wanted = {"_id": {"$in": list(ids)}, **_held(token)}
        started = self._units.update(
            # A start that is repeated, as its reply was lost, must not count a second run.
            {**wanted, "started": False},
            [
                {
                    "$set": {
                        "started": True,
                        "started_at": "$$NOW",
                        "runs": {"$add": ["$runs", 1]},
                        "lease_until": after(lease),
                    }
                }
            ],
        )
        if started == len(ids):
            return frozenset(ids)
        mine = self._units.find({**wanted, "started": True}, {"_id": 1})
        return frozenset(document["_id"] for document in mine)

    def renew(
        self, held: Mapping[str, Collection[str]], seconds: float | None = None
    ) -> frozenset[str]:
        """Beat: extend the leases of all started units of these claims.

        Parameters
        ----------
        held : mapping of str to collection of str
            Ids by token.
        seconds : float, optional
            From now; ``timing.lease`` if not given.

        Returns
        -------
        frozenset of str
            Those of `held` that are not ours any more.  A beat that comes after the lease
            has run out still saves it, if nobody has taken it back meanwhile.
        """
        if not held:
            return frozenset()
        lease = self._timing.lease if seconds is None else seconds
        ids = {unit_id for some in held.values() for unit_id in some}
        mine = {"claim": {"$in": list(held)}, "state": "running", "started": True}
        mine["_id"] = {"$in": list(ids)}  # a copy of one is none of ours
        if self._units.update(mine, [{"$set": {"lease_until": after(lease)}}]) == len(ids):
            return frozenset()
        return frozenset(ids - {document["_id"] for document in self._units.find(mine, {"_id": 1})})

    def release(self, token: str, ids: Sequence[str], *, begun: Collection[str] = ()) -> None:
        """Give back what is not finished; nobody is charged for it.

        Parameters
        ----------
        token : str
        ids : sequence of str
        begun : collection of str
            Those of `ids` for which something of the user's ran already.  Of the others a
            start is taken back, so that ``runs`` counts what was really run.
        """
        if not ids:
            return
        unwanted = {"$eq": [{"$size": "$wanted_by"}, 0]}
        never_ran = {"$and": ["$started", {"$not": [{"$in": ["$_id", {"$literal": [*begun]}]}]}]}
        self._units.update(
            {"_id": {"$in": list(ids)}, **_held(token), "wanted_by": {"$type": "array"}},
            [
                {
                    "$set": {
                        **NOBODY,
                        "runs": {"$subtract": ["$runs", {"$cond": [never_ran, 1, 0]}]},
                        "state": {"$cond": [unwanted, "cancelled", "queued"]},
                    }
                }
            ],
        )


def _queued(queues: Sequence[str] | None, search: str | Sequence[str] | None) -> dict[str, Any]:
    query = {"state": "queued", **SANE}
    if queues is not None:
        query["queue"] = {"$in": list(queues)}
    if search is not None:
        query["wanted_by"] = search if isinstance(search, str) else {"$in": list(search)}
    return query


def _counts(document: Mapping[str, Any]) -> dict[str, int]:
    return {name: document[name] for name in ("attempt", "losses")}


def _held(token: str) -> dict[str, Any]:
    return {"claim": token, "state": "running"}


# Complete and fail: what a worker hands in.
#
# The first good result wins, whoever brings it: a worker whose lease ran out has computed the
# same score as the next one.  A failure counts only from the one that holds the claim, so
# that a stale worker's trouble cannot hide a good run.


#: Runs of a unit that fails for want of memory and such, on whatever workers.
MACHINE_TRIES = 3


#: Exceptions of the machine, not of the estimator, by the names under which they are stored.
_MACHINE_TYPES = frozenset(
    f"builtins.{name}"
    for name, kind in vars(builtins).items()
    if isinstance(kind, type) and issubclass(kind, MemoryError | OSError | ImportError)
) | {"numpy._core._exceptions._ArrayMemoryError", "numpy.core._exceptions._ArrayMemoryError"}


def is_of_the_machine(failures: Collection[Failure]) -> bool:
    """Tell whether another machine might do better.

    What a call of joblib raises is for its caller alone, whatever it is.

    >>> is_of_the_machine([Failure("fit", "builtins.MemoryError", "", "")])
    True
    """
    return any(f.type in _MACHINE_TYPES and f.stage != "call" for f in failures)


#: What only a process that was told so raises: warnings as errors (``python -W error``), rounding
#: errors as errors (``numpy.errstate``).
#: And what is mended by who has the data: a part that was damaged in the store.
_SETTINGS = re.compile(
    r"Warning$|^builtins\.FloatingPointError$|^optomatic\.errors\.BundleDamaged$"
)


def is_of_its_moment(failures: Collection[Failure]) -> bool:
    """Tell whether a later run might do better, so that nobody is served with the failure.

    >>> is_of_its_moment([Failure("fit", "sklearn.exceptions.ConvergenceWarning", "", "")])
    True
    """
    return is_of_the_machine(failures) or any(_SETTINGS.search(f.type) for f in failures)


#: The same of stored documents, for queries.
ERRORS_OF_A_MOMENT: Mapping[str, Any] = {
    "error.failures.type": {"$in": [*sorted(_MACHINE_TYPES), _SETTINGS]}
}


def _ended(
    unit_id: str, worker: str, result: Result | Returned, error: dict[str, Any] | None = None
) -> dict[str, Any]:
    # All that comes from users goes through $literal: a pipeline evaluates "$5 missing".
    return {
        **NOBODY,
        "wanted_by": [],
        "result": {"$literal": result_document(unit_id, result, error)},
        "error": {"$literal": error},
        "completed_by": {"$literal": worker},
        "completed_on": {"$literal": this_process().host},
        "completed_at": "$$NOW",
    }


def _completion(
    unit_id: str, worker: str, result: Result | Returned
) -> tuple[dict[str, Any], list[Any]]:
    # The latch: from any state but completed, and never again.
    return (
        {"_id": unit_id, "state": {"$ne": "completed"}},
        [{"$set": {**_ended(unit_id, worker, result), "state": "completed"}}],
    )


def _failure(
    unit_id: str, token: str, worker: str, result: Result | Returned, tries: int
) -> tuple[dict[str, Any], list[Any]]:
    query = {"_id": unit_id, "claim": token, "state": "running"}
    error = error_document(result.failures)
    ended = {**_ended(unit_id, worker, result, error), "state": "failed"}
    if not is_of_the_machine(result.failures):
        return query, [{"$set": ended}]
    return query, [{"$set": {"machine_failures": _ONE_MORE}}, *_again_or(ended, tries)]


_ONE_MORE = {"$add": [{"$ifNull": ["$machine_failures", 0]}, 1]}


def _again_or(ended: dict[str, Any], tries: int) -> list[Any]:
    """Queue a unit for another worker, or, after so many tries, end it."""
    over = {"$gte": ["$machine_failures", tries]}
    unwanted = {"$eq": [{"$size": "$wanted_by"}, 0]}
    queued = {
        **dict.fromkeys(ended, None),
        **NOBODY,
        "error": ended["error"],
        "state": {"$cond": [unwanted, "cancelled", "queued"]},
    }
    # Fields that stay as they are where the unit is queued again.
    stay = {"wanted_by": "$wanted_by", "completed_by": None, "completed_at": None, "result": None}
    return [{"$set": {k: {"$cond": [over, v, stay.get(k, queued[k])]} for k, v in ended.items()}}]


class Finishing:
    """The calls by which a worker hands in what it has computed."""

    def __init__(self, units: Patient) -> None:
        self._units = units

    def complete(
        self,
        worker: str,
        token: str,
        results: Mapping[str, Result | Returned],
        *,
        tries: int = MACHINE_TRIES,
    ) -> frozenset[str]:
        """Store results; when this returns they are on the server's disk.

        Parameters
        ----------
        worker, token : str
            Who, under which claim.
        results : mapping of str to Result or Returned
            By unit id.  One with failures makes its unit ``failed``.  Parts of what calls
            returned are in the store already.
        tries : int
            After so many failures of the machine (no memory, no file, no module) a unit has
            failed; before that it is queued for another worker.

        Returns
        -------
        frozenset of str
            Units whose result was not taken, as another was there first or, for a failure,
            as the claim is not ours any more.
        """
        if not results:
            return frozenset()
        changes = [
            _failure(unit_id, token, worker, result, tries)
            if result.failures
            else _completion(unit_id, worker, result)
            for unit_id, result in results.items()
        ]
        if self._units.update_each(changes) == len(changes):
            return frozenset()
        return self._not_taken(worker, token, results)

    def _not_taken(
        self, worker: str, token: str, results: Mapping[str, Result | Returned]
    ) -> frozenset[str]:
        """Return what is not ours; what is ours was stored by a call whose reply was lost."""
        stored = self._units.find(
            {"_id": {"$in": list(results)}}, {"completed_by": 1, "state": 1, "claim": 1}
        )
        taken = {d["_id"] for d in stored if d["completed_by"] == worker}
        return frozenset(set(results) - taken)


# Reap, crash, cancel, retry: what becomes of units whose worker or search is gone.
#
# A lease that runs out after the start is charged to the unit: it may be what killed its
# worker.  After ``timing.max_losses`` of them it is ``dead``, and only an explicit retry
# reopens it.  Nothing else is ever charged.


_UNWANTED = {"$eq": [{"$size": "$wanted_by"}, 0]}
_HISTORY = 5


class Recovering:
    """The calls that take units back, by anybody.  Safe to share among threads."""

    def __init__(self, units: Patient, timing: Timing) -> None:
        self._units = units
        self._timing = timing

    def reap(self) -> int:
        """Take back the units whose leases have run out, by the server's clock.

        To be called only by a process in good standing: after an outage or a suspended
        machine all leases look over, though their workers live.

        Returns
        -------
        int
            How many.
        """
        return self._take_back(
            {"state": "running", **SANE, "$expr": {"$lt": ["$lease_until", "$$NOW"]}},
            "its lease ran out",
            None,
        )

    def reap_workers(self, workers: Sequence[str], why: str) -> int:
        """Take back at once what `workers` hold, whose processes are known to be gone."""
        if not workers:
            return 0
        return self._take_back(
            {"state": "running", **SANE, "worker": {"$in": list(workers)}}, why, None
        )

    def crash(self, token: str, unit_id: str, why: str, host: str) -> bool:
        """Take back one unit whose process died while its worker lives; tell whether it was ours.

        Parameters
        ----------
        why : str
            The signal or exit status.
        host : str
            Where.
        """
        query = {"_id": unit_id, "claim": token, "state": "running", **SANE}
        return bool(self._take_back(query, why, host))

    def _take_back(self, query: dict[str, Any], why: str, host: str | None) -> int:
        return self._units.update(query, self._loss(why, host))

    def _loss(self, why: str, host: str | None) -> list[dict[str, Any]]:
        where = {"$literal": storable(host)} if host else {"$ifNull": ["$host", "an unknown host"]}
        entry = {
            "attempt": "$attempt",
            "worker": "$worker",
            "host": where,
            "began": {"$cond": ["$started", {"$ifNull": ["$started_at", None]}, None]},
            "at": "$$NOW",
            "why": {"$literal": storable(why)},
        }
        lost_on = {"$slice": [{"$concatArrays": ["$lost_on", [where]]}, -_HISTORY]}
        state = {
            "$switch": {
                "branches": [
                    {"case": {"$gte": ["$losses", self._timing.max_losses]}, "then": "dead"},
                    {"case": _UNWANTED, "then": "cancelled"},
                ],
                "default": "queued",
            }
        }
        return [
            {
                "$set": {
                    "losses": {"$add": ["$losses", {"$cond": ["$started", 1, 0]}]},
                    "lost_on": {"$cond": ["$started", lost_on, "$lost_on"]},
                    "history": {"$slice": [{"$concatArrays": ["$history", [entry]]}, -_HISTORY]},
                }
            },
            {"$set": {**NOBODY, "state": state}},
            {"$set": {"wanted_by": {"$cond": [{"$eq": ["$state", "dead"]}, [], "$wanted_by"]}}},
        ]

    def cancel(self, search: str, ids: Sequence[str] | None = None) -> None:
        """Withdraw what only `search` waits for; of that only `ids`, if they are given.

        A worker that runs such a unit learns of it with its next beat.  A result that comes
        all the same is welcome.
        """
        unwanted = {"$cond": [_UNWANTED, None, "$claim"]}
        some = {} if ids is None else {"_id": {"$in": list(ids)}}
        self._units.update(
            {"wanted_by": search, "state": {"$in": ["queued", "running"]}, **some},
            [
                {"$set": {"wanted_by": {"$setDifference": ["$wanted_by", [{"$literal": search}]]}}},
                {
                    "$set": {
                        "state": {"$cond": [_UNWANTED, "cancelled", "$state"]},
                        "claim": unwanted,
                        "worker": {"$cond": [_UNWANTED, None, "$worker"]},
                        "started": {"$cond": [_UNWANTED, False, "$started"]},
                        "lease_until": {"$cond": [_UNWANTED, None, "$lease_until"]},
                    }
                },
            ],
        )

    def cancel_queued(self, search: str) -> None:
        """Withdraw what only `search` waits for and nobody works on, in one update."""
        self._units.update(
            {"wanted_by": search, "state": "queued"},
            [
                {"$set": {"wanted_by": {"$setDifference": ["$wanted_by", [{"$literal": search}]]}}},
                {"$set": {"state": {"$cond": [_UNWANTED, "cancelled", "$state"]}}},
            ],
        )

    def retry(self, ids: Sequence[str], search: str) -> int:
        """Queue units again that have failed or are dead, with a clean slate, for `search`."""
        return self._units.update(
            {"_id": {"$in": list(ids)}, "state": {"$in": ["failed", "dead"]}},
            {
                "$set": {
                    **NOBODY,
                    "state": "queued",
                    "losses": 0,
                    "machine_failures": 0,
                    "wanted_by": [search],
                    "result": None,
                    "completed_by": None,
                    "completed_on": None,
                    "completed_at": None,
                    "error": None,
                }
            },
        )
