"""Outcomes -> what scikit-learn makes ``cv_results_`` of, with its warnings and its lines."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from optomatic import _sklearn
from optomatic.fitting.planning import Planned
from optomatic.fitting.request import Request
from optomatic.records import Outcome
from optomatic.results import table
from optomatic.results.cv_lines import cv_lines


def announce(search: Any, n_candidates: int, n_splits: int) -> None:
    """Say what will be fitted, or that it is nothing."""
    if search.verbose > 0:
        print(
            f"Fitting {n_splits} folds for each of {n_candidates} candidates, "
            f"totalling {n_candidates * n_splits} fits"
        )
    if not n_candidates * n_splits:
        raise ValueError(
            "No fits were performed. Was the CV iterator empty? Were there no candidates?"
        )


def rows_of(
    search: Any, request: Request, outcomes: list[Outcome], candidates: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Make what scikit-learn tabulates of all outcomes; warn and raise as it does."""
    named = _sklearn.scorers_by_name(request.scorers)
    table.raise_what_gridsearchcv_raises(outcomes, search.error_score)
    _warn_of_failures(search, outcomes, candidates)
    rows = table.fit_and_score_rows(
        outcomes,
        error_score=search.error_score,
        metrics=None if named is None else list(named),
        return_train_score=bool(search.return_train_score),
    )
    failed_fits = table.without_the_dead(rows, outcomes)
    try:
        _sklearn.warn_or_raise_about_fit_failures(failed_fits, search.error_score)
    except ValueError as error:  # nothing was fitted at all
        table.advised(error)
        raise
    if callable(search.scoring):
        _sklearn.insert_error_scores(rows, search.error_score)
    return rows


def _warn_of_failures(
    search: Any, outcomes: list[Outcome], candidates: list[dict[str, Any]]
) -> None:
    if all(outcome.state == "completed" for outcome in outcomes):
        return
    n_splits = len(outcomes) // len(candidates)
    table.warn_of_failed_scores(outcomes, search.error_score)
    table.warn_of_deaths(outcomes, lambda row: candidates[row // n_splits], search.error_score)


def print_lines(
    search: Any, rows: list[dict[str, Any]], planned: Planned, printed: Collection[str]
) -> None:
    """Print what `verbose` asks for of units that this process did not score itself."""
    if search.verbose < 1:
        return
    candidates, plan = planned.candidates, planned.plan
    n_splits = len(rows) // len(candidates)
    leave_out = [
        unit_id in printed and plan.places[unit_id] == divmod(n, n_splits)
        for n, unit_id in enumerate(plan.ids)
    ]
    for line in cv_lines(rows, candidates, leave_out=leave_out, verbose=search.verbose):
        print(line)
    print(search.summary_)
