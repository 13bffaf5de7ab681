"""Executors: this process, local workers, joblib's backend, or standalone workers alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from typing import Any

from optomatic.planning.constraints import limits_in
from optomatic.planning.payload import Sender
from optomatic.planning.workload import FitWorkload
from optomatic.records import NO_HOOKS, Hooks
from optomatic.store.connection import Store
from optomatic.worker.disk_cache import Cache, cache_home, cache_size
from optomatic.worker.dispatch import WorkerOptions
from optomatic.worker.heartbeat import new_record, registered, tags_here
from optomatic.worker.inprocess import InProcess, Place, Progress
from optomatic.worker.joblib_pool import Joblib, active_backend, leaves_to_standalone
from optomatic.worker.pool import warm_pool
from optomatic.worker.score import filters_here
from optomatic.worker.worker import Worker

Told = Callable[[Collection[str]], None]


#: Seconds between looks at a search that others score: without a subscription, with one, at least.
_LOOK, _LOOK_SUBSCRIBED, _LOOK_PAUSE = 0.2, 2.0, 0.005


def executor_for(
    workers: int | None,
    *,
    bundle: FitWorkload,
    place: Place,
    error_score: Any,
    verbose: int,
    progress: Progress = lambda _: {},
    told: Told = lambda _: None,
    db: str | None = None,
    sender: Sender | None = None,
) -> Executor:
    """Return what scores the units of a fit.

    `workers` is None for this process, 0 for standalone workers only, k for k local workers.
    `told` is called in the calling thread with the ids of units that local workers finished;
    an exception from it ends the search.  `sender` has the payload for workers of joblib.

    Where the user chose a backend of joblib, that takes the place of local workers; our own
    means standalone workers, and if they serve the very store of the search, nothing else.
    Limits are held by ending the process that scores, which only our own workers can do.
    """
    if workers is None:
        return InProcess(bundle, place, error_score, verbose, progress)
    backend = active_backend()
    if not workers or (backend is not None and leaves_to_standalone(backend, db)):
        return Standalone()
    if backend is None or sender is None or limits_in(bundle.options):
        return LocalWorkers(workers, told)
    return Joblib(bundle, sender, place, workers, backend, told)


class _Elsewhere:
    """Has units scored by other processes."""

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self.scored: set[str] = set()
        self.sizes: dict[str, int] = {}


class LocalWorkers(_Elsewhere):
    """Scores in `workers` child processes, which stay warm for the next fit."""

    standalone = False

    def __init__(self, workers: int, told: Told = lambda _: None) -> None:
        super().__init__()
        self._workers, self._told = workers, told

    def work(
        self, store: Store, search: str, until: Callable[[], bool], hooks: Hooks = NO_HOOKS
    ) -> None:
        """Have local workers score what `search` waits for, until ``until()``."""
        with warm_pool(self._workers) as pool:
            record = new_record("local", self._workers, tags_here())
            self.sizes[record.id] = self._workers
            options = WorkerOptions(
                search=search, on_done=self._told, hooks=hooks, filters=filters_here()
            )
            cache = Cache(cache_home(), largest=cache_size())
            Worker(store, pool, cache, record, options).run(until)


class Standalone(_Elsewhere):
    """Scores nothing: waits for standalone workers, and keeps the queue going meanwhile."""

    standalone = True

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__()
        self._clock, self._sleep = clock, sleep

    def work(
        self, store: Store, search: str, until: Callable[[], bool], hooks: Hooks = NO_HOOKS
    ) -> None:
        """Wait until ``until()``."""
        end_at = float("inf")
        woken = threading.Event()
        with (
            registered(store, search, processes=0),
            store.notifier.ended(woken.set) as subscription,
        ):
            while not until() and self._clock() < end_at:
                hooks.turn()
                if end_at == float("inf") and (grace := hooks.grace()) is not None:
                    end_at = self._clock() + grace
                notified = subscription.active and hooks is NO_HOOKS
                self._wait(woken, _LOOK_SUBSCRIBED if notified else _LOOK)

    def _wait(self, woken: threading.Event, seconds: float) -> None:
        """Wait until `woken`, for `seconds` at most, and not so often that it costs."""
        woken.wait(seconds)
        woken.clear()
        self._sleep(_LOOK_PAUSE)


#: Has the units of a search scored.  ``work`` is called once per round, in the caller's thread.  It
#: returns when ``until()``, or when ``error`` is an exception that the search ends with.  On
#: KeyboardInterrupt it hands in what is finished, gives back the rest, and lets the interrupt pass.
#: ``scored`` holds the ids of units that were scored in this process, ``sizes`` the number of
#: processes by worker id; ``standalone`` is true if all units are left to standalone workers.
Executor = InProcess | LocalWorkers | Standalone | Joblib
