"""Tables of a search as frames, and the page of rows that somebody looks at.  Knows no page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from optomatic.planning.params import params_line
from optomatic.plots.search_data import SearchData
from optomatic.progress.tally import Cell
from optomatic.results.export import records
from optomatic.results.text import short, span

#: A column that is searched and not shown.
TEXT = "text"
#: So many params have a column of their own.
_MOST_PARAMS = 6


@dataclass(frozen=True)
class Wanted:
    """A page of a table: its rows from `first` on, `count` at most, filtered and sorted."""

    sort: str | None = None
    descending: bool = False
    contains: str = ""
    state: str | None = None
    first: int = 0
    count: int = 25


def page_of(frame: pd.DataFrame, wanted: Wanted) -> tuple[list[dict[str, Any]], int]:
    """Return rows as texts, and how many there are in all.

    >>> frame = pd.DataFrame({"n": [1, 3, 2], "text": ["a", "b", "ab"]})
    >>> page_of(frame, Wanted(sort="n", descending=True, contains="B", count=1))
    ([{'n': '3'}], 2)
    """
    if wanted.contains:
        frame = frame[frame[TEXT].str.contains(wanted.contains, case=False, regex=False)]
    if wanted.state is not None:
        frame = frame[frame["state"] == wanted.state]
    if wanted.sort is not None and wanted.sort in frame:
        keys = _sortable(frame[wanted.sort])
        order = np.argsort(-keys if wanted.descending else keys, kind="stable")
        frame = frame.iloc[order]
    rows = records(frame.iloc[wanted.first : wanted.first + wanted.count].drop(columns=TEXT))
    texts = [{n: _FORMATS.get(n, short)(value) for n, value in row.items()} for row in rows]
    return texts, len(frame)


def _ago(seconds: float) -> str:
    """Return how long ago a heartbeat was, roughly, so that a table seldom changes."""
    return "now" if seconds < 10 else f"{span(seconds)} ago"


#: Of columns that are not shown as their values are.
_FORMATS: Mapping[str, Callable[[Any], str]] = {"age": span, "since": span, "seen": _ago}


def _sortable(column: pd.Series) -> Any:
    """Return numbers in the order of the values: numbers before texts; NaN, which comes last."""
    if column.dtype.kind in "iufb":
        return column.to_numpy(dtype=float)
    if column.dtype.kind in "mM":
        return np.where(column.isna(), np.nan, column.astype("int64").to_numpy())
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(dtype=float)
    texts = pd.Series(column.astype(str).str.casefold()).rank(method="dense").to_numpy()
    most = np.nanmax(numbers, initial=0.0)
    return np.where(column.isna(), np.nan, np.where(np.isnan(numbers), most + texts, numbers))


def candidate_frame(data: SearchData) -> pd.DataFrame:
    """Return the candidates, the best first, then those without a comparable score."""
    columns: dict[str, Any] = {"candidate": np.arange(len(data.states)), "state": data.states}
    columns |= {"iter": data.rung} if data.rung is not None else {}
    # With several metrics, the one that is shown comes first.
    columns["score" if len(data.metrics) == 1 else data.metric] = data.drawn_scores
    if data.split_states.shape[1] > 1:
        columns["std"] = np.where(data.failed, np.nan, data.stds)
    columns |= {
        n: own for n, own in data.metrics.items() if len(data.metrics) > 1 and n not in columns
    }
    own = data.varying() or list(data.params)
    texts = [params_line(own) for own in data.candidates]
    if len(own) > _MOST_PARAMS:
        columns["params"] = texts
    else:
        taken = {*columns, "seconds", TEXT}
        for name in own:
            title = f"{name} (param)" if name in taken else name
            columns[title] = _objects([params.get(name) for params in data.candidates])
    columns |= {"seconds": np.nansum(data.took, axis=1), TEXT: texts}
    rungs = np.zeros(len(texts)) if data.rung is None else -data.rung
    order = np.lexsort((data.losses, ~data.complete, rungs))
    return pd.DataFrame(columns).iloc[order]


def unit_frame(data: SearchData) -> pd.DataFrame:
    """Return the units, in the order of candidates and splits."""
    n_candidates, n_splits = data.split_states.shape
    texts = _objects([params_line(own) for own in data.candidates])
    columns = {
        "candidate": np.repeat(np.arange(n_candidates), n_splits),
        "split": np.tile(np.arange(n_splits), n_candidates),
        "state": data.split_states.ravel(),
        "score": data.split_scores.ravel(),
        "seconds": data.took.ravel(),
        "worker": data.workers.ravel(),
        "ended": data.zero + pd.to_timedelta(data.ended.ravel(), unit="s").round("s"),
        "params": np.repeat(texts, n_splits),
    }
    frame = pd.DataFrame(columns)
    frame.insert(0, "unit", np.arange(len(frame)))
    frame[TEXT] = frame["worker"].str.cat(frame["params"], sep=" ")
    return frame


def worker_frame(data: SearchData) -> pd.DataFrame:
    """Return who scored how many units, and for how long, the busiest first."""
    names, at = np.unique(data.workers.astype(str), return_inverse=True)
    took = np.bincount(at.ravel(), weights=np.nan_to_num(data.took).ravel())
    frame = pd.DataFrame({"worker": names, "units": np.bincount(at.ravel()), "seconds": took})
    frame[TEXT] = frame["worker"]
    return frame[frame["worker"] != ""].sort_values("units", ascending=False)


def _objects(values: Sequence[Any]) -> Any:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def best_of(data: SearchData) -> int | None:
    """Return the candidate with the best score, of the last rung; None without one."""
    rows = np.flatnonzero(data.complete)
    if data.rung is not None and len(rows):
        rows = rows[data.rung[rows] == data.rung[rows].max()]
    return int(rows[np.argmin(data.losses[rows])]) if len(rows) else None


_CELLS: Mapping[str, Cell] = {
    "queued": Cell.QUEUED,
    "running": Cell.RUNNING,
    "completed": Cell.SCORED,
    "failed": Cell.FAILED,
    "dead": Cell.FAILED,
    "cancelled": Cell.LEFT_OUT,
    "stopped": Cell.LEFT_OUT,
}


def cells_of(data: SearchData) -> Any:
    """Return the :class:`Cell` of each candidate and split."""
    cells = np.full(data.split_states.shape, int(Cell.NOTHING))
    for state, cell in _CELLS.items():
        cells[data.split_states == state] = int(cell)
    cells[(data.split_states == "completed") & (data.ended < 0)] = int(Cell.STORED)
    cells[data.states == "left out"] = int(Cell.LEFT_OUT)
    return cells


def labels_of(data: SearchData, most: int) -> list[str]:
    """Return score and params of the first candidates, as labels of the grid."""
    pairs = list(zip(data.drawn_scores, data.candidates, strict=True))[:most]
    return [f"{'' if s != s else f'{s:.4g}  '}{short_params(own)}" for s, own in pairs]


def short_params(params: Mapping[str, Any]) -> str:
    """Return params in one line, with four digits of each number."""
    own = {n: float(f"{v:.4g}") if isinstance(v, float) else v for n, v in params.items()}
    return params_line(own)


def counts_of(data: SearchData) -> dict[str, int]:
    """Return how many units are in each state."""
    names, counts = np.unique(data.split_states.astype(str), return_counts=True)
    return {str(name): int(n) for name, n in zip(names, counts, strict=True)}
