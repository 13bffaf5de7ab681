"""Tables, errors, explanation, export and removal: the methods of every search."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import pandas as pd

from optomatic._uri import redact
from optomatic.driver.driver import retry
from optomatic.plots.search_data import Stored
from optomatic.results.export import export
from optomatic.results.frames import (
    CandidateRow,
    attempt_table,
    candidate_table,
    errors_table,
    split_table,
)
from optomatic.search.explain import Explanation, explain
from optomatic.search.reader import SearchReader, search_html, stored_html
from optomatic.store.connection import open_store
from optomatic.store.removal import Removed

Level = Literal["candidate", "split", "attempt"]
#: Seconds for which a notebook waits for an unreachable server.
_PATIENCE = 1.5


class StoredSearch:
    """A search with a record in the database ``db``.  Each call reads the database anew."""

    db: Any

    def _search_id(self) -> str:
        """Return the id of its record; raise NotFittedError if it has none yet."""
        raise NotImplementedError

    def to_frame(self, level: Level = "candidate") -> pd.DataFrame:
        """Return the search as a table, in the order of its candidates.

        Parameters
        ----------
        level : {"candidate", "split", "attempt"}, default="candidate"
            One row a candidate, a unit or an attempt.

            ``"candidate"``
                Index ``candidate``.  Columns ``param_<name>``; ``score`` (or
                ``score_<metric>``) and ``std``, over the splits that have a score, and
                ``train_score`` if there are train scores; ``state``; ``seconds`` (sum over its
                units), ``fit_time``, ``score_time``; ``error``: type and text of its first
                error, or the reason of the filter that left it out; ``extra`` for functions;
                ``iter`` and ``n_resources`` for successive halving.
            ``"split"``
                Index ``candidate, split``.  The same columns for each unit, and ``worker``,
                ``host``, ``began``, ``ended`` (UTC), ``attempts`` (how often it was started) and
                ``losses`` (how often it ended the scoring process).  Times are those at which
                the worker told the database, perhaps for several units at once.
            ``"attempt"``
                Index ``candidate, split``.  Each known attempt, with ``attempt``, ``state``,
                ``worker``, ``host``, ``began``, ``ended`` and ``why``: the last five that were
                lost, and the current or last one.

        Returns
        -------
        DataFrame
            Param columns are int64, float64 or bool if all values are, else objects.  A value
            that is an object, such as an estimator, is text: nothing that is stored is run.

        Raises
        ------
        ValueError
            If `level` is another one.
        NotFittedError
            If the search has not been fitted.
        StoreError
            If the database cannot be used.

        Notes
        -----
        While the search runs, rows change, and an adaptive search adds rows at the end.  A
        candidate is ``pending`` as long as one of its units is queued or running, and has means
        over the splits that are scored.  Reused scores keep the worker and times of the earlier
        search.
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
        """Return the failures of the search, one kind a row, the most frequent first.

        Returns
        -------
        DataFrame
            ``count`` (units), ``stage``, ``type``, ``text``, ``traceback``, ``params`` (list of
            dict, of at most five candidates), ``splits``, ``hosts`` and ``workers``.  Failures
            of one kind have the same stage, type and last line of text, numbers apart; text and
            traceback are those of the first.  The stage is ``fit``, ``score``, ``train_score``,
            ``load`` or ``limit``; ``given up`` for units that killed each process that scored
            them; ``set aside`` for records that could not be read, whose units are scored again.
            Empty, with the same columns, without failures.

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
        """Return why the search does not move, or who works on it, and why scores were not reused.

        It compares the search with earlier ones of the same name or estimator class.  Of the one
        whose keys differ least it names what differs first, such as ``y`` or ``numpy 2.3 -> 2.4``.

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
        It describes the present moment: a worker that starts later is not in it.
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
            As :func:`optomatic.remove`, which also documents concurrency.
        """
        search = self._search_id()
        with open_store(self.db) as store:
            return store.removal.remove(search, dry_run=dry_run)

    def retry(self) -> int:
        """Queue the failed and given-up units of the search again, for standalone workers.

        Returns
        -------
        int
            Number of queued units.  A standalone worker has to score them.

        Raises
        ------
        ValueError
            If no worker could score them, because their payload is not in the database, or the
            search was removed meanwhile.  Nothing is queued then.
        StoreError
            If the database cannot be reached for a minute.

        Notes
        -----
        A search that has ended becomes ``left``.  A failure is forgotten as soon as its unit is
        queued.  Several processes may call this at the same time.
        """
        search = self._search_id()
        with open_store(self.db) as store:
            return sum(retry(store, part) for part in store.searches.iterations(search))

    def export(self, path: str | os.PathLike[str], *, level: Level = "candidate") -> int:
        """Write :meth:`to_frame` to a file; its ending names the kind.

        Parameters
        ----------
        path : path
            Ends in ``.csv``, ``.json``, ``.parquet`` or ``.xlsx``; the last two need
            ``pip install "optomatic[export]"``.  The file replaces an older one once it is whole.
        level : {"candidate", "split", "attempt"}, default="candidate"

        Returns
        -------
        int
            Number of rows.

        Raises
        ------
        ValueError
            If the ending is another one, `path` is not a file, or the table is too long for a
            sheet.
        ImportError
            If the library that writes this kind is missing.
        OSError
            If the file cannot be written.
        StoreError
            If the database cannot be used.
        """
        frame = self.to_frame(level=level)
        export(frame, path)
        return len(frame)

    def to_study(self, *, metric: str | None = None, storage: Any = None) -> Any:
        """Return the search as a study of Optuna, for :mod:`optuna.visualization`.

        Parameters
        ----------
        metric : str, default=None
            Whose means are the values of the trials; None for the metric that decides, else the
            first.
        storage : str or optuna.storages.BaseStorage, default=None
            Where Optuna keeps the study, such as ``"sqlite:///study.db"`` for optuna-dashboard;
            None keeps it in memory.

        Returns
        -------
        optuna.Study
            Its name is that of the search.  :mod:`optomatic.plots.study` says how candidates
            become trials.

        Raises
        ------
        ImportError
            If Optuna is missing: ``pip install "optomatic[optuna]"``.
        ValueError
            If the search has no such metric, or is not in the database any more.
        optuna.exceptions.DuplicatedStudyError
            If `storage` has a study of this name.
        NotFittedError
            If the search has not been fitted.
        StoreError
            If the database cannot be used.

        Notes
        -----
        While the search runs this is the search so far.  The study does not follow it.
        """
        from optomatic.plots.study import study_of

        return study_of(self._stored(), metric, storage)

    def _stored(self) -> Stored:
        search = self._search_id()
        spaces = (getattr(self, name, None) for name in _SPACES)
        with open_store(self.db) as store:
            reader = SearchReader(store, search)
            reader.warn_of_lost_lists()
            return Stored(
                record=reader.first,
                state=reader.state,
                now=store.jobs.server_time(),
                rows=reader.candidate_rows(),
                space=next((space for space in spaces if space is not None), None),
            )

    def _stored_html(self) -> str:
        """Return the search as HTML.  Never raises: the HTML shows the error instead."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with open_store(self.db, patience=_PATIENCE) as store:
                    store.hurry(_PATIENCE)
                    return stored_html(store, self._search_id())
        except Exception as error:  # an exception would hide the rest of the cell's output
            said = f"{type(error).__name__}: {redact(str(error))}"
            return search_html("Search", [f"The database cannot be read now ({said[:300]})"])


#: Params of searches that have the space.
_SPACES = ("param_grid", "param_distributions", "space")
_LEVELS: Mapping[str, Callable[[Sequence[CandidateRow]], pd.DataFrame]] = {
    "candidate": candidate_table,
    "split": split_table,
    "attempt": attempt_table,
}
