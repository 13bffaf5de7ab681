"""Two pictures of what ``compare.py`` measured: overhead of a unit, and units a second."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from optomatic.plots import theme

from .peers import VARIANTS
from .work import WORKS

#: Work of the first picture, in the order of its axis.
LENGTHS = {
    "nothing": "nothing",
    "sleep-1ms": "1 ms",
    "sleep-10ms": "10 ms",
    "sleep-100ms": "100 ms",
}
#: Colours of Okabe and Ito by family; ours and scikit-learn's are those of the theme.
COLORS = {
    "dask": "#e69f00",
    "Ray": "#009e73",
    "Optuna": "#cc79a7",
    "hyperopt": "#d55e00",
}
STYLES = (("-", "o"), ("--", "s"), (":", "^"))
#: Less than this is noise, and has no place on a log axis.
LEAST_MS = 0.01
Points = list[tuple[float, float]]


def overheads(found: dict[str, Any], name: str, size: int) -> Points:
    """Return milliseconds beyond its length that a unit takes of a worker, by place of length."""
    points = []
    workers = found["jobs"] if VARIANTS[name].is_parallel else 1
    for record in found["records"]:
        work, units = record["work"], record["units"]
        if work in LENGTHS and units == size and name in record["seconds"]:
            wall = statistics.median(record["seconds"][name])
            milliseconds = 1000 * (wall * workers / units - WORKS[work].seconds)
            points.append((list(LENGTHS).index(work), max(LEAST_MS, milliseconds)))
    return sorted(points)


def rates(found: dict[str, Any], name: str) -> Points:
    """Return units a second by the size of a search of nothing."""
    return sorted(
        (record["units"], record["units"] / statistics.median(record["seconds"][name]))
        for record in found["records"]
        if record["work"] == "nothing" and name in record["seconds"]
    )


def _lines(ax: Any, ink: theme.Ink, lines: dict[str, Points], jobs: int) -> None:
    """Draw a line a variant on log axes, and their legend below."""
    colors = {"ours": ink.main, "scikit-learn": ink.text, **COLORS}
    seen: dict[str, int] = {}
    for name, points in lines.items():
        family = VARIANTS[name].family
        style, marker = STYLES[seen.setdefault(family, 0)]
        seen[family] += 1
        ax.plot(
            *zip(*points, strict=True), style, marker=marker, markersize=5,
            color=colors[family], label=VARIANTS[name].label.format(jobs=jobs),
            linewidth=2.8 if family == "ours" else 1.5, zorder=3 if family == "ours" else 2,
        )  # fmt: skip
    ax.set_yscale("log")
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    ax.grid(axis="y", linewidth=0.6)
    theme.bare(ax)
    ax.figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8.5)


def draw(folder: Path, found: dict[str, Any], size: int) -> None:
    """Write both pictures, in both themes, as .svg files; the first shows searches of `size`."""
    folder.mkdir(parents=True, exist_ok=True)
    notes = [f"{found['jobs']} workers", f"medians of {found['rounds']}"]
    lengths = [f"searches of {size:,} units", *notes]
    costs = {name: points for name in VARIANTS if (points := overheads(found, name, size))}
    speeds = {name: points for name in VARIANTS if (points := rates(found, name))}
    sizes = sorted({units for points in speeds.values() for units, _ in points})
    for kind in ("light", "dark"):
        with theme.canvas(None, kind, (7.0, 4.8)) as (ax, ink):
            _lines(ax, ink, costs, found["jobs"])
            ax.set_xticks(range(len(LENGTHS)), LENGTHS.values())
            ax.set(xlabel="length of a unit, which waits", ylabel="overhead a unit (ms)")
            theme.finish(ax, "What a unit costs beyond its length", [*lengths, "lower is better"])
            ax.figure.savefig(folder / f"overhead-{kind}.svg")
        with theme.canvas(None, kind, (7.0, 4.8)) as (ax, ink):
            _lines(ax, ink, speeds, found["jobs"])
            ax.set(xlabel="units of a search, of almost nothing", ylabel="units a second")
            ax.set_xscale("log")
            ax.set_xticks(sizes, [f"{units:,}" for units in sizes])
            ax.set_xticks([], minor=True)
            ax.yaxis.set_minor_formatter(ax.yaxis.get_major_formatter())
            theme.finish(ax, "Units a second", [*notes, "higher is better"])
            ax.figure.savefig(folder / f"throughput-{kind}.svg")
