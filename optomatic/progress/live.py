"""Progress of a search on one line: live on a terminal, elsewhere a new line now and then.

All of it goes to stderr, so that the output of a program does not change.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from io import StringIO
from math import ceil
from threading import RLock
from typing import Any, Protocol, TextIO

from rich.console import Console
from rich.text import Text

from optomatic.planning.params import params_line
from optomatic.progress.tally import Standing, Tally

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
