"""In the child: a call of joblib -> its return value or its error.  Here user code runs.

What a call nests in it runs where it does: the first level of ``Parallel`` below a call in
threads, deeper ones in turn, as below joblib's own process backends.  So a call never waits
for a worker, and nested parallelism cannot deadlock, however few workers there are.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import cloudpickle
import numpy as np
from joblib import parallel_config
from joblib.parallel import SequentialBackend, ThreadingBackend
from threadpoolctl import threadpool_limits

from optomatic import _sklearn
from optomatic.plan.units.calls import Task, unpack_call
from optomatic.records import Failure

#: Initializers that have run in this process, by hash.
_initialized: set[str] = set()


def run_call(
    text: str,
    spec: Mapping[str, str | None],
    options: Mapping[str, Any],
    load: Callable[[str], Any],
) -> tuple[bytes | None, Failure | None]:
    """Run one call; return its pickled value, or its pickled exception and what is told of it.

    Parameters
    ----------
    text, spec, options
        As :mod:`optomatic.plan.units.calls` writes them.
    load : callable
        Hash -> the value of a part.

    Notes
    -----
    Raises nothing that the user's code raises, SystemExit and KeyboardInterrupt included: all
    of that is for the process that made the call.
    """
    try:
        _initialize(spec.get("initializer"), load)
        tasks = unpack_call(text, load)
    except BaseException as error:
        return _error(error, "load")
    try:
        with _threads(options["threads"]):
            values = _values(tasks, options["level"])
    except BaseException as error:
        return _error(error, "call")
    try:
        return _pickled(values), None
    except BaseException as error:
        error.add_note("The call returned, but what it returned cannot be pickled.")
        return _error(error, "call")


def _pickled(values: list[Any]) -> bytes:
    file = io.BytesIO()
    _Pickler(file, protocol=5).dump(values)
    return file.getvalue()


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # it has no types
    """Pickles mapped arrays as plain ones: what they map stays on this machine."""

    def reducer_override(self, value: Any) -> Any:
        """Say how `value` is pickled."""
        if type(value) is np.memmap:
            return np.asarray(value).__reduce_ex__(5)
        return super().reducer_override(value)


def _values(tasks: list[Task], level: int) -> list[Any]:
    nested = SequentialBackend if level > 1 else ThreadingBackend
    # n_jobs=None: a nested Parallel has to ask for threads, as below any other backend.
    with parallel_config(backend=nested(nesting_level=level), n_jobs=None):
        return [function(*args, **kwargs) for function, args, kwargs in tasks]


def _initialize(sha: str | None, load: Callable[[str], Any]) -> None:
    if sha is None or sha in _initialized:
        return
    function, args = load(sha)
    function(*args)
    _initialized.add(sha)


def _threads(number: int | None) -> AbstractContextManager[Any]:
    return nullcontext() if number is None else threadpool_limits(number)


def _error(error: BaseException, stage: str) -> tuple[bytes | None, Failure]:
    failure = _sklearn.failure_of(error, stage)
    # All that is told in words.  Some libraries teach pickle to write tracebacks too, with what
    # stands in them, and those of deep recursions are too deep to be written.
    error.__traceback__ = error.__cause__ = error.__context__ = None
    try:
        data = cloudpickle.dumps(error, protocol=5)
        # Some exceptions can be written but not read: those are told of in words.
        pickle.loads(data)
    except BaseException:
        return None, failure
    return data, failure
