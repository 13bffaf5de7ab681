"""What users can look at of a search that is in the database, whoever has it in hands."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from optomatic.display.grid import MOST_ROWS, Cell
from optomatic.display.search_html import search_html
from optomatic.errors import RecordsInvalid, redact
from optomatic.explaining import candidates_of, explain
from optomatic.plain_values import shown_params
from optomatic.plan.packing.extras import decode_extra
from optomatic.plan.packing.params import decode_shown
from optomatic.records import Glance, Inspected, Removed
from optomatic.results.explanation import Explanation, Finding
from optomatic.results.failures import errors_table
from optomatic.results.frames import Row, attempt_table, candidate_table, split_table
from optomatic.store.opening import Store, open_store
from optomatic.warning import warn

Level = Literal["candidate", "split", "attempt"]
#: Seconds for which a notebook waits for a server that is away.
_PATIENCE = 1.5


class StoredSearch:
    """A search with a record in the database ``db``.  Each call reads anew what is there now."""

    db: Any

    def _search_ids(self) -> list[str]:
        """Return the ids of its records; raise if it has none yet."""
        raise NotImplementedError

    def to_frame(self, level: Level = "candidate") -> pd.DataFrame:
        """Return what the database has of the search as a table, in the order of its candidates.

        Parameters
        ----------
        level : {"candidate", "split", "attempt"}, default="candidate"
            What a row is.

            ``"candidate"``
                Index ``candidate``.  Columns ``param_<name>``; ``score`` (or
                ``score_<metric>``) and ``std``, over the splits that have a score, and
                ``train_score`` where there are train scores; ``state``; ``seconds`` (of all its
                units together), ``fit_time``, ``score_time``; ``error``, type and text of its
                first error, or why a filter left it out; ``extra`` for functions.
            ``"split"``
                Index ``candidate, split``.  The same columns of each unit, and ``worker``,
                ``host``, ``began``, ``ended`` (UTC), ``attempts`` (how often it was started) and
                ``losses`` (how often it ended the process that scored it).  Times are those
                at which the database was told, which workers may do for several units at once.
            ``"attempt"``
                Index ``candidate, split``.  Each attempt that is known, with ``attempt``,
                ``state``, ``worker``, ``host``, ``began``, ``ended`` and ``why``: the last five
                that were lost, and the one that goes on or came to the end.

        Returns
        -------
        DataFrame
            Params are int64, float64 or bool where all values are, else objects.  A value that
            is an object, such as an estimator, is shown as text: nothing that is stored is run.

        Raises
        ------
        ValueError
            If `level` is none of these.
        NotFittedError
            If the search has not been fitted.
        StoreError
            If the database cannot be used.

        Notes
        -----
        While the search runs, rows change, and rows come at the end where candidates come about
        meanwhile.  A candidate is ``pending`` as long as one of its units is queued or running,
        and has means over the splits that are scored.  Stored scores of earlier searches have the
        worker and times of those.
        """
        make = _LEVELS.get(level) if isinstance(level, str) else None
        if make is None:
            raise ValueError(f"level is one of {', '.join(map(repr, _LEVELS))}, not {level!r}.")
        searches = self._search_ids()
        with open_store(self.db) as store:
            read = [_read(store, search) for search in searches]
        return make(_Read.together(read))

    def errors(self) -> pd.DataFrame:
        """Return what went wrong, with failures of one kind in one row, the most frequent first.

        Returns
        -------
        DataFrame
            ``count`` (units), ``stage``, ``type``, ``text``, ``traceback``, ``params`` (list of
            dict, of at most five candidates), ``splits``, ``hosts`` and ``workers``.  Failures
            are of one kind if their stage and type are the same, and the last line of their
            text but for numbers; text and traceback are those of the first.  The stage is
            ``fit``, ``score``, ``train_score``, ``load`` or ``limit``; ``given up`` for
            units that killed each process that scored them; ``set aside`` for records that could
            not be read, whose units are scored again.  Empty, with the same columns, if there is
            nothing.

        Raises
        ------
        NotFittedError
            If the search has not been fitted.
        StoreError
            If the database cannot be used.

        Notes
        -----
        While the search runs these are the failures so far.
        """
        searches = self._search_ids()
        with open_store(self.db) as store:
            read = [_read(store, search, only=_without_score) for search in searches]
            rows = _Read.together(read).rows
            ids = {unit_id for one in read for own in one.ids for unit_id in own if unit_id}
            odd = store.jobs.set_aside(list(ids))
        places: dict[str, list[tuple[Row, int]]] = {record.id: [] for record in odd}
        asked = [own for one in read for own in one.ids]
        for row, own in zip(rows, asked, strict=True):
            for split, unit_id in enumerate(own):
                if unit_id in places:
                    places[unit_id].append((row, split))
        return errors_table(rows, [(record, places[record.id]) for record in odd])

    def explain(self) -> Explanation:
        """Return why the search does not move, or where it moves, and why scores were not reused.

        Of earlier searches of the same name or kind the one is compared whose keys differ least;
        the first ingredient of keys that differs is named: ``y``, ``svc__C``,
        ``numpy 2.3 -> 2.4``.

        Returns
        -------
        Explanation
            Prints as lines; its ``findings`` have ``kind`` and ``text``.

        Raises
        ------
        NotFittedError
            If the search has not been fitted.
        StoreError
            If the database cannot be used.

        Notes
        -----
        It tells of this moment: a worker that begins later is not in it.
        """
        searches = self._search_ids()
        findings: list[Finding] = []
        with open_store(self.db) as store:
            for search in searches:
                texts = [candidate.params_text for candidate in candidates_of(store, search)]
                ids = list(dict.fromkeys(listed_ids(store, search)))
                findings += explain(store, search, ids, texts).findings
        return Explanation(tuple(findings))

    def remove(self, *, dry_run: bool = False) -> Removed:
        """Remove the search, with the scores, data and estimators that only it needs.

        Parameters
        ----------
        dry_run : bool, default=False
            Remove nothing, and return what would be removed.

        Returns
        -------
        Removed
            How many ``searches``, ``units`` and ``parts``, and how many ``bytes`` they have.

        Raises
        ------
        ValueError
            If it is not in the database any more.
        SearchRunning
            If it runs: :meth:`~optomatic.attaching.AttachedSearch.cancel` it first.
        StoreError
            As of :func:`optomatic.remove`, which also tells what holds under concurrency.
        """
        searches = self._search_ids()
        with open_store(self.db) as store:
            done = [store.removal.remove(search, dry_run=dry_run) for search in searches]
        return Removed(
            sum(one.searches for one in done),
            sum(one.units for one in done),
            sum(one.parts for one in done),
            sum(one.bytes for one in done),
            dry_run,
        )

    def _stored_html(self) -> str:
        """Return the search as HTML.  Never raises: what cannot be read is said instead."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with open_store(self.db, patience=_PATIENCE) as store:
                    store.hurry(_PATIENCE)
                    return "".join(self._html_of(store, search) for search in self._search_ids())
        except Exception as error:  # a notebook shows what there is, whatever is wrong
            said = f"{type(error).__name__}: {redact(str(error))}"
            return search_html("Search", [f"The database cannot be read now ({said[:300]})"])

    def _html_of(self, store: Store, search: str) -> str:
        record = store.searches.record(search)
        if not record:
            return search_html(f"Search {search}", ["It is not in the database (any more)."])
        candidates = candidates_of(store, search)
        ids = [unit_id for candidate in candidates for unit_id in candidate.units if unit_id]
        glances = store.jobs.glances(list(dict.fromkeys(ids)))
        cells = [_cells(candidate, glances, record.get("began_at")) for candidate in candidates]
        labels = _labels(store, candidates[:MOST_ROWS])
        best = self._best_shown(record, labels)
        lines = [_state_line(record, ids, glances), *([best] if best else [])]
        named = best.partition(" with ")[2]
        number = labels.index(named) if named in labels else None
        return search_html(str(record.get("name")), lines, cells, labels, best=number)

    def _best_shown(self, record: Mapping[str, Any], labels: Sequence[str]) -> str:
        """Return which candidate is the best, empty if that is not known."""
        params, score = getattr(self, "best_params_", None), getattr(self, "best_score_", None)
        if params is None or score is None:
            return ""
        return f"best: {score:.6g} with {shown_params(params)}"


