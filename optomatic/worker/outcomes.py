"""Whose fault it is that a child ended, and what becomes of what it had."""

from __future__ import annotations

import logging
from collections.abc import Callable
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from optomatic.records import Held, Result, Returned
from optomatic.worker.batching import Pace
from optomatic.worker.digest_check import Refusal, Refusals, refusal_from_wire
from optomatic.worker.limits import Warden
from optomatic.worker.pool import Child, Crew, Wakeup
from optomatic.worker.protocol import result_from_wire, returned_from_wire
from optomatic.worker.reservations import Account

log = logging.getLogger(__name__)


class Coroner:
    """Buries the dead of `crew`.

    The unit that ran is charged, unless the child was killed from here; what was queued
    behind it never is.
    """

    def __init__(self, crew: Crew, warden: Warden, account: Account) -> None:
        self._crew = crew
        self._warden = warden
        self._account = account

    def bury(self, child: Child) -> None:
        """Account for what a dead or dying child had, and note whose fault its end was.

        Raises
        ------
        OptomaticError
            If one child after the other ends before it can be used.
        """
        self._warden.forget(child)
        how = self._crew.remove(child)
        rest = list(child.sent)
        child.sent.clear()
        if child.passed is not None and _ran(child, child.passed[0]):
            # Handed in as failed: nobody is charged for it.
            self._account.fail(rest.pop(0), child.passed[1])
            child.running = None
        elif child.stopped is not None:
            level = logging.DEBUG if child.expected else logging.INFO
            how = "is replaced, as it refused a unit" if child.refused else "was killed"
            log.log(level, "child %d %s: %s", child.pid, how, child.stopped)
        elif child.running is not None:
            unit = rest.pop(0)
            log.warning("child %d ended by %s while it ran unit %s", child.pid, how, unit.job.id)
            self._account.crash(unit, how)
        elif not child.ready:
            self._crew.false_start(how)
        self._account.release(rest, child.running)


def _ran(child: Child, unit_id: str) -> bool:
    """Tell whether `child` ran that unit when it ended."""
    return child.running is not None and child.running.job.id == unit_id


class Listener:
    """Listens to the children of `crew`.

    Parameters
    ----------
    crew : Crew
    wakeup : Wakeup
        Ends a wait, too.
    account : Account
        Takes results.
    pace : Pace
        Learns how long units take.
    warden : Warden
        Watches what has limits.
    refusals : Refusals
    coroner : Coroner
    folder : Path
        Where children leave what calls returned.
    on_ready : callable
        Called once, when the first child can score.
    """

    def __init__(
        self,
        crew: Crew,
        wakeup: Wakeup,
        account: Account,
        pace: Pace,
        warden: Warden,
        refusals: Refusals,
        coroner: Coroner,
        folder: Path,
        on_ready: Callable[[], None],
    ) -> None:
        self._crew = crew
        self._wakeup = wakeup
        self._account = account
        self._pace = pace
        self._warden = warden
        self._refusals = refusals
        self._coroner = coroner
        self._folder = folder
        self._on_ready: Callable[[], None] | None = on_ready

    def listen(self, seconds: float) -> None:
        """Wait until a child says something or dies, or is woken; for `seconds` at most."""
        children, woken = self._crew.children, self._wakeup.fileno()
        calm = min(seconds, self._pace.calm([len(child.sent) for child in children]))
        if calm > 0:
            wait([*(child.death for child in children if child.death), woken], calm)
            seconds = 0.0
        owners = {item: child for child in children for item in child.waitables()}
        ready = wait([*owners, woken], seconds)
        if woken in ready:
            self._wakeup.drain()
        for child in {owners[item] for item in ready if item in owners}:
            self.hear(child)

    def hear(self, child: Child) -> None:
        """Take note of all that `child` has said, and bury it if it is dead."""
        alive = child.alive()  # asked first: what a dead child said last is to be read
        try:
            for done, begun in child.channel.receive():
                self._note(child, done, begun)
        except EOFError:
            alive = False
        except (ValueError, TypeError, LookupError) as error:
            log.error("child %d sent what it should not (%r)", child.pid, error)
            alive = False
        if not alive:
            self._coroner.bury(child)

    def _note(self, child: Child, done: list[Any] | None, begun: str | None) -> None:
        if done is None and begun is None:
            self._ready(child)
        if done is not None:
            held = _expect(child, done[0])
            if done[1] is None:
                self._refuse(child, held, refusal_from_wire(done[2]))
                return
            self._refusals.take_up(held.job.queue)
            self._crew.scored()
            self._account.done(held, self._result(held, done[1], done[2]))
            child.sent.popleft()
            child.running = None
            self._warden.forget(child)
        if begun is not None:
            child.running = _expect(child, begun)
            self._warden.begins(child, child.running)

    def _refuse(self, child: Child, held: Held, refusal: Refusal) -> None:
        """Take note that `child` refuses what it has, and ends: nobody is charged for it."""
        child.stopped, child.refused, child.running = refusal.why, True, None
        self._warden.forget(child)
        self._refusals.refuse(child, held, refusal, self._crew.children)

    def _ready(self, child: Child) -> None:
        child.ready = True
        if self._on_ready is not None:
            self._on_ready()
        self._on_ready = None

    def _result(self, held: Held, wire: Any, seconds: float) -> Result | Returned:
        if held.job.kind == "call":
            self._pace.note_call()
            return returned_from_wire(wire, held.job.id, self._folder)
        self._pace.note(held.work, seconds)
        return result_from_wire(wire)


def _expect(child: Child, unit_id: str) -> Held:
    """Return the first unit in the queue of `child`, which must be `unit_id`."""
    held = child.sent[0]
    if held.job.id != unit_id:
        raise ValueError(f"it speaks of {unit_id!r}, but has {held.job.id!r}")
    return held
