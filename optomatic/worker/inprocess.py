"""Score in the calling process: the executor of ``n_jobs=None``, and how its claims are sized.

A crash of this process ends it, so a unit is recorded as started before any user code runs for
it: the next worker knows which unit to be careful with.  A START costs a round trip, so short
units are started and handed in by the chunk.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from optomatic import _sklearn
from optomatic.backoff import Backoff
from optomatic.planning.workload import Workload
from optomatic.records import NO_HOOKS, Hooks, Job, Lease, Result
from optomatic.results.failures import exception_of
from optomatic.store.connection import Store
from optomatic.store.workers import this_process
from optomatic.worker.batching import BATCH_SECONDS, BatchSizing
from optomatic.worker.heartbeat import Heartbeat, registered
from optomatic.worker.score import failed, inner_threads, score_unit

#: Results are handed in after so many seconds at the latest.
HAND_IN_SECONDS = 0.5
#: Seconds between looks at a queue that has nothing to claim, growing.
PAUSE_SHORT, PAUSE_LONG = 0.2, 2.0
#: A process that scores by itself has no parent to beat for it, so its leases are longer.
LEASES_OF_ONE_PROCESS = 10

#: Unit id -> params and split; raises KeyError for a unit of another search.
Place = Callable[[str], tuple[Mapping[str, Any], int]]
#: Unit id -> what scikit-learn tells of a unit that is scored in this process.
Progress = Callable[[str], Mapping[str, Any]]


class ClaimLoop:
    """Claim, start, hand in, measure and back off, for a process with the objects of one search.

    A claim takes `seconds` of measured work.  A started unit is ours for `lease` seconds without a
    beat, if not for those of the store.
    """

    def __init__(
        self,
        store: Store,
        heartbeat: Heartbeat,
        search: str,
        place: Place,
        *,
        seconds: float = BATCH_SECONDS,
        lease: float | None = None,
    ) -> None:
        self._store, self._heartbeat = store, heartbeat
        self._search, self._place, self._lease = search, place, lease
        self.sizing = BatchSizing(seconds)
        self._backoff = Backoff(PAUSE_SHORT, PAUSE_LONG)

    def take(self, *, alone: bool = True) -> Lease:
        """Claim a batch; units that this search did not ask for do not wait for it any more.

        A process that scores with objects of its own cannot score units that it does not know.
        """
        self._heartbeat.check()
        worker, count = self._heartbeat.worker, self.sizing.batch()
        lease = self._store.claims.claim(worker, count, search=self._search, alone=alone)
        mine, strange = [], []
        for job in lease.jobs:
            try:
                self._place(job.id)
                mine.append(job)
            except KeyError:
                strange.append(job.id)
        if strange:
            self._store.claims.release(lease.token, strange)
            self._store.jobs.cancel(self._search, strange)
        if mine:
            self._backoff.succeeded()
        return Lease(lease.token, tuple(mine))

    def start(self, token: str, jobs: Sequence[Job]) -> frozenset[str]:
        """START `jobs`; return the ids that are still ours, which are renewed from now on."""
        ours = self._store.claims.start(token, [job.id for job in jobs], self._lease)
        self._heartbeat.hold(token, ours)
        return ours

    def hand_in(self, token: str, results: Mapping[str, Result]) -> None:
        """Store results."""
        if results:
            self._heartbeat.settle(token, results)
            self._store.claims.complete(self._heartbeat.worker, token, results)
            self._heartbeat.drop(token, results)

    def give_back(self, token: str, ids: Collection[str], begun: Collection[str]) -> None:
        """Give units back uncharged, and renew nothing of their lease any more."""
        self._heartbeat.drop(token)
        if ids:
            self._store.claims.release(token, list(ids), begun=begun)

    def crash(self, token: str, unit_id: str, why: str) -> None:
        """Have a unit that ended its process counted as lost."""
        self._store.claims.crash(token, unit_id, why, this_process().host)

    def chunks(self, jobs: Sequence[Job]) -> Iterator[Sequence[Job]]:
        """Yield chunks to start at once: 50 ms of work, measured on the way.

        A unit that is not measured yet, or has ended its worker before, goes alone.
        """
        done = 0
        while done < len(jobs):
            size = 1 if jobs[done].losses else self.sizing.chunk()
            yield jobs[done : done + size]
            done += size

    def wait(self) -> None:
        """Sleep: others have the rest, and what they lose is claimed at a later look."""
        time.sleep(self._backoff.failed())


class InProcess:
    """Scores in the calling thread from the client's own objects; unpickles nothing.

    An error of a unit that ends the search (``error_score="raise"``) is in ``error`` then.
    """

    standalone = False

    def __init__(
        self,
        workload: Workload,
        place: Place,
        error_score: Any,
        verbose: int = 0,
        progress: Progress = lambda _: {},
    ) -> None:
        self._workload, self._place = workload, place
        self._raises = isinstance(error_score, str)
        self._error_score = float("nan") if self._raises else error_score
        self._verbose, self._progress = verbose, progress
        self.error: BaseException | None = None
        self.scored: set[str] = set()
        self.sizes: dict[str, int] = {}

    def work(
        self, store: Store, search: str, until: Callable[[], bool], hooks: Hooks = NO_HOOKS
    ) -> None:
        """Score until nothing is left to claim and ``until()``, or until ``error``."""
        lease = store.timing.lease * LEASES_OF_ONE_PROCESS

        def stop() -> bool:
            return self.error is not None or hooks.grace() is not None

        with (
            inner_threads(self._workload.options),
            registered(store, search, processes=1, lease=lease) as heartbeat,
        ):
            loop = ClaimLoop(store, heartbeat, search, self._place, lease=lease)
            while not stop():
                hooks.turn()
                if stop():
                    return
                taken = loop.take()
                if taken.jobs:
                    self._work_off(loop, taken, stop)
                elif until():
                    return
                else:
                    loop.wait()

    def _work_off(self, loop: ClaimLoop, lease: Lease, stop: Callable[[], bool]) -> None:
        """Score what is claimed; whatever happens, hand in results and give back the rest."""
        results: dict[str, Result] = {}
        rest = {job.id for job in lease.jobs}
        # The unit that runs now, or ran last: an interrupted run counts as a run.
        begun = ""
        handed_in = time.monotonic()
        try:
            for chunk in loop.chunks(lease.jobs):
                ours = loop.start(lease.token, chunk)
                rest.difference_update({job.id for job in chunk} - ours)
                for job in chunk:
                    if job.id in ours and not stop():
                        began, begun = time.monotonic(), job.id
                        results[job.id] = self.score(job.id)
                        rest.discard(job.id)
                        loop.sizing.measured(time.monotonic() - began)
                if time.monotonic() - handed_in > HAND_IN_SECONDS:
                    loop.hand_in(lease.token, results)
                    results, handed_in = {}, time.monotonic()
                if stop():
                    break
        finally:
            loop.hand_in(lease.token, results)
            loop.give_back(lease.token, rest, (begun,) if begun else ())

    def score(self, unit_id: str) -> Result:
        """Score one unit; an error that GridSearchCV would raise is in ``error`` then."""
        params, split = self._place(unit_id)
        try:
            result, error = score_unit(
                self._workload,
                params,
                split,
                error_score=self._error_score,
                verbose=self._verbose,
                progress=self._progress(unit_id),
            )
        except Exception as raised:
            _let_pass_if_of_a_callback(raised)
            self.error = raised
            return failed(_sklearn.failure_of(raised, "raise"))
        if error is not None:
            _let_pass_if_of_a_callback(error)
        self.scored.add(unit_id)
        if result.failures and self._raises:
            self.error = error or exception_of(result.failures[0])
        return result


def _let_pass_if_of_a_callback(error: BaseException) -> None:
    """Raise an error of a callback: it ends the search, and is no failure of the unit."""
    if _sklearn.raised_by_callback(error):
        raise error
