"""A search that ran before, or elsewhere: its table and its best candidate, from the store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from optomatic.errors import BundleDamaged
from optomatic.plan.packing.params import decode
from optomatic.planning.parts import load
from optomatic.planning.payload import Loaded, load_payload
from optomatic.records import Candidate
from optomatic.results.frames import SCORE
from optomatic.results.stored_table import Row, best_index_of, cv_results_of, splits_in_race
from optomatic.store.forms import RecordForm
from optomatic.store.opening import Store


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
