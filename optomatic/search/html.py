"""A search as HTML."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from html import escape
from itertools import islice

from optomatic.display.grid import MOST_ROWS, Cell, grid_html
from optomatic.plain_values import shown_params
from optomatic.search.stored_table import Part, StoredTable, read_parts, shown_params_of
from optomatic.store.connection import Store
from optomatic.store.jobs import Glance
from optomatic.store.searches import state_of


def search_html(
    title: str,
    lines: Sequence[str],
    cells: Sequence[Sequence[int]] = (),
    labels: Sequence[str] = (),
    *,
    best: int | None = None,
) -> str:
    """Return a search as HTML, in the colour of the text around it, without a script.

    Parameters
    ----------
    title : str
    lines : sequence of str
        What is said of it.
    cells : array of shape (n_candidates, n_splits)
        A :class:`~optomatic.display.grid.Cell` for each unit; no grid if it is empty.
    labels : sequence of str
        The params of the candidates, of as many as are shown.
    best : int, optional
        Number of the best candidate.
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
_ENDED = ("completed", "failed", "dead")
#: The best so far is looked for among so many units.
_MOST_READ = 20_000


def stored_html(store: Store, search: str) -> str:
    """Return a search in the store as HTML: state, best candidate, grid of its units."""
    parts = read_parts(store, search)
    if not parts:
        return search_html(f"Search {search}", ["It is not in the database (any more)."])
    ids = [unit_id for part in parts for unit_id in part.listed.ids]
    glances = store.jobs.glances(ids)
    cells = [row for part in parts for row in _cells(part, glances)]
    lines = [_state_line(store, parts, ids, glances)]
    number, best = _best(store, search, parts, glances)
    name = parts[0].record.name
    return search_html(name, [*lines, *best], cells, _labels(parts), best=number)


def _cells(part: Part, glances: Mapping[str, Glance]) -> Iterator[list[Cell]]:
    for number, candidate in enumerate(part.listed.candidates):
        got = 0 if candidate.reason is not None else part.got[number]
        rest = Cell.NOTHING if part.rest(number) == "pending" else Cell.LEFT_OUT
        n_splits = max(len(candidate.units), 1 if candidate.reason is not None else 0)
        own = [_cell(glances.get(i), part.record.began_at) for i in candidate.units[:got]]
        yield [*own, *[rest] * (n_splits - len(own))]


def _cell(glance: Glance | None, began: datetime) -> Cell:
    if glance is None:
        return Cell.NOTHING
    if glance.state != "completed":
        return _CELLS.get(glance.state, Cell.NOTHING)
    return Cell.STORED if glance.ended is not None and glance.ended < began else Cell.SCORED


def _labels(parts: Sequence[Part]) -> list[str]:
    """Return what stands beside the rows that are shown."""
    every = ((part, candidate) for part in parts for candidate in part.listed.candidates)
    found = []
    for part, candidate in islice(every, MOST_ROWS):
        label = shown_params({**part.record.more, **shown_params_of(candidate)})
        found.append(label if candidate.reason is None else f"{label} ({candidate.reason})")
    return found


def _best(
    store: Store, search: str, parts: Sequence[Part], glances: Mapping[str, Glance]
) -> tuple[int | None, list[str]]:
    """Return which candidate is the best, and a line that says so, if there is one by now."""
    noted = parts[0].record.best
    complete = [n for n, row in enumerate(_complete(parts, glances)) if row]
    if noted is None and len(glances) <= _MOST_READ:
        best = StoredTable(store, search).best()
        noted = None if best is None else {"index": best.index, "score": best.score}
    if noted is None or not 0 <= noted["index"] < len(complete):
        return None, []
    number = complete[noted["index"]]
    candidates = [candidate for part in parts for candidate in part.listed.candidates]
    score = "" if noted.get("score") is None else f"{noted['score']:.6g} with "
    return number, [f"best: {score}{shown_params(shown_params_of(candidates[number]))}"]


def _complete(parts: Sequence[Part], glances: Mapping[str, Glance]) -> Iterator[bool]:
    """Yield whether each candidate has a row in ``cv_results_``."""
    for part in parts:
        for number, candidate in enumerate(part.listed.candidates):
            asked = candidate.units[: part.got[number]]
            whole = number in part.stopped or len(asked) == part.record.n_splits
            ended = all(i in glances and glances[i].state in _ENDED for i in asked)
            yield candidate.reason is None and whole and ended


def _state_line(
    store: Store, parts: Sequence[Part], ids: Sequence[str], glances: Mapping[str, Glance]
) -> str:
    counts = Counter(glance.state for glance in glances.values())
    done, failed = sum(counts[s] for s in _ENDED), counts["failed"] + counts["dead"]
    last = parts[-1].record
    waits = bool(counts["queued"] or counts["running"])
    state = state_of(last, store.jobs.server_time(), waits=waits)
    line = f"{state}: {done:,} of {len(ids):,} units"
    return f"{line}, {failed:,} without a score (errors() says why)" if failed else line
