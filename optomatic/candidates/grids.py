"""Params to try.  A generator is any iterable of dicts; these make the usual two."""

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
from optomatic.plain_values import plain


def candidates_of(
    space: Any, *, n_iter: int | None, sampled: bool, random_state: Any
) -> list[dict[str, Any]]:
    """Return the candidates of `space`, in the order of ``cv_results_``.

    Parameters
    ----------
    space : dict, list of dict, or iterable of dict
        A grid or distributions as GridSearchCV and RandomizedSearchCV take them, whose
        values may be Series too; an iterable that is no list, tuple or dict gives its
        candidates itself.
    n_iter : int or None
        Number of draws where the space is sampled, by default 10; of an iterable of
        candidates, how many are taken, by default all.
    sampled : bool
        Draw, as RandomizedSearchCV does, whatever `space` holds.
    random_state : int, RandomState or None
        Seed of the draws; equal seeds give the candidates of RandomizedSearchCV.

    Raises
    ------
    TypeError, ValueError
        scikit-learn's own, for a space that is no space.
    """
    if _is_iterable_of_candidates(space):
        return [_candidate(item, n) for n, item in enumerate(islice(space, n_iter))]
    space = _with_arrays(space)
    if sampled or n_iter is not None or has_distributions(space):
        draws = DEFAULT_N_ITER if n_iter is None else n_iter
        return list(ParameterSampler(space, draws, random_state=random_state))
    return list(ParameterGrid(space))


def has_distributions(space: Any) -> bool:
    """Tell whether a value of `space` has ``rvs``, so that only sampling can work it off."""
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
    """Return `space` with arrays for Series, which scikit-learn takes for no list of values."""
    if isinstance(space, Mapping):
        return {name: _array_of_series(values) for name, values in space.items()}
    if isinstance(space, list | tuple):
        return [_with_arrays(grid) for grid in space]
    return space


def _array_of_series(values: Any) -> Any:
    is_series = hasattr(values, "to_numpy") and not isinstance(values, np.ndarray)
    return values.to_numpy() if is_series else values


def shown_space(space: Any) -> str:
    """Write down `space` for people: of many values the first, and no more than that."""
    writer = _Writer()
    writer.maxdict = writer.maxlist = writer.maxtuple = writer.maxset = 20
    writer.maxlevel, writer.maxstring, writer.maxother = 8, 200, 500
    return redact(writer.repr(space))


class _Writer(reprlib.Repr):
    def repr1(self, x: Any, level: int) -> str:
        """Return numbers of numpy as Python's own, and distributions by name and arguments."""
        if type(x).__module__.startswith("scipy.stats.") and hasattr(x, "dist"):
            given = [*map(str, plain(x.args)), *(f"{k}={v}" for k, v in plain(x.kwds).items())]
            return f"{x.dist.name}({', '.join(given)})"
        return super().repr1(plain(x) if isinstance(x, np.generic) else x, level)

    def repr_int(self, x: int, level: int) -> str:
        """Return an int in short, which may have more digits than Python writes."""
        try:
            return super().repr_int(x, level)
        except ValueError:
            return shown(x)


class Replayed:
    """What an iterator gives, as often as it is asked for.

    An iterator can be gone through once and cannot be copied.  So that a search over one can
    be fitted twice, cloned and pickled, what it gives is remembered.  Copies are this object
    itself.  It may be gone through in several threads at once; each item is fetched when it
    is first needed, so the iterator may be endless.  A pickle holds what was fetched and all
    that is left.
    """

    __module__ = "optomatic.generators"  # where pickles look for it, wherever it stands

    def __init__(self, items: Iterable[Any], shown: str | None = None) -> None:
        self._rest = iter(items)
        self._shown = shown or repr(items)
        # By this name errors call it.
        self.__qualname__ = getattr(items, "__qualname__", type(items).__qualname__)
        self._seen: list[Any] = []
        # Again, as a generator may come to ask for itself.
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
        """Whether the iterator says that it never ends."""
        return getattr(self._rest, "endless", False) is True

    def __deepcopy__(self, memo: Any) -> Replayed:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return Replayed, (list(self), self._shown)

    def __repr__(self) -> str:
        return self._shown
