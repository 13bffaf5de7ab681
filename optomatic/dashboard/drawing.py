"""Pictures of a search as bytes, for pages and reports, by the displays of optomatic.plots."""

from __future__ import annotations

import asyncio
import io
from collections import OrderedDict
from collections.abc import Hashable
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from typing import Any, NamedTuple

import numpy as np

from optomatic.dashboard.processes import Processes
from optomatic.plots.displays import DISPLAYS, Display
from optomatic.plots.search_data import SearchData
from optomatic.plots.theme import pyplot

#: Above so many values in one array a picture is one of dots, which browsers draw faster.
_MOST_VALUES = 1_500
_DOTS_PER_INCH = 150
#: So many pictures are kept.
_KEPT = 200


class Drawn(NamedTuple):
    """A picture as a file."""

    content: bytes
    mime: str


def kinds_of(data: SearchData) -> list[str]:
    """Return the kinds of pictures that a search has."""
    kinds = ["history", "parallel", "slice", "heatmap", "importance", "timeline"]
    kinds += [] if data.rung is None else ["rungs"]
    return kinds + (["splits"] if data.split_states.shape[1] > 1 else [])


def draw(data: SearchData, kind: str, theme: str, **options: Any) -> Drawn:
    """Draw a picture; raise ValueError if an option names nothing.

    No other thread of the process may use pyplot meanwhile.
    """
    plt = pyplot()
    plt.switch_backend("agg")
    display = DISPLAYS[kind].from_data(data, theme=theme, **options)
    try:
        return _saved(display)
    finally:
        plt.close(display.figure_)


def _saved(display: Display) -> Drawn:
    from matplotlib import rc_context

    values = [v.size for v in display.picture.arrays.values() if isinstance(v, np.ndarray)]
    form = "png" if max(values, default=0) > _MOST_VALUES else "svg"
    how: dict[str, Any] = {"dpi": _DOTS_PER_INCH} if form == "png" else {"metadata": {"Date": None}}
    file = io.BytesIO()
    with rc_context({"svg.hashsalt": "optomatic"}):
        display.figure_.savefig(file, format=form, **how)
    return Drawn(file.getvalue(), "image/png" if form == "png" else "image/svg+xml")


class Gallery:
    """Has pictures drawn, and keeps those that were drawn last.

    They are kept by the marker of their search and what they show.  All calls come from the event
    loop.
    """

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._drawn: OrderedDict[Hashable, Future[Drawn]] = OrderedDict()

    @property
    def is_busy(self) -> bool:
        """True while pictures are being drawn that somebody waits for."""
        return any(not one.done() for one in self._drawn.values())

    async def get(
        self, marker: str, data: SearchData, kind: str, theme: str, **options: Any
    ) -> Drawn:
        """Return a picture, drawn now unless it is there."""
        named = tuple((k, v if isinstance(v, str) else tuple(v)) for k, v in options.items())
        key = (marker, data.name, data.metric, kind, theme, named)
        if key not in self._drawn:
            self._drawn[key] = self._processes.submit(draw, data, kind, theme, **options)
        self._drawn.move_to_end(key)
        while len(self._drawn) > _KEPT:
            self._drawn.popitem(last=False)
        try:
            # One that waits may go away; others wait for the same.
            return await asyncio.shield(asyncio.wrap_future(self._drawn[key]))
        except BrokenProcessPool:
            self._drawn.pop(key, None)
            raise
