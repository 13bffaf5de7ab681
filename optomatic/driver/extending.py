"""Add candidates to a stored search from elsewhere, or queue its failed units again."""

from __future__ import annotations

from optomatic.driver.driver import upload
from optomatic.planning.planner import Plan
from optomatic.store.connection import Store
from optomatic.store.parts import SEARCHES
from optomatic.store.searches import added_to


def extend(store: Store, search: str, plan: Plan) -> int:
    """Add the units of `plan` to what `search` asks for; return how many have no score yet.

    They are queued.  This may be repeated, and done by many at the same time.

    Raises
    ------
    ValueError
        If parts that workers need are not stored, or the search was removed meanwhile.  Nothing
        is queued then.
    """
    served = store.jobs.stored(plan.units)
    missing = [unit for unit in plan.units if unit.id not in served]
    if missing:
        _check_parts(store, search, plan)
        upload(store, plan.parts.values(), search)
        store.workers.publish(missing[0].work)
    known = dict.fromkeys(store.searches.unit_ids(search))
    new = [own for own in plan.candidates if not known.keys() >= {*own.units}]
    store.searches.add(search, new, goes_on=bool(missing))
    if missing:
        store.jobs.submit(missing, added_to(search))
    if not store.searches.record(search):
        store.jobs.cancel(added_to(search))
        raise ValueError(
            "The search was removed from the database while candidates were added to it, so "
            "nothing is queued. Make it again, with the wider space."
        )
    return len(missing)


def _check_parts(store: Store, search: str, plan: Plan) -> None:
    """Make sure that function and data are stored: they are not here to be stored now."""
    needed = {sha for sha in plan.units[0].work.spec.values() if sha is not None}
    store.searches.need(search, needed)
    if store.parts.missing(needed, SEARCHES):
        raise ValueError(
            "The function of this search, or its data, is not in the database, or cannot be read "
            "there: where all scores are stored when a search is made, nothing is sent. Nothing "
            "was queued. Run MongoSearch with the wider space where the function is: it sends "
            "what is missing, and scores only the new."
        )


def retry(store: Store, search: str) -> int:
    """Queue the failed and given-up units of `search` again; return how many.

    This may be repeated, and done by many at the same time.

    Raises
    ------
    ValueError
        If no worker could score them, as data are not in the database, or the search was removed
        meanwhile.  Nothing is queued then.
    """
    states = store.jobs.states(store.searches.unit_ids(search))
    ids = [unit_id for unit_id, state in states.items() if state in ("failed", "dead")]
    if not ids:
        return 0
    parts, queues = store.inventory.made_of(ids)
    store.searches.need(search, parts)
    if store.parts.missing(parts, SEARCHES) or len(store.workers.queues(list(queues))) < len(
        queues
    ):
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
