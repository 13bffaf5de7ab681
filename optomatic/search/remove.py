"""Remove searches, and data that no search refers to."""

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
