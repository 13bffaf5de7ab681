"""A search whose candidates are all known: look up, submit, have it scored, wait, read.

Whoever calls :func:`run` also keeps the queue going while it waits: leases of workers
that vanished are taken back, so a search ends even if every other process dies.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from optomatic.driver.executors import Alone, Executor, Told
from optomatic.driver.following import Unfollowed
from optomatic.driver.preflight import OtherVersions
from optomatic.driver.summary import (
    INTERRUPTED,
    MENDS,
    Ending,
    has_ended,
    lacks_parts,
    report_invalid,
    summary_of,
    withdraw,
)
from optomatic.driver.uploads import Say, mend, publish, say_nothing
from optomatic.errors import SearchCancelled, StoreError
from optomatic.planning.planner import Plan
from optomatic.records import Outcome, SearchRecord, Unit
from optomatic.store.connection import Store, open_store
from optomatic.worker.availability import Availability
from optomatic.worker.heartbeat import reap_vanished
from optomatic.worker.host import inside_worker, timing_here
from optomatic.worker.inprocess import InProcess

#: Units that somebody else finished are noticed each so many seconds, where anybody asks.
LOOK_SECONDS = 1.0
#: Records that may be found changed, for each unit, until a search gives up.
_MOST_INVALID = 10


def run_at(
    db: str | None,
    plan: Plan,
    record: SearchRecord,
    executor: Executor,
    *,
    retry_failed: bool = False,
    told: Told | None = None,
    following: Unfollowed | None = None,
) -> Ending:
    """Have every unit of `plan` scored, by way of the store at `db`: as :func:`run`.

    Inside of a worker, which has no address of a store, they are scored without one.
    """
    if isinstance(executor, InProcess) and inside_worker():
        return run_alone(plan, executor)
    with open_store(db) as store:
        return run(
            *(store, plan, record, executor),
            retry_failed=retry_failed,
            told=told,
            following=following,
        )


def run(
    store: Store,
    plan: Plan,
    record: SearchRecord,
    executor: Executor,
    *,
    retry_failed: bool = False,
    told: Told | None = None,
    following: Unfollowed | None = None,
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
    following : Unfollowed, optional
        Follows the search, for those who look at it meanwhile.

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
    following = following or Unfollowed()
    with following.follow(store, record):
        return _run(store, plan, record, executor, following, retry_failed, told, clock)


def _run(
    store: Store,
    plan: Plan,
    record: SearchRecord,
    executor: Executor,
    following: Unfollowed,
    retry_failed: bool,
    told: Told | None,
    clock: Callable[[], float],
) -> Ending:
    began = clock()
    listing, served, missing = _open(store, plan, record, retry_failed)
    following.ended(served, stored=True)
    others = OtherVersions()
    try:
        if told is not None:
            told(served)
        if missing:
            others.note(store, plan, missing)
            publish(
                *(store, plan.parts.values(), missing[0].work, listing, following.say),
                client_of=record.id,
            )
        scored, invalid = _score(
            *(store, plan, missing, record.id, executor, listing),
            *(following, retry_failed, told, clock),
        )
    except KeyboardInterrupt as interrupt:
        scored = _ended_before(store, record.id, missing, interrupt)
        outcomes, seconds = {**served, **scored}, clock() - began
        summary = summary_of(outcomes, scored, seconds, executor.sizes, stopped=INTERRUPTED)
        return Ending(outcomes, frozenset(scored), summary, interrupt)
    except BaseException as error:
        withdraw(store, record.id, error)
        raise
    outcomes = {**served, **scored}
    seconds, said = clock() - began, str(others)
    summary = summary_of(
        *(outcomes, scored, seconds, executor.sizes), other_versions=said, invalid=invalid
    )
    report_invalid(invalid)
    store.searches.finish(record.id, "completed", summary.document())
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
) -> tuple[str, dict[str, Outcome], list[Unit]]:
    """Open the record and look up what is stored.

    Returns
    -------
    listing : str
    served : dict of str to Outcome
    missing : list of Unit
    """
    ids = [unit.id for unit in plan.units]
    listing = store.searches.open(record, ids, plan.candidates, plan.asked)
    try:
        served = store.jobs.stored(plan.units)
    except BaseException as error:
        withdraw(store, record.id, error)
        raise
    if retry_failed:
        served = {i: o for i, o in served.items() if o.state == "completed"}
    return listing, served, [unit for unit in plan.units if unit.id not in served]


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
    listing, served, missing = _open(store, plan, record, retry_failed)
    if not missing:
        store.searches.finish(record.id, "completed", summary_of(served, (), 0.0).document())
        return 0
    try:
        publish(*(store, plan.parts.values(), missing[0].work, listing, say), client_of=record.id)
        store.jobs.submit(missing, record.id, retry_failed=retry_failed)
        if store.searches.withdrawn(record.id):  # before these were queued
            store.jobs.cancel(record.id)
        store.searches.left(record.id)
    except BaseException as error:
        withdraw(store, record.id, error)
        raise
    return len(missing)


def run_alone(
    plan: Plan, executor: Alone, *, clock: Callable[[], float] = time.monotonic
) -> Ending:
    """Have every unit of `plan` scored in this process, without a store.

    So does a search inside of a worker, which is part of a unit of another search: what
    comes of the whole is stored, and no address of a store ever travels to workers.
    """
    began = clock()
    outcomes = {}
    for unit in plan.units:
        result = executor.score(unit.id)
        if executor.error is not None:
            raise executor.error
        outcomes[unit.id] = Outcome(unit.id, "failed" if result.failures else "completed", result)
    summary = summary_of(outcomes, outcomes, clock() - began)
    return Ending(outcomes, frozenset(outcomes), summary)


def _score(
    store: Store,
    plan: Plan,
    missing: Sequence[Unit],
    search: str,
    executor: Executor,
    listing: str,
    following: Unfollowed,
    retry_failed: bool,
    told: Told | None,
    clock: Callable[[], float],
) -> tuple[dict[str, Outcome], int]:
    """Submit `missing` and wait, again and again until each has an end.

    Return the ends, and how many records could not be read.
    """
    if not missing:
        return {}, 0
    reap_vanished(store)
    waiting = _Waiting(store, plan, missing, search, listing, executor.standalone, told, clock)
    while waiting.open:
        waiting.submit(retry_failed=retry_failed)
        retry_failed = False
        following.queued([unit.id for unit in waiting.open])
        # Who cancelled it before these were queued has not cancelled them.
        _end_if_withdrawn(store, search, waiting, len(missing))
        executor.work(store, search, waiting.over)
        if executor.error is not None:
            raise executor.error
        found = waiting.read()
        following.ended({i: outcome for i, outcome in found.items() if has_ended(outcome)})
        _end_if_withdrawn(store, search, waiting, len(missing))
    return found, waiting.invalid


def _end_if_withdrawn(store: Store, search: str, waiting: _Waiting, asked: int) -> None:
    if waiting.open and store.searches.withdrawn(search):
        raise SearchCancelled(
            f"The search was cancelled, or removed, while {len(waiting.open)} of {asked} units "
            "were not scored yet. All finished scores are stored, unless they were removed; call "
            "fit again to go on."
        )


class _Waiting:
    """What a search whose candidates are all known waits for.

    Attributes
    ----------
    open : list of Unit
        Units that have no end yet.
    invalid : int
        Records that could not be read, so that their units were queued anew.
    """

    def __init__(
        self,
        store: Store,
        plan: Plan,
        missing: Sequence[Unit],
        search: str,
        listing: str,
        standalone: bool,
        told: Told | None,
        clock: Callable[[], float],
    ) -> None:
        self._store, self._plan, self._missing = store, plan, missing
        self._search, self._listing = search, listing
        self._told, self._clock, self._looked = told, clock, clock()
        self._availability = Availability(
            *(store, [search], timing_here(), clock), standalone=standalone, restore=self._restore
        )
        self._mends = 0
        self.open, self.invalid = list(missing), 0

    def submit(self, *, retry_failed: bool) -> None:
        """Queue what has no end yet."""
        met = self._store.jobs.submit(self.open, self._search, retry_failed=retry_failed)
        self.invalid += met.invalid
        self._availability.foreign = met.foreign
        if self.invalid > _MOST_INVALID * len(self._missing):
            raise StoreError(
                "What this search stores reads differently each time: another program writes to "
                "the same collections. All finished scores are stored. Use a database of its own."
            )

    def over(self) -> bool:
        """Tell whether the search waits for nothing, and tell others on the way."""
        if self._told is not None and self._clock() - self._looked > LOOK_SECONDS:
            waits = self._store.jobs.waiting(self._search)
            self._told({unit.id for unit in self.open}.difference(waits))
            self._looked = self._clock()
        jobs = self._store.jobs
        waits_on = jobs.waits(self._search) or bool(jobs.foreign([*self._availability.foreign]))
        if waits_on:
            self._availability.look()
        return not waits_on

    def read(self) -> dict[str, Outcome]:
        """Return what there is of all units, and take out of `open` what has an end."""
        found = self._store.jobs.outcomes([unit.id for unit in self._missing])
        lacking = [i for i, outcome in found.items() if lacks_parts(outcome)]
        if lacking and self._mends < MENDS:
            self._mends += 1
            mend(self._store, self._plan.parts.values())
            for unit_id in lacking:
                del found[unit_id]
        self.open = [unit for unit in self._missing if not has_ended(found.get(unit.id))]
        if self._told is not None:
            self._told({unit.id for unit in self._missing} - {unit.id for unit in self.open})
        return found

    def _restore(self) -> None:
        """Store again what workers need, and wait for nothing that was not asked for."""
        parts = self._plan.parts.values()
        publish(self._store, parts, self._missing[0].work, self._listing)
        own = {unit.id for unit in self._missing}
        strange = [i for i in self._store.jobs.waiting(self._search) if i not in own]
        if strange:
            self._store.jobs.cancel(self._search, strange)
