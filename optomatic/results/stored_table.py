"""``cv_results_`` of a search that is read from the store, without its estimator.

The record of a search says in its ``facts`` how that is made::

    kind                "fit" | "function"
    metrics             names of the metrics, None for one without a name
    error_score         a number, or None for "raise"
    return_train_score  bool
    callable_scoring    bool: a scorer that returns a dict
    racing              bool: there is a column ``stopped_after``
    refit               name of the metric that decides, None if that is a callable or nobody
    directions          pairs of metric and "maximize" | "minimize"; of a function only
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import rankdata

from optomatic import _sklearn
from optomatic.records import Outcome
from optomatic.results.raced_table import raced_results
from optomatic.results.table import fit_and_score_rows

_ENDED = ("completed", "failed", "dead")


@dataclass(frozen=True, slots=True)
class Row:
    """A candidate, and what came of its units.

    Attributes
    ----------
    params : dict
    outcomes : sequence of Outcome or None
        One a split that it was to get; None where there is no end yet.
    stopped : bool
        Racing stopped it: it gets no more splits than these.
    more : mapping
        Values of further columns, such as ``iter``.
    """

    params: dict[str, Any]
    outcomes: Sequence[Outcome | None]
    stopped: bool = False
    more: Mapping[str, Any] = ()  # type: ignore[assignment]  # an empty one

    def is_complete(self, n_splits: int) -> bool:
        """Return whether the candidate has an end on each split that it was to get."""
        whole = self.stopped or len(self.outcomes) == n_splits
        return whole and all(o is not None and o.state in _ENDED for o in self.outcomes)


def cv_results_of(rows: Sequence[Row], n_splits: int, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ``fit`` gave: the table of the candidates that are complete.

    Parameters
    ----------
    rows : sequence of Row
        In the order of the candidates.
    n_splits : int
    facts : mapping
        Of the record.

    Returns
    -------
    dict
        Empty if no candidate is complete.

    Notes
    -----
    Times are those that were measured when a unit was scored, as in ``fit``.
    """
    rows = [row for row in rows if row.is_complete(n_splits)]
    if not rows:
        return {}
    train = bool(facts["return_train_score"])
    error_score = facts["error_score"]
    whole = [outcome for row in rows for outcome in row.outcomes if outcome is not None]
    made = fit_and_score_rows(
        whole,
        error_score=math.nan if error_score is None else error_score,
        metrics=facts["metrics"],
        return_train_score=train,
    )
    if facts["callable_scoring"]:
        _sklearn.insert_error_scores(made, error_score)
    more = {name: [row.more[name] for row in rows] for name in dict(rows[0].more)}

    def form(candidates: Sequence[Any], splits: int, some: Sequence[Any]) -> dict[str, Any]:
        return _sklearn.format_results(
            candidates, splits, some, return_train_score=train, more_results=more
        )

    params = [row.params for row in rows]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # who fitted has seen them
        if facts["racing"]:
            ends = np.cumsum([len(row.outcomes) for row in rows])
            own = [made[e - len(r.outcomes) : e] for r, e in zip(rows, ends, strict=True)]
            after = np.array([len(r.outcomes) if r.stopped else math.nan for r in rows])
            results = raced_results(form, n_splits, params, own, after)
        else:
            results = form(params, n_splits, made)
    _rank_the_smallest_first(results, facts.get("directions") or ())
    return results


def _rank_the_smallest_first(
    results: dict[str, Any], directions: Sequence[tuple[str, str]]
) -> None:
    """Rank anew by metrics of which small values are good."""
    for metric, direction in directions:
        means = results.get(f"mean_test_{metric}")
        if direction == "minimize" and means is not None:
            worst_last = np.where(np.isnan(means), np.inf, means)
            results[f"rank_test_{metric}"] = rankdata(worst_last, method="min").astype(np.int32)


def best_index_of(results: Mapping[str, Any], metric: str) -> int | None:
    """Return the row with rank 1 by `metric`, None if there is none."""
    ranks = results.get(f"rank_test_{metric}")
    return None if ranks is None or not len(ranks) else int(np.argmin(ranks))


def splits_in_race(
    events: Sequence[Sequence[Any]], n_candidates: int, n_splits: int
) -> tuple[list[int], set[int]]:
    """Return how many splits each candidate was let on to, and who was stopped.

    Parameters
    ----------
    events : sequence of sequence
        Of the search (plan/course/schedule.py).
    """
    first = next((min(event[1], n_splits) for event in events if event[0] == "racing"), n_splits)
    got, stopped = [first] * n_candidates, set[int]()
    for event in events:
        if event[0] == "race":
            for number in event[1]:
                got[number] += 1
            stopped.difference_update(event[1])
            stopped.update(event[2])
    return got, stopped
