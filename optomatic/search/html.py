"""A search as HTML."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from html import escape

from optomatic.display.unit_grid import MOST_ROWS, Cell, grid_html
from optomatic.plain_values import params_line
from optomatic.records import ENDED
from optomatic.search.reader import Asked, SearchReader, shown_params
from optomatic.store.connection import Store
from optomatic.store.jobs import Glance


def search_html(
    title: str,
    lines: Sequence[str],
    cells: Sequence[Sequence[int]] = (),
    labels: Sequence[str] = (),
    *,
    best: int | None = None,
) -> str:
    """Return lines about a search and the grid of its units, without a script.

    A row of `cells` is a candidate, whose params are its label; `best` is the row in bold.
    """
    said = "".join(f'<div style="margin:1px 0">{escape(line)}</div>' for line in lines)
    grid = grid_html(cells, labels[:MOST_ROWS], best=best) if len(cells) else ""
    return (
        '<div class="optomatic-search" style="margin:6px 0;font-family:sans-serif;font-size:13px">'
        f'<div style="font-weight:bold">{escape(title)}</div>{said}{grid}</div>'
    )


_CELLS = {
    "queued": Cell.QUEUED,
    "running": Cell.RUNNING,
    "failed": Cell.FAILED,
    "dead": Cell.FAILED,
    "cancelled": Cell.LEFT_OUT,
}
#: The best candidate so far is looked for among so many units.
_MOST_READ = 20_000


def stored_html(store: Store, search: str) -> str:
    """Return a search in the store as HTML: state, best candidate, grid of its units."""
    reader = SearchReader(store, search)
    if not reader.records:
        return search_html(f"Search {search}", ["It is not in the database (any more)."])
    cells = [list(_cells(one, reader.glances)) for one in reader.asked]
    labels = [_label(one) for one in reader.asked[:MOST_ROWS]]
    number, best = _best(reader)
    name = reader.first.name
    return search_html(name, [_state_line(reader), *best], cells, labels, best=number)


def _cells(one: Asked, glances: Mapping[str, Glance]) -> Iterator[Cell]:
    for unit_id in one.ids:
        yield _cell(glances.get(unit_id), one.record.began_at)
    left_out = one.candidate.reason is not None
    rest = Cell.NOTHING if one.rest == "pending" and not left_out else Cell.LEFT_OUT
    for _ in range(max(len(one.candidate.units), int(left_out)) - len(one.ids)):
        yield rest


def _cell(glance: Glance | None, began: datetime) -> Cell:
    if glance is None:
        return Cell.NOTHING
    if glance.state != "completed":
        return _CELLS.get(glance.state, Cell.NOTHING)
    return Cell.STORED if glance.ended is not None and glance.ended < began else Cell.SCORED


def _label(one: Asked) -> str:
    label = params_line({**one.record.more, **shown_params(one.candidate)})
    return label if one.candidate.reason is None else f"{label} ({one.candidate.reason})"


def _best(reader: SearchReader) -> tuple[int | None, list[str]]:
    """Return the number of the best candidate, and a line about it, if there is one by now."""
    noted = reader.first.best
    if noted is None and len(reader.glances) <= _MOST_READ:
        best = reader.best()
        noted = None if best is None else {"index": best.index, "score": best.score}
    complete = [n for n, one in enumerate(reader.asked) if _is_complete(one, reader.glances)]
    if noted is None or not 0 <= noted["index"] < len(complete):
        return None, []
    number = complete[noted["index"]]
    score = "" if noted.get("score") is None else f"{noted['score']:.6g} with "
    return number, [f"best: {score}{params_line(shown_params(reader.asked[number].candidate))}"]


def _is_complete(one: Asked, glances: Mapping[str, Glance]) -> bool:
    """Return whether a candidate has a row in ``cv_results_``."""
    whole = one.stopped or len(one.ids) == one.record.n_splits
    ended = all(i in glances and glances[i].state in ENDED for i in one.ids)
    return one.candidate.reason is None and whole and ended


def _state_line(reader: SearchReader) -> str:
    counts = Counter(glance.state for glance in reader.glances.values())
    done, failed = sum(counts[name] for name in ENDED), counts["failed"] + counts["dead"]
    line = f"{reader.state}: {done:,} of {len(reader.ids):,} units"
    return f"{line}, {failed:,} without a score (errors() says why)" if failed else line
