"""Stored results as data frames, for people, generators and filters."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from optomatic.garbage import without_collector
from optomatic.planning.params import decode_extra, plain
from optomatic.records import Evaluation, Inspected, Outcome, Result, SetAside
from optomatic.results.failures import death_of

#: Name of the only metric, if it has no other name.
SCORE = "score"


def evaluation_of(
    number: int, params: Mapping[str, Any], outcomes: Sequence[Outcome | None]
) -> Evaluation:
    """Return the state and means of a candidate; `outcomes` has None for splits without an end."""
    known = [outcome for outcome in outcomes if outcome is not None]
    results = [outcome.result for outcome in known if outcome.result is not None]
    failed = any(outcome.state != "completed" for outcome in known)
    pending = len(known) < len(outcomes)
    return Evaluation(
        number,
        params,
        "failed" if failed else "pending" if pending else "completed",
        {} if pending and not failed else _means(results),
        sum(result.fit_time + result.score_time for result in results),
        next((result.extra for result in results if result.extra is not None), None),
        next((error for error in map(_error, known) if error), None),
    )


def _means(results: Sequence[Result]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for result in results:
        if isinstance(result.test, Mapping):
            for name, score in result.test.items():
                found.setdefault(name, []).append(score)
        elif result.test is not None:
            found.setdefault(SCORE, []).append(result.test)
    return {name: float(np.mean(scores)) for name, scores in found.items()}


def _error(outcome: Outcome) -> str | None:
    if outcome.state == "dead":
        return f"it killed the process that scored it {outcome.losses} times"
    failures = outcome.result.failures if outcome.result else ()
    return f"{failures[0].type}: {failures[0].text}" if failures else None


def frame_of(
    evaluations: Iterable[Evaluation], *, extras: Callable[[str | None], Any] | None = None
) -> pd.DataFrame:
    """Return a frame with one row a candidate, in the order given, as history of generators.

    Index ``candidate``.  Columns ``param_<name>`` (objects, as they were given; NaN if a candidate
    does not have that param), ``score`` or ``score_<metric>`` (NaN without a score), ``state``,
    ``seconds``, ``error``, and ``extra`` if `extras` decodes it.
    """
    rows, history = list(evaluations), History()
    for row in rows:
        history.put(row)
    frame = history.frame().drop(columns="earlier")
    if extras is not None:
        values = _objects([extras(row.extra) for row in rows])
        frame["extra"] = pd.Series(values, frame.index, dtype=object)
    return frame


#: Rows at first; doubled whenever they are used up.
_ROOM = 64


class History:
    """The candidates of a search as a frame, for generators and filters.

    It grows at little cost: only changed rows are written.  Each frame is a copy, into which users
    may write.
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
        index = pd.Index(numbers, name="candidate")
        columns: dict[str, Any] = {
            # As a Series: pandas may take an array of texts for UTF-8, which they need not be.
            f"param_{name}": pd.Series(values[:n], index, dtype=object)
            for name, values in self._params.items()
        }
        for metric in sorted(self._first, key=self._first.__getitem__):
            columns[label_of(metric)] = self._scores[metric][:n]
        if not self._scores:
            columns[SCORE] = np.full(n, np.nan)
        columns.update({name: self._others[name][:n] for name in ("state", "seconds", "error")})
        columns["earlier"] = numbers < 0
        return pd.DataFrame(columns, index=index, copy=True)


def label_of(metric: str) -> str:
    """Return the column of a metric."""
    return SCORE if metric == SCORE else f"score_{metric}"


def _objects(values: Sequence[Any]) -> Any:
    """Return an array whose items are `values` themselves, lists and arrays included."""
    array = np.empty(len(values), dtype=object)
    for n, value in enumerate(values):
        array[n] = value
    return array


@dataclass(frozen=True, slots=True)
class CandidateRow:
    """A candidate of a search with its units.

    Attributes
    ----------
    reason : str or None
        Why a filter left it out.
    units : sequence of Inspected or None
        One a split; None if the split was not asked for, or its unit was removed.
    asked : int
        So many of the splits were asked for: a race may ask for the first ones only.
    rest : str
        The state of the splits that were not asked for.
    more : mapping of str to object
        Columns that stand before all others.
    """

    number: int
    params: Mapping[str, Any]
    reason: str | None
    units: Sequence[Inspected | None]
    asked: int
    rest: str = "stopped"
    more: Mapping[str, Any] = field(default_factory=dict)


