"""Racing in a fit: whether, and by which scores."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from optomatic import _sklearn
from optomatic.driver.ledger import Ledger
from optomatic.driver.race import Race
from optomatic.fitting.request import Request
from optomatic.plan.course.racing import Racing
from optomatic.plan.course.schedule import NO_RACE, NoRace
from optomatic.records import Outcome
from optomatic.results.table import test_score
from optomatic.warning import warn


def racing_of(search: Any) -> Racing | None:
    """Return how to race, None if not at all."""
    if isinstance(search.racing, Racing):
        return search.racing
    return Racing() if search.racing else None


def check_racing(search: Any, request: Request) -> None:
    """See that there is one score to race by.

    Raises
    ------
    ValueError
        If there are several metrics and `refit` names none of them.
    """
    several = _sklearn.scorers_by_name(request.scorers) or {}
    if racing_of(search) is not None and len(several) > 1 and not isinstance(search.refit, str):
        raise ValueError(
            f"racing compares candidates by one score, and there are {len(several)} "
            f"({', '.join(several)}). Nothing was queued. Name one of them as refit=, or leave "
            "racing out."
        )


def race_of(search: Any, ledger: Ledger, splits: Sequence[Any]) -> Race | NoRace:
    """Return the race of a search; say it if nobody can be stopped in it."""
    racing = racing_of(search)
    if racing is None:
        return NO_RACE
    if len(splits) <= racing.min_splits:
        warn(
            f"racing stops nobody: cv makes {len(splits)} splits, and all candidates get the "
            f"first {racing.min_splits}. Use more splits, or racing=Racing(min_splits=...).",
            UserWarning,
        )
    ratios = [_n_rows(test) / _n_rows(train) for train, test in splits]
    return Race(racing, ledger, ratios, _score_of(search))


def _n_rows(chosen: Any) -> int:
    """Return how many rows a split takes, which may be given as a mask."""
    rows = np.asarray(chosen)
    return int(np.count_nonzero(rows)) if rows.dtype == bool else len(rows)


def _score_of(search: Any) -> Callable[[Outcome], float]:
    metric = search.refit if isinstance(search.refit, str) else None
    error_score = math.nan if search.error_score == "raise" else search.error_score
    return lambda outcome: test_score(outcome, metric, error_score)
