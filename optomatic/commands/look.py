"""Verbs that look: list, show, workers."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from optomatic.commands.names import find
from optomatic.commands.options import Db, Json, Search
from optomatic.commands.tables import Column, on_terminal, show_table
from optomatic.commands.values import full, one_line, short, span
from optomatic.results.as_json import is_missing, json_of, records

if TYPE_CHECKING:
    from optomatic.search.attached import AttachedSearch


def cell(value: Any) -> str:
    """Return a value for a table: short on a terminal, whole elsewhere."""
    return short(value) if on_terminal() else full(value)


def say_json(value: Any) -> None:
    """Print a value as JSON."""
    sys.stdout.write(json_of(value) + "\n")


def list_searches(db: Db = None, json: Json = False) -> None:
    """Print all searches, the latest first.

    A search is running, left (to workers), abandoned (its client is gone), completed,
    interrupted or cancelled. DONE counts its units: candidates times splits.
    """
    from optomatic.search.overview import searches

    found = searches(db)
    if json:
        return say_json(found)
    if found.empty:
        sys.stderr.write("There are no searches in this database.\n")
        return None
    return show_table(SEARCHES, [search_row(row) for row in records(found)])


SEARCHES = (
    Column("NAME", folds=12),
    Column("ID"),
    Column("STATE"),
    Column("DONE", right=True),
    Column("FAILED", right=True, spare=1),
    Column("BEST", right=True),
    Column("AGE", right=True),
    Column("WHO", spare=2),
    Column("WHAT", spare=3),
)


def search_row(row: Mapping[str, Any]) -> list[str]:
    """Return the row of a search in a table."""
    done = "?" if is_missing(row["done"]) else row["done"]
    failed = "" if row["failed"] == 0 else cell(row["failed"])
    return [
        one_line(row["name"]),
        one_line(row["id"]),
        row["state"],
        f"{done}/{row['total']}",
        "?" if is_missing(row["failed"]) else failed,
        cell(row["best"]),
        span(row["age"]),
        one_line(row["who"]),
        one_line(row["kind"]),
    ]


def list_workers(db: Db = None, json: Json = False) -> None:
    """Print which workers are there, and how many units each has."""
    from optomatic.search.overview import workers

    found = workers(db)
    if json:
        return say_json(found)
    if found.empty:
        sys.stderr.write("No worker is there. Start one: optomatic worker\n")
        return None
    return show_table(WORKERS, [worker_row(row) for row in records(found)])


WORKERS = (
    Column("ID"),
    Column("KIND"),
    Column("HOST"),
    Column("PID", right=True, spare=3),
    Column("PROCESSES", right=True, spare=1),
    Column("UNITS", right=True),
    Column("SINCE", right=True),
    Column("SEEN", right=True, spare=4),
    Column("TAGS", spare=2),
    Column("REFUSES", folds=20),
)


def worker_row(row: Mapping[str, Any]) -> list[str]:
    """Return the row of a worker in a table."""
    return [
        *(one_line(str(row[name])) for name in ("id", "kind", "host", "pid", "processes", "units")),
        span(row["since"]),
        span(row["seen"]),
        one_line(row["tags"]),
        one_line(row["refuses"]),
    ]


def show(search: Search, db: Db = None, json: Json = False) -> None:
    """Print what a search is, how far it is, and what came of it."""
    seen = find(search, db)
    record, counts, state = seen.record(), seen.counts(), seen.state
    if json:
        told = {"id": seen.search_id, **_public(record), "state": state, "counts": counts}
        return say_json(told)
    process = record.get("process") or {}
    iterations = [record, *record.get("iterations", ())]
    function = (record.get("facts") or {}).get("kind") == "function"
    fields = {
        "name": record.get("name"),
        "id": seen.search_id,
        "state": state,
        "units": ", ".join(f"{n} {name}" for name, n in counts.items()),
        "what": record.get("estimator"),
        "space": record.get("space"),
        "direction" if function else "scoring": _given(record.get("scoring")),
        "candidates": ", then ".join(str(one.get("n_candidates")) for one in iterations),
        "splits": record.get("n_splits"),
        "best": _best_line(seen),
        "summary": "; then ".join(
            line for one in iterations if (line := (one.get("summary") or {}).get("line"))
        ),
        "began": cell(record.get("began_at")),
        "ended": cell(iterations[-1].get("ended_at")),
        "client": f"{record.get('user', '')}@{process.get('host')}, process {process.get('pid')}",
    }
    return say_fields(fields)


def _public(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a record tells users."""
    hidden = ("_id", "v", "checksum", "asked")
    kept = {name: value for name, value in record.items() if name not in hidden}
    if "iterations" in kept:
        kept["iterations"] = [{"id": one["_id"], **_public(one)} for one in kept["iterations"]]
    return kept


def _given(text: Any) -> Any:
    return None if text == "None" else str(text).strip("'")


def _best_line(seen: AttachedSearch) -> str:
    try:
        score = seen.best_score_
    except AttributeError:  # nothing is complete, or no metric decides
        return ""
    return f"{cell(score)} (candidate {seen.best_index_}; see optomatic best)"


def say_fields(fields: Mapping[str, Any]) -> None:
    """Print names and values, those that are not empty."""
    known = [(name, full(value)) for name, value in fields.items() if not is_missing(value)]
    show_table((Column(""), Column("", folds=20)), [[name, text] for name, text in known if text])
