"""Progress of a search in a notebook: a bar, and the grid of candidates x splits."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from html import escape
from typing import Any

from rich.console import Console

from optomatic.display.live import Display, LiveLine, PlainLines, plain_line
from optomatic.display.unit_grid import COLOURS, MOST_ROWS, grid_html
from optomatic.plain_values import params_line
from optomatic.results.tally import Cell, Standing, Tally

#: A notebook gets at most so many characters of HTML a second.
_PACE = 20_000


def display_here() -> Display:
    """Return the display for this process: notebook, terminal, or plain lines."""
    if in_notebook():
        return NotebookDisplay()
    stream = sys.stderr
    # If sys.stderr is None (pythonw, daemons), print() writes nothing.
    if stream is not None and stream.isatty() and Console(file=stream).is_interactive:
        return LiveLine(stream)
    return PlainLines()


def in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook."""
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return getattr(get_ipython() if get_ipython else None, "kernel", None) is not None


class NotebookDisplay:
    """Updates one output of the cell that runs the search."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next_at = 0.0
        self._handle: Any = None

    def begin(self, tally: Tally) -> None:
        """Create the output, in the thread that runs the cell."""
        from IPython.display import display

        show: Any = display  # it has no types
        self._handle = show(_bundle(tally), raw=True, display_id=True)

    def show(self, tally: Tally) -> None:
        """Update the output, but no more often than a browser can draw it."""
        if self._clock() >= self._next_at:
            self._update(tally)

    def upload(self, tally: Tally) -> None:
        """Show the progress of the upload."""
        self._update(tally)

    def end(self, tally: Tally) -> None:
        """Show the end."""
        self._update(tally)

    def _update(self, tally: Tally) -> None:
        bundle = _bundle(tally)
        self._next_at = self._clock() + max(1.0, len(bundle["text/html"]) / _PACE)
        self._handle.update(bundle, raw=True)


def _bundle(tally: Tally) -> dict[str, str]:
    standing = tally.standing()
    return {"text/plain": plain_line(standing), "text/html": html_of(tally, standing)}


def html_of(tally: Tally, standing: Standing) -> str:
    """Return bar and grid."""
    text = plain_line(standing) if not standing.upload else f"{standing.name}: {standing.upload}"
    labels = [
        ("" if math.isnan(mean) else f"{mean:.4g}  ") + params_line(params)
        for params, mean in tally.candidates(MOST_ROWS)
    ]
    return (
        f'<div style="margin:2px 0">{escape(text)}</div>{_bar(standing)}'
        f"{grid_html(tally.cells(), labels, best=tally.best)}"
    )


def _bar(standing: Standing) -> str:
    """Draw what is stored, scored and failed as shares of the total."""
    if not standing.total:
        return ""
    failed_now = min(standing.failed, standing.scored)
    counts = {
        Cell.STORED: standing.stored - (standing.failed - failed_now),
        Cell.SCORED: standing.scored - failed_now,
        Cell.FAILED: standing.failed,
    }
    parts = "".join(
        f'<div style="width:{100 * count / standing.total:.2f}%;background:{COLOURS[cell]}"></div>'
        for cell, count in counts.items()
        if count
    )
    return (
        '<div style="display:flex;height:8px;max-width:640px;margin:4px 0;'
        f'box-shadow:inset 0 0 0 1px currentColor">{parts}</div>'
    )
