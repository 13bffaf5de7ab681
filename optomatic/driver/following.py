"""Look at a search while it runs, for ``verbose``.

A thread asks the store about once a second which units have ended, and shows them.  It never ends
the search, nor does it change how the search ends: of an outage the search tells itself.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import copy_context
from functools import partial
from threading import Event, RLock, Thread

from optomatic.progress.cv_lines import Lines
from optomatic.progress.live import Display
from optomatic.progress.notebook import display_here
from optomatic.progress.tally import Tally
from optomatic.records import Candidate, Outcome, SearchRecord
from optomatic.results.summary import Say, say_nothing
from optomatic.store.connection import Store

#: Seconds between two looks, and between two drawings; a look also waits 20 times what one costs.
LOOK_SECONDS, DRAW_SECONDS = 1.0, 0.5
_COST = 20
#: Seconds for which the end of a search waits for a look that is under way.
_LAST_LOOK = 1.0


class Following:
    """Follows one search.  Safe to share among threads.

    Without a `display` it shows nothing, but for uploads where it is given a function for that.
    """

    def __init__(
        self,
        tally: Tally | None = None,
        lines: Lines | None = None,
        display: Display | None = None,
        say: Say = say_nothing,
    ) -> None:
        self._tally, self._lines = tally or Tally(), lines or Lines(None)
        self._display, self._say = display, say
        self._lock = RLock()
        self._open: set[str] = set()
        self._ended: set[str] = set()
        self._over = Event()
        self._sizes: dict[str, int] = {}

    # -- what the driver tells --------------------------------------------------------------

    @contextmanager
    def follow(self, store: Store, record: SearchRecord) -> Iterator[None]:
        """Look and show as long as the context lasts."""
        display = self._display
        if display is None:
            yield
            return
        self._tally.name = record.name
        thread = Thread(
            # Output in a notebook goes to the cell in whose context it is shown.
            target=copy_context().run,
            args=(self._run, display, store, record.id),
            name=f"follows {record.name}",
            daemon=True,
        )
        try:
            with suppress(Exception):
                display.begin(self._tally)
            thread.start()
            yield
        finally:
            self._over.set()
            try:
                if thread.is_alive():  # what an outage holds up shows nothing any more
                    thread.join(_LAST_LOOK)
            finally:
                with self._lock, suppress(Exception):
                    display.end(self._tally)

    def say(self, text: str) -> None:
        """Show how far the upload of large data is."""
        if self._display is None:
            self._say(text)
            return
        self._tally.upload = text
        with self._lock, suppress(Exception):
            self._display.upload(self._tally)

    def planned(self, candidate: Candidate) -> None:
        """Add a candidate, with the ids of its units, one a split."""
        if self._display is not None:
            with self._lock:
                self._tally.planned(candidate)
                self._lines.planned(candidate)

    def queued(self, ids: Collection[str]) -> None:
        """Look from now on what comes of units that are queued."""
        if self._display is not None:
            with self._lock:
                self._open.update(unit_id for unit_id in ids if unit_id not in self._ended)
                self._tally.queued(ids)
                self._tally.upload = ""

    def ended(self, outcomes: Mapping[str, Outcome], *, stored: bool = False) -> None:
        """Count units that have an end, and print their lines, of each once."""
        if self._display is not None:
            with self._lock:
                new = {i: o for i, o in outcomes.items() if i not in self._ended}
                self._ended.update(new)
                self._open.difference_update(new)
                self._tally.ended(new, stored=stored)
                self._lines.ended(new, stored=stored)

    def stopped(self, numbers: Collection[int]) -> None:
        """Note that candidates get no further splits."""
        if self._display is not None:
            self._tally.stopped(numbers)

    def printed(self, units: Collection[str]) -> None:
        """Note a collection that will hold the units whose lines scikit-learn has printed."""
        self._lines.printed.append(units)

    def print_rest(self) -> None:
        """Print the lines that were not printed yet: those of stored units."""
        with self._lock:
            self._lines.rest()

    # -- the thread -------------------------------------------------------------------------

    def _run(self, display: Display, store: Store, search: str) -> None:
        looked_at, cost, last = time.monotonic(), 0.0, 0.0
        while not self._over.wait(DRAW_SECONDS):
            began = time.monotonic()
            if began - looked_at >= max(LOOK_SECONDS, _COST * cost):
                # An outage, say: of that the search itself tells, and this goes on after it.
                with suppress(Exception):
                    self._look(store, search)
                looked_at = time.monotonic()
                # One look may take long for other reasons, such as indexes that are being built.
                cost, last = min(last, looked_at - began), looked_at - began
            with self._lock:
                if not self._over.is_set():
                    with suppress(Exception):
                        display.show(self._tally)

    def _look(self, store: Store, search: str) -> None:
        with self._lock:
            waited_for = set(self._open)
        if not waited_for:
            return
        gone = waited_for.difference(store.jobs.waiting(search))
        found = store.jobs.outcomes(sorted(gone))
        held = store.jobs.at_work(search)
        workers = {worker for _, worker, _ in held}
        workers.update(o.worker for o in found.values() if o.worker)
        if new := workers.difference(self._sizes):
            self._sizes.update(dict.fromkeys(new, 1) | store.workers.sizes(sorted(new)))
        with self._lock:
            if self._over.is_set():
                return
            self._tally.running(
                {unit_id for unit_id, _, started in held if started},
                {worker: self._sizes[worker] for worker in workers},
            )
            self.ended({i: o for i, o in found.items() if o.has_ended and not o.lacks_parts})


def following(verbose: float, tally: Callable[[], Tally], lines: Callable[[], Lines]) -> Following:
    """Return what follows a search and shows it as `verbose` says, here: see `display_here`."""
    return Following(tally(), lines(), display_here()) if verbose > 0 else Following()


def following_uploads(verbose: float) -> Following:
    """Return a follower that shows how far an upload is, where no process waits for the search."""
    say = partial(print, file=sys.stderr) if verbose > 0 else say_nothing
    return Following(say=say)
