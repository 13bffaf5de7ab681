"""Read a search from the store: records, candidates, units, table and best candidate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from html import escape
from typing import Any, NamedTuple

from optomatic.errors import BundleDamaged, RecordsInvalid, warn
from optomatic.garbage import without_collector
from optomatic.planning.params import decode, params_line, plain
from optomatic.planning.payload import Loaded, load_payload
from optomatic.planning.serialization import load
from optomatic.progress.notebook import MOST_ROWS, Cell, grid_html
from optomatic.records import ENDED, Candidate, Described, Inspected
from optomatic.results.frames import SCORE, CandidateRow
from optomatic.results.table import Row, best_index_of, cv_results_of, splits_in_race
from optomatic.store.connection import Store
from optomatic.store.documents import RecordForm
from optomatic.store.jobs import Glance
from optomatic.store.searches import Listed, ids_that_wait, state_of


class Asked(NamedTuple):
    """A candidate of a search, and the units that the search asked for.

    `ids` are units on the first splits: a race does not ask for all, and for none that a filter
    left out.  Racing has `stopped` a candidate that gets no more splits.  The `record` is that of
    the search, or of the iteration that has this candidate.
    """

    candidate: Candidate
    ids: Sequence[str]
    stopped: bool
    record: RecordForm

    @property
    def rest(self) -> str:
        """Return the state of the splits that were not asked for."""
        if self.stopped:
            return "stopped"
        return "pending" if self.record.state == "running" else "cancelled"


@dataclass(frozen=True, slots=True)
class Best:
    """The candidate that a search chose."""

    index: int
    params: dict[str, Any]
    score: float | None


class SearchReader:
    """Reads a search from the store, each thing once.  The only reader of what searches list.

    With `load_objects` params that are objects are unpickled, which runs code; otherwise they are
    text.  The ``records`` are those of the search and of later iterations of successive halving,
    none if it was removed.
    """

    def __init__(self, store: Store, search: str, *, load_objects: bool = False) -> None:
        self._store = store
        self._search = search
        self._objects = _Objects(store) if load_objects else None
        self._lists: dict[str, Listed] = {}
        self.records = store.searches.records(search)

    @property
    def first(self) -> RecordForm:
        """The record of the search; raise ValueError if there is none."""
        if not self.records:
            raise ValueError(
                f"The search {self._search} is not in the database any more, or its record cannot "
                "be read. Scores that other searches need are kept. Look at optomatic.searches()."
            )
        return self.records[0]

    @property
    def state(self) -> str:
        """The state of the search, as people see it."""
        last = (self.records or [self.first])[-1]
        waits = self._store.jobs.waits(ids_that_wait(last.id))
        return state_of(last, self._store.jobs.server_time(), waits=waits)

    @cached_property
    def parts(self) -> list[str]:
        """The ids of the search and its later iterations, also if their records are damaged."""
        return self._store.searches.iterations(self._search)

    @cached_property
    def waiting_ids(self) -> list[str]:
        """The ids under which units wait for the search."""
        return [name for part in self.parts for name in ids_that_wait(part)]

    def listed(self, part: str) -> Listed:
        """Return what the search, or an iteration of it, asks for."""
        if part not in self._lists:
            self._lists[part] = self._store.searches.listed(part)
        return self._lists[part]

    @cached_property
    def ids(self) -> list[str]:
        """The ids of all units, each once: extend and the client may both ask for a unit."""
        return list(dict.fromkeys(i for part in self.parts for i in self.listed(part).ids))

    @cached_property
    def glances(self) -> dict[str, Glance]:
        """State and end of the units that are there."""
        return self._store.jobs.glances(self.ids)

    @cached_property
    def asked(self) -> list[Asked]:
        """All candidates in order."""
        found = []
        for record in self.records:
            listed = self.listed(record.id)
            got, stopped = splits_in_race(listed.events, len(listed.candidates), record.n_splits)
            for number, candidate in enumerate(listed.candidates):
                count = 0 if candidate.reason is not None else got[number]
                ids = candidate.units[:count]
                found.append(Asked(candidate, ids, number in stopped, record))
        return found

    def warn_of_lost_lists(self) -> None:
        """Warn if lists of units cannot be read."""
        if lost := sum(map(self._store.searches.invalid_lists, self.parts)):
            warn(
                f"{lost} lists of units of this search could not be read, because something "
                "changed them. The result covers the other units. No score was lost. Make the "
                "search again to see all of it: stored units are not scored again.",
                RecordsInvalid,
            )

    @without_collector()
    def candidate_rows(self, ids: Sequence[str] | None = None) -> list[CandidateRow]:
        """Return all candidates in order with their units, or with only `ids` of them."""
        units = self._store.jobs.inspected(self.ids if ids is None else ids)
        return [self._row(number, one, units) for number, one in enumerate(self.asked)]

    @staticmethod
    def _row(number: int, one: Asked, units: Mapping[str, Inspected]) -> CandidateRow:
        own = [units.get(unit_id) for unit_id in one.ids]
        params = shown_params(one.candidate, own)
        own += [None] * (len(one.candidate.units) - len(own))
        more, count = one.record.more, len(one.ids)
        return CandidateRow(number, params, one.candidate.reason, own, count, one.rest, more)

    @cached_property
    def rows(self) -> list[Row]:
        """The candidates that no filter left out, with the outcomes of their units so far."""
        asked = [one for one in self.asked if one.candidate.reason is None]
        ends = self._store.jobs.ends(list(dict.fromkeys(i for one in asked for i in one.ids)))
        params = self._params_of([one.candidate for one in asked])
        return [
            Row(own, [ends.get(i) for i in one.ids], one.stopped, one.record.more)
            for own, one in zip(params, asked, strict=True)
        ]

    @cached_property
    def results(self) -> dict[str, Any]:
        """``cv_results_`` of the candidates that are complete."""
        return cv_results_of(self.rows, self.first.n_splits, self.first.facts)

    def best(self) -> Best | None:
        """Return the best candidate: the one that the search noted, else by rank."""
        noted, metric = self.first.best, self._metric()
        index = noted["index"] if noted else best_index_of(self.results, metric)
        if index is None or not index < len(self.results.get("params", ())):
            return None
        score = noted["score"] if noted else self.results[f"mean_test_{metric}"][index]
        return Best(index, self.results["params"][index], score)

    def _metric(self) -> str:
        """Return the metric that decides, empty if none does."""
        facts = self.first.facts
        if facts["refit"] is not None:
            return str(facts["refit"])
        if facts["kind"] == "function":
            ranked = [name for name in self.results if name.startswith("rank_test_")]
            known = [f"rank_test_{metric}" for metric, _ in facts["directions"]]
            first = [name for name in known if name in ranked] or ranked
            return "".join(first[:1]).removeprefix("rank_test_")
        return SCORE if facts["metrics"] is None else ""

    def _params_of(self, candidates: Sequence[Candidate]) -> list[dict[str, Any]]:
        """Return the params of all candidates, objects unpickled if that was asked for."""
        odd = [c for c in candidates if c.units and (c.text is None or c.shown)]
        texts = self._store.jobs.payloads([next(filter(None, c.units), "") for c in odd])
        return [self._exact(candidate, texts) for candidate in candidates]

    def _exact(self, candidate: Candidate, texts: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
        unit = next((i for i in candidate.units if i in texts), "")
        unit_text, payload = texts.get(unit, (None, ""))
        text = unit_text if candidate.text is None else candidate.text
        if self._objects is not None and candidate.shown and text and text == unit_text:
            objects = self._objects.of(payload)
            if objects is not None:
                return decode(text, objects)
        return _with_texts(candidate, text)


def _with_texts(candidate: Candidate, text: str | None) -> dict[str, Any]:
    """Return params with text in place of objects."""
    return {**({} if text is None else decode(text, str)), **candidate.shown}


def shown_params(candidate: Candidate, units: Iterable[Described | None] = ()) -> dict[str, Any]:
    """Return the params of a candidate for people: objects as text, numbers as Python's."""
    text = candidate.text or next((unit.params_text for unit in units if unit), None)
    return {name: plain(value) for name, value in _with_texts(candidate, text).items()}


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
            _, data = self._store.parts.get(sha)
            self._loaded[sha] = load_payload(data, self._part, first)
        return self._loaded[sha]

    def _part(self, name: tuple[Any, ...]) -> Any:
        return load(*self._store.parts.get(name[1]))


