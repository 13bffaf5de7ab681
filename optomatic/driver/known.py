"""The rounds of a search: look up, submit, have it scored, wait, read.

Whoever calls :func:`run` also keeps the queue going while it waits: leases of workers
that vanished are taken back, so a search ends even if every other process dies.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from optomatic.errors import KeyNotCertain, SearchCancelled, StoreError
from optomatic.plan.units import Plan
from optomatic.records import Outcome, Part, Result, SearchRecord, Unit
from optomatic.results.progress import FitSummary, upload_lines
from optomatic.store.opening import Store
from optomatic.worker.environment import inside_worker
from optomatic.worker.heart import take_back_from_the_vanished
from optomatic.worker.turns import NO_TURNS, Turns

#: Units that somebody else finished are noticed each so many seconds, where anybody asks.
LOOK_SECONDS = 1.0

Told = Callable[[Collection[str]], None]


class Engine(Protocol):
    """What has the units of a search scored: this process, local workers, or nobody.

    Called once per round, in the caller's thread.  ``work`` returns when ``until()`` is
    true or when the engine itself has a reason to stop, in which case ``error`` is the
    exception that the search ends with.  On KeyboardInterrupt it hands in what is
    finished, gives back the rest, and lets the interrupt pass.  ``scored`` holds the ids of
    units that were scored in this process: what they print has been printed.
    """

    error: BaseException | None
    scored: set[str]

    def work(
        self, store: Store, search: str, until: Callable[[], bool], turns: Turns = NO_TURNS
    ) -> None:
        """Have units that `search` waits for scored, until ``until()``."""


@dataclass(frozen=True, slots=True)
class Ending:
    """What came of a search: an outcome for each of its unit ids, and what it took."""

    outcomes: dict[str, Outcome]
    fresh: frozenset[str]
    summary: FitSummary


def report_doubts(plan: Plan, workers: int | None) -> None:
    """Warn of what cannot be shared with other searches, and with other processes.

    Raises
    ------
    NotShippable
        If other processes are to score what cannot be sent to them.
    """
    if inside_worker():  # nothing is shared anyway
        return
    if plan.refusal is not None and workers is not None:
        raise plan.refusal
    if plan.refusal is not None:
        warnings.warn(
            f"{plan.refusal} It is scored in this process; other workers cannot help.",
            KeyNotCertain,
            stacklevel=3,
        )
    if plan.doubts:
        warnings.warn(
            "Scored for this search only and not reused by later ones, as it cannot be told "
            "for certain when it is equal: " + "; ".join(plan.doubts),
            KeyNotCertain,
            stacklevel=3,
        )


def run(
    store: Store,
    plan: Plan,
    record: SearchRecord,
    engine: Engine,
    *,
    retry_failed: bool = False,
    told: Told | None = None,
    say: Callable[[str], None] = lambda _: None,
    trial: Callable[[Iterable[Part]], None] = lambda _: None,
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

    trial : callable, optional
        Is given the parts before anything is queued, and raises what would go wrong elsewhere.

    Raises
    ------
    SearchCancelled
        If somebody withdrew the search meanwhile.
    StoreError
        If the store cannot be reached for a minute.  Finished units stay stored.

    Notes
    -----
    On any exception the units that nobody else waits for are withdrawn from the queue;
    what was scored stays, and the next equal search goes on from there.
    """
    began = clock()
    served, missing = _open(store, plan, record, retry_failed)
    try:
        if told is not None:
            told(served)
        if missing:
            trial(plan.parts.values())
            _upload(store, plan, say)
        scored = _score(store, plan, missing, record.id, engine, retry_failed, told, clock)
    except BaseException as error:
        withdraw(store, record.id, error)
        raise
    outcomes = {**served, **scored}
    summary = summary_of(outcomes, scored, clock() - began)
    store.searches.finish(record.id, "completed", {"line": str(summary)})
    return Ending(outcomes, frozenset(scored), summary)


def _open(
    store: Store, plan: Plan, record: SearchRecord, retry_failed: bool
) -> tuple[dict[str, Outcome], list[Unit]]:
    """Look up what is stored and open the record; return what is stored, and what is missing."""
    served = store.jobs.stored(plan.units)
    if retry_failed:
        served = {i: o for i, o in served.items() if o.state == "completed"}
    store.searches.open(record, [unit.id for unit in plan.units])
    return served, [unit for unit in plan.units if unit.id not in served]


def leave(
    store: Store,
    plan: Plan,
    record: SearchRecord,
    *,
    retry_failed: bool = False,
    trial: Callable[[Iterable[Part]], None] = lambda _: None,
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
        trial(plan.parts.values())
        _upload(store, plan, lambda _: None)
        store.workers.publish(missing[0].work)
        store.jobs.submit(missing, record.id, retry_failed=retry_failed)
    except BaseException as error:
        withdraw(store, record.id, error)
        raise
    return len(missing)


class Alone(Protocol):
    """An engine that also scores one unit at a time."""

    error: BaseException | None

    def score(self, unit_id: str) -> Result:
        """Score a unit in this process."""


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


def _upload(store: Store, plan: Plan, say: Callable[[str], None]) -> None:
    """Store the parts that are not stored yet."""
    for sha in store.bundles.missing(list(plan.parts)):
        part = plan.parts[sha]
        store.bundles.put(part, upload_lines(part.size, say))


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
    store.workers.publish(missing[0].work)
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


def has_ended(outcome: Outcome | None) -> bool:
    """Tell whether no worker will change a unit by itself any more."""
    return outcome is not None and outcome.state in ("completed", "failed", "dead")


def withdraw(store: Store, search: str, error: BaseException) -> None:
    """Leave the queue without what only this search waits for; keep the first error."""
    try:
        store.jobs.cancel(search)
        store.searches.finish(search, "interrupted", {"error": type(error).__name__})
    except StoreError as second:
        error.add_note(
            f"The units of this search could not be withdrawn from the queue ({second}); "
            "workers may go on with them. Nothing that was scored is lost."
        )


def summary_of(
    outcomes: Mapping[str, Outcome],
    fresh: Collection[str],
    seconds: float,
    *,
    left_out: str = "",
    stopped: str = "",
) -> FitSummary:
    """Sum up a search.

    Parameters
    ----------
    outcomes : mapping of str to Outcome
        Of all its units that have an end.
    fresh : collection of str
        Those of them that were scored while it ran.
    """
    return FitSummary(
        units=len(outcomes),
        stored=len(outcomes) - len(fresh),
        scored=len(fresh),
        failed=sum(outcome.state != "completed" for outcome in outcomes.values()),
        workers=len({w for i in fresh if (w := outcomes[i].worker)}),
        seconds=seconds,
        left_out=left_out,
        stopped=stopped,
    )
