"""Back-off: how long to wait before the next try."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

#: Seconds between two tries of what failed, growing; times 0.5 to 1.5.
SHORT, LONG = 0.5, 10.0
#: A failure that comes so many seconds after the last one is not in a row with it.
_ROW = 600.0


class Backoff:
    """Wait longer and longer between tries that fail, or that find nothing.

    The pause doubles from `shortest` to `longest` seconds, and varies by chance.

    Attributes
    ----------
    failures : int
        Failures in a row.
    """

    def __init__(
        self,
        shortest: float = SHORT,
        longest: float = LONG,
        *,
        clock: Callable[[], float] = time.monotonic,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._shortest, self._longest = shortest, longest
        self._clock, self._rng = clock, rng
        self._failed_at = self._retry_at = clock()
        self.failures = 0

    def failed(self, then: float | None = None) -> float:
        """Note a failed try; return the seconds until the next one.

        `then` replaces the longest pause.
        """
        now = self._clock()
        row = self.failures if now - self._failed_at < _ROW else 0
        pause = self._shortest * 2.0 ** min(row, 30)
        if pause >= self._longest:
            pause = self._longest if then is None else then
        pause *= 0.5 + self._rng()
        self.failures, self._failed_at, self._retry_at = row + 1, now, now + pause
        return pause

    def succeeded(self) -> None:
        """Note that a try went well."""
        self.failures = 0

    def retry(self, failures: int) -> None:
        """Allow a try at once, as if so many had failed before it."""
        self.failures, self._failed_at = failures, self._clock()
        self._retry_at = self._failed_at

    def time_left(self) -> float:
        """Return the seconds until the next try, 0 if it may be now."""
        return max(0.0, self._retry_at - self._clock())
