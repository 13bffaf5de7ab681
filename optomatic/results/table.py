"""Outcomes -> what scikit-learn makes its ``cv_results_`` of."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from optomatic import _sklearn
from optomatic.records import Outcome, Result, Scores
from optomatic.results.failures import death_of


def fit_and_score_rows(
    outcomes: Sequence[Outcome],
    *,
    error_score: Any,
    metrics: Sequence[str] | None,
    return_train_score: bool,
) -> list[dict[str, Any]]:
    """Return what ``_fit_and_score`` would have returned for each unit.

    `error_score` goes where there is no score; `metrics` are named if ``scoring`` names several.  A
    result with train scores serves a search without; they are left out then.
    """
    return [_row(o, error_score, metrics, return_train_score) for o in outcomes]


def _row(
    outcome: Outcome, error_score: Any, metrics: Sequence[str] | None, train: bool
) -> dict[str, Any]:
    result = outcome.result or _EMPTY
    row = {
        "fit_error": None if outcome.state == "completed" else _fit_error(outcome),
        "test_scores": _filled(result.test, metrics, error_score),
        "n_test_samples": result.n_test,
        "fit_time": result.fit_time,
        "score_time": result.score_time,
    }
    if train:
        row["train_scores"] = _filled(result.train, metrics, error_score)
    return row


_EMPTY = Result(test=None, train=None, fit_time=0.0, score_time=0.0, n_test=0)


def _filled(scores: Scores | None, metrics: Sequence[str] | None, error_score: Any) -> Any:
    """Put `error_score` where there is no score.

    Rows are never shared: scikit-learn writes into those of units that failed.
    """
    if isinstance(scores, Mapping):
        return {name: scores.get(name, error_score) for name in metrics or scores}
    if scores is None:
        return error_score if metrics is None else dict.fromkeys(metrics, error_score)
    return scores


def test_score(outcome: Outcome, metric: str | None, error_score: float) -> float:
    """Return the test score of a unit by `metric`, `error_score` where there is none.

    Raise ValueError if there are several scores, and `metric` is None.
    """
    scores = outcome.result.test if outcome.result else None
    if not isinstance(scores, Mapping):
        return float(error_score if scores is None else scores)
    if metric is None and len(scores) == 1:
        (metric,) = scores
    if metric is None:
        raise ValueError(
            f"racing compares candidates by one score, and scoring returned {len(scores)} "
            f"({', '.join(scores)}). All scores are stored. Name one of them as refit=."
        )
    return float(scores.get(metric, error_score))


def _fit_error(outcome: Outcome) -> str | None:
    """Return the traceback of a fit that failed, or why its unit was given up."""
    if outcome.state == "dead":
        return death_of(outcome)
    for failure in outcome.result.failures if outcome.result else ():
        if failure.stage in ("fit", "limit"):
            return failure.traceback
    return None


#: The column that says after how many splits a candidate was stopped.
STOPPED_AFTER = "stopped_after"


#: The column that says how many seconds the reuse of first steps of pipelines has saved.
TIME_SAVED = "prefix_time_saved"


def put_time_saved(results: dict[str, Any], by_candidate: Sequence[Sequence[Outcome]]) -> None:
    """Add the seconds that each candidate saved, in all of its fits, if any saved some."""
    saved = [
        sum(outcome.result.prefix_time_saved for outcome in own if outcome.result is not None)
        for own in by_candidate
    ]
    if any(saved):
        results[TIME_SAVED] = np.array(saved, dtype=float)


#: Candidates, splits of each, rows of all -> ``cv_results_``.
Format = Callable[[Sequence[Any], int, Sequence[dict[str, Any]]], dict[str, Any]]


def raced_results(
    form: Format,
    n_splits: int,
    candidates: Sequence[Any],
    rows: Sequence[dict[str, Any]],
    counts: Sequence[int],
    after: npt.NDArray[np.float64],
) -> dict[str, Any]:
    """Return ``cv_results_`` of candidates of which some have their first splits only.

    `form` makes scikit-learn's table, where nothing was left out.  `counts` are the numbers of
    splits of the candidates, and `after` those after which they were stopped, else NaN.  Means,
    deviations and warnings are scikit-learn's own, of all candidates with equally many splits at a
    time.  Candidates with all splits are ranked by it, the others by their means behind
    them.
    """
    if np.isnan(after).all():
        results = form(candidates, n_splits, rows)
    else:
        ends = np.cumsum(counts)
        by_candidate = [rows[end - n : end] for n, end in zip(counts, ends, strict=True)]
        results = _with_gaps(form, n_splits, candidates, by_candidate)
        for n in sorted(set(counts), reverse=True):
            _put_statistics(form, results, candidates, by_candidate, n)
        _rank_behind(results, np.flatnonzero(~np.isnan(after)))
    results[STOPPED_AFTER] = after
    return results


def _with_gaps(
    form: Format,
    n_splits: int,
    candidates: Sequence[Any],
    by_candidate: Sequence[Sequence[dict[str, Any]]],
) -> dict[str, Any]:
    """Return the table with NaN for splits that were left out, and in what is made of them."""
    none = {name: _nothing_like(value) for name, value in by_candidate[0][0].items()}
    filled = [row for own in by_candidate for row in [*own, *[none] * (n_splits - len(own))]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of means that are put right below
        return form(candidates, n_splits, filled)


def _nothing_like(value: Any) -> Any:
    return dict.fromkeys(value, math.nan) if isinstance(value, dict) else math.nan


def _put_statistics(
    form: Format,
    results: dict[str, Any],
    candidates: Sequence[Any],
    by_candidate: Sequence[Sequence[dict[str, Any]]],
    n_splits: int,
) -> None:
    """Put in means, deviations and ranks of the candidates that have `n_splits` splits."""
    at = [n for n, own in enumerate(by_candidate) if len(own) == n_splits]
    rows = [row for n in at for row in by_candidate[n]]
    own = form([candidates[n] for n in at], n_splits, rows)
    for name in own:
        if name.startswith(("mean_", "std_", "rank_")):
            results[name][at] = own[name]


def _rank_behind(results: dict[str, Any], stopped: Any) -> None:
    """Rank candidates that were stopped behind all others; those without a mean last."""
    for name in [name for name in results if name.startswith("rank_")]:
        means = results[name.replace("rank_", "mean_", 1)][stopped]
        worst_last = np.where(np.isnan(means), np.inf, -means)
        behind = len(results[name]) - len(stopped)
        results[name][stopped] = behind + rankdata(worst_last, method="min")


# ``cv_results_`` of a search that is read from the store, without its estimator.
#
# The record of a search says in its ``facts`` how that is made::
#
#     kind                "fit" | "function"
#     metrics             names of the metrics, None for one without a name
#     error_score         a number, or None for "raise"
#     return_train_score  bool
#     callable_scoring    bool: a scorer that returns a dict
#     racing              bool: there is a column ``stopped_after``
#     refit               name of the metric that decides, None if that is a callable or none
#     directions          pairs of metric and "maximize" | "minimize"; of a function only


@dataclass(frozen=True, slots=True)
class Row:
    """A candidate, and the outcome of each split that it was to get, None where there is none.

    A `stopped` one gets no more splits than these.  `more` has values of further columns.
    """

    params: dict[str, Any]
    outcomes: Sequence[Outcome | None]
    stopped: bool = False
    more: Mapping[str, Any] = ()  # type: ignore[assignment]  # an empty one

    def is_complete(self, n_splits: int) -> bool:
        """Return whether the candidate has an end on each split that it was to get."""
        whole = self.stopped or len(self.outcomes) == n_splits
        return whole and all(o is not None and o.has_ended for o in self.outcomes)


def cv_results_of(rows: Sequence[Row], n_splits: int, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the table that ``fit`` gave, of the candidates that are complete; empty if none is.

    `facts` are those of the record.  Times are those measured when a unit was scored.
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
        warnings.simplefilter("ignore")  # they were shown in the fit
        if facts["racing"]:
            counts = [len(row.outcomes) for row in rows]
            after = np.where([row.stopped for row in rows], counts, math.nan)
            results = raced_results(form, n_splits, params, made, counts, after)
        else:
            results = form(params, n_splits, made)
    _rank_the_smallest_first(results, facts.get("directions") or ())
    put_time_saved(results, [[o for o in row.outcomes if o is not None] for row in rows])
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
    """Return by its events how many splits each candidate was let on to, and the stopped ones."""
    first = next((min(event[1], n_splits) for event in events if event[0] == "racing"), n_splits)
    got, stopped = [first] * n_candidates, set[int]()
    for event in events:
        if event[0] == "race":
            for number in event[1]:
                got[number] += 1
            stopped.difference_update(event[1])
            stopped.update(event[2])
    return got, stopped
