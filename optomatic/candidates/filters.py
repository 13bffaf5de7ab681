"""Filters: the reasons to leave candidates out, from candidates and history.

A filter of the user's is any callable of this kind.  It returns one answer a candidate: True or
None keeps it, False or a text (the reason) leaves it out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from optomatic.candidates.ask_tell import STORED, name_of
from optomatic.errors import FilterFailed
from optomatic.keys.digest import digest_of

#: Categories of histogram gradient boosting, at most.
_MOST_CATEGORIES = 255


def candidates_in(history: Any) -> list[dict[str, Any]]:
    """Return the candidates of a history."""
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
    """Return the numbers and the candidates of a history from `number` on."""
    fresh = history.iloc[int(np.searchsorted(history.index.to_numpy(), number)) :]
    return [int(n) for n in fresh.index], candidates_in(fresh)


def _is_missing(value: Any) -> bool:
    return isinstance(value, float) and value != value


class Columns:
    """Translates candidates into rows of numbers.

    A param of `names` is a number if all its values are ints or floats.  Others are
    ``categorical``: each type and text of a value is a category with a code.
    """

    __module__ = "optomatic.filters"  # the name in pickles

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
        """Return an array of shape (n_candidates, n_names), NaN for missing and unknown values."""
        rows = np.full((len(candidates), len(self.names)), np.nan)
        for n, candidate in enumerate(candidates):
            for k, name in enumerate(self.names):
                if name in candidate:
                    rows[n, k] = self._number(name, candidate[name])
        return rows

    def take_in(self, candidates: Sequence[Mapping[str, Any]]) -> bool:
        """Add categories of more candidates; return False if they need other columns."""
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
    """A table of candidates that grows, mostly without a new start."""

    __module__ = "optomatic.filters"  # the name in pickles

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
        """Return the columns and the table with `candidates` at the end."""
        if self._columns.take_in(candidates):
            return self._columns, np.vstack([self._rows, self._columns.table(candidates)])
        columns = Columns([*self._candidates, *candidates])
        return columns, columns.table([*self._candidates, *candidates])


Candidates = Sequence[Mapping[str, Any]]


class ValidFilter:
    """Leaves out invalid combinations of params.

    Parameters
    ----------
    predicate : callable
        Candidate (dict) -> whether it is valid.
    reason : str, default="invalid"
        Why candidates are left out, for the counts of the search.

    Examples
    --------
    >>> keep = ValidFilter(lambda c: c["penalty"] == "l2" or c["solver"] == "saga")
    >>> keep([{"penalty": "l1", "solver": "lbfgs"}, {"penalty": "l2", "solver": "lbfgs"}], None)
    ['invalid', None]
    """

    __module__ = "optomatic.filters"  # the name in pickles and keys

    def __init__(
        self, predicate: Callable[[Mapping[str, Any]], Any], reason: str = "invalid"
    ) -> None:
        self.predicate = predicate
        self.reason = reason

    def __call__(self, candidates: Candidates, history: Any) -> list[str | None]:
        """Return the reason for each candidate that the predicate refuses."""
        return [None if self.predicate(candidate) else self.reason for candidate in candidates]


class SeenFilter:
    """Leaves out candidates that this search has proposed before.

    Candidates are equal if their values are equal in type and content, in any order.  Those of
    earlier searches do not count (``warm_start``), since the best may be among them.
    """

    __module__ = "optomatic.filters"  # the name in pickles and keys

    def __init__(self) -> None:
        self.begin({})

    def begin(self, directions: Mapping[str, str]) -> None:
        """Forget an earlier search."""
        self._next = 0
        self._seen: set[str] = set()

    def __call__(self, candidates: Candidates, history: Any) -> list[str | None]:
        """Return ``seen`` for each candidate that is not new."""
        numbers, fresh = candidates_from(history, self._next)
        self._next = max(numbers, default=self._next - 1) + 1
        self._seen.update(map(_digest, fresh))
        here: set[str] = set()  # later filters may leave these out, so they may come again
        reasons: list[str | None] = []
        for digest in map(_digest, candidates):
            reasons.append("seen" if digest in self._seen or digest in here else None)
            here.add(digest)
        return reasons


def _digest(candidate: Mapping[str, Any]) -> str:
    return digest_of(dict(sorted(candidate.items()))).hex


class NearFilter:
    """Leaves out candidates that are too near to one that was tried or is in flight.

    Candidates of earlier searches do not count (``warm_start``), since the best may be near them.

    Parameters
    ----------
    distance : float, default=0.05
        Two candidates are near if each number differs by less than this part of the range of
        all proposed values, and all other values are equal.
    log : collection of str, default=()
        Params that are compared by their logarithms.
    """

    __module__ = "optomatic.filters"  # the name in pickles and keys

    def __init__(self, distance: float = 0.05, log: Collection[str] = ()) -> None:
        self.distance = distance
        self.log = log
        self.begin({})

    def begin(self, directions: Mapping[str, str]) -> None:
        """Forget an earlier search."""
        self._next = 0
        self._tried: GrowingTable | None = None

    def __call__(self, candidates: Candidates, history: Any) -> list[str | None]:
        """Return ``too near`` for each candidate that is."""
        numbers, fresh = candidates_from(history, self._next)
        self._next = max(numbers, default=self._next - 1) + 1
        tried = self._tried = GrowingTable() if self._tried is None else self._tried
        tried.add(fresh)
        columns, table = tried.followed_by(candidates)
        scaled = self._scaled(columns, table)
        kept = np.arange(len(scaled)) < len(tried)
        limits = np.where(columns.categorical, 1e-9, self.distance)
        reasons: list[str | None] = []
        for n in range(len(tried), len(scaled)):
            near = _any_is_near(scaled[n], scaled[kept], limits)
            reasons.append("too near" if near else None)
            kept[n] = not near
        return reasons

    def _scaled(self, columns: Columns, table: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        for k, name in enumerate(columns.names):
            if columns.categorical[k]:
                continue
            if name in self.log:
                table[:, k] = np.log(table[:, k])
            known = table[:, k][np.isfinite(table[:, k])]
            width = np.ptp(known) if len(known) else 0.0
            table[:, k] /= width or 1.0
        return table


def _any_is_near(row: Any, others: Any, limits: Any) -> bool:
    both_missing = np.isnan(row) & np.isnan(others)
    return bool(((np.abs(others - row) < limits) | both_missing).all(axis=1).any())


class PromisingFilter:
    """Leaves out candidates for which gradient boosting on the history predicts low scores.

    It predicts an optimistic quantile of the score of each candidate: high if scores are
    maximized, low if minimized.  It keeps the best part by this bound, among all candidates that
    it has seen.

    Parameters
    ----------
    keep : float, default=0.5
        The part to keep.
    quantile : float, default=0.8
        The predicted quantile; 0.5 is the median.
    min_history : int, default=20
        With fewer scores it keeps all candidates.
    seed : int, default=0
        Seed of the model that predicts.
    metric : str, default=None
        The score to predict if there are several; by default the first.

    Notes
    -----
    The model is scikit-learn's HistGradientBoostingRegressor(loss="quantile"), with categories,
    and NaN for params that a candidate does not have.  It is fitted again whenever the history
    has grown by a fifth.
    """

    __module__ = "optomatic.filters"  # the name in pickles and keys

    def __init__(
        self,
        keep: float = 0.5,
        quantile: float = 0.8,
        min_history: int = 20,
        seed: int = 0,
        metric: str | None = None,
    ) -> None:
        if not (0 < keep <= 1 and 0 < quantile < 1):
            raise ValueError(f"keep and quantile are parts of 1, not {keep!r} and {quantile!r}")
        self.keep = keep
        self.quantile = quantile
        self.min_history = min_history
        self.seed = seed
        self.metric = metric
        self.begin({})

    def begin(self, directions: Mapping[str, str]) -> None:
        """Forget an earlier search; note the direction."""
        direction = directions.get(self.metric or "", next(iter(directions.values()), "maximize"))
        self._sign = -1.0 if direction == "minimize" else 1.0
        self._shown: list[dict[str, Any]] = []
        self._fitted_on = 0
        self._columns: Columns | None = None
        self._model: Any = None
        self._bounds: Any = []

    def __call__(self, candidates: Candidates, history: Any) -> list[str | None]:
        """Return ``unpromising`` for each candidate that is."""
        self._shown += map(dict, candidates)
        enough = max(self.min_history, 1.2 * self._fitted_on)
        if len(history) >= enough and len(done := self._done(history)) >= enough:
            self._fit(done)
        if self._model is None:
            return [None] * len(candidates)
        # Earlier predictions hold until the next fit.
        new = self._predicted(self._shown[len(self._bounds) :])
        self._bounds = np.concatenate([self._bounds, new])
        worst = np.quantile(self._bounds, 1 - self.keep)
        return [None if b >= worst else "unpromising" for b in self._bounds[-len(candidates) :]]

    def _label(self, history: Any) -> str:
        if self.metric is not None and f"score_{self.metric}" in history:
            return f"score_{self.metric}"
        return next(str(name) for name in history if str(name).startswith("score"))

    def _done(self, history: Any) -> Any:
        if not len(history):
            return history
        scores = history[self._label(history)]
        return history[history["state"].isin(["completed", "stopped"]) & np.isfinite(scores)]

    def _fit(self, done: Any) -> None:
        # It takes as long to import as half of this package, which each first fit waits for.
        from sklearn.ensemble import HistGradientBoostingRegressor

        tried = candidates_in(done)
        self._columns = Columns(tried)
        self._model = HistGradientBoostingRegressor(
            loss="quantile",
            quantile=self.quantile,
            categorical_features=self._columns.categorical,
            min_samples_leaf=max(2, len(tried) // 20),
            max_iter=50,
            early_stopping=False,
            random_state=self.seed,
        )
        scores = self._sign * done[self._label(done)].to_numpy()
        # More threads would wait for each other and for workers longer than they compute.
        with threadpool_limits(1):
            self._model.fit(self._columns.table(tried), scores)
        self._fitted_on = len(tried)
        self._bounds = []

    def _predicted(self, candidates: Candidates) -> Any:
        assert self._columns is not None
        with threadpool_limits(1):
            return self._model.predict(self._columns.table(candidates))


#: ``(candidates, history) -> answers``, one a candidate.
Filter = Callable[[list[dict[str, Any]], Any], Iterable[Any]]


class Filters:
    """Asks one filter after another, and counts their reasons.

    Each filter gets the candidates that those before it keep, and the history (DataFrame).  If it
    has ``begin(directions)``, that is called first.
    """

    def __init__(self, filters: Sequence[Filter], directions: Mapping[str, str]) -> None:
        self._filters = [_begun(one, directions) for one in filters]
        #: Number of candidates left out, by reason, in the order of the first of each.
        self.left_out: dict[str, int] = {}

    def __bool__(self) -> bool:
        return bool(self._filters)

    def reasons(
        self, candidates: Sequence[dict[str, Any]], history: Callable[[], Any]
    ) -> list[str | None]:
        """Return the reason for each candidate that is left out, None for the others.

        Raises FilterFailed for any error of a filter, and for a wrong number of answers.
        """
        found: list[str | None] = [None] * len(candidates)
        for one in self._filters:
            left = [n for n, reason in enumerate(found) if reason is None]
            if not left:
                break
            answers = _answers(one, [dict(candidates[n]) for n in left], history())
            for n, answer in zip(left, answers, strict=True):
                found[n] = answer
        for reason in found:
            if reason is not None:
                self.left_out[reason] = self.left_out.get(reason, 0) + 1
        return found


def _begun(one: Filter, directions: Mapping[str, str]) -> Filter:
    if not callable(one):
        raise FilterFailed(f"a filter is called with candidates and history, and {one!r} cannot be")
    begin = getattr(one, "begin", None)
    if begin is not None:
        begin(dict(directions))
    return one


def _answers(one: Filter, candidates: list[dict[str, Any]], history: Any) -> list[str | None]:
    name = name_of(one)
    try:
        answers = list(one(candidates, history))
    except Exception as error:  # of user code
        raise FilterFailed(
            f"The filter {name} raised {type(error).__name__}: {error}. {STORED}"
        ) from error
    if len(answers) != len(candidates):
        raise FilterFailed(
            f"The filter {name} gave {len(answers)} answers for {len(candidates)} candidates. "
            f"{STORED}"
        )
    return [_reason(name, answer) for answer in answers]


def _reason(name: str, answer: Any) -> str | None:
    if answer is None or isinstance(answer, str):
        return answer or None
    if isinstance(answer, bool | np.bool_):
        return None if answer else name
    raise FilterFailed(
        f"The filter {name} answered {answer!r:.100} ({type(answer).__name__}); True keeps a "
        f"candidate, False or a text (the reason) leaves it out. {STORED}"
    )


def shown_left_out(left_out: Mapping[str, int], proposed: int) -> str:
    """Return a line about the candidates that were left out.

    >>> shown_left_out({"invalid": 8, "unpromising": 4}, 400)
    '12 of 400 left out: 8 invalid, 4 unpromising'
    """
    reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
    return f"{sum(left_out.values())} of {proposed} left out: {reasons}"