def listed_ids(store: Store, search: str) -> list[str]:
    """Return the ids of the units of `search`; warn if some of them are not known."""
    ids = store.searches.unit_ids(search)
    if lost := store.searches.invalid_lists(search):
        warn(
            f"{lost} lists of units of this search could not be read, as something changed what "
            "was written: what is told of it is of the other units. No score was lost. Make the "
            "search again to have all of it: what is stored is not scored again.",
            RecordsInvalid,
        )
    return ids


# Reading


@dataclass(frozen=True, slots=True)
class _Read:
    """What there is of a search.

    Attributes
    ----------
    rows : list of Row
    ids : list of sequence of str or None
        Of the units of each row, one a split.
    goes_on : bool
    is_function : bool
    """

    rows: list[Row]
    ids: list[Sequence[str | None]]
    goes_on: bool
    is_function: bool

    @classmethod
    def together(cls, parts: Sequence[_Read]) -> _Read:
        rows = [row for part in parts for row in part.rows]
        return cls(
            rows,
            [own for part in parts for own in part.ids],
            any(part.goes_on for part in parts),
            any(part.is_function for part in parts),
        )


def _without_score(store: Store, ids: list[str]) -> list[str]:
    return store.jobs.without_score(ids)


def _read(
    store: Store, search: str, *, only: Callable[[Store, list[str]], list[str]] | None = None
) -> _Read:
    """Return what there is of a search; of its units `only` those, if given."""
    listed_ids(store, search)
    candidates = candidates_of(store, search)
    ids = list(dict.fromkeys(i for candidate in candidates for i in candidate.units if i))
    units: dict[str, Inspected] = store.jobs.inspected(ids if only is None else only(store, ids))
    record = store.searches.record(search)
    rows = [_row(n, candidate, units) for n, candidate in enumerate(candidates)]
    kinds = {unit.kind for unit in units.values()}
    goes_on = record.get("state") == "running"
    return _Read(rows, [c.units for c in candidates], goes_on, "function" in kinds)


