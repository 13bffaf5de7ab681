"""attach: a search that runs or ran, seen from anywhere."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from optomatic.candidates.ask_tell import is_adaptive, is_endless, up_to_repeats
from optomatic.candidates.grids import candidates_of
from optomatic.driver.additions import extend
from optomatic.driver.preflight import report_doubts
from optomatic.errors import shown, warn
from optomatic.planning.planner import plan_more
from optomatic.records import JobSpec
from optomatic.search.pickling import KeepsAddress
from optomatic.search.reader import Best, SearchReader
from optomatic.search.stored_search import StoredSearch
from optomatic.store.connection import Store, open_store
from optomatic.store.searches import added_to, ids_that_wait
from optomatic.worker.availability import Availability
from optomatic.worker.host import timing_here

#: So many other searches of one name are named.
_NAMED = 5
_POLL = 0.5


def attach(name: str, *, db: str | None = None, load_objects: bool = False) -> AttachedSearch:
    """Return a search by its name or id, to watch, await, read, extend or withdraw it.

    Parameters
    ----------
    name : str
        Of several searches of one name the one that began last; a warning names the ids of the
        others.
    db : str, default=None
        As in :class:`MongoSearchCV`.
    load_objects : bool, default=False
        Unpickle params that are objects, such as estimators and functions.  That runs code which
        whoever can write to the database has chosen.  Without it they are shown as text, and
        nothing that is stored is run.

    Raises
    ------
    TypeError, ValueError
        If it is no string, or there is none.
    StoreError
        If the database cannot be used.

    Warns
    -----
    UserWarning
        If several searches have this name.
    """
    if not isinstance(name, str):
        raise TypeError(
            f"attach takes the name or id of a search, which is a string, not {shown(name)}."
        )
    with open_store(db) as store:
        found = store.searches.ids_of(name)
        if not found:
            raise ValueError(
                f"There is no search of the name or id {shown(name)} in {store.shown_uri}. Look at "
                "the name, and at db."
            )
    search, *others = found
    if others:
        more = f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
        warn(
            f"{len(found)} searches are called {shown(name)}. This is the latest, {search}. Before "
            f"it: {', '.join(others[:_NAMED])}{more}. Give an id to get another one.",
            UserWarning,
        )
    return AttachedSearch(search, db, load_objects=load_objects)


class AttachedSearch(StoredSearch, KeepsAddress):
    """A search in the database.  Each call reads it anew, with a connection of its own.

    Attributes
    ----------
    search_id : str

    Notes
    -----
    A pickle of it has no credentials.  Where it is loaded, they come from ``$OPTOMATIC_DB``.
    """

    def __init__(self, search_id: str, db: str | None, *, load_objects: bool = False) -> None:
        self.search_id = search_id
        self.db = db
        self.load_objects = load_objects

    def record(self) -> dict[str, Any]:
        """Return what was asked, by whom, with what, and how it ended: plain values.

        Its ``state`` is as it was written down: see :attr:`state` for how the search is.  Those
        of later iterations of successive halving are in its ``iterations``.
        """
        with open_store(self.db) as store:
            parts = store.searches.parts(self.search_id)
            record, *later = (store.searches.record(part) for part in parts)
        return {**record, "iterations": later} if later else record

    @property
    def state(self) -> str:
        """How the search is.

        ``running``, ``completed``, ``interrupted`` (by Ctrl-C or an error), ``cancelled``; ``left``
        if it was left to workers on purpose, ``abandoned`` if its client vanished without a word.
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
        """What ``fit`` gave, of the candidates that are complete by now.

        A dict of arrays as of :class:`~sklearn.model_selection.GridSearchCV`; empty if no
        candidate is complete.  Of a function it has one split.  Params that are objects are text,
        unless this was attached with ``load_objects=True``.  Each access reads the store.
        """
        with open_store(self.db) as store:
            return SearchReader(store, self.search_id, load_objects=self.load_objects).results

    @property
    def best_index_(self) -> int:
        """Row of ``cv_results_`` that the search chose; that with rank 1 while it runs.

        Raises AttributeError if no candidate is complete, or `refit` says nothing of it.
        """
        return self._best().index

    @property
    def best_params_(self) -> dict[str, Any]:
        """Params of the candidate at ``best_index_``."""
        return self._best().params

    @property
    def best_score_(self) -> float:
        """Mean test score of the candidate at ``best_index_``."""
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
                "metrics and refit=False, or a callable refit that has not chosen yet."
            )
        return best

    def counts(self) -> dict[str, int]:
        """Return how many units are in each state.

        ``invalid`` counts records that could not be read, those of units that were queued anew
        included; ``missing`` units of which there is none.
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
        """Wait until nothing that the search wants is queued or running.

        Parameters
        ----------
        timeout : float, optional
            Seconds.
        clock, sleep : callable
            For tests.

        Returns
        -------
        bool
            Whether it is over; False after `timeout`.

        Raises
        ------
        StoreError
            If the database cannot be reached for a minute.

        Warns
        -----
        NoWorkers, WorkersRefuse, NoProgress
            As a search with ``n_jobs=0`` does, if its units are left to workers.
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
        """Go through the :meth:`counts` of units, now and each time they change, to the end.

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
        Ends when :meth:`wait` would.  To show how far a search is::

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

        Neither the function nor its data need be here: units are made from what the search
        wrote down, and are those of ``MongoSearch(function, wider_space)``, so either finds
        the scores of the other.  For searches of :class:`MongoSearch` only.

        Parameters
        ----------
        space : dict, list of dict, or iterable of dict
            A grid, or anything else that gives candidates without being told of scores.
            Those that have a score, or wait already, are not queued again.
        n_iter : int, default=None
            As in :class:`MongoSearch`.
        random_state : int, RandomState instance or None, default=None
            Seed of the draws, if there are any.

        Returns
        -------
        int
            How many of the candidates have no score yet.

        Raises
        ------
        ValueError
            If `space` is adaptive, or endless without `n_iter`, or the search did not write down
            what is needed.
        StoreError
            If the database cannot be reached for a minute.

        Notes
        -----
        A search that has ended goes on with that; :meth:`wait`, :meth:`watch`, :meth:`to_frame`
        and :meth:`cancel` are of all of it.  Where it was cancelled, what `space` does not
        name stays so.  A client that still waits for its own candidates is not held up.

        A param that the function does not take makes its candidates fail, as the function is
        not here to be asked.
        """
        candidates = _candidates(space, n_iter, random_state)
        with open_store(self.db) as store:
            plan = plan_more(_asked(store, self.search_id), candidates)
            report_doubts(plan, 0)
            return extend(store, self.search_id, plan)

    def cancel(self) -> None:
        """Withdraw the search: its client ends with SearchCancelled, what is scored stays."""
        with open_store(self.db) as store:
            for part in store.searches.parts(self.search_id):
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
    """Tell whether units wait, or a client that was seen of late may ask for more."""
    return store.jobs.waits(_waiting_ids(store, search)) or store.searches.is_running(search)


