"""Outcomes: what children say, and which unit is charged when a child exits."""

from __future__ import annotations

import logging
import os
from multiprocessing.connection import wait
from typing import Any

from optomatic.records import Reservation, Result, Returned
from optomatic.worker.dispatch import Dispatch
from optomatic.worker.limits import Limits
from optomatic.worker.pool import Child, Pool, Wakeup
from optomatic.worker.protocol import KINDS, refusal_from_wire
from optomatic.worker.reservations import Reservations

log = logging.getLogger(__name__)


class Outcomes:
    """Read from the children of `pool`, and handle those that exited."""

    def __init__(self, pool: Pool, reservations: Reservations, dispatch: Dispatch) -> None:
        self._pool, self._reservations, self._dispatch = pool, reservations, dispatch
        #: Ends a wait, too.
        self.wakeup = Wakeup()
        #: Watches the units that have limits.
        self.limits = Limits()

    def listen(self, seconds: float) -> None:
        """Wait until a child says something or exits, or is woken; for `seconds` at most."""
        children, woken = self._pool.children, self.wakeup.reads
        unread = self._dispatch.sizing.unread([len(child.sent) for child in children])
        owners = {item: child for child in children for item in child.descriptors()}
        if (unread := min(seconds, unread)) > 0:
            exits = [item for child in children for item in child.descriptors()[:-1]]
            wait([*exits, woken], unread)
            seconds = 0.0
        ready = wait([*owners, woken], seconds)
        if woken in ready:
            os.read(woken, 4096)
        for child in {owners[item] for item in ready if item in owners}:
            self.read(child)

    def read(self, child: Child) -> None:
        """Read all that `child` has said, and handle its exit if it is dead."""
        alive = child.alive()  # asked first: what a dead child said last is to be read
        try:
            for done, begun in child.channel.receive():
                self._read_one(child, done, begun)
        except EOFError:
            alive = False
        except (ValueError, TypeError, LookupError) as error:
            log.error("child %d sent what it should not (%r)", child.pid, error)
            alive = False
        if not alive:
            self.exited(child)

    def _read_one(self, child: Child, done: list[Any] | None, begun: str | None) -> None:
        if done is None and begun is None:
            child.loaded()
        if done is not None:
            one = child.next(done[0])
            if done[1] is None:
                self._refused(child, one, done[2])
                return
            self._dispatch.skipped.accepted(one.job.queue)
            self._pool.scored()
            self._reservations.complete(one, self._result(one, done[1], done[2]))
            child.finish()
            self.limits.forget(child)
        if begun is not None:
            self.limits.watch(child, child.begin(begun))

    def _result(self, one: Reservation, wire: Any, seconds: float) -> Result | Returned:
        kind, sizing = KINDS[one.job.kind], self._dispatch.sizing
        if kind.awaited:
            sizing.ran_call()
        else:
            sizing.measured(seconds, one.work)
        return kind.read(wire, one.job.id, self._dispatch.cache.root)

    def _refused(self, child: Child, one: Reservation, wire: list[Any]) -> None:
        """Note that `child` refuses what it has, and ends: no unit is charged for it."""
        refusal = refusal_from_wire(wire)
        child.refuse(refusal.why)
        self.limits.forget(child)
        self._dispatch.skipped.refused(child, one, refusal, self._pool.children)

    def exited(self, child: Child) -> None:
        """Settle the units of a dead or dying child.

        The unit that ran is charged, unless the child was killed from here; units queued behind
        it never are.  If one child after the other exits before it can be used, that is an error.
        """
        self.limits.forget(child)
        how = self._pool.remove(child)
        ran, rest = child.give_up()
        if ran is not None and child.passed is not None and child.passed[0] == ran.job.id:
            # Handed in as failed: it is not charged.
            self._reservations.fail(ran, child.passed[1])
        elif child.stopped is not None:
            if not child.refused:
                log.info("child %d was killed: %s", child.pid, child.stopped)
            self._reservations.release([] if ran is None else [ran], ran=True)
        elif ran is not None:
            log.warning("child %d ended by %s while it ran unit %s", child.pid, how, ran.job.id)
            self._reservations.crash(ran, how)
        elif not child.ready:
            self._pool.false_start(how)
        self._reservations.release(rest)
