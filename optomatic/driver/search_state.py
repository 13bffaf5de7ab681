"""The state of a search's candidates: their units, the ends of these, and the race."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from optomatic.candidates.ask_tell import Event
from optomatic.candidates.racing import Racing, leaders, losers
from optomatic.records import Candidate, Evaluation, Outcome, Unit
from optomatic.results.frames import History, evaluation_of


class SearchState:
    """All candidates of a search in the order in which they were proposed.

    Attributes
    ----------
    candidates : list of Candidate
        A stopped one has the units of its first splits only.
    first : int or None
        In a race, how many splits a candidate gets at once; the other units are held back.
    outcomes : dict of str to Outcome
        By unit id, of units that have an end.
    open : dict of str to Unit
        The other units.
    fresh : set of str
        Units that were scored while the search ran.
    in_race : dict of int to int
        Candidates that may get more splits, and how many they have got.
    stopped : dict of int to int
        Candidates that get no more, and after how many splits.
    """

    def __init__(self, first: int | None = None) -> None:
        self.first = first
        self.candidates: list[Candidate] = []
        self.outcomes: dict[str, Outcome] = {}
        self.open: dict[str, Unit] = {}
        self.fresh: set[str] = set()
        self._places: dict[str, tuple[int, int]] = {}
        self._untold: dict[int, None] = {}
        self._evaluations: dict[int, Evaluation] = {}
        self._history = History()
        #: Candidates whose row of the history is not the last one.
        self._unsettled: dict[int, None] = {}
        self.in_race: dict[int, int] = {}
        self.stopped: dict[int, int] = {}
        self._held: dict[str, Unit] = {}
        self._whole: dict[int, Candidate] = {}

    def add(self, candidates: Sequence[Candidate], units: Sequence[Unit]) -> list[Unit]:
        """Add candidates, left-out ones included, and units; return the units that are new."""
        for candidate in candidates:
            number, own = len(self.candidates), candidate.units
            self.candidates.append(candidate)
            self._untold[number] = None
            if candidate.reason is None:
                self._unsettled[number] = None
            for split, unit_id in enumerate(own):
                self._places.setdefault(unit_id, (number, split))
            if self.first is not None and len(own) > self.first:
                self.in_race[number] = self.first
        if self.first is None:
            return self._opened(units)
        self._held.update((unit.id, unit) for unit in units if unit.split >= self.first)
        return self._opened(unit for unit in units if unit.split < self.first)

    def _opened(self, units: Iterable[Unit]) -> list[Unit]:
        """Return the units that are new, which are open now."""
        new = [u for u in units if u.id not in self.outcomes and u.id not in self.open]
        self.open.update((unit.id, unit) for unit in new)
        return new

    def can_be_judged(self, number: int) -> bool:
        """Return whether a candidate is in the race, and all of its splits so far have an end."""
        got = self.in_race.get(number)
        return got is not None and self._have_ended(self.candidates[number].units[:got])

    def _have_ended(self, units: Sequence[str]) -> bool:
        return all(unit_id in self.outcomes for unit_id in units)

    def so_far(self, number: int) -> list[Outcome]:
        """Return the outcomes of the splits that a candidate in the race has got."""
        ids = self.candidates[number].units[: self.in_race[number]]
        return [self.outcomes[unit_id] for unit_id in ids]

    def let_on(self, numbers: Sequence[int]) -> list[Unit]:
        """Give candidates one more split each; return the units that are new."""
        units = []
        for number in numbers:
            split, ids = self.in_race.pop(number), self.candidates[number].units
            if ids[split] in self._held:  # else it is equal to an earlier split, and there
                units.append(self._held[ids[split]])
            if split + 1 < len(ids):
                self.in_race[number] = split + 1
        return self._opened({unit.id: unit for unit in units}.values())

    def stop(self, numbers: Sequence[int]) -> None:
        """Note that candidates get no further splits."""
        for number in numbers:
            whole, got = self.candidates[number], self.in_race.pop(number)
            self._whole[number] = whole
            self.candidates[number] = replace(whole, units=whole.units[:got])
            self.stopped[number] = got

    def take_back(self, number: int) -> None:
        """Have a candidate in the race again that was stopped."""
        self.candidates[number] = self._whole.pop(number)
        self.in_race[number] = self.stopped.pop(number)
        self._unsettled[number] = None
        self._evaluations.pop(number, None)

    def end(self, outcomes: Mapping[str, Outcome], *, fresh: bool) -> None:
        """Note ends of units."""
        self.outcomes.update(outcomes)
        for unit_id in outcomes:
            self.open.pop(unit_id, None)
        if fresh:
            self.fresh.update(outcomes)

    def where(self, unit_id: str) -> tuple[int, int]:
        """Return the number of a unit's first candidate, and its split."""
        return self._places[unit_id]

    def place(self, unit_id: str) -> tuple[Mapping[str, Any], int]:
        """Return params and split of a unit."""
        number, split = self.where(unit_id)
        return self.candidates[number].params, split

    def untold(self) -> list[int]:
        """Return the candidates that have ended, or were left out, of which none was told yet."""
        return [n for n in self._untold if not self._is_open(n)]

    def _is_open(self, number: int) -> bool:
        units = self.candidates[number].units
        return number in self.in_race or any(unit_id in self.open for unit_id in units)

    def told(self, numbers: Sequence[int]) -> list[Evaluation]:
        """Return what is known of candidates, which are now told of."""
        for number in numbers:
            self._untold.pop(number, None)
        return [self.evaluation(number) for number in numbers]

    def evaluation(self, number: int) -> Evaluation:
        """Return what is known of a candidate."""
        if number in self._evaluations:
            return self._evaluations[number]
        candidate = self.candidates[number]
        if candidate.reason is not None:
            found = Evaluation(number, candidate.params, "left out", {}, error=candidate.reason)
        else:
            outcomes = [self.outcomes.get(unit_id) for unit_id in candidate.units]
            found = evaluation_of(number, candidate.params, outcomes)
            if number in self.stopped and found.state == "completed":
                found = replace(found, state="stopped")
        if not self._is_open(number):
            self._evaluations[number] = found
        return found

    def note_earlier(self, evaluations: Iterable[Evaluation]) -> None:
        """Begin the history with candidates of earlier searches."""
        for evaluation in evaluations:
            self._history.put(evaluation)

    def history(self) -> pd.DataFrame:
        """Return all candidates that were not left out, those in flight included.

        Those of earlier searches come first: their ``earlier`` is true.
        """
        for number in list(self._unsettled):
            self._history.put(self.evaluation(number))
            if not self._is_open(number):
                del self._unsettled[number]
        return self._history.frame()

    def complete(self) -> list[int]:
        """Return the candidates all of whose units have an end; in a race, all that they got."""
        return [
            number
            for number, candidate in enumerate(self.candidates)
            if candidate.reason is None and self._have_ended(candidate.units)
        ]

    def outcomes_of(self, number: int) -> list[Outcome]:
        """Return the outcomes of a candidate that is complete, one a split."""
        return [self.outcomes[unit_id] for unit_id in self.candidates[number].units]


