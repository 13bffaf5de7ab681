"""What a worker does while its store does not answer."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable

from optomatic.errors import StoreError

log = logging.getLogger(__name__)

#: Seconds between calls to a store that does not answer, growing; times 0.5 to 1.5.
SHORT, LONG = 0.5, 10.0


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
        self._clock = clock
        self._rng = rng
        self._pause = SHORT
        self._retry_at = clock()
        #: Whether the last call was answered.
        self.well = True

    def failed(self, error: StoreError) -> None:
        """Note that the store did not answer."""
        if self.well and self._lasting:
            log.warning("the store does not answer, waiting for it: %s", error)
        self.well = False
        if not self._lasting:
            raise error
        self._retry_at = self._clock() + self._pause * (0.5 + self._rng())
        self._pause = min(2 * self._pause, LONG)

    def answered(self) -> None:
        """Note that the store answered."""
        if not self.well:
            log.info("the store answers again")
        self.well, self._pause = True, SHORT

    def time_left(self) -> float:
        """Return the seconds until the store should be called, 0 if it may be now."""
        return max(0.0, self._retry_at - self._clock())
