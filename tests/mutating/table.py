"""What a run of mutations has come to: a line for each reader and collection."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from mutating.trial import Report

#: Columns by what a report holds: outcomes that are meant, then faults.
OUTCOMES = {
    "served": "served",
    "told": "an error of ours",
    "warned": "warned",
    "set aside": "set aside",
    "scored again": "scored again",
    "other number": "other number",
}
FAULTS = {"raw": "raw error", "hang": "hang", "wrong": "wrong score", "beside": "beside it"}


def table_of(reports: Iterable[Report]) -> str:
    """Return the table as text, and below it what must not be, each with what repeats it."""
    reports = list(reports)
    lines: dict[tuple[str, str], Counter[str]] = {}
    for report in reports:
        total = ("all", "")
        for line in ((report.scenario, report.collection), total):
            lines.setdefault(line, Counter()).update(_counted(report))
    columns = ["mutations", *OUTCOMES.values(), *FAULTS.values()]
    rows = [["reader", "collection", *columns]]
    rows += [[*line, *(str(lines[line][c]) for c in columns)] for line in sorted(lines)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    shown = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return "\n".join([*shown, *(str(report) for report in reports if report.faults)])


def _counted(report: Report) -> set[str]:
    outcomes = {OUTCOMES[outcome.partition(" ")[0] if outcome.startswith("told") else outcome]
                for outcome in report.outcomes}  # fmt: skip
    return {"mutations", *outcomes, *(FAULTS[kind] for kind, _ in report.faults)}
