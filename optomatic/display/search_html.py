"""A search as HTML: what it is, how far, its best candidate, and its units as a grid."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from optomatic.display.grid import MOST_ROWS, grid_html


def search_html(
    title: str,
    lines: Sequence[str],
    cells: Sequence[Sequence[int]] = (),
    labels: Sequence[str] = (),
    *,
    best: int | None = None,
) -> str:
    """Return a search as HTML, in the colour of the text around it, without a script.

    Parameters
    ----------
    title : str
    lines : sequence of str
        What is said of it.
    cells : array of shape (n_candidates, n_splits)
        A :class:`~optomatic.display.grid.Cell` for each unit; no grid if it is empty.
    labels : sequence of str
        The params of the candidates, of as many as are shown.
    best : int, optional
        Number of the best candidate.
    """
    said = "".join(f'<div style="margin:1px 0">{escape(line)}</div>' for line in lines)
    grid = grid_html(cells, labels[:MOST_ROWS], best=best) if len(cells) else ""
    return (
        '<div class="optomatic-search" style="margin:6px 0;font-family:sans-serif;font-size:13px">'
        f'<div style="font-weight:bold">{escape(title)}</div>{said}{grid}</div>'
    )
