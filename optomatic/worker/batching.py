"""How long units take, and so how many to claim, start and send at once.  Decides, does nothing."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

#: Seconds of work in one claim, and in one chunk that is started at once.
BATCH_SECONDS, CHUNK_SECONDS = 1.0, 0.05
#: Units in one claim, at most.
BATCH_UNITS = 64
#: A second chunk is started before the first is done where starting one would otherwise keep
#: a child idle for more than a tenth of its time; never for units longer than this, in
#: seconds: what is started behind a long unit could be scored elsewhere.
_LONGEST_AHEAD = 0.5
#: Seconds for which results of children may pile up unread, at least and at most.
_SHORTEST_CALM, _LONGEST_CALM = 0.002, 0.01
#: Weight of the newest measurement where it is below the known one.
_WEIGHT = 0.2


class Pace:
    """Measured seconds a unit, by what the units have in common, and a START."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._latest: float | None = None
        self._start = 0.0

    def note(self, work: str, seconds: float) -> None:
        """Note that a unit of `work` took `seconds`: up at once, down slowly."""
        seconds = max(seconds, 1e-5)
        known = self._seconds.get(work, seconds)
        self._seconds[work] = max(seconds, known + _WEIGHT * (seconds - known))
        self._latest = self._seconds[work]

    def note_call(self) -> None:
        """Note that a call of joblib was run: nothing follows from it for what comes next.

        Of calls a worker takes only what it can begin now.  joblib makes batches of the short
        ones itself, and behind a long one the next would wait while other workers idle.
        """
        self._latest = None

    def note_start(self, seconds: float) -> None:
        """Note what a START took."""
        self._start += 0.2 * (seconds - self._start)

    def of(self, work: str) -> float | None:
        """Return the seconds that a unit of `work` takes, None if none was measured."""
        return self._seconds.get(work)

    def batch(self, children: int, hungry: int, seconds: float = BATCH_SECONDS) -> int:
        """Return how many units to claim for `children`, of which `hungry` could begin now."""
        if self._latest is None:
            return hungry
        return max(hungry, min(BATCH_UNITS, ceil(seconds * children / self._latest)))

    def wants_more(self, queued: int) -> bool:
        """Tell whether a child that has `queued` units should be sent another chunk."""
        if queued == 0:
            return True
        if self._latest is None or self._latest > self._ahead():
            return False
        return queued * self._latest <= max(CHUNK_SECONDS, self._latest)

    def calm(self, queued: Sequence[int]) -> float:
        """Return for how long nobody needs an ear, in seconds.

        While every busy child has more to do, what they say may pile up: to be woken for
        each of many tiny units costs more than all that is done about it.

        Parameters
        ----------
        queued : sequence of int
            Units in the queue of each child.
        """
        busy = [units - 1 for units in queued if units]
        seconds = min(busy, default=0) * (self._latest or 0.0) / 2
        return min(seconds, _LONGEST_CALM) if seconds > _SHORTEST_CALM else 0.0

    def _ahead(self) -> float:
        return min(_LONGEST_AHEAD, max(CHUNK_SECONDS, 10 * self._start))
