"""The end of a worker: when it comes, and what becomes of what is in hand then."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from optomatic.worker.outcomes import Coroner, Listener
from optomatic.worker.pool import Pool
from optomatic.worker.reservations import Account, Intake, Outbox

log = logging.getLogger(__name__)


#: A store that is away when the grace is over is waited for so much longer, in seconds: what
#: cannot be handed in or given back is charged, or scored again.
_LATE = 5.0


class Deadline:
    """When the work ends, if that is known.

    Parameters
    ----------
    name : str
        Of the worker, for people.
    hurry : callable
        Is called with the seconds for which the store is still waited for.
    wake : callable
        Has the loop look around.
    clock : callable
        The worker's clock.

    Attributes
    ----------
    at : float or None
        By that clock, until when what runs may go on: None until :meth:`stop` is called.
    """

    def __init__(
        self,
        name: str,
        hurry: Callable[[float], None],
        wake: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._hurry = hurry
        self._wake = wake
        self._clock = clock
        self._planned: tuple[float, float] | None = None
        self.at: float | None = None

    def stop(self, grace: float) -> None:
        """Have the work end: at once for what is not running, else after `grace` seconds.

        May be called from a signal handler or another thread.
        """
        self.at = self._clock() + grace
        self._hurry(grace + _LATE)
        self._wake()

    def stop_in(self, seconds: float, grace: float) -> None:
        """Have the work be over in `seconds`: :meth:`stop` comes `grace` seconds before."""
        grace = min(grace, max(0.0, seconds))
        self._planned = (self._clock() + seconds - grace, grace)

    def look(self) -> None:
        """Stop if the time has come."""
        if self._planned is not None and self._clock() >= self._planned[0]:
            grace = self._planned[1]
            self._planned = None
            log.info("worker %s is near its deadline, ending", self._name)
            self.stop(grace)

    def time_left(self) -> float | None:
        """Return the seconds until something is to end, None if nothing is."""
        moments = [self.at, self._planned and self._planned[0]]
        return min((at - self._clock() for at in moments if at is not None), default=None)


class Surrender:
    """Gives up what is in hand.

    Parameters
    ----------
    pool : Pool
    intake : Intake
    account : Account
        Takes what is given back.
    outbox : Outbox
    listener : Listener
        Hears what children that are killed have said last.
    coroner : Coroner
    clock : callable
        The worker's clock.
    """

    def __init__(
        self,
        pool: Pool,
        intake: Intake,
        account: Account,
        outbox: Outbox,
        listener: Listener,
        coroner: Coroner,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pool = pool
        self._intake = intake
        self._account = account
        self._outbox = outbox
        self._listener = listener
        self._coroner = coroner
        self._clock = clock

    def wind_down(self, deadline: float) -> None:
        """Keep only what runs, and that only until `deadline`."""
        self._account.release(self._intake.waiting)
        self._intake.waiting.clear()
        for child in self._pool.children:
            if (not child.runs_last() or self._clock() >= deadline) and child.sent:
                child.kill("the worker ends")

    def give_back(self) -> bool:
        """Leave nothing in hand; tell whether the store has taken everything."""
        for child in [child for child in self._pool.children if child.sent]:
            child.kill("its work is over")
            self._listener.hear(child)
            if child in self._pool.children:
                self._coroner.bury(child)
        self._account.release(self._intake.mine.values())
        self._intake.waiting.clear()
        # Also if the store is away, as it may just be back: what it does not get is lost to it.
        return self._outbox.try_flush()
