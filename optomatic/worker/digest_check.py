"""What becomes of work whose code a worker does not have, or whose data find no room on its disk.

A child that was running for a while may only be behind its files, so it is replaced, and the new
one tries.  A queue that this one refuses too is skipped for a minute, as the code may be updated,
and then tried again by a new child.  Where a search scores with local workers, it ends instead:
no other worker will score.  Data that find no room are treated alike.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from optomatic.errors import CacheFull, OtherCode
from optomatic.records import Failure, Reservation
from optomatic.store.workers import Workers
from optomatic.worker.availability import NO_ROOM
from optomatic.worker.idle import Idle
from optomatic.worker.pool import Child
from optomatic.worker.reservations import Reservations

#: Returns the queues that a worker may claim.
Queues = Callable[[], Sequence[str]]

log = logging.getLogger(__name__)


#: Seconds for which a queue that was refused is skipped.
AGAIN = 60.0
_OTHER_CODE = "asks for other code than it has"
_UPDATE = "Update the code on this machine to that of the process that calls fit"
_INSTALL = "Install it in the environment of this worker, or put its folder on PYTHONPATH"
_FREE = "Free some space there, or name another folder with --cache-dir"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a child did not score a unit.

    ``child`` is "fresh" if it had loaded nothing before, "behind" if files are newer than what
    it has imported of them, else "used"; ``failure`` is what loading raised, where all code that
    was compared is the same.
    """

    why: str
    child: str
    failure: Failure | None


def refusal_from_wire(wire: list[Any]) -> Refusal:
    """Return the refusal of which the child made `wire`."""
    why, child, failure = wire
    return Refusal(str(why), str(child), None if failure is None else Failure(*failure))


class SkippedQueues:
    """The queues that a worker may claim, without those that it skips for a while.

    Parameters
    ----------
    allowed : callable or None
        Returns the queues that its versions and tags allow; None for a worker that serves a search
        of its own process, and has no choice.
    workers : Workers
        Whoever waits for units learns from them what this worker skips.
    reservations : Reservations
    idle : Idle
    clock : callable, optional
        For tests.
    """

    def __init__(
        self,
        allowed: Queues | None,
        workers: Workers,
        reservations: Reservations,
        idle: Idle,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._allowed, self._workers = allowed, workers
        self._reservations, self._idle, self._clock = reservations, idle, clock
        self._skipped_until: dict[str, float] = {}
        #: Why queues were refused of which nothing was scored since.
        self._why: dict[str, str] = {}
        #: The children that were there when a queue was first refused, by pid.
        self._there: dict[str, frozenset[int]] = {}

    def claimable(self) -> Sequence[str] | None:
        """Return what may be claimed now, None for all."""
        if self._allowed is None:
            return None
        now = self._clock()
        for queue in [queue for queue, until in self._skipped_until.items() if now >= until]:
            del self._skipped_until[queue]  # a new child may try it
            self._there.pop(queue, None)
        return [queue for queue in self._allowed() if queue not in self._skipped_until]

    def is_trial(self, queue: str) -> bool:
        """Return whether `queue` was refused, and not scored since."""
        return queue in self._why

    def accepted(self, queue: str) -> None:
        """Note that `queue` is scored here."""
        if self._why.pop(queue, None) is not None:
            self._reservations.owe(lambda: self._workers.accepts(self._reservations.worker, queue))

    def refused(
        self, child: Child, one: Reservation, refusal: Refusal, children: Sequence[Child]
    ) -> None:
        """Draw what follows from `child`, one of `children`, refusing `one`, its first unit.

        Raises
        ------
        OtherCode
            If only children of this process score.
        """
        queue = one.job.queue
        level = logging.DEBUG if self.is_trial(queue) else logging.INFO
        log.log(level, "child %d is replaced, as it refused a unit: %s", child.pid, refusal.why)
        if not self._is_final(queue, refusal, child, children):
            return
        if self._allowed is not None:
            advice = _UPDATE if refusal.failure is None else _INSTALL
            self._skip(queue, refusal.why, _OTHER_CODE, advice)
        elif refusal.failure is None:
            raise _other_code(refusal)
        else:
            self._reservations.fail(child.finish(), refusal.failure)

    def no_room(self, queue: str, error: CacheFull) -> None:
        """Skip `queue`, as this machine has no room for what it needs.

        Raises
        ------
        CacheFull
            If only children of this process score.
        """
        if self._allowed is None:
            raise error
        self._skip(queue, NO_ROOM, f"finds no room here ({error.where})", _FREE)

    def _is_final(
        self, queue: str, refusal: Refusal, child: Child, children: Sequence[Child]
    ) -> bool:
        """Return whether a new child would refuse `queue` as `child` does, one of `children`.

        A child that had loaded other work already was still started later than those that were
        there at the first refusal.
        """
        if refusal.child == "behind":
            return False
        there = self._there.setdefault(queue, frozenset(other.pid for other in children))
        return refusal.child == "fresh" or child.pid not in there

    def _skip(self, queue: str, why: str, what: str, advice: str) -> None:
        """Claim nothing of `queue` for a while; say so if the reason is new."""
        self._idle.refused(queue)
        if queue in self._skipped_until:  # another child of the same time
            return
        self._skipped_until[queue] = self._clock() + AGAIN
        if self._why.get(queue) == why:
            return
        self._why[queue] = why
        worker = self._reservations.worker
        log.warning(
            "worker %s leaves alone what %s: %s. %s: this worker looks again every minute. Nothing "
            "was scored with it, and other workers go on",
            *(worker[:4], what, why, advice),
        )
        self._reservations.owe(lambda: self._workers.refuses(worker, queue, why))


def _other_code(refusal: Refusal) -> OtherCode:
    """Return the error of a search whose local workers load something else than it was sent."""
    return OtherCode(
        f"The workers of this search do not have what this process has: {refusal.why}. Nothing "
        "was scored with it; all finished scores are stored. If the file of a module was edited "
        "since this process has imported it, restart this process and fit again; n_jobs=None "
        "scores with what this process has."
    )
