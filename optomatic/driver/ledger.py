"""What a search has asked for so far, and what has come of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from optomatic.plan.units.plan import Plan
from optomatic.records import Evaluation, Outcome, Unit
from optomatic.results.frames import evaluation_of
from optomatic.results.history import History


@dataclass(frozen=True, slots=True)
class Entry:
    """One proposed candidate: its units, one a split, or why it was left out.

    One that is out of the race has the units of its first splits only.
    """

    number: int
    params: dict[str, Any]
    ids: tuple[str, ...]
    reason: str | None


class Ledger:
    """All candidates of a search in the order in which they were proposed.

    Parameters
    ----------
    first : int or None
        In a race, how many splits a candidate gets at once; what the others need is held back.

    Attributes
    ----------
    entries : list of Entry
    outcomes : dict of str to Outcome
        By unit id, of what has an end.
    open : dict of str to Unit
        What has none yet.
    fresh : set of str
        Units that were scored while the search ran.
    in_race : dict of int to int
        Candidates that may get more splits, and how many they have got.
    stopped : dict of int to int
        Candidates that get no more, and after how many splits; none if there is no race.
    """

    def __init__(self, first: int | None = None) -> None:
        self.first = first
        self.entries: list[Entry] = []
        self.outcomes: dict[str, Outcome] = {}
        self.open: dict[str, Unit] = {}
        self.fresh: set[str] = set()
        self._places: dict[str, tuple[Mapping[str, Any], int]] = {}
        self._untold: dict[int, None] = {}
        self._evaluations: dict[int, Evaluation] = {}
        self._history = History()
        #: Candidates whose row of the history is not the last one.
        self._unsettled: dict[int, None] = {}
        self.in_race: dict[int, int] = {}
        self.stopped: dict[int, int] = {}
        self._held: dict[str, Unit] = {}
        self._whole: dict[int, Entry] = {}

    def add(
        self, candidates: Sequence[dict[str, Any]], reasons: Sequence[str | None], plan: Plan
    ) -> list[Unit]:
        """Note candidates; return the units among theirs that are new.

        Parameters
        ----------
        reasons : sequence of str or None
            Why a candidate was left out; None for those that `plan` is of.
        """
        kept = [c for c, reason in zip(candidates, reasons, strict=True) if reason is None]
        n_splits = len(plan.ids) // len(kept) if kept else 0
        ids = iter(plan.ids)
        for params, reason in zip(candidates, reasons, strict=True):
            own = () if reason else tuple(next(ids) for _ in range(n_splits))
            number = len(self.entries)
            self.entries.append(Entry(number, params, own, reason))
            self._untold[number] = None
            if reason is None:
                self._unsettled[number] = None
            for split, unit_id in enumerate(own):
                self._places.setdefault(unit_id, (params, split))
            if self.first is not None and len(own) > self.first:
                self.in_race[number] = self.first
        return self._opened(self._let_through(plan.units))

    def _let_through(self, units: Sequence[Unit]) -> list[Unit]:
        """Hold back what later splits need."""
        if self.first is None:
            return list(units)
        self._held.update((unit.id, unit) for unit in units if unit.split >= self.first)
        return [unit for unit in units if unit.split < self.first]

    def _opened(self, units: Iterable[Unit]) -> list[Unit]:
        """Return the units that are new, which are open now."""
        new = [u for u in units if u.id not in self.outcomes and u.id not in self.open]
        self.open.update((unit.id, unit) for unit in new)
        return new

    def to_judge(self) -> list[int]:
        """Return the candidates in the race all of whose splits so far have an end."""
        return [number for number in self.in_race if self.can_be_judged(number)]

    def can_be_judged(self, number: int) -> bool:
        """Tell whether a candidate is in the race, and all of its splits so far have an end."""
        got = self.in_race.get(number)
        return got is not None and all(map(self.ended, self.entries[number].ids[:got]))

    def so_far(self, number: int) -> list[Outcome]:
        """Return the outcomes of the splits that a candidate in the race has got."""
        ids = self.entries[number].ids[: self.in_race[number]]
        return [self.outcomes[unit_id] for unit_id in ids]

    def let_on(self, numbers: Sequence[int]) -> list[Unit]:
        """Give candidates one more split each; return the units that are new."""
        units = []
        for number in numbers:
            split, ids = self.in_race.pop(number), self.entries[number].ids
            if ids[split] in self._held:  # else it is equal to an earlier split, and there
                units.append(self._held[ids[split]])
            if split + 1 < len(ids):
                self.in_race[number] = split + 1
        return self._opened({unit.id: unit for unit in units}.values())

    def stop(self, numbers: Sequence[int]) -> None:
        """Note that candidates get no further splits."""
        for number in numbers:
            entry, got = self.entries[number], self.in_race.pop(number)
            self._whole[number] = entry
            self.entries[number] = replace(entry, ids=entry.ids[:got])
            self.stopped[number] = got

    def take_back(self, number: int) -> None:
        """Have a candidate in the race again that was stopped."""
        self.entries[number] = self._whole.pop(number)
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

    def place(self, unit_id: str) -> tuple[Mapping[str, Any], int]:
        """Return params and split of a unit."""
        return self._places[unit_id]

    def untold(self) -> list[int]:
        """Return the candidates that have ended, or were left out, and nobody was told of."""
        return [n for n in self._untold if not self._is_open(self.entries[n])]

    def _is_open(self, entry: Entry) -> bool:
        return entry.number in self.in_race or any(unit_id in self.open for unit_id in entry.ids)

    def told(self, numbers: Sequence[int]) -> list[Evaluation]:
        """Return what is known of candidates, which are now told of."""
        for number in numbers:
            self._untold.pop(number, None)
        return [self.evaluation(self.entries[number]) for number in numbers]

    def evaluation(self, entry: Entry) -> Evaluation:
        """Return what is known of a candidate."""
        known = self._evaluations.get(entry.number)
        if known is not None:
            return known
        if entry.reason is not None:
            found = Evaluation(entry.number, entry.params, "left out", {}, error=entry.reason)
        else:
            outcomes = [self.outcomes.get(unit_id) for unit_id in entry.ids]
            found = evaluation_of(entry.number, entry.params, outcomes)
            if entry.number in self.stopped and found.state == "completed":
                found = replace(found, state="stopped")
        if not self._is_open(entry):
            self._evaluations[entry.number] = found
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
            entry = self.entries[number]
            self._history.put(self.evaluation(entry))
            if not self._is_open(entry):
                del self._unsettled[number]
        return self._history.frame()

    def complete(self) -> list[Entry]:
        """Return the candidates all of whose units have an end; in a race, all that they got."""
        return [e for e in self.entries if e.reason is None and all(map(self.ended, e.ids))]

    def outcomes_of(self, entries: Iterable[Entry]) -> list[Outcome]:
        """Return the outcomes of candidates all of whose units have an end, in order."""
        return [self.outcomes[unit_id] for entry in entries for unit_id in entry.ids]

    def ended(self, unit_id: str) -> bool:
        """Tell whether a unit has an end."""
        return unit_id in self.outcomes
