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
Limit = Annotated[int, typer.Option(min=0, help="print at most so many rows, 0 for all")]
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
    limit: Limit = 0,
) -> None:
    """Print the candidates with their scores, the best first.

    On a terminal some columns are left out; --json and a pipe have all.
    """
    seen = find(search, db)
    frame = seen.to_frame(level="split" if splits else "candidate")
    frame = _ranked(frame, seen.record().get("facts") or {})
    if json:
        return say_json(frame.head(limit) if limit else frame)
    shown = limit or (20 if on_terminal() else len(frame))
    show_frame(frame.head(shown))
    if shown < len(frame):
        sys.stderr.write(f"{shown} of {len(frame)} rows. All: --limit 0 | less, --json, export\n")
    return None


def _ranked(frame: pd.DataFrame, facts: Mapping[str, Any]) -> pd.DataFrame:
    """Return the rows with the best score first, those without one last."""
    metric = facts.get("metric")
    label = f"score_{metric}" if f"score_{metric}" in frame else "score"
    names = [str(name) for name in frame.columns]
    scores = [name for name in names if name == label or name.startswith("score_")]
    if not scores:
        return frame
    lower = facts.get("direction") == "minimize"
    ranked: pd.DataFrame = frame.sort_values(scores[:1], ascending=lower, kind="stable")
    return ranked


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
    show_table(columns, [[*(cell(row[n]) for n in other), _params(row, own)] for row in rows])


#: Columns that are shown also where there is little room, and those that go last.
_NEEDED = ("candidate", "split", "score", "state", "error", "std")
_LONGEST_ERROR = 20


def _column(name: str, place: int, *, right: bool) -> Column:
    needed = name in _NEEDED or name.startswith("score_")
    folds = _LONGEST_ERROR if name == "error" else 0
    return Column(name.upper(), right=right, spare=0 if needed else place + 1, folds=folds)


def _is_number(frame: pd.DataFrame, name: str) -> bool:
    return name not in frame.columns or frame[name].dtype.kind in "iuf"


def _params(row: Mapping[str, Any], own: Sequence[str]) -> str:
    from optomatic.overview import params_line

    given = {name.removeprefix(_PARAM): row[name] for name in own if not is_missing(row[name])}
    return full(params_line((name, jsonable(value)) for name, value in given.items()))


def errors(search: Search, db: Db = None, json: Json = False) -> None:
    """Print what went wrong: each kind once, how often, with which params, and its traceback.

    Also units that were given up as they killed their workers, and records that could not be
    read and were set aside.
    """
    found = find(search, db).errors()
    if json:
        return say_json(found)
    if found.empty:
        sys.stderr.write(f"Nothing went wrong in {one_line(search)}.\n")
    for row in records(found):
        sys.stdout.write(_error_text(row))
    return None


def _error_text(row: Mapping[str, Any]) -> str:
    from optomatic.overview import params_line

    kind = f"{row['type']}: " if row["type"] else ""
    params = "; ".join(params_line(own.items()) or "no params" for own in row["params"])
    more = {
        "params": params,
        "splits": ", ".join(map(str, row["splits"])),
        "hosts": ", ".join(row["hosts"]),
    }
    text = f"{row['count']} x {row['stage']}: {kind}{lines(row['text'].strip())}\n"
    text += "".join(f"  {name}: {one_line(told)}\n" for name, told in more.items() if told)
    return text + textwrap.indent(lines(row["traceback"].strip("\n")), "    ") + "\n\n"


def explain(search: Search, db: Db = None, json: Json = False) -> None:
    """Print why a search does not move, and why stored scores were not reused."""
    found = find(search, db).explain().findings
    if json:
        return say_json([{"kind": one.kind, "text": one.text} for one in found])
    if not found:
        sys.stderr.write(f"There is nothing to explain of {one_line(search)}.\n")
        return None
    rows = [[one_line(one.kind), one_line(one.text)] for one in found]
    return show_table((Column(""), Column("", folds=20)), rows)
