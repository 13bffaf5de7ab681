"""What a search in the store asked for, and what came of it: candidates with their units."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from optomatic.errors import RecordsInvalid
from optomatic.plain_values import plain
from optomatic.plan.packing.params import decode
from optomatic.records import Candidate, Described
from optomatic.results.frames import CandidateRow
from optomatic.results.stored_table import splits_in_race
from optomatic.store.forms import RecordForm
from optomatic.store.listings import Listed
from optomatic.store.opening import Store
from optomatic.warning import warn


def listed_ids(store: Store, search: str) -> list[str]:
    """Return the ids of the units of `search`; warn if some of them are not known."""
    parts = store.searches.parts(search)
    ids = [unit_id for part in parts for unit_id in store.searches.unit_ids(part)]
    warn_of_lost_lists(store, parts)
    return ids


def warn_of_lost_lists(store: Store, parts: Sequence[str]) -> None:
    """Warn if lists of units of these searches cannot be read."""
    if lost := sum(map(store.searches.invalid_lists, parts)):
        warn(
            f"{lost} lists of units of this search could not be read, as something changed what "
            "was written: what is told of it is of the other units. No score was lost. Make the "
            "search again to have all of it: what is stored is not scored again.",
            RecordsInvalid,
        )


@dataclass(frozen=True, slots=True)
class Part:
    """What a search asks for, or an iteration of one.

    Attributes
    ----------
    record : RecordForm
    listed : Listed
    got : list of int
        On how many splits each candidate was asked for.
    stopped : set of int
        Candidates that racing gave no more.
    """

    record: RecordForm
    listed: Listed
    got: list[int]
    stopped: set[int]

    def rest(self, number: int) -> str:
        """Return the state of the splits on which a candidate was not asked for."""
        if number in self.stopped:
            return "stopped"
        return "pending" if self.record.state == "running" else "cancelled"


def read_parts(store: Store, search: str) -> list[Part]:
    """Return what a search asks for, by iteration; empty if it is not there any more."""
    parts = []
    for record in store.searches.records(search):
        listed = store.searches.listed(record.id)
        race = splits_in_race(listed.events, len(listed.candidates), record.n_splits)
        parts.append(Part(record, listed, *race))
    warn_of_lost_lists(store, [part.record.id for part in parts])
    return parts


def rows_of(
    store: Store, parts: Sequence[Part], ids: Sequence[str] | None = None
) -> list[CandidateRow]:
    """Return the candidates in order, with their units; of these only `ids`, if given."""
    asked = [unit_id for part in parts for unit_id in part.listed.ids]
    units = store.jobs.inspected(asked if ids is None else ids)
    rows: list[CandidateRow] = []
    for part in parts:
        for number, candidate in enumerate(part.listed.candidates):
            got = 0 if candidate.reason is not None else part.got[number]
            own = [units.get(unit_id) for unit_id in candidate.units[:got]]
            rest = part.rest(number)
            own += [None] * (len(candidate.units) - len(own))
            params = shown_params_of(candidate, own)
            rows.append(
                CandidateRow(len(rows), params, candidate.reason, own, got, rest, part.record.more)
            )
    return rows


def shown_params_of(candidate: Candidate, units: Iterable[Described | None] = ()) -> dict[str, Any]:
    """Return the params of a candidate for people: objects as text, numbers as Python's."""
    text = candidate.text or next((unit.params_text for unit in units if unit), None)
    params = {} if text is None else decode(text, str)
    return {name: plain(value) for name, value in {**params, **candidate.shown}.items()}
