"""joblib's backend ``optomatic``: calls of joblib run on the workers of a store::

    import joblib, optomatic

    with joblib.parallel_config(backend="optomatic", db="mongodb://host/name"):
        cross_val_score(model, X, y)

Of joblib names are used that ``joblib.parallel`` keeps for makers of backends
(``ParallelBackendBase``, ``AutoBatchingMixin``, ``FallbackToBackend``), the methods that
``Parallel`` calls, and what its own callback asks before it hands over the next batch
(``_lock``, ``_aborting``, ``_original_iterator``): joblib has no other way to be asked for one.  It
holds for joblib 1.4 to 1.6: 1.4 calls ``apply_async`` where later ones call ``submit``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import cloudpickle
from joblib.parallel import (
    AutoBatchingMixin,
    FallbackToBackend,
    ParallelBackendBase,
    SequentialBackend,
    ThreadingBackend,
    cpu_count,
)

from optomatic._config import inside_worker
from optomatic._uri import guarded
from optomatic.errors import NotShippable, OptomaticError, shown
from optomatic.joblib_backend.client import client_at
from optomatic.joblib_backend.run import CallFuture, Run
from optomatic.planning import serialization
from optomatic.planning.constraints import threads_of
from optomatic.records import Part

#: Arrays of so many bytes and more are stored once, where joblib does not say.
_LARGE = 1 << 20
#: Seconds for which joblib is asked for more calls at a time.
_ASK_SECONDS = 0.02
#: joblib's own number of batches to hand over in advance: more are asked for if they are short.
_DEFAULT = "2*n_jobs"


class OptomaticBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """Runs the calls of ``Parallel`` on standalone workers.

    Parameters
    ----------
    db : str, default=None
        MongoDB URI of the store.  None reads ``$OPTOMATIC_DB``; without that, the embedded
        server is used.
    initializer : callable, default=None
        Run once in each process of the workers, before its first call.
    initargs : tuple
        Its arguments.
    nesting_level, inner_max_num_threads
        Given by joblib.

    Notes
    -----
    ``n_jobs=-1``, which is the default, means as many calls at the same time as the workers
    have processes now, and at least two: with one, joblib would run everything here.  If
    there are no workers, that is said after 10 s, and the calls wait for some.

    What a call nests in it runs in threads of its worker.

    Large arrays among the arguments are stored once by content, whichever calls and processes
    use them, and removed with the last process that has made calls with them.
    """

    supports_retrieve_callback = True
    supports_inner_max_num_threads = True
    default_n_jobs = -1

    def __init__(
        self,
        db: str | None = None,
        *,
        initializer: Callable[..., Any] | None = None,
        initargs: Sequence[Any] = (),
        nesting_level: int | None = None,
        inner_max_num_threads: int | None = None,
    ) -> None:
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads)
        self.db = guarded(db)
        self._initializer = (initializer, initargs)
        #: Named as in joblib's own backends: what runs the calls, None while there are none.
        self._workers: Run | None = None

    def __reduce__(self) -> Any:
        """Travel without the address: a call finds no store where it runs."""
        return _bare, (self.nesting_level, self.inner_max_num_threads)

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return how many calls to have under way at the same time."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            n_jobs = self.default_n_jobs
        if n_jobs > 0:
            return n_jobs
        if inside_worker():
            return max(1, int(cpu_count()) + 1 + n_jobs)
        count = client_at(self.db).workers()
        return max(2, count) if n_jobs == -1 else max(1, count + 1 + n_jobs)

    def configure(
        self,
        n_jobs: int = 1,
        parallel: Any = None,
        prefer: str | None = None,
        require: str | None = None,
        *,
        db: str | None = None,
        max_nbytes: int | None = _LARGE,
        mmap_mode: str | None = "r",
        initializer: Callable[..., Any] | None = None,
        initargs: Sequence[Any] = (),
        **_: Any,
    ) -> int:
        """Get ready for the calls of `parallel`; return how many at the same time."""
        if db is not None:
            self.db = guarded(db)
        if initializer is not None:
            self._initializer = (initializer, initargs)
        function, arguments = self._initializer
        if function is not None and not callable(function):
            raise TypeError(
                f"initializer is {shown(function)}, which cannot be called. Nothing was queued."
            )
        if not isinstance(arguments, list | tuple):
            raise TypeError(
                f"initargs are arguments in a list or tuple, not {shown(arguments)}. Nothing was "
                "queued."
            )
        threads_of(self.inner_max_num_threads)
        n_jobs = self.effective_n_jobs(n_jobs)
        if n_jobs == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        if inside_worker():
            level = self.nesting_level or 1
            nested = ThreadingBackend if level <= 1 else SequentialBackend
            raise FallbackToBackend(nested(nesting_level=level))
        self.parallel = parallel
        self._large = max_nbytes
        # Nobody else sees what a call writes: all that joblib's r+ and w+ can mean here.
        self._mmap_mode = mmap_mode if mmap_mode in ("r", None) else "c"
        self._n_jobs = n_jobs
        self._workers = self._new_run()
        return n_jobs

    def _new_run(self) -> Run:
        is_default = str(getattr(self.parallel, "pre_dispatch", "")).replace(" ", "") == _DEFAULT
        return Run(
            client_at(self.db),
            level=(self.nesting_level or 0) + 1,
            threads=self.inner_max_num_threads,
            large=self._large,
            mmap_mode=self._mmap_mode,
            first=None if self._initializer[0] is None else _dumped(self._initializer),
            n_jobs=self._n_jobs,
            more=self._hand_over if is_default else None,
        )

    def _hand_over(self, run: Run) -> None:
        """Have joblib hand over what `run` wants, as far as it comes soon: its lock is held."""
        parallel, deadline = self.parallel, time.monotonic() + _ASK_SECONDS
        with parallel._lock:
            while run.wants_more() and time.monotonic() < deadline:
                over = parallel._aborting or parallel._original_iterator is None
                if over or run is not self._workers:
                    break
                parallel.dispatch_next()

    def start_call(self) -> None:
        """Begin one call of ``Parallel``: arrays may have changed since the last."""
        if self._workers is not None:
            self._workers.forget_arrays()

    def terminate(self) -> None:
        """End after the last call of ``Parallel``; the connection stays for the next one."""
        self._workers = None
        self.reset_batch_stats()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Withdraw what is queued, and stop what runs."""
        if self._workers is not None:
            self._workers.withdraw()
        self._workers = self._new_run() if ensure_ready else None

    def submit(self, func: Any, callback: Callable[[Any], Any] | None = None) -> CallFuture:
        """Queue a batch; `callback` is called later, in another thread, never from here."""
        run = self._workers
        if run is None:
            raise OptomaticError("This Parallel has ended, so nothing can be queued by it.")
        return run.submit(func.items, callback or (lambda _: None))

    apply_async = submit  # for joblib 1.4

    def retrieve_result_callback(self, out: CallFuture) -> list[Any]:
        """Return the values of a batch, or raise what was raised in it."""
        return out.result()


def _bare(nesting_level: int | None, inner_max_num_threads: int | None) -> OptomaticBackend:
    return OptomaticBackend(
        nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads
    )


def _dumped(initializer: object) -> Part:
    """Return an initializer as a part; raise NotShippable if it cannot be pickled."""
    try:
        return serialization.part_of("pickle", cloudpickle.dumps(initializer, protocol=5))
    except Exception as error:  # whatever a __reduce__ of the user's raises
        raise NotShippable(
            f"The initializer cannot be pickled ({type(error).__name__}: {error}), so no worker "
            "can have it. Nothing was queued. Use a function of a module, and plain arguments."
        ) from error
