"""The verb that draws: plot."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from optomatic.commands.arguments import Db, Search, find
from optomatic.commands.exits import USAGE, refuse
from optomatic.errors import StoreError

Kind = StrEnum(
    "Kind",
    ["history", "slice", "heatmap", "parallel", "importance", "timeline", "rungs", "splits"],
)
_SUFFIXES = (".png", ".svg", ".pdf")
#: The options of each kind: the param, or params, and whether there is --by.
_PARAMS = {"slice": ("param", 1), "rungs": ("resource", 1), "heatmap": ("params", 2)}
_MANY = ("params", 99)
_DOTS_PER_INCH = 150


def plot(
    search: Search,
    kind: Annotated[Kind, typer.Argument(help="which picture", show_default=False)],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="ends in .png, .svg or .pdf")
    ],
    db: Db = None,
    param: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            show_default=False,
            help="a param of slice, heatmap (two) or parallel; the resource of rungs; repeatable",
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(metavar="NAME", show_default=False, help="default: the one that decides"),
    ] = None,
    by: Annotated[str, typer.Option(metavar="units|time", help="the x axis of history")] = "units",
    theme: Annotated[str, typer.Option(metavar="light|dark", help="colours")] = "light",
) -> None:
    """Draw a search into a file: .png, .svg or .pdf.

    history: best score so far; slice, heatmap, parallel: score by one, two, all params;
    importance of params; timeline of workers; rungs of halving; splits of each candidate.
    Needs pip install "optomatic[plot]".
    """
    if output.suffix.lower() not in _SUFFIXES:
        refuse(f"a picture ends in {', '.join(_SUFFIXES)}, not {output.suffix!r}", USAGE)
    options = _options(kind, param or [], by)
    seen = find(search, db)
    from optomatic.plots.displays import DISPLAYS
    from optomatic.plots.theme import pyplot
    from optomatic.results.export import put_in_place

    pyplot().switch_backend("agg")
    try:
        figure = DISPLAYS[kind].from_search(seen, metric=metric, theme=theme, **options).figure_
    except StoreError:
        raise
    except ValueError as error:
        refuse(str(error), USAGE)
    form = output.suffix.lower().removeprefix(".")
    put_in_place(output, lambda path: figure.savefig(path, format=form, dpi=_DOTS_PER_INCH))
    pyplot().close(figure)
    print(f"{kind} of {seen.record()['name']} is in {output}.")


def _options(kind: str, params: list[str], by: str) -> dict[str, Any]:
    """Return the options of a display; refuse those that it does not have."""
    if by != "units" and kind != "history":
        refuse(f"--by is of history, and {kind} has none", USAGE)
    name, most = _PARAMS.get(kind, _MANY if kind == "parallel" else ("", 0))
    if len(params) > most:
        refuse(f"{kind} takes {most or 'no'} --param, not {len(params)}", USAGE)
    if kind == "history":
        return {"by": by}
    if not params:
        return {}
    return {name: params if name == "params" else params[0]}
