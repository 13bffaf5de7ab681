"""Tables: as wide as the terminal, or, where a program reads them, whole and without colours."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

_GAP = 2
_STYLES = {
    "completed": "green",
    "running": "cyan",
    "left": "cyan",
    "abandoned": "yellow",
    "interrupted": "yellow",
    "cancelled": "yellow",
    "failed": "red",
    "invalid": "red",
    "dead": "red",
}


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes
    ----------
    title : str
    right : bool
        Numbers stand on the right.
    spare : int
        Where the terminal is too narrow the column with the highest number goes first; one with
        0 stays.  Empty ones of the others go before them.
    folds : int
        Its values may take several lines, of at least so many characters; 0 if they must not.
    """

    title: str
    right: bool = False
    spare: int = 0
    folds: int = 0


def on_terminal() -> bool:
    """Return whether people read what is printed."""
    return sys.stdout.isatty()


def terminal_width() -> int:
    """Return how many characters a line of the terminal has."""
    return shutil.get_terminal_size((80, 24)).columns


def show_table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """Print a table."""
    if on_terminal():
        sys.stdout.write(fitted(columns, rows, terminal_width(), colour=_colour()))
    else:
        sys.stdout.write(whole(columns, rows))


def _colour() -> bool:
    return not Console(file=sys.stdout).no_color


def whole(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in which nothing is left out or cut, a line a row."""
    titles = [column.title for column in columns]
    table = [titles, *rows] if any(titles) else list(rows)
    widths = [max(cell_len(row[n]) for row in table) for n in range(len(columns))]
    text = ""
    for row in table:
        cells = [
            " " * (width - cell_len(cell)) + cell
            if column.right
            else cell + " " * (width - cell_len(cell))
            for column, cell, width in zip(columns, row, widths, strict=True)
        ]
        text += (" " * _GAP).join(cells).rstrip() + "\n"
    return text


def fitted(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int, *, colour: bool = False
) -> str:
    """Return a table of at most `width` characters a line; say which columns it lacks."""
    shown, widths = _fit(columns, rows, width)
    titled = any(column.title for column in columns)
    table = Table(
        box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold", show_header=titled
    )
    for n in shown:
        column = columns[n]
        table.add_column(
            Text(column.title),
            justify="right" if column.right else "left",
            width=widths[n],
            overflow="fold",
        )
    for row in rows:
        table.add_row(*(Text(row[n], style=_STYLES.get(row[n], "")) for n in shown))
    # A little wider than it needs, as rich keeps a gap behind the last column.
    console = Console(
        width=width + _GAP,
        color_system="standard" if colour else None,
        force_terminal=colour,
        no_color=not colour,
    )
    with console.capture() as captured:
        console.print(table)
    text = "\n".join(line.rstrip() for line in captured.get().split("\n"))
    hidden = [
        column.title
        for n, column in enumerate(columns)
        if n not in shown and any(row[n] for row in rows)
    ]
    return text + (_note(hidden, width) if hidden else "")


def _note(hidden: Sequence[str], width: int) -> str:
    return textwrap.fill(f"({', '.join(hidden)}: in a wider terminal, or --json)", width) + "\n"


def _fit(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int
) -> tuple[list[int], list[int]]:
    """Return which columns are shown, and how wide each of all is."""
    widths = [
        max([cell_len(column.title), *(cell_len(row[n]) for row in rows)])
        for n, column in enumerate(columns)
    ]
    least = [
        min(widths[n], max(column.folds, cell_len(column.title))) if column.folds else widths[n]
        for n, column in enumerate(columns)
    ]
    shown = list(range(len(columns)))

    def room(sizes: Sequence[int]) -> int:
        return width - sum(sizes[n] + _GAP for n in shown) + _GAP

    empty = [n for n in shown if columns[n].spare and not any(row[n] for row in rows)]
    while room(least) < 0:
        spare = empty.pop() if empty else max(shown, key=lambda n: columns[n].spare)
        if columns[spare].spare == 0:
            break
        shown.remove(spare)
    sizes = list(least)
    left = room(least)
    for n in shown:  # what is left goes to those that would fold, the first one first
        more = max(0, min(widths[n] - sizes[n], left))
        sizes[n] += more
        left -= more
    return shown, sizes
