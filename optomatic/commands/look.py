"""Verbs that look: list, show, workers, best, results, errors, explain, db check."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from optomatic.commands.arguments import Db, Json, Search, find
from optomatic.commands.exits import FAILED
from optomatic.commands.output import (
    Column,
    on_terminal,
    say_fields,
    say_json,
    show_rows,
    show_table,
)
from optomatic.planning.params import params_line
from optomatic.results.export import is_missing, jsonable, records
from optomatic.results.text import fields_of, full, lines, one_line, short, span

if TYPE_CHECKING:
    import pandas as pd

    from optomatic.search.attached import AttachedSearch


def list_searches(db: Db = None, json: Json = False) -> None:
    """Print all searches, the latest first.

    A search is running, left (to workers), abandoned (its client is gone), completed,
    interrupted or cancelled. DONE counts its units: candidates times splits.
    """
    from optomatic.search.database import searches

    show_rows(SEARCHES, searches(db), json=json, none="There are no searches in this database.")


def _done(row: Mapping[str, Any]) -> str:
    return f"{'?' if is_missing(row['done']) else row['done']}/{row['total']}"


def _failed(row: Mapping[str, Any]) -> str:
    if is_missing(row["failed"]):
        return "?"
    return "" if row["failed"] == 0 else short(row["failed"])


SEARCHES = (
    Column("NAME", folds=12),
    Column("ID"),
    Column("STATE"),
    Column("DONE", right=True, of=_done),
    Column("FAILED", right=True, spare=1, of=_failed),
    Column("BEST", right=True),
    Column("AGE", right=True, of=lambda row: span(row["age"])),
    Column("WHO", spare=2),
    Column("WHAT", spare=3, of=lambda row: row["kind"]),
)


def list_workers(db: Db = None, json: Json = False) -> None:
    """Print all workers, and how many units each has."""
    from optomatic.search.database import workers

    none = "No worker is there. Start one: optomatic worker"
    show_rows(WORKERS, workers(db), json=json, none=none)


WORKERS = (
    Column("ID"),
    Column("KIND"),
    Column("HOST"),
    Column("PID", right=True, spare=3),
    Column("PROCESSES", right=True, spare=1),
    Column("UNITS", right=True),
    Column("SINCE", right=True, of=lambda row: span(row["since"])),
    Column("SEEN", right=True, spare=4, of=lambda row: span(row["seen"])),
    Column("TAGS", spare=2),
    Column("REFUSES", folds=20),
)


def show(search: Search, db: Db = None, json: Json = False) -> None:
    """Print what a search is, how far it is, and its best score."""
    seen = find(search, db)
    record, counts, state = seen.record(), seen.counts(), seen.state
    if json:
        told = {"id": seen.search_id, **_public(record), "state": state, "counts": counts}
        return say_json(told)
    fields = fields_of(record, state, counts, _best_line(seen))
    return say_fields({k: short(v) if isinstance(v, datetime) else v for k, v in fields.items()})


def _public(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record without what only this program needs."""
    hidden = ("_id", "v", "checksum", "asked")
    kept = {name: value for name, value in record.items() if name not in hidden}
    if "iterations" in kept:
        kept["iterations"] = [{"id": one["_id"], **_public(one)} for one in kept["iterations"]]
    return kept


def _best_line(seen: AttachedSearch) -> str:
    try:
        score = seen.best_score_
    except AttributeError:  # nothing is complete, or no metric decides
        return ""
    return f"{short(score)} (candidate {seen.best_index_}; see optomatic best)"


def best(search: Search, db: Db = None, json: Json = False) -> None:
    """Print the best candidate, its score and its params."""
    seen = find(search, db)
    index, score, params = seen.best_index_, seen.best_score_, dict(seen.best_params_)
    if json:
        return say_json({"index": index, "score": score, "params": params})
    say_fields({"candidate": index, "score": short(score)})
    return say_fields({f"  {name}": _text(value) for name, value in params.items()})


def _text(value: Any) -> str:
    """Return a param as text, numbers of numpy as those of Python."""
    if isinstance(value, str):
        return full(value)
    return full(repr(jsonable(value)) if isinstance(value, float | int) else repr(value))


Limit = Annotated[
    int | None,
    typer.Option(
        min=0,
        metavar="ROWS",
        show_default=False,
        help="print at most so many, 0 for all; default: 20 on a terminal, else all",
    ),
]
_ROWS = 20
Splits = Annotated[bool, typer.Option("--splits", help="print a row a split, not a candidate")]


def results(
    search: Search,
    db: Db = None,
    json: Json = False,
    splits: Splits = False,
    limit: Limit = None,
) -> None:
    """Print the candidates with their scores, the best first.

    A narrow terminal gets the columns that fit; --json and a pipe get all. Only --json has
    all digits.
    """
    from optomatic.results.frames import candidate_table, split_table

    seen = find(search, db)
    rows = seen._stored().rows
    frame = (split_table if splits else candidate_table)(rows)
    frame = _ranked(frame, seen.record().get("facts") or {})
    if json:
        return say_json(frame.head(limit) if limit else frame)
    if limit is None and on_terminal():
        limit = _ROWS
    shown = limit or len(frame)
    _show_frame(frame.head(shown), {row.number: row.params for row in rows})
    if shown < len(frame):
        sys.stderr.write(f"{shown} of {len(frame)} rows. All: --limit 0, --json, or export\n")
    return None


