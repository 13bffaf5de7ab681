"""Themes, colours, axes and texts of all pictures."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from optomatic.errors import shown
from optomatic.plots.search_data import Floats, Param, is_spread

_THEMES = {
    "light": {"paper": "#ffffff", "ink": "#1f2328", "faint": "#d9dde2"},
    "dark": {"paper": "#16181d", "ink": "#e6e8eb", "faint": "#3a3f47"},
}
#: More characters than this do not fit side by side below an axis.
_LONG_NAMES = 48
_NOTE_WIDTH, _SMALL = 84, 8.0


@dataclass(frozen=True)
class Ink:
    """Colours on one background: those of Okabe and Ito, which the colour-blind can tell apart.

    ``scores`` is a colour map whose upper end stands out from the background, for the best scores.
    """

    text: Any
    faint: Any
    paper: Any
    main: str
    scores: str
    best: str = "#e69f00"
    failed: str = "#d55e00"
    running: str = "#009e73"
    lost: str = "#cc79a7"

    def map_of(self, minimize: bool) -> str:
        """Return the colour map of scores, in which the best ones stand out."""
        return f"{self.scores}_r".replace("_r_r", "") if minimize else self.scores


def pyplot() -> Any:
    """Return pyplot.  Matplotlib is imported only here: at the first picture."""
    try:
        from matplotlib import pyplot as plt
    except ImportError as error:
        raise ImportError(
            "Pictures need matplotlib, which is not installed. Nothing was drawn. "
            'Install it with: pip install "optomatic[plot]"'
        ) from error
    return plt


@contextmanager
def canvas(ax: Any, theme: str | None, size: tuple[float, float]) -> Iterator[tuple[Any, Ink]]:
    """Give axes (new ones if `ax` is None) and the colours that can be seen on them."""
    plt = pyplot()
    if theme is not None and theme not in _THEMES:
        raise ValueError(f"theme is 'light' or 'dark', not {shown(theme)}. Nothing was drawn.")
    with plt.rc_context({} if theme is None else _settings(**_THEMES[theme])):
        if ax is None:
            _, ax = plt.subplots(figsize=size, layout="constrained")
        yield ax, _ink(ax)


def _settings(paper: str, ink: str, faint: str) -> dict[str, Any]:
    papers = ("figure.facecolor", "axes.facecolor", "savefig.facecolor", "legend.facecolor")
    inks = ("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "axes.titlecolor")
    faints = ("axes.edgecolor", "grid.color", "legend.edgecolor")
    return {
        **dict.fromkeys(papers, paper),
        **dict.fromkeys(inks, ink),
        **dict.fromkeys(faints, faint),
    }


def _ink(ax: Any) -> Ink:
    from matplotlib.colors import to_rgba

    text, paper = ax.xaxis.label.get_color(), to_rgba(ax.get_facecolor())
    if is_light(paper):
        return Ink(text, _THEMES["light"]["faint"], paper, "#0072b2", "viridis_r")
    return Ink(text, _THEMES["dark"]["faint"], paper, "#56b4e9", "viridis")


def is_light(color: Sequence[float]) -> bool:
    """Return whether black is easier to read on a colour than white."""
    return float(np.dot(color[:3], (0.299, 0.587, 0.114))) > 0.5


def plain(text: str) -> str:
    """Return a text that matplotlib does not take for a formula."""
    return text.replace("$", r"\$")


def finish(ax: Any, title: str, notes: Sequence[str] = (), legend: Sequence[Any] = ()) -> None:
    """Write title, notes and legend above the axes, where they hide nothing."""
    lines = textwrap.wrap(plain("; ".join(notes)), _NOTE_WIDTH)
    above = 4.0
    if legend:
        ax.legend(
            handles=list(legend), loc="lower left", bbox_to_anchor=(0.0, 1.0), frameon=False,
            ncols=len(legend), fontsize=_SMALL, borderaxespad=0.2, columnspacing=1.4,
        )  # fmt: skip
        above += 16
    if lines:
        ax.annotate(
            "\n".join(lines), (0, 1), xytext=(0, above), xycoords="axes fraction",
            textcoords="offset points", va="bottom", fontsize=_SMALL,
        )  # fmt: skip
    above += 11.5 * len(lines) + 3
    ax.set_title(plain(title), loc="left", fontsize=11, fontweight="bold", pad=above)


def say(ax: Any, title: str, message: str) -> None:
    """Write a message in place of a picture."""
    text = "\n".join(textwrap.fill(plain(line), 60) for line in message.split("\n"))
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center")
    ax.set(xticks=[], yticks=[])
    finish(ax, title)


def score_axis(ax: Any, label: str, scores: Floats) -> None:
    """Name the y axis of scores, and scale it as they are spread."""
    ax.set_ylabel(label)
    if is_spread(scores):
        ax.set_yscale("log")
    ax.grid(axis="y", linewidth=0.6)
    bare(ax)


def score_label(metric: str, minimize: bool) -> str:
    """Return the name of a metric, with its direction."""
    return f"{plain(metric)} ({'lower' if minimize else 'higher'} is better)"


def color_bar(ax: Any, drawn: Any, label: str, minimize: bool = False) -> None:
    """Draw the scale of colours, with the best scores at its top."""
    bar = ax.figure.colorbar(drawn, ax=ax, pad=0.02)
    bar.solids.set(alpha=1, rasterized=True)  # in a .svg 256 cells are half of the file
    bar.set_label(label)
    bar.outline.set_visible(False)
    if minimize:
        bar.ax.invert_yaxis()


def param_axis(ax: Any, param: Param) -> None:
    """Name the x axis of a param, and scale it as the values are spread."""
    ax.set_xlabel(plain(param.name))
    if param.categories:
        ax.set_xticks(range(len(param.categories)))
        name_ticks(ax, param.categories)
        ax.set_xlim(-0.6, len(param.categories) - 0.4)
    elif param.is_log:
        ax.set_xscale("log")


def name_ticks(ax: Any, names: Sequence[str]) -> None:
    """Write names below the ticks of the x axis, at an angle if they are long together."""
    is_long = sum(map(len, names)) + 2 * len(names) > _LONG_NAMES
    angle = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"} if is_long else {}
    ax.set_xticklabels([plain(name) for name in names], **angle)


def time_axis(ax: Any, most: float) -> float:
    """Name the x axis of time; return how many seconds its unit has."""
    steps = (("seconds", 1.0, 120.0), ("minutes", 60.0, 7_200.0), ("hours", 3_600.0, 172_800.0))
    name, unit = next(((n, u) for n, u, up in steps if most <= up), ("days", 86_400.0))
    ax.set_xlabel(f"{name} since the search began")
    return unit


def whole_ticks(axis: Any) -> None:
    """Write whole numbers only on an axis."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def bare(ax: Any, *spines: str) -> None:
    """Leave out the frame at the top, the right and `spines`; put the grid behind all else."""
    ax.spines[["top", "right", *spines]].set_visible(False)
    ax.set_axisbelow(True)
