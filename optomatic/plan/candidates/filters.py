"""Filters that come with us: candidates and history -> why to leave a candidate out.

A filter of one's own is any callable of the same kind: it returns one answer a candidate,
True to keep it, False or a text (the reason) to leave it out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits

from optomatic.keys.digest import digest_of
from optomatic.plan.candidates.candidate_table import (
    Columns,
    GrowingTable,
    candidates_from,
    candidates_in,
)

Candidates = Sequence[Mapping[str, Any]]


class ValidFilter:
    """Leaves out combinations that make no sense.

    Parameters
    ----------
    predicate : callable
        Candidate (dict) -> whether it is valid.
    reason : str, default="invalid"

    Examples
    --------
    >>> keep = ValidFilter(lambda c: c["penalty"] == "l2" or c["solver"] == "saga")
    >>> keep([{"penalty": "l1", "solver": "lbfgs"}, {"penalty": "l2", "solver": "lbfgs"}], None)
    ['invalid', None]
    """

    __module__ = "optomatic.filters"  # where pickles and keys look for it, wherever it stands

    def __init__(
        self, predicate: Callable[[Mapping[str, Any]], Any], reason: str = "invalid"
    ) -> None:
        self.predicate = predicate
        self.reason = reason

    def __call__(self, candidates: Candidates, history: Any) -> list[str | None]:
        """Return the reason for each candidate that the predicate refuses."""
        return [None if self.predicate(candidate) else self.reason for candidate in candidates]


class SeenFilter:
    """Leaves out candidates that were proposed before, in this search or in the same breath.

    Equal are those whose values are equal in type and content, whatever their order.  Candidates
    of earlier searches do not count (``warm_start``): the best may be among them.
    """

    __module__ = "optomatic.filters"  # where pickles and keys look for it, wherever it stands

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
        here: set[str] = set()  # later filters may leave them out, and then they may come again
        reasons: list[str | None] = []
        for digest in map(_digest, candidates):
            reasons.append("seen" if digest in self._seen or digest in here else None)
            here.add(digest)
        return reasons


def _digest(candidate: Mapping[str, Any]) -> str:
    return digest_of(dict(sorted(candidate.items()))).hex


class NearFilter:
    """Leaves out candidates that are too near to one that was tried, or is in flight.

    Candidates of earlier searches do not count (``warm_start``): the best may be near them.

    Parameters
    ----------
    distance : float, default=0.05
        Two candidates are near if no number differs by as much as this part of the range of
        what was proposed so far, and nothing else differs at all.
    log : collection of str, default=()
        Params whose logarithms are compared.
    """

    __module__ = "optomatic.filters"  # where pickles and keys look for it, wherever it stands

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
    """Leaves out what gradient boosting on the history says will hardly be good.

    Of each candidate a quantile of its score is predicted, the optimistic one: high if scores
    are maximized, low if minimized.  Kept is the best part by this bound, among all candidates
    that the filter has seen.

    Parameters
    ----------
    keep : float, default=0.5
        The part to keep.
    quantile : float, default=0.8
        How optimistic; 0.5 is the median.
    min_history : int, default=20
        With fewer scores everything is kept.
    seed : int, default=0
    metric : str, default=None
        Which score, where there are several; the first if not given.

    Notes
    -----
    scikit-learn's HistGradientBoostingRegressor(loss="quantile"), with categories as such and
    NaN for params that a candidate does not have.  It is fitted anew each time the history has
    grown by a fifth.
    """

    __module__ = "optomatic.filters"  # where pickles and keys look for it, wherever it stands

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
        """Forget an earlier search; note what is sought."""
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
        # What was predicted of those that were shown before holds until it is fitted anew.
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
        # More threads would wait for each other, and for the workers, longer than they compute.
        with threadpool_limits(1):
            self._model.fit(self._columns.table(tried), scores)
        self._fitted_on = len(tried)
        self._bounds = []

    def _predicted(self, candidates: Candidates) -> Any:
        assert self._columns is not None
        with threadpool_limits(1):
            return self._model.predict(self._columns.table(candidates))
