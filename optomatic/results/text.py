"""Values as short texts, for terminals, pages and reports."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from optomatic.results.export import as_utc, is_missing, moment


def span(value: timedelta | float) -> str:
    """Return a span of time in one or two units.

    >>> span(5), span(125), span(7_200), span(timedelta(days=3, hours=5))
    ('5s', '2m05s', '2h00m', '3d')
    """
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if seconds >= 2 * 86_400:
        return f"{seconds // 86_400:.0f}d"
    if seconds >= 3_600:
        return f"{seconds // 3_600:.0f}h{seconds % 3_600 // 60:02.0f}m"
    if seconds >= 60:
        return f"{seconds // 60:.0f}m{seconds % 60 // 1:02.0f}s"
    return f"{seconds:.0f}s"


def short(value: Any) -> str:
    """Return a value for a cell of a table on a terminal: numbers with four digits.

    >>> short(0.123456), short(12), short("rbf"), short(None), short(1e-7)
    ('0.1235', '12', 'rbf', '', '1e-07')
    """
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:.4f}" if 1e-3 <= abs(value) < 1e5 or value == 0 else f"{value:.4g}"
    if isinstance(value, datetime) and not is_missing(value):
        return f"{as_utc(value):%Y-%m-%d %H:%M:%S} UTC"
    return full(value)


def full(value: Any) -> str:
    """Return a value for a cell whose reader is a program: nothing is cut or rounded.

    >>> full(0.1 + 0.2), full(float("nan")), full(("a", 1))
    ('0.30000000000000004', '', "('a', 1)")
    """
    if is_missing(value):
        return ""
    if isinstance(value, datetime):
        return moment(value)
    if hasattr(value, "dtype") and hasattr(value, "item"):
        value = value.item()  # of numpy
    return one_line(value if isinstance(value, str) else repr(value))


def one_line(text: str) -> str:
    r"""Return `text` such that a terminal shows it in one line, and does nothing else.

    >>> one_line("a\nb"), one_line("\x1b[2J")
    ('a b', '\\x1b[2J')
    """
    words = " ".join(text.split("\n"))
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in words)


def lines(text: str) -> str:
    """Return a text of several lines, such as a traceback, that does nothing to a terminal."""
    return "\n".join(one_line(line.replace("\t", "    ")) for line in text.split("\n"))


def fields_of(
    record: Mapping[str, Any], state: str, counts: Mapping[str, int], best: str
) -> dict[str, Any]:
    """Return what a search is, by name; `record` as attach(...).record() gives it."""
    process = record.get("process") or {}
    iterations = [record, *record.get("iterations", ())]
    function = (record.get("facts") or {}).get("kind") == "function"
    scoring = record.get("scoring")
    summaries = [(one.get("summary") or {}).get("line") for one in iterations]
    return {
        "name": record.get("name"),
        "id": record.get("_id"),
        "state": state,
        "units": ", ".join(f"{n} {name}" for name, n in counts.items()),
        "what": record.get("estimator"),
        "space": record.get("space"),
        "direction" if function else "scoring": None
        if scoring == "None"
        else str(scoring).strip("'"),
        "candidates": ", then ".join(str(one.get("n_candidates")) for one in iterations),
        "splits": record.get("n_splits"),
        "best": best,
        "summary": "; then ".join(line for line in summaries if line),
        "began": record.get("began_at"),
        "ended": iterations[-1].get("ended_at"),
        "client": f"{record.get('user', '')}@{process.get('host')}, process {process.get('pid')}",
    }
