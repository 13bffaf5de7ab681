"""Counts -> one line."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FitSummary:
    """What one fit took.  ``str()`` of it is the line that ``verbose`` prints.

    Attributes
    ----------
    units : int
        Distinct (candidate, split) pairs of the search.
    stored : int
        Units whose score was in the store when fit began.
    scored : int
        Units that were scored while fit waited, by whomever.
    failed : int
        Units, stored or scored, that have no (complete) score.
    workers : int
        Workers that scored.
    seconds : float
        From the look-up of the units to the last of them.
    """

    units: int
    stored: int
    scored: int
    failed: int
    workers: int
    seconds: float

    def __str__(self) -> str:
        line = f"{self.units} units: {self.stored} stored, {self.scored} scored"
        if self.scored:
            line += f" by {self.workers} worker{'s' if self.workers != 1 else ''}"
        if self.failed:
            line += f", {self.failed} failed"
        return f"{line} in {self.seconds:.1f} s"
