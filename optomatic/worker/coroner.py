"""Whose fault it is that a child ended, and what becomes of what it had."""

from __future__ import annotations

import logging

from optomatic.worker.account import Account
from optomatic.worker.children import Child, Crew
from optomatic.worker.warden import Warden

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
        rest = list(child.queue)
        child.queue.clear()
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
