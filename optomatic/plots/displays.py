"""Pictures of a search, in the convention of scikit-learn's displays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np

from optomatic.plots import arrays
from optomatic.plots.arrays import Cells, Picture
from optomatic.plots.search_data import Param, Readable, SearchData, is_spread, number, search_data
from optomatic.plots.theme import (
    Ink,
    bare,
    canvas,
    color_bar,
    finish,
    is_light,
    name_ticks,
    param_axis,
    plain,
    say,
    score_axis,
    score_label,
    time_axis,
    whole_ticks,
)

#: Where failed candidates stand: this share of the height above the bottom.
_BOTTOM = 0.03
#: More points than this are drawn smaller.
_MANY = 300
#: Scores are written into so many cells of a heat map at most.
_WRITTEN = 64
#: The height, on axes from 0 to 1, of candidates that lack a param.
_ABSENT = -0.1
#: Lines that meet in a category are spread so far up and down.
_SPREAD = 0.025


class Display:
    """The methods that all displays share: :meth:`from_search` and :meth:`plot`.

    Parameters
    ----------
    picture : Picture
        The arrays to draw; :mod:`optomatic.plots.arrays` makes them.

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes, Figure
        Those of the last :meth:`plot`.
    """

    _picture: ClassVar[Callable[..., Picture]]
    #: Draws the arrays of the picture; returns what the legend explains.
    _draw: Callable[..., Sequence[Any]]
    _size: ClassVar[tuple[float, float]] = (7.2, 4.6)

    def __init__(self, picture: Picture) -> None:
        self.picture = picture

    @classmethod
    def from_search(
        cls,
        search: Readable,
        *,
        metric: str | None = None,
        ax: Any = None,
        theme: str | None = None,
        **options: Any,
    ) -> Self:
        """Read a search, and draw it.

        Parameters
        ----------
        search : fitted search, or what :func:`optomatic.attach` gives
            It may still run.
        metric : str, default=None
            Name of a metric; None for the one that decides, else the first.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        theme : {"light", "dark"}, default=None
            Colours of a new figure; None takes matplotlib's settings as they are.
        **options
            Those of the class.

        Returns
        -------
        Display
            With ``ax_`` and ``figure_``.  If there is nothing to draw, these hold a message.

        Raises
        ------
        ValueError
            If the search has no such metric or param, or is not in the database any more.
        TypeError
            If an option is unknown.
        ImportError
            If matplotlib is missing: ``pip install "optomatic[plot]"``.
        NotFittedError
            If the search has not been fitted.
        StoreError
            If the database cannot be used.
        """
        return cls.from_data(search_data(search, metric), ax=ax, theme=theme, **options)

    @classmethod
    def from_data(
        cls, data: SearchData, *, ax: Any = None, theme: str | None = None, **options: Any
    ) -> Self:
        """Draw arrays that were read before; parameters and errors as of :meth:`from_search`."""
        return cls(cls._picture(data, **options)).plot(ax=ax, theme=theme)

    def plot(self, *, ax: Any = None, theme: str | None = None) -> Self:
        """Draw the picture again; parameters and errors as of :meth:`from_search`."""
        it = self.picture
        with canvas(ax, theme, self._size) as (own, ink):
            if it.message:
                say(own, it.title, it.message)
            else:
                legend = self._draw(own, ink, **it.arrays)
                finish(own, it.title, it.notes, legend)
        self.ax_, self.figure_ = own, own.figure
        return self

    @property
    def _label(self) -> str:
        return score_label(self.picture.metric, self.picture.minimize)

    def _color_bar(self, ax: Any, drawn: Any) -> None:
        """Draw the scale of scores, and spread the colours as the scores are spread."""
        if is_spread(np.ma.filled(drawn.get_array(), np.nan)):
            drawn.set_norm("log")
        color_bar(ax, drawn, self._label, self.picture.minimize)


class HistoryDisplay(Display):
    """The best score so far, and the score of each candidate.

    Parameters
    ----------
    by : {"units", "time"}, default="units"
        Whether the x axis has the units that have ended, or the time since the search began.
        Stored scores of earlier searches stand at its beginning.

    Notes
    -----
    Failed candidates are crosses at the bottom.  Candidates with scores on some splits only, as a
    race stopped them or they still run, are hollow, and do not count for the best.  Of more than
    2,000 candidates the best 200 and others at random are drawn; the line is of all.
    """

    _picture = staticmethod(arrays.history)

    def _draw(
        self, ax: Any, ink: Ink, *, by: str, x: Any, y: Any, kind: Any, best_x: Any, best_y: Any
    ) -> Sequence[Any]:
        unit = time_axis(ax, float(x.max(initial=0.0))) if by == "time" else 1.0
        if by == "units":
            ax.set_xlabel("units that have ended")
            whole_ticks(ax.xaxis)
        score_axis(ax, self._label, y)
        (best,) = ax.plot(
            best_x / unit, best_y, color=ink.best, linewidth=2, drawstyle="steps-post",
            marker="o", markersize=4,
            label="best so far", zorder=4,
        )  # fmt: skip
        return [best, *_points(ax, ink, x / unit, y, kind)]


def _points(ax: Any, ink: Ink, x: Any, y: Any, kind: Any, std: Any = None) -> list[Any]:
    """Draw candidates; return what the legend explains."""
    many, handles = len(x) > _MANY, []
    size, alpha = (9, 0.55) if many else (22, 0.9)
    for name, label in (("complete", "candidate"), ("partial", "on some splits only")):
        at = kind == name
        if at.any() and std is not None and np.nanmax(std[at], initial=0.0) > 0:
            bars = {"ecolor": ink.main, "elinewidth": 0.8, "alpha": 0.18 if many else 0.5}
            ax.errorbar(x[at], y[at], yerr=std[at], fmt="none", zorder=2, **bars)
            label += ", ± deviation over splits"
        if at.any():
            style = {"facecolors": ink.main if name == "complete" else "none", "label": label}
            handles.append(
                ax.scatter(x[at], y[at], size, edgecolors=ink.main, alpha=alpha, zorder=3, **style)
            )
    if (at := kind == "failed").any():
        bottom = np.full(at.sum(), _BOTTOM), ax.get_xaxis_transform()
        handles.append(
            ax.scatter(
                x[at], bottom[0], 24, transform=bottom[1], marker="x", color=ink.failed,
                linewidths=1.4, label="failed", zorder=3,
            )
        )  # fmt: skip
    return handles


class SliceDisplay(Display):
    """The score of each candidate against one param.

    Parameters
    ----------
    param : str, default=None
        Name of the param; None for the one that matters most.

    Notes
    -----
    Bars are deviations over splits.  Axes are logarithmic where values lie more evenly so.
    Candidates of a category are spread a little to the sides.
    """

    _picture = staticmethod(arrays.score_slice)

    def _draw(
        self, ax: Any, ink: Ink, *, param: Param, y: Any, std: Any, kind: Any
    ) -> Sequence[Any]:
        param_axis(ax, param)
        score_axis(ax, self._label, y)
        wide = 0.25 if param.categories else 0.0
        x = param.at + np.random.default_rng(0).uniform(-wide, wide, len(y))
        return _points(ax, ink, x, y, kind, std)


class HeatmapDisplay(Display):
    """The best score in cells of two params, whatever the others are.

    Parameters
    ----------
    params : sequence of str, default=()
        Two names, or fewer; those that matter most take the places of others.

    Notes
    -----
    Numbers with more than 12 values are put into ten bins.  A cross marks a cell in which all
    candidates failed; one without candidates stays empty.
    """

    _picture = staticmethod(arrays.heatmap)
    _size = (7.2, 5.2)

    def _draw(
        self, ax: Any, ink: Ink, *, x: Param, y: Param, x_cells: Cells, y_cells: Cells,
        scores: Any, failed: Any,
    ) -> Sequence[Any]:  # fmt: skip
        drawn = ax.pcolormesh(
            x_cells.edges, y_cells.edges, np.ma.masked_invalid(scores), linewidth=0.5,
            cmap=ink.map_of(self.picture.minimize), edgecolors=ink.paper,
        )  # fmt: skip
        self._color_bar(ax, drawn)
        ax.spines[:].set_visible(False)
        ax.set_xlabel(plain(x.name))
        ax.set_ylabel(plain(y.name))
        places, names = _cell_ticks(x, x_cells)
        ax.set_xticks(places)
        name_ticks(ax, names)
        places, names = _cell_ticks(y, y_cells)
        ax.set_yticks(places, [plain(name) for name in names])
        known = np.argwhere(~np.isnan(scores))
        for up, across in known if scores.size <= _WRITTEN else ():
            light = is_light(drawn.cmap(drawn.norm(scores[up, across])))
            at, text = (x_cells.middles[across], y_cells.middles[up]), number(scores[up, across])
            color = "black" if light else "white"
            ax.annotate(text, at, ha="center", va="center", fontsize=8, color=color)
        if not failed.any():
            return ()
        up, across = np.nonzero(failed)
        where = x_cells.middles[across], y_cells.middles[up]
        return [ax.scatter(*where, 50, marker="x", color=ink.failed, label="all failed")]


def _cell_ticks(param: Param, cells: Cells) -> tuple[Any, list[str]]:
    """Return places and names of ticks: of each cell, or of each second edge of bins."""
    if cells.values is not None:
        return cells.middles, [param.text(value) for value in cells.values]
    edges = cells.edges[::2]
    return edges, [number(value, 2) for value in (10**edges if param.is_log else edges)]


class ParallelDisplay(Display):
    """Candidates as lines across their params, in the colour of their score.

    Parameters
    ----------
    params : sequence of str, default=()
        Names, from left to right; without any the ten that matter most, the most important one at
        the right.

    Notes
    -----
    The best lines are in front.  Failed candidates are dashed, and reach no score.  A candidate
    that lacks a param passes below its axis.  Candidates of a category are spread a little up and
    down.  Of more than 500 candidates the best 50 and others at random are drawn.
    """

    _picture = staticmethod(arrays.parallel)
    _size = (9.0, 4.8)

    def _draw(self, ax: Any, ink: Ink, *, params: Sequence[Param], scores: Any) -> Sequence[Any]:
        from matplotlib.collections import LineCollection

        minimize = self.picture.minimize
        axes = [*params, Param(self.picture.metric, scores, is_spread(scores))]
        heights = np.column_stack([_heights(param, param.at) for param in axes])
        spread = np.random.default_rng(0).uniform(-_SPREAD, _SPREAD, heights.shape)
        heights += np.where([bool(param.categories) for param in axes], spread, 0.0)
        places = np.broadcast_to(np.arange(len(axes)), heights.shape)
        lines = np.stack([places, np.nan_to_num(heights, nan=_ABSENT)], axis=2)
        failed = np.isnan(scores)
        # The best are drawn last, in front.
        order = np.argsort(-scores if minimize else scores, kind="stable")[: (~failed).sum()]
        alpha = float(np.clip(30 / max(len(order), 1), 0.25, 0.85))
        drawn = LineCollection(lines[order], cmap=ink.map_of(minimize), alpha=alpha)
        drawn.set_array(scores[order])
        ax.add_collection(drawn)
        if len(order):
            self._color_bar(ax, drawn)
        for place, param in enumerate(axes):
            _vertical_axis(ax, ink, place, param, absent=place < len(params))
        lacking = any(np.isnan(param.at).any() for param in params)
        ax.set(xlim=(-0.2, len(params) + 0.3), ylim=(-0.14 if lacking else -0.04, 1.04))
        ax.set(xticks=range(len(axes)), yticks=[])
        name_ticks(ax, [param.name for param in axes])
        ax.spines[:].set_visible(False)
        ax.tick_params(length=0)
        if not failed.any():
            return ()
        style = {"colors": ink.failed, "linestyles": "dashed", "linewidths": 0.8}
        return [ax.add_collection(LineCollection(lines[failed, :-1], label="failed", **style))]


def _heights(param: Param, places: Any) -> Any:
    """Return the heights of places on an axis from 0 to 1."""
    if not len(param.distinct):
        return np.full(len(places), np.nan)
    low, high = param.forward(param.distinct[[0, -1]])
    return (param.forward(places) - low) / (high - low) if high > low else places * 0 + 0.5


def _vertical_axis(ax: Any, ink: Ink, place: int, param: Param, *, absent: bool) -> None:
    """Draw the axis of a param, with values at its right."""
    from matplotlib.ticker import LogLocator, MaxNLocator

    ax.plot([place, place], [0, 1], color=ink.text, linewidth=0.8, zorder=4)
    values = param.distinct
    if len(values) > 6 and not param.categories:
        locator = LogLocator() if param.is_log else MaxNLocator(5)
        ticks = np.asarray(locator.tick_values(values[0], values[-1]))
        values = ticks[(ticks >= values[0]) & (ticks <= values[-1])]
    texts = [(h, param.text(v)) for h, v in zip(_heights(param, values), values, strict=True)]
    if absent and np.isnan(param.at).any():
        texts.append((_ABSENT, "(absent)"))
    box = {"facecolor": ink.paper, "edgecolor": "none", "alpha": 0.9, "pad": 0.8}
    for height, text in texts:
        ax.text(place + 0.03, height, plain(text), fontsize=7.5, va="center", zorder=5, bbox=box)


class ImportanceDisplay(Display):
    """How much the score depends on each param.

    Notes
    -----
    Permutation importance in scikit-learn's random forest, on candidates that it has not seen.
    :func:`optomatic.plots.importance.importances` has the method and its sources.  It needs ten
    candidates with a score.
    """

    _picture = staticmethod(arrays.importance)

    def _draw(self, ax: Any, ink: Ink, *, names: Any, means: Any, stds: Any) -> Sequence[Any]:
        error = {"ecolor": ink.text, "elinewidth": 1, "capsize": 3}
        ax.barh(range(len(names)), means, 0.65, xerr=stds, color=ink.main, error_kw=error)
        ax.set_yticks(range(len(names)), [plain(name) for name in names])
        ax.invert_yaxis()
        ax.axvline(0, color=ink.text, linewidth=0.8)
        ax.set_xlabel(f"fall of R² if the param is shuffled, for {plain(self.picture.metric)}")
        ax.grid(axis="x", linewidth=0.6)
        bare(ax, "left")
        return ()


class TimelineDisplay(Display):
    """The units of each worker over time.

    Notes
    -----
    A bar begins when the worker told the database that the unit began, perhaps for several at
    once, and is as long as the unit took.  Above 3,000 units a colour says how many units a worker
    had at work.  Units of earlier searches are left out.
    """

    _picture = staticmethod(arrays.timeline)
    _size = (9.0, 4.2)

    def _draw(self, ax: Any, ink: Ink, *, workers: Any, edges: Any, **bars: Any) -> Sequence[Any]:
        busy, most = bars.pop("busy"), max(bars["ended"].max(initial=0), edges.max(initial=0))
        unit, handles = time_axis(ax, most), []
        if len(edges):
            rows = np.arange(len(workers) + 1) - 0.5
            shades = np.ma.masked_equal(busy, 0.0)
            drawn = ax.pcolormesh(edges / unit, rows, shades, cmap=ink.scores, vmin=0)
            color_bar(ax, drawn, "units at work")
        else:
            handles = _bars(ax, ink, unit, most * 0.001, **bars)
            ax.set_xlim(0, most / unit * 1.01 or 1)
        ax.set_yticks(range(len(workers)), [plain(name) for name in workers])
        ax.set_ylim(len(workers) - 0.4, -0.6)
        ax.set_ylabel("worker")
        bare(ax)
        return handles


#: States differ in form, too, for readers who see no colours.
_HATCHES = {"completed": "", "failed": "xxxx", "running": "////", "lost": "...."}


def _bars(
    ax: Any, ink: Ink, unit: float, least: float, *, worker: Any, began: Any, ended: Any,
    kind: Any, track: Any,
) -> list[Any]:  # fmt: skip
    """Draw units as bars, `least` seconds long or more; return what the legend explains."""
    from matplotlib.collections import PolyCollection

    tracks = np.ones(worker.max() + 1)
    np.maximum.at(tracks, worker, track + 1.0)
    height = 0.8 / tracks[worker]
    top = worker - 0.4 + track * height
    left, right = began / unit, np.maximum(ended, began + least) / unit
    bottom = top + 0.92 * height
    corners = np.stack([left, top, left, bottom, right, bottom, right, top], axis=1)
    colors = dict(zip(_HATCHES, (ink.main, ink.failed, ink.running, ink.lost), strict=True))
    handles = []
    for name, color in colors.items():
        if (at := kind == name).any():
            style = {"facecolors": color, "hatch": _HATCHES[name], "edgecolors": ink.paper}
            bars = PolyCollection(corners[at].reshape(-1, 4, 2), label=name, lw=0.3, **style)
            handles.append(ax.add_collection(bars))
    return handles


class RungsDisplay(Display):
    """The scores of candidates on each rung, with a line for each candidate.

    Parameters
    ----------
    resource : str, default=None
        Name of the param that is the resource, as of
        :class:`~optomatic.generators.AsyncHalving`; None for the iterations of
        :class:`~optomatic.MongoHalvingGridSearchCV` and the like.
    """

    _picture = staticmethod(arrays.rungs)

    def _draw(
        self, ax: Any, ink: Ink, *, resources: Any, scores: Any, stds: Any, failed: Any,
        counts: Any,
    ) -> Sequence[Any]:  # fmt: skip
        from matplotlib.collections import LineCollection

        score_axis(ax, self._label, scores)
        x = np.broadcast_to(np.arange(len(resources)), scores.shape)
        lines = np.stack([x, scores], axis=2)
        ax.add_collection(LineCollection(lines, colors=ink.main, alpha=0.35, linewidths=0.9))
        kind = np.where(failed, "failed", np.where(np.isnan(scores), "", "complete"))
        handles = _points(ax, ink, *(a.ravel() for a in (x, scores, kind, stds)))
        style = {"color": ink.best, "linewidth": 2.2, "marker": "o", "zorder": 4}
        handles += ax.plot(x[0], scores[0], label="the best on the last rung", **style)
        names = [f"{name}\n({count:,})" for name, count in zip(resources, counts, strict=True)]
        ax.set_xticks(range(len(names)), [plain(name) for name in names])
        ax.set_xlim(-0.4, len(names) - 0.6)
        ax.set_xlabel("resources of a candidate (and how many candidates have a score on them)")
        return handles


class SplitsDisplay(Display):
    """The score of each candidate on each split; a race leaves some out.

    Notes
    -----
    The best candidate is at the top.  Below the complete ones are those that a race stopped, the
    longest in the race first, then those that failed.
    """

    _picture = staticmethod(arrays.splits)
    _size = (6.4, 5.6)

    def _draw(self, ax: Any, ink: Ink, *, scores: Any, states: Any) -> Sequence[Any]:
        from matplotlib.colors import ListedColormap
        from matplotlib.patches import Patch

        n_rows, n_splits = scores.shape
        where: Mapping[str, Any] = {
            "extent": (-0.5, n_splits - 0.5, n_rows + 0.5, 0.5), "aspect": "auto",
            "interpolation": "nearest",
        }  # fmt: skip
        if not (without := np.isnan(scores)).all():
            shades = np.ma.masked_invalid(scores)
            drawn = ax.imshow(shades, cmap=ink.map_of(self.picture.minimize), **where)
            self._color_bar(ax, drawn)
        failed, stopped = np.isin(states, ("failed", "dead")), states == "stopped"
        masks = {
            "failed": (failed, ink.failed, "xx"),
            "stopped by the race": (without & stopped, ink.faint, ""),
            "no score yet": (without & ~failed & ~stopped, ink.paper, ""),
        }
        handles = []
        for label, (mask, color, hatch) in masks.items():
            if mask.any():
                one = ListedColormap([color])
                ax.imshow(np.ma.masked_where(~mask, mask * 1.0), cmap=one, label=label, **where)
                edge = ink.text if color == ink.paper else ink.paper
                handles.append(Patch(facecolor=color, edgecolor=edge, label=label, hatch=hatch))
        ax.vlines(np.arange(1, n_splits) - 0.5, 0.5, n_rows + 0.5, color=ink.paper, lw=0.8)
        ax.set_xticks(range(0, n_splits, max(1, n_splits // 10)))
        whole_ticks(ax.yaxis)
        ax.set(xlabel="split", ylabel="candidates, the best first")
        ax.spines[:].set_visible(False)
        return handles


#: The displays by the word of the command line.
DISPLAYS: Mapping[str, type[Display]] = {
    "history": HistoryDisplay,
    "slice": SliceDisplay,
    "heatmap": HeatmapDisplay,
    "parallel": ParallelDisplay,
    "importance": ImportanceDisplay,
    "timeline": TimelineDisplay,
    "rungs": RungsDisplay,
    "splits": SplitsDisplay,
}