def _ranked(frame: pd.DataFrame, facts: Mapping[str, Any]) -> pd.DataFrame:
    """Return the rows with the best score first.

    Before that the last iteration of successive halving comes first, as the best is one of it.
    Complete candidates come before those that have part of their scores.
    """
    directions = dict(facts.get("directions") or ())
    metric = facts.get("refit") or next(iter(directions), None)
    labels = [f"score_{metric}", "score", *filter(_is_score, map(str, frame.columns))]
    score = next((name for name in labels if name in frame), None)
    if score is None:
        return frame
    keys = frame[[score]].assign(incomplete=frame["state"] != "completed")
    keys["iter"] = frame.get("iter", 0)
    lower = directions.get(metric) == "minimize"
    keys = keys.reset_index(drop=True)
    order = keys.sort_values(["iter", "incomplete", score], ascending=[False, True, lower]).index
    ranked: pd.DataFrame = frame.iloc[order]
    return ranked


def _is_score(name: str) -> bool:
    return name == "score" or (name.startswith("score_") and name != "score_time")


_PARAM = "param_"
#: Columns that are shown also where there is little room, and durations in seconds.
_NEEDED, _TIMES = (
    ("candidate", "split", "state", "error", "std"),
    ("seconds", "fit_time", "score_time"),
)
_LONGEST_ERROR = 20


def _show_frame(frame: pd.DataFrame, params: Mapping[int, Mapping[str, Any]]) -> None:
    """Print a frame of results: scores first, then the params of each candidate in one column.

    They are shown as they were given: a column of a frame makes floats of ints among floats.
    """
    rows = records(frame)
    names = list(rows[0]) if rows else [str(name) for name in frame.columns]
    other = [name for name in names if not name.startswith(_PARAM)]
    if on_terminal():
        other = [name for name in other if not all(is_missing(row[name]) for row in rows)]
    columns = [_column(frame, name, place) for place, name in enumerate(other)]
    columns.append(Column("PARAMS", folds=24))
    cells = [
        [*(_cell(n, row[n]) for n in other), full(params_line(params[row["candidate"]]))]
        for row in rows
    ]
    show_table(columns, cells)


def _column(frame: pd.DataFrame, name: str, place: int) -> Column:
    right = name not in frame.columns or frame[name].dtype.kind in "iuf"
    spare = 0 if name in _NEEDED or _is_score(name) else place + 1
    folds = _LONGEST_ERROR if name == "error" else 0
    return Column(name.upper(), right=right, spare=spare, folds=folds)


def _cell(name: str, value: Any) -> str:
    if name in _TIMES and not is_missing(value):
        return f"{value:.4f}"
    return _plain_error(short(value)) if name == "error" else short(value)


def _plain_error(text: str) -> str:
    return text.removeprefix("builtins.")


def errors(search: Search, db: Db = None, json: Json = False) -> None:
    """Print failures in groups, with params and tracebacks.

    Each kind of failure comes once, with its count. Among them are units that killed their
    workers, and records that could not be read.
    """
    found = find(search, db).errors()
    if json:
        return say_json(found)
    if found.empty:
        sys.stderr.write(f"Nothing went wrong in {one_line(search)}.\n")
    sys.stdout.write("\n".join(_error_text(row) for row in records(found)))
    return None


def _error_text(row: Mapping[str, Any]) -> str:
    kind = f"{_plain_error(row['type'])}: " if row["type"] else ""
    more = {
        "params": "; ".join(params_line(own) or "no params" for own in row["params"]),
        "splits": ", ".join(map(str, row["splits"])),
        "hosts": ", ".join(row["hosts"]),
    }
    text = f"{row['count']} x {row['stage']}: {kind}{lines(row['text'].strip())}\n"
    text += "".join(f"  {name}: {one_line(told)}\n" for name, told in more.items() if told)
    if trace := lines(row["traceback"].strip("\n")):
        text += textwrap.indent(trace, "    ") + "\n"
    return text


def explain(search: Search, db: Db = None, json: Json = False) -> None:
    """Print why a search does not move, and why it reused no scores."""
    found = find(search, db).explain().findings
    if json:
        return say_json([asdict(one) for one in found])
    # A command is there to be pasted, so it stands on a line of its own.
    texts = [one.text.partition(_START) for one in found]
    rows = [
        [one_line(one.kind), one_line(f"{said}{_BELOW if start else ''}")]
        for one, (said, start, _) in zip(found, texts, strict=True)
    ]
    show_table((Column(""), Column("", folds=20)), rows)
    for command in dict.fromkeys(command for _, _, command in texts if command):
        sys.stdout.write(f"\n    {one_line(command)}\n")
    return None


_START, _BELOW = "Start one: ", "The command below starts one."


def check(db: Db = None, json: Json = False) -> None:
    """Check version, rights, write concern, indexes and size.

    Changes nothing. Exit code 1 if there is a problem.
    """
    from optomatic.search.database import check_database

    found = check_database(db)
    if json:
        say_json(asdict(found))
    else:
        fields = {name.replace("_", " "): value for name, value in asdict(found).items()}
        problems: Sequence[str] = fields.pop("problems")
        rows = [[name, one_line(value)] for name, value in fields.items()]
        rows += [["problem", one_line(problem)] for problem in problems]
        show_table((Column(""), Column("", folds=20)), rows)
    if found.problems:
        raise typer.Exit(FAILED)
