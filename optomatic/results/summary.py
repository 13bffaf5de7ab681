"""The summary line, the opening line, and lines about uploads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True, repr=False)
class FitSummary:
    """Counts and seconds of one fit.  It prints as the line that ``verbose`` prints.

    Attributes
    ----------
    units : int
        Distinct (candidate, split) pairs of the search.
    stored : int
        Units whose score was in the store when fit began.
    scored : int
        Units that any worker scored while fit waited.
    failed : int
        Units, stored or scored, without a (complete) score.
    workers : int
        Workers that scored.
    seconds : float
        From the look-up of the units to the end of the last one.
    left_out : str
        How many candidates filters left out, and why; empty if none.
    stopped : str
        Why the search ended before its generator; empty if it did not.
    raced : str
        How many candidates racing stopped, and what that saved; empty without racing.
    earlier : str
        How many scores of earlier searches its generator got; empty if none.
    other_versions : str
        How many units have a score by other versions, and by which; empty if none.
    invalid : int
        Stored records that could not be read, so that their units were queued again.
    reused : str
        How many fits reused first steps of a pipeline, and the seconds that saved; empty if none.
    """

    units: int
    stored: int
    scored: int
    failed: int
    workers: int
    seconds: float
    left_out: str = ""
    stopped: str = ""
    raced: str = ""
    earlier: str = ""
    other_versions: str = ""
    invalid: int = 0
    reused: str = ""

    def document(self) -> dict[str, Any]:
        """Return the numbers and the line, as they are stored with the search."""
        return {**asdict(self), "line": str(self)}

    def __str__(self) -> str:
        besides = f" ({self.other_versions})" if self.other_versions else ""
        line = f"{self.units} units: {self.stored} stored{besides}, {self.scored} scored"
        if self.scored:
            line += f" by {self.workers} worker{'s' if self.workers != 1 else ''}"
        if self.failed:
            line += f", {self.failed} failed"
        if self.invalid:
            line += f", {self.invalid} invalid record{'s' if self.invalid != 1 else ''}"
        line = f"{line} in {self.seconds:.1f} s"
        more = (self.reused, self.earlier, self.left_out, self.raced, self.stopped)
        return "; ".join(part for part in (line, *more) if part)

    __repr__ = __str__


def opening_line(most: int | None, *, exact: bool = True, n_splits: int | None = None) -> str:
    """Return the line that ``verbose`` prints first.

    `most` is None if the number of candidates is unknown, and `n_splits` is None for a function.
    `exact` says whether all candidates will be scored on all splits.

    >>> opening_line(4, n_splits=5)
    'Fitting 5 folds for each of 4 candidates, totalling 20 fits'
    >>> opening_line(4, exact=False, n_splits=5)
    'Fitting 5 folds for each of up to 4 candidates, totalling up to 20 fits'
    >>> opening_line(None, n_splits=5)
    'Fitting 5 folds for each of the candidates that the generator proposes'
    >>> opening_line(4)
    'Scoring 4 candidates'
    """
    up_to = "" if exact else "up to "
    which = f"{up_to}{most} candidates"
    if most is None:
        which = "the candidates that the generator proposes"
    if n_splits is None:
        return f"Scoring {which}"
    total = "" if most is None else f", totalling {up_to}{most * n_splits} fits"
    return f"Fitting {n_splits} folds for each of {which}{total}"


Say = Callable[[str], None]


def say_nothing(_: str) -> None:
    """Take a line without showing it."""


#: Bytes of data from which an upload is reported, and between two reports.
UPLOAD_STEP = 100_000_000


def upload_lines(size: int, say: Say) -> Callable[[int], None]:
    """Return a call that takes the number of stored bytes, and reports it by `say`.

    It reports each 100 MB or each tenth of `size`, whichever is more, and nothing below 100 MB.
    """
    step = max(UPLOAD_STEP, size // 10)
    next_at = [step if size >= UPLOAD_STEP else size + 1]

    def stored(done: int) -> None:
        if done >= next_at[0] or (done == size >= UPLOAD_STEP):
            next_at[0] = done + step
            say(f"{done / 1e6:,.0f} of {size / 1e6:,.0f} MB of data are in the database")

    return stored


def together(parts: Sequence[FitSummary]) -> FitSummary:
    """Sum up the iterations of a search.

    The same workers may score in several iterations, so the largest number counts.
    """
    return FitSummary(
        units=sum(part.units for part in parts),
        stored=sum(part.stored for part in parts),
        scored=sum(part.scored for part in parts),
        failed=sum(part.failed for part in parts),
        workers=max((part.workers for part in parts), default=0),
        seconds=sum(part.seconds for part in parts),
        invalid=sum(part.invalid for part in parts),
    )
