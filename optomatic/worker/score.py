"""One unit -> its result: a fit, a call of a function, a call of joblib."""

from __future__ import annotations

import contextlib
import io
import numbers
import os
import pickle
import re
import resource
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
from joblib import parallel_config
from joblib.parallel import SequentialBackend, ThreadingBackend
from msgspec.structs import replace
from sklearn import config_context
from threadpoolctl import threadpool_limits

from optomatic import _sklearn
from optomatic.planning.constraints import limits_in, too_large
from optomatic.planning.params import encode_extra
from optomatic.planning.serialization import Task, unpack_calls, write_stops
from optomatic.planning.workload import FitWorkload, FunctionWorkload, Workload
from optomatic.records import Failure, Result, Scores


def score_unit(
    workload: Workload, params: Mapping[str, Any], split: int, **here: Any
) -> tuple[Result, BaseException | None]:
    """Score one candidate on one split; return the result, and the error that user code raised.

    `here` has what only the process of the client knows (``error_score``, ``verbose``,
    ``progress``), and the ``prefixes`` of a search of pipelines.  Exceptions are raised that
    GridSearchCV would not turn into an ``error_score``.
    """
    return _SCORERS[workload.kind](workload, params, split, **here)


def score_safely(workload: Workload, params: Mapping[str, Any], split: int, **here: Any) -> Result:
    """Score one candidate in a worker; an exception is a failure of stage ``raise``."""
    try:
        with config_context(**workload.options.get("config", {})):
            return score_unit(workload, params, split, **here)[0]
    except Exception as error:
        return failed(_sklearn.failure_of(error, "raise"))


def _score_fit(
    workload: FitWorkload, params: Mapping[str, Any], split: int, **here: Any
) -> tuple[Result, BaseException | None]:
    train, test = workload.splits[split]
    return _sklearn.fit_and_score(
        workload.estimator,
        workload.X,
        workload.y,
        scorer=workload.scorer,
        train=train,
        test=test,
        params=params,
        fit_params=workload.fit_params,
        score_params=workload.score_params,
        return_train_score=workload.options["return_train_score"],
        **here,
    )


def _score_function(
    workload: FunctionWorkload, params: Mapping[str, Any], split: int, **here: Any
) -> tuple[Result, BaseException | None]:
    began = time.perf_counter()
    try:
        if workload.style == "params":
            returned = workload.function(dict(params), **workload.data)
        else:
            returned = workload.function(**params, **workload.data)
        seconds = time.perf_counter() - began
        scores, extra = read_returned(returned)
    except Exception as error:  # of the user's
        seconds = time.perf_counter() - began
        failures = (_sklearn.failure_of(error, "score"),)
        return Result(None, None, seconds, 0.0, 0, failures), error
    return Result(scores, None, seconds, 0.0, 0, extra=extra), None


_SCORERS: dict[str, Callable[..., tuple[Result, BaseException | None]]] = {
    FitWorkload.kind: _score_fit,
    FunctionWorkload.kind: _score_function,
}


def read_returned(returned: object) -> tuple[Scores, str | None]:
    """Return the scores that a function returned, and the text of the extra beside them.

    Raise TypeError or ValueError if it is not a number, a dict of numbers, or a pair of one of
    these and an extra.
    """
    if isinstance(returned, tuple):
        if len(returned) != 2:
            raise _no_score(returned)
        return _scores(returned[0], returned), encode_extra(returned[1])
    return _scores(returned, returned), None


def _scores(value: object, returned: object) -> Scores:
    if isinstance(value, Mapping) and value and all(type(name) is str for name in value):
        return {name: _number(score, returned) for name, score in value.items()}
    return _number(value, returned)


def _number(value: Any, returned: object) -> float:
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    if not isinstance(value, numbers.Real | np.bool_):
        raise _no_score(returned)
    return float(value)


def _no_score(returned: object) -> TypeError:
    return TypeError(
        f"the scoring function returned {returned!r:.200}, which is no score: return a number, a "
        "dict of numbers by metric, or a pair (score, extra)"
    )


