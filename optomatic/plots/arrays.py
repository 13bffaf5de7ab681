"""The arrays of each picture, from those of a search.  Draws nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from optomatic.plots.importance import LEAST, importances, most_important
from optomatic.plots.search_data import Floats, Param, SearchData

#: So many are drawn at most.  A note on the picture says what is left out.
MOST_POINTS, MOST_LINES, MOST_ROWS, MOST_BARS, MOST_WORKERS = 2_000, 500, 1_000, 3_000, 40
#: Numbers with more values than this are put into bins of a heat map, so many a side.
_MOST_CELLS, _BINS = 12, 10
#: Bins of time in a timeline of more units than `MOST_BARS`.
_TIME_BINS = 300


@dataclass(frozen=True)
class Picture:
    """The arrays and texts of one display.

    Attributes
    ----------
    title : str
    notes : sequence of str
        What a reader has to know: how far the search is, what is left out.
    message : str
        Stands in place of the picture if there is nothing to draw; else empty.
    metric : str
    minimize : bool
        Whether a lower score is better.
    arrays : mapping of str to object
        Arrays and lists, as the function that made the picture documents; none with a message.
    """

    title: str
    notes: Sequence[str]
    message: str
    metric: str
    minimize: bool
    arrays: Mapping[str, Any]


def _picture(
    data: SearchData, title: str, *notes: str, message: str = "", **arrays: Any
) -> Picture:
    said = [note for note in (data.progress(), *notes) if note]
    title = f"{data.name}: {title}"
    return Picture(title, said, message, data.metric, data.minimize, {} if message else arrays)


def _nothing(data: SearchData) -> str:
    """Return why there is no candidate to draw; empty if there is one."""
    if not len(data.states):
        return "This search has no candidates yet."
    if (data.kinds != "").any():
        return ""
    return f"No candidate has a score yet. {int((data.states == 'pending').sum()):,} wait."


def _sample(data: SearchData, among: Any, most: int) -> tuple[Any, str]:
    """Return `most` of the rows `among` at most, and a note that says so.

    The best tenth and the rest at random, always the same.
    """
    rows = np.flatnonzero(among)
    if len(rows) <= most:
        return rows, ""
    ranked = rows[np.argsort(data.losses[rows], kind="stable")]
    best, rest = ranked[: most // 10], ranked[most // 10 :]
    drawn = np.random.default_rng(0).choice(rest, most - len(best), replace=False)
    note = f"{most:,} of {len(rows):,} candidates: the best {len(best)}, others at random"
    return np.sort(np.concatenate([best, drawn])), note


def _last_rung(data: SearchData) -> str:
    return "" if data.rung is None else "each candidate on its last rung"


def _lacking(data: SearchData, *names: str) -> str:
    """Return a note on candidates that lack one of these params."""
    without = np.isnan([data.params[name].at for name in names]).any(axis=0)
    count = int((without & data.latest & (data.kinds != "")).sum())
    return f"left out, as they lack {' or '.join(names)}: {count:,}" if count else ""


def _on_some_splits(data: SearchData) -> str:
    count = int((data.partial & data.latest).sum())
    return f"with a score on some splits only: {count:,}" if count else ""


# -- score over units or time; against one param -----------------------------------------------


def history(data: SearchData, *, by: str = "units") -> Picture:
    """Return scores in the order in which candidates ended, by ``"units"`` or ``"time"``.

    Arrays: `by`; `x`, `y` and `kind` of each candidate, with x in units or seconds; and `best_x`,
    `best_y`, the best complete score so far where it changes, with NaN between rungs of halving.
    """
    if by not in ("units", "time"):
        raise ValueError(f"by is 'units' or 'time', not {by!r}. Nothing was drawn.")
    at = _moments(data, by)
    rows, sampled = _sample(data, ~np.isnan(at) & (data.kinds != ""), MOST_POINTS)
    best_x, best_y = _best_so_far(data, at)
    before = int((data.ended < 0).sum())
    reused = f"units with scores of earlier searches: {before:,}" if before else ""
    rungs = "" if data.rung is None else "the best begins anew on each rung"
    points = {"x": at[rows], "y": data.drawn_scores[rows], "kind": data.kinds[rows]}
    return _picture(
        data, "best score so far", sampled, reused, rungs, message=_nothing(data),
        by=by, best_x=best_x, best_y=best_y, **points,
    )  # fmt: skip


def _moments(data: SearchData, by: str) -> Floats:
    """Return the place of each candidate: that of the last of its units that have ended."""
    # Ends are told of several units at once, so the time that a unit took says more.
    ended = np.fmin(data.ended, data.began + data.took)
    places = np.maximum(ended, 0.0)
    if by == "units":
        order = np.argsort(ended, axis=None, kind="stable")  # NaN comes last
        known = order[: np.isfinite(ended).sum()]
        places = np.full(ended.size, np.nan)
        places[known] = np.arange(1, len(known) + 1)
        places = places.reshape(ended.shape)
    last = np.nan_to_num(places, nan=-1.0).max(axis=1, initial=-1.0)
    return np.where(last < 0, np.nan, last)


def _best_so_far(data: SearchData, at: Floats) -> tuple[Floats, Floats]:
    rungs = np.zeros(len(at)) if data.rung is None else data.rung
    known = data.complete & ~np.isnan(at)
    x, y = [], []
    for rung in np.unique(rungs[known]):
        rows = np.flatnonzero(known & (rungs == rung))
        rows = rows[np.argsort(at[rows], kind="stable")]
        best = np.minimum.accumulate(data.losses[rows])
        changes = np.r_[True, np.diff(best) != 0]
        changes[-1] = True
        x += [*at[rows][changes], np.nan]
        y += [*best[changes], np.nan]
    sign = 1.0 if data.minimize else -1.0
    return np.array(x[:-1], dtype=float), sign * np.array(y[:-1], dtype=float)


def score_slice(data: SearchData, *, param: str | None = None) -> Picture:
    """Return scores against a param, by default the one that matters most.

    Arrays: `param` with the places of the points, `y`, `std` and `kind`.
    """
    chosen, message = _choose(data, [param] if param else [], 1)
    if message:
        return _picture(data, "score by one param", message=message)
    own = data.params[chosen[0]]
    there = (data.kinds != "") & data.latest
    rows, sampled = _sample(data, there & ~np.isnan(own.at), MOST_POINTS)
    return _picture(
        data, f"score by {own.name}", sampled, _lacking(data, own.name), _last_rung(data),
        param=own.of(rows), y=data.drawn_scores[rows], std=data.stds[rows], kind=data.kinds[rows],
    )  # fmt: skip


def _choose(data: SearchData, asked: Sequence[str], n: int) -> tuple[list[str], str]:
    """Return `n` params, those `asked` for first, and a message if there are not so many."""
    chosen = [data.param(name).name for name in dict.fromkeys(asked)][:n]
    if message := _nothing(data):
        return [], message
    if len(chosen) < n:
        chosen += [name for name in most_important(data) if name not in chosen]
    if len(chosen) >= n:
        return chosen[:n], ""
    need = "a param" if n == 1 else f"{n} params"
    varying = ", ".join(data.varying()) or "none"
    return [], f"This needs {need} in which candidates differ.\nThey differ in: {varying}."


# -- two params, many params -------------------------------------------------------------------


def heatmap(data: SearchData, *, params: Sequence[str] = ()) -> Picture:
    """Return the best score in cells of two params, by default those that matter most.

    Arrays: `x` and `y` are params, `x_cells` and `y_cells` their :class:`Cells`; `scores` of shape
    (n_y, n_x), NaN without one; and `failed`, a mask of cells in which all candidates failed.
    """
    chosen, message = _choose(data, params, 2)
    if message:
        return _picture(data, "best score by two params", message=message)
    x, y = (data.params[name] for name in chosen)
    (x_cells, across), (y_cells, up) = cells_of(x), cells_of(y)
    there = (across >= 0) & (up >= 0) & data.latest
    done, bad = there & np.isfinite(data.losses), there & data.failed
    losses = np.full((len(y_cells.edges) - 1, len(x_cells.edges) - 1), np.inf)
    failed = np.zeros(losses.shape, dtype=bool)
    np.minimum.at(losses, (up[done], across[done]), data.losses[done])
    failed[up[bad], across[bad]] = True
    scores = np.where(np.isinf(losses), np.nan, losses if data.minimize else -losses)
    return _picture(
        data, f"best score by {x.name} and {y.name}", _last_rung(data),
        _lacking(data, x.name, y.name), _on_some_splits(data), x=x, y=y, x_cells=x_cells,
        y_cells=y_cells, scores=scores, failed=failed & np.isnan(scores),
    )  # fmt: skip


@dataclass(frozen=True)
class Cells:
    """How a param is cut into cells.

    Attributes
    ----------
    edges : ndarray of shape (n_cells + 1,)
        Numbers of cells from 0; or values of ``Param.forward`` if cells are bins.
    values : ndarray of shape (n_cells,) or None
        The value of each cell; None if cells are bins.
    """

    edges: Floats
    values: Floats | None

    @property
    def middles(self) -> Floats:
        """The middle of each cell."""
        return np.asarray((self.edges[:-1] + self.edges[1:]) / 2)


def cells_of(param: Param) -> tuple[Cells, Any]:
    """Return the cells of a param, and the one of each candidate, -1 if it lacks the param."""
    distinct = param.distinct
    if param.categories or len(distinct) <= _MOST_CELLS:
        cells = Cells(np.arange(len(distinct) + 1.0), distinct)
        place = np.searchsorted(distinct, param.at)
    else:
        at, (low, high) = param.forward(param.at), param.forward(distinct[[0, -1]])
        cells = Cells(np.linspace(low, high, _BINS + 1), None)
        place = np.clip(np.searchsorted(cells.edges, at, side="right") - 1, 0, _BINS - 1)
    return cells, np.where(np.isnan(param.at), -1, place)


def parallel(data: SearchData, *, params: Sequence[str] = ()) -> Picture:
    """Return candidates as lines across params, by default the ten that matter most.

    Arrays: `params`, with a place for each line, the most important one last; and `scores`, NaN
    for failed candidates.
    """
    varying = data.varying()
    chosen, message = _choose(data, params, len(params) or min(len(varying), 10) or 1)
    chosen = chosen if params else chosen[::-1]
    rows, sampled = _sample(data, (data.kinds != "") & data.latest, MOST_LINES)
    left = "" if params or len(varying) <= 10 else f"10 of {len(varying)} params"
    return _picture(
        data, "params and score", sampled, left, _last_rung(data), _on_some_splits(data),
        message=message, params=[data.params[name].of(rows) for name in chosen],
        scores=data.drawn_scores[rows],
    )  # fmt: skip


def importance(data: SearchData) -> Picture:
    """Return the importance of each param: `names`, `means` and `stds`.

    :func:`~optomatic.plots.importance.importances` has the method.
    """
    found, title = importances(data), "importance of params"
    if found.names and not np.isnan(found.r2):
        says = f"a forest explains {max(found.r2, 0):.0%} of the variance of unseen scores"
        weak = "so little that the bars say nothing" if found.r2 < 0.1 else ""
        bars: dict[str, Any] = {"names": found.names, "means": found.means, "stds": found.stds}
        return _picture(data, title, says, weak, _on_some_splits(data), **bars)
    few = f"Importance needs {LEAST} candidates with a score. There are {found.n_candidates}."
    if found.n_candidates >= LEAST:
        few = "All candidates have the same params, or the same score."
    return _picture(data, title, message=_nothing(data) or few)


# -- rungs and splits --------------------------------------------------------------------------


def rungs(data: SearchData, *, resource: str | None = None) -> Picture:
    """Return scores over the rungs of halving, or over the values of the param `resource`.

    Arrays: `resources`, a text for each rung; `scores`, `stds` and `failed` of shape (n_candidates,
    n_rungs), the candidate that is best on the last rung first; `counts` of all candidates a rung.
    """
    title = "scores over rungs"
    rung, labels = _rungs(data, resource)
    if rung is None:
        message = "This search has no rungs: it is no successive halving, and no resource is named."
        return _picture(data, title, message=_nothing(data) or message)
    keys = data.identities(without=resource)
    places = {key: row for row, key in enumerate(dict.fromkeys(keys))}
    losses = np.full((len(places), len(labels)), np.nan)
    stds, failed = losses.copy(), np.zeros(losses.shape, dtype=bool)
    there = rung >= 0
    at = np.array([places[key] for key in keys], dtype=int)[there], rung[there]
    losses[at], stds[at], failed[at] = data.losses[there], data.stds[there], data.failed[there]
    n = np.arange(len(labels))
    reached = np.where(np.isnan(losses) & ~failed, -1, n).max(axis=1, initial=-1)
    last = losses[np.arange(len(losses)), reached] if len(labels) else np.zeros(0)
    order = np.lexsort((np.nan_to_num(last, nan=np.inf), -reached))
    note = f"the {MOST_LINES} of {len(order):,} candidates that got farthest"
    shown = order[:MOST_LINES]
    return _picture(
        data, title, note if len(order) > MOST_LINES else "", message=_nothing(data),
        resources=labels, scores=(losses if data.minimize else -losses)[shown], stds=stds[shown],
        failed=failed[shown], counts=(~np.isnan(losses) | failed).sum(axis=0),
    )  # fmt: skip


def _rungs(data: SearchData, resource: str | None) -> tuple[Any, list[str]]:
    """Return the number of the rung of each candidate, and what each rung gives."""
    if resource is not None:
        own = data.param(resource)
        place = np.searchsorted(own.distinct, own.at)
        return np.where(np.isnan(own.at), -1, place), [own.text(value) for value in own.distinct]
    if data.rung is None:
        return None, []
    numbers, place = np.unique(data.rung, return_inverse=True)
    return place, [f"{data.resources[data.rung == number][0]:g}" for number in numbers]


def splits(data: SearchData) -> Picture:
    """Return the score of each candidate on each split.

    Arrays: `scores` and `states` of shape (n_rows, n_splits), the best candidate first, then those
    that a race stopped, then those that failed.
    """
    got = (~np.isnan(data.split_scores)).sum(axis=1)
    group = np.select([data.complete, data.partial, data.failed], [0, 1, 2], 3)
    means = data.scores if data.minimize else -data.scores
    rung = np.zeros(len(got)) if data.rung is None else -data.rung
    order = np.lexsort((np.nan_to_num(means, nan=np.inf), -got, group, rung))
    note = "" if data.rung is None else "the last rung first"
    if len(order) > MOST_ROWS:
        note = f"{MOST_ROWS:,} of {len(order):,} rows, evenly by rank"
        order = order[np.linspace(0, len(order) - 1, MOST_ROWS).astype(int)]
    arrays = {"scores": data.split_scores[order], "states": data.split_states[order]}
    return _picture(data, "scores on each split", note, message=_nothing(data), **arrays)


# -- timeline ----------------------------------------------------------------------------------


def timeline(data: SearchData) -> Picture:
    """Return what each worker did when, in seconds since the search began.

    Arrays: `workers`, their names; a bar for each unit and lost attempt, with `worker` (its
    number), `began`, `ended`, `kind` and `track` (its place among what the worker has at the same
    time).  If there are too many bars, none, but `edges` of bins of time, and `busy` of shape
    (n_workers, n_bins): how many units were at work.
    """
    title, attempts = "units of each worker", _attempts(data)
    here = attempts["began"] >= 0
    before = int((~here).sum())
    notes = [f"units scored for earlier searches: {before:,}" if before else ""]
    attempts = attempts[here]
    if attempts.empty:
        nobody = _nothing(data) or "No unit of this search says when a worker scored it."
        return _picture(
            data, title, message="All units were scored for earlier searches." if before else nobody
        )
    counts = attempts["worker"].value_counts()
    if len(counts) > MOST_WORKERS:
        notes.append(f"{MOST_WORKERS} of {len(counts):,} workers: those with the most units")
        attempts = attempts[attempts["worker"].isin(counts.index[:MOST_WORKERS])]
    attempts = attempts.sort_values("began", kind="stable")
    worker, names = pd.factorize(attempts["worker"])
    edges, busy = np.zeros(0), np.zeros((0, 0))
    if len(attempts) > MOST_BARS:
        notes.append(f"{len(attempts):,} units in {_TIME_BINS} bins of time")
        began, ended = attempts["began"].to_numpy(), attempts["ended"].to_numpy()
        ended = np.fmin(ended, began + attempts["took"].to_numpy())
        edges = np.linspace(0, ended.max(), _TIME_BINS + 1)
        own = [_busy(began[worker == n], ended[worker == n], edges) for n in range(len(names))]
        busy, attempts, worker = np.array(own), attempts[:0], worker[:0]
    began, ended, track = _bars(attempts, worker)
    return _picture(
        data, title, *notes, workers=list(names), worker=worker, began=began, ended=ended,
        kind=attempts["kind"].to_numpy(), track=track, edges=edges, busy=busy,
    )  # fmt: skip


def _attempts(data: SearchData) -> pd.DataFrame:
    """Return worker, beginning, end, seconds and kind of all attempts that are known."""
    known = np.isin(data.split_states, ("completed", "failed", "running"))
    kind = data.split_states[known]
    ended = np.where(kind == "running", data.now, data.ended[known])
    units = zip(data.workers[known], data.began[known], ended, data.took[known], kind, strict=True)
    lost = ((*one, np.nan, "lost") for one in data.lost)
    columns = ["worker", "began", "ended", "took", "kind"]
    frame = pd.DataFrame([*units, *lost], columns=columns)
    times = columns[1:4]
    frame[times] = frame[times].astype(float)
    frame["ended"] = np.fmax(frame["began"], frame["ended"])
    return frame[(frame["worker"] != "") & ~frame["began"].isna()]


def _bars(attempts: pd.DataFrame, worker: Any) -> tuple[Floats, Floats, Any]:
    """Return beginning, end and track of each bar; `attempts` are ordered by their beginnings.

    A worker tells of several units at once, so a bar may begin later than it told, if it still
    ends before it told so.
    """
    began, ended = np.zeros(len(worker)), np.zeros(len(worker))
    track = np.zeros(len(worker), dtype=int)
    free: dict[int, list[float]] = {}
    times = attempts[["began", "ended", "took"]].to_numpy(dtype=float)
    for n, (first, last, took) in enumerate(times):
        took = min(took, last - first) if took == took else last - first
        ends = free.setdefault(int(worker[n]), [])
        fits = (k for k, end in enumerate(ends) if max(first, end) + took <= last)
        track[n] = place = next(fits, len(ends))
        began[n] = max([first, *ends[place : place + 1]])
        ended[n] = began[n] + took
        ends[place : place + 1] = [ended[n]]
    return began, ended, track


def _busy(began: Floats, ended: Floats, edges: Floats) -> Floats:
    """Return how many units are at work on average between each two edges."""
    total = _up_to(began, edges) - _up_to(ended, edges)
    return np.asarray(np.diff(total) / np.diff(edges))


def _up_to(moments: Floats, edges: Floats) -> Floats:
    """Return for each edge the seconds from each earlier moment to it, summed up."""
    ordered = np.sort(moments)
    counts = np.searchsorted(ordered, edges, side="right")
    return np.asarray(counts * edges - np.r_[0.0, np.cumsum(ordered)][counts])