@without_collector()
def candidate_table(rows: Sequence[CandidateRow]) -> pd.DataFrame:
    """Return one row a candidate, with means and deviations over its splits."""
    n_splits = max((len(row.units) for row in rows), default=0)
    tables = _scores_by_label([row.units for row in rows], n_splits)
    columns = _leading(rows)
    for label, (scores, there) in tables.items():
        columns[label] = _over_splits(scores, there, np.average)
        if n_splits > 1 and not label.startswith("train_"):
            columns[_std_of(label)] = _over_splits(scores, there, _deviation)
    ends = [[_result(unit) for unit in row.units] for row in rows]
    fit = np.array([sum(e.fit_time for e in own if e) for own in ends], dtype=float)
    score = np.array([sum(e.score_time for e in own if e) for own in ends], dtype=float)
    columns["state"] = _objects([_state_of(row) for row in rows])
    columns["seconds"], columns["fit_time"], columns["score_time"] = fit + score, fit, score
    columns["error"] = _objects([row.reason or _first_error(row) for row in rows])
    if any(unit.kind == "function" for row in rows for unit in row.units if unit):
        texts = [next((e.extra for e in own if e and e.extra), None) for own in ends]
        columns["extra"] = _objects([decode_extra(text) for text in texts])
    index = pd.Index(np.array([row.number for row in rows], dtype=np.int64), name="candidate")
    return _framed(columns, index)


@without_collector()
def split_table(rows: Sequence[CandidateRow]) -> pd.DataFrame:
    """Return one row a (candidate, split), as :func:`candidate_table`."""
    places = [(row, split) for row in rows for split in range(len(row.units))]
    units = [row.units[split] for row, split in places]
    of_candidate = np.repeat(np.arange(len(rows)), [len(row.units) for row in rows])
    columns = {name: values[of_candidate] for name, values in _leading(rows).items()}
    for label, (scores, _) in _scores_by_label([[unit] for unit in units], 1).items():
        columns[label] = scores[:, 0]
    results = [_result(unit) for unit in units]
    columns["fit_time"] = np.array([r.fit_time if r else np.nan for r in results], dtype=float)
    columns["score_time"] = np.array([r.score_time if r else np.nan for r in results], dtype=float)
    columns["state"] = _objects([_state_at(*place) for place in places])
    columns["worker"] = _objects([unit and unit.worker for unit in units])
    columns["host"] = _objects([unit and unit.host for unit in units])
    columns["began"] = _moments([unit.began if unit else None for unit in units])
    columns["ended"] = _moments([unit.ended if unit else None for unit in units])
    columns["attempts"] = np.array([u.outcome.runs if u else 0 for u in units], dtype=np.int64)
    columns["losses"] = np.array([u.outcome.losses if u else 0 for u in units], dtype=np.int64)
    columns["error"] = _objects([_error(unit.outcome) if unit else None for unit in units])
    return _framed(columns, _by_split([(row.number, split) for row, split in places]))


def attempt_table(rows: Sequence[CandidateRow]) -> pd.DataFrame:
    """Return one row a known attempt: the lost ones, and the last one of each unit."""
    found = [
        (row.number, split, *attempt)
        for row in rows
        for split, unit in enumerate(row.units)
        if unit is not None
        for attempt in _attempts(unit)
    ]
    values = list(zip(*found, strict=True)) if found else [()] * 9
    columns: dict[str, Any] = {"attempt": np.array([n or 0 for n in values[2]], dtype=np.int64)}
    for place, name in enumerate(("state", "worker", "host", "began", "ended", "why"), start=3):
        column = _moments if name in ("began", "ended") else _objects
        columns[name] = column(values[place])
    return _framed(columns, _by_split([one[:2] for one in found]))


def _attempts(unit: Inspected) -> Iterator[tuple[Any, ...]]:
    """Yield number, state, worker, host, began, ended and why of each attempt, in order."""
    for lost in unit.lost:
        yield lost.number, "lost", lost.worker, lost.host, lost.began, lost.at, lost.why
    state = unit.outcome.state
    if state in ("completed", "failed", "running"):
        where = unit.worker, unit.host, unit.began, unit.ended
        yield unit.attempt, state, *where, _error(unit.outcome)


