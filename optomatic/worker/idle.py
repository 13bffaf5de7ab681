"""Why a worker idles while units are queued: none of them are for it, or it lacks something."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from optomatic.records import Queue, WorkerRecord
from optomatic.store.connection import Store
from optomatic.store.notifier import Notifier
from optomatic.store.searches import search_of
from optomatic.worker.availability import needs
from optomatic.worker.digest_check import Choice
from optomatic.worker.heartbeat import Heartbeat
from optomatic.worker.host import Names
from optomatic.worker.report import fields, readable
from optomatic.worker.reservations import POLL_ALARMED, POLL_LONG, Account, Intake

#: So many queues are looked at, and so many names and reasons are said.
_QUEUES, _NAMED = 20, 5


class IdleReasons:
    """Finds out, in a few queries, why nothing of what is queued can be claimed.

    Parameters
    ----------
    store : Store
    record : WorkerRecord
        Of the worker.
    installed : mapping
        The versions here, of whatever is asked for.
    names : callable or None
        Returns the names or ids of the searches that it works for; None for all.
    """

    def __init__(
        self,
        store: Store,
        record: WorkerRecord,
        installed: Mapping[str, str],
        names: Names | None,
    ) -> None:
        self._store = store
        self._record = record
        self._installed = installed
        self._names = names
        self._known = dict(record.env)

    def __call__(self) -> list[Reason]:
        """Return the reasons, none if nothing is queued.

        What is found to be missing is noted in the store, for those who wait.

        Raises
        ------
        StoreError
        """
        names = None if self._names is None else list(self._names())
        if names is None:
            return self._lacking(self._store.claims.queued_queues(_QUEUES))
        groups = self._store.searches.that_may_wait(names)
        own = self._store.claims.queued_queues(_QUEUES, [i for ids in groups for i in ids])
        if not own and not self._store.claims.queued_queues(1):
            return []
        return [*self._unknown(names), *(self._lacking(own) if own else self._of_others(names))]

    def _unknown(self, names: Sequence[str]) -> list[Reason]:
        there = self._store.searches.that_are_there(names)
        unknown = [name for name in names if name not in there]
        if not unknown:
            return []
        here = self._store.searches.latest_names(_NAMED + 1)
        return [Reason(f"no search named {_listed(map(_quoted, unknown))}", _here(here))]

    def _of_others(self, names: Sequence[str]) -> list[Reason]:
        there = self._store.searches.that_are_there(names)
        known = [name for name in names if name in there]
        if not known:
            return []
        return [Reason(f"nothing is queued for {_listed(map(_quoted, known))}, only for others")]

    def _lacking(self, queued: Mapping[str, str]) -> list[Reason]:
        """Return what is lacking for queues, each with the searches that ask for it."""
        queues = self._store.workers.queues(list(queued))
        self._note(queues)
        found: dict[str, list[str]] = {}
        for queue in queues:
            if why := needs(self._installed, self._record.tags, queue):
                found.setdefault(why, []).append(search_of(queued[queue.id]))
        named = self._store.searches.sizes_of([i for ids in found.values() for i in ids])
        return [
            Reason(why, _for([named[i][0] for i in ids if i in named]))
            for why, ids in sorted(found.items())[:_NAMED]
        ]

    def _note(self, queues: Sequence[Queue]) -> None:
        """Let those who wait know which versions are here of what they need."""
        asked = {name: self._installed[name] for queue in queues for name in queue.env}
        if not asked.items() <= self._known.items():
            self._known.update(asked)
            self._store.workers.has(self._record.id, self._known)


def _quoted(name: str) -> str:
    return f"'{readable(name)}'"


def _listed(names: Iterable[str]) -> str:
    names = list(dict.fromkeys(names))
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _here(names: Sequence[str]) -> str:
    if not names:
        return ", and there is no search here at all"
    more = ", ..." if len(names) > _NAMED else ""
    return f", searches here: {', '.join(map(readable, names[:_NAMED]))}{more}"


def _for(names: Sequence[str]) -> str:
    return f" (for {_listed(map(readable, names))})" if names else ""


log = logging.getLogger(__name__)


#: Seconds without work after which a worker says that it is idle.
_IDLE = 1.0
#: Seconds between two looks why nothing of what is queued can be claimed.
EXPLAIN_SECONDS = 10.0


class Reason(NamedTuple):
    """Why a worker cannot take what is queued; ``more`` may change without being news."""

    what: str
    more: str = ""


class Rest:
    """Whether the worker rests, and what wakes it.

    Parameters
    ----------
    name : str
        Of the worker, for people.
    alarms : Notifier or None
        Those of the store; None for a worker that always looks by itself.
    heart : Heartbeat
        Is calm while the worker rests.
    intake : Intake
    account : Account
    choice : Choice
    wake : callable
        Has the loop look around, and call :meth:`look`.
    joined : bool
        Whether it matters that a search joins units that are queued already.
    why : callable
        Returns why the worker is idle while something is queued.  It may ask the store.
    clock : callable
        The worker's clock.
    """

    def __init__(
        self,
        name: str,
        alarms: Notifier | None,
        heart: Heartbeat,
        intake: Intake,
        account: Account,
        choice: Choice,
        wake: Callable[[], None],
        *,
        joined: bool = False,
        why: Callable[[], Sequence[Reason]] = lambda: (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._alarm = None if alarms is None else alarms.queued(self._ring, joined=joined)
        self._heart = heart
        self._intake = intake
        self._account = account
        self._choice = choice
        self._wake = wake
        self._rung = False
        self._mood = ""
        self._why = why
        self._clock = clock
        self._explain_at = clock()
        self._explained: set[str] = set()

    def look(self) -> None:
        """While nothing is to be done cost nothing, and have an alarm tell of what comes."""
        if self._alarm is None:
            return
        if self._rung:
            self._rung = False
            self._intake.hurry()
        calm = self._idle()
        self._heart.calm = calm
        if calm:
            self._alarm.start()
        else:
            self._alarm.pause()
        # Disarmed it listens on for some seconds, but does not ring: who has a child to spare
        # beside a long unit has to look.
        rings = calm and self._alarm.active
        self._intake.longest = POLL_ALARMED if rings else POLL_LONG

    def say(self) -> None:
        """Log that the worker is idle or at work now, if that is new."""
        if any(not self._choice.is_trial(held.job.queue) for held in self._intake.waiting):
            self._is("at work")
        elif self._idle():
            self._is("idle")

    def explain(self) -> None:
        """Log why nothing of what is queued can be claimed here, if that is new.

        Raises
        ------
        StoreError
        """
        if not (self._intake.others_wait and self._idle()) or self._clock() < self._explain_at:
            return
        self._explain_at = self._clock() + EXPLAIN_SECONDS
        reasons = self._why()
        whats = {reason.what for reason in reasons}
        if whats and whats != self._explained:
            self._explained = whats
            self._is("idle")
            texts = [reason.what + reason.more for reason in reasons]
            log.warning(
                "worker %s cannot take what is queued: %s",
                *(self._name, "; ".join(texts)),
                extra=fields(reasons=texts),
            )

    def stop(self) -> None:
        """Have no alarm ring any more."""
        if self._alarm is not None:
            self._alarm.stop()

    def _ring(self) -> None:
        """Look at the queue soon, in the loop's own thread."""
        self._rung = True
        self._wake()

    def _idle(self) -> bool:
        return (self._intake.idle_for() or 0.0) > _IDLE

    def _is(self, mood: str) -> None:
        if mood != self._mood:
            scored = self._account.scored
            log.info(
                "worker %s is %s, %d units scored so far",
                *(self._name, mood, scored),
                extra=fields(scored=scored, failed=self._account.failed),
            )
            self._mood = mood