# Limits are enforced from outside (:mod:`optomatic.worker.limits`), every 50 ms, in which a child
# can allocate 100 MB and more.  So behind a limit of memory stands one of the kernel: an
# allocation far beyond it fails in the child with a MemoryError.


#: The kernel refuses to give a child more than this many times its limit.
KERNEL_FACTOR = 1.5


_OUT_OF_MEMORY = (
    "builtins.MemoryError",
    "numpy._core._exceptions._ArrayMemoryError",
    "numpy.core._exceptions._ArrayMemoryError",
)


def within_limits(
    options: Mapping[str, Any], score: Callable[[], tuple[Result, float]]
) -> tuple[Result, float]:
    """Return what `score` returns, called under the limits in `options`.

    An allocation that the kernel refuses for their sake is a failure of the limit, not of
    the machine, so no other machine tries it again.
    """
    size = limits_in(options).get("bytes")
    with inner_threads(options), _bounded(size):
        result, loading = score()
    if size is not None and any(f.type in _OUT_OF_MEMORY for f in result.failures):
        result = replace(result, test=None, train=None, failures=(too_large(size),))
    return result, loading


def inner_threads(options: Mapping[str, Any]) -> contextlib.AbstractContextManager[Any]:
    """Bound the threads of numeric libraries, if the search says so."""
    threads = options.get("inner_max_num_threads")
    return threadpool_limits(threads) if threads else contextlib.nullcontext()


