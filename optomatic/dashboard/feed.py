"""Reads what pages show, again and again, while somebody looks; and changes it.  Knows no page.

A topic is one thing to read: the list of searches, the progress of one, its arrays, its errors.
All pages share it.  Reading takes at most one part in five of the time, so a large database is not
kept busy.  What is large is read by another process.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar

import pandas as pd

from optomatic._uri import redact
from optomatic.dashboard.processes import Processes
from optomatic.dashboard.tables import best_of, cells_of, labels_of
from optomatic.errors import shown
from optomatic.plots.search_data import SearchData, search_data
from optomatic.progress.notebook import MOST_ROWS, grid_html
from optomatic.search.attached import AttachedSearch
from optomatic.search.database import running, running_of, searches, workers
from optomatic.search.reader import SearchReader
from optomatic.store.connection import open_store, place_of
from optomatic.store.documents import checksum_of
from optomatic.store.searches import state_of

T = TypeVar("T")
#: Reading takes at most one part in five of the time.
_SHARE = 4
#: Seconds between two looks for something to read.
_SOON = 0.05
#: Seconds after which a topic ends that nobody has looked at.
_KEEP = 30.0
#: Seconds for which a server that is away is waited for, and after which its silence is told.
_PATIENCE, _SILENT = 4.0, 5.0
#: Seconds over which the rate is measured.
_RECENT = 60.0


class SearchMissing(Exception):
    """No search has this name or id."""


class Topic(Generic[T]):
    """One thing that a thread reads again and again, while somebody looks.

    Parameters
    ----------
    read : callable
        Gets the last value, or None, and returns it again if nothing has changed.  None if there is
        nothing to read yet; another topic says why.
    pause : float
        Seconds between two readings, at least.
    slow : bool
        Whether reading may take long, so that silence is no trouble.

    Attributes
    ----------
    value : object or None
        What was read last; None before the first answer.
    version : int
        How often the value has changed.
    """

    def __init__(
        self, read: Callable[[T | None], T | None], pause: float, *, slow: bool = False
    ) -> None:
        self._read, self._pause, self._slow = read, pause, slow
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._looked_at = self._answered_at = time.monotonic()
        self._took = 0.0
        self._error = self._missing = ""
        self.value: T | None = None
        self.version = 0

    def look(self) -> Topic[T]:
        """Note that somebody looks; return at once."""
        with self._lock:
            self._looked_at = time.monotonic()
            if self._thread is None:
                self._answered_at = self._looked_at
                self._thread = threading.Thread(
                    target=self._run, name="optomatic-dashboard", daemon=True
                )
                self._thread.start()
        return self

    @property
    def is_idle(self) -> bool:
        """True once nobody has looked for long, so that its thread has ended."""
        return self._thread is None

    def trouble(self) -> str:
        """Return why the value may be old; empty if it is not."""
        if self._missing:
            return self._missing
        silent = time.monotonic() - self._answered_at
        is_late = not self._slow and silent > _SILENT + self._took * (_SHARE + 1)
        if not self._error and not is_late:
            return ""
        below = " Below is its last answer." if self.version else ""
        why = f" ({self._error})" if self._error else ""
        return f"The store has not answered for {silent:.0f} s{why}.{below}"

    def _run(self) -> None:
        while True:
            began = time.monotonic()
            try:
                found = self._read(self.value)
            except Exception as error:  # the page says so, and the next look may go well
                gone = isinstance(error, SearchMissing)
                self._missing = str(error) if gone else ""
                first, _, _ = redact(str(error)).partition(". ")
                self._error = f"{type(error).__name__}: {first[:300]}"
                pause = self._pause
            else:
                self._error, self._missing, self._answered_at = "", "", time.monotonic()
                self._took = self._answered_at - began
                pause = _SOON if found is None else max(self._pause, _SHARE * self._took)
                if found is not self.value:
                    self.value = found
                    self.version += 1
            time.sleep(pause)
            with self._lock:
                if time.monotonic() - self._looked_at > _KEEP:
                    self._thread = None
                    return


@dataclass(frozen=True)
class Overview:
    """All searches, workers and running units."""

    searches: pd.DataFrame
    workers: pd.DataFrame
    running: pd.DataFrame


@dataclass(frozen=True)
class Progress:
    """How far a search is.

    ``marker`` is another one after each change of the search or of one of its units.  ``looks``
    has moments and numbers of ended units, of the last minute.
    """

    search: str
    name: str
    state: str
    n_units: int
    waiting: int
    at_work: int
    marker: str
    looks: deque[tuple[float, int]] = field(compare=False)

    @property
    def done(self) -> int:
        """How many units do not wait any more."""
        return max(0, self.n_units - self.waiting)

    @property
    def rate(self) -> float:
        """Ended units a second, of late."""
        (began, first), (ended, last) = self.looks[0], self.looks[-1]
        return max(0, last - first) / (ended - began) if ended > began else 0.0


@dataclass(frozen=True)
class Read(Generic[T]):
    """A search as it was read at one value of its marker."""

    marker: str
    value: T


@dataclass(frozen=True)
class Candidates:
    """The arrays of a search, its best candidate, and the grid of its units as HTML."""

    data: SearchData
    best: int | None
    grid: str


def _candidates(search: AttachedSearch, metric: str) -> Candidates:
    data = search_data(search, metric or None)
    best = best_of(data)
    grid = grid_html(cells_of(data).tolist(), labels_of(data, MOST_ROWS), best=best)
    return Candidates(data, best, grid)


def _findings(search: AttachedSearch) -> Sequence[Any]:
    return search.explain().findings


def _read(of: Callable[[AttachedSearch], T], search: str, db: str | None) -> T:
    return of(AttachedSearch(search, db))


def _cancel(search: AttachedSearch) -> str:
    search.cancel()
    return "The search is cancelled."


def _retry(search: AttachedSearch) -> str:
    return f"{search.retry():,} units are queued again."


def _remove(search: AttachedSearch) -> str:
    return f"{search.remove().units:,} units are removed."


#: What may be done to a search, and what is asked before.
CHANGES: Mapping[str, tuple[Callable[[AttachedSearch], str], str]] = {
    "cancel": (_cancel, "Cancel this search? Its scores stay stored."),
    "retry": (_retry, "Queue failed and given-up units again?"),
    "remove": (
        _remove,
        "Remove this search, and the scores that only it needs? They cannot be restored.",
    ),
}


class Feed:
    """The topics of a database, each made when somebody asks for it first.

    Parameters
    ----------
    db : str or None
    processes : Processes
        They read what is large.
    allow_changes : bool
        Whether searches may be cancelled, retried and removed.

    Attributes
    ----------
    place : str
        Where the database is, for people; empty until it has answered.
    """

    def __init__(self, db: str | None, processes: Processes, *, allow_changes: bool) -> None:
        self.db = db
        self.processes = processes
        self.allow_changes = allow_changes
        self.place = ""
        self._lock = threading.Lock()
        self._topics: dict[Hashable, Topic[Any]] = {}

    def _topic(
        self, name: Hashable, read: Callable[[Any], Any], pause: float, *, slow: bool = False
    ) -> Topic[Any]:
        with self._lock:
            for key in [k for k, topic in self._topics.items() if topic.is_idle]:
                del self._topics[key]
            topic = self._topics.setdefault(name, Topic(read, pause, slow=slow))
            return topic.look()

    def overview(self) -> Topic[Overview]:
        """Return all searches and workers."""
        return self._topic("overview", self._overview, 1.0)

    def progress(self, search: str) -> Topic[Progress]:
        """Return how far the search of this name or id is."""
        return self._topic(("progress", search), partial(self._progress, search), 0.8)

    def running(self, search: str) -> Topic[pd.DataFrame]:
        """Return the units of a search that are being scored."""
        return self._topic(("running", search), partial(self._running, search), 1.0)

    def candidates(self, search: str, metric: str = "") -> Topic[Read[Candidates]]:
        """Return the candidates and units of a search, by a metric: the one that decides if ""."""
        return self._of_search("candidates", search, partial(_candidates, metric=metric), metric)

    def record(self, search: str) -> Topic[Read[dict[str, Any]]]:
        """Return the stored record of a search."""
        return self._of_search("record", search, AttachedSearch.record)

    def errors(self, search: str) -> Topic[Read[pd.DataFrame]]:
        """Return the failures of a search."""
        return self._of_search("errors", search, AttachedSearch.errors)

    def findings(self, search: str) -> Topic[Read[Any]]:
        """Return why a search does not move."""
        return self._of_search("findings", search, _findings)

    def _of_search(
        self, name: str, search: str, of: Callable[[AttachedSearch], Any], *more: str
    ) -> Topic[Any]:
        """Return a topic that is read anew when the marker of the search is another one."""

        def again(before: Read[Any] | None) -> Read[Any] | None:
            progress = self.progress(search).value
            if progress is None or (before is not None and before.marker == progress.marker):
                return before
            found = self.processes.submit(_read, of, progress.search, self.db)
            return Read(progress.marker, found.result())

        return self._topic((name, search, *more), again, 1.0, slow=True)

    def change(self, search: str, verb: str) -> str:
        """Do one of CHANGES to a search; return what was done.

        Raise PermissionError if changes are not allowed, and as the methods of AttachedSearch do.
        """
        if not self.allow_changes:
            raise PermissionError(
                f"This dashboard does not {verb} searches. Nothing was changed. Start it with "
                "--allow-changes, or use the command line."
            )
        progress = self.progress(search).value
        if progress is None:
            return "The search has not been read yet. Nothing was changed."
        do, _ = CHANGES[verb]
        return do(AttachedSearch(progress.search, self.db))

    def _overview(self, _: Overview | None) -> Overview:
        with open_store(self.db, patience=_PATIENCE) as store:
            self.place = place_of(store.shown_uri)
        return Overview(searches(self.db), workers(self.db), running(self.db))

    def _running(self, search: str, before: pd.DataFrame | None) -> pd.DataFrame | None:
        progress = self.progress(search).value
        if progress is None:
            return before
        with open_store(self.db, patience=_PATIENCE) as store:
            return running_of(store, SearchReader(store, progress.search).waiting_ids)

    def _progress(self, name: str, before: Progress | None) -> Progress:
        with open_store(self.db, patience=_PATIENCE) as store:
            store.hurry(_PATIENCE)
            self.place = place_of(store.shown_uri)
            search = before.search if before else next(iter(store.searches.ids_of(name)), name)
            reader = SearchReader(store, search)
            records = reader.records
            if not records:
                raise SearchMissing(f"There is no search {shown(name)}. It may have been removed.")
            last = records[-1]
            waiting = store.searches.count_waiting([record.id for record in records])
            held = [unit for own in reader.waiting_ids for unit in store.jobs.at_work(own)]
            now = store.jobs.server_time()
        state = state_of(last, now, waits=waiting[last.id] > 0)
        n_units = sum(record.n_units for record in records)
        ends = [(one.id, one.state, one.n_units, str(one.ended_at), one.best) for one in records]
        marker = checksum_of(state, ends, waiting.total(), sorted(held))[:16]
        looks = before.looks if before else deque()
        looks.append((time.monotonic(), n_units - waiting.total()))
        while looks[0][0] < looks[-1][0] - _RECENT:
            looks.popleft()
        return Progress(
            search, last.name, state, n_units, waiting.total(), len(held), marker, looks
        )
