"""Says, to who waits for the units of a search, that nobody works on them, and why."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from optomatic.errors import NoProgress, NoWorkers, WorkersRefuse
from optomatic.records import Lane, Timing, WorkerRecord
from optomatic.store.opening import Store
from optomatic.warning import warn
from optomatic.worker.ability import installs, lacking, missing_in, refusing
from optomatic.worker.start_command import start_advice

#: After so many seconds in which nobody held a lease of the search this is said.
LONELY_SECONDS = 10.0
#: Seconds between two looks whether anybody does.
_LOOK_SECONDS = 1.0

_UPDATE = (
    "Update the code there, install what cannot be imported, or free its disk: the worker looks "
    "again every minute."
)


class Lookout:
    """Looks, now and then, whether anybody works on what is waited for; says each thing once.

    Parameters
    ----------
    store : Store
    searches : sequence of str
        The ids under which units wait.
    timing : Timing
    clock : callable
    standalone : bool
        Whether all is left to standalone workers.
    silent : callable, optional
        Tells whether nothing is to be said for now.
    restore : callable, optional
        Stores again, now and then, what workers need, as something of it may have been lost.
    """

    def __init__(
        self,
        store: Store,
        searches: Sequence[str],
        timing: Timing,
        clock: Callable[[], float],
        *,
        standalone: bool = True,
        silent: Callable[[], bool] = lambda: False,
        restore: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._searches = searches
        self._timing = timing
        self._clock = clock
        self._standalone = standalone
        self._silent = silent
        self._restore = restore
        self._since = self._ask_at = self._restore_at = clock()
        self._look_at = self._since + _LOOK_SECONDS
        self._pulse: object = None
        self._said: set[str] = set()
        #: Units that wait for another version of this program, beside those that are queued.
        self.foreign: Iterable[str] = ()

    def look(self) -> None:
        """Warn of what is new since the last look; costs nothing when called again soon.

        What cannot be read of what is waited for is set aside on the way.

        Warns
        -----
        NoWorkers
            Nobody who could score it has shown up.
        WorkersRefuse
            Some are there, and leave it alone: they have other code, or no room for its data.
        NoProgress
            Nobody has worked on it for 10 s, for another reason.
        """
        now = self._clock()
        if now < self._look_at:
            return
        self._look_at = now + _LOOK_SECONDS
        if now >= self._restore_at + LONELY_SECONDS:
            self._restore_at = now
            self._restore()
            self._look_for_refusals()
        pulse = self._store.jobs.pulse(self._searches)
        if pulse is None or pulse != self._pulse:
            self._since = now if pulse is None or self._pulse is not None else self._since
            self._pulse = pulse
            return
        if now < max(self._since, self._ask_at) + LONELY_SECONDS or self._silent():
            return
        self._ask_at = now
        self._ask(now - self._since)

    def _look_for_refusals(self) -> None:
        """Say who leaves units alone that others work on."""
        if not self._standalone or self._silent():
            return
        lanes, alive = self._lanes_and_workers(self._queued())
        refusals = refusing(alive, lanes)
        if refusals and missing_in(alive, lanes) is None:
            self._some_refuse(refusals)

    def _queued(self) -> list[str]:
        """Return the lanes in which something is queued."""
        lanes = (lane for one in self._searches for lane in self._store.jobs.lanes_of(one))
        return list(dict.fromkeys(lanes))

    def _lanes_and_workers(self, queued: Sequence[str]) -> tuple[list[Lane], list[WorkerRecord]]:
        """Return what these lanes stand for, and the workers that are alive."""
        # One that lives and has nothing to do is seen each half a lease.
        alive = self._store.workers.alive(self._timing.lease)
        return self._store.workers.lanes(queued), alive

    def _ask(self, waited: float) -> None:
        """Find out why nobody works on what is waited for."""
        jobs = self._store.jobs
        jobs.check(self._searches)
        jobs.ring(self._searches)
        foreign = {*jobs.foreign([*self.foreign]), *jobs.foreign_for(self._searches)}
        if foreign:
            self._say_foreign(waited, len(foreign))
        if queued := self._queued():
            self._ask_workers(waited, queued)

    def _ask_workers(self, waited: float, queued: Sequence[str]) -> None:
        lanes, alive = self._lanes_and_workers(queued)
        refusals = refusing(alive, lanes)
        why = missing_in(alive, lanes) if self._standalone else None
        if why is not None:
            self._nobody_can(waited, why, refusals, lanes, alive)
        elif refusals:
            self._some_refuse(refusals)
        elif len(lanes) < len(queued):
            self._say_lost(waited)
        else:
            able = [w for w in alive if not all(lacking(w, lane) for lane in lanes)]
            self._say_slow(waited, able)

    def _nobody_can(
        self,
        waited: float,
        why: str,
        refusals: Sequence[str],
        lanes: Sequence[Lane],
        alive: Sequence[WorkerRecord],
    ) -> None:
        start = f"{_UPDATE} Or start" if refusals else "Start"
        tags = {tag for lane in lanes for tag in lane.requires}
        versions = installs(alive, lanes)
        self._say(
            "nobody",
            f"This search leaves all units to standalone workers, and for {waited:.0f} s {why}. "
            f"The units stay queued. {start} one {start_advice(self._store.shown_uri, tags)}"
            + (f"For a worker that can score them {versions} first." if versions else ""),
            NoWorkers,
        )

    def _some_refuse(self, refusals: Sequence[str]) -> None:
        self._say(
            "refusals",
            "Some workers have other code than this search was made with, or no room for its data: "
            f"{'; '.join(refusals)}. They score nothing for it, and others go on. {_UPDATE}",
            WorkersRefuse,
        )

    def _say_foreign(self, waited: float, count: int) -> None:
        self._say(
            "foreign",
            f"For {waited:.0f} s this search has waited for {count} of its units that another "
            "version of optomatic has queued, in a form which this one does not know. They were "
            "left as they are. Wait for workers of that version, or use another database (db=).",
            NoProgress,
        )

    def _say_lost(self, waited: float) -> None:
        self._say(
            "lost",
            f"Units have been queued for {waited:.0f} s, and what they ask of workers is not in "
            "the database, so none can take them. Fit again where their data are: that is then "
            "stored anew, and stored scores are reused.",
            NoProgress,
        )

    def _say_slow(self, waited: float, alive: Sequence[WorkerRecord]) -> None:
        count = f"{len(alive)} worker{'s' if len(alive) != 1 else ''}"
        who = count if self._standalone else "the workers of this process"
        self._say(
            "slow",
            f"Nobody has worked on the units of this search for {waited:.0f} s. They are queued, "
            f"and {who} can take them, but may be busy with others, still be starting, or have "
            "ended. Look at their logs; more workers can be started at any time.",
            NoProgress,
        )

    def _say(self, what: str, text: str, category: type[Warning]) -> None:
        if what not in self._said:
            self._said.add(what)
            warn(text.rstrip(), category)
