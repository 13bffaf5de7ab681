"""Batch sizing: how many units to claim, start and send at once, by how long they take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import ceil

from optomatic.store.batches import SIZES

#: Seconds of work in one claim, and in one chunk that is started at once.
BATCH_SECONDS, CHUNK_SECONDS = 1.0, 0.05
#: A chunk of so few units may be of more seconds: a START costs several milliseconds of the cores
#: that units compute on, a tenth of a unit of 30 ms.  All of a chunk is charged if its process is
#: killed, but never more units than of a chunk of short ones.
FEW_UNITS, FEW_SECONDS = 8, 0.25
#: Units in one claim, at most: those of the largest batch in the store.
BATCH_UNITS = SIZES[-1]
#: A second chunk is started before the first is done where starting one would otherwise keep
#: a child idle for more than a fortieth of its time; never for units longer than this, in
#: seconds: what is started behind a long unit could be scored elsewhere.
_LONGEST_AHEAD = 0.5
#: Seconds for which results of children may pile up unread, at least and at most.
_SHORTEST_CALM, _LONGEST_CALM = 0.002, 0.01
#: Weight of the newest of many measurements in the mean.
_WEIGHT = 0.2


class BatchSizing:
    """Measured seconds of a unit, by what units have in common, and of a START.

    A claim takes `seconds` of work.
    """

    def __init__(self, seconds: float = BATCH_SECONDS) -> None:
        self._batch_seconds = seconds
        self._seconds: dict[str, float] = {}
        self._measured: Counter[str] = Counter()
        self._latest: float | None = None
        self._start = 0.0

    def measured(self, seconds: float, work: str = "") -> None:
        """Note that a unit of `work` took `seconds`; what is known is a mean of the latest.

        A sum is planned with it, which one unit that had to wait for a core changes little.
        """
        seconds = max(seconds, 1e-5)
        self._measured[work] += 1
        known = self._seconds.get(work, seconds)
        weight = max(_WEIGHT, 1 / self._measured[work])
        self._seconds[work] = self._latest = known + weight * (seconds - known)

    def ran_call(self) -> None:
        """Note that a call of joblib was run: it does not predict what comes next.

        A worker takes only the calls that it can begin now.  joblib itself makes batches of short
        ones, and behind a long one the next would wait while other workers idle.
        """
        self._latest = None

    def started(self, seconds: float) -> None:
        """Note how long a START took."""
        self._start += 0.2 * (seconds - self._start)

    def seconds_of(self, work: str) -> float | None:
        """Return the seconds that a unit of `work` takes, None if none was measured."""
        return self._seconds.get(work)

    def batch(self, children: int = 1, idle: int = 1) -> int:
        """Return how many units to claim for `children`, of which `idle` could begin now."""
        if self._latest is None:
            return idle
        return max(idle, min(BATCH_UNITS, ceil(self._batch_seconds * children / self._latest)))

    def chunk(self) -> int:
        """Return how many units to start at once where all are alike."""
        if self._latest is None:
            return 1
        few = min(FEW_UNITS, int(FEW_SECONDS / self._latest))
        return max(1, few, int(CHUNK_SECONDS / self._latest))

    def fits(self, units: int, seconds: float) -> bool:
        """Return whether `units` that take so many seconds together are one chunk at most."""
        return seconds <= (FEW_SECONDS if units <= FEW_UNITS else CHUNK_SECONDS)

    def wants_more(self, sent: int) -> bool:
        """Return whether to send another chunk to a child that has `sent` units."""
        return sent == 0 or self._ahead(sent, CHUNK_SECONDS)

    def takes(self, sent: int) -> bool:
        """Return whether a child that has `sent` units takes another chunk if one is started."""
        return self._ahead(sent, max(1.5 * CHUNK_SECONDS, self.chunk() * (self._latest or 0.0) / 2))

    def _ahead(self, sent: int, seconds: float) -> bool:
        """Return whether a child has at most so much, and units that are short enough for more."""
        latest = self._latest or 0.0
        return self.are_short() and sent * latest <= max(seconds, latest)

    def are_short(self) -> bool:
        """Return whether units are so short that a chunk is started before the last is done."""
        longest = min(_LONGEST_AHEAD, max(CHUNK_SECONDS, 40 * self._start))
        return self._latest is not None and self._latest <= longest

    def unread(self, sent: Sequence[int]) -> float:
        """Return for how many seconds results may wait unread, by units sent to each child.

        While every busy child has more to do, results may pile up: waking for each of many tiny
        units costs more than all that is done about it.
        """
        busy = [units - 1 for units in sent if units]
        seconds = min(busy, default=0) * (self._latest or 0.0) / 2
        return min(seconds, _LONGEST_CALM) if seconds > _SHORTEST_CALM else 0.0
