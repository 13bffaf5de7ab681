"""What becomes of a unit that passes a limit of its search, and the limit that the kernel holds.

The supervisor enforces limits from outside (:mod:`optomatic.worker.warden`).  It looks every
50 ms, in which a child can allocate 100 MB and more, so behind a limit of memory stands
the kernel's own: an allocation far beyond it fails in the child with a MemoryError.
"""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from optomatic.errors import FitTimeout, MemoryLimit
from optomatic.plan.units.limits import limits_in, shown_size
from optomatic.records import Failure, Result

#: The kernel refuses to give a child more than this many times its limit.
KERNEL_FACTOR = 1.5

_OUT_OF_MEMORY = (
    "builtins.MemoryError",
    "numpy._core._exceptions._ArrayMemoryError",
    "numpy.core._exceptions._ArrayMemoryError",
)


def too_long(seconds: float) -> Failure:
    """Return the failure of a unit that was ended after `seconds`.

    Its text is the same for all units of a search, so that warnings show it once.
    """
    return _failure(
        FitTimeout,
        f"the unit was not done after {seconds:g} s, the fit_timeout of the search, so the "
        "process that scored it was ended. It counts as failed and is not scored again under "
        "this limit; a fit with a larger fit_timeout scores it.",
    )


def too_large(size: int) -> Failure:
    """Return the failure of a unit that took more than `size` bytes."""
    return _failure(
        MemoryLimit,
        f"the unit took more than {shown_size(size)} of memory, the memory_limit of the search, "
        "so it was ended. It counts as failed and is not scored again under this limit; a fit "
        "with a larger memory_limit scores it.",
    )


def _failure(kind: type[Exception], text: str) -> Failure:
    name = f"{kind.__module__}.{kind.__qualname__}"
    return Failure("limit", name, text, f"{name}: {text}\n")


def within_limits(
    options: Mapping[str, Any], score: Callable[[], tuple[Result, float]]
) -> tuple[Result, float]:
    """Return what `score` returns, called under the limits in `options`.

    An allocation that the kernel refuses for their sake is a failure of the limit, not of
    the machine, so no other machine tries it again.
    """
    with inner_threads(options), _bounded(limits_in(options).get("bytes")):
        result, loading = score()
    return _blame(result, limits_in(options).get("bytes")), loading


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
    # Libraries map more than they ever touch: that is not the unit's.  And a process that is
    # beyond its limit already gets some more, so that the supervisor is who ends it.
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


def _blame(result: Result, size: int | None) -> Result:
    if size is None or not any(f.type in _OUT_OF_MEMORY for f in result.failures):
        return result
    return replace(result, test=None, train=None, failures=(too_large(size),))
