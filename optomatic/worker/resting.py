"""A worker with nothing to do: it says so, costs nothing, and has an alarm tell of what comes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from optomatic.store.alarm import Alarms
from optomatic.worker.account import Account
from optomatic.worker.heart import Heart
from optomatic.worker.intake import POLL_ALARMED, POLL_LONG, Intake
from optomatic.worker.logs import fields
from optomatic.worker.refusal import Choice

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
    alarms : Alarms or None
        Those of the store; None for a worker that always looks by itself.
    heart : Heart
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
        alarms: Alarms | None,
        heart: Heart,
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
            self._alarm.arm()
        else:
            self._alarm.disarm()
        # Disarmed it listens on for some seconds, but does not ring: who has a child to spare
        # beside a long unit has to look.
        rings = calm and self._alarm.listening
        self._intake.longest = POLL_ALARMED if rings else POLL_LONG

    def say(self) -> None:
        """Log that the worker is idle or at work now, if that is new."""
        if any(not self._choice.is_trial(held.job.lane) for held in self._intake.waiting):
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
