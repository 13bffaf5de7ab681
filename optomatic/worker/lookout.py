"""Says, to who waits for standalone workers, that none is there who can score, and why."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from optomatic.errors import NoWorkers, WorkersRefuse
from optomatic.records import Timing
from optomatic.store.opening import Store
from optomatic.warning import warn
from optomatic.worker.ability import missing_in, refusing

#: After so many seconds without any worker who can score this is said, and looked at again.
LONELY_SECONDS = 10.0

_UPDATE = "Update the code there: the worker looks again every minute."


class Lookout:
    """Looks, now and then, who could score what waits; says each thing once.

    Parameters
    ----------
    store : Store
    searches : sequence of str
        The ids under which it waits.
    timing : Timing
    clock : callable
    silent : callable, optional
        Tells whether nothing is to be said for now.
    """

    def __init__(
        self,
        store: Store,
        searches: Sequence[str],
        timing: Timing,
        clock: Callable[[], float],
        silent: Callable[[], bool] = lambda: False,
    ) -> None:
        self._store = store
        self._searches = searches
        self._timing = timing
        self._clock = clock
        self._silent = silent
        self._began = clock()
        self._look_at = self._began + LONELY_SECONDS
        self._said: set[type[Warning]] = set()

    def look(self) -> None:
        """Warn of what is new since the last look; costs nothing when called again soon.

        Warns
        -----
        NoWorkers
            For 10 s nobody who could score it has shown up.
        WorkersRefuse
            Some are there, and leave it alone as they have other code.
        """
        now = self._clock()
        if now < self._look_at or NoWorkers in self._said:
            return
        self._look_at = now + LONELY_SECONDS
        if self._silent():
            return
        waited = now - self._began
        # One that lives and has nothing to do is not seen more often.
        alive = self._store.workers.alive(waited + self._timing.lease)
        queued = {lane: None for one in self._searches for lane in self._store.jobs.lanes_of(one)}
        lanes = self._store.workers.lanes(list(queued))
        refusals = refusing(alive, lanes)
        why = missing_in(alive, lanes)
        if why is not None:
            self._nobody_can(waited, why, refusals)
        elif refusals:
            self._some_refuse(refusals)

    def _nobody_can(self, waited: float, why: str, refusals: Sequence[str]) -> None:
        start = f"{_UPDATE} Or start" if refusals else "Start"
        self._say(
            f"This search leaves all units to standalone workers, and for {waited:.0f} s {why}. "
            f"The units stay queued. {start} one on any machine with: python -m optomatic.worker "
            f"--db {self._store.shown_uri}",
            NoWorkers,
        )

    def _some_refuse(self, refusals: Sequence[str]) -> None:
        self._say(
            "Some workers have other code than this search was made with: "
            f"{'; '.join(refusals)}. They score nothing for it, and others go on. {_UPDATE}",
            WorkersRefuse,
        )

    def _say(self, text: str, category: type[Warning]) -> None:
        if category not in self._said:
            self._said.add(category)
            warn(text, category)
