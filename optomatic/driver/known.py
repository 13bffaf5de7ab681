"""A search whose candidates are all known: look up, submit, have it scored, wait, read.

Whoever calls :func:`run` also keeps the queue going while it waits: leases of workers
that vanished are taken back, so a search ends even if every other process dies.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from optomatic.driver.ending import INTERRUPTED, Ending, has_ended, summary_of, withdraw
from optomatic.driver.engine import Alone, Engine, Told
from optomatic.driver.publishing import Say, publish, say_nothing
from optomatic.driver.reuse import OtherVersions
from optomatic.errors import SearchCancelled, StoreError
from optomatic.plan.units.plan import Plan
from optomatic.records import Outcome, SearchRecord, Unit
from optomatic.store.opening import Store, open_store
from optomatic.worker.engines import Here
from optomatic.worker.heart import take_back_from_the_vanished
from optomatic.worker.machine import inside_worker

#: Units that somebody else finished are noticed each so many seconds, where anybody asks.
LOOK_SECONDS = 1.0


def run_at(
    db: str | None,
    plan: Plan,
    record: SearchRecord,
    engine: Engine,
    *,
    retry_failed: bool = False,
    told: Told | None = None,
    say: Say = say_nothing,
) -> Ending:
    """Have every unit of `plan` scored, by way of the store at `db`: as :func:`run`.

    Inside of a worker, which has no address of a store, they are scored without one.
    """
    if isinstance(engine, Here) and inside_worker():
        return run_alone(plan, engine)
    with open_store(db) as store:
        return run(
            *(store, plan, record, engine),
            retry_failed=retry_failed,
            told=told,
            say=say,
        )


def run(
    store: Store,
    plan: Plan,
    record: SearchRecord,
    engine: Engine,
    *,
    retry_failed: bool = False,
    told: Told | None = None,
    say: Say = say_nothing,
    clock: Callable[[], float] = time.monotonic,
) -> Ending:
    """Have every unit of `plan` scored and return all outcomes.

    Parameters
    ----------
    retry_failed : bool
        Score units again whose stored end is a failure.
    told : callable, optional
        Is told the ids of units that have an end, in this thread: of stored ones at once, of
        others about each second and at the end, of each at least once.
    say : callable, optional
        Is told in a line now and then how far the upload of large data has come.

    Raises
    ------
    SearchCancelled
        If somebody withdrew the search meanwhile.
    StoreError
        If the store cannot be reached for a minute.  Finished units stay stored.

    Notes
    -----
    On any exception the units that nobody else waits for are withdrawn from the queue;
    what was scored stays, and the next equal search goes on from there.  A Ctrl-C is not
    raised but returned, with the units that have an end.
    """
    began = clock()
    served, missing = _open(store, plan, record, retry_failed)
    others = OtherVersions()
    try:
        if told is not None:
            told(served)
        if missing:
            others.note(store, plan, missing)
            publish(store, plan.parts.values(), missing[0].work, say)
        scored = _score(store, plan, missing, record.id, engine, retry_failed, told, clock)
    except KeyboardInterrupt as interrupt:
        scored = _ended_before(store, record.id, missing, interrupt)
        outcomes, seconds = {**served, **scored}, clock() - began
        summary = summary_of(outcomes, scored, seconds, engine.sizes, stopped=INTERRUPTED)
        return Ending(outcomes, frozenset(scored), summary, interrupt)
    except BaseException as error:
        withdraw(store, record.id, error)
        raise
    outcomes = {**served, **scored}
    seconds, said = clock() - began, str(others)
    summary = summary_of(outcomes, scored, seconds, engine.sizes, other_versions=said)
    store.searches.finish(record.id, "completed", {"line": str(summary)})
    return Ending(outcomes, frozenset(scored), summary)


def _ended_before(
    store: Store, search: str, missing: Sequence[Unit], interrupt: KeyboardInterrupt
) -> dict[str, Outcome]:
    """Withdraw `search`; return what ended before it was interrupted."""
    if not withdraw(store, search, interrupt):
        raise interrupt
    try:
        found = store.jobs.outcomes([unit.id for unit in missing])
    except StoreError as second:
        raise interrupt from second
    return {unit_id: outcome for unit_id, outcome in found.items() if has_ended(outcome)}


def _open(
    store: Store, plan: Plan, record: SearchRecord, retry_failed: bool
) -> tuple[dict[str, Outcome], list[Unit]]:
    """Look up what is stored and open the record; return what is stored, and what is missing."""
    served = store.jobs.stored(plan.units)
    if retry_failed:
        served = {i: o for i, o in served.items() if o.state == "completed"}
    store.searches.open(record, [unit.id for unit in plan.units], plan.asked)
    return served, [unit for unit in plan.units if unit.id not in served]


def leave(
    store: Store,
    plan: Plan,
    record: SearchRecord,
    *,
    retry_failed: bool = False,
    say: Say = say_nothing,
) -> int:
    """Queue what of `plan` has no score yet, for whichever workers there are; do not wait.

    Returns
    -------
    int
        How many units were queued.
    """
    served, missing = _open(store, plan, record, retry_failed)
    if not missing:
        store.searches.finish(record.id, "completed", {"line": f"{len(served)} units: all stored"})
        return 0
    try:
        publish(store, plan.parts.values(), missing[0].work, say)
        store.jobs.submit(missing, record.id, retry_failed=retry_failed)
        store.searches.left(record.id)
    except BaseException as error:
        withdraw(store, record.id, error)
        raise
    return len(missing)


def run_alone(plan: Plan, engine: Alone, *, clock: Callable[[], float] = time.monotonic) -> Ending:
    """Have every unit of `plan` scored in this process, without a store.

    So does a search inside of a worker, which is part of a unit of another search: what
    comes of the whole is stored, and no address of a store ever travels to workers.
    """
    began = clock()
    outcomes = {}
    for unit in plan.units:
        result = engine.score(unit.id)
        if engine.error is not None:
            raise engine.error
        outcomes[unit.id] = Outcome(unit.id, "failed" if result.failures else "completed", result)
    summary = summary_of(outcomes, outcomes, clock() - began)
    return Ending(outcomes, frozenset(outcomes), summary)


def _score(
    store: Store,
    plan: Plan,
    missing: Sequence[Unit],
    search: str,
    engine: Engine,
    retry_failed: bool,
    told: Told | None,
    clock: Callable[[], float],
) -> dict[str, Outcome]:
    """Submit `missing` and wait, again and again until each has an end."""
    if not missing:
        return {}
    take_back_from_the_vanished(store)
    open_units = list(missing)
    while open_units:
        store.jobs.submit(open_units, search, retry_failed=retry_failed)
        retry_failed = False
        engine.work(store, search, _until(store, search, open_units, told, clock))
        if engine.error is not None:
            raise engine.error
        found = store.jobs.outcomes([unit.id for unit in missing])
        open_units = [unit for unit in missing if not has_ended(found.get(unit.id))]
        if told is not None:
            told({unit.id for unit in missing} - {unit.id for unit in open_units})
        if open_units and store.searches.withdrawn(search):
            raise SearchCancelled(
                f"The search was cancelled while {len(open_units)} of {len(missing)} units were "
                "not scored yet. All finished scores are stored; call fit again to go on."
            )
    return found


def _until(
    store: Store,
    search: str,
    units: Sequence[Unit],
    told: Told | None,
    clock: Callable[[], float],
) -> Callable[[], bool]:
    """Return what tells that `search` waits for nothing, and tells `told` on the way."""
    looked = clock()

    def until() -> bool:
        nonlocal looked
        if told is not None and clock() - looked > LOOK_SECONDS:
            told({unit.id for unit in units}.difference(store.jobs.waiting(search)))
            looked = clock()
        return not store.jobs.waits(search)

    return until
