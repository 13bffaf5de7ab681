"""A search is made wider from elsewhere: look up, submit, and do not wait."""

from __future__ import annotations

from optomatic.driver.publishing import publish
from optomatic.plan.units.plan import Plan
from optomatic.store.extending import added_to
from optomatic.store.holding import SEARCHES
from optomatic.store.opening import Store


def extend(store: Store, search: str, plan: Plan) -> int:
    """Add the units of `plan` to what `search` asks for, and queue those without a score.

    Returns
    -------
    int
        How many have no score yet.

    Raises
    ------
    ValueError
        If what workers need besides the candidates is not stored, or the search was removed
        meanwhile.  Nothing is queued then.

    Notes
    -----
    May be repeated, and done by many at the same time.
    """
    served = store.jobs.stored(plan.units)
    missing = [unit for unit in plan.units if unit.id not in served]
    if missing:
        _check_parts(store, search, plan)
        publish(store, plan.parts.values(), missing[0].work, search)
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
    if store.bundles.missing(needed, SEARCHES):
        raise ValueError(
            "The function of this search, or its data, is not in the database, or cannot be read "
            "there: where all scores are stored when a search is made, nothing is sent. Nothing "
            "was queued. Run MongoSearch with the wider space where the function is: it sends "
            "what is missing, and scores only the new."
        )
