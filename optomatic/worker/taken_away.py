"""What others took, while it runs here: a worker stops it."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterable

from optomatic.worker.children import Child
from optomatic.worker.intake import Intake

#: A unit that was taken away may go on for so many seconds: most are over by then, and a
#: new child takes longer to start.
_MERCY = 0.25


class TakenAway:
    """Units in hand that are not ours any more, whoever has them now.

    Parameters
    ----------
    intake : Intake
        Knows what is in hand.
    wake : callable
        Has the loop look around, and call :meth:`stop`.
    clock : callable
        The worker's clock.
    """

    def __init__(
        self,
        intake: Intake,
        wake: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._intake = intake
        self._wake = wake
        self._clock = clock
        self._noted: queue.SimpleQueue[frozenset[str]] = queue.SimpleQueue()
        self._kill_at: dict[str, float] = {}

    def note(self, ids: frozenset[str]) -> None:
        """Take note of some, in any thread."""
        self._noted.put(ids)
        self._wake()

    def forget(self, unit_id: str) -> None:
        """It is not in hand any more, so nothing runs it."""
        self._kill_at.pop(unit_id, None)

    def stop(self, children: Iterable[Child]) -> None:
        """Kill those of `children` that run what was taken away, after a moment."""
        now = self._clock()
        while not self._noted.empty():
            mine = [i for i in self._noted.get() if i in self._intake.mine]
            self._kill_at.update(dict.fromkeys(mine, now + _MERCY))
        for child in children if self._kill_at else ():
            running = child.running.job.id if child.running else None
            if running in self._kill_at and self._kill_at[running] <= now:
                child.kill("its unit was taken away")
        # What is still queued behind another unit is looked at again a little later.
        self._kill_at = {i: at if at > now else now + _MERCY for i, at in self._kill_at.items()}

    def time_left(self) -> float | None:
        """Return the seconds until :meth:`stop` is due, None if there is nothing to stop."""
        return min((at - self._clock() for at in self._kill_at.values()), default=None)
