"""Counts of a running search for all displays: units, rate, workers, the best so far."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from statistics import fmean
from threading import Lock
from typing import Any

from optomatic.records import Candidate, Outcome

#: Seconds over which the rate is measured.
_RECENT = 60.0
#: Seconds for which a worker counts after it held or ended a unit.
_WORKER_SECONDS = 10.0


class Cell(IntEnum):
    """The state of one unit in a grid."""

    NOTHING = 0
    QUEUED = 1
    RUNNING = 2
    STORED = 3
    SCORED = 4
    FAILED = 5
    LEFT_OUT = 6


_ENDED = (Cell.STORED, Cell.SCORED, Cell.FAILED)


@dataclass(frozen=True, slots=True)
class Standing:
    """The progress of a search at one moment.

    Attributes
    ----------
    total : int or None
        Units of the search; None while it is unknown.
    exact : bool
        Whether `total` is exact, not an upper bound.
    stored, scored, failed : int
        Units that had ended before, units that ended since, and units among both without a
        (complete) score.
    workers : int
        Processes of workers that held or ended a unit in the last seconds.
    rate : float or None
        Units scored a second, in the last minute.
    best : tuple of float and mapping, or None
        The best mean score of a complete candidate, and its params.
    upload : str
        Progress of the upload of large data; empty without one.
    """

    name: str
    total: int | None
    exact: bool
    stored: int
    scored: int
    failed: int
    workers: int
    rate: float | None
    best: tuple[float, Mapping[str, Any]] | None
    upload: str

    @property
    def done(self) -> int:
        """Return how many units have ended."""
        return self.stored + self.scored

    @property
    def seconds_left(self) -> float | None:
        """Return the seconds that the rest takes at this rate; None if it is unknown."""
        if self.total is None or not self.rate or self.done >= self.total:
            return None
        return (self.total - self.done) / self.rate


@dataclass(slots=True)
class _Row:
    """One candidate."""

    params: Mapping[str, Any]
    ids: Sequence[str]
    cells: list[Cell]
    mean: float = math.nan


@dataclass(slots=True)
class _Unit:
    """One unit: its places in the table, its state and its score."""

    places: list[tuple[int, int]] = field(default_factory=list)
    cell: Cell = Cell.NOTHING
    score: float = math.nan


class Tally:
    """Counts of one search.  Safe to share among threads.

    Parameters
    ----------
    metric : str or None
        The metric that decides; None for the first.
    direction : {"maximize", "minimize"}
    most : int or None
        Upper bound of the units of an adaptive search; None if it is unknown.
    exact : bool
        Whether `most` is exact.
    grows : bool
        Whether the search is adaptive; otherwise all planned units are the total.
    """

    def __init__(
        self,
        *,
        metric: str | None = None,
        direction: str = "maximize",
        most: int | None = None,
        exact: bool = True,
        grows: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = ""
        self.upload = ""
        self._metric, self._sign = metric, -1 if direction == "minimize" else 1
        self._most, self._exact, self._grows = most, exact, grows
        self._clock = clock
        self._lock = Lock()
        self._rows: list[_Row] = []
        self._units: dict[str, _Unit] = {}
        self._running: set[str] = set()
        self._stored = self._scored = self._failed = self._spared = 0
        self._best: int | None = None
        self._since: float | None = None
        self._recent: deque[tuple[float, int]] = deque()
        self._workers: dict[str, tuple[float, int]] = {}

    def planned(self, candidate: Candidate) -> None:
        """Add a candidate with the ids of its units, one a split; none if it is left out."""
        with self._lock:
            number, ids, left_out = len(self._rows), candidate.units, candidate.reason is not None
            cells = [Cell.LEFT_OUT] * self._n_splits() if left_out else [Cell.NOTHING] * len(ids)
            self._rows.append(_Row(candidate.params, ids, cells))
            self._spared += len(cells) if left_out else 0
            for split, unit_id in enumerate(ids):
                unit = self._units.setdefault(unit_id, _Unit())
                unit.places.append((number, split))
                cells[split] = unit.cell
            if ids:
                self._complete(number)

    def _n_splits(self) -> int:
        return max((len(row.cells) for row in self._rows[:1]), default=1)

    def queued(self, ids: Collection[str]) -> None:
        """Note that units were queued."""
        with self._lock:
            self._since = self._clock() if self._since is None else self._since
            for unit_id in ids:
                self._put(unit_id, Cell.QUEUED)

    def stopped(self, numbers: Collection[int]) -> None:
        """Note that candidates get no further splits."""
        with self._lock:
            for number in numbers:
                cells = self._rows[number].cells
                for split, cell in enumerate(cells):
                    if cell not in _ENDED:
                        cells[split] = Cell.LEFT_OUT
                        self._spared += 1

    def running(self, ids: Collection[str], workers: Mapping[str, int]) -> None:
        """Note which units are being scored, and who holds units, with how many processes."""
        with self._lock:
            for unit_id in self._running.difference(ids):
                self._put(unit_id, Cell.QUEUED)
            for unit_id in ids:
                self._put(unit_id, Cell.RUNNING)
            self._running = set(ids)
            now = self._clock()
            self._workers.update((worker, (now, size)) for worker, size in workers.items())

    def ended(self, outcomes: Mapping[str, Outcome], *, stored: bool) -> None:
        """Note ends of units, of each once."""
        with self._lock:
            new = [i for i in outcomes if i in self._units and self._units[i].cell not in _ENDED]
            for unit_id in new:
                self._end(unit_id, outcomes[unit_id], stored)
            if new and not stored:
                self._recent.append((self._clock(), len(new)))

    def _end(self, unit_id: str, outcome: Outcome, stored: bool) -> None:
        failed = outcome.state != "completed"
        self._failed += failed
        self._stored += stored
        self._scored += not stored
        self._units[unit_id].score = math.nan if failed else self._score(outcome)
        self._put(unit_id, Cell.FAILED if failed else Cell.STORED if stored else Cell.SCORED)
        for number, _ in self._units[unit_id].places:
            self._complete(number)

    def _put(self, unit_id: str, cell: Cell) -> None:
        unit = self._units.get(unit_id)
        if unit is None or unit.cell in _ENDED:
            return
        unit.cell = cell
        for number, split in unit.places:
            self._rows[number].cells[split] = cell

    def _score(self, outcome: Outcome) -> float:
        test = outcome.result.test if outcome.result else None
        if isinstance(test, Mapping):
            name = next(iter(test), "") if self._metric is None else self._metric
            test = test.get(name)
        return math.nan if test is None else float(test)

    def _complete(self, number: int) -> None:
        """Rank a candidate once all of its units have an end."""
        row = self._rows[number]
        if any(cell not in _ENDED for cell in row.cells):
            return
        row.mean = fmean(self._units[unit_id].score for unit_id in row.ids)
        best = math.nan if self._best is None else self._rows[self._best].mean
        if not math.isnan(row.mean) and not self._sign * row.mean <= self._sign * best:
            self._best = number

    def standing(self) -> Standing:
        """Return the progress of the search."""
        with self._lock:
            best = None if self._best is None else self._rows[self._best]
            total = len(self._units)
            if self._grows:
                total = max(self._stored + self._scored, (self._most or 0) - self._spared)
            return Standing(
                self.name,
                None if self._grows and self._most is None else total,
                self._exact,
                self._stored,
                self._scored,
                self._failed,
                self._n_workers(),
                self._rate(),
                None if best is None else (best.mean, best.params),
                self.upload,
            )

    def _n_workers(self) -> int:
        before = self._clock() - _WORKER_SECONDS
        return sum(size for seen, size in self._workers.values() if seen >= before)

    def _rate(self) -> float | None:
        now = self._clock()
        while self._recent and self._recent[0][0] < now - _RECENT:
            self._recent.popleft()
        seconds = min(_RECENT, now - (now if self._since is None else self._since))
        count = sum(n for _, n in self._recent)
        return count / seconds if count and seconds > 0 else None

    def cells(self) -> list[list[Cell]]:
        """Return the state of each unit, a row for each candidate."""
        with self._lock:
            return [list(row.cells) for row in self._rows]

    def candidates(self, most: int) -> list[tuple[Mapping[str, Any], float]]:
        """Return params and mean score (NaN if unknown) of the first `most` candidates."""
        with self._lock:
            return [(row.params, row.mean) for row in self._rows[:most]]

    @property
    def best(self) -> int | None:
        """Return the number of the best candidate so far."""
        return self._best
