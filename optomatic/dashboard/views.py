"""The pages: all searches; one search.  What they show comes from the feed, by timers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

import numpy as np
import pandas as pd
from fastapi import FastAPI
from nicegui import app as nicegui_app
from nicegui import ui
from starlette.responses import PlainTextResponse, Response

from optomatic._uri import redact
from optomatic.dashboard.drawing import Gallery, kinds_of
from optomatic.dashboard.feed import CHANGES, Feed, Overview, Progress, Topic
from optomatic.dashboard.tables import (
    TEXT,
    Wanted,
    candidate_frame,
    counts_of,
    page_of,
    unit_frame,
)
from optomatic.planning.params import params_line
from optomatic.plots.displays import DISPLAYS
from optomatic.plots.search_data import SearchData
from optomatic.results.export import records
from optomatic.results.text import fields_of, short, span

#: Seconds between two looks of a page at the feed, and between two drawings of a running search.
_TICK, _REDRAW = 0.4, 4.0
#: Larger frames are sorted in a thread.
_LARGE = 5_000
_COLORS = {
    "completed": "positive",
    "running": "primary",
    "left": "primary",
    "abandoned": "warning",
    "interrupted": "warning",
    "cancelled": "warning",
    "failed": "negative",
    "dead": "negative",
    "invalid": "negative",
}
_STYLE = """
:root { --line: rgba(127, 127, 127, .3) }
body { font-size: 14px }
.nicegui-content { padding: 12px; gap: 12px; max-width: 1500px; margin: auto }
/* The header, until the scripts have made it. */
#opening { background: #0072b2; color: #fff; font-weight: 700; padding: 8px 12px }
body:has(#app > *) #opening { display: none }
.bar { width: 100%; align-items: center; gap: 4px 12px; flex-wrap: wrap }
.card { border: 1px solid var(--line); border-radius: 6px; padding: 10px; width: 100%;
        overflow: auto }
.figures { display: grid; gap: 12px; width: 100%;
           grid-template-columns: repeat(auto-fit, minmax(min(100%, 430px), 1fr)) }
.figures .card { min-height: 200px }
.figures img { width: 100%; height: auto; display: block }
.quiet { opacity: .7 }
.body--dark { color-scheme: dark }
.body--dark .q-badge--outline, .body--dark .q-btn--outline { filter: brightness(1.7) }
.q-table th { font-weight: 600 }
.q-table__container { width: 100% }
.q-table__grid-item-row { display: flex; gap: 12px }
.q-table__grid-item-title { min-width: 76px }
.q-table__grid-item-value { overflow-wrap: anywhere }
.q-table a, .q-header a { color: inherit }
.q-tab-panel { padding: 12px 0; overflow: visible }
.q-tab-panels { background: none; width: 100% }
pre { margin: 4px 0; white-space: pre-wrap; overflow-wrap: anywhere; font-size: 12px }
.facts { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 4px 16px;
         width: 100%; overflow-wrap: anywhere }
"""


class Pages:
    """The pages about one database.

    Parameters
    ----------
    feed : Feed
    """

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.gallery = Gallery(feed.processes)

    def app(self) -> FastAPI:
        """Return the application that serves the pages."""
        api = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
        ui.page("/")(self._searches)
        ui.page("/search/{name:path}")(self._search)
        nicegui_app.get("/figure/{kind}")(self._figure)
        ui.run_with(
            api, title="optomatic", favicon="🔎", dark=None, tailwind=False,
            show_welcome_message=False, reconnect_timeout=5.0,
        )  # fmt: skip
        return api

    def _searches(self) -> None:
        _frame_of_page(self.feed)
        ListPage(self.feed)

    def _search(self, name: str) -> None:
        _frame_of_page(self.feed)
        SearchPage(self.feed, self.gallery, name)

    async def _figure(
        self, kind: str, search: str, theme: str = "light", metric: str = "", marker: str = "",
        params: str = "",
    ) -> Response:  # fmt: skip
        topic = self.feed.candidates(search, metric)
        if topic.value is None or kind not in DISPLAYS or theme not in ("light", "dark"):
            return PlainTextResponse("There is no such picture (yet).", 404)
        read = topic.value
        options = _options(kind, [name for name in params.split("\n") if name])
        try:
            drawn = await self.gallery.get(read.marker, read.value.data, kind, theme, **options)
        except ValueError as error:
            return PlainTextResponse(str(error), 404)
        fresh = "private, max-age=3600" if marker == read.marker else "no-store"
        return Response(drawn.content, 200, {"Cache-Control": fresh}, drawn.mime)


def _options(kind: str, params: Sequence[str]) -> dict[str, Any]:
    if not params or kind not in ("slice", "heatmap"):
        return {}
    return {"param": params[0]} if kind == "slice" else {"params": list(params)}


def _frame_of_page(feed: Feed) -> None:
    """Make the head of a page."""
    ui.add_css(_STYLE)
    ui.add_body_html('<div id="opening">optomatic</div>')
    ui.colors(primary="#0072b2", positive="#007f5f", negative="#c24a00", warning="#9a6a00",
              dark="#16181d", dark_page="#16181d")  # fmt: skip
    with ui.header().classes("bar").style("padding: 8px 12px"):
        ui.link("optomatic", "/").style("font-weight: 700; text-decoration: none")
        place = ui.label().classes("quiet").style("overflow-wrap: anywhere")
        ui.timer(_TICK, lambda: place.set_text(feed.place))


class Watched:
    """Shows a topic: calls `show` with its value once it is there, and after each change."""

    def __init__(self, topic: Callable[[], Topic[Any]], show: Callable[[Any], Any]) -> None:
        self._topic, self._show = topic, show
        self._shown: Any = None

    async def tick(self) -> str:
        """Show what is new; return what is wrong."""
        topic = self._topic()
        if topic.value is not None and topic.value is not self._shown:
            self._shown = topic.value
            found = self._show(topic.value)
            if isinstance(found, Awaitable):
                await found
        return topic.trouble()


def _banner() -> Callable[[str], None]:
    """Return what says in a banner that something is wrong."""
    label = (
        ui.label()
        .classes("card bg-negative text-white")
        .props("role=alert")
        .style("overflow-wrap: anywhere")
    )
    label.set_visibility(False)

    def say(text: str) -> None:
        if text != label.text:
            label.set_text(text)
            label.set_visibility(bool(text))

    return say


# -- tables ------------------------------------------------------------------------------------


class PagedTable:
    """A table of which the browser has one page: sorted, filtered and cut on the server.

    Parameters
    ----------
    key : str
        The column that tells rows apart.
    states : bool
        Whether rows can be chosen by their state.
    link : str
        Where a click on a row leads; the value of `key` is added.  Empty for nowhere.
    """

    def __init__(self, key: str, *, title: str = "", states: bool = False, link: str = "") -> None:
        self._key = key
        self._frame = pd.DataFrame({key: [], TEXT: []})
        with ui.row().classes("bar"):
            if title:
                ui.label(title).style("font-weight: 600; flex-grow: 1")
            self._states = ui.select({"": "all states"}, value="").props("dense outlined")
            self._states.set_visibility(states)
            self._contains = ui.input(placeholder="search").props(
                "dense outlined clearable debounce=300 aria-label=search"
            )
        start = {"rowsPerPage": 25, "rowsNumber": 0, "page": 1, "sortBy": None, "descending": False}
        self._total = 0
        self.table = ui.table(
            rows=[], columns=[], row_key=key, pagination=start, on_pagination_change=self._count
        )
        self.table.props(
            'flat bordered dense :grid="window.innerWidth < 600" no-data-label="nothing here" '
            ':rows-per-page-options="[10,25,100]" binary-state-sort'
        )
        self.table.on("request", self._request)
        if link:
            self.table.on("rowClick", lambda e: ui.navigate.to(link + quote(e.args[1][key])))
            self.table.props("class=cursor-pointer")
        self._states.on_value_change(self._filter)
        self._contains.on_value_change(self._filter)

    async def show(self, frame: pd.DataFrame) -> None:
        """Show another frame, at the same place."""
        self._frame = frame
        columns = [_column(frame, name) for name in map(str, frame.columns) if name != TEXT]
        if columns != self.table.columns:
            self.table.columns = columns
        if "state" in frame and self._states.visible:
            own = {"": "all states", **{s: s for s in sorted(frame["state"].astype(str).unique())}}
            if own != self._states.options:
                chosen = self._states.value if self._states.value in own else ""
                self._states.set_options(own, value=chosen)
        await self.refresh()

    async def _request(self, event: Any) -> None:
        self.table.pagination = {**self.table.pagination, **event.args["pagination"]}
        await self.refresh()

    async def _filter(self, _: Any) -> None:
        self.table.pagination = {**self.table.pagination, "page": 1}
        await self.refresh()

    def _count(self, _: Any = None) -> None:
        """Tell the browser the number of rows again: it sends the one that it began with."""
        if self.table.pagination["rowsNumber"] != self._total:
            self.table.pagination = {**self.table.pagination, "rowsNumber": self._total}

    async def refresh(self) -> None:
        """Show the page of rows again."""
        page = dict(self.table.pagination)
        count = int(page["rowsPerPage"]) or 100
        wanted = Wanted(
            page["sortBy"], bool(page["descending"]), self._contains.value or "",
            self._states.value or None, (int(page["page"]) - 1) * count, count,
        )  # fmt: skip
        if len(self._frame) > _LARGE:
            rows, total = await asyncio.to_thread(page_of, self._frame, wanted)
        else:
            rows, total = page_of(self._frame, wanted)
        self._total = total
        if page["rowsNumber"] != total:
            last = max(1, -(-total // count))
            page.update(rowsNumber=total, page=min(int(page["page"]), last))
            self.table.pagination = page
        if rows != self.table.rows:
            self.table.rows = rows


def _column(frame: pd.DataFrame, name: str) -> dict[str, Any]:
    align = "right" if len(frame) and pd.api.types.is_numeric_dtype(frame[name]) else "left"
    return {"name": name, "label": name, "field": name, "align": align, "sortable": True}


# -- all searches ------------------------------------------------------------------------------


class ListPage:
    """All searches, workers and running units."""

    def __init__(self, feed: Feed) -> None:
        say = _banner()
        self._searches = PagedTable("id", title="Searches", states=True, link="/search/")
        self._workers = PagedTable("id", title="Workers")
        self._units = PagedTable("#", title="Units at work")
        watched = Watched(feed.overview, self._show)

        async def tick() -> None:
            say(await watched.tick())

        ui.timer(_TICK, tick)

    async def _show(self, it: Overview) -> None:
        await self._searches.show(_searches_frame(it.searches))
        await self._workers.show(_workers_frame(it.workers))
        await self._units.show(_units_frame(it.running))


def _searches_frame(found: pd.DataFrame) -> pd.DataFrame:
    frame = found.reset_index()
    frame["age"] = frame["age"].dt.total_seconds()
    frame[TEXT] = _texts(frame, "name", "who", "kind", "id")
    names = ("name", "state", "done", "total", "failed", "best", "age", "who", "kind", "id", TEXT)
    return frame[list(names)]


def _workers_frame(found: pd.DataFrame) -> pd.DataFrame:
    frame = found.reset_index()
    frame[TEXT] = _texts(frame, "id", "host", "tags")
    return frame


def _units_frame(found: pd.DataFrame) -> pd.DataFrame:
    frame = found.copy()
    frame.insert(0, "#", np.arange(1, len(frame) + 1))
    frame[TEXT] = _texts(frame, "search", "params", "host")
    return frame


def _texts(frame: pd.DataFrame, *names: str) -> pd.Series:
    rows = frame[list(names)].itertuples(index=False)
    return pd.Series([" ".join(map(str, row)) for row in rows], frame.index, dtype=object)


# -- one search --------------------------------------------------------------------------------


class SearchPage:
    """One search, live."""

    def __init__(self, feed: Feed, gallery: Gallery, name: str) -> None:
        self._feed, self._gallery, self._name = feed, gallery, name
        self._metric = ""
        self._data: SearchData | None = None
        self._marker, self._drawn_at, self._drawn_metric = "", 0.0, ""
        say = _banner()
        with ui.row().classes("bar"):
            self._title = ui.label(name).style("font-size: 22px; overflow-wrap: anywhere")
            self._state = ui.badge("...").props("outline")
            ui.space()
            if feed.allow_changes:
                Changes(feed, name)
        self._bar = ui.linear_progress(0.0, show_value=False, size="10px").props("rounded")
        self._line = ui.label()
        with ui.row().classes("bar"):
            self._best = ui.label().style("overflow-wrap: anywhere; min-width: 0; flex: 1 1 300px")
            self._metrics = ui.select([], label="metric", on_change=self._choose)
            self._metrics.props("dense outlined options-dense").set_visibility(False)
        self._reading = ui.label("Reading candidates and units ...").classes("quiet")
        names = ("overview", "candidates", "units", "workers", "errors", "details")
        tabs = (
            ui.tabs()
            .props("dense no-caps align=left outside-arrows mobile-arrows")
            .style("max-width: 100%")
        )
        with tabs:
            for one in names:
                ui.tab(one)
        self._tabs = ui.tab_panels(tabs, value="overview", animated=False, keep_alive=True)
        self._build(names)
        watched = {
            None: [
                Watched(lambda: feed.progress(name), self._show_progress),
                Watched(lambda: feed.candidates(name, self._metric), self._show_candidates),
            ],
            "workers": [
                Watched(feed.overview, self._show_workers),
                Watched(lambda: feed.running(name), self._show_running),
            ],
            "errors": [Watched(lambda: feed.errors(name), self._show_errors)],
            "details": [
                Watched(lambda: feed.record(name), self._show_record),
                Watched(lambda: feed.findings(name), self._show_findings),
            ],
        }
        self._watched: Mapping[Any, Sequence[Watched]] = watched

        async def tick() -> None:
            seen = [*self._watched[None], *self._watched.get(self._tabs.value, ())]
            troubles = [await one.tick() for one in seen]
            trouble = next(filter(None, troubles), "")
            say(trouble)
            read = self._data is not None and self._metric in ("", self._data.metric)
            self._reading.set_visibility(not (read or trouble))
            self._redraw()

        ui.timer(_TICK, tick)

    def _build(self, names: Sequence[str]) -> None:
        """Make the panels, still empty."""
        with self._tabs:
            panels = {one: ui.tab_panel(one) for one in names}
        with panels["overview"]:
            self._figures: dict[str, Figure] = {}
            self._figures_at = ui.element("div").classes("figures")
            ui.label("Candidates (rows) x splits").style("font-weight: 600; margin-top: 12px")
            self._grid = ui.html(sanitize=False).classes("card")
        with panels["candidates"]:
            self._candidates = PagedTable("candidate", states=True)
        with panels["units"]:
            self._units = PagedTable("unit", states=True)
        with panels["workers"]:
            self._workers = PagedTable("id", title="Workers of this database")
            self._running = PagedTable("#", title="Units of this search at work")
        with panels["errors"]:
            self._errors = ui.column().style("width: 100%")
        with panels["details"]:
            self._findings = ui.column().style("width: 100%; gap: 4px; margin-bottom: 16px")
            self._facts = ui.element("div").classes("facts card")
        self._tabs.on_value_change(self._show_tables)

    # What the feed brings.

    def _show_progress(self, it: Progress) -> None:
        ui.page_title(f"{it.name} - optomatic")
        self._title.set_text(it.name)
        self._state.set_text(it.state)
        self._state.props(f"color={_COLORS.get(it.state, 'primary')}")
        self._bar.set_value(it.done / it.n_units if it.n_units else 0.0)
        said = [f"{it.done:,} of {it.n_units:,} units have ended"]
        if it.waiting:
            said.append(f"{it.at_work:,} at work")
        if it.rate and it.waiting:
            said.append(f"{it.rate:.2g} units/s, {span(it.waiting / it.rate)} left")
        self._line.set_text(", ".join(said))

    async def _show_candidates(self, read: Any) -> None:
        data, best = read.value.data, read.value.best
        self._data, self._marker = data, read.marker
        if len(data.metrics) > 1 and self._metrics.options != list(data.metrics):
            self._metrics.set_options(list(data.metrics), value=data.metric)
            self._metrics.set_visibility(True)
        if best is not None:
            params = params_line(data.candidates[best])
            self._best.set_text(f"best {short(float(data.scores[best]))} with {params}")
        if read.value.grid != self._grid.content:
            self._grid.set_content(read.value.grid)
        for kind in kinds_of(data):
            if kind not in self._figures:
                with self._figures_at:
                    self._figures[kind] = Figure(kind, self._src)
        varying = data.varying()
        for figure in self._figures.values():
            figure.offer(varying)
        await self._show_tables()

    def _choose(self, event: Any) -> None:
        """Show the search by another metric, once it is read."""
        if self._data is not None and event.value != self._data.metric:
            self._metric = event.value

    async def _show_tables(self, _: Any = None) -> None:
        """Show the table of the panel that is open."""
        if self._data is None:
            return
        makes = {
            "candidates": (candidate_frame, self._candidates),
            "units": (unit_frame, self._units),
        }
        if self._tabs.value in makes:
            make, table = makes[self._tabs.value]
            await table.show(await asyncio.to_thread(make, self._data))

    def _redraw(self) -> None:
        """Show new pictures, now and then while the search runs."""
        busy = self._gallery.is_busy or time.monotonic() - self._drawn_at < _REDRAW
        if self._data is None or (busy and self._drawn_metric == self._data.metric):
            return
        self._drawn_at, self._drawn_metric = time.monotonic(), self._data.metric
        for figure in self._figures.values():
            figure.draw()

    def _src(self, kind: str, theme: str, params: Sequence[str]) -> str:
        asked = {"search": self._name, "theme": theme, "marker": self._marker}
        asked["metric"] = self._metric
        asked["params"] = "\n".join(params)
        return f"/figure/{kind}?{urlencode(asked)}"

    async def _show_workers(self, it: Overview) -> None:
        await self._workers.show(_workers_frame(it.workers))

    async def _show_running(self, units: pd.DataFrame) -> None:
        await self._running.show(_units_frame(units))

    def _show_errors(self, read: Any) -> None:
        self._errors.clear()
        with self._errors:
            if read.value.empty:
                ui.label("Nothing went wrong.")
            for row in records(read.value):
                ErrorGroup(row)

    def _show_record(self, read: Any) -> None:
        counts = {} if self._data is None else counts_of(self._data)
        facts = fields_of(
            read.value, self._state.text, counts, self._best.text.removeprefix("best ")
        )
        facts["versions"] = ", ".join(f"{k} {v}" for k, v in versions_of(read.value).items())
        self._facts.clear()
        with self._facts:
            for name, value in facts.items():
                if text := short(value):
                    ui.label(name).classes("quiet")
                    ui.label(text)

    def _show_findings(self, read: Any) -> None:
        self._findings.clear()
        with self._findings:
            for one in read.value:
                with ui.row().classes("bar").style("flex-wrap: nowrap; align-items: start"):
                    ui.label(one.kind).classes("quiet").style("min-width: 80px")
                    ui.label(one.text).style("overflow-wrap: anywhere; min-width: 0")


class Figure:
    """A picture that the browser fetches in its own theme, and its params to choose."""

    #: How many params can be chosen.
    _PARAMS: Mapping[str, int] = {"slice": 1, "heatmap": 2}

    def __init__(self, kind: str, src: Callable[[str, str, Sequence[str]], str]) -> None:
        self._kind, self._src = kind, src
        with ui.element("div").classes("card"):
            with ui.element("picture"):
                dark = "(prefers-color-scheme: dark)"
                self._dark = ui.element("source").props(f'media="{dark}"')
                self._light = ui.element("img").props(f'alt="{kind}" loading=lazy')
            with ui.row().classes("bar"):
                self._chosen = [
                    ui.select({"": "(by importance)"}, value="", on_change=self.draw).props(
                        'dense outlined options-dense label="param"'
                    )
                    for _ in range(self._PARAMS.get(kind, 0))
                ]

    def offer(self, params: Sequence[str]) -> None:
        """Offer these params."""
        own = {"": "(by importance)", **{name: name for name in params}}
        for select in self._chosen:
            if select.options != own:
                select.set_options(own, value=select.value if select.value in own else "")

    def draw(self) -> None:
        """Show the picture as it is now."""
        params = [select.value for select in self._chosen if select.value]
        dark, light = (self._src(self._kind, theme, params) for theme in ("dark", "light"))
        if self._light.props.get("src") != light:
            self._dark.props["srcset"], self._light.props["src"] = dark, light


class ErrorGroup:
    """Failures of one kind."""

    def __init__(self, row: Mapping[str, Any]) -> None:
        kind = f"{row['type']}: " if row["type"] else ""
        first = str(row["text"]).strip().split("\n")[0]
        title = f"{row['count']} x {row['stage']}: {kind.removeprefix('builtins.')}{first}"
        told = {
            "params": "; ".join(params_line(own) or "no params" for own in row["params"]),
            "splits": ", ".join(map(str, row["splits"])),
            "hosts": ", ".join(row["hosts"]),
        }
        with ui.expansion(title).classes("card").props("dense switch-toggle-side"):
            for name, text in told.items():
                if text:
                    ui.label(f"{name}: {text}").style("overflow-wrap: anywhere")
            with ui.element("pre"):
                ui.label(f"{row['text']}\n{row['traceback']}".strip())


def versions_of(record: Mapping[str, Any]) -> dict[str, str]:
    """Return the versions of libraries that count in the keys of a search."""
    return dict(sorted((record.get("env") or {}).items()))


class Changes:
    """Buttons that change a search, each after a question."""

    def __init__(self, feed: Feed, name: str) -> None:
        self._feed, self._name = feed, name
        for verb, (_, question) in CHANGES.items():
            self._button(verb, question)

    def _button(self, verb: str, question: str) -> None:
        with ui.dialog() as dialog, ui.card():
            ui.label(question)
            with ui.row():
                ui.button("no", on_click=dialog.close).props("flat no-caps")
                ui.button(verb, on_click=lambda: self._do(dialog, verb)).props("no-caps")
        ui.button(verb, on_click=dialog.open).props("outline dense no-caps padding='2px 10px'")

    async def _do(self, dialog: Any, verb: str) -> None:
        dialog.close()
        try:
            said = await asyncio.to_thread(self._feed.change, self._name, verb)
        except Exception as error:  # the page goes on, and says why
            said = f"{type(error).__name__}: {redact(str(error))}"
        ui.notify(said, multi_line=True, timeout=8000)
