"""Executors: this process, local workers, joblib's backend, or standalone workers alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol

from optomatic import _sklearn
from optomatic.planning.constraints import limits_in
from optomatic.planning.payload import Sender
from optomatic.planning.workload import FitWorkload, FunctionWorkload
from optomatic.records import Result
from optomatic.results.table import exception_of
from optomatic.store.connection import Store
from optomatic.worker.heartbeat import registered
from optomatic.worker.host import timing_here
from optomatic.worker.inprocess import NO_HOOKS, Hooks, Loop
from optomatic.worker.joblib_pool import Joblib, active_backend, leaves_to_standalone
from optomatic.worker.local_pool import local_workers
from optomatic.worker.score import failed, inner_threads, score_candidate

Told = Callable[[Collection[str]], None]


class Executor(Protocol):
    """What has the units of a search scored: this process, local workers, or nobody.

    Called once per round, in the caller's thread.  ``work`` returns when ``until()`` is
    true or when the executor itself has a reason to stop, in which case ``error`` is the
    exception that the search ends with.  On KeyboardInterrupt it hands in what is
    finished, gives back the rest, and lets the interrupt pass.  ``scored`` holds the ids of
    units that were scored in this process: what they print has been printed.  ``sizes`` has the
    number of processes of each worker that the executor itself was, by id.  ``standalone`` tells
    whether it leaves all to standalone workers.
    """

    standalone: bool

    error: BaseException | None
    scored: set[str]
    sizes: dict[str, int]

    def work(
        self, store: Store, search: str, until: Callable[[], bool], hooks: Hooks = NO_HOOKS
    ) -> None:
        """Have units that `search` waits for scored, until ``until()``."""


class Alone(Protocol):
    """An executor that also scores one unit at a time."""

    error: BaseException | None

    def score(self, unit_id: str) -> Result:
        """Score a unit in this process."""


Place = Callable[[str], tuple[Mapping[str, Any], int]]
Progress = Callable[[str], Mapping[str, Any]]


#: Seconds between looks at a search that others work on: without an alarm, with one, at least.
_LOOK, _LOOK_ALARMED, _LOOK_PAUSE = 0.2, 2.0, 0.005
#: A process that scores by itself has no parent to beat for it, so its leases are longer.
LEASES_OF_ONE_PROCESS = 10


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
) -> InProcess | LocalWorkers | Standalone | Joblib:
    """Return what scores the units of a fit.

    Parameters
    ----------
    workers : int or None
        None for this process, 0 for standalone workers only, k for k local workers.
    bundle : FitWorkload
        The objects of the caller, for scoring in this process.
    place : callable
        Unit id -> (params, split).
    progress : callable
        Unit id -> what scikit-learn needs to tell of a unit that is scored in this process.
    told : callable
        Is told, in the calling thread, of units that local workers have finished.  What it
        raises ends the search.
    db : str or None
        The search's store, as the user named it.
    sender : Sender or None
        Of the payload that workers of joblib load.

    Notes
    -----
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
    return Joblib(bundle, sender, mine_by(place), workers, backend, told)


def mine_by(place: Place) -> Callable[[str], bool]:
    """Return what tells whether a unit, by its id, is one of those that have a place."""

    def mine(unit_id: str) -> bool:
        try:
            place(unit_id)
        except KeyError:
            return False
        return True

    return mine


