"""Have the units of a search scored: store parts, queue units, read ends, withdraw.

The process that waits also keeps the queue going: it takes back leases of workers that vanished.
So a search ends even if every other process dies.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from optomatic._config import inside_worker
from optomatic.driver.executors import Executor
from optomatic.driver.following import Following
from optomatic.driver.search_state import SearchState
from optomatic.errors import (
    KeyNotCertain,
    NotShippable,
    RecordsInvalid,
    SearchCancelled,
    StoreError,
    warn,
)
from optomatic.planning.planner import Plan
from optomatic.records import (
    CONTENT,
    SCORELESS,
    Candidate,
    Outcome,
    Part,
    SearchRecord,
    Unit,
    Work,
)
from optomatic.results.summary import FitSummary, Say, say_nothing, upload_lines
from optomatic.store.connection import Store
from optomatic.store.parts import SEARCHES
from optomatic.store.searches import added_to
from optomatic.worker.heartbeat import reap_vanished
from optomatic.worker.inprocess import InProcess
from optomatic.worker.missing_workers import Availability

# How a search ends: with all of its units, or withdrawn from the queue.

#: Why a search ended that was ended by Ctrl-C.
INTERRUPTED = "interrupted"


def report_invalid(count: int) -> None:
    """Warn that records could not be read, and that their units were scored again."""
    if count:
        warn(
            f"{count} stored record{'s' if count != 1 else ''} could not be read, as something "
            "changed them. Their units were scored again. The records are kept in the database, in "
            "the state 'invalid', with the reason.",
            RecordsInvalid,
        )


def withdraw(store: Store, search: str, error: BaseException) -> bool:
    """Take the units that only this search waits for out of the queue; keep the first error.

    Return whether that could be done; if not, `error` says so.
    """
    if isinstance(error, KeyboardInterrupt):
        error.add_note(
            "All finished scores are stored: the same search, made again, does only the rest."
        )
    try:
        store.jobs.cancel(search)
        store.searches.finish(search, INTERRUPTED, {"error": type(error).__name__})
    except StoreError as second:
        error.add_note(
            f"The units of this search could not be withdrawn from the queue ({second}); "
            "workers may go on with them. Nothing that was scored is lost."
        )
        return False
    return True


@contextmanager
def rather(interrupt: KeyboardInterrupt | None) -> Iterator[None]:
    """Raise `interrupt`, if there is one, in place of errors within.

    After Ctrl-C the user wants to be out, even if no table can be made of the complete candidates.
    """
    try:
        yield
    except Exception as error:
        if interrupt is None:
            raise
        raise interrupt from error


#: Seconds saved by the reuse of first steps that a summary tells of.
_WORTH_TELLING = 0.1


def summary_of(
    outcomes: Mapping[str, Outcome],
    fresh: Collection[str],
    seconds: float,
    sizes: Mapping[str, int] | None = None,
    *,
    invalid: int = 0,
    **texts: str,
) -> FitSummary:
    """Sum up a search: all outcomes, the ids of those scored while it ran, sizes of its workers.

    `sizes` are the numbers of processes of workers that have several, by id.
    """
    workers = {worker for i in fresh if (worker := outcomes[i].worker)}
    results = [result for i in fresh if (result := outcomes[i].result) is not None]
    saved = [r.prefix_time_saved for r in results if r.prefix_time_saved]
    if sum(saved) >= _WORTH_TELLING:
        seconds_saved = f"{sum(saved):.{0 if sum(saved) >= 10 else 1}f}"
        texts["reused"] = f"{len(saved)} prefixes reused, {seconds_saved} s saved"
    return FitSummary(
        units=len(outcomes),
        stored=len(outcomes) - len(fresh),
        scored=len(fresh),
        failed=sum(outcome.state != "completed" for outcome in outcomes.values()),
        workers=sum((sizes or {}).get(worker, 1) for worker in workers),
        seconds=seconds,
        invalid=invalid,
        **texts,
    )


_NAMED = 3


class OtherVersions:
    """Counts units that have a score by other versions of the libraries."""

    def __init__(self) -> None:
        self._differences: Counter[str] = Counter()
        self._units: set[str] = set()
        #: Sets of versions besides those of a plan, which rounds ask for again and again.
        self._others: dict[frozenset[str], dict[str, dict[str, str]]] = {}

    def note(
        self, store: Store, ours: Mapping[str, Mapping[str, str]], missing: Sequence[str]
    ) -> None:
        """Look for scores of `missing` keys, which have none by the versions that are here."""
        known = frozenset(ours)
        if known not in self._others:
            self._others[known] = store.searches.other_versions(ours)
        for end, theirs in self._others[known].items():
            here = {key[:CONTENT] + end: key for key in missing}
            for key in store.jobs.completed(list(here)):
                own = ours.get(here[key][CONTENT:], {})
                names = [name for name in own.keys() | theirs if own.get(name) != theirs.get(name)]
                self._differences.update(f"{n} {theirs.get(n, 'none')}" for n in sorted(names))
                self._units.add(here[key])

    def __str__(self) -> str:
        if not self._units:
            return ""
        names = ", ".join(name for name, _ in self._differences.most_common(_NAMED))
        return f"{len(self._units)} of other versions: {names}"


def report_doubts(doubts: Sequence[str], refusal: NotShippable | None, workers: int | None) -> None:
    """Warn of objects that cannot be shared; raise NotShippable if `workers` are to have them."""
    if inside_worker():  # nothing is shared anyway
        return
    if refusal is not None and workers is not None:
        raise refusal
    if refusal is not None:
        warn(
            f"{refusal.cause}. So it is scored in this process and by no other worker.",
            KeyNotCertain,
        )
    if doubts:
        warn(
            "Scored for this search only and not reused by later ones, as it cannot be told "
            "for certain when it is equal: " + "; ".join(doubts),
            KeyNotCertain,
        )


#: Seconds between two notes that the client lives, while it uploads.
TOUCH_SECONDS = 10.0
#: A search stores damaged parts anew so many times; after that the failures stand.
_MENDS = 3
#: A search gives up once it found so many changed records for each of its units.
_MOST_INVALID = 10


class Audience(Protocol):
    """Hears of candidates and units as they come about, in the thread of the search."""

    def planned(self, candidate: Candidate) -> None:
        """Take a candidate; it has no units if it was left out."""

    def done(self, unit_ids: Collection[str]) -> None:
        """Take units that have an end."""


def tell_planned(
    candidates: Sequence[Candidate], following: Following, audience: Audience | None
) -> None:
    """Announce new candidates to the display and to callbacks."""
    for candidate in candidates:
        following.planned(candidate)
        if audience is not None:
            audience.planned(candidate)


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
        following: Following | None = None,
        audience: Audience | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._record, self._state = store, record, state
        self._retry_failed = retry_failed
        self._following = following or Following()
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
        #: Whether stored scores were looked up, of some units at least.
        self._looked_up = False
        self._others = OtherVersions()
        self._sizes: dict[str, int] = {}
        self.interrupt: KeyboardInterrupt | None = None

    # -- begin and end ---------------------------------------------------------------------

    def run(self, *given: Any) -> FitSummary:
        """Go on until all units have an end, or until the search is to end early.

        Raise SearchCancelled if the search was cancelled or removed meanwhile.
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
        """Withdraw everything, and read what had an end by then.

        While stored scores are looked up nothing is scored yet, and the user wants to be out.
        """
        self.interrupt = interrupt
        if not withdraw(self._store, self._record.id, interrupt) or not self._looked_up:
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
        self._looked_up = True
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
                "Records of this search read differently each time: another program writes to "
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
    store.parts.own(by_sha.values())


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
                self._queue(self._in_order(self._state.open.values()), retry_failed=retry_failed)
                retry_failed = False
                executor.work(self._store, self._record.id, self.over)
                if executor.error is not None:
                    raise executor.error
                self._read(list(self._state.open))
                self._check_withdrawn()
        finally:
            self._sizes.update(executor.sizes)

    def _in_order(self, units: Iterable[Unit]) -> list[Unit]:
        """Return units in the order in which to score them."""
        places = {unit_id: place for place, unit_id in enumerate(self._plan.order)}
        return sorted(units, key=lambda unit: places[unit.id]) if places else list(units)

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
            missing = self._in_order(missing)
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


