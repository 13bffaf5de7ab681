"""The race of one search: who of its candidates gets a further split, and who does not.

Every candidate gets its first splits; what its later ones need is held back in the ledger until a
decision lets it through.  What is stored already is looked up only then: a decision never
depends on what was scored by chance, so a second search stops the same candidates.

Where all candidates are known beforehand a decision is taken when all that are in the race
have as many splits, so it depends on scores alone, whoever scores and in whatever order.
Otherwise a candidate is judged as soon as its own splits so far have ended, against whoever leads
then; the events of the search (:mod:`optomatic.plan.course.schedule`) say what came of it, and a
replay repeats that.  If all that have got every split failed in the end, the best of the others
is taken back into the race.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from optomatic.driver.ledger import Entry, Ledger
from optomatic.plan.course.racing import Racing, leaders, losers
from optomatic.plan.course.schedule import Event
from optomatic.records import Outcome, Unit


class Race:
    """Judges candidates whose splits so far have ended.

    Parameters
    ----------
    racing : Racing
    ledger : Ledger
        That holds units back from ``racing.min_splits`` on.
    ratios : sequence of float
        ``n_test / n_train`` of each split.
    score_of : callable
        Outcome -> the test score that decides, greater is better.
    """

    def __init__(
        self,
        racing: Racing,
        ledger: Ledger,
        ratios: Sequence[float],
        score_of: Callable[[Outcome], float],
    ) -> None:
        self._racing = racing
        self._ledger = ledger
        self._ratios = ratios
        self._score_of = score_of
        self._scores: dict[int, list[float]] = {}
        #: Whether candidates wait for each other; only where all of them come at once.
        self.together = False

    @property
    def told(self) -> str:
        """How many are out so far, and what that spared, for people."""
        entries, stopped = self._ledger.entries, self._ledger.stopped
        raced = sum(entry.reason is None for entry in entries)
        spared = sum(len(self._ratios) - got for got in stopped.values())
        return (
            f"{len(stopped)} of {raced} candidates stopped early by racing, {spared} units spared"
        )

    @property
    def opening(self) -> list[Event]:
        """What the events of the search begin with."""
        return [["racing", self._racing.min_splits, self._racing.alpha, len(self._ratios)]]

    def is_ready(self, number: int) -> bool:
        """Tell whether the splits so far of a candidate have ended, and it may get more."""
        return number in self._ledger.stopped or self._ledger.can_be_judged(number)

    def decide(self, *, all_known: bool) -> Event | None:
        """Judge who can be judged now; None if nobody can.

        Parameters
        ----------
        all_known : bool
            Whether no more candidates will come.
        """
        in_race = self._ledger.in_race
        if not in_race:
            return self._rescue() if all_known and not self._ledger.open else None
        if self.together and (self._ledger.open or not all_known):
            return None
        ready = self._ledger.to_judge()
        if not ready or (self.together and len(ready) < len(in_race)):
            return None
        self._note(ready)
        out = losers(self._scores, ready, self._ratios, self._racing.alpha)
        return ["race", sorted(set(ready).difference(out)), out]

    def _rescue(self) -> Event | None:
        """Have the best that was stopped go on, if none of those that went on has a score.

        They failed on a later split; without this there would be no best candidate at all.
        """
        stopped = self._ledger.stopped
        if not stopped:
            return None
        means = {entry.number: self._mean(entry) for entry in self._ledger.complete()}
        if any(math.isfinite(mean) for n, mean in means.items() if n not in stopped):
            return None
        best = max(stopped, key=lambda n: (math.isfinite(means[n]), means[n], -n))
        return ["race", [best], []] if math.isfinite(means[best]) else None

    def _mean(self, entry: Entry) -> float:
        scores = [self._score_of(self._ledger.outcomes[unit_id]) for unit_id in entry.ids]
        return math.fsum(scores) / len(scores) if all(map(math.isfinite, scores)) else -math.inf

    def _note(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            outcomes = self._ledger.so_far(number)
            self._scores[number] = [self._score_of(outcome) for outcome in outcomes]

    def carry_out(self, go_on: Sequence[int], out: Sequence[int]) -> list[Unit]:
        """Do what was decided, now or in the search that is replayed; return what to score next."""
        for number in go_on:
            if number in self._ledger.stopped:
                self._ledger.take_back(number)
        self._note(go_on)
        for number in out:  # nobody is compared with them any more
            self._scores.pop(number, None)
        self._ledger.stop(out)
        new = self._ledger.let_on(go_on)
        self._forget_who_leads_nobody()
        return new

    def _forget_who_leads_nobody(self) -> None:
        """Keep, of candidates that cannot be out any more, those that others are compared with."""
        safe = {n: own for n, own in self._scores.items() if n not in self._ledger.in_race}
        for number in set(safe).difference(leaders(safe)):
            del self._scores[number]
