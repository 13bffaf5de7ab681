"""Grids and draws: the candidates of GridSearchCV and RandomizedSearchCV."""

from __future__ import annotations

import reprlib
import threading
from collections.abc import Iterable, Iterator, Mapping
from itertools import count, islice
from typing import Any

import numpy as np
from sklearn.model_selection import ParameterGrid, ParameterSampler

from optomatic._config import DEFAULT_N_ITER
from optomatic._uri import redact
from optomatic.errors import shown
from optomatic.planning.params import plain


def candidates_of(
    space: Any, *, n_iter: int | None, sampled: bool, random_state: Any
) -> list[dict[str, Any]]:
    """Return the candidates of `space`, in the order of ``cv_results_``.

    `space` is a grid or distributions as for GridSearchCV and RandomizedSearchCV; values may be
    Series too.  Or it is an iterable of candidates that is no list, tuple or dict.  `n_iter`
    is the number of draws (10), or of candidates that are taken from an iterable (all).
    `sampled` draws also from lists alone; equal `random_state` give the candidates of
    RandomizedSearchCV.  Raises scikit-learn's own errors for a wrong space.
    """
    if _is_iterable_of_candidates(space):
        return [_candidate(item, n) for n, item in enumerate(islice(space, n_iter))]
    space = _with_arrays(space)
    if sampled or n_iter is not None or has_distributions(space):
        draws = DEFAULT_N_ITER if n_iter is None else n_iter
        return list(ParameterSampler(space, draws, random_state=random_state))
    return list(ParameterGrid(space))


def has_distributions(space: Any) -> bool:
    """Return whether a value of `space` is a distribution (``rvs``), so it must be sampled."""
    grids = [space] if isinstance(space, Mapping) else space
    if not isinstance(grids, list | tuple):
        return False
    return any(
        hasattr(values, "rvs")
        for grid in grids
        if isinstance(grid, Mapping)
        for values in grid.values()
    )


def _is_iterable_of_candidates(space: Any) -> bool:
    return isinstance(space, Iterable) and not isinstance(space, Mapping | list | tuple | str)


def _candidate(item: Any, place: int) -> dict[str, Any]:
    if not isinstance(item, Mapping):
        raise TypeError(
            "A space that is an iterable gives dicts of parameters, one a candidate, but number "
            f"{place} of it is {shown(item)} ({type(item).__name__}). Nothing was scored. A grid "
            "is a dict of lists, or a list of such dicts."
        )
    return dict(item)


def _with_arrays(space: Any) -> Any:
    """Return `space` with arrays for Series, which scikit-learn refuses."""
    if isinstance(space, Mapping):
        return {name: _array_of_series(values) for name, values in space.items()}
    if isinstance(space, list | tuple):
        return [_with_arrays(grid) for grid in space]
    return space


def _array_of_series(values: Any) -> Any:
    is_series = hasattr(values, "to_numpy") and not isinstance(values, np.ndarray)
    return values.to_numpy() if is_series else values


def shown_space(space: Any) -> str:
    """Return `space` as text for people, with the first of many values."""
    writer = _Writer()
    writer.maxdict = writer.maxlist = writer.maxtuple = writer.maxset = 20
    writer.maxlevel, writer.maxstring, writer.maxother = 8, 200, 500
    return redact(writer.repr(space))


class _Writer(reprlib.Repr):
    def repr1(self, x: Any, level: int) -> str:
        """Return numbers of numpy as Python's, and distributions by name and arguments."""
        if type(x).__module__.startswith("scipy.stats.") and hasattr(x, "dist"):
            given = [*map(str, plain(x.args)), *(f"{k}={v}" for k, v in plain(x.kwds).items())]
            return f"{x.dist.name}({', '.join(given)})"
        return super().repr1(plain(x) if isinstance(x, np.generic) else x, level)

    def repr_int(self, x: int, level: int) -> str:
        """Return an int in short, also one with more digits than Python writes."""
        try:
            return super().repr_int(x, level)
        except ValueError:
            return shown(x)


class Replayed:
    """An iterator that can be read again.

    A search over an iterator may be fitted twice, cloned and pickled, so the items are kept.
    Copies are this object itself.  Threads may read it at the same time.  Each item is fetched on
    demand, so the iterator may be endless.  A pickle holds all items to the end.
    """

    __module__ = "optomatic.generators"  # the name in pickles

    def __init__(self, items: Iterable[Any], shown: str | None = None) -> None:
        self._rest = iter(items)
        self._shown = shown or repr(items)
        # The name in errors.
        self.__qualname__ = getattr(items, "__qualname__", type(items).__qualname__)
        self._seen: list[Any] = []
        # Reentrant, as a generator may read this object.
        self._lock = threading.RLock()

    def __iter__(self) -> Iterator[Any]:
        for n in count():
            with self._lock:
                if n == len(self._seen):
                    try:
                        self._seen.append(next(self._rest))
                    except StopIteration:
                        return
            yield self._seen[n]

    @property
    def endless(self) -> bool:
        """Return whether the iterator says that it never ends."""
        return getattr(self._rest, "endless", False) is True

    def __deepcopy__(self, memo: Any) -> Replayed:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return Replayed, (list(self), self._shown)

    def __repr__(self) -> str:
        return self._shown
