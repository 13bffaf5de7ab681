"""End a search that has found enough, or has taken long enough."""

from __future__ import annotations

import math
import numbers
from typing import Any

from optomatic.errors import shown


class Stopping:
    """The limits of one search; :attr:`reason` says why it must end, None while it goes on.

    It ends after `time_budget` seconds, or with a candidate that has the `target_score` or a better
    one.  It also ends after `n_no_improve` candidates in a row that were no better than the best.
    Raise ValueError for a limit that is no positive number, or a target that is none.
    """

    def __init__(
        self,
        time_budget: float | None = None,
        target_score: float | None = None,
        n_no_improve: int | None = None,
        direction: str = "maximize",
    ) -> None:
        if time_budget is not None and not _is_positive(time_budget):
            raise ValueError(
                f"time_budget is a number of seconds above 0, not {shown(time_budget)}"
            )
        if n_no_improve is not None and not _is_count(n_no_improve):
            raise ValueError(
                f"n_no_improve is a number of candidates from 1 on, not {shown(n_no_improve)}"
            )
        if target_score is not None and not _is_number(target_score):
            raise ValueError(f"target_score is a number, not {shown(target_score)}")
        self._limits = time_budget, target_score, n_no_improve
        self._sign = -1.0 if direction == "minimize" else 1.0
        self._best = -math.inf
        self._since_best = 0
        self.reason: str | None = None

    def limits_anything(self) -> bool:
        """Return whether there is any limit."""
        return self._limits != (None, None, None)

    def after(self, seconds: float) -> None:
        """Note the duration of the search so far."""
        limit, _, _ = self._limits
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
        _, target, n_no_improve = self._limits
        if target is not None and self._best >= self._sign * target:
            return f"target_score of {target:g} is reached"
        if n_no_improve is not None and self._since_best >= n_no_improve:
            return f"{n_no_improve} candidates were no better"
        return None


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
