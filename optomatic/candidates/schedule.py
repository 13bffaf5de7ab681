"""When a generator is asked, and in which order it hears of results.

Both decide what an adaptive generator proposes.  So they are written down as events, and
a recorded search is gone through again event by event: whoever scores now, and in whatever
order, the generator sees the same.

    ["ask", 2]         it was asked for 2 candidates
    ["tell", [0, 3]]   it was told of the candidates 0 and 3, in this order
    ["earlier", ...]   it was told of scores of earlier searches, before all else
                       (plan/course/earlier.py)

In a race (:mod:`optomatic.driver.state`) there are also

    ["racing", 3, 0.05, 5]     the first of all: min_splits, alpha, splits in all
    ["race", [0, 4], [1, 2]]   0 and 4 got one more split each; 1 and 2 were out (and are in
                               again if they get one later)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil
from typing import Any, Protocol

Event = list[Any]


#: So many candidates in a row, none of which was new, are the last that are asked for.
NOTHING_NEW = 1000
TRIED_BEFORE = "had all been tried before"


class Deciding(Protocol):
    """Says which candidates get further splits."""

    def is_ready(self, number: int) -> bool:
        """Tell whether it can be decided of a candidate."""

    def decide(self, *, all_known: bool) -> Event | None:
        """Return what is decided now; None if nothing can be."""


class NoRace:
    """Every candidate has got all of its splits at once."""

    told = ""
    opening: list[Event] = []

    def is_ready(self, number: int) -> bool:
        """Nobody waits for a decision."""
        return False

    def decide(self, *, all_known: bool) -> Event | None:
        """There is nothing to decide."""
        return None


NO_RACE = NoRace()


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
    sized : bool
        The candidates are a list or the like: all of them are asked for, new or not.

    Attributes
    ----------
    exhausted : bool
        Nothing more is asked for.
    reason : str
        Why, if the generator gave candidates to the end; else empty.
    """

    def __init__(
        self, ahead: Callable[[], int], n_splits: int, budget: int | None, *, sized: bool = False
    ) -> None:
        self._ahead = ahead
        self._n_splits = n_splits
        self._budget = self._left = budget
        self._sized = sized
        self._in_vain = self._repeated = 0
        #: Units that were open at an ask that brought nothing new; 0 if it did.
        self._open_then = 0
        self.exhausted = False
        self.reason = ""

    def next(
        self, untold: Sequence[int], open_units: int, race: Deciding = NO_RACE
    ) -> Event | None:
        """Return what is to be done now; None if that is to wait.

        Parameters
        ----------
        untold : sequence of int
            Candidates that have ended, of which the generator has not heard.
        open_units : int
        race : Deciding
        """
        if untold:
            if open_units < self._open_then:  # it hears of what was in flight
                self._open_then = 0
            return ["tell", list(untold)]
        decided = race.decide(all_known=self.exhausted)
        if decided is not None:
            return decided
        if self.exhausted or (self._open_then and open_units):
            return None
        wanted = self._ahead() - open_units
        return ["ask", self._at_most(ceil(wanted / self._n_splits))] if wanted > 0 else None

    def _at_most(self, n: int) -> int:
        return n if self._left is None else min(n, self._left)

    def given(self, count: int, open_units: int, *, adaptive: bool, kept: int, new: bool) -> None:
        """Note what came of the last ``ask``.

        Parameters
        ----------
        count : int
            Candidates.
        open_units : int
        adaptive : bool
            The generator may have others once it hears of what is open.
        kept : int
            Candidates that no filter left out.
        new : bool
            Whether the search had not asked for one of them before.
        """
        if self._left is not None:
            self._left -= count
        self._count_in_vain(count, kept, new)
        gives_nothing = not count or self._in_vain >= NOTHING_NEW
        hears_more = adaptive and open_units > 0
        if self._left == 0:
            self.exhausted = True
        elif gives_nothing and not hears_more:
            self.exhausted = True
            self.reason = self._why() if count else ""
        waits = gives_nothing or (kept > 0 and not new)
        self._open_then = open_units if hears_more and waits else 0

    def _count_in_vain(self, count: int, kept: int, new: bool) -> None:
        """Count candidates in a row that bring nothing; repeats do where a number is asked for."""
        brings_nothing = not new if self._budget is None else not kept
        if self._sized or not brings_nothing:
            self._in_vain = self._repeated = 0
        else:
            self._in_vain += count
            self._repeated += kept

    def _why(self) -> str:
        if not self._repeated:
            how = "were all left out"
        elif self._repeated == self._in_vain:
            how = TRIED_BEFORE
        else:
            how = "were all left out or had been tried before"
        return f"the last {self._in_vain:,} candidates {how}"


class Recorded:
    """Goes through the events of an earlier search."""

    reason = ""

    def __init__(self, events: Sequence[Event]) -> None:
        self._events = list(events)
        self._done = 0
        asks = [place for place, event in enumerate(events) if event[0] == "ask"]
        self._last_ask = max(asks, default=-1)

    @property
    def exhausted(self) -> bool:
        """Whether nothing more was asked."""
        return self._done > self._last_ask

    def next(
        self, untold: Sequence[int], open_units: int, race: Deciding = NO_RACE
    ) -> Event | None:
        """As :meth:`Live.next`: the next event, once all that it is about has ended.

        Who is still in the race after the last event is judged as in a new search.
        """
        if self._done == len(self._events):
            return race.decide(all_known=True)
        event = self._events[self._done]
        if event[0] == "tell" and not set(event[1]) <= set(untold):
            return None
        if event[0] == "race" and not all(map(race.is_ready, (*event[1], *event[2]))):
            return None
        self._done += 1
        return event

    def given(self, count: int, open_units: int, *, adaptive: bool, kept: int, new: bool) -> None:
        """As :meth:`Live.given`: nothing follows from it."""
