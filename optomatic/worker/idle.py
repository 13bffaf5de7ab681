"""When an idle worker looks at the queue again, and what wakes it before."""

from __future__ import annotations

import time
from collections.abc import Callable

from optomatic.backoff import Backoff
from optomatic.store.notifier import Notifier
from optomatic.worker.reservations import Reservations

#: Seconds between looks at a queue in which there was nothing, growing; times 0.5 to 1.5.
POLL_SHORT, POLL_LONG = 0.02, 2.0
#: Seconds between looks while subscribed: a subscription may have failed.
POLL_SUBSCRIBED = 60.0
#: Seconds without work after which a worker is idle: it says so, and subscribes.
IDLE = 1.0


class Idle:
    """Whether the worker has nothing to do, and when it is to look for work.

    Parameters
    ----------
    reservations : Reservations
    wake : callable
        Has the worker's loop look around, and call :meth:`look`.
    notifier : Notifier or None
        That of the store; None for a worker that always looks by itself.
    joined : bool
        The notifier also tells of a search that joins units that are queued already.

    Attributes
    ----------
    since : float or None
        Since when there was nothing to claim while nothing ran.
    others_wait : bool
        At the last look something was queued, and this worker could claim none of it.
    """

    def __init__(
        self,
        reservations: Reservations,
        wake: Callable[[], None],
        notifier: Notifier | None,
        joined: bool,
    ) -> None:
        self._reservations, self._wake = reservations, wake
        self._subscription = (
            None if notifier is None else notifier.queued(self._notified, joined=joined)
        )
        self._backoff = Backoff(POLL_SHORT, POLL_LONG)
        self._woken = self._hurried = False
        self.since: float | None = None
        self._before: tuple[float, int] | None = None
        self.others_wait = False

    def seconds(self) -> float | None:
        """Return for how long there has been nothing to do, None if there is something."""
        since = self.since  # once, as others than the worker's own thread may ask
        return None if since is None else time.monotonic() - since

    def lasts(self) -> bool:
        """Return whether the worker has been idle for a while."""
        return (self.seconds() or 0.0) > IDLE

    def look(self) -> None:
        """Cost nothing while there is nothing to do: have the notifier tell of new work."""
        if self._subscription is None:
            return
        if self._woken:
            self._woken = False
            self.hurry()
        if self.lasts():
            self._subscription.start()
        else:
            self._subscription.pause()

    def stop(self) -> None:
        """End the subscription."""
        if self._subscription is not None:
            self._subscription.stop()

    def _notified(self) -> None:
        """Look at the queue soon, in the worker's thread."""
        self._woken = True
        self._wake()

    # -- when to claim ---------------------------------------------------------------------

    def hurry(self) -> None:
        """Look at the queue at once: something may have been queued.

        Some looks after it come soon, too: it may take a moment to be seen.
        """
        self._backoff.retry(2)
        self._hurried = True

    def time_left(self) -> float:
        """Return the seconds until the queue is to be looked at."""
        return 0.0 if self._reservations.freed else self._backoff.time_left()

    def begin_look(self) -> bool:
        """Note that the queue is looked at; return whether a cheap look is enough at first."""
        cheap = self.since is not None and not self._hurried
        self._hurried = self.others_wait = False
        if self._reservations.freed:
            # What becomes free looks often; with nothing in hand also for what runs alone.
            self._backoff.retry(self._backoff.failures if self._reservations.units else 0)
            self._reservations.freed = False
        return cheap

    def found_work(self) -> None:
        """Note that something was claimed."""
        scored = self._reservations.scored
        if self.since is not None or self._before is None or self._before[1] != scored:
            self._before = (self.since or time.monotonic(), scored)
        self.since = None
        self._backoff.succeeded()

    def found_nothing(self, *, busy: bool) -> None:
        """Note that there was nothing to claim, while something is started if `busy`."""
        # A paused subscription listens on for some seconds, but does not notify: then a worker
        # with a child to spare beside a long unit has to look.
        subscribed = self._subscription is not None and self._subscription.active and self.lasts()
        self._backoff.failed(POLL_SUBSCRIBED if subscribed else POLL_LONG)
        if not busy and self.since is None:
            self.since = time.monotonic()

    def refused(self, queue: str) -> None:
        """Count as idle since before `queue` was claimed, if nothing else was or is in hand."""
        if all(one.job.queue == queue for one in self._reservations.units.values()):
            before, scored = self._before or (None, None)
            self.since = before if scored == self._reservations.scored else None
