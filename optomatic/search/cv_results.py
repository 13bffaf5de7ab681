"""Outcomes -> ``cv_results_``, with scikit-learn's warnings and lines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from optomatic import _sklearn
from optomatic.driver.following import Unfollowed
from optomatic.driver.state import Entry, Ledger
from optomatic.driver.summary import Ending
from optomatic.records import Outcome
from optomatic.results import table
from optomatic.results.progress import opening_line
from optomatic.results.table import STOPPED_AFTER
from optomatic.search.request import Planned, Request


@dataclass(frozen=True, slots=True)
class Table:
    """What a search came to.

    Attributes
    ----------
    results : dict
        ``cv_results_``.
    scores : float or dict
        Test scores of the first unit.
    interrupt : KeyboardInterrupt or None
        What ended the search before all was scored.
    """

    results: dict[str, Any]
    scores: Any
    interrupt: KeyboardInterrupt | None = None


@dataclass(frozen=True, slots=True)
class Scored:
    """Candidates all of whose units have an end, in order, and the rows of these units.

    Attributes
    ----------
    candidates : list of dict
    rows : list of dict
        What scikit-learn tabulates, candidate-major.
    interrupt : KeyboardInterrupt or None
        What ended the search before all was scored.
    """

    candidates: list[dict[str, Any]]
    rows: list[dict[str, Any]]
    interrupt: KeyboardInterrupt | None


def complete_places(planned: Planned, ending: Ending) -> list[int]:
    """Return the places in ``plan.ids`` of the candidates all of whose units have an end.

    Raises
    ------
    KeyboardInterrupt
        If that ended the search before there was any.
    """
    ids = planned.plan.ids
    n_splits = len(ids) // len(planned.candidates)
    places = [
        place
        for first in range(0, len(ids), n_splits)
        if all(unit_id in ending.outcomes for unit_id in ids[first : first + n_splits])
        for place in range(first, first + n_splits)
    ]
    if not places and ending.interrupt is not None:
        raise ending.interrupt
    return places


def announce(search: Any, n_candidates: int, n_splits: int) -> None:
    """Say what will be fitted, or that it is nothing."""
    if search.verbose > 0:
        print(opening_line(n_candidates, n_splits=n_splits))
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


def print_rest(search: Any, followed: Unfollowed) -> None:
    """Print what `verbose` asks for at the end: the lines of stored units, and the summary."""
    followed.print_rest()
    if search.verbose > 0:
        print(search.summary_)


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
    """
    ends = np.cumsum([len(entry.ids) for entry in entries])
    own = [rows[end - len(e.ids) : end] for e, end in zip(entries, ends, strict=True)]
    after = np.array([ledger.stopped.get(entry.number, math.nan) for entry in entries])
    candidates = [entry.params for entry in entries]
    return table.raced_results(search._format_results, search.n_splits_, candidates, own, after)


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
