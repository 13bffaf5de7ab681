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
from optomatic.worker.pool import Child, Pool, Wakeup
from optomatic.worker.protocol import KINDS
from optomatic.worker.reservations import Account

log = logging.getLogger(__name__)


class Coroner:
    """Buries the dead of `pool`.

    The unit that ran is charged, unless the child was killed from here; what was queued
    behind it never is.
    """

    def __init__(self, pool: Pool, warden: Warden, account: Account) -> None:
        self._pool = pool
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
        how = self._pool.remove(child)
        ran, rest = child.give_up()
        begun: Held | None = None
        if ran is not None and child.passed is not None and child.passed[0] == ran.job.id:
            # Handed in as failed: nobody is charged for it.
            self._account.fail(ran, child.passed[1])
        elif child.stopped is not None:
            level = logging.DEBUG if child.expected else logging.INFO
            how = "is replaced, as it refused a unit" if child.refused else "was killed"
            log.log(level, "child %d %s: %s", child.pid, how, child.stopped)
            rest, begun = [*([] if ran is None else [ran]), *rest], ran
        elif ran is not None:
            log.warning("child %d ended by %s while it ran unit %s", child.pid, how, ran.job.id)
            self._account.crash(ran, how)
        elif not child.ready:
            self._pool.false_start(how)
        self._account.release(rest, begun)


class Listener:
    """Listens to the children of `pool`.

    Parameters
    ----------
    pool : Pool
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
        pool: Pool,
        wakeup: Wakeup,
        account: Account,
        pace: Pace,
        warden: Warden,
        refusals: Refusals,
        coroner: Coroner,
        folder: Path,
        on_ready: Callable[[], None],
    ) -> None:
        self._pool = pool
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
        children, woken = self._pool.children, self._wakeup.fileno()
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
            held = child.next(done[0])
            if done[1] is None:
                self._refuse(child, held, refusal_from_wire(done[2]))
                return
            self._refusals.take_up(held.job.queue)
            self._pool.scored()
            self._account.done(held, self._result(held, done[1], done[2]))
            child.finish()
            self._warden.forget(child)
        if begun is not None:
            self._warden.begins(child, child.begin(begun))

    def _refuse(self, child: Child, held: Held, refusal: Refusal) -> None:
        """Take note that `child` refuses what it has, and ends: nobody is charged for it."""
        self._warden.forget(child)
        self._refusals.refuse(child, held, refusal, self._pool.children)

    def _ready(self, child: Child) -> None:
        child.loaded()
        if self._on_ready is not None:
            self._on_ready()
        self._on_ready = None

    def _result(self, held: Held, wire: Any, seconds: float) -> Result | Returned:
        kind = KINDS[held.job.kind]
        if kind.awaited:
            self._pace.note_call()
        else:
            self._pace.note(held.work, seconds)
        return kind.read(wire, held.job.id, self._folder)
