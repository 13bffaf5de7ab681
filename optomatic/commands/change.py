"""Verbs that change something: cancel, retry, rm; and export, which writes a file."""

from __future__ import annotations

import re
import shlex
import sys
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from optomatic.commands.arguments import Db, Search, Searches, find
from optomatic.commands.exits import RUNS, USAGE, refuse
from optomatic.commands.output import say
from optomatic.errors import SearchRunning, shown
from optomatic.store.removal import Removed

_SPAN = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
#: States in which units of a search may wait or run.
_GOING_ON = ("running", "left", "abandoned")


Output = Annotated[
    Path,
    typer.Option("--output", "-o", metavar="FILE", help="ends in .csv, .json, .parquet or .xlsx"),
]
OlderThan = Annotated[
    str | None,
    typer.Option(
        metavar="SPAN", help="only searches that ended so long ago: 30d, 12h", show_default=False
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="say what would go, and remove nothing")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="do not ask")]


def cancel(search: Search, db: Db = None) -> None:
    """Withdraw a search that runs; its scores stay stored.

    Units without a score get none. Its client ends with SearchCancelled.
    """
    seen = find(search, db)
    state, counts = seen.state, seen.counts()
    if state not in _GOING_ON and not (counts.get("queued") or counts.get("running")):
        say(f"{search} does not run ({state}), so there is nothing to cancel.")
        return
    seen.cancel()
    counts = seen.counts()
    kept = sum(counts.get(name, 0) for name in ("completed", "failed", "dead"))
    print(f"{search} is cancelled. {kept} of {sum(counts.values())} units are stored.")


def retry(search: Search, db: Db = None) -> None:
    """Queue the failed and given-up units of a search again.

    Standalone workers score them: start one with optomatic worker.
    """
    count = find(search, db).retry()
    if not count:
        print(f"{search} has no failed units, so nothing is queued.")
        return
    units = "1 unit is" if count == 1 else f"{count} units are"
    print(f"{units} queued again. Have a worker score them:\n\n    optomatic worker --until-empty")


def export(search: Search, output: Output, db: Db = None) -> None:
    """Write the results to a file: .csv, .json, .parquet or .xlsx.

    The last two kinds need pip install "optomatic[export]". A file of that name is replaced
    once the new one is whole.
    """
    rows = find(search, db).export(output)
    print(f"{rows} candidates are in {output}.")


def remove(
    searches: Searches = None,
    db: Db = None,
    older_than: OlderThan = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Remove searches, with scores and data that no other search needs.

    Asks before it removes anything. With --older-than and no names it removes all searches that
    ended so long ago, and what no search refers to.
    """
    age = None if older_than is None else _age(older_than)
    if not searches and age is None:
        refuse("name the searches to remove, or give --older-than", USAGE)
    names = list(dict.fromkeys(searches or ()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # all searches of a name are removed: no id is needed
        for name in names:
            find(name, db)
    planned = _removed(names, age, db, dry_run=True)
    if dry_run:
        print(f"Would be removed: {_in_words(planned)}.")
        return
    if planned.searches + planned.units + planned.parts == 0:
        print("There is nothing to remove.")
        return
    if not yes and not _agreed(planned):
        print("Nothing was removed.")
        return
    print(f"Removed: {_in_words(_removed(names, age, db, dry_run=False))}.")


def _age(text: str) -> timedelta:
    span = _SPAN.fullmatch(text)
    try:
        if span:
            return timedelta(seconds=float(span[1]) * _SECONDS[span[2]])
    except OverflowError:
        pass
    return refuse(f"--older-than takes a span such as 30d, 12h or 90m, not {text!r}", USAGE)


def _removed(names: list[str], age: timedelta | None, db: str | None, *, dry_run: bool) -> Removed:
    from optomatic.search.database import remove as remove_searches  # it imports pandas

    if not names:
        return remove_searches(older_than=age, dry_run=dry_run, db=db)
    each = []
    for name in names:
        try:
            each.append(remove_searches(name, older_than=age, dry_run=dry_run, db=db))
        except SearchRunning:
            _refuse_running(name, sum(one.searches for one in each))
    totals = {
        n: sum(getattr(one, n) for one in each) for n in ("searches", "units", "parts", "bytes")
    }
    return Removed(**totals, dry_run=dry_run)


def _refuse_running(name: str, removed: int) -> NoReturn:
    """Say that a search runs; a dry run has found that before anything was removed."""
    before = f"{removed} searches before it were removed" if removed else "Nothing was removed"
    refuse(
        f"{shown(name)} runs: units wait for workers, or its client was seen in the last five "
        f"minutes. {before}. Cancel it first: optomatic cancel {shlex.quote(name)}",
        RUNS,
    )


def _agreed(planned: Removed) -> bool:
    if not sys.stdin.isatty():
        refuse("rm asks on a terminal, and there is none; nothing was removed. Give --yes", USAGE)
    sys.stderr.write(f"Remove {_in_words(planned)}? They cannot be restored. [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _in_words(removed: Removed) -> str:
    from optomatic.store.connection import in_words

    counts = ((removed.searches, "search", "es"), (removed.units, "unit", "s"))
    named = [f"{n} {word}{'' if n == 1 else more}" for n, word, more in counts]
    parts = f"{removed.parts} part{'' if removed.parts == 1 else 's'} (data, estimators)"
    return ", ".join([*named, parts, in_words(removed.bytes)])
