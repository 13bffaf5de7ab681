"""Store -> worker: claims units, and cuts chunks of them for children."""

from __future__ import annotations

import json
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil

from optomatic.plan.packing import params
from optomatic.records import Job, Lease, Timing
from optomatic.store.jobs import Jobs
from optomatic.worker.pace import CHUNK_SECONDS, Pace

#: Seconds between looks at a queue in which there was nothing, growing; times 0.5 to 1.5.
POLL_SHORT, POLL_LONG = 0.02, 2.0
#: Seconds between looks while an alarm is set: it may have failed.
POLL_ALARMED = 60.0
#: Characters that a child's channel takes for certain while nobody reads it.
_SMALL = 32_000
#: What waits for more than this part of its short lease is given back.
_STALE = 0.7

Lanes = Callable[[], Sequence[str] | None]

#: The id of a search, or what returns the ids of several now, in groups: one is worked off
#: before the next; None for all.
Searches = str | Callable[[], Sequence[Sequence[str]]] | None


def any_lane() -> None:
    """Return that all lanes may be claimed: what serves a search of this process has no choice."""


@dataclass(frozen=True, slots=True)
class Held:
    """A claimed unit in the hands of this worker.

    ``at`` is when it was claimed by the worker's clock, ``work`` is equal for units that
    share a bundle and options, ``parts`` are the hashes of what is needed to score it.
    """

    job: Job
    token: str
    at: float
    work: str
    parts: tuple[str, ...]


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
        jobs: Jobs,
        worker: str,
        timing: Timing,
        pace: Pace,
        *,
        search: Searches,
        lanes: Lanes,
        clock: Callable[[], float] = time.monotonic,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._jobs = jobs
        self._worker = worker
        self._timing = timing
        self._pace = pace
        self._search = search
        self._lanes = lanes
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
        if looks and not self._jobs.anything_queued():
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
        lanes = self._lanes()
        for search in groups:
            lease = self._jobs.claim(self._worker, count, lanes=lanes, search=search, alone=alone)
            if lease.jobs:
                return lease
            if not alone and search != groups[-1] and self._jobs.any_lost(lanes, search):
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

    def refused(self, lane: str) -> None:
        """Count as idle since before `lane` was claimed, if nothing else is in hand."""
        if all(held.job.lane == lane for held in self.mine.values()):
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