# The race of one search decides which candidates get a further split.
#
# Every candidate gets its first splits; its later units are held back until a decision lets them
# through.  Stored scores are looked up only then: a decision never depends on units that were
# scored by chance, so a second search stops the same candidates.
#
# Where all candidates are known beforehand a decision is taken when all that are in the race
# have as many splits, so it depends on scores alone, not on workers or their order.
# Otherwise a candidate is judged as soon as its own splits so far have ended, against the leaders
# of that moment; the events of the search (:mod:`optomatic.candidates.ask_tell`) have the decision,
# and a replay repeats it.  If all that have got every split failed in the end, the best of the
# others is taken back into the race.


class Race:
    """Judges candidates whose splits so far have ended.

    `ratios` are ``n_test / n_train`` of each split; `score_of` returns the test score of an outcome
    that decides, greater is better.
    """

    def __init__(
        self,
        racing: Racing,
        state: SearchState,
        ratios: Sequence[float],
        score_of: Callable[[Outcome], float],
    ) -> None:
        self._racing = racing
        self._state = state
        self._ratios = ratios
        self._score_of = score_of
        self._scores: dict[int, list[float]] = {}
        #: Whether candidates wait for each other; only where all of them come at once.
        self.together = False

    @property
    def told(self) -> str:
        """How many are out so far, and what that spared, for people."""
        candidates, stopped = self._state.candidates, self._state.stopped
        raced = sum(candidate.reason is None for candidate in candidates)
        spared = sum(len(self._ratios) - got for got in stopped.values())
        return (
            f"{len(stopped)} of {raced} candidates stopped early by racing, {spared} units spared"
        )

    @property
    def opening(self) -> Event:
        """The first event of the search."""
        return ["racing", self._racing.min_splits, self._racing.alpha, len(self._ratios)]

    def is_ready(self, number: int) -> bool:
        """Return whether the splits so far of a candidate have ended, and it may get more."""
        return number in self._state.stopped or self._state.can_be_judged(number)

    def decide(self, *, all_known: bool) -> Event | None:
        """Judge the candidates that can be judged now; return None if none can.

        With `all_known` no more candidates will come.
        """
        in_race = self._state.in_race
        if not in_race:
            return self._rescue() if all_known and not self._state.open else None
        if self.together and (self._state.open or not all_known):
            return None
        ready = [number for number in in_race if self._state.can_be_judged(number)]
        if not ready or (self.together and len(ready) < len(in_race)):
            return None
        self._note(ready)
        out = losers(self._scores, ready, self._ratios, self._racing.alpha)
        return ["race", sorted(set(ready).difference(out)), out]

    def _rescue(self) -> Event | None:
        """Have the best that was stopped go on, if none of those that went on has a score.

        They failed on a later split; without this there would be no best candidate at all.
        """
        stopped = self._state.stopped
        if not stopped:
            return None
        means = {number: self._mean(number) for number in self._state.complete()}
        if any(math.isfinite(mean) for n, mean in means.items() if n not in stopped):
            return None
        best = max(stopped, key=lambda n: (math.isfinite(means[n]), means[n], -n))
        return ["race", [best], []] if math.isfinite(means[best]) else None

    def _mean(self, number: int) -> float:
        scores = [self._score_of(outcome) for outcome in self._state.outcomes_of(number)]
        return math.fsum(scores) / len(scores) if all(map(math.isfinite, scores)) else -math.inf

    def _note(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            outcomes = self._state.so_far(number)
            self._scores[number] = [self._score_of(outcome) for outcome in outcomes]

    def carry_out(self, go_on: Sequence[int], out: Sequence[int]) -> list[Unit]:
        """Do what was decided, now or in the search that is replayed; return what to score next."""
        for number in go_on:
            if number in self._state.stopped:
                self._state.take_back(number)
        self._note(go_on)
        for number in out:  # no candidate is compared with them any more
            self._scores.pop(number, None)
        self._state.stop(out)
        new = self._state.let_on(go_on)
        self._forget_who_leads_nobody()
        return new

    def _forget_who_leads_nobody(self) -> None:
        """Keep, of candidates that cannot be out any more, those that others are compared with."""
        safe = {n: own for n, own in self._scores.items() if n not in self._state.in_race}
        for number in set(safe).difference(leaders(safe)):
            del self._scores[number]
