"""What a worker has reserved: claimed, running, acknowledged, or revoked."""

from __future__ import annotations

import json
import logging
import queue
import random
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Sequence
from math import ceil

from optomatic.errors import StoreError
from optomatic.planning import params
from optomatic.records import Failure, Held, Job, Lease, Result, Returned, Timing
from optomatic.store.claims import Claims
from optomatic.store.parts import Parts
from optomatic.store.searches import search_of
from optomatic.store.workers import Workers
from optomatic.worker.batching import CHUNK_SECONDS, Pace
from optomatic.worker.heartbeat import Heartbeat
from optomatic.worker.pool import Child
from optomatic.worker.protocol import KINDS

#: Seconds between looks at a queue in which there was nothing, growing; times 0.5 to 1.5.
POLL_SHORT, POLL_LONG = 0.02, 2.0
#: Seconds between looks while an alarm is set: it may have failed.
POLL_ALARMED = 60.0
#: Characters that a child's channel takes for certain while nobody reads it.
_SMALL = 32_000
#: What waits for more than this part of its short lease is given back.
_STALE = 0.7


Queues = Callable[[], Sequence[str] | None]


#: The id of a search, or what returns the ids of several now, in groups: one is worked off
#: before the next; None for all.
Searches = str | Callable[[], Sequence[Sequence[str]]] | None


def any_queue() -> None:
    """Return that all queues may be claimed: what serves a search of this process has no choice."""


