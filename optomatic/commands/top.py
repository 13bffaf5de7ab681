"""optomatic top: searches, workers and running units, live."""

from __future__ import annotations

import select
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

from optomatic.commands.arguments import Db, Json
from optomatic.commands.look import SEARCHES, WORKERS
from optomatic.commands.output import (
    Column,
    on_terminal,
    say_json,
    table_of,
    terminal_width,
)
from optomatic.results.export import records
from optomatic.results.text import span

if TYPE_CHECKING:
    import pandas as pd


#: Seconds between two looks.
_PAUSE = 2.0
#: Seconds between two drawings, and after which a silent database is reported.
_REDRAW, _SILENT = 0.5, 5.0
#: Looking takes at most one part in five of the time, so a large database is not kept busy.
_SHARE = 4
_ACTIVE = ("running", "left", "abandoned")
_MOST_RUNNING = 15


Once = Annotated[bool, typer.Option("--once", help="print once, and end")]


@dataclass
class _Look:
    """One look, which took ``took`` seconds; ``done`` counts the ended units of all searches."""

    searches: pd.DataFrame
    workers: pd.DataFrame
    running: pd.DataFrame
    done: pd.Series
    took: float
    at: float = field(default_factory=time.monotonic)


def top(db: Db = None, once: Once = False, json: Json = False) -> None:
    """Show searches, workers and running units, live.

    q or Ctrl-C ends it. Without a terminal it prints once.
    """
    if json:
        look = _look(db)
        return say_json({name: records(getattr(look, name)) for name in _PARTS})
    if once or not on_terminal():
        sys.stdout.write(_text(_look(db), None))
        return None
    with suppress(KeyboardInterrupt):
        _live(db)
    return None


_PARTS = ("searches", "workers", "running")


def _look(db: str | None) -> _Look:
    from optomatic.search.database import running, searches, workers

    began = time.monotonic()
    found = searches(db)
    active = found[found["state"].isin(_ACTIVE)]
    work, units = workers(db), running(db)
    return _Look(active, work, units, found["done"], time.monotonic() - began)


def _live(db: str | None) -> None:
    found: SimpleQueue[_Look | Exception] = SimpleQueue()
    threading.Thread(target=_keep_looking, args=(db, found), daemon=True).start()
    first = found.get()
    if isinstance(first, Exception):
        raise first
    look, before, why = first, None, ""
    with (
        warnings.catch_warnings(action="ignore"),  # the screen reports an outage
        _keys() as pressed,
        Live(console=Console(), screen=True, auto_refresh=False) as live,
    ):
        while True:
            live.update(Text.from_ansi(_screen(look, before, why)), refresh=True)
            if pressed(_REDRAW):
                return
            with suppress(Empty):
                new = found.get_nowait()
                if isinstance(new, Exception):
                    why = f" ({type(new).__name__})"
                else:
                    look, before, why = new, look, ""


def _keep_looking(db: str | None, found: SimpleQueue[_Look | Exception]) -> None:
    """Look again and again in a thread: keys work while the database is away."""
    while True:
        pause = _PAUSE
        try:
            look = _look(db)
        except Exception as error:
            found.put(error)
        else:
            found.put(look)
            pause = max(_PAUSE, _SHARE * look.took)
        time.sleep(pause)


def _screen(look: _Look, before: _Look | None, why: str) -> str:
    """Return what fits on the terminal, below a line if the database has not answered for long."""
    lines = _text(look, before).split("\n")
    silent = time.monotonic() - look.at
    if why or silent > _SILENT + look.took * (_SHARE + 1):
        said = f"The store has not answered for {span(silent)}{why}. Below is its last answer."
        lines = [said[: terminal_width()], "", *lines]
    return "\n".join([*lines[: Console().size.height - 2], "q: end"])


def _text(look: _Look, before: _Look | None) -> str:
    parts = [_heading(look, before)]
    for columns, frame in ((SEARCHES, look.searches), (WORKERS, look.workers)):
        if len(frame):
            parts.append(table_of(columns, frame))
    if len(look.running):
        shown = look.running.head(_MOST_RUNNING)
        parts.append(table_of(_UNITS, shown))
        if more := len(look.running) - len(shown):
            parts.append(f"and {more} more\n")
    return "\n".join(parts)


def _heading(look: _Look, before: _Look | None) -> str:
    processes = int(look.workers["processes"].sum())
    counts = (
        _counted(len(look.searches), "search", "es"),
        f"{_counted(len(look.workers), 'worker', 's')}, {_counted(processes, 'process', 'es')}",
        f"{_counted(len(look.running), 'unit', 's')} at work",
        _rate(look, before),
    )
    return " | ".join(part for part in counts if part) + "\n"


def _counted(count: int, what: str, more: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else more}"


def _rate(look: _Look, before: _Look | None) -> str:
    if before is None:
        return ""
    ended = (look.done - before.done).dropna().clip(lower=0).sum()  # of searches in both
    return f"{ended / max(look.at - before.at, 0.001):.1f} units/s"


_UNITS = (
    Column("SEARCH", folds=12),
    Column("PARAMS", folds=28),
    Column("SPLIT", right=True),
    Column("SINCE", right=True, of=lambda row: span(row["since"])),
    Column("HOST", spare=1),
    Column("WORKER", spare=2),
    Column("ATTEMPT", right=True, spare=3),
)


@contextmanager
def _keys() -> Iterator[Any]:
    """Yield a call that waits so many seconds, and returns at once, with True, if q is pressed."""
    import termios
    import tty

    if not sys.stdin.isatty():
        yield lambda seconds: time.sleep(seconds)
        return
    before = termios.tcgetattr(sys.stdin)

    def pressed(seconds: float) -> bool:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if select.select([sys.stdin], [], [], left)[0] and sys.stdin.read(1) in ("q", "Q"):
                return True
        return False

    try:
        tty.setcbreak(sys.stdin)
        yield pressed
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