class InProcess:
    """Scores in the calling thread from the caller's own objects; unpickles nothing."""

    standalone = False

    def __init__(
        self,
        bundle: FitWorkload,
        place: Place,
        error_score: Any,
        verbose: int,
        progress: Progress = lambda _: {},
    ) -> None:
        self._bundle = bundle
        self._options = bundle.options
        self._progress = progress
        self._place = place
        self._raises = error_score == "raise"
        self._error_score = float("nan") if self._raises else error_score
        self._verbose = verbose
        self.error: BaseException | None = None
        self.scored: set[str] = set()
        self.sizes: dict[str, int] = {}

    def work(
        self, store: Store, search: str, until: Callable[[], bool], hooks: Hooks = NO_HOOKS
    ) -> None:
        """Score until ``until()``, or until something that GridSearchCV would raise."""
        timing = timing_here()
        lease = timing.lease * LEASES_OF_ONE_PROCESS
        threads = inner_threads(self._options)
        with (
            threads,
            registered(store, search, timing, processes=1, lease=lease) as (worker, heart),
        ):
            loop = Loop(
                *(store.jobs, worker, search, lambda job: self.score(job.id), heart),
                mine=mine_by(self._place),
                lease=lease,
            )
            loop.run(until, lambda: self.error is not None or hooks.grace() is not None, hooks.turn)

    def score(self, unit_id: str) -> Result:
        """Score one unit; what GridSearchCV would raise of it is in ``error`` then."""
        params, split = self._place(unit_id)
        bundle = self._bundle
        train, test = bundle.splits[split]
        try:
            result, error = _sklearn.fit_and_score(
                bundle.estimator,
                bundle.X,
                bundle.y,
                scorer=bundle.scorer,
                train=train,
                test=test,
                params=params,
                fit_params=bundle.fit_params,
                score_params=bundle.score_params,
                return_train_score=bundle.options["return_train_score"],
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
    """Raise what a callback raised: it ends the search, and is no failure of the unit's."""
    if _sklearn.raised_by_callback(error):
        raise error


class FunctionInProcess(InProcess):
    """Calls a scoring function in the calling thread, with the caller's own objects."""

    def __init__(self, bundle: FunctionWorkload, place: Place, *, raises: bool) -> None:
        self._function = bundle
        self._options = bundle.options
        self._place = place
        self._raises = raises
        self.error = None
        self.scored = set()
        self.sizes = {}

    def score(self, unit_id: str) -> Result:
        """Score one unit; with ``raises``, what the function raised is in ``error`` then."""
        params, _ = self._place(unit_id)
        result, error = score_candidate(self._function, params)
        self.scored.add(unit_id)
        if error is not None and self._raises:
            self.error = error
        return result


class LocalWorkers:
    """Scores in local worker processes, which stay warm for the next fit."""

    standalone = False

    def __init__(self, workers: int, told: Told = lambda _: None) -> None:
        self._workers = workers
        self._told = told
        self.error: BaseException | None = None
        self.scored: set[str] = set()
        self.sizes: dict[str, int] = {}

    def work(
        self, store: Store, search: str, until: Callable[[], bool], hooks: Hooks = NO_HOOKS
    ) -> None:
        """Have local workers score what `search` waits for, until ``until()``."""
        with local_workers(self._workers) as pool:
            done = pool.work(store, search, until, timing_here(), on_done=self._told, hooks=hooks)
        self.sizes[done.worker] = self._workers


class Standalone:
    """Scores nothing: waits for standalone workers, and keeps the queue going meanwhile."""

    standalone = True

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self.error: BaseException | None = None
        self.scored: set[str] = set()
        self.sizes: dict[str, int] = {}

    def work(
        self, store: Store, search: str, until: Callable[[], bool], hooks: Hooks = NO_HOOKS
    ) -> None:
        """Wait until ``until()``."""
        timing = timing_here()
        end_at = float("inf")
        rung = threading.Event()
        with (
            registered(store, search, timing, processes=0),
            store.alarms.ended(rung.set) as alarm,
        ):
            while not until() and self._clock() < end_at:
                hooks.turn()
                if end_at == float("inf") and (grace := hooks.grace()) is not None:
                    end_at = self._clock() + grace
                alarmed = alarm.listening and hooks is NO_HOOKS
                self._wait(rung, _LOOK_ALARMED if alarmed else _LOOK)

    def _wait(self, rung: threading.Event, seconds: float) -> None:
        """Wait until `rung`, for `seconds` at most, and not so often that it costs."""
        rung.wait(seconds)
        rung.clear()
        self._sleep(_LOOK_PAUSE)
