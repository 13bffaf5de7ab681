"""Candidates that are all known: look up, queue, have them scored, wait, read.

The process that waits also keeps the queue going: leases of workers that vanished are taken
back, so a search ends even if every other process dies.
"""

from __future__ import annotations

import time
from typing import Any

from optomatic.driver.driver import Driver
from optomatic.driver.ending import summary_of, withdraw
from optomatic.driver.executors import Alone, Executor
from optomatic.driver.search_state import SearchState
from optomatic.planning.planner import Plan
from optomatic.records import Outcome, SearchRecord
from optomatic.results.summary import FitSummary
from optomatic.store.connection import Store
from optomatic.worker.heartbeat import reap_vanished

#: Seconds between two looks for units that others finished, if callbacks ask for them.
LOOK_SECONDS = 1.0


class FixedDriver(Driver):
    """Has all units of a plan scored, which the state holds already."""

    def __init__(
        self, store: Store, record: SearchRecord, state: SearchState, plan: Plan, **how: Any
    ) -> None:
        super().__init__(store, record, state, **how)
        self._plan = plan
        self._parts.update(plan.parts)
        self._looked_at = self._clock()

    def _open(self) -> None:
        ids = [unit.id for unit in self._plan.units]
        self._listing = self._store.searches.open(
            self._record, ids, self._plan.candidates, self._plan.asked
        )

    def _work(self, executor: Executor) -> None:
        """Queue what has no end, again and again until each unit has one."""
        missing = self._take_stored(self._plan.units, self._plan)
        if not missing:
            return
        self._publish(missing)
        reap_vanished(self._store)
        self._watch(standalone=executor.standalone)
        retry_failed = self._retry_failed
        try:
            while self._state.open:
                self._queue(list(self._state.open.values()), retry_failed=retry_failed)
                retry_failed = False
                executor.work(self._store, self._record.id, self.over)
                if executor.error is not None:
                    raise executor.error
                self._read(list(self._state.open))
                self._check_withdrawn()
        finally:
            self._sizes.update(executor.sizes)

    def leave(self) -> None:
        """Queue the units without a score, for any workers, and do not wait."""
        store, search = self._store, self._record.id
        self._open()
        try:
            missing = self._take_stored(self._plan.units, None)
            if not missing:
                store.searches.finish(search, "completed", self._summary().document())
                return
            self._publish(missing)
            store.jobs.submit(missing, search, retry_failed=self._retry_failed)
            if store.searches.withdrawn(search):  # before these were queued
                store.jobs.cancel(search)
            store.searches.left(search)
        except BaseException as error:
            withdraw(store, search, error)
            raise

    def over(self) -> bool:
        """Return whether the search waits for nothing, and tell callbacks of ends on the way."""
        jobs, search = self._store.jobs, self._record.id
        if self._audience is not None and self._clock() - self._looked_at > LOOK_SECONDS:
            self._audience.done(set(self._state.open).difference(jobs.waiting(search)))
            self._looked_at = self._clock()
        assert self._availability is not None
        waits_on = jobs.waits(search) or bool(jobs.foreign([*self._availability.foreign]))
        if waits_on:
            self._availability.look()
        return not waits_on


def score_alone(state: SearchState, executor: Alone) -> FitSummary:
    """Have every open unit scored in this process, without a store.

    A search inside of a worker does so: it is part of a unit of another search, whose outcome is
    stored, and no address of a store ever travels to workers.
    """
    began = time.monotonic()
    for unit_id in list(state.open):
        result = executor.score(unit_id)
        if executor.error is not None:
            raise executor.error
        end = Outcome(unit_id, "failed" if result.failures else "completed", result)
        state.end({unit_id: end}, fresh=True)
    return summary_of(state.outcomes, state.fresh, time.monotonic() - began)