def _leading(rows: Sequence[CandidateRow]) -> dict[str, Any]:
    """Return the columns that come first, those of params last."""
    columns: dict[str, Any] = {}
    for name in dict.fromkeys(name for row in rows for name in row.more):
        columns[name] = natural([row.more.get(name, np.nan) for row in rows])
    for name in dict.fromkeys(name for row in rows for name in row.params):
        columns[f"param_{name}"] = natural([row.params.get(name, np.nan) for row in rows])
    return columns


def natural(values: Sequence[Any]) -> Any:
    """Return an array of the dtype that all `values` have: bool, int64, float64, else object.

    Numbers of numpy count as Python's.  A missing one is NaN, and makes ints floats.

    Examples
    --------
    >>> natural([1, np.int64(2)]).dtype, natural([1, 2.5]).dtype, natural([1, None]).dtype
    (dtype('int64'), dtype('float64'), dtype('O'))
    """
    own = [plain(value) for value in values]
    kinds = {type(value) for value in own}
    if kinds == {bool}:
        return np.array(own, dtype=bool)
    if kinds == {int} and all(-(2**63) <= value < 2**63 for value in own):
        return np.array(own, dtype=np.int64)
    if kinds and kinds <= {int, float} and not any(_is_long(value) for value in own):
        return np.array(own, dtype=float)
    return _objects(own)


def _is_long(value: Any) -> bool:
    """Return whether a number is an int that no float holds exactly."""
    return type(value) is int and abs(value) > 2**53


def _scores_by_label(units: Sequence[Sequence[Inspected | None]], n_splits: int) -> dict[str, Any]:
    """Return by column the scores (NaN if missing), and a mask of those that are there.

    Both are arrays of shape (n_candidates, n_splits).
    """
    shape = len(units), n_splits
    tables: dict[str, Any] = {}
    train: dict[str, Any] = {}
    for n, own in enumerate(units):
        for split, unit in enumerate(own):
            result = _result(unit)
            if result is None:
                continue
            for found, scores in ((tables, result.test), (train, result.train)):
                for metric, score in _by_metric(scores):
                    if metric not in found:
                        found[metric] = np.full(shape, np.nan), np.zeros(shape, dtype=bool)
                    values, there = found[metric]
                    values[n, split], there[n, split] = score, True
    test = tables or {SCORE: (np.full(shape, np.nan), np.zeros(shape, dtype=bool))}
    return {
        **{label_of(metric): scores for metric, scores in test.items()},
        **{f"train_{label_of(metric)}": scores for metric, scores in train.items()},
    }


def _by_metric(scores: Any) -> Iterable[tuple[str, float]]:
    if scores is None:
        return ()
    return ((SCORE, scores),) if isinstance(scores, float) else scores.items()


def _over_splits(scores: Any, there: Any, of: Callable[..., Any]) -> Any:
    """Apply `of` to the scores of each candidate that are there: as scikit-learn, to the bit."""
    found = np.full(len(scores), np.nan)
    counts = there.sum(axis=1)
    for count in np.unique(counts[counts > 0]):
        rows = counts == count
        found[rows] = of(scores[rows][there[rows]].reshape(-1, count), axis=1)
    return found


def _deviation(scores: Any, axis: int) -> Any:
    means = np.average(scores, axis=axis)
    return np.sqrt(np.average((scores - means[:, np.newaxis]) ** 2, axis=axis))


def _std_of(label: str) -> str:
    return f"std{label.removeprefix(SCORE)}"


def _result(unit: Inspected | None) -> Result | None:
    return None if unit is None else unit.outcome.result


def _first_error(row: CandidateRow) -> str | None:
    return next((error for unit in row.units if unit and (error := _error(unit.outcome))), None)


def _state_of(row: CandidateRow) -> str:
    """Return the state of a candidate."""
    if row.reason is not None:
        return "left out"
    states = {_state_at(row, split) for split in range(len(row.units))}
    for state, those in _STATES.items():
        if states & those:
            return state
    return "completed" if states else "missing"


#: State of a candidate: the first one here that any of its units has a state of.
_STATES = {
    "failed": {"failed", "dead"},
    "pending": {"queued", "running", "pending"},
    "cancelled": {"cancelled"},
    "missing": {"missing"},
    "stopped": {"stopped"},
}


def _state_at(row: CandidateRow, split: int) -> str:
    unit = row.units[split]
    if unit is not None:
        return unit.outcome.state
    return "missing" if split < row.asked else row.rest


