"""The parent of the children that score: claims, hands out, watches, hands in.

One thread runs everything here but the heart and the warden.  It never runs user code and never
unpickles what user code made, so nothing that a unit does can stop it.

::

    store --claim--> waiting --start--> a child's queue --begun--> running --done--> store
                        |                    |                       |
                        +------release-------+   taken away: killed  +-- the child died: crash

The loop is here.  What it does at each turn has a room of its own:

===============================  ==================================================
:mod:`~.resting`                 idle or at work, and what wakes an idle worker
:mod:`~.report`                  what was done, once a minute
:mod:`~.feeding`                 store -> children
:mod:`~.listening`               children -> account
:mod:`~.coroner`                 whose fault the end of a child was
:mod:`~.account`, `~.outbox`     what became of units, and what of it the store lacks
:mod:`~.taken_away`              what others took
:mod:`~.ending`                  when it is enough, and what is given back then
===============================  ==================================================
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from optomatic.backoff import Patience
from optomatic.errors import StoreError
from optomatic.records import Timing, WorkerRecord
from optomatic.store.connection import Store
from optomatic.worker.batching import Pace
from optomatic.worker.cache import Cache
from optomatic.worker.digest_check import Choice, Refusals
from optomatic.worker.dispatch import Feeder, Parcels
from optomatic.worker.heartbeat import Heartbeat
from optomatic.worker.host import Filter
from optomatic.worker.idle import Reason, Rest
from optomatic.worker.inprocess import NO_HOOKS, Hooks
from optomatic.worker.limits import Warden
from optomatic.worker.outcomes import Coroner, Listener
from optomatic.worker.pool import Pool, Wakeup
from optomatic.worker.report import Report
from optomatic.worker.reservations import (
    Account,
    Intake,
    Outbox,
    Queues,
    Searches,
    TakenAway,
    any_queue,
)
from optomatic.worker.shutdown import Deadline, Surrender

log = logging.getLogger(__name__)


#: The search that is worked for has its turn at least so often, in seconds, if it wants any.
_TURN = 0.2
#: A call of the heart that is under way in the end is waited for so many seconds at most.
_LAST_BEAT = 10.0
#: The loop looks around at least so often, in seconds.
_LONGEST_WAIT = 10.0


@dataclass(frozen=True, slots=True)
class WorkSummary:
    """What a supervisor did: units scored, those of them with failures, children that crashed."""

    worker: str
    scored: int
    failed: int
    crashed: int


class Supervisor:
    """Has units scored by a pool of children.

    Parameters
    ----------
    store : Store
    pool : Pool
        Its children are left running at the end of :meth:`run`, unless they have work then.
    cache : Cache
    record : WorkerRecord
        Who claims.
    timing : Timing
    search : str or callable, optional
        Only units that this search waits for are claimed, or one of those whose ids it returns,
        in groups: what the first has is claimed before what the next has.
    most : int, optional
        It ends by itself once it has scored so many units.
    max_idle : float, optional
        It ends by itself after so many seconds without work.
    queues : callable, optional
        Returns the queues that may be claimed, asked before each claim; all if not given.
    lasting : bool
        Wait for a store that does not answer, for ever, instead of raising StoreError.
    why_idle : callable
        Returns why nothing of what is queued can be claimed; a lasting one asks it now and then.
    on_ready : callable
        Called once, when the first child can score.
    on_done : callable
        Called with the ids of units whose results arrived.  What it raises ends :meth:`run`.
    hooks : Hooks
        What the search does meanwhile; called in the thread of :meth:`run`.
    filters : sequence of Filter, optional
        Which warnings units are to show; what the children have otherwise, if not given.
    clock, rng
        For tests.
    """

    def __init__(
        self,
        store: Store,
        pool: Pool,
        cache: Cache,
        record: WorkerRecord,
        timing: Timing,
        *,
        search: Searches = None,
        most: int | None = None,
        max_idle: float | None = None,
        queues: Queues = any_queue,
        lasting: bool = False,
        why_idle: Callable[[], Sequence[Reason]] = lambda: (),
        on_ready: Callable[[], None] = lambda: None,
        on_done: Callable[[Collection[str]], None] = lambda _: None,
        hooks: Hooks = NO_HOOKS,
        filters: Sequence[Filter] | None = None,
        clock: Callable[[], float] = time.monotonic,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._store, self._pool, self._record, self._clock = store, pool, record, clock
        self._on_done, self._hooks, self._turn_at = on_done, hooks, clock()
        self._max_idle, self._lasting = max_idle, lasting
        name, host = record.id[:4], record.process.host
        self._wakeup = Wakeup()
        self._warden = Warden()
        self._patience = Patience(lasting=lasting, clock=clock, rng=rng)
        self._deadline = Deadline(
            *(name, store.hurry if lasting else _wait_as_long, self._wakeup.wake, clock)
        )
        pace, choice = Pace(), Choice(queues, clock)
        self._intake = intake = Intake(
            *(store.claims, record.id, timing, pace),
            search=search,
            queues=choice.queues,
            clock=clock,
            rng=rng,
        )
        self._taken = TakenAway(intake, self._wakeup.wake, clock)
        self._heart = Heartbeat(
            *(store, record.id, timing),
            client_of=search if record.kind == "local" and isinstance(search, str) else None,
            revoked=self._taken.note,
        )
        stores = (store.claims, store.parts, store.workers)
        self._outbox = outbox = Outbox(*stores, record.id, host, self._heart, clock)
        self._account = account = Account(intake, outbox, self._taken, most=most)
        self._rest = Rest(
            *(name, store.notifier if lasting else None, self._heart, intake, account, choice),
            self._wakeup.wake,
            joined=search is not None,
            why=why_idle,
            clock=clock,
        )
        self._report = Report(name, account, store.searches.sizes_of, clock) if lasting else None
        refusals = Refusals(name, choice, intake, account, outbox)
        self._feeder = Feeder(
            *(
                store.claims,
                pool,
                intake,
                Parcels(cache, store.parts, filters),
                self._heart,
                account,
            ),
            *(outbox, pace, self._patience, self._rest, refusals, clock),
        )
        coroner = Coroner(pool, self._warden, account)
        self._listener = Listener(
            *(pool, self._wakeup, account, pace, self._warden, refusals, coroner),
            *(cache.root, on_ready),
        )
        self._surrender = Surrender(pool, intake, account, outbox, self._listener, coroner, clock)

    # -- life ------------------------------------------------------------------------------

    def run(self, until: Callable[[], bool]) -> WorkSummary:
        """Work until `until()`, which is asked whenever nothing is in hand, or until stopped.

        Raises
        ------
        StoreError
            Unless the supervisor is a lasting one.
        OptomaticError
            If children cannot be started.

        Notes
        -----
        Whatever ends it, KeyboardInterrupt included: children that run something are killed,
        results that are there are handed in, and everything else is given back uncharged.
        """
        taken = True
        try:
            self._store.workers.register(self._record)
            self._heart.start()
            while not self._over(until):
                self._turn()
        finally:
            try:
                taken = self._surrender.give_back()
            finally:  # also at a second interrupt: a heart that goes on keeps units from others
                self._leave(taken=taken)
        done = self._account
        return WorkSummary(self._record.id, done.scored, done.failed, done.crashed)

    def stop(self, grace: float) -> None:
        """Have :meth:`run` end: at once for what is not running, else after `grace` seconds.

        A lasting supervisor waits no longer for its store either.  May be called from a
        signal handler or another thread.
        """
        self._deadline.stop(grace)

    def end_in(self, seconds: float, grace: float) -> None:
        """Have :meth:`run` be over in `seconds`: :meth:`stop` comes `grace` seconds before."""
        self._deadline.stop_in(seconds, grace)

    def idle_for(self) -> float | None:
        """Return for how many seconds there has been nothing to do, None if there is something."""
        return self._intake.idle_for()

    def _leave(self, *, taken: bool) -> None:
        """End all threads, and sign off if the store has `taken` everything back."""
        self._warden.stop()
        self._rest.stop()
        there = taken and self._patience.well
        # A call to a store that is away would keep a process that is to end for nothing.
        self._heart.stop(0.0 if self._lasting and not there else _LAST_BEAT)
        self._wakeup.close()
        # Where units were not given back the record stays, which tells whose process is gone.
        if there:
            try:
                self._store.workers.leave(self._record.id)
            except StoreError as error:
                log.info("worker %s could not sign off: %s", self._record.id, error)

    # -- the loop --------------------------------------------------------------------------

    def _turn(self) -> None:
        self._heart.check()
        self._deadline.look()
        self._rest.look()
        self._tell_people()
        if self._deadline.at is None:
            self._pool.fill()
            self._feeder.feed()
        self._hand_in()
        if self._hooks is not NO_HOOKS and self._deadline.at is None:
            self._take_turn()
        self._listener.listen(self._time_left())
        self._taken.stop(self._pool.children)
        self._tell()
        if self._deadline.at is not None:
            self._surrender.wind_down(self._deadline.at)

    def _hand_in(self) -> None:
        """Flush the outbox when it is time, or when there is nothing else to do."""
        due = self._outbox.due_in()
        if due is None or self._patience.time_left() or (due > 0 and self._pool.busy()):
            return
        try:
            self._outbox.flush()
            self._patience.answered()
            self._turn_at = self._clock()
        except StoreError as error:
            self._patience.failed(error)

    def _take_turn(self) -> None:
        grace = self._hooks.grace()
        if grace is not None:
            self.stop(grace)
        elif self._clock() >= self._turn_at and self._outbox.empty():
            self._turn_at = self._clock() + _TURN
            if self._hooks.turn():
                self._intake.hurry()
            self._account.may_be_over = not self._intake.mine

    def _tell_people(self) -> None:
        """Log what was done, and why nothing is; not while the store is away, which is asked."""
        if self._report is None or not self._patience.well:
            return
        try:
            self._report.look(busy=bool(self._intake.mine))
            self._rest.explain()
        except StoreError as error:
            self._patience.failed(error)

    def _tell(self) -> None:
        """Tell of the results that arrived: not where they are read, as this may raise anything."""
        arrived = self._account.arrived()
        if arrived:
            self._on_done(arrived)

    # -- what is due -----------------------------------------------------------------------

    def _time_left(self) -> float:
        """Return the seconds after which the loop has to look around."""
        patience = self._patience.time_left()
        due = [
            _LONGEST_WAIT,
            self._idle_left(),
            self._deadline.time_left(),
            self._taken.time_left(),
            self._report_left(),
        ]
        if (flush := self._outbox.due_in()) is not None:
            due.append(max(flush, patience))
        if self._account.may_be_over and not self._intake.mine:
            due.append(patience)
        if self._deadline.at is None:
            due += [self._feeder.time_left(), self._pool.time_left()]
            if self._hooks is not NO_HOOKS and self._outbox.empty():
                due.append(self._turn_at - self._clock())
        return max(0.0, min(seconds for seconds in due if seconds is not None))

    def _report_left(self) -> float | None:
        """Return the seconds until a report is due, None if there is nothing to report now."""
        return self._report.time_left() if self._report and self._patience.well else None

    def _idle_left(self) -> float | None:
        """Return the seconds for which it may still be idle, None if there is no limit."""
        idle = self.idle_for()
        return None if self._max_idle is None or idle is None else max(0.0, self._max_idle - idle)

    def _over(self, until: Callable[[], bool]) -> bool:
        if self._deadline.at is not None:
            return not self._pool.busy() and not self._intake.waiting
        if self._intake.mine or not self._outbox.empty():
            return False
        if self._account.left() == 0:
            log.info("worker %s has scored as many units as it was to", self._record.id[:4])
            return True
        return self._idle_left() == 0 or self._said_over(until)

    def _said_over(self, until: Callable[[], bool]) -> bool:
        """Ask `until`, but only when the answer may have changed: it may cost a round trip."""
        if not self._account.may_be_over:
            return False
        self._account.may_be_over = False
        try:
            return until()
        except StoreError as error:
            self._patience.failed(error)
            return False


def _wait_as_long(_: float) -> None:
    """Wait for the store as ever: its calls are awaited for a minute at most anyway."""
