"""Candidates that share the first steps of a pipeline: how many do, and in which order to score.

See :mod:`optomatic.worker.prefixes`, which fits equal first steps once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from optomatic._sklearn import pipelines

#: Units whose first steps are fitted one after the other, before others wait for them.
_WINDOW = 64
_PLAIN = (bool, int, float, complex, str, bytes, type(None))


def has_prefixes(estimator: object) -> bool:
    """Return whether `estimator` is a pipeline whose first steps can be shared."""
    return pipelines.is_pipeline(estimator) and getattr(estimator, "memory", None) is None


def counts_of(candidates: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the number of candidates, and of the values of each param, as plain values."""
    values: dict[str, set[Any]] = {}
    for candidate in candidates:
        for name, value in candidate.items():
            values.setdefault(name, set()).add(_identity(value))
    counts = {name: len(found) for name, found in values.items()}
    return {"candidates": len(candidates), "values": counts}


def order_of(
    estimator: Any, candidates: Sequence[Mapping[str, Any]], n_splits: int
) -> list[tuple[int, int]]:
    """Return all (candidate, split) by number, in the order in which to score them.

    Those with equal first steps are near to each other, so that what was fitted is used before it
    is removed.  Within a window the first of each kind come first, so that no two processes fit
    the same at the same time; of these again those with other first steps.
    """
    steps = [name for name, _ in estimator.steps[:-1]]
    groups: dict[tuple[Any, ...], list[int]] = {}
    for number, candidate in enumerate(candidates):
        own = tuple(_of_step(step, candidate) for step in steps)
        groups.setdefault(own, []).append(number)
    splits = range(n_splits)
    if len(groups) in (1, len(candidates)):
        return [(number, split) for number in range(len(candidates)) for split in splits]
    order: list[tuple[int, int]] = []
    keys = _by_steps(list(groups))
    size = max(1, _WINDOW // max(1, n_splits))
    for start in range(0, len(keys), size):
        window = keys[start : start + size]
        first = [groups[own][0] for own in _others_first(window)]
        rest = [number for own in window for number in groups[own][1:]]
        order += [(number, split) for number in (*first, *rest) for split in splits]
    return order


def _of_step(step: str, candidate: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(
        (name, _identity(value))
        for name, value in sorted(candidate.items())
        if name.partition("__")[0] == step
    )


def _identity(value: object) -> Any:
    """Return what is equal for equal plain values, and for the same object."""
    return (type(value), value) if type(value) in _PLAIN else id(value)


def _by_steps(keys: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Bring those with the same first steps together, each in the order of its first."""
    places: dict[tuple[Any, ...], int] = {}
    for own in keys:
        for depth in range(1, len(own) + 1):
            places.setdefault(own[:depth], len(places))
    return sorted(keys, key=lambda own: [places[own[:n]] for n in range(1, len(own) + 1)])


def _others_first(keys: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Put those first that have no step in common with one before them."""
    seen: dict[tuple[Any, ...], int] = {}
    ranks = {}
    for own in keys:
        ranks[own] = seen[own[:1]] = seen.get(own[:1], -1) + 1
    return sorted(keys, key=lambda own: ranks[own])
