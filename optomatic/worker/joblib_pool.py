"""Score the units of a fit through the active backend of joblib.

Under ``parallel_config(backend="dask")`` (ray, loky, threading, ...) the fit claims its units
itself and sends them there in batches.  Reuse and interruption stay as they are: this process
is the worker that claims, beats and hands in, and joblib's workers know of no store.

::

    store --claim, start--> batch --joblib--> results --complete--> store

A batch is about half a second of measured work.  joblib asks for the next one, in a thread of
its own, when a worker of its is free.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from typing import Any, NamedTuple

from joblib import Parallel, delayed
from joblib.parallel import get_active_backend

from optomatic import _config
from optomatic.errors import OtherCode
from optomatic.planning import params
from optomatic.planning.payload import Loaded, Sender
from optomatic.planning.workload import FitWorkload, workload_of
from optomatic.records import NO_HOOKS, Hooks, Lease, Result
from optomatic.store.connection import Store
from optomatic.worker.heartbeat import registered
from optomatic.worker.inprocess import ClaimLoop, Place
from optomatic.worker.loading import Refused, open_payload
from optomatic.worker.score import inner_threads, score_safely

Told = Callable[[Collection[str]], None]


#: Measured work in a batch, in seconds.
BATCH_SECONDS = 0.5
#: So many payloads stay loaded in a process.
_PAYLOADS = 64
#: Errors of loky, dask and ray when a worker died, by name, as they are not imported for that.
_DEATHS = frozenset(
    {"TerminatedWorkerError", "KilledWorker", "WorkerCrashedError", "OutOfMemoryError"}
)


def active_backend() -> Any:
    """Return the backend that the user chose for joblib, None where that is joblib's default.

    joblib makes its default anew each time it is asked; one that was chosen is always the same.
    """
    first, second = get_active_backend()[0], get_active_backend()[0]
    return first if first is second else None


def leaves_to_standalone(backend: Any, db: str | None) -> bool:
    """Return whether `backend` is our own, with its workers at the very store of the search."""
    if type(backend).__module__ != "optomatic.joblib_backend.backend":
        return False
    default = _config.setting(_config.DB)
    return (backend.db or default) == (db or default)


class Joblib:
    """Claims units, and has joblib's active backend score them.

    `sender` has the payload, which the backend takes to its workers in its own way.  `n_jobs`
    batches run at the same time.  `told` is called in the calling thread with the ids of units
    that were finished here.
    """

    standalone = False

    def __init__(
        self,
        workload: FitWorkload,
        sender: Sender,
        place: Place,
        n_jobs: int,
        backend: Any,
        told: Told = lambda _: None,
    ) -> None:
        self._workload, self._sender = workload, sender
        self._place, self._n_jobs = place, n_jobs
        # Those that cannot hand out results one by one get a round of batches at a time.
        self._streams = bool(getattr(backend, "supports_return_generator", False))
        self._told = told
        self.error: BaseException | None = None
        self.scored: set[str] = set()
        self.sizes: dict[str, int] = {}

    def work(
        self, store: Store, search: str, until: Callable[[], bool], hooks: Hooks = NO_HOOKS
    ) -> None:
        """Score until ``until()``; what is not finished at an interrupt is given back.

        A search that is to end early waits for the batches that are under way.
        """
        with registered(store, search, processes=self._n_jobs) as beat:
            self.sizes[beat.worker] = self._n_jobs
            loop = ClaimLoop(store, beat, search, self._place, seconds=BATCH_SECONDS)
            batches = _Batches(loop)
            while not until() and hooks.grace() is None:
                before = batches.claimed
                hooks.turn()
                self._try_round(batches, hooks)
                if batches.claimed == before:
                    loop.wait()

    def _try_round(self, batches: _Batches, hooks: Hooks) -> None:
        try:
            self._round(batches, hooks)
        except BaseException as error:
            batches.end_after(error)
            if isinstance(error, Refused):
                raise OtherCode(
                    "The workers of joblib's backend do not have what this process has: "
                    f"{error.why}. Nothing was scored with it; all finished scores are stored. "
                    "Restart those workers, or, if a file was edited since this process has "
                    "imported it, this process, and fit again."
                ) from error
            if not _a_worker_died(error):
                raise

    def _round(self, batches: _Batches, hooks: Hooks) -> None:
        """Score until there is nothing to claim (or, in rounds, what is claimed at once)."""
        as_they_come = "generator_unordered" if self._streams else "list"
        parallel = Parallel(
            self._n_jobs, batch_size=1, pre_dispatch="n_jobs", return_as=as_they_come
        )
        tasks: Iterator[Any] = (self._task(lease) for lease in batches)
        if not self._streams:
            tasks = itertools.islice(tasks, self._n_jobs)
        results = parallel(tasks)
        with closing(results) if self._streams else nullcontext():
            for token, ids, scored, seconds in results:
                batches.hand_in(token, dict(zip(ids, scored, strict=True)), seconds)
                self._told(ids)
                hooks.turn()
                if hooks.grace() is not None:
                    batches.claim_no_more()

    def _task(self, lease: Lease) -> Any:
        sender, jobs = self._sender, lease.jobs
        payload = str(sender.spec["payload"])
        more = sorted({sha for job in jobs for sha in params.parts_of(job.params_text)})
        payloads = {sha: sender.payload(sha) for sha in (payload, *more)}
        units = [(job.id, job.params_text, job.split) for job in jobs]
        batch = _Batch(lease.token, units, payload, more, self._workload.options, os.getpid())
        # Data as arguments of their own: engines send those once, or share their memory.
        return delayed(_score_batch)(batch, payloads, sender.large(), self._workload.splits)


class _Batches:
    """An iterator of started leases, and all that is to be done about them.

    joblib iterates in whatever thread has heard of a finished batch.
    """

    def __init__(self, loop: ClaimLoop) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._started: dict[str, frozenset[str]] = {}
        self._alone = False
        self._round = 0
        self.claimed = 0

    def __iter__(self) -> Iterator[Lease]:
        number = self._round
        while (lease := self._next(number)) is not None:
            yield lease

    def _next(self, number: int) -> Lease | None:
        with self._lock:
            # A round that was ended claims nothing more; beside what runs alone nothing runs.
            if number != self._round or (self._alone and self._started):
                return None
            lease = self._loop.take(alone=not self._started)
            if not lease.jobs:
                return None
            ours = self._loop.start(lease.token, lease.jobs)
            self._started[lease.token] = ours
            self._alone = any(job.losses for job in lease.jobs)
            self.claimed += len(ours)
            return Lease(lease.token, tuple(job for job in lease.jobs if job.id in ours))

    def hand_in(self, token: str, results: Mapping[str, Result], seconds: float) -> None:
        """Store the results of a batch that took `seconds`."""
        with self._lock:
            self._started.pop(token, None)
        if results:
            self._loop.hand_in({token: results})
            self._loop.sizing.measured(seconds / len(results))

    def claim_no_more(self) -> None:
        """End the round with what is started."""
        with self._lock:
            self._round += 1

    def end_after(self, error: BaseException) -> None:
        """Count what is started as lost if a worker died, else give it back."""
        with self._lock:
            self._round += 1
            started, self._started = self._started, {}
        for token, ids in started.items():
            if _a_worker_died(error):
                # Which of them it was is not known: each then runs alone.
                for unit_id in ids:
                    self._loop.crash(token, unit_id, type(error).__name__)
                ids = frozenset()
            self._loop.give_back(token, ids, begun=ids)


def _a_worker_died(error: BaseException) -> bool:
    return any(kind.__name__ in _DEATHS for kind in type(error).__mro__)


class _Batch(NamedTuple):
    """Units on their way to a worker of joblib, and the names of what they need."""

    token: str
    units: Sequence[tuple[str, str, int]]  #: id, text of the params, split
    payload: str
    more: Sequence[str]
    options: Mapping[str, Any]
    pid: int


def _score_batch(
    batch: _Batch, payloads: Mapping[str, bytes], large: Mapping[Any, Any], splits: Any
) -> tuple[str, list[str], list[Result], float]:
    """Score units where joblib says; what the user's code raises is in the results."""
    began = time.perf_counter()
    loaded = _opened(batch.payload, payloads, large)
    more = {sha: _opened(sha, payloads, large, loaded) for sha in batch.more}
    workload = workload_of(loaded.roles, splits, batch.options)

    def named(name: str) -> object:
        sha, _, number = name.rpartition(":")
        return (more[sha] if sha else loaded).values[int(number)]

    # Where joblib's workers are threads of the client, imports find its modules.
    imports = nullcontext() if os.getpid() == batch.pid else loaded.installed()
    with inner_threads(batch.options), imports:
        results = [
            score_safely(workload, params.decode(text, named), split)
            for _, text, split in batch.units
        ]
    ids = [unit_id for unit_id, _, _ in batch.units]
    return batch.token, ids, results, time.perf_counter() - began


#: Payloads that were loaded in this process, by hash.
_loaded: OrderedDict[str, Loaded] = OrderedDict()
_loading = threading.Lock()


def _opened(
    sha: str, payloads: Mapping[str, bytes], large: Mapping[Any, Any], first: Loaded | None = None
) -> Loaded:
    with _loading:
        if sha not in _loaded:
            _loaded[sha] = open_payload(payloads[sha], large.__getitem__, first)
            while len(_loaded) > _PAYLOADS:
                _loaded.popitem(last=False)
        return _loaded[sha]
