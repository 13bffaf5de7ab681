"""What becomes of the units in hand: done, failed, crashed or given back, and counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from optomatic.records import Failure, Result, Returned
from optomatic.store.extending import search_of
from optomatic.worker.intake import Held, Intake
from optomatic.worker.outbox import Outbox
from optomatic.worker.taken_away import TakenAway

#: Stands for calls of joblib where searches are counted: these have no search.
CALLS = "calls of joblib"


class Account:
    """Takes units out of this worker's hands, and owes the store what became of them.

    Parameters
    ----------
    intake : Intake
        Has what is in hand.
    outbox : Outbox
        Has what is owed.
    taken : TakenAway
    most : int, optional
        So many units may be scored.

    Attributes
    ----------
    scored, failed, crashed : int
        Units that came to a result, those of them with failures, and children that a unit ended.
        What a child refuses, and then ends, is none of these.
    by_search : Counter of str
        Units that came to a result, by the id of the search that waited for them, or `CALLS`.
    may_be_over : bool
        Whether all work may be over, though it was not when that was asked last: something
        was claimed or worked off since.
    """

    def __init__(
        self, intake: Intake, outbox: Outbox, taken: TakenAway, *, most: int | None = None
    ) -> None:
        self._intake = intake
        self._outbox = outbox
        self._taken = taken
        self._most = most
        self._arrived: list[str] = []
        self.scored = self.failed = self.crashed = 0
        self.by_search: Counter[str] = Counter()
        self.may_be_over = False

    def left(self) -> int | None:
        """Return how many units may still be claimed, None if there is no limit."""
        if self._most is None:
            return None
        return max(0, self._most - self.scored - len(self._intake.mine))

    def arrived(self) -> list[str]:
        """Return the units whose results arrived since the last call."""
        arrived, self._arrived = self._arrived, []
        return arrived

    def done(self, held: Held, result: Result | Returned) -> None:
        """Take the result of a unit."""
        self._outbox.result(held.token, held.job.id, result)
        self._arrived.append(held.job.id)
        self._intake.worked()
        self.scored += 1
        self.failed += bool(result.failures)
        self.by_search.update(_searches_of(held))
        self._settle(held)

    def fail(self, held: Held, failure: Failure) -> None:
        """Take note that a unit failed before it could come to any score: a result, too."""
        failures = (failure,)
        if held.job.kind == "call":
            self.done(held, Returned(failures=failures))
        else:
            self.done(held, Result(None, None, 0.0, 0.0, 0, failures))

    def crash(self, held: Held, how: str) -> None:
        """Take note that a unit ended the child that ran it, so it is charged."""
        self.crashed += 1
        self._outbox.crash(held.token, held.job.id, how)
        self._settle(held)

    def release(self, chunk: Iterable[Held], begun: Held | None = None) -> None:
        """Give back `chunk`, uncharged; of it only `begun` has run, for a while."""
        ran = () if begun is None else (begun.job.id,)
        by_token: dict[str, list[str]] = {}
        for held in list(chunk):
            by_token.setdefault(held.token, []).append(held.job.id)
            self._settle(held)
        for token, ids in by_token.items():
            self._outbox.release(token, ids, ran)

    def _settle(self, held: Held) -> None:
        self._intake.settle(held)
        self._taken.forget(held.job.id)
        self.may_be_over = not self._intake.mine


def _searches_of(held: Held) -> set[str]:
    return {CALLS} if held.job.kind == "call" else set(map(search_of, held.job.searches))
