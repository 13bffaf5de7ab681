"""When a search has found enough, or taken long enough.

Decisions on scores and times that are handed in; whoever asks has the clock.
"""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass
from typing import Any

from optomatic.errors import shown


@dataclass(frozen=True, slots=True)
class Budget:
    """What ends a search before its generator does.  None of it is the default.

    Attributes
    ----------
    time_budget : float or None
        Seconds.
    target_score : float or None
        A candidate with this score or a better one is good enough.
    n_no_improve : int or None
        So many candidates in a row, as they end, none of them better than the best before.
    direction : {"maximize", "minimize"}
    """

    time_budget: float | None = None
    target_score: float | None = None
    n_no_improve: int | None = None
    direction: str = "maximize"

    def __post_init__(self) -> None:
        """Refuse what can never be meant.

        Raises
        ------
        ValueError
            For a budget that is no positive number, or a target that is none.
        """
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
        """Tell whether there is any limit at all."""
        return (self.time_budget, self.target_score, self.n_no_improve) != (None, None, None)


def _is_number(value: Any) -> bool:
    is_real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    try:
        return is_real and not math.isnan(value)
    except OverflowError:  # an int beyond all floats
        return False


def _is_positive(value: Any) -> bool:
    return _is_number(value) and bool(value > 0)


def _is_count(value: Any) -> bool:
    return _is_positive(value) and isinstance(value, numbers.Integral)


class Stopping:
    """Follows one search; :attr:`reason` says why it is to end, once it is."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._sign = -1.0 if budget.direction == "minimize" else 1.0
        self._best = -math.inf
        self._since_best = 0
        self.reason: str | None = None

    def after(self, seconds: float) -> None:
        """Note how long the search has taken."""
        limit = self._budget.time_budget
        if self.reason is None and limit is not None and seconds >= limit:
            self.reason = f"time_budget of {limit:g} s is over"

    def note(self, score: float) -> None:
        """Note the score of a candidate that has ended; NaN for one without."""
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
