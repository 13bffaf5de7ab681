"""What becomes of work that asks for code, or for room on disk, which a worker does not have.

A child that was running for a while may only be behind its files, so it is replaced, and the new
one tries.  What that refuses too the worker leaves alone for a minute, as the code there may be
updated, and then tries again with a new child.  Where it scores for a search of this very
process, the search ends: nobody else will do.  Data that find no room are treated alike.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from optomatic.errors import CacheFull, OtherCode
from optomatic.records import Failure, Held
from optomatic.worker.availability import NO_ROOM
from optomatic.worker.pool import Child
from optomatic.worker.reservations import Account, Intake, Outbox, Queues, any_queue

log = logging.getLogger(__name__)


#: Seconds for which what was refused is left alone.
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
    """Return what :func:`~optomatic.worker.protocol.refusal_to_wire` made `wire` of."""
    why, child, failure = wire
    return Refusal(str(why), str(child), None if failure is None else Failure(*failure))


class Choice:
    """The queues that a worker may claim, without those that it leaves alone.

    Parameters
    ----------
    queues : callable
        Returns those that its versions and tags allow, None for all.
    clock : callable, optional
        The worker's clock.
    """

    def __init__(self, queues: Queues, clock: Callable[[], float] = time.monotonic) -> None:
        self._queues = queues
        self._clock = clock
        #: Until when queues are left alone.
        self._until: dict[str, float] = {}
        #: Why queues were refused that nothing was scored of since.
        self._why: dict[str, str] = {}
        #: The children that were there when a queue was first refused.
        self._there: dict[str, frozenset[int]] = {}
        #: What serves one search of this process has none.
        self.free = queues is not any_queue

    def queues(self) -> Sequence[str] | None:
        """Return what may be claimed now."""
        allowed = self._queues()
        if allowed is None:
            return None
        self._forget()
        return [queue for queue in allowed if queue not in self._until]

    def _forget(self) -> None:
        """Let a new child try what was left alone for long enough."""
        now = self._clock()
        for queue in [queue for queue, until in self._until.items() if now >= until]:
            del self._until[queue]
            self._there.pop(queue, None)

    def is_final(self, queue: str, refusal: Refusal, child: int, children: Iterable[int]) -> bool:
        """Tell whether a new child would refuse `queue` as `child` does, one of `children`.

        One that had loaded other work already was still started later than those that were
        there at the first refusal.
        """
        if refusal.child == "behind":
            return False
        there = self._there.setdefault(queue, frozenset(children))
        return refusal.child == "fresh" or child not in there

    def leave_alone(
        self, queue: str, worker: str, why: str, what: str = _OTHER_CODE, advice: str = _UPDATE
    ) -> bool:
        """Claim nothing of `queue` for a while; tell whether why it is refused is new."""
        if queue in self._until:  # another child of the same time
            return False
        self._until[queue] = self._clock() + AGAIN
        if self._why.get(queue) == why:
            return False
        self._why[queue] = why
        log.warning(
            "worker %s leaves alone what %s: %s. %s: this worker looks again every minute. Nothing "
            "was scored with it, and other workers go on",
            *(worker, what, why, advice),
        )
        return True

    def is_trial(self, queue: str) -> bool:
        """Tell whether `queue` was refused, and not scored since."""
        return queue in self._why

    def take_up(self, queue: str) -> bool:
        """Take note that `queue` is scored here; tell whether it was refused before."""
        return self._why.pop(queue, None) is not None


class Refusals:
    """Draws what follows from each refusal.

    Parameters
    ----------
    name : str
        Of the worker, for people.
    choice : Choice
    intake : Intake
    account : Account
        Takes what failed.
    outbox : Outbox
        Takes what others are to be told of this worker.
    """

    def __init__(
        self, name: str, choice: Choice, intake: Intake, account: Account, outbox: Outbox
    ) -> None:
        self._name = name
        self._choice = choice
        self._intake = intake
        self._account = account
        self._outbox = outbox

    def refuse(self, child: Child, held: Held, refusal: Refusal, children: Iterable[Child]) -> None:
        """Take note that `child`, one of `children`, refuses the first unit that it has.

        Raises
        ------
        OtherCode
            Where nobody but children of this process scores.
        """
        queue = held.job.queue
        child.refuse(refusal.why, expected=self._choice.is_trial(queue))
        if not self._choice.is_final(queue, refusal, child.pid, [other.pid for other in children]):
            return
        if self._choice.free:
            self._intake.refused(queue)
            advice = _UPDATE if refusal.failure is None else _INSTALL
            if self._choice.leave_alone(queue, self._name, refusal.why, advice=advice):
                self._outbox.refusal(queue, refusal.why)
        elif refusal.failure is None:
            raise _other_code(refusal)
        else:
            self._account.fail(child.finish(), refusal.failure)

    def leave_to_others(self, queue: str, error: CacheFull) -> None:
        """Take note that there is no room for what `queue` needs.

        Raises
        ------
        CacheFull
            Where nobody but children of this process scores.
        """
        if not self._choice.free:
            raise error
        self._intake.refused(queue)
        what = f"finds no room here ({error.where})"
        if self._choice.leave_alone(queue, self._name, NO_ROOM, what, _FREE):
            self._outbox.refusal(queue, NO_ROOM)

    def take_up(self, queue: str) -> None:
        """Take note that `queue` is scored here: who had refused it does so no more."""
        if self._choice.take_up(queue):
            self._outbox.acceptance(queue)


def _other_code(refusal: Refusal) -> OtherCode:
    """Return the error of a search whose own workers load something else than it was sent."""
    return OtherCode(
        f"The workers of this search do not have what this process has: {refusal.why}. Nothing "
        "was scored with it; all finished scores are stored. If the file of a module was edited "
        "since this process has imported it, restart this process and fit again; n_jobs=None "
        "scores with what this process has."
    )
