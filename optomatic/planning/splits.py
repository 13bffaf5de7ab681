"""``cv`` -> fixed, checked (train, test) pairs.

A splitter may draw anew at each call.  So it is asked once a search, and all units of
the search, on whatever machine, are scored on the same pairs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from optomatic import _sklearn

Indices = npt.NDArray[Any]
Split = tuple[Indices, Indices]


def fix_splits(pairs: Iterable[tuple[Any, Any]], n_splits: int) -> list[Split]:
    """Return `pairs` as index arrays; masks are turned into the indices that they select.

    Raises
    ------
    ValueError
        If there are not `n_splits` pairs (in scikit-learn's words).
    """
    splits = [(_as_indices(train), _as_indices(test)) for train, test in pairs]
    if len(splits) != n_splits:
        raise ValueError(_sklearn.inconsistent_splits(n_splits, len(splits)))
    return splits


def draws_anew(cv: Any) -> bool:
    """Return whether the splitter `cv` gives other splits at each call, for want of a seed.

    A RandomState given as its seed also moves on, but that was the user's choice.
    """
    if not hasattr(cv, "random_state") or not getattr(cv, "shuffle", True):
        return False
    return cv.random_state is None or cv.random_state is np.random


def _as_indices(rows: Any) -> Indices:
    indices = np.asarray(rows)
    if indices.dtype == bool:
        return np.flatnonzero(indices)
    return indices


def pack_splits(splits: list[Split]) -> npt.NDArray[np.int64]:
    """Pack `splits` into one array of int64, so that they travel without pickle.

    The first ``1 + 2 * n_splits`` entries are the number of splits and the lengths of
    train and test of each; the indices follow in the same order.
    """
    parts = [rows for pair in splits for rows in pair]
    head = [len(splits), *(len(rows) for rows in parts)]
    return np.concatenate([np.asarray(p, dtype=np.int64).reshape(-1) for p in (head, *parts)])


def unpack_splits(packed: npt.NDArray[np.int64]) -> list[Split]:
    """Return the pairs that :func:`pack_splits` packed, as views."""
    n_parts = 2 * int(packed[0])
    bounds = np.cumsum(packed[: 1 + n_parts])
    # The head counts itself with 1 + n_parts entries instead of with its first number.
    offsets = bounds - packed[0] + 1 + n_parts
    parts = [packed[offsets[i] : offsets[i + 1]] for i in range(n_parts)]
    return list(zip(parts[::2], parts[1::2], strict=True))
