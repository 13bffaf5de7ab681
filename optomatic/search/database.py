"""Look at all searches, workers and running units of a database; check it; remove from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from numbers import Real
from typing import Any

import pandas as pd

from optomatic.planning.params import params_line
from optomatic.search.reader import SearchReader
from optomatic.store.connection import DatabaseCheck, Store, open_store
from optomatic.store.documents import ListedForm, PresentForm, RunningForm
from optomatic.store.removal import Removed
from optomatic.store.searches import search_of, state_of

#: The best score so far is read for so many running searches, with so many units in all.
_MOST_RUNNING, _MOST_READ = 10, 10_000


def searches(db: str | None = None) -> pd.DataFrame:
    """Return all searches of a database, the latest first.

    Parameters
    ----------
    db : str, default=None
        As in :class:`MongoSearchCV`.

    Returns
    -------
    DataFrame
        Index ``id``.  Columns:

        ``name`` : str
            Several searches may have the same.
        ``state`` : str
            ``running``; ``abandoned``: its client vanished; ``left``: left to standalone
            workers, and not done; ``completed``, ``interrupted``, ``cancelled``; ``invalid``:
            something changed its record.
        ``done``, ``total`` : int
            Units, (candidate, split) pairs, that have ended, and all that were asked for so far.
        ``failed`` : int
            Units among ``done`` without a score; NA if counting takes too long.
        ``best`` : float
            The best score, or the best so far.  NaN without one, and for running searches beyond
            the latest ten or beyond 10,000 units in all.
        ``began_at``, ``ended_at`` : datetime in UTC
            NaT without a recorded end.
        ``age`` : timedelta
            Since it began, by the clock of the database server.
        ``who`` : str
            ``user@host`` of its client.
        ``kind`` : str
            The class of the estimator, or the name of the function.

        The iterations of successive halving are one row.

    Raises
    ------
    StoreError
        If the database cannot be used.

    Notes
    -----
    Reads only, in a few queries for any number of searches.  Counts of running searches come
    from slightly different moments.
    """
    with open_store(db) as store:
        listed = store.searches.all()
        now = store.jobs.server_time()
        waiting = store.searches.count_waiting([s.id for s in listed if s.state == "running"])
        open_ones = [search for search in listed if _numbers(search) is None]
        lacking = store.searches.count_without_score(open_ones)
        rows = {s.id: _search_row(s, now, waiting[s.id], lacking.get(s.id)) for s in listed}
        going = [s for s in listed if rows[s.id]["state"] == "running"]
        for search, score in _best_so_far(store, going[:_MOST_RUNNING]):
            rows[search]["best"] = score
    _put_together(rows, {s.id: s.part_of for s in listed if s.part_of})
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=list(_SEARCHES))
    return frame.rename_axis("id").astype(_SEARCHES)


def _best_so_far(store: Store, searches: Iterable[ListedForm]) -> Iterator[tuple[str, float]]:
    """Yield the best scores so far of running searches, for the first 10,000 units."""
    left = _MOST_READ
    for search in searches:
        left -= search.n_units
        if left >= 0:
            with suppress(ValueError):  # it was removed meanwhile
                found = SearchReader(store, search.id).best()
                if found is not None and found.score is not None:
                    yield search.id, found.score


_TIME = "datetime64[us, UTC]"
_SEARCHES: dict[str, Any] = {
    "name": object,
    "state": object,
    "done": "Int64",
    "total": "Int64",
    "failed": "Int64",
    "best": float,
    "began_at": _TIME,
    "ended_at": _TIME,
    "age": "timedelta64[us]",
    "who": object,
    "kind": object,
}


def _search_row(
    search: ListedForm, now: datetime, waits: int, lacking: Counter[str] | None
) -> dict[str, Any]:
    numbers, best = _numbers(search), (search.best or {}).get("score")
    done: int | None = search.n_units
    if search.state == "running":
        done = max(0, search.n_units - waits)
    elif search.state != "completed":
        done = (
            None if lacking is None else search.n_units - lacking["cancelled"] - lacking["invalid"]
        )
    failed = None if lacking is None else lacking["failed"] + lacking["dead"]
    host = search.process.host
    return {
        "name": search.name,
        "state": state_of(search, now, waits=waits > 0),
        "done": done,
        "total": search.n_units,
        "failed": numbers["failed"] if numbers else failed,
        "best": float(best) if isinstance(best, int | float) else float("nan"),
        "began_at": search.began_at,
        "ended_at": search.ended_at,
        "age": now - search.began_at,
        "who": f"{search.user}@{host}" if search.user else host,
        "kind": _kind(search.estimator),
    }


def _numbers(search: ListedForm) -> dict[str, Any] | None:
    """Return the stored summary of a completed search; None of others."""
    summary = search.summary or {}
    known = search.state == "completed" and isinstance(summary.get("failed"), int)
    return summary if known else None


def _kind(estimator: str) -> str:
    """Return the class of an estimator or the name of a function, from its stored text.

    >>> _kind("SVC(C=1)"), _kind("__main__:train")
    ('SVC', 'train')
    """
    name = estimator.partition("(")[0]
    return name.rpartition(":")[2] if name == estimator else name


def _put_together(rows: dict[str, dict[str, Any]], part_of: dict[str, str]) -> None:
    """Add the rows of iterations to the row of the first one, which stands for the search."""
    # The latest comes first; it has the state and the end of the search.
    for search, first in part_of.items():
        part, whole = rows.pop(search), rows.get(first)
        if whole is None:
            continue
        for name in ("done", "total", "failed"):
            known = None not in (whole[name], part[name])
            whole[name] = whole[name] + part[name] if known else None
        if not whole.get("latest"):
            whole.update(latest=True, state=part["state"], ended_at=part["ended_at"])


def workers(db: str | None = None) -> pd.DataFrame:
    """Return all workers that are alive.

    Parameters
    ----------
    db : str, default=None
        As in :class:`MongoSearchCV`.

    Returns
    -------
    DataFrame
        Index ``id``.  Columns:

        ``kind`` : str
            ``standalone``; ``local``: of a search with ``n_jobs``; ``here``: the process of a
            search itself.
        ``host`` : str
            Name of its machine.
        ``pid``, ``processes`` : int
            It scores ``processes`` units at the same time.
        ``tags`` : str
            With blanks between.
        ``since``, ``seen`` : float
            Seconds since it began, and since it was seen last.
        ``refuses`` : str
            Why it leaves some searches alone that its versions allow; empty if it does not.
        ``units`` : int
            Units that it scores now.

    Raises
    ------
    StoreError
        If the database cannot be used.

    Notes
    -----
    A worker is alive if it was seen in the last 30 s (``$OPTOMATIC_LEASE``); on this machine its
    process must live, too.
    """
    with open_store(db) as store:
        gone = set(store.workers.vanished())
        present = [w for w in store.workers.present(store.timing.lease) if w.id not in gone]
        held = store.jobs.held()
        now = store.jobs.server_time()
    # The client of a search registers as workers do, with no processes that score.
    rows = {w.id: _worker_row(w, now, held[w.id]) for w in present if w.processes > 0}
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=list(_WORKERS))
    return frame.rename_axis("id").astype(_WORKERS)


_WORKERS: dict[str, Any] = {
    "kind": object,
    "host": object,
    "pid": "int64",
    "processes": "int64",
    "tags": object,
    "since": float,
    "seen": float,
    "refuses": object,
    "units": "int64",
}


def _worker_row(worker: PresentForm, now: datetime, units: int) -> dict[str, Any]:
    return {
        "kind": worker.kind,
        "host": worker.process.host,
        "pid": worker.process.pid,
        "processes": worker.processes,
        "tags": " ".join(worker.tags),
        "since": _seconds(now - worker.began_at),
        "seen": _seconds(now - worker.seen_at),
        "refuses": "; ".join(dict.fromkeys((worker.refused or {}).values())),
        "units": units,
    }


def _seconds(span: timedelta) -> float:
    return max(0.0, span.total_seconds())


def running(db: str | None = None) -> pd.DataFrame:
    """Return the units that are being scored now, the longest-running first.

    Parameters
    ----------
    db : str, default=None
        As in :class:`MongoSearchCV`.

    Returns
    -------
    DataFrame
        One row a unit, at most 10,000.  Columns:

        ``search`` : str
            Names of the searches that wait for it; ``(joblib)`` for a call of joblib.
        ``params`` : str
            Of the candidate.
        ``split`` : int
            NA for calls.
        ``worker``, ``host`` : str
            Id of its worker, and the machine of that.
        ``since`` : float
            Seconds since its worker began.
        ``attempt`` : int
            How often it was claimed, this time included.

    Raises
    ------
    StoreError
        If the database cannot be used.
    """
    with open_store(db) as store:
        return running_of(store)


def running_of(store: Store, waiting_ids: Sequence[str] | None = None) -> pd.DataFrame:
    """Return :func:`running`, or only the units that wait under some ids."""
    units = store.jobs.running(waiting_ids)
    wanted = {search_of(w) for unit in units for w in unit.wanted_by}
    names = dict(store.searches.names(ids=wanted))
    now = store.jobs.server_time()
    rows = [_unit_row(unit, names, now) for unit in units]
    return pd.DataFrame(rows, columns=list(_RUNNING)).astype(_RUNNING)


_RUNNING: dict[str, Any] = {
    "search": object,
    "params": object,
    "split": "Int64",
    "worker": object,
    "host": object,
    "since": float,
    "attempt": "int64",
}


def _unit_row(unit: RunningForm, names: dict[str, str], now: datetime) -> dict[str, Any]:
    call = unit.kind == "call"
    wanted = dict.fromkeys(names.get(search_of(w), search_of(w)) for w in unit.wanted_by)
    split = unit.spec.get("split")
    return {
        "search": "(joblib)" if call else ", ".join(wanted),
        "params": "" if call else params_line(unit.params),
        "split": split if isinstance(split, int) and not call else None,
        "worker": unit.worker,
        "host": unit.host or "",
        "since": _seconds(now - (unit.started_at or unit.claimed_at)),
        "attempt": unit.attempt,
    }


def check_database(db: str | None = None) -> DatabaseCheck:
    """Check whether a database can be used, and change nothing.

    Parameters
    ----------
    db : str, default=None
        As in :class:`MongoSearchCV`.

    Returns
    -------
    DatabaseCheck
        Prints as a line for each of ``address``, ``server``, ``version``, ``rights``,
        ``write_concern``, ``indexes`` and ``size``, and for each of ``problems``.

    Raises
    ------
    StoreError
        If the database cannot be used at all.
    """
    with open_store(db) as store:
        return store.check()


def remove(
    name: str | None = None,
    *,
    older_than: timedelta | float | None = None,
    dry_run: bool = False,
    db: str | None = None,
) -> Removed:
    """Remove searches from the database, with the scores and data that only they need.

    Parameters
    ----------
    name : str, default=None
        Name or id of a search; all searches with this name are removed.  Without `name`, data
        that no search refers to are removed, too: left-overs of interrupted uploads and removals,
        and scores, parts and sets of versions of no search.
    older_than : timedelta or float, default=None
        Remove only searches that ended so long ago (a timedelta, or seconds), by the clock of the
        database server.  A search without a recorded end counts from its last score, or from the
        last sign of life of its client.  With neither `name` nor `older_than`, no search is
        removed, only data that no search refers to.
    dry_run : bool, default=False
        Remove nothing, and return what would be removed.
    db : str, default=None
        As in :class:`MongoSearchCV`.

    Returns
    -------
    Removed
        How many ``searches``, ``units`` and ``parts``, and how many ``bytes`` they have.

    Raises
    ------
    ValueError
        If no search has that name or id, or `older_than` is negative.
    TypeError
        If `older_than` is not a time.
    SearchRunning
        If a search of that name runs, and `older_than` is not given: cancel it first.  With
        `older_than`, running searches are skipped.  A search runs while units wait for workers,
        and for five minutes after its client was seen last, unless it ended or was cancelled.
    StoreIncompatible
        If a newer version has stored searches.  Nothing is removed then.
    StoreError
        If the database cannot be reached for a minute.  The next ``remove()`` removes the rest.

    See Also
    --------
    attach : ``attach(name).remove()`` removes one search.

    Notes
    -----
    A score stays as long as any other search asks for it, and data and estimators as long as any
    other search or unit needs them.  A removed score is computed again when a search asks for it.

    Any number of processes may call this at any time.  Running searches, uploads and workers are
    not disturbed, and neither are searches that begin meanwhile.  An adaptive search notes within
    five seconds which stored scores it found.  A score that is removed before that still serves
    the search, but ``attach(...).to_frame()`` leaves it out.  If a removed search was cancelled,
    or its client was not seen for long, and the client lives after all, it raises
    SearchCancelled.

    Examples
    --------
    >>> from datetime import timedelta
    >>> from optomatic import remove
    >>> remove(older_than=timedelta(days=30), dry_run=True)  # doctest: +SKIP
    Removed(searches=12, units=3600, parts=9, bytes=5242880, dry_run=True)
    """
    age = _age(older_than)
    with open_store(db) as store:
        return store.removal.remove(name, older_than=age, dry_run=dry_run)


def _age(older_than: object) -> timedelta | None:
    if older_than is None:
        return None
    if isinstance(older_than, timedelta):
        seconds = older_than.total_seconds()
    elif isinstance(older_than, bool) or not isinstance(older_than, Real):
        raise TypeError(_NO_AGE.format(older_than))
    else:
        seconds = float(older_than)
    if not seconds >= 0:
        raise ValueError(_NO_AGE.format(older_than))
    return timedelta(seconds=min(seconds, _LONG_AGO))


#: Seconds: before there was a MongoDB, and in the range of a datetime.
_LONG_AGO = 1e9
_NO_AGE = (
    "older_than is a timedelta, such as datetime.timedelta(days=30), or a number of seconds, 0 or "
    "more, not {!r:.100}. Nothing was removed."
)
