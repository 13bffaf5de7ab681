"""What this machine offers to a worker, and what the environment says about it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import joblib

from optomatic.errors import shown
from optomatic.keys.environment import constraints, matched_version
from optomatic.plan.units.tags import tags_of
from optomatic.records import Timing

#: Seconds, some 30 years: more is a slip, and no clock takes much more.
LONGEST = 1e9


class Installed(Mapping[str, str]):
    """The versions here, of whichever distribution a lane asks for.

    Iterating gives only those that every worker is registered with.
    """

    def __init__(self) -> None:
        self._known = constraints({})

    def __getitem__(self, name: str) -> str:
        if name not in self._known:
            self._known[name] = matched_version(name)
        return self._known[name]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str)

    def __iter__(self) -> Iterator[str]:
        return iter(constraints({}))

    def __len__(self) -> int:
        return len(constraints({}))


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
    return Timing(lease=seconds, unstarted=min(3.0, seconds / 3))


def timing_here(environ: Mapping[str, str] = os.environ) -> Timing:
    """Return the durations that ``$OPTOMATIC_LEASE`` asks for."""
    try:
        return timing_of(environ.get("OPTOMATIC_LEASE"))
    except ValueError as error:
        raise ValueError(f"$OPTOMATIC_LEASE: {error}") from None


def tags_here(environ: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """Return the tags that ``$OPTOMATIC_TAG`` gives to workers, separated by commas."""
    try:
        return tags_of(environ.get("OPTOMATIC_TAG", "").replace(",", " ").split())
    except ValueError as error:
        raise ValueError(f"$OPTOMATIC_TAG: {error}") from None


def cores() -> int:
    """Return how many cores this process may use: affinity and container limits count."""
    return int(joblib.cpu_count())


def cache_home(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the folder in which the cache of this machine has its own."""
    return Path(environ.get("OPTOMATIC_HOME") or environ.get("XDG_CACHE_HOME") or "~/.cache")


#: Neither an address nor a key, so it is not named like them.
_INSIDE = "_OPTOMATIC_INSIDE_WORKER"


def enter_worker() -> None:
    """Note that this process, and what it starts, scores for a worker."""
    os.environ[_INSIDE] = "1"


def inside_worker() -> bool:
    """Tell whether this process scores for a worker.  It has neither address nor key then."""
    return _INSIDE in os.environ
