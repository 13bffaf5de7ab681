"""The worker: the parent of the children that score.

One thread runs everything here but the heartbeat and the limits.  It never runs user code and never
unpickles what user code made, so nothing that a unit does can stop it.  Each turn of its loop:

=======================  ============================================================
:mod:`~.dispatch`        store -> children: when and what to claim, START, send
:mod:`~.outcomes`        children -> reservations: results, refusals, exits
:mod:`~.reservations`    the state of each unit, and what the store is owed
:mod:`~.report`          the log: what was done, whether it is idle, and why
=======================  ============================================================
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import NamedTuple

from optomatic.backoff import Backoff
from optomatic.errors import StoreError
from optomatic.records import NO_HOOKS, WorkerRecord
from optomatic.store.connection import Store
from optomatic.worker.disk_cache import Cache
from optomatic.worker.dispatch import Dispatch, Idle, WorkerOptions
from optomatic.worker.heartbeat import Heartbeat
from optomatic.worker.outcomes import Outcomes
from optomatic.worker.pool import Pool
from optomatic.worker.reservations import Reservations

log = logging.getLogger(__name__)


#: The search that is worked for has its turn at least so often, in seconds, if it wants any.
_TURN = 0.2
#: A call of the heartbeat that is under way in the end is waited for so many seconds at most.
_LAST_BEAT = 10.0
#: The loop looks around at least so often, in seconds.
_LONGEST_WAIT = 10.0
#: A store that is away when the grace is over is waited for so much longer, in seconds: what
#: cannot be handed in or given back is charged, or scored again.
_LATE = 5.0


class WorkSummary(NamedTuple):
    """Units that a worker scored, those of them with failures, and children that crashed."""

    worker: str
    scored: int
    failed: int
    crashed: int


class Worker:
    """Have units scored by the children of `pool`, which stay at the end unless they have work."""

    def __init__(
        self,
        store: Store,
        pool: Pool,
        cache: Cache,
        record: WorkerRecord,
        options: WorkerOptions,
    ) -> None:
        self._store, self._pool, self._record, self._options = store, pool, record, options
        client_of = str(options.search) if record.kind == "local" else None
        self._heartbeat = Heartbeat(store, record.id, client_of=client_of, revoked=self._revoked)
        self._reservations = Reservations(store, self._heartbeat)
        notifier = store.notifier if options.lasting else None
        joined = options.search is not None
        self._idle = Idle(self._reservations, self._wake, notifier, joined=joined)
        self._dispatch = Dispatch(store, pool, cache, self._reservations, self._idle, options)
        self._outcomes = Outcomes(pool, self._reservations, self._dispatch)
        self._backoff = Backoff()
        #: The last call of the store was answered.
        self._answered = True
        self._ready = False
        self._turn_at = time.monotonic()
        #: Until when units that run may go on; None until :meth:`stop` is called.
        self._end_at: float | None = None

    def run(self, until: Callable[[], bool]) -> WorkSummary:
        """Work until `until()`, which is asked whenever nothing is in hand, or until stopped.

        Whatever ends it, KeyboardInterrupt included: children that run something are killed,
        results that are there are handed in, and everything else is given back uncharged.

        Raises
        ------
        StoreError
            Unless the worker is a lasting one.
        OptomaticError
            If children cannot be started.
        """
        taken = True
        try:
            self._store.workers.register(self._record)
            self._heartbeat.start()
            while not self._over(until):
                self._turn()
        except BaseException:  # it may have come in the middle of a claim
            self._reservations.owe(self._store.claims.give_back_last)
            raise
        finally:
            try:
                taken = self._give_back()
            finally:  # also at a second interrupt: a heartbeat that goes on keeps units from others
                self._leave(taken=taken)
        done = self._reservations
        return WorkSummary(self._record.id, done.scored, done.failed, done.crashed)

    def idle_for(self) -> float | None:
        """Return for how many seconds there has been nothing to do, None if there is something."""
        return self._idle.seconds()

    def _turn(self) -> None:
        self._heartbeat.check()
        self._heartbeat.calm = self._idle.look() and self._options.lasting
        self._log()
        if self._end_at is None:
            self._pool.fill()
        self._ask_store()
        if self._options.hooks is not NO_HOOKS and self._end_at is None:
            self._take_turn()
        self._outcomes.listen(self._time_left())
        self._reservations.kill_revoked(self._pool.children)
        self._tell()
        if self._end_at is not None:
            self._wind_down(self._end_at)

    def _wake(self) -> None:
        """Have the loop look around, from any thread."""
        self._outcomes.wakeup.wake()

    def _revoked(self, ids: frozenset[str]) -> None:
        self._reservations.revoke(ids)
        self._wake()

    def _tell(self) -> None:
        """Call back for results that arrived; not where they are read, as this may raise."""
        if not self._ready and any(child.ready for child in self._pool.children):
            self._ready = True
            self._options.on_ready()
        if arrived := self._reservations.arrived():
            self._options.on_done(arrived)

    def _take_turn(self) -> None:
        grace = self._options.hooks.grace()
        if grace is not None:
            self.stop(grace)
        elif time.monotonic() >= self._turn_at and self._reservations.empty():
            self._turn_at = time.monotonic() + _TURN
            if self._options.hooks.turn():
                self._idle.hurry()
            self._reservations.may_be_over = not self._reservations.units

    def _ask_store(self) -> None:
        """Claim and START what children want, and flush what the store is owed."""
        if self._backoff.time_left():
            return
        try:
            asked = self._end_at is None and not self._may_end() and self._dispatch.run()
            if self._flush() or asked:
                if not self._answered:
                    log.info("the store answers again")
                self._answered = True
                self._backoff.succeeded()
        except StoreError as error:
            self._store_failed(error)

    def _may_end(self) -> bool:
        """Return whether the last results are to be handed in before another look."""
        done = self._reservations
        return self._idle.found_none and not done.units and not done.empty()

    def _flush(self) -> bool:
        """Flush when it is time, or when there is nothing else to do."""
        due, busy = self._reservations.due_in(), self._pool.busy()
        if busy and (due is None or due > 0):
            return False
        if busy and not self._reservations.flush_behind(self._wake):
            return False
        if not busy:
            if self._reservations.empty():
                return False
            self._reservations.flush()
        self._turn_at = time.monotonic()
        return True

    def _store_failed(self, error: StoreError) -> None:
        """Wait longer and longer for a store that does not answer, and say so once."""
        answered, self._answered = self._answered, False
        if not self._options.lasting:
            raise error
        if answered:
            log.warning("the store does not answer, waiting for it: %s", error)
        self._backoff.failed()

    def _log(self) -> None:
        """Log what was done, and why nothing is; not while the store is away, which is asked."""
        if self._options.report is None or not self._answered:
            return
        reservations, idle = self._reservations, self._idle
        is_trial = self._dispatch.skipped.is_trial
        at_work = any(not is_trial(one.job.queue) for one in reservations.units.values())
        try:
            self._options.report.look(
                reservations, at_work=at_work, idle=idle.lasts(), others_wait=idle.others_wait
            )
        except StoreError as error:
            self._store_failed(error)

    def _time_left(self) -> float:
        """Return the seconds after which the loop has to look around."""
        now, reservations, ending = time.monotonic(), self._reservations, self._end_at is not None
        due = [_LONGEST_WAIT, self._idle_left(), reservations.kill_in()]
        if self._options.report and self._answered:
            due.append(self._options.report.time_left(reservations.scored))
        asks = [reservations.due_in(), None if ending else self._dispatch.time_left()]
        if reservations.may_be_over and not reservations.units:
            asks.append(0.0)
        due += [max(ask, self._backoff.time_left()) for ask in asks if ask is not None]
        if self._end_at is not None:
            due.append(self._end_at - now)
        else:
            due.append(self._pool.time_left())
            if self._options.hooks is not NO_HOOKS and reservations.empty():
                due.append(self._turn_at - now)
        return max(0.0, min(seconds for seconds in due if seconds is not None))

    def _idle_left(self) -> float | None:
        """Return the seconds for which it may still be idle, None if there is no limit."""
        idle, most = self._idle.seconds(), self._options.max_idle
        return None if most is None or idle is None else max(0.0, most - idle)

    def _over(self, until: Callable[[], bool]) -> bool:
        reservations = self._reservations
        if self._end_at is not None:
            return not self._pool.busy() and not reservations.waiting
        if reservations.units or not reservations.empty():
            return False
        if self._dispatch.left() == 0:
            log.info("worker %s has scored as many units as it was to", self._record.id[:4])
            return True
        if self._idle_left() == 0:
            return True
        # `until` may cost a round trip: it is asked only when its answer may have changed.
        may_be_over, reservations.may_be_over = reservations.may_be_over, False
        try:
            return may_be_over and until()
        except StoreError as error:
            self._store_failed(error)
            return False

    def stop(self, grace: float) -> None:
        """Have :meth:`run` end: at once for what is not running, else after `grace` seconds.

        A lasting worker waits no longer for its store either.  May be called from a
        signal handler or another thread.
        """
        self._end_at = time.monotonic() + grace
        if self._options.lasting:  # other calls are awaited for a minute at most anyway
            self._store.hurry(grace + _LATE)
        self._wake()

    def _wind_down(self, deadline: float) -> None:
        """Drain: keep only what runs, and that only until `deadline`."""
        self._reservations.release_waiting()
        for child in self._pool.children:
            if (not child.runs_last() or time.monotonic() >= deadline) and child.sent:
                child.kill("the worker ends")

    def _give_back(self) -> bool:
        """Leave nothing in hand; return whether the store has taken everything."""
        for child in [child for child in self._pool.children if child.sent]:
            child.kill("its work is over")
            self._outcomes.read(child)
            if child in self._pool.children:
                self._outcomes.exited(child)
        self._reservations.release_waiting()
        self._reservations.release(self._reservations.units.values())
        # Also if the store is away, as it may just be back: what it does not get is lost to it.
        return self._reservations.try_flush()

    def _leave(self, *, taken: bool) -> None:
        """End all threads, and sign off if the store has `taken` everything back."""
        self._outcomes.limits.stop()
        self._idle.stop()
        there = taken and self._answered
        # Do not wait for an unreachable store while shutting down.
        self._heartbeat.stop(0.0 if self._options.lasting and not there else _LAST_BEAT)
        self._outcomes.wakeup.close()
        # Where units were not given back the record stays, which tells whose process is gone.
        if there:
            try:
                self._store.workers.leave(self._record.id)
            except StoreError as error:
                log.info("worker %s could not sign off: %s", self._record.id, error)
