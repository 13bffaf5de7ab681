"""What this machine offers to a worker, and what the environment says about it."""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import joblib

from optomatic import _config
from optomatic.errors import shown
from optomatic.keys.environment import matched_version, required_versions
from optomatic.planning.constraints import tags_of
from optomatic.records import Timing

#: Seconds, some 30 years: more is a slip, and no clock takes much more.
LONGEST = 1e9


#: Returns the names of searches, first come first served; asked again and again.
Names = Callable[[], Sequence[str]]


class Installed(Mapping[str, str]):
    """The versions here, of whichever distribution a queue asks for.

    Iterating gives only those that every worker is registered with.
    """

    def __init__(self) -> None:
        self._known = required_versions({})

    def __getitem__(self, name: str) -> str:
        if name not in self._known:
            self._known[name] = matched_version(name)
        return self._known[name]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str)

    def __iter__(self) -> Iterator[str]:
        return iter(required_versions({}))

    def __len__(self) -> int:
        return len(required_versions({}))


def timing_of(lease: float | str | None) -> Timing:
    """Return the durations that belong to `lease` (seconds; None: the default).

    Raises
    ------
    ValueError
        If it is no number of seconds above 0.
    """
    if lease is None or lease == "":
        return Timing()
    try:
        seconds = float(lease)
    except (ValueError, OverflowError):
        seconds = -1.0
    if not 0 < seconds <= LONGEST:
        raise ValueError(f"a lease is a number of seconds above 0, not {shown(lease)}")
    return Timing(lease=seconds, unstarted=min(_config.UNSTARTED_LEASE, seconds / 3))


def timing_here(environ: Mapping[str, str] = os.environ) -> Timing:
    """Return the durations that ``$OPTOMATIC_LEASE`` asks for."""
    try:
        return timing_of(_config.setting(_config.LEASE, environ))
    except ValueError as error:
        raise ValueError(f"$OPTOMATIC_LEASE: {error}") from None


def tags_here(environ: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """Return the tags that ``$OPTOMATIC_TAG`` gives to workers, separated by commas."""
    try:
        return tags_of((_config.setting(_config.TAG, environ) or "").replace(",", " ").split())
    except ValueError as error:
        raise ValueError(f"$OPTOMATIC_TAG: {error}") from None


def cores() -> int:
    """Return how many cores this process may use: affinity and container limits count."""
    return int(joblib.cpu_count())


def cache_home(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the folder in which the cache of this machine has its own."""
    return Path(
        _config.setting(_config.HOME, environ) or environ.get("XDG_CACHE_HOME") or "~/.cache"
    )


def enter_worker() -> None:
    """Note that this process, and what it starts, scores for a worker."""
    os.environ[_config.INSIDE_WORKER] = "1"


def inside_worker() -> bool:
    """Return whether this process scores for a worker; then it has neither address nor key."""
    return _config.setting(_config.INSIDE_WORKER) is not None


# Which warnings are shown, as the process that searches has it, in the children that it starts.
#
# A child is a process of its own, so ``warnings.filterwarnings("ignore")`` of a script would not
# reach it.  scikit-learn hands its filters to joblib's workers in the same way.


#: Action, pattern of the text, category as ``module:name``, pattern of the module, line; as JSON.
Filter = Sequence[Any]


def filters_here() -> list[Filter]:
    """Return the filters of the calling thread, those that are asked first at the head."""
    return [
        [action, _pattern(text), f"{kind.__module__}:{kind.__qualname__}", _pattern(module), line]
        for action, text, kind, module, line in _filters()
        if isinstance(kind, type)
    ]


def _filters() -> Sequence[tuple[Any, ...]]:
    # Where each context has filters of its own (free-threaded Python) the module's list is none.
    return tuple(getattr(warnings, "_get_filters", lambda: warnings.filters)())


def _pattern(given: str | re.Pattern[str] | None) -> str:
    return given.pattern if isinstance(given, re.Pattern) else given or ""


@contextmanager
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
