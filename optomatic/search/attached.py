"""attach: watch, read, extend and cancel a search from anywhere."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from optomatic.candidates.ask_tell import is_adaptive, is_endless, up_to_repeats
from optomatic.candidates.grids import candidates_of
from optomatic.driver.driver import extend, report_doubts
from optomatic.errors import shown, warn
from optomatic.planning.planner import plan_more
from optomatic.records import JobSpec
from optomatic.search.pickling import KeepsAddress
from optomatic.search.reader import Best, SearchReader
from optomatic.search.shared_methods import StoredSearch
from optomatic.store.connection import Store, open_store
from optomatic.store.searches import added_to, ids_that_wait
from optomatic.worker.missing_workers import Availability

#: So many other searches of the same name are listed.
_NAMED = 5
_POLL = 0.5


def attach(name: str, *, db: str | None = None, load_objects: bool = False) -> AttachedSearch:
    """Return a search by its name or id, to watch, await, read, extend or cancel it.

    Parameters
    ----------
    name : str
        If several searches have this name, the one that began last.
    db : str, default=None
        As in :class:`MongoSearchCV`.
    load_objects : bool, default=False
        Unpickle params that are objects, such as estimators and functions.  This runs code
        from the database, so use it only if you trust everybody who can write there.  Otherwise
        such params are text, and nothing that is stored is run.

    Returns
    -------
    AttachedSearch
        Each of its calls reads the database anew.

    Raises
    ------
    TypeError, ValueError
        If `name` is not a string, or no search has it.
    StoreError
        If the database cannot be used.

    Warns
    -----
    UserWarning
        If several searches have this name; the warning lists the ids of the others.
    """
    if not isinstance(name, str):
        raise TypeError(f"attach takes the name or id of a search as a string, not {shown(name)}.")
    with open_store(db) as store:
        found = store.searches.ids_of(name)
        if not found:
            raise ValueError(
                f"There is no search with the name or id {shown(name)} in {store.shown_uri}. "
                "Check the name, and db."
            )
    search, *others = found
    if others:
        more = f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
        warn(
            f"{len(found)} searches have the name {shown(name)}. This is the latest, {search}. "
            f"Before it: {', '.join(others[:_NAMED])}{more}. Give an id to get another one.",
            UserWarning,
        )
    return AttachedSearch(search, db, load_objects=load_objects)


class AttachedSearch(StoredSearch, KeepsAddress):
    """A search in the database.  Each call reads it anew, over its own connection.

    Attributes
    ----------
    search_id : str

    Notes
    -----
    A pickle of it holds no credentials.  Where it is loaded, ``$OPTOMATIC_DB`` gives them.
    """

    def __init__(self, search_id: str, db: str | None, *, load_objects: bool = False) -> None:
        self.search_id = search_id
        self.db = db
        self.load_objects = load_objects

    def record(self) -> dict[str, Any]:
        """Return the stored record of the search, as plain values.

        Its ``state`` is the stored one; :attr:`state` also considers whether the client lives.
        Records of later iterations of successive halving are in its ``iterations``.
        """
        with open_store(self.db) as store:
            parts = store.searches.iterations(self.search_id)
            record, *later = (store.searches.record(part) for part in parts)
        return {**record, "iterations": later} if later else record

    @property
    def state(self) -> str:
        """The state of the search.

        ``running``, ``completed``, ``interrupted`` (by Ctrl-C or an error), ``cancelled``, ``left``
        (to standalone workers, on purpose) or ``abandoned`` (its client vanished).
        """
        with open_store(self.db) as store:
            return SearchReader(store, self.search_id).state

    @property
    def n_splits_(self) -> int:
        """Number of splits of each candidate; 1 for a function."""
        with open_store(self.db) as store:
            return SearchReader(store, self.search_id).first.n_splits

    @property
    def cv_results_(self) -> dict[str, Any]:
        """The table of ``fit``, with the candidates that are complete by now.

        A dict of arrays, as :class:`~sklearn.model_selection.GridSearchCV` has; empty if no
        candidate is complete.  A function has one split.  Params that are objects are text,
        unless ``attach`` was called with ``load_objects=True``.  Each access reads the store.
        """
        with open_store(self.db) as store:
            return SearchReader(store, self.search_id, load_objects=self.load_objects).results

    @property
    def best_index_(self) -> int:
        """The row of ``cv_results_`` that the search chose; the row with rank 1 while it runs.

        Raises AttributeError if no candidate is complete, or `refit` names no metric.
        """
        return self._best().index

    @property
    def best_params_(self) -> dict[str, Any]:
        """The params of the candidate at ``best_index_``."""
        return self._best().params

    @property
    def best_score_(self) -> float:
        """The mean test score of the candidate at ``best_index_``."""
        score = self._best().score
        if score is None:
            raise AttributeError("refit was a callable, so this search has no best_score_.")
        return score

    def _best(self) -> Best:
        with open_store(self.db) as store:
            best = SearchReader(store, self.search_id, load_objects=self.load_objects).best()
        if best is None:
            raise AttributeError(
                "This search has no best candidate: none is complete yet, or it has several "
                "metrics and refit=False, or its callable refit has not chosen yet."
            )
        return best

    def counts(self) -> dict[str, int]:
        """Return how many units are in each state.

        ``invalid`` counts records that could not be read, also those whose units were queued
        again; ``missing`` counts units that have no record.
        """
        with open_store(self.db) as store:
            return _counts(store, self.search_id)

    def wait(
        self,
        timeout: float | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> bool:
        """Wait until no unit of the search is queued or running.

        Parameters
        ----------
        timeout : float, optional
            Seconds.
        clock, sleep : callable
            For tests.

        Returns
        -------
        bool
            Whether the search is over; False after `timeout`.

        Raises
        ------
        StoreError
            If the database cannot be reached for a minute.

        Warns
        -----
        NoWorkers, WorkersRefuse, NoProgress
            If its units are left to workers, as a search with ``n_jobs=0`` does.
        """
        began = clock()
        with open_store(self.db) as store:
            availability = _availability(store, self.search_id, clock)
            while _goes_on(store, self.search_id):
                if timeout is not None and clock() - began >= timeout:
                    return False
                availability.look()
                sleep(_POLL)
            _note_the_end(store, self.search_id)
        return True

    def watch(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> Iterator[dict[str, int]]:
        """Yield the :meth:`counts` of units now, and each time they change, until the end.

        Yields
        ------
        dict of str to int
            State -> units in it.

        Raises
        ------
        StoreError
            If the database cannot be reached for a minute.

        Notes
        -----
        Ends when :meth:`wait` would.  To show progress::

            for counts in attach("sweep").watch():
                print(counts)
        """
        seen = None
        with open_store(self.db) as store:
            availability = _availability(store, self.search_id, clock)
            while True:
                over = not _goes_on(store, self.search_id)
                began = clock()
                counts = _counts(store, self.search_id)
                if counts != seen:
                    yield counts
                seen = counts
                if over:
                    break
                availability.look()
                # Looking at a large search is to cost its server little.
                sleep(max(_POLL, 4 * (clock() - began)))
            _note_the_end(store, self.search_id)

    def extend(self, space: Any, *, n_iter: int | None = None, random_state: Any = None) -> int:
        """Add candidates to the search, and leave them to standalone workers.

        Works for searches of :class:`~optomatic.MongoSearch`.  Neither the function nor its data
        are needed here: the search has stored them.  ``MongoSearch(function, wider_space)`` makes
        the same units, so either finds the scores of the other.

        Parameters
        ----------
        space : dict, list of dict, or iterable of dict
            A grid, or any iterable that gives candidates without learning from scores.
            Candidates that have a score, or wait already, are not queued again.
        n_iter : int, default=None
            As in :class:`~optomatic.MongoSearch`.
        random_state : int, RandomState instance or None, default=None
            Seed of the draws.

        Returns
        -------
        int
            Number of these candidates that have no score yet.

        Raises
        ------
        ValueError
            If `space` is adaptive, or endless without `n_iter`, or the search did not store what
            is needed.
        StoreError
            If the database cannot be reached for a minute.

        Notes
        -----
        A search that has ended becomes ``left`` again; :meth:`wait`, :meth:`watch`,
        :meth:`to_frame` and :meth:`cancel` cover old and new candidates.  Units that were
        cancelled stay so, unless `space` names them.  A client that waits for its own candidates
        does not wait for these.

        A candidate with a param that the function does not take fails when it is scored.
        """
        candidates = _candidates(space, n_iter, random_state)
        with open_store(self.db) as store:
            plan = plan_more(_asked(store, self.search_id), candidates)
            report_doubts(plan.doubts, plan.refusal, 0)
            return extend(store, self.search_id, plan)

    def cancel(self) -> None:
        """Cancel the search: its client ends with SearchCancelled, and its scores stay."""
        with open_store(self.db) as store:
            for part in store.searches.iterations(self.search_id):
                goes_on = store.jobs.waits(added_to(part))
                store.searches.withdraw(part, goes_on=goes_on)
                for waits_as in ids_that_wait(part):
                    store.jobs.cancel(waits_as)

    def _search_id(self) -> str:
        return self.search_id

    def _repr_html_(self) -> str:
        return self._stored_html()

    def __repr__(self) -> str:
        return f"AttachedSearch({self.search_id!r})"


def _counts(store: Store, search: str) -> dict[str, int]:
    reader = SearchReader(store, search)
    reader.warn_of_lost_lists()
    states = store.jobs.states(reader.ids)
    counts = Counter(states.get(unit_id, "missing") for unit_id in reader.ids)
    counts["invalid"] += store.jobs.invalid(reader.ids)
    return dict(+counts)


def _goes_on(store: Store, search: str) -> bool:
    """Return whether units wait, or a client that was seen of late may ask for more."""
    waiting = [name for part in store.searches.iterations(search) for name in ids_that_wait(part)]
    return store.jobs.waits(waiting) or store.searches.is_running(search)


def _availability(store: Store, search: str, clock: Callable[[], float]) -> Availability:
    """Return what warns if no worker can score `search`; a client that lives warns itself."""
    silent = partial(store.searches.is_running, search)

    def restore() -> None:
        if (asked := store.searches.asked(search)) is not None:
            store.workers.publish(asked.work)

    names = ids_that_wait(search)
    return Availability(store, names, clock, silent=silent, restore=restore)


def _note_the_end(store: Store, search: str) -> None:
    if store.searches.record(search).get("state") == "running":
        # It was left to workers, or its client is gone: no other process will write it.
        store.searches.finish(search, "completed", {"line": "left to workers"})


def _candidates(space: Any, n_iter: int | None, random_state: Any) -> list[dict[str, Any]]:
    if is_adaptive(space) or callable(space):
        raise ValueError(
            "A generator that learns from scores needs a process that asks it, and extend leaves "
            "the search to workers. Nothing was queued. Give candidates that are all known: a "
            "grid, a list of dicts, draws."
        )
    if is_endless(space) and n_iter is None:
        raise ValueError("The space never ends. Nothing was queued. Give n_iter=.")
    space = up_to_repeats(space) if n_iter is None else space
    candidates = candidates_of(space, n_iter=n_iter, sampled=False, random_state=random_state)
    if not candidates:
        raise ValueError("The space has no candidates, so there is nothing to add.")
    return candidates


def _asked(store: Store, search: str) -> JobSpec:
    asked = store.searches.asked(search)
    if asked is None:
        raise ValueError(
            "This search cannot be extended from here, because it did not store what its units "
            "are made of: it is a MongoSearchCV, or no other process can load its function, or "
            "an older version made it. Nothing was queued. Make the search again with the wider "
            "space, where its function or estimator is: it scores only what is new."
        )
    return asked
