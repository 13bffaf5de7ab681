"""A search as one HTML file, with pictures, tables and what is recorded of its origin."""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

import optomatic
from optomatic.dashboard.drawing import draw, kinds_of
from optomatic.dashboard.tables import (
    TEXT,
    Wanted,
    best_of,
    candidate_frame,
    cells_of,
    counts_of,
    labels_of,
    page_of,
    unit_frame,
    worker_frame,
)
from optomatic.planning.params import params_line
from optomatic.plots.search_data import SearchData, search_data
from optomatic.plots.theme import pyplot
from optomatic.progress.notebook import MOST_ROWS, grid_html
from optomatic.results.export import put_in_place, records
from optomatic.results.text import fields_of, short
from optomatic.search.attached import AttachedSearch

#: So many rows of a table are listed.
_MOST = 1_000
_STYLE = """
body { font: 14px/1.45 system-ui, sans-serif; color: #1f2328; background: #fff; margin: 24px auto;
       max-width: 1100px; padding: 0 16px }
h1 { font-size: 24px } h2 { font-size: 18px; margin-top: 32px }
table { border-collapse: collapse; font-size: 13px }
th, td { text-align: left; vertical-align: top; padding: 3px 14px 3px 0;
         border-bottom: 1px solid #d9dde2; overflow-wrap: anywhere }
.wide { overflow-x: auto }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr));
           gap: 16px }
td:first-child { white-space: nowrap } summary { margin-bottom: 6px }
img { width: 100% } pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: 12px }
"""


def write_report(
    search: AttachedSearch, path: str | os.PathLike[str], *, metric: str | None = None
) -> None:
    """Write a search to one HTML file, which needs no other file and no network.

    With several metrics, `metric` is the one to show; None for the one that decides.

    Raise as :meth:`~optomatic.plots.displays.Display.from_search` does, and OSError if the file
    cannot be written.  It replaces an older one once it is whole.
    """
    pyplot()  # raises if it is missing, before anything is read
    data, record, errors = search_data(search, metric), search.record(), search.errors()
    whole = _report(data, record, errors)
    put_in_place(path, lambda beside: Path(beside).write_text(whole, encoding="utf-8"))


def _report(data: SearchData, record: Mapping[str, Any], errors: pd.DataFrame) -> str:
    best = best_of(data)
    said = "" if best is None else f"{short(float(data.scores[best]))} with "
    said += "" if best is None else params_line(data.candidates[best])
    fields = fields_of(record, data.state, counts_of(data), said)
    fields["metric"] = data.metric if len(data.metrics) > 1 else None
    fields["read"] = datetime.now(UTC).replace(microsecond=0)
    fields["written by"] = f"optomatic {optomatic.__version__}"
    grid = grid_html(cells_of(data).tolist(), labels_of(data, MOST_ROWS), best=best)
    parts = [
        f"<h1>{escape(data.name)}</h1>",
        _facts(fields),
        "<h2>Pictures</h2>",
        f'<div class="figures">{"".join(_picture(data, kind) for kind in kinds_of(data))}</div>',
        "<h2>Candidates x splits</h2>",
        grid,
        *_frame("Candidates, the best first", candidate_frame(data)),
        *_frame("Units", unit_frame(data), is_open=False),
        *_frame("Workers", worker_frame(data)),
        *_errors(errors),
        "<h2>Versions</h2>",
        _facts(record.get("env") or {}),
    ]
    return _PAGE.format(name=escape(data.name), style=_STYLE, body="\n".join(parts))


_PAGE = """<!doctype html>
<html><head><meta charset="utf-8"><title>{name} - optomatic</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>{style}</style></head>
<body>
{body}
</body></html>
"""


def _facts(fields: Mapping[str, Any]) -> str:
    rows = [[name, text] for name, value in fields.items() if (text := short(value))]
    return _table([], rows)


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    body = ("".join(f"<td>{escape(text)}</td>" for text in row) for row in rows)
    lines = "\n".join(f"<tr>{row}</tr>" for row in ([head, *body] if head else body))
    return f'<div class="wide"><table>{lines}</table></div>'


def _picture(data: SearchData, kind: str) -> str:
    drawn = draw(data, kind, "light")
    src = f"data:{drawn.mime};base64,{b64encode(drawn.content).decode()}"
    return f'<img alt="{kind}" src="{src}">'


def _frame(heading: str, frame: pd.DataFrame, *, is_open: bool = True) -> list[str]:
    rows, total = page_of(frame, Wanted(count=_MOST))
    titles = [str(name) for name in frame.columns if name != TEXT]
    note = f"the first {_MOST:,} of {total:,}; all: optomatic export" if total > _MOST else total
    return [
        f"<h2>{heading}</h2><details{' open' if is_open else ''}><summary>{note}</summary>",
        _table(titles, [list(row.values()) for row in rows]),
        "</details>",
    ]


def _errors(errors: pd.DataFrame) -> list[str]:
    found = ["<h2>Errors</h2>", "" if len(errors) else "<p>Nothing went wrong.</p>"]
    for row in records(errors):
        kind = f"{row['type']}: " if row["type"] else ""
        params = "; ".join(params_line(own) or "no params" for own in row["params"])
        found.append(
            f"<p><b>{row['count']} x {escape(row['stage'])}</b> {escape(params)}, on "
            f"{escape(', '.join(row['hosts']))}</p><pre>{escape(kind + row['text'])}\n"
            f"{escape(row['traceback'])}</pre>"
        )
    return found
