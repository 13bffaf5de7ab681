"""Progress of a search in a notebook: a bar, and the grid of candidates x splits."""

from __future__ import annotations

import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from html import escape
from itertools import groupby
from typing import Any

from rich.console import Console

from optomatic.planning.params import params_line
from optomatic.progress.live import Display, LiveLine, PlainLines, plain_line
from optomatic.progress.tally import Cell as Cell
from optomatic.progress.tally import Standing, Tally

#: Rows that are shown at most.
MOST_ROWS = 200


#: For each state: colour, height of its cell, and the pieces that the cell is cut into.
_FORMS = {
    Cell.STORED: ("#0072b2", 1.0, 1),
    Cell.SCORED: ("#009e73", 1.0, 1),
    Cell.FAILED: ("#d55e00", 1.0, 2),
    Cell.RUNNING: ("#b35a8c", 0.5, 1),
    Cell.QUEUED: ("currentColor", 0.15, 1),
    Cell.LEFT_OUT: ("currentColor", 0.15, 3),
}
#: Colours of the states that have one.
COLOURS = {cell: colour for cell, (colour, _, _) in _FORMS.items() if colour.startswith("#")}
_LINE, _HEIGHT = 15, 11
_WIDEST, _NARROWEST, _PIXELS = 14, 3, 420
_LABEL = 100


def grid_html(
    cells: Sequence[Sequence[int]],
    labels: Sequence[str] = (),
    *,
    best: int | None = None,
    most_rows: int = MOST_ROWS,
) -> str:
    """Return a grid of candidates x splits as one ``<div>``.

    `cells` has a row of :class:`Cell` for each candidate, and `labels` a text for it; `best` is
    the row in bold.  Rows beyond `most_rows` are counted, not drawn.
    """
    shown = [[Cell(int(cell)) for cell in row] for row in cells[:most_rows]]
    n_splits = max((len(row) for row in shown), default=0)
    width = max(_NARROWEST, min(_WIDEST, _PIXELS // max(n_splits, 1)))
    drawing = "".join(_path(cell, shown, width) for cell in _FORMS)
    texts = "".join(
        _text(label, n_splits * width + 8, n * _LINE + _HEIGHT, bold=n == best)
        for n, label in enumerate(labels[: len(shown)])
        if label
    )
    longest = max((min(len(label), _LABEL) for label in labels[: len(shown)]), default=0)
    size = (n_splits * width + 10 + 7 * longest, len(shown) * _LINE)
    return (
        '<div class="optomatic-grid" style="font-size:12px">'
        f"{_legend(cells)}"
        f'<div style="max-height:320px;overflow:auto">{_svg(drawing + texts, size)}</div>'
        f"{_rest(cells, most_rows)}</div>"
    )


def _svg(inner: str, size: tuple[float, float], style: str = "display:block") -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{size[0]}" height="{size[1]}" '
        f'style="{style}" fill="currentColor" font-size="11" stroke-width="0">{inner}</svg>'
    )


def _path(cell: Cell, rows: Sequence[Sequence[Cell]], width: int) -> str:
    """Draw all cells of one state as lines, a run of neighbours as one dashed line."""
    runs = []
    for n, row in enumerate(rows):
        column = 0
        for state, same in groupby(row):
            length = len(list(same))
            if state is cell:
                runs.append(f"M{column * width} {n * _LINE + 7}h{length * width - 1}")
            column += length
    if not runs:
        return ""
    colour, height, pieces = _FORMS[cell]
    faint = "" if colour.startswith("#") else ' stroke-opacity=".6"'
    # A cell is its pieces and the gaps after them; together exactly one width.
    gap = 1 if width > _NARROWEST else 0.5
    piece = (width - gap * pieces) / pieces
    return (
        f'<path d="{"".join(runs)}" fill="none" stroke="{colour}" '
        f'stroke-width="{_HEIGHT * height:g}" stroke-dasharray="{piece:.4g} {gap:g}"'
        f"{faint}>"
        f"<title>{_name(cell)}</title></path>"
    )


def _text(label: str, x: int, y: int, *, bold: bool) -> str:
    short = label if len(label) <= _LABEL else label[: _LABEL - 1] + "…"
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x}" y="{y}"{weight}>{escape(short)}</text>'


def _name(cell: Cell) -> str:
    return cell.name.lower().replace("_", " ")


def _counts(rows: Sequence[Sequence[int]]) -> Counter[Cell]:
    return Counter(Cell(int(cell)) for row in rows for cell in row)


def _legend(cells: Sequence[Sequence[int]]) -> str:
    counts = _counts(cells)
    items = (
        f'<span style="white-space:nowrap;margin-right:14px">'
        f"{_svg(_path(cell, [[cell]], 14), (14, _LINE), 'vertical-align:-3px')} "
        f"{counts[cell]:,} {_name(cell)}</span>"
        for cell in _FORMS
        if counts[cell]
    )
    return f'<div style="margin:2px 0">{"".join(items)}</div>'


def _rest(cells: Sequence[Sequence[int]], most_rows: int) -> str:
    rest = cells[most_rows:]
    if not len(rest):
        return ""
    counts = _counts(rest)
    units = ", ".join(f"{counts[cell]:,} {_name(cell)}" for cell in _FORMS if counts[cell])
    more = f"{len(rest):,} more candidate{'s' if len(rest) > 1 else ''}"
    return f'<div style="margin:2px 0">and {more}{": units " + units if units else ""}</div>'


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
