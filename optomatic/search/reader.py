"""Read a search from the store: its candidates, their units, its table and its best candidate."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from optomatic.errors import BundleDamaged, RecordsInvalid, warn
from optomatic.plain_values import plain
from optomatic.planning.params import decode
from optomatic.planning.payload import Loaded, load_payload
from optomatic.planning.serialization import load
from optomatic.records import Candidate, Described
from optomatic.results.frames import SCORE, CandidateRow
from optomatic.results.table import Row, best_index_of, cv_results_of, splits_in_race
from optomatic.store.connection import Store
from optomatic.store.forms import RecordForm
from optomatic.store.listings import Listed


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


@dataclass(frozen=True, slots=True)
class Best:
    """The candidate that a search chose."""

    index: int
    params: dict[str, Any]
    score: float | None


def records_of(store: Store, search: str) -> list[RecordForm]:
    """Return the record of a search, and those of its later iterations.

    Raises
    ------
    ValueError
        If it is not there any more, or cannot be read.
    """
    found = store.searches.records(search)
    if not found:
        raise ValueError(
            f"The search {search} is not in the database any more, or its record cannot be read. "
            "Scores that other searches need are kept. Look at optomatic.searches()."
        )
    return found


class StoredTable:
    """Reads a search from the store, once.

    Parameters
    ----------
    store : Store
    search : str
        Its id.
    load_objects : bool
        Unpickle params that are objects, which runs code; otherwise they are text.
    """

    def __init__(self, store: Store, search: str, *, load_objects: bool = False) -> None:
        self._store = store
        self._objects = _Objects(store) if load_objects else None
        self.records = records_of(store, search)

    @cached_property
    def rows(self) -> list[Row]:
        """All candidates in order, with what came of their units so far."""
        return [row for record in self.records for row in self._rows_of(record)]

    @cached_property
    def results(self) -> dict[str, Any]:
        """``cv_results_`` of the candidates that are complete."""
        return cv_results_of(self.rows, self.records[0].n_splits, self.records[0].facts)

    def best(self) -> Best | None:
        """Return the best candidate: that which the search has noted, else by rank."""
        noted, facts = self.records[0].best, self.records[0].facts
        results = self.results
        index = noted["index"] if noted else best_index_of(results, self._metric(facts))
        if index is None or not index < len(results.get("params", ())):
            return None
        score = noted["score"] if noted else results[f"mean_test_{self._metric(facts)}"][index]
        return Best(index, results["params"][index], score)

    def _metric(self, facts: Mapping[str, Any]) -> str:
        if facts["refit"] is not None:
            return str(facts["refit"])
        if facts["kind"] == "function":
            named = [m for m, _ in facts["directions"] if f"rank_test_{m}" in self.results]
            ranked = [name for name in self.results if name.startswith("rank_test_")]
            return named[0] if named else "".join(ranked[:1]).removeprefix("rank_test_")
        return SCORE if facts["metrics"] is None else ""

    def _rows_of(self, record: RecordForm) -> Iterator[Row]:
        listed = self._store.searches.listed(record.id)
        ends = self._store.jobs.ends(listed.ids)
        n_splits = record.n_splits
        got, stopped = splits_in_race(listed.events, len(listed.candidates), n_splits)
        params = self._params_of(listed.candidates)
        for number, candidate in enumerate(listed.candidates):
            if candidate.reason is None:
                outcomes = [ends.get(i) for i in candidate.units[: got[number]]]
                yield Row(params[number], outcomes, number in stopped, record.more)

    def _params_of(self, candidates: Sequence[Candidate]) -> list[dict[str, Any]]:
        """Return the params of all candidates."""
        odd = [c for c in candidates if c.units and (c.text is None or c.shown)]
        texts = self._store.jobs.payloads([next(filter(None, c.units), "") for c in odd])
        return [self._read(candidate, texts) for candidate in candidates]

    def _read(self, candidate: Candidate, texts: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
        unit = next((i for i in candidate.units if i in texts), "")
        unit_text, payload = texts.get(unit, (None, ""))
        text = unit_text if candidate.text is None else candidate.text
        if text is None:
            return {}
        if self._objects is not None and candidate.shown and text == unit_text:
            objects = self._objects.of(payload)
            if objects is not None:
                return decode(text, objects)
        if not candidate.shown:
            return decode(text, str)
        return {**decode(text, str), **candidate.shown}


class _Objects:
    """Objects that params name, unpickled from payloads in the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._loaded: dict[str, Loaded] = {}

    def of(self, payload: str) -> Any:
        """Return what finds objects by their names in `payload`; None if it is not there."""
        try:
            first = self._load(payload)
        except BundleDamaged:
            return None

        def named(name: str) -> object:
            sha, _, number = name.rpartition(":")
            return (self._load(sha, first) if sha else first).values[int(number)]

        return named

    def _load(self, sha: str, first: Loaded | None = None) -> Loaded:
        if sha not in self._loaded:
            _, data = self._store.bundles.get(sha)
            self._loaded[sha] = load_payload(data, self._part, first)
        return self._loaded[sha]

    def _part(self, name: tuple[Any, ...]) -> Any:
        return load(*self._store.bundles.get(name[1]))
