"""Back-off: how long to wait before the next try."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable

from optomatic.errors import StoreError

log = logging.getLogger(__name__)


#: Seconds between two tries, growing; times 0.5 to 1.5.
SHORT, LONG = 0.5, 10.0
#: A failure that comes so many seconds after the last one is not in a row with it.
_ROW = 600.0


class Backoff:
    """Waits longer and longer between tries.

    Attributes
    ----------
    failures : int
        Failures in a row.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        rng: Callable[[], float] = random.random,
        *,
        short: float = SHORT,
        long: float = LONG,
    ) -> None:
        self._clock = clock
        self._short, self._long = short, long
        self._rng = rng
        self._failed_at = self._retry_at = clock()
        self.failures = 0

    def failed(self) -> None:
        """Note that a try failed."""
        now = self._clock()
        row = self.failures if now - self._failed_at < _ROW else 0
        pause = min(self._short * 2.0 ** min(row, 10), self._long)
        self.failures, self._failed_at = row + 1, now
        self._retry_at = now + pause * (0.5 + self._rng())

    def succeeded(self) -> None:
        """Note that a try went well."""
        self.failures = 0

    def time_left(self) -> float:
        """Return the seconds until the next try, 0 if it may be now."""
        return max(0.0, self._retry_at - self._clock())


class Patience:
    """Waits longer and longer, and says once that it waits and once that it is over.

    Parameters
    ----------
    lasting : bool
        Wait for ever.  If not, :meth:`failed` raises the error that it is given.
    """

    def __init__(
        self,
        *,
        lasting: bool,
        clock: Callable[[], float] = time.monotonic,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._lasting = lasting
        self._backoff = Backoff(clock, rng)
        #: Whether the last call was answered.
        self.well = True

    def failed(self, error: StoreError) -> None:
        """Note that the store did not answer."""
        if self.well and self._lasting:
            log.warning("the store does not answer, waiting for it: %s", error)
        self.well = False
        if not self._lasting:
            raise error
        self._backoff.failed()

    def answered(self) -> None:
        """Note that the store answered."""
        if not self.well:
            log.info("the store answers again")
        self.well = True
        self._backoff.succeeded()

    def time_left(self) -> float:
        """Return the seconds until the store should be called, 0 if it may be now."""
        return self._backoff.time_left()
