"""How the candidates of an open search come about."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from optomatic.candidates.ask_tell import (
    NO_RACE,
    Event,
    Live,
    NoRace,
    Proposer,
    Recorded,
    is_adaptive,
    is_endless,
    proposer_for,
    warn_of_repeats,
)
from optomatic.candidates.filters import Filter, Filters, shown_left_out
from optomatic.candidates.stopping import Budget, Stopping
from optomatic.candidates.warm_start import event_of
from optomatic.driver.earlier_searches import to_repeat
from optomatic.driver.executors import Executor
from optomatic.driver.following import Unfollowed
from optomatic.driver.preflight import OtherVersions, report_doubts
from optomatic.driver.state import Entry, Ledger, Race
from optomatic.driver.summary import (
    INTERRUPTED,
    MENDS,
    has_ended,
    lacks_parts,
    report_invalid,
    summary_of,
    withdraw,
)
from optomatic.driver.uploads import mend, upload
from optomatic.errors import GeneratorFailed, SearchCancelled, StoreError, warn
from optomatic.planning.planner import Plan, listed
from optomatic.records import Candidate, Evaluation, Outcome, Part, SearchRecord, Unit, Work
from optomatic.results.progress import FitSummary, opening_line
from optomatic.store.connection import Store
from optomatic.store.listings import IDS, paged
from optomatic.worker.availability import Availability
from optomatic.worker.heartbeat import reap_vanished
from optomatic.worker.host import timing_here

#: Units that are queued ahead where nothing is learned from those before.
_FAR_AHEAD = 2000
#: Seconds for which a count of standalone workers is believed.
_COUNT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Course:
    """What a user says of how candidates come about.

    Attributes
    ----------
    space : generator or list of dict
    directions : mapping of str to str
        Metric -> "maximize" or "minimize".
    metric : str or None
        Which one decides; the first that there is if not given.
    filters : sequence of callable
    budget : Budget
    n_iter : int or None
        So many candidates are asked for.
    replay : str or None
        Id or name of an earlier search.
    """

    space: Any
    directions: Mapping[str, str]
    metric: str | None
    filters: Sequence[Filter]
    budget: Budget
    n_iter: int | None
    replay: str | None

    def sized(self) -> bool:
        """Return whether the candidates are a list or the like."""
        return hasattr(self.space, "__len__") and not is_adaptive(self.space)

    def most(self, *, raced: bool = False) -> tuple[int | None, bool]:
        """Return how many candidates there may be, if known, and whether all of them get scores."""
        counts = [] if self.n_iter is None or self.replay is not None else [self.n_iter]
        if self.sized():
            counts.append(len(self.space))
        shortened = raced or bool(self.filters) or self.budget.limits_anything()
        goes_on = self.sized() or is_endless(self.space)
        exact = goes_on and not shortened and self.replay is None
        return min(counts, default=None), exact

    def opening_line(self, n_splits: int | None = None, *, raced: bool = False) -> str:
        """Return the line that ``verbose`` prints before all others."""
        most, exact = self.most(raced=raced)
        return opening_line(most, exact=exact, n_splits=n_splits)


@dataclass(frozen=True, slots=True)
class Asking:
    """How the candidates of a search come about.

    Attributes
    ----------
    proposer : Proposer
    filters : Filters
    schedule : Live or Recorded
    stopping : Stopping
    score_of : callable
        Evaluation -> the score that decides, NaN if there is none.
    race : Race or NoRace
        Of the ledger of the same search.
    earlier : sequence of Evaluation
        Of earlier searches: told before the first ask.
    """

    proposer: Proposer
    filters: Filters
    schedule: Live | Recorded
    stopping: Stopping
    score_of: Callable[[Evaluation], float]
    race: Race | NoRace = NO_RACE
    earlier: Sequence[Evaluation] = ()


def asking_for(
    store: Store,
    course: Course,
    workers: int | None,
    *,
    at_once: int = 1,
    race: Race | NoRace = NO_RACE,
    earlier: Callable[[], Sequence[Evaluation]] = tuple,
) -> Asking:
    """Say how candidates come about.

    Parameters
    ----------
    course : Course
    workers : int or None
        None for this process, 0 for standalone workers only, k for k local workers.
    at_once : int
        How many units of a candidate are queued as soon as it is given.
    race : Race or NoRace
    earlier : callable
        Returns scores of earlier searches to begin with; called if anything learns from them.
        A replay tells those that were told then.

    Raises
    ------
    ValueError
        If there is no search to replay, or its race was another one.
    """
    proposer = proposer_for(course.space, course.directions)
    filters = Filters(course.filters, course.directions)
    schedule: Live | Recorded
    known: Sequence[Evaluation]
    if course.replay is not None:
        events, known = to_repeat(store, course.replay, race.opening)
        schedule = Recorded(events)
    else:
        learns = proposer.adaptive or bool(filters)
        known = earlier() if learns else ()
        if isinstance(race, Race):
            # Candidates that wait for each other would be nowhere when time is over.
            learns = learns or course.budget.limits_anything()
            race.together = not learns
        ahead = _ahead_of(store, workers) if learns else lambda: _FAR_AHEAD
        schedule = Live(ahead, at_once, course.n_iter, sized=course.sized())

    def score_in(evaluation: Evaluation) -> float:
        return score_of(evaluation, course.metric)

    return Asking(proposer, filters, schedule, Stopping(course.budget), score_in, race, known)


def score_of(evaluation: Evaluation, metric: str | None) -> float:
    """Return the score that decides, by `metric` or by the first there is; NaN if none is.

    One that racing stopped has none: it is behind, and its mean is over other splits.
    """
    if evaluation.state == "stopped":
        return math.nan
    if metric is not None:
        return evaluation.scores.get(metric, math.nan)
    return next(iter(evaluation.scores.values()), math.nan)


def _ahead_of(
    store: Store, workers: int | None, clock: Callable[[], float] = time.monotonic
) -> Callable[[], int]:
    """Return what tells how many units keep the workers busy.

    In this process one: the next candidate is asked for once the last one is known, whoever
    else may help.  Of others one more than there are, so that nobody waits for the generator.
    """
    if workers is None:
        return lambda: 1
    counted, counted_at = 0, -math.inf

    def ahead() -> int:
        nonlocal counted, counted_at
        if clock() - counted_at > _COUNT_SECONDS:
            counted, counted_at = store.workers.capacity(30.0), clock()
        return workers + counted + 1

    return ahead


def completed(
    ledger: Ledger, summary: FitSummary, interrupt: KeyboardInterrupt | None = None
) -> list[Entry]:
    """Return the candidates all of whose units have an end, those that racing stopped included.

    Raises
    ------
    KeyboardInterrupt
        If there is none but those, as `interrupt` ended the search before.
    ValueError
        If there is none but those, with the reason.
    """
    complete = ledger.complete()
    only_stopped = all(entry.number in ledger.stopped for entry in complete)
    if only_stopped and interrupt is not None:
        raise interrupt
    if only_stopped:
        raise ValueError(_nothing_complete(summary))
    return complete


def _nothing_complete(summary: FitSummary) -> str:
    """Say that no candidate came to a score, and why."""
    why = summary.stopped or summary.left_out or "the generator gave none"
    return (
        f"No candidate was completed ({why}), so there is nothing to choose from. Finished units "
        "are stored: search again, with more time or other filters, and it goes on from there."
    )


# The rounds of an open search: ask -> filter -> submit -> wait -> tell, without a barrier.
#
# Whoever has units scored calls :meth:`Rounds.turn` between them.  What has ended since is
# told to the generator, which is then asked for as much as keeps the workers busy; so new
# candidates are proposed while others are in flight, and known to be.


#: Units that run when a search ends early may go on for so many seconds.
GRACE = 5.0
#: Seconds between two looks at what has ended, where much is open and nobody waits for it.
_LOOK = 0.5
_MUCH = 100
#: Seconds after which is written down what was asked, so that others see that the client lives.
_NOTE = 5.0


class Planner(Protocol):
    """Makes units of candidates, of some after others."""

    def plan(self, candidates: Sequence[Mapping[str, Any]]) -> Plan:
        """Return the units of `candidates`."""


class Audience(Protocol):
    """Who hears of candidates and units as they come about, in the thread of the search."""

    def planned(self, params: Mapping[str, Any], ids: Sequence[str]) -> None:
        """Take a candidate, with the ids of its units; none if it was left out."""

    def done(self, unit_ids: Collection[str]) -> None:
        """Take units that have an end."""


class Rounds:
    """One open search.

    Parameters
    ----------
    store : Store
    record : SearchRecord
    planner : Planner
    asking : Asking
    ledger : Ledger
        Empty; filled as the search goes on, and left as it is when something is raised.
    workers : int or None
        As for :func:`~optomatic.driver.preflight.report_doubts`.
    retry_failed : bool
    following : Unfollowed, optional
        Follows the search, for those who look at it meanwhile.
    audience : Audience, optional
        Is told of candidates and of ends of units, in the calling thread.
    clock : callable

    Attributes
    ----------
    interrupt : KeyboardInterrupt or None
        What ended the search, to be raised once use is made of what had an end by then.
    """

    def __init__(
        self,
        store: Store,
        record: SearchRecord,
        planner: Planner,
        asking: Asking,
        ledger: Ledger,
        *,
        workers: int | None = None,
        retry_failed: bool = False,
        following: Unfollowed | None = None,
        audience: Audience | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._record = record
        self._planner = planner
        self._asking = asking
        self._ledger = ledger
        self._workers = workers
        self._retry_failed = retry_failed
        self._following = following or Unfollowed()
        self._audience = audience
        self._clock = clock
        self._began = clock()
        self._known_parts: set[str] = set()
        self._queues: dict[str, Work] = {}
        self._availability: Availability | None = None
        self._mends = 0
        self._invalid = 0
        self._doubts_said = False
        self._looked_at = -_LOOK
        self._noted_at = self._began
        self._cut_off = False
        self._pages = 0
        self._n_units = 0
        self._new_ids: list[str] = []
        self._new_candidates: list[Candidate] = []
        self._events: list[Event] = list(asking.race.opening)
        self._parts: dict[str, Part] = {}
        self._sizes: dict[str, int] = {}
        self.interrupt: KeyboardInterrupt | None = None
        self._earlier = ""
        self._others = OtherVersions()

    def run(self, start: Callable[[], Executor]) -> FitSummary:
        """Go on until the generator has nothing more, or until the search is to end early.

        Parameters
        ----------
        start : callable
            Returns the executor; called once there is something to score.

        Raises
        ------
        GeneratorFailed, FilterFailed
            If one of them raises or gives nonsense.
        SearchCancelled, StoreError
            As :func:`optomatic.driver.fixed.run`.

        Notes
        -----
        On any exception the units that nobody else waits for are withdrawn from the queue;
        what was scored stays stored, and the next equal search goes on from there.  A Ctrl-C
        is not raised: it is in ``interrupt`` then, and the ledger has what ended before.
        """
        with self._following.follow(self._store, self._record):
            return self._run(start)

    def _run(self, start: Callable[[], Executor]) -> FitSummary:
        search = self._record.id
        self._store.searches.open(self._record, [])
        try:
            reap_vanished(self._store)
            self._tell_earlier()
            self.turn()
            while not self.over():
                executor = start()
                self._availability = Availability(
                    *(self._store, [search], timing_here(), self._clock),
                    standalone=executor.standalone,
                    restore=self._restore,
                )
                executor.work(self._store, search, self.over, self)
                self._sizes.update(executor.sizes)
                if executor.error is not None:
                    raise executor.error
                if self._cut_off:
                    break
            self._settle()
        except KeyboardInterrupt as interrupt:
            self._end_interrupted(interrupt)
            return self._summary()
        except BaseException as error:
            withdraw(self._store, search, error)
            raise
        return self._finish()

    def _tell_earlier(self) -> None:
        """Tell the generator of earlier searches' scores; they are no candidates of this one."""
        asking, known = self._asking, self._asking.earlier
        if not known:
            return
        self._events.append(event_of(known))
        self._ledger.note_earlier(known)
        used = asking.proposer.tell_earlier(known)
        self._earlier = f"told of {used} of {len(known)} earlier scores"
        if not used:
            warn(
                f"None of {len(known)} earlier scores could be told to the generator "
                f"{asking.proposer.name}: it has no tell_earlier(evaluations), or its space does "
                "not hold their params. It begins without them; filters have them.",
                UserWarning,
            )

    # -- between units ---------------------------------------------------------------------

    def turn(self) -> bool:
        """Look what has ended, tell and ask; return whether anything was queued."""
        if self.grace() is not None:
            return False
        if len(self._ledger.open) <= _MUCH or self._clock() - self._looked_at >= _LOOK:
            self._look()
        queued = False
        while self.grace() is None:
            if self._clock() - self._noted_at >= _NOTE or len(self._new_ids) >= IDS:
                self._note()  # where all is stored, nothing else ends this for long
            untold, n_open = self._ledger.untold(), len(self._ledger.open)
            event = self._asking.schedule.next(untold, n_open, self._asking.race)
            if event is None:
                break
            queued = self._do(event) or queued
        self._note()
        return queued

    def grace(self) -> float | None:
        """Return how long running units may go on, once the search is to end early."""
        stopping = self._asking.stopping
        stopping.after(self._clock() - self._began)
        if stopping.reason is None:
            return None
        if not self._cut_off:
            self._cut_off = True
            self._store.jobs.cancel_queued(self._record.id)
        return GRACE

    def over(self) -> bool:
        """Tell whether there is nothing to wait for."""
        if self.grace() is not None:
            return not self._store.jobs.waits(self._record.id)
        waited_for = self._ledger.open or self._ledger.in_race
        if self._ledger.open and self._availability is not None:
            self._availability.foreign = self._ledger.open
            self._availability.look()
        return self._asking.schedule.exhausted and not waited_for

    def _do(self, event: Event) -> bool:
        self._events.append(event)
        if event[0] == "ask":
            return self._ask(event[1])
        if event[0] == "race":
            return self._let_on(*event[1:])
        evaluations = self._ledger.told(event[1])
        self._asking.proposer.tell(evaluations)
        for evaluation in evaluations:
            if evaluation.state != "left out":
                self._asking.stopping.note(self._asking.score_of(evaluation))
        return False

    def _let_on(self, go_on: Sequence[int], out: Sequence[int]) -> bool:
        assert isinstance(self._asking.race, Race)
        new = self._asking.race.carry_out(go_on, out)
        self._following.stopped(out)
        self._new_ids += [unit.id for unit in new]
        return self._submit(self._parts, new)

    # -- ask, filter, submit ---------------------------------------------------------------

    def _ask(self, n: int) -> bool:
        asking, ledger = self._asking, self._ledger
        candidates = asking.proposer.ask(n, ledger.history)
        reasons = asking.filters.reasons(candidates, ledger.history)
        kept = [c for c, reason in zip(candidates, reasons, strict=True) if reason is None]
        plan = self._plan(kept)
        new = ledger.add(candidates, reasons, plan)
        self._new_candidates += listed(candidates, reasons, plan)
        for entry in ledger.entries[len(ledger.entries) - len(candidates) :]:
            self._following.planned(entry.params, entry.ids, left_out=entry.reason is not None)
            if self._audience is not None:
                self._audience.planned(entry.params, entry.ids)
        self._new_ids += [unit.id for unit in new]
        asking.schedule.given(
            len(candidates),
            len(ledger.open),
            adaptive=asking.proposer.adaptive,
            kept=len(kept),
            new=bool(new),
        )
        self._parts.update(plan.parts)  # units that are held back will need theirs
        return self._submit(plan.parts, new, plan)

    def _plan(self, kept: Sequence[dict[str, Any]]) -> Plan:
        try:
            plan = self._planner.plan(kept)
        except (TypeError, ValueError) as error:
            raise GeneratorFailed(
                f"The generator {self._asking.proposer.name} gave candidates that cannot be "
                f"scored. {error}"
            ) from error
        if kept and not self._doubts_said:
            self._doubts_said = True
            self._store.searches.note_asked(self._record.id, plan.asked)
            report_doubts(plan, self._workers)
        return plan

    def _submit(
        self, parts: Mapping[str, Part], new: Sequence[Unit], plan: Plan | None = None
    ) -> bool:
        """Take what is stored, queue the rest; tell whether there is any."""
        if not new:
            return False
        served = self._store.jobs.stored(new)
        if self._retry_failed:
            served = {i: o for i, o in served.items() if o.state == "completed"}
        self._end(served, fresh=False)
        missing = [unit for unit in new if unit.id not in served]
        if missing:
            self._note()  # a search that is there is there with all that it asked for
            if plan is not None:
                self._others.note(self._store, plan, missing)
            self._publish(parts, missing)
            self._queue(missing, retry_failed=self._retry_failed)
        return bool(missing)

    def _queue(self, units: Sequence[Unit], *, retry_failed: bool = False) -> None:
        met = self._store.jobs.submit(units, self._record.id, retry_failed=retry_failed)
        self._invalid += met.invalid
        self._following.queued([unit.id for unit in units])
        if self._store.searches.withdrawn(self._record.id):  # before these were queued
            raise self._cancelled()

    def _publish(self, parts: Mapping[str, Part], missing: Sequence[Unit]) -> None:
        """Store the parts that workers need, and say what the queues stand for."""
        new = [sha for sha in parts if sha not in self._known_parts]
        search = self._record.id
        wanted = [parts[sha] for sha in new]
        upload(self._store, wanted, search, self._following.say, client_of=search)
        self._known_parts.update(new)
        # In a race they may come of several asks, whose candidates are made of different things.
        for work in {unit.work.queue: unit.work for unit in missing}.values():
            if work.queue not in self._queues:
                self._store.workers.publish(work)
                self._queues[work.queue] = work

    def _restore(self) -> None:
        """Store again what workers need, and wait for nothing that was not asked for."""
        upload(self._store, self._parts.values(), self._record.id)
        for work in self._queues.values():
            self._store.workers.publish(work)
        waiting = self._store.jobs.waiting(self._record.id)
        strange = [unit_id for unit_id in waiting if unit_id not in self._ledger.open]
        if strange:
            self._store.jobs.cancel(self._record.id, strange)

    # -- what has ended --------------------------------------------------------------------

    def _look(self) -> None:
        open_units = self._ledger.open
        if not open_units:
            return
        self._looked_at = self._clock()
        gone = set(open_units).difference(self._store.jobs.waiting(self._record.id))
        if not gone:
            return
        found = self._mended(self._store.jobs.outcomes(sorted(gone)))
        self._end({i: o for i, o in found.items() if has_ended(o)}, fresh=True)
        again = [open_units[unit_id] for unit_id in gone if unit_id in open_units]
        if again and not self._cut_off:
            self._queue(again)

    def _end(self, outcomes: dict[str, Outcome], *, fresh: bool) -> None:
        self._ledger.end(outcomes, fresh=fresh)
        self._following.ended(outcomes, stored=not fresh)
        if self._audience is not None:
            self._audience.done(outcomes)

    def _mended(self, found: dict[str, Outcome]) -> dict[str, Outcome]:
        """Return `found` without what has to be scored again, as its parts were damaged."""
        lacking = [i for i, outcome in found.items() if lacks_parts(outcome)]
        if not lacking or self._mends >= MENDS:
            return found
        self._mends += 1
        mend(self._store, self._parts.values())
        return {i: outcome for i, outcome in found.items() if i not in lacking}

    def _cancelled(self) -> SearchCancelled:
        return SearchCancelled(
            f"The search was cancelled, or removed, while {len(self._ledger.open)} units were not "
            "scored yet. All finished scores are stored, unless they were removed; search again to "
            "go on."
        )

    def _settle(self) -> None:
        """Withdraw what an early end left over, and read what came all the same."""
        if self._cut_off:
            self._store.jobs.cancel(self._record.id)
            self._look()
        self._note()

    def _end_interrupted(self, interrupt: KeyboardInterrupt) -> None:
        """Withdraw everything, and read what had an end by then."""
        self.interrupt = interrupt
        self._asking.stopping.reason = INTERRUPTED
        if not withdraw(self._store, self._record.id, interrupt):
            raise interrupt
        self._cut_off = True
        try:
            self._look()
        except StoreError as second:
            raise interrupt from second

    # -- the record ------------------------------------------------------------------------

    def _note(self) -> None:
        """Write down what was asked for and told since the last time."""
        self._noted_at = self._clock()
        ids, self._new_ids = self._new_ids, []
        candidates, self._new_candidates = self._new_candidates, []
        events, self._events = self._events, []
        for some, own in [*paged(ids, candidates)] or [((), ())] * bool(events):
            self._n_units += len(some)
            goes_on = self._store.searches.extend(
                self._record.id,
                self._pages,
                *(some, own, events),
                n_units=self._n_units,
                n_candidates=len(self._ledger.entries),
            )
            self._pages += 1
            events = []
            if not goes_on:
                raise self._cancelled()

    def _why_it_ended(self) -> str:
        return self._asking.stopping.reason or self._asking.schedule.reason

    def _summary(self) -> FitSummary:
        ledger, asking = self._ledger, self._asking
        left_out = asking.filters.left_out
        return summary_of(
            ledger.outcomes,
            ledger.fresh,
            self._clock() - self._began,
            self._sizes,
            left_out=shown_left_out(left_out, len(ledger.entries)) if left_out else "",
            stopped=self._why_it_ended(),
            raced=asking.race.told,
            earlier=self._earlier,
            other_versions=str(self._others),
            invalid=self._invalid,
        )

    def _finish(self) -> FitSummary:
        asking, summary = self._asking, self._summary()
        report_invalid(self._invalid)
        self._store.searches.finish(
            self._record.id,
            "completed",
            {
                **summary.document(),
                "left_out": [list(pair) for pair in asking.filters.left_out.items()],
            },
        )
        if asking.schedule.reason and self._ledger.outcomes:
            warn_of_repeats(asking.proposer.name, asking.schedule.reason)
        return summary
