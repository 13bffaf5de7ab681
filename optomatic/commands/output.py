"""Print values, tables and notes.

A table is as wide as the terminal; in a pipe it has all columns and no colours.  Numbers have four
decimals in both; JSON has them whole, for programs.
"""

from __future__ import annotations

import shutil
import sys
import textwrap
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from optomatic._uri import redact
from optomatic.results.export import is_missing, json_of, records
from optomatic.results.text import full, one_line, short

if TYPE_CHECKING:
    import pandas as pd

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


def say_json(value: Any) -> None:
    """Print a value as JSON."""
    sys.stdout.write(json_of(value) + "\n")


def say_fields(fields: Mapping[str, Any]) -> None:
    """Print names and values, those that are not empty."""
    known = [(name, full(value)) for name, value in fields.items() if not is_missing(value)]
    show_table((Column(""), Column("", folds=20)), [[name, text] for name, text in known if text])


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
    of : callable or None
        Row of a frame -> text; by default the value of the column that has the title as name.
    """

    title: str
    right: bool = False
    spare: int = 0
    folds: int = 0
    of: Callable[[Mapping[str, Any]], str] | None = None

    def text(self, row: Mapping[str, Any]) -> str:
        """Return the value of this column in a row of a frame."""
        return one_line(short(row[self.title.lower()]) if self.of is None else self.of(row))


def on_terminal() -> bool:
    """Return whether people read what is printed."""
    return sys.stdout.isatty()


def terminal_width() -> int:
    """Return how many characters a line of the terminal has."""
    return shutil.get_terminal_size((80, 24)).columns


def show_rows(columns: Sequence[Column], frame: pd.DataFrame, *, json: bool, none: str) -> None:
    """Print a frame as a table or JSON; without rows and JSON print `none` to stderr."""
    if json:
        say_json(frame)
    elif frame.empty:
        sys.stderr.write(f"{none}\n")
    else:
        sys.stdout.write(table_of(columns, frame))


def table_of(columns: Sequence[Column], frame: pd.DataFrame) -> str:
    """Return a frame as a table for stdout."""
    return table(columns, [[column.text(row) for column in columns] for row in records(frame)])


def show_table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """Print a table."""
    sys.stdout.write(table(columns, rows))


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> str:
    """Return a table for stdout: fitted to a terminal, else whole."""
    if not on_terminal():
        return whole(columns, rows)
    colour = not Console(file=sys.stdout).no_color
    return fitted(columns, rows, terminal_width(), colour=colour)


def whole(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in which nothing is left out or cut, a line a row."""
    titles = [column.title for column in columns]
    lines = [titles, *rows] if any(titles) else list(rows)
    widths = [max(cell_len(line[n]) for line in lines) for n in range(len(columns))]
    text = ""
    for line in lines:
        cells = []
        for column, value, width in zip(columns, line, widths, strict=True):
            blanks = " " * (width - cell_len(value))
            cells.append(blanks + value if column.right else value + blanks)
        text += (" " * _GAP).join(cells).rstrip() + "\n"
    return text


def fitted(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int, *, colour: bool = False
) -> str:
    """Return a table of at most `width` characters a line; say which columns it lacks."""
    shown, widths = _fit(columns, rows, width)
    titled = any(column.title for column in columns)
    made = Table(
        box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold", show_header=titled
    )
    for n in shown:
        column = columns[n]
        made.add_column(
            Text(column.title),
            justify="right" if column.right else "left",
            width=widths[n],
            overflow="fold",
        )
    for row in rows:
        made.add_row(*(Text(row[n], style=_STYLES.get(row[n], "")) for n in shown))
    # A little wider than it needs, as rich keeps a gap behind the last column.
    console = Console(
        width=width + _GAP,
        color_system="standard" if colour else None,
        force_terminal=colour,
        no_color=not colour,
    )
    with console.capture() as captured:
        console.print(made)
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


def say(text: str) -> None:
    """Write `text` as one line to stderr; on a terminal no word is broken."""
    line = f"optomatic: {one_line(redact(text))}"
    if sys.stderr.isatty():
        line = textwrap.fill(line, terminal_width(), break_long_words=False, break_on_hyphens=False)
    sys.stderr.write(f"{line}\n")


def show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Write a warning of the library as a line, without the code that it comes from."""
    say(f"note: {message}")


def plain_warnings() -> None:
    """Write warnings as lines from now on."""
    warnings.showwarning = show_warning
