"""The lines that both drivers share: store parts, queue units, read ends, withdraw."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol

from optomatic.driver.ending import INTERRUPTED, report_invalid, summary_of, withdraw
from optomatic.driver.following import Unfollowed
from optomatic.driver.preflight import OtherVersions
from optomatic.driver.search_state import SearchState
from optomatic.errors import SearchCancelled, StoreError
from optomatic.planning.planner import Plan
from optomatic.records import Outcome, Part, SearchRecord, Unit, Work
from optomatic.results.summary import FitSummary, Say, say_nothing, upload_lines
from optomatic.store.connection import Store
from optomatic.store.parts import SEARCHES
from optomatic.worker.availability import Availability
from optomatic.worker.host import timing_here

#: Seconds between two notes that the client lives, while it uploads.
TOUCH_SECONDS = 10.0
#: A search stores damaged parts anew so many times; after that the failures stand.
_MENDS = 3
#: A search gives up once it found so many changed records for each of its units.
_MOST_INVALID = 10


class Audience(Protocol):
    """Hears of candidates and units as they come about, in the thread of the search."""

    def planned(self, params: Mapping[str, Any], ids: Sequence[str]) -> None:
        """Take a candidate, with the ids of its units; none if it was left out."""

    def done(self, unit_ids: Collection[str]) -> None:
        """Take units that have an end."""


class Driver(ABC):
    """Has the units of one search scored.

    On any exception the units that only this search waits for are withdrawn from the queue;
    finished scores stay, and the next equal search goes on from there.  A Ctrl-C is not raised:
    it is in ``interrupt`` then, and the state has what ended before.
    """

    def __init__(
        self,
        store: Store,
        record: SearchRecord,
        state: SearchState,
        *,
        retry_failed: bool = False,
        following: Unfollowed | None = None,
        audience: Audience | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._record, self._state = store, record, state
        self._retry_failed = retry_failed
        self._following = following or Unfollowed()
        self._audience = audience
        self._clock = clock
        self._began = clock()
        #: Name of the list of units that keeps the parts in the store.
        self._listing = record.id
        self._parts: dict[str, Part] = {}
        self._stored_parts: set[str] = set()
        self._queues: dict[str, Work] = {}
        self._n_missing = 0
        self._availability: Availability | None = None
        self._mends = self._invalid = 0
        self._others = OtherVersions()
        self._sizes: dict[str, int] = {}
        self.interrupt: KeyboardInterrupt | None = None

    # -- begin and end ---------------------------------------------------------------------

    def run(self, *given: Any) -> FitSummary:
        """Go on until all units have an end, or until the search is to end early.

        Raises
        ------
        SearchCancelled
            If the search was cancelled or removed meanwhile.
        StoreError
            If the store cannot be reached for a minute.  Finished units stay stored.
        """
        with self._following.follow(self._store, self._record):
            self._open()
            try:
                self._work(*given)
            except KeyboardInterrupt as interrupt:
                self._end_interrupted(interrupt)
                return self._summary()
            except BaseException as error:
                withdraw(self._store, self._record.id, error)
                raise
            summary = self._summary()
            report_invalid(self._invalid)
            self._store.searches.finish(self._record.id, "completed", self._document(summary))
            return summary

    @abstractmethod
    def _open(self) -> None:
        """Store the record of the search."""

    @abstractmethod
    def _work(self, given: Any) -> None:
        """Have everything scored."""

    def _end_interrupted(self, interrupt: KeyboardInterrupt) -> None:
        """Withdraw everything, and read what had an end by then."""
        self.interrupt = interrupt
        if not withdraw(self._store, self._record.id, interrupt):
            raise interrupt
        try:
            self._read(list(self._state.open))
        except StoreError as second:
            raise interrupt from second

    def _summary(self, **more: str) -> FitSummary:
        return summary_of(
            self._state.outcomes,
            self._state.fresh,
            self._clock() - self._began,
            self._sizes,
            other_versions=str(self._others),
            invalid=self._invalid,
            **{"stopped": INTERRUPTED if self.interrupt else "", **more},
        )

    def _document(self, summary: FitSummary) -> dict[str, Any]:
        return summary.document()

    # -- units -----------------------------------------------------------------------------

    def _take_stored(self, units: Sequence[Unit], plan: Plan | None) -> list[Unit]:
        """Take the ends that are stored; return the units without one."""
        served = self._store.jobs.stored(units)
        if self._retry_failed:
            served = {i: o for i, o in served.items() if o.state == "completed"}
        self._end(served, fresh=False)
        missing = [unit for unit in units if unit.id not in served]
        self._n_missing += len(missing)
        if missing and plan is not None:
            keys = [unit.key for unit in missing]
            self._others.note(self._store, plan.environments, keys)
        return missing

    def _publish(self, units: Sequence[Unit]) -> None:
        """Store the parts that workers need, and say what the queues of `units` stand for."""
        new = [part for sha, part in self._parts.items() if sha not in self._stored_parts]
        upload(self._store, new, self._listing, self._following.say, client_of=self._record.id)
        self._stored_parts.update(part.sha for part in new)
        # In a race units may come of several asks, whose candidates are made of different things.
        for work in {unit.work.queue: unit.work for unit in units}.values():
            if work.queue not in self._queues:
                self._store.workers.publish(work)
                self._queues[work.queue] = work

    def _queue(self, units: Sequence[Unit], *, retry_failed: bool = False) -> None:
        met = self._store.jobs.submit(units, self._record.id, retry_failed=retry_failed)
        self._invalid += met.invalid
        if self._availability is not None:
            self._availability.foreign = met.foreign
        if self._invalid > _MOST_INVALID * self._n_missing:
            raise StoreError(
                "What this search stores reads differently each time: another program writes to "
                "the same collections. All finished scores are stored. Use a database of its own."
            )
        self._following.queued([unit.id for unit in units])
        self._check_withdrawn()  # a search cancelled before these were queued has not taken them

    def _check_withdrawn(self) -> None:
        if self._state.open and self._store.searches.withdrawn(self._record.id):
            raise self._cancelled()

    def _cancelled(self) -> SearchCancelled:
        return SearchCancelled(
            f"The search was cancelled, or removed, while {len(self._state.open)} units were not "
            "scored yet. All finished scores are stored, unless they were removed; search again to "
            "go on."
        )

    def _watch(self, *, standalone: bool) -> None:
        """Look for workers from now on, where the search waits for them."""
        self._availability = Availability(
            self._store,
            [self._record.id],
            timing_here(),
            self._clock,
            standalone=standalone,
            restore=self._restore,
        )

    def _restore(self) -> None:
        """Store again what workers need, and wait for nothing that was not asked for."""
        upload(self._store, self._parts.values(), self._listing)
        for work in self._queues.values():
            self._store.workers.publish(work)
        waiting = self._store.jobs.waiting(self._record.id)
        strange = [unit_id for unit_id in waiting if unit_id not in self._state.open]
        if strange:
            self._store.jobs.cancel(self._record.id, strange)

    def _read(self, unit_ids: Sequence[str]) -> None:
        """Take the units among these that have an end by now."""
        found = self._mended(self._store.jobs.outcomes(unit_ids))
        self._end({i: o for i, o in found.items() if o.has_ended}, fresh=True)

    def _mended(self, found: dict[str, Outcome]) -> dict[str, Outcome]:
        """Return `found` without units that have to be scored again, as parts were damaged."""
        lacking = [i for i, outcome in found.items() if outcome.lacks_parts]
        if not lacking or self._mends >= _MENDS:
            return found
        self._mends += 1
        for part in self._parts.values():
            self._store.parts.mend(part, SEARCHES)
        return {i: outcome for i, outcome in found.items() if i not in lacking}

    def _end(self, outcomes: dict[str, Outcome], *, fresh: bool) -> None:
        self._state.end(outcomes, fresh=fresh)
        self._following.ended(outcomes, stored=not fresh)
        if self._audience is not None:
            self._audience.done(outcomes)


def upload(
    store: Store,
    parts: Iterable[Part],
    listing: str,
    say: Say = say_nothing,
    *,
    client_of: str | None = None,
) -> None:
    """Store those of `parts` that are not stored yet, for as long as `listing` is there.

    `say` takes a line now and then on how far the upload of large data is; other processes hear
    meanwhile that the client of the search `client_of` lives.
    """
    by_sha = {part.sha: part for part in parts}
    if not by_sha:
        return
    store.searches.need(listing, list(by_sha))
    touched_at = time.monotonic()  # the record was just opened
    for sha in store.parts.missing(list(by_sha), SEARCHES):
        part = by_sha[sha]
        lines = upload_lines(part.size, say)

        def told(done: int, lines: Callable[[int], None] = lines) -> None:
            nonlocal touched_at
            lines(done)
            if client_of is not None and time.monotonic() - touched_at >= TOUCH_SECONDS:
                store.searches.touch(client_of)
                touched_at = time.monotonic()

        store.parts.put(part, told, holder=SEARCHES)