@contextlib.contextmanager
def _bounded(size: int | None) -> Iterator[None]:
    """Have the kernel refuse memory far beyond `size` bytes."""
    if size is None:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    mapped, touched = _data()
    # Libraries map more than they ever touch: that is not the unit's.  A process beyond its limit
    # gets some more, so that the parent ends it.
    untouched = max(0, mapped - touched)
    bound = int(max(untouched + KERNEL_FACTOR * size, mapped + (KERNEL_FACTOR - 1) * size))
    if hard != resource.RLIM_INFINITY:
        bound = min(bound, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (bound, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _data() -> tuple[int, int]:
    """Return how many bytes RLIMIT_DATA counts of this process, and how many it has touched.

    ``(0, 0)`` where that is not known.
    """
    try:
        fields = Path("/proc/self/statm").read_text().split()
    except OSError:
        return 0, 0
    _, resident, shared, _, _, mapped, *_ = (int(n) * os.sysconf("SC_PAGE_SIZE") for n in fields)
    return mapped, resident - shared


def failed(failure: Failure) -> Result:
    """Return the result of a unit that came to no score at all."""
    return Result(None, None, 0.0, 0.0, 0, (failure,))


# A child is a process of its own, so ``warnings.filterwarnings("ignore")`` of a script would not
# reach it: the filters of the process that searches are sent to its children.  scikit-learn hands
# its filters to joblib's workers in the same way.

#: Action, pattern of the text, category as ``module:name``, pattern of the module, line; as JSON.
Filter = Sequence[Any]


def filters_here() -> list[Filter]:
    """Return the filters of the calling thread, those that are asked first at the head."""
    # Where each context has filters of its own (free-threaded Python) the module's list is none.
    filters = getattr(warnings, "_get_filters", lambda: warnings.filters)()
    return [
        [action, _pattern(text), f"{kind.__module__}:{kind.__qualname__}", _pattern(module), line]
        for action, text, kind, module, line in filters
        if isinstance(kind, type)
    ]


def _pattern(given: str | re.Pattern[str] | None) -> str:
    return given.pattern if isinstance(given, re.Pattern) else given or ""


@contextlib.contextmanager
def filtered(filters: Sequence[Filter] | None) -> Iterator[None]:
    """Show the warnings that `filters` let through, as long as the context lasts.

    None changes nothing.  A category of a module that is not loaded here is passed over: to
    import it could do anything.
    """
    if filters is None:
        yield
        return
    with warnings.catch_warnings():
        warnings.resetwarnings()
        for action, text, kind, module, line in filters:
            category = _category(kind)
            if category is not None:
                warnings.filterwarnings(action, text, category, module, line, append=True)
        yield


def _category(name: str) -> type[Warning] | None:
    module, _, qualname = name.partition(":")
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found if isinstance(found, type) and issubclass(found, Warning) else None


# Calls of joblib -> their return values or an error.
#
# Nested calls run in the same process: the first level of ``Parallel`` below a call in threads,
# deeper ones in turn, as below joblib's own process backends.  So a call never waits for a
# worker, and nested parallelism cannot deadlock, however few workers there are.


#: Seconds after which no more of joined calls are begun: other processes may be idle.
_LONGEST_GROUP = 0.4
#: Initializers that have run in this process, by hash.
_initialized: set[str] = set()


def run_calls(
    text: str,
    spec: Mapping[str, str | None],
    options: Mapping[str, Any],
    load: Callable[[str], Any],
) -> tuple[bytes, Failure | None]:
    """Run calls that were joined, for a while or up to the first that fails; return their ends.

    Those are, for :func:`~optomatic.planning.serialization.split_ends`, the pickled values of each
    call, and at the end the exception where one failed.  The failure is that of the last.  `text`,
    `spec` and `options` are those of that module; ``load(sha)`` returns a part.  Raises nothing of
    user code, SystemExit and KeyboardInterrupt included: all of that is for the process that made
    the calls.
    """
    file, stops = io.BytesIO(), []
    failure: Failure | None = None
    pid, began = os.getpid(), time.perf_counter()
    try:
        _initialize(spec.get("initializer"), load)
        with inner_threads(options), _nested(options["level"]):
            for tasks in unpack_calls(text, spec, load):
                failure = _run_call(tasks, file)
                stops.append(file.tell())
                late = time.perf_counter() - began > _LONGEST_GROUP
                # A copy of this process that user code has forked is to run no more.
                if failure is not None or late or os.getpid() != pid:
                    break
    except BaseException as error:
        failure = _write_error(file, error, "load")
        stops.append(file.tell())
    write_stops(file, stops, time.perf_counter() - began)
    return file.getvalue(), failure


def _run_call(tasks: list[Task], file: io.BytesIO) -> Failure | None:
    try:
        values = [function(*args, **kwargs) for function, args, kwargs in tasks]
    except BaseException as error:
        return _write_error(file, error, "call")
    start = file.tell()
    try:
        _Pickler(file, protocol=5).dump(values)
        return None
    except BaseException as error:
        file.seek(start)
        file.truncate()
        error.add_note("The call returned, but what it returned cannot be pickled.")
        return _write_error(file, error, "call")


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # it has no types
    """Pickles mapped arrays as plain ones: what they map stays on this machine."""

    def reducer_override(self, value: Any) -> Any:
        """Return how `value` is pickled."""
        if type(value) is np.memmap:
            return np.asarray(value).__reduce_ex__(5)
        return super().reducer_override(value)


def _nested(level: int) -> parallel_config:
    backend = SequentialBackend if level > 1 else ThreadingBackend
    # n_jobs=None: a nested Parallel has to ask for threads, as below any other backend.
    return parallel_config(backend=backend(nesting_level=level), n_jobs=None)


def _initialize(sha: str | None, load: Callable[[str], Any]) -> None:
    if sha is None or sha in _initialized:
        return
    function, args = load(sha)
    function(*args)
    _initialized.add(sha)


def _write_error(file: io.BytesIO, error: BaseException, stage: str) -> Failure:
    failure = _sklearn.failure_of(error, stage)
    # The failure has all of that in words.  Some libraries teach pickle to write tracebacks, with
    # their variables, and those of deep recursions are too deep to be written.
    error.__traceback__ = error.__cause__ = error.__context__ = None
    try:
        data = cloudpickle.dumps(error, protocol=5)
        # Some exceptions can be written but not read: of those only the words travel.
        pickle.loads(data)
    except BaseException:
        return failure
    file.write(data)
    return failure
