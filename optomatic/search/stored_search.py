"""What users can look at of a search that is in the database, whoever has it in hands."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import pandas as pd

from optomatic._uri import redact
from optomatic.driver.additions import retry
from optomatic.planning.params import decode_extra
from optomatic.results.export import export
from optomatic.results.frames import (
    CandidateRow,
    attempt_table,
    candidate_table,
    errors_table,
    split_table,
)
from optomatic.search.explain import Explanation, explain
from optomatic.search.html import search_html, stored_html
from optomatic.search.reader import SearchReader
from optomatic.store.connection import open_store
from optomatic.store.removal import Removed

Level = Literal["candidate", "split", "attempt"]
#: Seconds for which a notebook waits for a server that is away.
_PATIENCE = 1.5


class StoredSearch:
    """A search with a record in the database ``db``.  Each call reads anew what is there now."""

    db: Any

    def _search_id(self) -> str:
        """Return the id of its record; raise if it has none yet."""
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
        search = self._search_id()
        with open_store(self.db) as store:
            reader = SearchReader(store, search)
            reader.warn_of_lost_lists()
            rows = reader.candidate_rows()
        return make(rows)

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
        search = self._search_id()
        with open_store(self.db) as store:
            reader = SearchReader(store, search)
            reader.warn_of_lost_lists()
            rows = reader.candidate_rows(store.jobs.without_score(reader.ids))
            odd = store.jobs.set_aside(reader.ids)
        places: dict[str, list[tuple[CandidateRow, int]]] = {record.id: [] for record in odd}
        for row, one in zip(rows, reader.asked, strict=True):
            for split, unit_id in enumerate(one.candidate.units):
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
        search = self._search_id()
        with open_store(self.db) as store:
            return explain(store, search)

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
            If it runs: :meth:`~optomatic.search.attached.AttachedSearch.cancel` it first.
        StoreError
            As of :func:`optomatic.remove`, which also tells what holds under concurrency.
        """
        search = self._search_id()
        with open_store(self.db) as store:
            return store.removal.remove(search, dry_run=dry_run)

    def retry(self) -> int:
        """Queue the failed and given-up units of the search again, for standalone workers.

        Returns
        -------
        int
            How many.  A worker has to score them: nobody waits for them here.

        Raises
        ------
        ValueError
            If no worker could score them, as what they are made of is not in the database, or the
            search was removed meanwhile.  Nothing is queued then.
        StoreError
            If the database cannot be reached for a minute.

        Notes
        -----
        A search that has ended goes on with that, as one that is extended.  What failed is
        forgotten as soon as it is queued.  May be called by many at the same time.
        """
        search = self._search_id()
        with open_store(self.db) as store:
            return sum(retry(store, part) for part in store.searches.parts(search))

    def export(self, path: str | os.PathLike[str], *, level: Level = "candidate") -> int:
        """Write :meth:`to_frame` to a file, whose ending says of which kind.

        Parameters
        ----------
        path : path
            Ends in ``.csv``, ``.json``, ``.parquet`` or ``.xlsx``; the last two need
            ``pip install "optomatic[export]"``.  A file that is there is replaced once the
            new one is whole.
        level : {"candidate", "split", "attempt"}, default="candidate"

        Returns
        -------
        int
            How many rows.

        Raises
        ------
        ValueError
            If the ending is another one, or `path` is something else than a file.
        ImportError
            If a library is missing that writes this kind.
        OSError
            If the file cannot be written.
        StoreError
            If the database cannot be used.
        """
        frame = self.to_frame(level=level)
        export(frame, path)
        return len(frame)

    def _stored_html(self) -> str:
        """Return the search as HTML.  Never raises: what cannot be read is said instead."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with open_store(self.db, patience=_PATIENCE) as store:
                    store.hurry(_PATIENCE)
                    return stored_html(store, self._search_id())
        except Exception as error:  # a notebook shows what there is, whatever is wrong
            said = f"{type(error).__name__}: {redact(str(error))}"
            return search_html("Search", [f"The database cannot be read now ({said[:300]})"])


def _candidate_table(rows: Sequence[CandidateRow]) -> pd.DataFrame:
    functions = any(unit.kind == "function" for row in rows for unit in row.units if unit)
    return candidate_table(rows, extras=decode_extra if functions else None)


_LEVELS: Mapping[str, Callable[[Sequence[CandidateRow]], pd.DataFrame]] = {
    "candidate": _candidate_table,
    "split": split_table,
    "attempt": attempt_table,
}
