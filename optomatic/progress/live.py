"""Progress of a search on one line: live on a terminal, elsewhere a new line now and then.

All of it goes to stderr, so that the output of a program does not change.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import IntEnum
from io import StringIO
from math import ceil
from statistics import fmean
from threading import Lock, RLock
from typing import Any, Protocol, TextIO

from rich.console import Console
from rich.text import Text

from optomatic.planning.params import params_line
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


#: Seconds before the first line, and between two lines, without a terminal.
PLAIN_SECONDS = 30.0
_PARAMS = 100
#: Forms of the live line, the longest first: width of the bar, whether the number of scored units
#: is shown, characters of the search's name, and the text after the time that is left.
_FORMS = (
    (24, True, 40, " left"),
    (10, True, 30, " left"),
    (0, True, 30, " left"),
    (0, True, 16, " left"),
    (0, False, 16, " left"),
    (0, False, 10, ""),
)
_ERASE = "\r\x1b[2K"


class Display(Protocol):
    """Shows the progress of a search.  Called by one thread at a time."""

    def begin(self, tally: Tally) -> None:
        """Begin, in the thread that runs the search."""

    def show(self, tally: Tally) -> None:
        """Show the progress; called about twice a second."""

    def upload(self, tally: Tally) -> None:
        """Show the progress of an upload."""

    def end(self, tally: Tally) -> None:
        """Show the end."""


def line_of(standing: Standing, width: int) -> Text:
    """Return the progress of a search in at most `width` columns.

    >>> line_of(Standing("churn", 216, True, 12, 51, 1, 2, 3.1, (0.95312, {"C": 1}), ""), 80).plain
    'churn 63/216 (12 stored, 1 failed), 2 workers, 3.1/s, 50 s left, best 0.9531'
    """
    if standing.upload:
        text = Text(f"{_cut(standing.name, 30)}: {standing.upload}")
    else:
        for form in _FORMS:
            text = _composed(standing, *form)
            if text.cell_len <= width:
                break
        _add_params(text, standing, width)
    text.truncate(width, overflow="ellipsis")
    return text


def _composed(standing: Standing, bar: int, scored: bool, name: int, left: str) -> Text:
    text = Text(_cut(standing.name, name), style="bold")
    text.append(" ", style="not bold")
    if bar and standing.total:
        full = round(bar * min(1, standing.done / standing.total))
        text.append("━" * full, "not bold green").append("─" * (bar - full), "not bold dim")
        text.append(" ")
    text.append(_done(standing), "not bold")
    text.append(_came_of(standing, scored=scored), "not bold")
    for part in _pace(standing, left):
        text.append(f", {part}", "not bold")
    return text


def _done(standing: Standing) -> str:
    if standing.total is None:
        return f"{standing.done} units"
    return f"{standing.done}{'/' if standing.exact else ' of up to '}{standing.total}"


def _came_of(standing: Standing, *, scored: bool) -> str:
    counts = {
        "stored": standing.stored,
        "scored": standing.scored if scored and standing.scored != standing.done else 0,
        "failed": standing.failed,
    }
    parts = [f"{count} {name}" for name, count in counts.items() if count]
    return f" ({', '.join(parts)})" if parts else ""


def _pace(standing: Standing, left: str) -> Iterator[str]:
    yield f"{standing.workers or 'no'} worker{'' if standing.workers == 1 else 's'}"
    if standing.rate is not None:
        yield rate_text(standing.rate)
    if standing.seconds_left is not None:
        yield f"{seconds_text(standing.seconds_left)}{left}"
    if standing.best is not None:
        yield f"best {standing.best[0]:.4g}"


def _add_params(text: Text, standing: Standing, width: int) -> None:
    room = width - text.cell_len - 3
    if standing.best is not None and room >= 12:
        text.append(f" ({_cut(params_line(standing.best[1]), room)})", "not bold dim")


def rate_text(rate: float) -> str:
    """Return a rate in units a second, a minute or an hour, whichever reads best.

    >>> rate_text(31.2), rate_text(3.14), rate_text(0.2), rate_text(0.004)
    ('31/s', '3.1/s', '12/min', '14/h')
    """
    per, seconds = ("s", 1) if rate >= 1 else ("min", 60) if rate >= 1 / 60 else ("h", 3600)
    return f"{rate * seconds:.{0 if rate * seconds >= 10 else 1}f}/{per}"


def seconds_text(seconds: float) -> str:
    """Return a time that is left.

    >>> seconds_text(49.2), seconds_text(125), seconds_text(7300), seconds_text(200_000)
    ('50 s', '2:05', '2 h 1 min', '2 d 7 h')
    """
    whole = ceil(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02}"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def _cut(text: str, most: int) -> str:
    cut = Text(text)
    cut.truncate(most, overflow="ellipsis")
    return cut.plain


def plain_line(standing: Standing) -> str:
    """Return the progress of a search as a line without a terminal's width."""
    text = _composed(standing, 0, True, 60, " left")
    _add_params(text, standing, text.cell_len + _PARAMS)
    return text.plain


