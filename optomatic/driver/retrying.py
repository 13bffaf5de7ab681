"""Units that came to no score are queued again from elsewhere, for standalone workers."""

from __future__ import annotations

from optomatic.store.extending import added_to
from optomatic.store.holding import SEARCHES
from optomatic.store.opening import Store


def retry(store: Store, search: str) -> int:
    """Queue the failed and given-up units of `search` again; return how many.

    Raises
    ------
    ValueError
        If a worker could not score them, as data are not in the database, or the search was
        removed meanwhile.  Nothing is queued then.

    Notes
    -----
    May be repeated, and done by many at the same time.
    """
    states = store.jobs.states(store.searches.unit_ids(search))
    ids = [unit_id for unit_id, state in states.items() if state in ("failed", "dead")]
    if not ids:
        return 0
    parts, lanes = store.overview.made_of(ids)
    store.searches.need(search, parts)
    if store.bundles.missing(parts, SEARCHES) or len(store.workers.lanes(list(lanes))) < len(lanes):
        raise ValueError(
            "Nothing was queued, as no worker could score these units: what they are made of is "
            "not in the database, or was for its own process alone. Make the search again where "
            "its data are, with retry_failed=True: it scores only them."
        )
    # The record first: a worker that takes what a search of a name has looks there.
    store.searches.go_on(search)
    queued = store.jobs.retry(ids, added_to(search))
    if not store.searches.record(search):
        store.jobs.cancel(added_to(search))
        raise ValueError(
            "The search was removed from the database meanwhile, so nothing is queued. Make it "
            "again: it scores what is not stored."
        )
    return queued
