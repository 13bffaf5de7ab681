"""Score in the calling process: the executor of ``n_jobs=None``, and how its claims are sized.

A crash of this process ends it, so a unit is recorded as started before any user code runs for
it: the next worker knows which unit to be careful with.  A START costs a round trip, so short
units are started and handed in by the chunk, and while one chunk is scored another thread makes
the next one ready.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from optomatic import _sklearn
from optomatic.backoff import Backoff
from optomatic.planning.workload import Workload
from optomatic.records import NO_HOOKS, Hooks, Job, Lease, Result
from optomatic.results.failures import exception_of
from optomatic.store.connection import Store
from optomatic.store.workers import this_process
from optomatic.worker.batching import BATCH_SECONDS, BATCH_UNITS, BatchSizing
from optomatic.worker.disk_cache import cache_home, cache_size
from optomatic.worker.heartbeat import Heartbeat, registered
from optomatic.worker.prefix_files import prefix_files
from optomatic.worker.prefixes import Prefixes, prefixes_of
from optomatic.worker.score import failed, inner_threads, score_unit

#: Results are handed in after so many seconds at the latest.
HAND_IN_SECONDS = 0.5
#: Seconds between looks at a queue that has nothing to claim, growing.
PAUSE_SHORT, PAUSE_LONG = 0.2, 2.0
#: A process that scores by itself has no parent to beat for it, so its leases are longer.
LEASES_OF_ONE_PROCESS = 10
#: And it claims as much as a worker of so many children: what is opened costs a command a chunk.
_CLAIMS = 2

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
        began = time.monotonic()
        ours = self._store.claims.start(token, [job.id for job in jobs], self._lease)
        self.sizing.started(time.monotonic() - began)
        self._heartbeat.hold(token, ours)
        return ours

    def hand_in(self, owed: Mapping[str, Mapping[str, Result]]) -> None:
        """Store results, by token."""
        if not owed:
            return
        for token, results in owed.items():
            self._heartbeat.settle(token, results)
        self._store.claims.complete_all(self._heartbeat.worker, owed)
        for token, results in owed.items():
            self._heartbeat.drop(token, results)

    def give_back(self, token: str, ids: Collection[str], begun: Collection[str]) -> None:
        """Give units back uncharged, and renew nothing of their lease any more."""
        self._heartbeat.drop(token)
        if ids:
            self._store.claims.release(token, list(ids), begun=begun)

    def crash(self, token: str, unit_id: str, why: str) -> None:
        """Have a unit that ended its process counted as lost."""
        self._store.claims.crash(token, unit_id, why, this_process().host)

    def wait(self) -> None:
        """Sleep: others have the rest, and what they lose is claimed at a later look."""
        time.sleep(self._backoff.failed())


class Chunks:
    """The units of a search in started chunks, which are short, as measured on the way.

    A unit that is not measured yet, or has ended its worker before, goes alone.  With `ahead`, the
    store is asked in another thread while short units are scored: results are handed in, units are
    claimed, and the next chunk is started.
    """

    def __init__(self, loop: ClaimLoop, thread: ThreadPoolExecutor, *, ahead: bool) -> None:
        self._loop, self._thread, self._ahead = loop, thread, ahead
        #: Claimed and not started, all under one token.
        self._token, self._waiting = "", deque[Job]()
        #: What is claimed and not handed in, by token.
        self._held: dict[str, set[str]] = {}
        #: Results by token: those that stay for now, and those that the next call hands in.
        self._results: dict[str, dict[str, Result]] = {}
        self._owed: dict[str, dict[str, Result]] = {}
        self._owed_at = time.monotonic()
        #: Token and jobs of the chunk that is scored, and of the one that another thread prepares.
        self._chunk: tuple[str, list[Job]] = "", []
        self._coming: Future[tuple[str, list[Job]]] | None = None
        #: The last look for more found nothing, while nothing was in hand.
        self.idle = False
        # The unit that runs now, or ran last: an interrupted run counts as a run.
        self._begun: tuple[str, ...] = ()

    def settled(self) -> bool:
        """Return whether nothing is claimed; then all results are in the store."""
        if self._coming is not None or self._waiting:
            return False
        self._owe()
        self._hand_in()
        return True

    def next(self) -> list[Job]:
        """Return the jobs of the next chunk, which are started; none if nothing is queued.

        Then all results are in the store, and the search may be over.
        """
        looked_ahead = self._coming is not None
        self._chunk = ("", []) if self._coming is None else self._coming.result()
        self._coming = None
        if not self._chunk[1]:
            self._owe_what_is_due()
            if looked_ahead:
                self._hand_in()
                return []
            self._chunk = self._prepare(alone=True)
            self.idle = not self._chunk[1]
        jobs = self._chunk[1]
        if self._ahead and jobs and not jobs[0].losses and self._loop.sizing.are_short():
            self._owe_what_is_due()
            self._coming = self._thread.submit(self._prepare, alone=False)
        return jobs

    def begin(self, job: Job) -> None:
        """Note that a job of the chunk begins."""
        self._begun = (job.id,)

    def done(self, job: Job, result: Result, seconds: float) -> None:
        """Note the result of a job of the chunk, which took so many seconds."""
        self._results.setdefault(self._chunk[0], {})[job.id] = result
        self._loop.sizing.measured(seconds)

    def close(self) -> None:
        """Hand in all results, and give back all else."""
        try:
            if self._coming is not None:
                self._coming.result()
        finally:
            self._owe()
            self._hand_in()
            for token, ids in self._held.items():
                self._loop.give_back(token, ids, self._begun)

    def _owe_what_is_due(self) -> None:
        """Owe the results that are old or many, and all of them before units are claimed."""
        old = time.monotonic() - self._owed_at > HAND_IN_SECONDS
        if old or not self._waiting or sum(map(len, self._results.values())) >= BATCH_UNITS:
            self._owe()

    def _owe(self) -> None:
        for token, results in self._results.items():
            self._owed.setdefault(token, {}).update(results)
        self._results, self._owed_at = {}, time.monotonic()

    # The thread that prepares a chunk runs the rest, and no two do at a time.

    def _hand_in(self) -> None:
        self._loop.hand_in(self._owed)
        # At once: a Ctrl-C from here on must not have the same results counted again.
        done, self._owed = self._owed, {}
        for token, results in done.items():
            self._held[token].difference_update(results)
            if not self._held[token]:
                del self._held[token]

    def _prepare(self, *, alone: bool) -> tuple[str, list[Job]]:
        """Hand in what is owed, and start a chunk; return its token and the jobs that are ours."""
        self._hand_in()
        while True:
            if not self._waiting:
                lease = self._loop.take(alone=alone)
                self._token, self._waiting = lease.token, deque(lease.jobs)
                if not lease.jobs:
                    return "", []
                self._held[self._token] = {job.id for job in lease.jobs}
            size = 1 if self._waiting[0].losses else self._loop.sizing.chunk()
            chunk = [self._waiting.popleft() for _ in range(min(size, len(self._waiting)))]
            ours = self._loop.start(self._token, chunk)
            self._held[self._token].difference_update({job.id for job in chunk} - ours)
            if jobs := [job for job in chunk if job.id in ours]:
                return self._token, jobs


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
        self._prefixes: Prefixes | None = None
        self.error: BaseException | None = None
        self.scored: set[str] = set()
        self.sizes: dict[str, int] = {}

    def work(
        self, store: Store, search: str, until: Callable[[], bool], hooks: Hooks = NO_HOOKS
    ) -> None:
        """Score until nothing is left to claim and ``until()``, or until ``error``."""
        lease = store.timing.lease * LEASES_OF_ONE_PROCESS
        if self._workload.options.get("prefixes"):
            files = prefix_files(cache_home(), cache_size())
            self._prefixes = prefixes_of(self._workload.options, files)

        def stop() -> bool:
            return self.error is not None or hooks.grace() is not None

        with (
            inner_threads(self._workload.options),
            registered(store, search, processes=1, lease=lease) as heartbeat,
            ThreadPoolExecutor(1, "optomatic-queue") as thread,
        ):
            seconds = _CLAIMS * BATCH_SECONDS
            loop = ClaimLoop(store, heartbeat, search, self._place, seconds=seconds, lease=lease)
            # A search that looks between its units has to find in the store what has ended.
            chunks = Chunks(loop, thread, ahead=hooks is NO_HOOKS)
            try:
                while not stop():
                    if chunks.settled():
                        hooks.turn()
                        if stop():
                            return
                    jobs = chunks.next()
                    if jobs:
                        self._score_chunk(chunks, jobs, stop)
                    elif until():
                        return
                    elif chunks.idle:
                        loop.wait()
            finally:
                chunks.close()

    def _score_chunk(self, chunks: Chunks, jobs: Sequence[Job], stop: Callable[[], bool]) -> None:
        for job in jobs:
            if stop():
                return
            began = time.monotonic()
            chunks.begin(job)
            chunks.done(job, self.score(job.id), time.monotonic() - began)

    def score(self, unit_id: str) -> Result:
        """Score one unit; an error that GridSearchCV would raise is in ``error`` then."""
        params, split = self._place(unit_id)
        more = {} if self._prefixes is None else {"prefixes": self._prefixes}
        try:
            result, error = score_unit(
                self._workload,
                params,
                split,
                error_score=self._error_score,
                verbose=self._verbose,
                progress=self._progress(unit_id),
                **more,
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