def search_html(
    title: str,
    lines: Sequence[str],
    cells: Sequence[Sequence[int]] = (),
    labels: Sequence[str] = (),
    *,
    best: int | None = None,
) -> str:
    """Return lines about a search and the grid of its units, without a script.

    A row of `cells` is a candidate, whose params are its label; `best` is the row in bold.
    """
    said = "".join(f'<div style="margin:1px 0">{escape(line)}</div>' for line in lines)
    grid = grid_html(cells, labels[:MOST_ROWS], best=best) if len(cells) else ""
    return (
        '<div class="optomatic-search" style="margin:6px 0;font-family:sans-serif;font-size:13px">'
        f'<div style="font-weight:bold">{escape(title)}</div>{said}{grid}</div>'
    )


_CELLS = {
    "queued": Cell.QUEUED,
    "running": Cell.RUNNING,
    "failed": Cell.FAILED,
    "dead": Cell.FAILED,
    "cancelled": Cell.LEFT_OUT,
}
#: The best candidate so far is looked for among so many units.
_MOST_READ = 20_000


def stored_html(store: Store, search: str) -> str:
    """Return a search in the store as HTML: state, best candidate, grid of its units."""
    reader = SearchReader(store, search)
    if not reader.records:
        return search_html(f"Search {search}", ["It is not in the database (any more)."])
    cells = [list(_cells(one, reader.glances)) for one in reader.asked]
    labels = [_label(one) for one in reader.asked[:MOST_ROWS]]
    number, best = _best(reader)
    name = reader.first.name
    return search_html(name, [_state_line(reader), *best], cells, labels, best=number)