def _framed(columns: Mapping[str, Any], index: pd.Index) -> pd.DataFrame:
    """Return a frame.  Texts stay objects, because pandas may assume that they are UTF-8."""
    kept = {
        name: pd.Series(values, index, dtype=object) if values.dtype == object else values
        for name, values in columns.items()
    }
    return pd.DataFrame(kept, index=index)


def _by_split(places: Sequence[tuple[int, int]]) -> pd.MultiIndex:
    at = np.array(places, dtype=np.int64).reshape(-1, 2)
    return pd.MultiIndex.from_arrays([at[:, 0], at[:, 1]], names=["candidate", "split"])


def _moments(values: Sequence[datetime | None]) -> Any:
    """Return a column of times in UTC."""
    times: Any = list(values)
    return pd.to_datetime(times, utc=True).as_unit("ms")


#: Stages without an exception: the unit was given up, or its record cannot be read.
GIVEN_UP, SET_ASIDE = "given up", "set aside"
#: So many candidates are listed in a row.
_SHOWN = 5
#: Numbers and addresses, which differ among texts of the same kind.
_VARYING = re.compile(r"0x[0-9a-fA-F]+|[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")

#: A candidate, and one of its splits.
Place = tuple[CandidateRow, int]


@dataclass(slots=True)
class _Group:
    """Failures of one kind; the first of them stands for all."""

    stage: str
    type: str | None
    text: str
    traceback: str
    units: set[tuple[int, int]] = field(default_factory=set)
    params: dict[int, Any] = field(default_factory=dict)
    hosts: set[str] = field(default_factory=set)
    workers: set[str] = field(default_factory=set)

    def add(self, row: CandidateRow, split: int, unit: Inspected | None) -> None:
        self.units.add((row.number, split))
        if len(self.params) < _SHOWN:
            self.params[row.number] = plain(dict(row.params))
        if unit is not None:
            lost = [attempt for attempt in unit.lost if unit.outcome.state == "dead"]
            self.hosts.update(filter(None, [unit.host, *(one.host for one in lost)]))
            self.workers.update(filter(None, [unit.worker, *(one.worker for one in lost)]))

    def columns(self) -> dict[str, Any]:
        return {
            "count": len(self.units),
            "stage": self.stage,
            "type": self.type,
            "text": self.text,
            "traceback": self.traceback,
            "params": list(self.params.values()),
            "splits": sorted({split for _, split in self.units}),
            "hosts": sorted(self.hosts),
            "workers": sorted(self.workers),
        }


def errors_table(
    rows: Sequence[CandidateRow],
    set_aside: Sequence[tuple[SetAside, Sequence[Place]]] = (),
) -> pd.DataFrame:
    """Return one row a kind of failure, the most frequent first.

    `set_aside` are records that could not be read, with the candidates and splits of each.
    """
    groups: dict[tuple[Any, ...], _Group] = {}
    for row in rows:
        for split, unit in enumerate(row.units):
            for stage, kind, text, traceback in _failures(unit):
                group = groups.setdefault(
                    (stage, kind, _alike(text)), _Group(stage, kind, text, traceback)
                )
                group.add(row, split, unit)
    for record, places in set_aside:
        key = SET_ASIDE, None, _alike(record.why)
        group = groups.setdefault(key, _Group(SET_ASIDE, None, record.why, ""))
        for row, split in places:
            group.add(row, split, None)
    found = sorted(groups.values(), key=lambda group: -len(group.units))
    own = [group.columns() for group in found]
    return pd.DataFrame(
        {
            name: pd.Series(
                [row[name] for row in own], dtype="int64" if name == "count" else object
            )
            for name in _Group("", None, "", "").columns()
        }
    )


def _failures(unit: Inspected | None) -> Iterator[tuple[str, str | None, str, str]]:
    """Yield stage, type, text and traceback of each failure of a unit."""
    if unit is None:
        return
    if unit.outcome.state == "dead":
        yield GIVEN_UP, None, death_of(unit.outcome).strip(), ""
    result = unit.outcome.result
    for failure in result.failures if result else ():
        yield failure.stage, failure.type, failure.text, failure.traceback


def _alike(text: str) -> str:
    """Return the last line of a text, without numbers and addresses."""
    lines = text.strip().splitlines() or [""]
    return _VARYING.sub("#", lines[-1])
