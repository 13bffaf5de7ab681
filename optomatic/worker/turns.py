"""What a search does between its units, in the thread that has them scored."""

from __future__ import annotations

from typing import Protocol


class Turns(Protocol):
    """The other side of an engine: it looks what is finished, queues more, and ends early.

    Both are called in the thread that called the engine's ``work``, often.  What they raise
    ends the work: results are handed in, the rest is given back.
    """

    def turn(self) -> bool:
        """Look what has ended, and queue what follows from it; tell whether anything was queued.

        Called when all that was finished here is in the store: after each lease or hand-in,
        and a few times a second while nothing happens.
        """

    def grace(self) -> float | None:
        """Return None, or, once the search is to end early, for how long units may go on.

        In seconds.  Must cost next to nothing: it is asked between any two units.
        """


class NoTurns:
    """A search whose units are all queued before the work begins."""

    def turn(self) -> bool:
        """Nothing follows."""
        return False

    def grace(self) -> float | None:
        """It goes on."""
        return None


NO_TURNS = NoTurns()
