"""How a unit may be run: limits, tags, its queue, and the constraints of its score."""

from __future__ import annotations

import hashlib
import json
import numbers
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from optomatic.errors import FitTimeout, MemoryLimit, shown
from optomatic.records import SCHEMA, Failure, Work

# How long a unit may take and how much memory: sizes for people <-> numbers.
#
# Limits are constraints, not part of a key: a score that was reached within them is the score that
# would have been reached without.


_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY = {"k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
#: Numbers beyond are slips, and no database or clock takes them.
_LARGEST = 2**53
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(?:([kmgt]?)(i?)b?)\s*", re.IGNORECASE)


def size_of(size: object) -> int:
    """Return a number of bytes, given as such or as ``"500MB"``, ``"1.5 GiB"``.

    >>> size_of("500MB"), size_of("1 GiB"), size_of(4096)
    (500000000, 1073741824, 4096)
    """
    if _is_positive(size):
        return int(size)  # type: ignore[call-overload,no-any-return]
    found = _SIZE.fullmatch(size) if isinstance(size, str) else None
    units = _BINARY if found and found[3] else _UNITS
    if found and found[2].lower() in units:
        size_in_bytes = float(found[1]) * units[found[2].lower()]
        if _is_positive(size_in_bytes):
            return int(size_in_bytes)
    raise ValueError(f"a size is a number of bytes above 0, or like '500MB', not {shown(size)}")


def limits_of(fit_timeout: float | None, memory_limit: int | str | None) -> dict[str, Any]:
    """Return the given limits as ``seconds`` and ``bytes``; raise ValueError if one is none."""
    limits: dict[str, Any] = {}
    if fit_timeout is not None:
        limits["seconds"] = _seconds(fit_timeout)
    if memory_limit is not None:
        try:
            limits["bytes"] = size_of(memory_limit)
        except ValueError as error:
            raise ValueError(f"memory_limit: {error}") from None
    return limits


def _seconds(seconds: object) -> float:
    if not _is_positive(seconds):
        raise ValueError(f"fit_timeout: a number of seconds above 0, not {shown(seconds)}")
    return float(seconds)  # type: ignore[arg-type]


def _is_positive(value: Any) -> bool:
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_)
    return is_number and bool(0 < value < _LARGEST)


def threads_of(threads: object) -> int | None:
    """Return a number of threads, None for no limit; raise ValueError if it is none."""
    if threads is None:
        return None
    if not (isinstance(threads, numbers.Integral) and _is_positive(threads)):
        raise ValueError(f"inner_max_num_threads: a whole number from 1 on, not {shown(threads)}")
    return int(threads)


def shown_size(size: float) -> str:
    """Return a number of bytes for people.

    >>> shown_size(500e6), shown_size(1.5e9), shown_size(300)
    ('500 MB', '1.5 GB', '300 bytes')
    """
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size:.0f} bytes"


def limits_in(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the limits in the options of a unit; empty if there are none."""
    return options.get("limits") or {}


def how_to_run(
    fit_timeout: float | None,
    memory_limit: int | str | None,
    inner_max_num_threads: int | None,
) -> dict[str, Any]:
    """Return limits and threads of units, as far as they are given; raise ValueError if bad."""
    how = {
        "limits": limits_of(fit_timeout, memory_limit),
        "inner_max_num_threads": threads_of(inner_max_num_threads),
    }
    return {name: value for name, value in how.items() if value}


_TAG = re.compile(r"[\w.+:=/-]+")


def tags_of(tags: Collection[str] | None) -> tuple[str, ...]:
    """Return tags in order, each once; raise if they are no collection of words.

    >>> tags_of({"gpu", "big"})
    ('big', 'gpu')
    """
    if tags is None:
        return ()
    if isinstance(tags, str) or not isinstance(tags, Collection):
        raise TypeError(f"requires is a set of tags such as {{'gpu'}}, not {shown(tags)}")
    for tag in tags:
        if not (isinstance(tag, str) and _TAG.fullmatch(tag)):
            raise ValueError(f"a tag is a word without blanks and commas, not {shown(tag)}")
    return tuple(sorted(set(tags)))


def work_of(
    kind: str,
    spec: Mapping[str, str | None],
    options: Mapping[str, Any],
    *,
    env: Mapping[str, str],
    requires: tuple[str, ...],
    asked: Sequence[object],
    secret: str | None,
    payload: bool = False,
) -> Work:
    """Say how units may be run; see :class:`~optomatic.records.Work`.

    `asked` are plain values that make other constraints besides: outputs, limits.  A `secret` makes
    the work private: no other process serves its queue.  With a `payload` of user code a worker may
    have to leave it alone.
    """
    able = [kind, SCHEMA, sorted(env.items()), sorted(requires), secret]
    return Work(
        kind=kind,
        spec=spec,
        options=options,
        env=env,
        requires=requires,
        # Equal keys have equal code, so that says nothing new of the constraints.
        queue=hash_of([*able, spec["payload"]] if payload and not secret else able),
        constraints=constraints_of([able, *asked]),
    )


def constraints_of(values: Sequence[object]) -> str:
    """Return constraints: the beginning of a hash is enough to tell those of one key apart."""
    return hash_of(values)[:16]


def hash_of(values: Sequence[object]) -> str:
    """Return the hash of plain values, equal in every process."""
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


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
