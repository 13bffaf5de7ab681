"""Candidates -> a table of numbers, for filters that measure or predict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

#: Categories that a histogram gradient boosting model can tell apart.
_MOST_CATEGORIES = 255


def candidates_in(history: Any) -> list[dict[str, Any]]:
    """Return the candidates of a history, without the params that they do not have."""
    columns = {name: history[name] for name in history if name.startswith("param_")}
    return [
        {
            name.removeprefix("param_"): value
            for name, value in zip(columns, row, strict=True)
            if not _is_missing(value)
        }
        for row in zip(*columns.values(), strict=True)
    ]


def candidates_from(history: Any, number: int) -> tuple[list[int], list[dict[str, Any]]]:
    """Return numbers and candidates of a history from a number on; numbers ascend in it."""
    fresh = history.iloc[int(np.searchsorted(history.index.to_numpy(), number)) :]
    return [int(n) for n in fresh.index], candidates_in(fresh)


def _is_missing(value: Any) -> bool:
    return isinstance(value, float) and value != value


class Columns:
    """Which params there are, which of them are numbers, and the codes of categories.

    A param is a number if all its values are ints or floats; of any other one each value is
    a category, told apart by type and text.

    Attributes
    ----------
    names : list of str
    categorical : list of bool
    """

    __module__ = "optomatic.filters"  # where pickles of filters look for it, wherever it stands

    def __init__(self, candidates: Sequence[Mapping[str, Any]]) -> None:
        self.names = list(dict.fromkeys(name for c in candidates for name in c))
        values = {n: [c[n] for c in candidates if n in c] for n in self.names}
        self.categorical = [not all(map(_is_number, values[n])) for n in self.names]
        self._codes: dict[str, dict[tuple[type, str], int]] = {
            name: _codes(values[name])
            for name, categorical in zip(self.names, self.categorical, strict=True)
            if categorical
        }

    def table(self, candidates: Sequence[Mapping[str, Any]]) -> npt.NDArray[np.float64]:
        """Return an array of shape (n_candidates, n_names); NaN for what is missing or unknown."""
        rows = np.full((len(candidates), len(self.names)), np.nan)
        for n, candidate in enumerate(candidates):
            for k, name in enumerate(self.names):
                if name in candidate:
                    rows[n, k] = self._number(name, candidate[name])
        return rows

    def take_in(self, candidates: Sequence[Mapping[str, Any]]) -> bool:
        """Take note of more candidates; False, and nothing is, if they make other columns."""
        for candidate in candidates:
            for name, value in candidate.items():
                if name not in self._codes and not (name in self.names and _is_number(value)):
                    return False
        for candidate in candidates:
            for name in candidate.keys() & self._codes.keys():
                _add_code(self._codes[name], _label(candidate[name]))
        return True

    def _number(self, name: str, value: Any) -> float:
        if name in self._codes:
            return self._codes[name].get(_label(value), np.nan)
        return float(value) if _is_number(value) else np.nan


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def _label(value: Any) -> tuple[type, str]:
    return type(value), repr(value)


def _codes(values: Sequence[Any]) -> dict[tuple[type, str], int]:
    codes: dict[tuple[type, str], int] = {}
    for label in map(_label, values):
        _add_code(codes, label)
    return codes


def _add_code(codes: dict[tuple[type, str], int], label: tuple[type, str]) -> None:
    if label not in codes and len(codes) < _MOST_CATEGORIES:
        codes[label] = len(codes)


class GrowingTable:
    """A table of candidates to which others are added, mostly without making it anew."""

    __module__ = "optomatic.filters"  # where pickles of filters look for it, wherever it stands

    def __init__(self) -> None:
        self._candidates: list[Mapping[str, Any]] = []
        self._columns = Columns(())
        self._rows = np.empty((0, 0))

    def __len__(self) -> int:
        return len(self._candidates)

    def add(self, candidates: Sequence[Mapping[str, Any]]) -> None:
        """Add rows."""
        self._columns, self._rows = self.followed_by(candidates)
        self._candidates += candidates

    def followed_by(
        self, candidates: Sequence[Mapping[str, Any]]
    ) -> tuple[Columns, npt.NDArray[np.float64]]:
        """Return columns and table, with rows of `candidates` at the end."""
        if self._columns.take_in(candidates):
            return self._columns, np.vstack([self._rows, self._columns.table(candidates)])
        columns = Columns([*self._candidates, *candidates])
        return columns, columns.table([*self._candidates, *candidates])