class PlainLines:
    """Prints a line now and then."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._printed_at = clock()

    def begin(self, tally: Tally) -> None:
        """Start to count the seconds before the first line."""
        self._printed_at = self._clock()

    def show(self, tally: Tally) -> None:
        """Print a line if the last one is long ago."""
        if self._clock() - self._printed_at >= PLAIN_SECONDS:
            self._printed_at = self._clock()
            print(plain_line(tally.standing()) + "\n", end="", file=sys.stderr, flush=True)

    def upload(self, tally: Tally) -> None:
        """Print a line: uploads report only each tenth."""
        print(f"{tally.name}: {tally.upload}\n", end="", file=sys.stderr, flush=True)

    def end(self, tally: Tally) -> None:
        """Print nothing: the summary follows."""


class LiveLine:
    """Draws one line on the terminal again and again, and erases it at the end.

    Output of this process stands above the line, unchanged: the line is erased before and drawn
    again after.  The cursor stands at its beginning, so other processes overwrite it.
    """

    def __init__(self, stream: TextIO) -> None:
        # It renders only: writing to the stream itself would pass through the hooks below.
        self._console = Console(file=StringIO(), force_terminal=True, highlight=False)
        self._stream = stream
        self._lock = RLock()
        self._pid = os.getpid()
        self._drawn = self._unfinished = False
        self._text: Text | None = None
        self._write: Callable[[str], Any] = stream.write
        self._hooked: list[TextIO] = []

    def begin(self, tally: Tally) -> None:
        """Hook the streams, so that the line is erased before something is printed."""
        streams = {id(stream): stream for stream in (self._stream, sys.stdout)}
        for stream in streams.values():
            # Python prints, warns and logs by these objects.  Replacing them would change the
            # globals of user code, and so its keys.
            if stream is not None and stream.isatty() and "write" not in vars(stream):
                with suppress(AttributeError, TypeError):
                    stream.write = self._before(stream.write)  # type: ignore[method-assign]
                    self._hooked.append(stream)

    def _before(self, write: Callable[[str], Any]) -> Callable[[str], Any]:
        def written(text: str) -> Any:
            # In a forked process the lock may be held for ever by a thread that is not there.
            if not text or os.getpid() != self._pid:
                return write(text)
            with self._lock:
                self._erase()
                answer = write(text)
                self._unfinished = not text.endswith("\n")
                self._draw()
                return answer

        return written

    def show(self, tally: Tally) -> None:
        """Draw the line again."""
        with self._lock:
            self._text = line_of(tally.standing(), self._console.width - 1)
            self._draw()

    upload = show

    def end(self, tally: Tally) -> None:
        """Erase the line."""
        with self._lock:
            self._text = None
            for stream in self._hooked:
                del stream.write
            self._hooked.clear()
            self._erase()

    def _draw(self) -> None:
        if self._text is None or self._unfinished:
            return
        with self._console.capture() as capture:
            self._console.print(self._text, end="", no_wrap=True, overflow="crop")
        self._write(f"{_ERASE}{capture.get()}\r")
        self._stream.flush()
        self._drawn = True

    def _erase(self) -> None:
        if self._drawn:
            self._write(_ERASE)
            self._stream.flush()
            self._drawn = False
