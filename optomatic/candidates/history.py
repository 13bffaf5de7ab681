"""The history of a search: a frame of its candidates that grows at little cost."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from optomatic.records import Evaluation
from optomatic.results.frames import SCORE, label_of

#: Rows at first; doubled whenever they are used up.
_ROOM = 64


class History:
    """The frame of :func:`~optomatic.results.frames.frame_of`, for rows that change.

    Only changed rows are written.  Each frame is a copy, into which users may write.
    """

    def __init__(self) -> None:
        self._rows: dict[int, int] = {}
        self._params: dict[str, npt.NDArray[Any]] = {}
        self._scores: dict[str, npt.NDArray[Any]] = {}
        #: First row and place of each metric.
        self._first: dict[str, tuple[int, int]] = {}
        self._others = {
            "number": np.zeros(_ROOM, dtype=np.int64),
            "state": np.full(_ROOM, None, dtype=object),
            "seconds": np.zeros(_ROOM),
            "error": np.full(_ROOM, None, dtype=object),
        }

    def put(self, evaluation: Evaluation) -> None:
        """Add or replace the row of a candidate; it keeps its place and its params."""
        row = self._row_of(evaluation)
        for values in self._scores.values():
            values[row] = np.nan
        for place, (metric, score) in enumerate(evaluation.scores.items()):
            if metric not in self._scores:
                self._scores[metric] = np.full(self._room, np.nan)
            self._scores[metric][row] = score
            self._first[metric] = min(self._first.get(metric, (row, place)), (row, place))
        self._others["state"][row] = evaluation.state
        self._others["seconds"][row] = evaluation.seconds
        self._others["error"][row] = evaluation.error

    @property
    def _room(self) -> int:
        return len(self._others["number"])

    def _row_of(self, evaluation: Evaluation) -> int:
        if evaluation.number in self._rows:
            return self._rows[evaluation.number]
        row = self._rows[evaluation.number] = len(self._rows)
        if row == self._room:
            self._make_room()
        self._others["number"][row] = evaluation.number
        for name, value in evaluation.params.items():
            if name not in self._params:
                self._params[name] = np.full(self._room, np.nan, dtype=object)
            self._params[name][row] = value
        return row

    def _make_room(self) -> None:
        for columns in (self._params, self._scores):
            for name, values in columns.items():
                missing = np.full(len(values), np.nan, dtype=values.dtype)
                columns[name] = np.concatenate([values, missing])
        for name, values in self._others.items():
            self._others[name] = np.concatenate([values, values])

    def frame(self) -> pd.DataFrame:
        """Return all rows in the order of their arrival; ``earlier`` is true below 0."""
        n = len(self._rows)
        numbers = self._others["number"][:n].copy()
        columns = {f"param_{name}": values[:n] for name, values in self._params.items()}
        for metric in sorted(self._first, key=self._first.__getitem__):
            columns[label_of(metric)] = self._scores[metric][:n]
        if not self._scores:
            columns[SCORE] = np.full(n, np.nan)
        columns.update({name: self._others[name][:n] for name in ("state", "seconds", "error")})
        columns["earlier"] = numbers < 0
        return pd.DataFrame(columns, index=pd.Index(numbers, name="candidate"), copy=True)
