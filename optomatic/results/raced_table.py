"""``cv_results_`` of a search in which racing left splits out."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

#: The column that says after how many splits a candidate was stopped.
STOPPED_AFTER = "stopped_after"

#: Candidates, splits of each, rows of all -> ``cv_results_``.
Format = Callable[[Sequence[Any], int, Sequence[dict[str, Any]]], dict[str, Any]]


def raced_results(
    form: Format,
    n_splits: int,
    candidates: Sequence[Any],
    by_candidate: Sequence[Sequence[dict[str, Any]]],
    after: npt.NDArray[np.float64],
) -> dict[str, Any]:
    """Return ``cv_results_`` of candidates of which some have their first splits only.

    Parameters
    ----------
    form : callable
        scikit-learn's own way to make the table, where nothing was left out.
    n_splits : int
    candidates : sequence of dict
    by_candidate : sequence of sequence of dict
        What ``_fit_and_score`` would have returned, for each of the `candidates`.
    after : ndarray of float, shape (n_candidates,)
        After how many splits a candidate was stopped; NaN if it was not.

    Notes
    -----
    Means and deviations are scikit-learn's own, of all candidates with equally many splits at
    a time, and so are its warnings.  Those with all splits are ranked by it, and the others by
    their means behind them.
    """
    if np.isnan(after).all():
        results = form(candidates, n_splits, [row for own in by_candidate for row in own])
    else:
        results = _with_gaps(form, n_splits, candidates, by_candidate)
        for n in sorted({len(own) for own in by_candidate}, reverse=True):
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
