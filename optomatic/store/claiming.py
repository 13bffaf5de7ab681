"""Claim, start, renew, release: how a unit gets into a worker's hands and stays there.

Each write carries the claim's token, a random 128-bit number made before it is sent.  So a
call whose reply was lost is settled by reading what the token holds, and a worker that
was thought dead changes nothing that is not its own any more.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from optomatic.records import SCHEMA, Lease, Timing
from optomatic.store.documents import NOBODY, job_of
from optomatic.store.forms import UnitForm
from optomatic.store.patient import Patient
from optomatic.store.workers import this_process

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
        lanes: Sequence[str] | None = None,
        search: str | Sequence[str] | None = None,
        alone: bool = True,
    ) -> Lease:
        """Take up to `count` queued units.

        Parameters
        ----------
        worker : str
        count : int
        lanes : sequence of str, optional
            Only units of these lanes.
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
        queued = _queued(lanes, search)
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

    def any_lost(self, lanes: Sequence[str] | None, search: str | Sequence[str] | None) -> bool:
        """Tell whether a unit is queued, for these, that was lost before, and has to run alone."""
        return bool(self._a_lost_one(_queued(lanes, search)))

    def anything_queued(self) -> bool:
        """Tell whether anything is queued at all, for anybody: one cheap look."""
        query = {"state": "queued", "lane": {"$gte": ""}}  # any lane: so that an index serves
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


def _queued(lanes: Sequence[str] | None, search: str | Sequence[str] | None) -> dict[str, Any]:
    query = {"state": "queued", **SANE}
    if lanes is not None:
        query["lane"] = {"$in": list(lanes)}
    if search is not None:
        query["wanted_by"] = search if isinstance(search, str) else {"$in": list(search)}
    return query


def _counts(document: Mapping[str, Any]) -> dict[str, int]:
    return {name: document[name] for name in ("attempt", "losses")}


def _held(token: str) -> dict[str, Any]:
    return {"claim": token, "state": "running"}
