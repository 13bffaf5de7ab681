"""Spaces of lists and scipy distributions, and the points of the unit cube in them.

A space is a dict of param -> list of values, or distribution with ``ppf`` and ``rvs``.  It may be
a list of such dicts (a conditional space): a candidate has the params of one of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def branches_of(space: Any) -> list[dict[str, Any]]:
    """Return `space` as a list of dicts; raise TypeError or ValueError if it is none."""
    branches = [space] if isinstance(space, Mapping) else space
    if not isinstance(branches, list | tuple) or not branches:
        raise TypeError(f"a space is a dict or a list of dicts, not {space!r:.100}")
    return [_checked(branch) for branch in branches]


def _checked(branch: Any) -> dict[str, Any]:
    if not isinstance(branch, Mapping):
        raise TypeError(f"a space is a dict or a list of dicts, and {branch!r:.100} is none")
    return {str(name): _values(name, values) for name, values in branch.items()}


def _values(name: str, values: Any) -> Any:
    if hasattr(values, "rvs"):
        return values
    if isinstance(values, str) or not hasattr(values, "__iter__"):
        raise TypeError(f"the values of {name!r} are a list or a distribution, not {values!r:.100}")
    found = list(values)
    if not found:
        raise ValueError(f"the list of values of {name!r} is empty")
    return found


def is_distribution(values: Any) -> bool:
    """Return whether values are drawn, not listed."""
    return hasattr(values, "rvs")


def at_quantile(name: str, values: Any, u: float) -> Any:
    """Return the value of a param at `u`, from 0 to 1: an item of a list, or a quantile."""
    if not is_distribution(values):
        return values[min(int(u * len(values)), len(values) - 1)]
    if not hasattr(values, "ppf"):
        raise TypeError(
            f"the distribution of {name!r} has no quantiles (ppf), so points of [0, 1] cannot be "
            "translated; give one of scipy.stats, or a list of values"
        )
    value = values.ppf(u)
    return int(value) if is_discrete(values) else float(value)


def is_discrete(distribution: Any) -> bool:
    """Return whether a frozen distribution is one of integers."""
    return hasattr(getattr(distribution, "dist", None), "_pmf")


def point_to_candidate(branches: Sequence[Mapping[str, Any]], point: Any) -> dict[str, Any]:
    """Return the candidate at a point, whose first coordinate chooses among several branches."""
    coordinates = [float(u) for u in np.clip(point, 1e-12, 1 - 1e-12)]
    first = 0
    if len(branches) > 1:
        first = min(int(coordinates.pop(0) * len(branches)), len(branches) - 1)
    branch = branches[first]
    return {
        name: at_quantile(name, values, u)
        for (name, values), u in zip(branch.items(), coordinates, strict=False)
    }


def dimensions(branches: Sequence[Mapping[str, Any]]) -> int:
    """Return the number of coordinates that :func:`point_to_candidate` needs."""
    return max(1, max(map(len, branches)) + (len(branches) > 1))