def _row(number: int, candidate: Any, units: Mapping[str, Inspected]) -> Row:
    own = [units.get(unit_id) if unit_id else None for unit_id in candidate.units]
    texts: Iterator[Inspected] = (unit for unit in own if unit is not None)
    readable = next((u.params for u in texts if u.params_text == candidate.params_text), None)
    if readable is None:  # units that another search has queued, in its own words
        readable = next((unit.params for unit in own if unit is not None), {})
    asked = sum(unit_id is not None for unit_id in candidate.units)
    params = decode_shown(candidate.params_text, readable)
    return Row(number, params, candidate.reason, own, asked)


def _candidates_frame(read: _Read) -> pd.DataFrame:
    extras = decode_extra if read.is_function else None
    return candidate_table(read.rows, goes_on=read.goes_on, extras=extras)


_LEVELS: Mapping[str, Callable[[_Read], pd.DataFrame]] = {
    "candidate": _candidates_frame,
    "split": lambda read: split_table(read.rows, goes_on=read.goes_on),
    "attempt": lambda read: attempt_table(read.rows),
}

# Showing

_CELLS = {
    "queued": Cell.QUEUED,
    "running": Cell.RUNNING,
    "failed": Cell.FAILED,
    "dead": Cell.FAILED,
    "cancelled": Cell.LEFT_OUT,
}


def _labels(store: Store, candidates: Sequence[Any]) -> list[str]:
    """Return the params of candidates as text, or why one was left out."""
    ids = [next((i for i in candidate.units if i), None) for candidate in candidates]
    units = store.jobs.described([unit_id for unit_id in ids if unit_id])
    found = []
    for candidate, unit_id in zip(candidates, ids, strict=True):
        readable = units[unit_id].params if unit_id in units else {}
        text = shown_params(decode_shown(candidate.params_text, readable))
        found.append(text if candidate.reason is None else f"{text} ({candidate.reason})")
    return found


def _cells(candidate: Any, glances: Mapping[str, Glance], began: Any) -> list[Cell]:
    return [_cell(unit_id, glances, began) for unit_id in candidate.units]


def _cell(unit_id: str | None, glances: Mapping[str, Glance], began: Any) -> Cell:
    if unit_id is None:
        return Cell.LEFT_OUT
    glance = glances.get(unit_id)
    if glance is None:
        return Cell.NOTHING
    if glance.state != "completed":
        return _CELLS.get(glance.state, Cell.NOTHING)
    stored = glance.ended is not None and began is not None and glance.ended < began
    return Cell.STORED if stored else Cell.SCORED


def _state_line(
    record: Mapping[str, Any], ids: Sequence[str], glances: Mapping[str, Glance]
) -> str:
    counts = Counter(glance.state for glance in glances.values())
    total = len(set(ids))
    done = sum(counts[state] for state in ("completed", "failed", "dead"))
    failed = counts["failed"] + counts["dead"]
    line = f"{record.get('state')}: {done:,} of {total:,} units"
    return f"{line}, {failed:,} without a score (errors() says why)" if failed else line