def score_alone(state: SearchState, executor: InProcess) -> FitSummary:
    """Have every open unit scored in this process, without a store.

    A search inside of a worker does so: it is part of a unit of another search, whose outcome is
    stored.  No address of a store ever travels to workers.
    """
    began = time.monotonic()
    for unit_id in list(state.open):
        result = executor.score(unit_id)
        if executor.error is not None:
            raise executor.error
        end = Outcome(unit_id, "failed" if result.failures else "completed", result)
        state.end({unit_id: end}, fresh=True)
    return summary_of(state.outcomes, state.fresh, time.monotonic() - began)


# Units for a search that is stored already: more candidates, or its failed units again.


def extend(store: Store, search: str, plan: Plan) -> int:
    """Add the units of `plan` to what `search` asks for; return how many have no score yet.

    They are queued.  This may be repeated, and done by many at the same time.  Raise ValueError
    if parts that workers need are not stored, or the search was removed meanwhile.
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
    _check_removed(store, search, "Make it again, with the wider space.")
    return len(missing)


def _check_removed(store: Store, search: str, what_to_do: str) -> None:
    """Withdraw what was added to a search that was removed meanwhile."""
    if not store.searches.record(search):
        store.jobs.cancel(added_to(search))
        raise ValueError(
            "The search was removed from the database meanwhile, so nothing is queued. "
            + what_to_do
        )


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

    This may be repeated, and done by many at the same time.  Raise ValueError if no worker could
    score them, or the search was removed meanwhile.
    """
    states = store.jobs.states(store.searches.unit_ids(search))
    ids = [unit_id for unit_id, state in states.items() if state in SCORELESS]
    if not ids:
        return 0
    parts, queues = store.jobs.made_of(ids)
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
    _check_removed(store, search, "Make it again: it scores what is not stored.")
    return queued