def _waiting_ids(store: Store, search: str) -> list[str]:
    """Return the ids under which units of `search` may wait."""
    return [i for part in store.searches.parts(search) for i in ids_that_wait(part)]


def _availability(store: Store, search: str, clock: Callable[[], float]) -> Availability:
    """Look who could score `search`, unless its client is there: that looks itself."""
    silent = partial(store.searches.is_running, search)

    def restore() -> None:
        if (asked := store.searches.asked(search)) is not None:
            store.workers.publish(asked.work)

    return Availability(
        *(store, ids_that_wait(search), timing_here(), clock), silent=silent, restore=restore
    )


def _note_the_end(store: Store, search: str) -> None:
    if store.searches.record(search).get("state") == "running":
        # It was left to workers, or its client is gone: nobody else will write it.
        store.searches.finish(search, "completed", {"line": "left to workers"})


def _candidates(space: Any, n_iter: int | None, random_state: Any) -> list[dict[str, Any]]:
    if is_adaptive(space) or callable(space):
        raise ValueError(
            "A generator that is told of scores, or a function, needs a process that asks it, so "
            "it cannot be added to a search that is left alone. Nothing was queued. Give "
            "candidates that are all known: a grid, a list of dicts, draws."
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
            "This search cannot be extended from here, as it did not write down what its units "
            "are made of: it is one of MongoSearchCV, is made of what no worker can have, or of "
            "an older version. Nothing was queued. Make it again where its function or estimator "
            "is, with the wider space: it scores only what is new."
        )
    return asked
