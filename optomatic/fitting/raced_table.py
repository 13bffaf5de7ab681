"""``cv_results_`` of a search in which racing left splits out."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import rankdata

from optomatic.driver.ledger import Entry, Ledger

#: The column that says after how many splits a candidate was stopped.
STOPPED_AFTER = "stopped_after"


def raced_results(
    search: Any, entries: Sequence[Entry], rows: Sequence[dict[str, Any]], ledger: Ledger
) -> dict[str, Any]:
    """Return ``cv_results_`` of candidates of which some have their first splits only.

    Parameters
    ----------
    entries : sequence of Entry
        In the order of ``cv_results_``.
    rows : sequence of dict
        What ``_fit_and_score`` would have returned, of the units of `entries` in order.

    Notes
    -----
    Means and deviations are scikit-learn's own, of all candidates with equally many splits at
    a time, and so are its warnings.  Those with all splits are ranked by it, and the others by
    their means behind them.
    """
    candidates = [entry.params for entry in entries]
    after = np.array([ledger.stopped.get(entry.number, math.nan) for entry in entries])
    if np.isnan(after).all():
        results: dict[str, Any] = search._format_results(candidates, search.n_splits_, rows)
    else:
        by_candidate = _by_candidate(rows, [len(entry.ids) for entry in entries])
        results = _with_gaps(search, candidates, by_candidate)
        for n_splits in sorted({len(own) for own in by_candidate}, reverse=True):
            _put_statistics(search, results, candidates, by_candidate, n_splits)
        _rank_behind(results, np.flatnonzero(~np.isnan(after)))
    results[STOPPED_AFTER] = after
    return results


def _by_candidate(
    rows: Sequence[dict[str, Any]], sizes: Sequence[int]
) -> list[Sequence[dict[str, Any]]]:
    ends = np.cumsum(sizes)
    return [rows[end - size : end] for size, end in zip(sizes, ends, strict=True)]


def _with_gaps(
    search: Any, candidates: list[Any], by_candidate: Sequence[Sequence[dict[str, Any]]]
) -> dict[str, Any]:
    """Return the table with NaN for splits that were left out, and in what is made of them."""
    none = {name: _nothing_like(value) for name, value in by_candidate[0][0].items()}
    filled = [
        row for own in by_candidate for row in [*own, *[none] * (search.n_splits_ - len(own))]
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of means that are put right below
        results: dict[str, Any] = search._format_results(candidates, search.n_splits_, filled)
    return results


def _nothing_like(value: Any) -> Any:
    return dict.fromkeys(value, math.nan) if isinstance(value, dict) else math.nan


def _put_statistics(
    search: Any,
    results: dict[str, Any],
    candidates: Sequence[Any],
    by_candidate: Sequence[Sequence[dict[str, Any]]],
    n_splits: int,
) -> None:
    """Put in means, deviations and ranks of the candidates that have `n_splits` splits."""
    at = [n for n, own in enumerate(by_candidate) if len(own) == n_splits]
    rows = [row for n in at for row in by_candidate[n]]
    own = search._format_results([candidates[n] for n in at], n_splits, rows)
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


def refuse_a_stopped_one(search: Any, results: dict[str, Any]) -> None:
    """See that a callable `refit` did not choose a candidate without all of its splits.

    Raises
    ------
    ValueError
        If it did.
    """
    after = results.get(STOPPED_AFTER)
    if after is not None and not math.isnan(after[search.best_index_]):
        raise ValueError(
            f"refit chose candidate {search.best_index_}, which racing stopped after "
            f"{after[search.best_index_]:.0f} of {search.n_splits_} splits, so its mean cannot be "
            "compared. All scores are stored. Have refit choose among rows where "
            f"cv_results_[{STOPPED_AFTER!r}] is NaN."
        )
