"""End a search that has found enough, or has taken long enough."""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass
from typing import Any

from optomatic.errors import shown


@dataclass(frozen=True, slots=True)
class Budget:
    """The limits of a search, by default none.

    Attributes
    ----------
    time_budget : float or None
        Seconds.
    target_score : float or None
        The search ends with a candidate that has this score or a better one.
    n_no_improve : int or None
        The search ends after this many candidates in a row that were no better than the best.
    direction : {"maximize", "minimize"}
    """

    time_budget: float | None = None
    target_score: float | None = None
    n_no_improve: int | None = None
    direction: str = "maximize"

    def __post_init__(self) -> None:
        """Raise ValueError for a limit that is no positive number, or a target that is none."""
        if self.time_budget is not None and not _is_positive(self.time_budget):
            raise ValueError(
                f"time_budget is a number of seconds above 0, not {shown(self.time_budget)}"
            )
        if self.n_no_improve is not None and not _is_count(self.n_no_improve):
            raise ValueError(
                f"n_no_improve is a number of candidates from 1 on, not {shown(self.n_no_improve)}"
            )
        if self.target_score is not None and not _is_number(self.target_score):
            raise ValueError(f"target_score is a number, not {shown(self.target_score)}")

    def limits_anything(self) -> bool:
        """Return whether there is any limit."""
        return (self.time_budget, self.target_score, self.n_no_improve) != (None, None, None)


def _is_number(value: Any) -> bool:
    is_real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    try:
        return is_real and not math.isnan(value)
    except OverflowError:  # an int above all floats
        return False


def _is_positive(value: Any) -> bool:
    return _is_number(value) and bool(value > 0)


def _is_count(value: Any) -> bool:
    return _is_positive(value) and isinstance(value, numbers.Integral)


class Stopping:
    """Follows one search; :attr:`reason` says why it must end, None while it goes on."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._sign = -1.0 if budget.direction == "minimize" else 1.0
        self._best = -math.inf
        self._since_best = 0
        self.reason: str | None = None

    def after(self, seconds: float) -> None:
        """Note the duration of the search so far."""
        limit = self._budget.time_budget
        if self.reason is None and limit is not None and seconds >= limit:
            self.reason = f"time_budget of {limit:g} s is over"

    def note(self, score: float) -> None:
        """Note the score of a candidate that has ended, NaN if it has none."""
        better = self._sign * score > self._best
        self._since_best = 0 if better else self._since_best + 1
        if better:
            self._best = self._sign * score
        if self.reason is None:
            self.reason = self._found_enough()

    def _found_enough(self) -> str | None:
        budget = self._budget
        if budget.target_score is not None and self._best >= self._sign * budget.target_score:
            return f"target_score of {budget.target_score:g} is reached"
        if budget.n_no_improve is not None and self._since_best >= budget.n_no_improve:
            return f"{budget.n_no_improve} candidates were no better"
        return None
