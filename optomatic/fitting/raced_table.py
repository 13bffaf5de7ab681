"""``cv_results_`` of a raced search, and the choice of its best candidate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from optomatic.driver.ledger import Entry, Ledger
from optomatic.results import raced_table
from optomatic.results.raced_table import STOPPED_AFTER


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
    return raced_table.raced_results(
        search._format_results, search.n_splits_, candidates, own, after
    )


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
