"""What a search does between its units, in the thread that has them scored."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from optomatic.records import Job, Lease, Result
from optomatic.store.jobs import Jobs
from optomatic.worker.heartbeat import Heartbeat


class Hooks(Protocol):
    """The other side of an executor: it looks what is finished, queues more, and ends early.

    Both are called in the thread that called the executor's ``work``, often.  What they raise
    ends the work: results are handed in, the rest is given back.
    """

    def turn(self) -> bool:
        """Look what has ended, and queue what follows from it; tell whether anything was queued.

        Called when all that was finished here is in the store: after each lease or hand-in,
        and a few times a second while nothing happens.
        """

    def grace(self) -> float | None:
        """Return None, or, once the search is to end early, for how long units may go on.

        In seconds.  Must cost next to nothing: it is asked between any two units.
        """


class NoHooks:
    """A search whose units are all queued before the work begins."""

    def turn(self) -> bool:
        """Nothing follows."""
        return False

    def grace(self) -> float | None:
        """It goes on."""
        return None


NO_HOOKS = NoHooks()


# Claim -> start -> score -> complete, in this process: what ``n_jobs=None`` does.
#
# A crash of this process ends it, so a unit is recorded as started before anything of the
# user's runs for it: whoever comes next knows which unit to be careful with.  Starting costs a
# round trip, so units that take little are started and handed in by the chunk.


#: Units are claimed for about so many seconds of work, and never more than so many.
BATCH_SECONDS, BATCH_UNITS = 1.0, 64
#: So much work, in seconds, is started at once, and handed in at the latest after.
CHUNK_SECONDS, HAND_IN_SECONDS = 0.05, 0.5
#: Seconds between looks at a queue that has nothing to claim, growing.
PAUSE_SHORT, PAUSE_LONG = 0.2, 2.0


class Loop:
    """Scores the queued units of one search in the calling thread.

    Parameters
    ----------
    jobs : Jobs
    worker : str
        Id under which units are claimed.
    search : str
        Only units that this search waits for are taken.
    score : callable
        Job -> Result.  Raises nothing of the user's but what should end the search
        (KeyboardInterrupt, SystemExit).
    heart : Heartbeat
        Renews what is held while `score` runs, and takes back what others lost.
    mine : callable
        Unit id -> whether the search has asked for it.
    lease : float
        Seconds for which a started unit is ours without a beat.
    clock, sleep, rng
        For tests.
    """

    def __init__(
        self,
        jobs: Jobs,
        worker: str,
        search: str,
        score: Callable[[Job], Result],
        heart: Heartbeat,
        *,
        mine: Callable[[str], bool],
        lease: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._jobs = jobs
        self._worker = worker
        self._search = search
        self._score = score
        self._heart = heart
        self._mine = mine
        self._lease = lease
        self._clock = clock
        self._sleep = sleep
        self._rng = rng
        self._seconds_a_unit: float | None = None
        # What runs now, or ran last: a run that was interrupted has been one all the same.
        self._begun: tuple[str, ...] = ()
        self.scored = 0

    def run(
        self,
        until: Callable[[], bool],
        stop: Callable[[], bool],
        turn: Callable[[], bool] = lambda: False,
    ) -> None:
        """Work until nothing is left to claim and ``until()``, or until ``stop()``.

        ``turn()`` is called whenever nothing is in hand; it may queue more.

        While other workers hold the rest it looks again every 0.2 to 2 s: what they
        lose is claimed here.
        """
        pause = PAUSE_SHORT
        while not stop():
            turn()
            if stop():
                return
            lease = claim(self._jobs, self._worker, self._batch(), self._search, self._mine)
            if lease.jobs:
                self._work_off(lease, stop)
                pause = PAUSE_SHORT
            elif until():
                return
            else:
                self._sleep(pause * (0.5 + self._rng()))
                pause = min(2 * pause, PAUSE_LONG)

    def _batch(self) -> int:
        if self._seconds_a_unit is None:
            return 1
        return max(1, min(BATCH_UNITS, int(BATCH_SECONDS / self._seconds_a_unit)))

    def _work_off(self, lease: Lease, stop: Callable[[], bool]) -> None:
        """Score the jobs of `lease`; whatever happens, hand in results and give back the rest."""
        results: dict[str, Result] = {}
        touched: set[str] = set()
        handed_in = self._clock()
        try:
            for chunk in self._chunks(lease.jobs):
                touched.update(self._score_chunk(lease.token, chunk, results, stop))
                if self._clock() - handed_in > HAND_IN_SECONDS:
                    self._hand_in(lease.token, results)
                    handed_in = self._clock()
                if stop():
                    break
        finally:
            self._hand_in(lease.token, results)
            self._heart.drop(lease.token)
            rest = [job.id for job in lease.jobs if job.id not in touched]
            if rest:
                self._jobs.release(lease.token, rest, begun=self._begun)

    def _chunks(self, jobs: Sequence[Job]) -> Iterator[Sequence[Job]]:
        """Cut `jobs` into what is started at once.  The size may change on the way."""
        done = 0
        while done < len(jobs):
            size = 1
            if self._seconds_a_unit is not None and jobs[done].losses == 0:
                size = max(1, int(CHUNK_SECONDS / self._seconds_a_unit))
            yield jobs[done : done + size]
            done += size

    def _score_chunk(
        self,
        token: str,
        chunk: Sequence[Job],
        results: dict[str, Result],
        stop: Callable[[], bool],
    ) -> set[str]:
        """Score what of `chunk` is still ours; return the ids that are dealt with."""
        ours = self._jobs.start(token, [job.id for job in chunk], self._lease)
        self._heart.hold(token, ours)
        touched = {job.id for job in chunk} - ours
        for job in chunk:
            if job.id in ours and not stop():
                began = self._clock()
                self._begun = (job.id,)
                results[job.id] = self._score(job)
                touched.add(job.id)
                self._measure(self._clock() - began)
        return touched

    def _measure(self, seconds: float) -> None:
        """Follow what a unit takes: up at once, down slowly, so that chunks stay short."""
        seconds = max(seconds, 1e-6)
        known = self._seconds_a_unit
        follows = known is not None and seconds < known
        self._seconds_a_unit = 0.8 * known + 0.2 * seconds if follows and known else seconds

    def _hand_in(self, token: str, results: dict[str, Result]) -> None:
        if results:
            self._heart.settle(results)
            self._jobs.complete(self._worker, token, results)
            self._heart.drop(token, results)
            self.scored += len(results)
            results.clear()


def claim(
    jobs: Jobs,
    worker: str,
    count: int,
    search: str,
    mine: Callable[[str], bool],
    *,
    alone: bool = True,
) -> Lease:
    """Claim units that `search` has asked for; others that wait for it do so no more.

    Who scores with objects of its own cannot score what it knows nothing of.
    """
    lease = jobs.claim(worker, count, search=search, alone=alone)
    strange = [job.id for job in lease.jobs if not mine(job.id)]
    if strange:
        jobs.release(lease.token, strange)
        jobs.cancel(search, strange)
    return Lease(lease.token, tuple(job for job in lease.jobs if mine(job.id)))
