"""Verbs that show what came of a search: best, results, errors, explain, export."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from optomatic.commands.look import cell, say_fields, say_json
from optomatic.commands.names import find
from optomatic.commands.options import Db, Json, Search
from optomatic.commands.tables import Column, on_terminal, show_table
from optomatic.commands.values import full, lines, one_line
from optomatic.results.as_json import is_missing, jsonable, records

if TYPE_CHECKING:
    import pandas as pd


_PARAM = "param_"
Limit = Annotated[
    int | None,
    typer.Option(
        min=0,
        metavar="ROWS",
        show_default=False,
        help="print at most so many, 0 for all; without it a terminal gets 20",
    ),
]
_SHOWN = 20
Splits = Annotated[bool, typer.Option("--splits", help="a row a split, not a row a candidate")]


def best(search: Search, db: Db = None, json: Json = False) -> None:
    """Print the best candidate, its score and its params."""
    seen = find(search, db)
    index, score, params = seen.best_index_, seen.best_score_, dict(seen.best_params_)
    if json:
        return say_json({"index": index, "score": score, "params": params})
    say_fields({"candidate": index, "score": cell(score)})
    return say_fields({f"  {name}": _shown(value) for name, value in params.items()})


def _shown(value: Any) -> str:
    return full(value if isinstance(value, str) else plain_text(value))


def plain_text(value: Any) -> str:
    """Return the text of a param, numbers of numpy as those of Python."""
    return repr(jsonable(value)) if isinstance(value, float | int) else repr(value)


def results(
    search: Search,
    db: Db = None,
    json: Json = False,
    splits: Splits = False,
    limit: Limit = None,
) -> None:
    """Print the candidates with their scores, the best first.

    On a terminal some columns are left out; --json and a pipe have all.
    """
    seen = find(search, db)
    frame = seen.to_frame(level="split" if splits else "candidate")
    frame = _ranked(frame, seen.record().get("facts") or {})
    if json:
        return say_json(frame.head(limit) if limit else frame)
    if limit is None and on_terminal():
        limit = _SHOWN
    shown = limit or len(frame)
    show_frame(frame.head(shown))
    if shown < len(frame):
        sys.stderr.write(f"{shown} of {len(frame)} rows. All: --limit 0, --json, or export\n")
    return None


def _ranked(frame: pd.DataFrame, facts: Mapping[str, Any]) -> pd.DataFrame:
    """Return the rows with the best score first.

    Before that the last iteration of successive halving comes first, as the best is one of it,
    and candidates that are complete come before those that have part of their scores.
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


def show_frame(frame: pd.DataFrame) -> None:
    """Print a frame of results: scores first, then the params in one column."""
    rows = records(frame)
    names = list(rows[0]) if rows else [str(name) for name in frame.columns]
    own = [name for name in names if name.startswith(_PARAM)]
    other = [name for name in names if not name.startswith(_PARAM)]
    if on_terminal():
        other = [name for name in other if not all(is_missing(row[name]) for row in rows)]
    columns = [_column(name, n, right=_is_number(frame, name)) for n, name in enumerate(other)]
    columns.append(Column("PARAMS", folds=24))
    show_table(columns, [[*(_cell(n, row[n]) for n in other), _params(row, own)] for row in rows])


#: Durations in seconds.
_TIMES = ("seconds", "fit_time", "score_time")


def _cell(name: str, value: Any) -> str:
    if name in _TIMES and on_terminal() and not is_missing(value):
        return f"{value:.4f}"
    return _plain_error(cell(value)) if name == "error" else cell(value)


def _plain_error(text: str) -> str:
    return text.removeprefix("builtins.")


#: Columns that are shown also where there is little room, and those that go last.
_NEEDED = ("candidate", "split", "state", "error", "std")
_LONGEST_ERROR = 20


def _column(name: str, place: int, *, right: bool) -> Column:
    needed = name in _NEEDED or _is_score(name)
    folds = _LONGEST_ERROR if name == "error" else 0
    return Column(name.upper(), right=right, spare=0 if needed else place + 1, folds=folds)


def _is_number(frame: pd.DataFrame, name: str) -> bool:
    return name not in frame.columns or frame[name].dtype.kind in "iuf"


def _params(row: Mapping[str, Any], own: Sequence[str]) -> str:
    from optomatic.search.overview import params_line

    given = {name.removeprefix(_PARAM): row[name] for name in own if not is_missing(row[name])}
    return full(params_line((name, jsonable(value)) for name, value in given.items()))


def errors(search: Search, db: Db = None, json: Json = False) -> None:
    """Print what went wrong, grouped, with params and tracebacks.

    Each kind of failure comes once, with its count. Also units that were given up as they killed
    their workers, and records that could not be read and were set aside.
    """
    found = find(search, db).errors()
    if json:
        return say_json(found)
    if found.empty:
        sys.stderr.write(f"Nothing went wrong in {one_line(search)}.\n")
    sys.stdout.write("\n".join(_error_text(row) for row in records(found)))
    return None


def _error_text(row: Mapping[str, Any]) -> str:
    from optomatic.search.overview import params_line

    kind = f"{_plain_error(row['type'])}: " if row["type"] else ""
    params = "; ".join(params_line(own.items()) or "no params" for own in row["params"])
    more = {
        "params": params,
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
        return say_json([{"kind": one.kind, "text": one.text} for one in found])
    if not found:
        sys.stderr.write(f"There is nothing to explain of {one_line(search)}.\n")
        return None
    # A command is there to be pasted, so it stands in a line of its own.
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
