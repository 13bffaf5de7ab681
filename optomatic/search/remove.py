"""remove: searches that nobody needs any more, and what nothing refers to."""

from __future__ import annotations

from datetime import timedelta
from numbers import Real

from optomatic.store.connection import open_store
from optomatic.store.removal import Removed


def remove(
    name: str | None = None,
    *,
    older_than: timedelta | float | None = None,
    dry_run: bool = False,
    db: str | None = None,
) -> Removed:
    """Remove searches from the database, and all that only they need.

    Parameters
    ----------
    name : str, default=None
        Name or id of a search; of several searches of one name all are removed.  Without it
        also goes what nothing refers to: the rest of interrupted uploads and removals, and
        scores, parts and sets of versions of no search.
    older_than : timedelta or float, default=None
        Remove only searches that ended so long ago, by the clock of the database server: a
        timedelta, or seconds.  If nobody noted the end of a search, the last score of its units
        counts, or the moment when its client was seen last.  With neither this nor `name`
        no search is removed that has a record, however old.
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
        If there is no search of that name or id, or `older_than` is below zero.
    TypeError
        If `older_than` is no time.
    SearchRunning
        If a search of that name runs and `older_than` is not given: cancel it first.  Searches
        that run are skipped otherwise.  A search runs while units wait for workers, and for five
        minutes after its client was seen last, unless it has ended or was cancelled.
    StoreIncompatible
        If a newer version has stored searches.  Nothing is removed then.
    StoreError
        If the database cannot be reached for a minute.  What was not removed by then is removed
        by the next ``remove()``.

    See Also
    --------
    attach : ``attach(name).remove()`` removes one search.

    Notes
    -----
    A score is kept as long as any remaining search asks for it, data and estimators as long as
    any remaining search or unit is made of them.  What was removed is scored again when a search
    asks for it.

    May be called at any time, by any number of processes, beside searches, uploads and
    workers: they go on, and so do searches that begin meanwhile.  A search whose candidates come
    about as it runs notes within five seconds which stored scores it has found.  One that is
    removed before that serves it all the same, and ``attach(...).to_frame()`` leaves it out.
    If a search that was cancelled, or whose client was not seen for long, is removed and its
    client lives all the same, that raises SearchCancelled.

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


#: Before there was a MongoDB, and within what a datetime can be.
_LONG_AGO = 1e9
_NO_AGE = (
    "older_than is a timedelta, such as datetime.timedelta(days=30), or a number of seconds from 0 "
    "on, not {!r:.100}. Nothing was removed."
)