def _cells(one: Asked, glances: Mapping[str, Glance]) -> Iterator[Cell]:
    for unit_id in one.ids:
        yield _cell(glances.get(unit_id), one.record.began_at)
    left_out = one.candidate.reason is not None
    rest = Cell.NOTHING if one.rest == "pending" and not left_out else Cell.LEFT_OUT
    for _ in range(max(len(one.candidate.units), int(left_out)) - len(one.ids)):
        yield rest


def _cell(glance: Glance | None, began: datetime) -> Cell:
    if glance is None:
        return Cell.NOTHING
    if glance.state != "completed":
        return _CELLS.get(glance.state, Cell.NOTHING)
    return Cell.STORED if glance.ended is not None and glance.ended < began else Cell.SCORED


def _label(one: Asked) -> str:
    label = params_line({**one.record.more, **shown_params(one.candidate)})
    return label if one.candidate.reason is None else f"{label} ({one.candidate.reason})"


def _best(reader: SearchReader) -> tuple[int | None, list[str]]:
    """Return the number of the best candidate, and a line about it, if there is one by now."""
    noted = reader.first.best
    if noted is None and len(reader.glances) <= _MOST_READ:
        best = reader.best()
        noted = None if best is None else {"index": best.index, "score": best.score}
    complete = [n for n, one in enumerate(reader.asked) if _is_complete(one, reader.glances)]
    if noted is None or not 0 <= noted["index"] < len(complete):
        return None, []
    number = complete[noted["index"]]
    score = "" if noted.get("score") is None else f"{noted['score']:.6g} with "
    return number, [f"best: {score}{params_line(shown_params(reader.asked[number].candidate))}"]


def _is_complete(one: Asked, glances: Mapping[str, Glance]) -> bool:
    """Return whether a candidate has a row in ``cv_results_``."""
    whole = one.stopped or len(one.ids) == one.record.n_splits
    ended = all(i in glances and glances[i].state in ENDED for i in one.ids)
    return one.candidate.reason is None and whole and ended


def _state_line(reader: SearchReader) -> str:
    counts = Counter(glance.state for glance in reader.glances.values())
    done, failed = sum(counts[name] for name in ENDED), counts["failed"] + counts["dead"]
    line = f"{reader.state}: {done:,} of {len(reader.ids):,} units"
    return f"{line}, {failed:,} without a score (errors() says why)" if failed else line
