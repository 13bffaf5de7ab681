"""When a generator is asked, and in which order it hears of results.

Both decide what an adaptive generator proposes.  So they are written down as events, and
a recorded search is gone through again event by event: whoever scores now, and in whatever
order, the generator sees the same.

    ["ask", 2]         it was asked for 2 candidates
    ["tell", [0, 3]]   it was told of the candidates 0 and 3, in this order
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil
from typing import Any

Event = list[Any]


class Live:
    """Tells as soon as there is something to tell; asks as late as keeps workers busy.

    Parameters
    ----------
    ahead : callable
        How many units should be queued or running.
    n_splits : int
        Units of a candidate.
    budget : int or None
        So many candidates are asked for, all in all.
    """

    def __init__(self, ahead: Callable[[], int], n_splits: int, budget: int | None) -> None:
        self._ahead = ahead
        self._n_splits = n_splits
        self._left = budget
        self._has_none_now = False
        self.exhausted = False

    def next(self, untold: Sequence[int], open_units: int) -> Event | None:
        """Return what is to be done now; None if that is to wait.

        Parameters
        ----------
        untold : sequence of int
            Candidates that have ended, of which the generator has not heard.
        open_units : int
        """
        if untold:
            self._has_none_now = False
            return ["tell", list(untold)]
        if self.exhausted or self._has_none_now:
            return None
        wanted = self._ahead() - open_units
        return ["ask", self._at_most(ceil(wanted / self._n_splits))] if wanted > 0 else None

    def _at_most(self, n: int) -> int:
        return n if self._left is None else min(n, self._left)

    def given(self, count: int, open_units: int, *, adaptive: bool) -> None:
        """Note how many candidates came of the last ``ask``.

        If there were none, an `adaptive` generator may have some once it hears of what is open.
        """
        if self._left is not None:
            self._left -= count
        if self._left == 0 or (not count and not (adaptive and open_units)):
            self.exhausted = True
        self._has_none_now = not count


class Recorded:
    """Goes through the events of an earlier search."""

    def __init__(self, events: Sequence[Event]) -> None:
        self._events = list(events)
        self._done = 0

    @property
    def exhausted(self) -> bool:
        """Whether nothing more was asked."""
        return all(event[0] == "tell" for event in self._events[self._done :])

    def next(self, untold: Sequence[int], open_units: int) -> Event | None:
        """As :meth:`Live.next`: the next event, once all that it tells of has ended."""
        if self._done == len(self._events):
            return None
        event = self._events[self._done]
        if event[0] == "tell" and not set(event[1]) <= set(untold):
            return None
        self._done += 1
        return event

    def given(self, count: int, open_units: int, *, adaptive: bool) -> None:
        """As :meth:`Live.given`: nothing follows from it."""