class Intake:
    """What this worker has claimed: first it waits here, then it is in a child's queue.

    Attributes
    ----------
    mine : dict of str to Held
        All that is claimed and neither handed in nor given back, by unit id.
    waiting : deque of Held
        What of it is not started.
    idle_since : float or None
        Since when, by the worker's clock, there was nothing to claim while nothing ran.
    longest : float
        Seconds between looks at a queue in which there is nothing, in the end.
    others_wait : bool
        At the last look something was queued, and this worker could claim none of it.
    """

    def __init__(
        self,
        claims: Claims,
        worker: str,
        timing: Timing,
        pace: Pace,
        *,
        search: Searches,
        queues: Queues,
        clock: Callable[[], float] = time.monotonic,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._claims = claims
        self._worker = worker
        self._timing = timing
        self._pace = pace
        self._search = search
        self._queues = queues
        self._clock = clock
        self._rng = rng
        self._claim_at = clock()
        self._pause = POLL_SHORT
        self._rung = False
        self.mine: dict[str, Held] = {}
        self.waiting: deque[Held] = deque()
        self.idle_since: float | None = None
        self._idle_before: float | None = None
        self.longest = POLL_LONG
        self.others_wait = False

    def claim(self, children: int, hungry: int, *, busy: bool, most: int | None = None) -> bool:
        """Claim a batch, unless the last look at an empty queue was a moment ago.

        Parameters
        ----------
        children, hungry : int
            How many there are, and how many of them could begin now.
        busy : bool
            Something is started, so nothing that has to run alone is claimed.
        most : int, optional
            Of units.

        Returns
        -------
        bool
            Whether the store was asked.
        """
        now = self._clock()
        if now < self._claim_at:
            return False
        looks = self.idle_since is not None and not self._rung
        self._rung = False
        self.others_wait = False
        if looks and not self._claims.anything_queued():
            self._wait_longer(busy)
            return True
        batch = self._pace.batch(children, hungry)
        lease = self._lease(batch if most is None else min(batch, most), alone=not busy)
        for job in lease.jobs:
            self.mine[job.id] = held = _held(job, lease.token, now)
            self.waiting.append(held)
        if lease.jobs:
            self._idle_before = self.idle_since or self._idle_before
            self._pause, self.idle_since = POLL_SHORT, None
        else:
            self.others_wait = looks
            self._wait_longer(busy)
        return True

    def _lease(self, count: int, *, alone: bool) -> Lease:
        """Claim from the first group of searches that has something for this worker."""
        groups = self._search() if callable(self._search) else [self._search]
        queues = self._queues()
        for search in groups:
            lease = self._claims.claim(
                self._worker, count, queues=queues, search=search, alone=alone
            )
            if lease.jobs:
                return lease
            if not alone and search != groups[-1] and self._claims.any_lost(queues, search):
                break  # it runs alone, and before what comes after its search
        return Lease("", ())

    def _wait_longer(self, busy: bool) -> None:
        now = self._clock()
        self._claim_at = now + self._pause * (0.5 + self._rng())
        # Also after a ring some looks come soon: what it was for may take a moment to be seen.
        self._pause = 2 * self._pause if 2 * self._pause < POLL_LONG else self.longest
        if not busy and self.idle_since is None:
            self.idle_since = now

    def hurry(self) -> None:
        """Look at the queue at once: something may have been queued."""
        self._claim_at, self._pause, self._rung = self._clock(), 4 * POLL_SHORT, True

    def worked(self) -> None:
        """Take note that something of what was claimed is done."""
        self._idle_before = None

    def refused(self, queue: str) -> None:
        """Count as idle since before `queue` was claimed, if nothing else is in hand."""
        if all(held.job.queue == queue for held in self.mine.values()):
            self.idle_since = self._idle_before

    def idle_for(self) -> float | None:
        """Return for how many seconds there has been nothing to do, None if there is something."""
        since = self.idle_since  # once, as others than the worker's own thread may ask
        return None if since is None else self._clock() - since

    def time_left(self) -> float:
        """Return the seconds until there is something to start or to claim."""
        return 0.0 if self.waiting else max(0.0, self._claim_at - self._clock())

    def settle(self, held: Held) -> None:
        """`held` is not in this worker's hands any more (or only in its outbox)."""
        self.mine.pop(held.job.id, None)
        # What becomes free looks again at once; with nothing in hand also for what runs alone.
        self._claim_at = self._clock()
        if not self.mine:
            self._pause = POLL_SHORT

    def stale(self) -> list[Held]:
        """Take out what has waited for so long that others may be about to claim it."""
        limit = self._clock() - _STALE * self._timing.unstarted
        stale = [held for held in self.waiting if held.at < limit]
        if stale:
            self.waiting = deque(held for held in self.waiting if held.at >= limit)
        return stale

    def deal(self, idle: Sequence[bool]) -> list[list[Held]]:
        """Take out a chunk (or nothing) for each child that wants one, all under one token.

        Parameters
        ----------
        idle : sequence of bool
            For each of these children, whether it has nothing to do.
        """
        share = ceil(len(self.waiting) / len(idle))
        token = self.waiting[0].token if self.waiting else ""
        return [self._cut(token, share, reads=nothing) for nothing in idle]

    def _cut(self, token: str, share: int, *, reads: bool) -> list[Held]:
        """Take out one chunk: at most `share` units, or 50 ms of them.

        What is not measured yet, or has ended a worker before, goes alone.  A busy child does
        not read, and is sent only as much as its channel holds.
        """
        chunk: list[Held] = []
        seconds, size = 0.0, 0
        while self.waiting and self.waiting[0].token == token and len(chunk) < share:
            held = self.waiting[0]
            takes = self._pace.of(held.work)
            alone = takes is None or held.job.losses > 0
            seconds += takes or 0.0
            size += len(held.job.params_text)
            if chunk and (alone or seconds > CHUNK_SECONDS or size > _SMALL):
                break
            if size > _SMALL and not reads:
                break
            chunk.append(self.waiting.popleft())
            if alone:
                break
        return chunk


def _held(job: Job, token: str, now: float) -> Held:
    parts = {sha for sha in job.spec.values() if sha is not None}
    if '"opaque"' in job.params_text:
        parts |= params.parts_of(job.params_text)
    work = json.dumps([dict(job.spec), dict(job.options)], sort_keys=True)
    return Held(job, token, now, work, tuple(sorted(parts)))


log = logging.getLogger(__name__)


#: Results are handed in when there are so many, or when the oldest is so many seconds old.
MANY, OLD = 64, 0.05


class Outbox:
    """Hands in results in bulk, and crashes and releases in order.

    What could not be handed in stays and is tried again at the next :meth:`flush`; the
    heart renews it until it is through.
    """

    def __init__(
        self,
        claims: Claims,
        bundles: Parts,
        workers: Workers,
        worker: str,
        host: str,
        heart: Heartbeat,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._claims = claims
        self._bundles = bundles
        self._workers = workers
        self._worker = worker
        self._host = host
        self._heart = heart
        self._clock = clock
        self._results: dict[str, dict[str, Result | Returned]] = {}
        self._count = 0
        self._oldest = 0.0
        self._urgent = False
        self._errands: deque[Callable[[], None]] = deque()

    def result(self, token: str, unit_id: str, result: Result | Returned) -> None:
        """Take the result of a unit or of a call."""
        if not self._count:
            self._oldest = self._clock()
        # Who made a call waits for it, maybe to make the next one.
        self._urgent = self._urgent or isinstance(result, Returned)
        self._results.setdefault(token, {})[unit_id] = result
        self._count += 1

    def crash(self, token: str, unit_id: str, why: str) -> None:
        """Take note that a unit ended the child that ran it."""

        def errand() -> None:
            self._claims.crash(token, unit_id, why, self._host)
            self._heart.drop(token, [unit_id])

        self._heart.settle([unit_id])
        self._errands.append(errand)

    def release(self, token: str, ids: Iterable[str], begun: Collection[str] = ()) -> None:
        """Take units that are given back uncharged; of `begun` something ran already."""
        ids = list(ids)

        def errand() -> None:
            self._claims.release(token, ids, begun=begun)
            self._heart.drop(token, ids)

        if ids:
            self._heart.settle(ids)
            self._errands.append(errand)

    def refusal(self, queue: str, why: str) -> None:
        """Take note that this worker leaves a queue alone."""
        self._errands.append(lambda: self._workers.refuses(self._worker, queue, why))

    def acceptance(self, queue: str) -> None:
        """Take note that this worker does so no more."""
        self._errands.append(lambda: self._workers.accepts(self._worker, queue))

    def empty(self) -> bool:
        """Tell whether the store has everything."""
        return not self._count and not self._errands

    def due_in(self) -> float | None:
        """Return the seconds until a flush is due, None if there is nothing to flush."""
        if self._errands or self._urgent or self._count >= MANY:
            return 0.0
        return max(0.0, self._oldest + OLD - self._clock()) if self._count else None

    def flush(self) -> None:
        """Hand in everything.

        Raises
        ------
        StoreError
            The store did not take it (or its answer was lost: all calls may be repeated).
        """
        while self._results:
            token, results = next(iter(self._results.items()))
            self._heart.settle(results)
            for result in results.values():
                if isinstance(result, Returned) and result.part is not None:
                    self._bundles.put(result.part)
            late = self._claims.complete(self._worker, token, results)
            if late:
                log.info("%d results were not taken: others were first", len(late))
            self._heart.drop(token, results)
            del self._results[token]
            self._count -= len(results)
        self._urgent = False
        while self._errands:
            self._errands[0]()
            self._errands.popleft()

    def try_flush(self) -> bool:
        """Hand in what the store takes; tell whether it took everything."""
        try:
            self.flush()
        except StoreError as error:
            log.warning("the store does not answer, %d results wait: %s", self._count, error)
            return False
        return True


#: A unit that was taken away may go on for so many seconds: most are over by then, and a
#: new child takes longer to start.
_MERCY = 0.25


class TakenAway:
    """Units in hand that are not ours any more, whoever has them now.

    Parameters
    ----------
    intake : Intake
        Knows what is in hand.
    wake : callable
        Has the loop look around, and call :meth:`stop`.
    clock : callable
        The worker's clock.
    """

    def __init__(
        self,
        intake: Intake,
        wake: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._intake = intake
        self._wake = wake
        self._clock = clock
        self._noted: queue.SimpleQueue[frozenset[str]] = queue.SimpleQueue()
        self._kill_at: dict[str, float] = {}

    def note(self, ids: frozenset[str]) -> None:
        """Take note of some, in any thread."""
        self._noted.put(ids)
        self._wake()

    def forget(self, unit_id: str) -> None:
        """It is not in hand any more, so nothing runs it."""
        self._kill_at.pop(unit_id, None)

    def stop(self, children: Iterable[Child]) -> None:
        """Kill those of `children` that run what was taken away, after a moment."""
        now = self._clock()
        while not self._noted.empty():
            mine = [i for i in self._noted.get() if i in self._intake.mine]
            self._kill_at.update(dict.fromkeys(mine, now + _MERCY))
        for child in children if self._kill_at else ():
            running = child.running.job.id if child.running else None
            if running in self._kill_at and self._kill_at[running] <= now:
                child.kill("its unit was taken away")
        # What is still queued behind another unit is looked at again a little later.
        self._kill_at = {i: at if at > now else now + _MERCY for i, at in self._kill_at.items()}

    def time_left(self) -> float | None:
        """Return the seconds until :meth:`stop` is due, None if there is nothing to stop."""
        return min((at - self._clock() for at in self._kill_at.values()), default=None)


#: Stands for calls of joblib where searches are counted: these have no search.
CALLS = "calls of joblib"


class Account:
    """Takes units out of this worker's hands, and owes the store what became of them.

    Parameters
    ----------
    intake : Intake
        Has what is in hand.
    outbox : Outbox
        Has what is owed.
    taken : TakenAway
    most : int, optional
        So many units may be scored.

    Attributes
    ----------
    scored, failed, crashed : int
        Units that came to a result, those of them with failures, and children that a unit ended.
        What a child refuses, and then ends, is none of these.
    by_search : Counter of str
        Units that came to a result, by the id of the search that waited for them, or `CALLS`.
    may_be_over : bool
        Whether all work may be over, though it was not when that was asked last: something
        was claimed or worked off since.
    """

    def __init__(
        self, intake: Intake, outbox: Outbox, taken: TakenAway, *, most: int | None = None
    ) -> None:
        self._intake = intake
        self._outbox = outbox
        self._taken = taken
        self._most = most
        self._arrived: list[str] = []
        self.scored = self.failed = self.crashed = 0
        self.by_search: Counter[str] = Counter()
        self.may_be_over = False

    def left(self) -> int | None:
        """Return how many units may still be claimed, None if there is no limit."""
        if self._most is None:
            return None
        return max(0, self._most - self.scored - len(self._intake.mine))

    def arrived(self) -> list[str]:
        """Return the units whose results arrived since the last call."""
        arrived, self._arrived = self._arrived, []
        return arrived

    def done(self, held: Held, result: Result | Returned) -> None:
        """Take the result of a unit."""
        self._outbox.result(held.token, held.job.id, result)
        self._arrived.append(held.job.id)
        self._intake.worked()
        self.scored += 1
        self.failed += bool(result.failures)
        self.by_search.update(_searches_of(held))
        self._settle(held)

    def fail(self, held: Held, failure: Failure) -> None:
        """Take note that a unit failed before it could come to any score: a result, too."""
        self.done(held, KINDS[held.job.kind].failed(failure))

    def crash(self, held: Held, how: str) -> None:
        """Take note that a unit ended the child that ran it, so it is charged."""
        self.crashed += 1
        self._outbox.crash(held.token, held.job.id, how)
        self._settle(held)

    def release(self, chunk: Iterable[Held], begun: Held | None = None) -> None:
        """Give back `chunk`, uncharged; of it only `begun` has run, for a while."""
        ran = () if begun is None else (begun.job.id,)
        by_token: dict[str, list[str]] = {}
        for held in list(chunk):
            by_token.setdefault(held.token, []).append(held.job.id)
            self._settle(held)
        for token, ids in by_token.items():
            self._outbox.release(token, ids, ran)

    def _settle(self, held: Held) -> None:
        self._intake.settle(held)
        self._taken.forget(held.job.id)
        self.may_be_over = not self._intake.mine


def _searches_of(held: Held) -> set[str]:
    return {CALLS} if KINDS[held.job.kind].awaited else set(map(search_of, held.job.searches))
