"""Candidates that come about meanwhile: ask, filter, queue, wait, tell, without a barrier.

The executor calls :meth:`AdaptiveDriver.turn` between units.  The generator hears what has ended
since, and is then asked for as much as keeps the workers busy; so new candidates are proposed
while others are known to be in flight.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optomatic.candidates.ask_tell import (
    Event,
    Live,
    Recorded,
    is_adaptive,
    is_endless,
    proposer_for,
    warn_of_repeats,
)
from optomatic.candidates.filters import Filter, Filters, shown_left_out
from optomatic.candidates.stopping import Stopping
from optomatic.driver.driver import INTERRUPTED, Driver, report_doubts, tell_planned
from optomatic.driver.executors import Executor
from optomatic.driver.search_state import Race, SearchState
from optomatic.driver.warm_start import event_of, to_repeat
from optomatic.errors import GeneratorFailed, warn
from optomatic.planning.planner import Plan, Planner, with_left_out
from optomatic.records import Candidate, Evaluation, SearchRecord, Unit
from optomatic.results.summary import FitSummary
from optomatic.store.connection import Store
from optomatic.store.searches import IDS, paged
from optomatic.worker.heartbeat import reap_vanished

#: Units that are queued ahead where nothing is learned from those before.
_FAR_AHEAD = 2000
#: Seconds for which a count of standalone workers is believed.
_COUNT_SECONDS = 5.0
#: Units that run when a search ends early may go on for so many seconds.
GRACE = 5.0
#: Seconds between two looks at the ends of units, where many are open.
_LOOK = 0.5
_MUCH = 100
#: Seconds between two notes of asked candidates, by which others see that the client lives.
_NOTE = 5.0


@dataclass(frozen=True, slots=True)
class Course:
    """The params of a search that decide how candidates come about.

    `directions` are ``maximize`` or ``minimize`` by metric; `metric` decides, or the first one.
    `n_iter` candidates are asked for.  `replay` names an earlier search.
    """

    space: Any
    directions: Mapping[str, str]
    metric: str | None
    filters: Sequence[Filter]
    stopping: Stopping
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
        shortened = raced or bool(self.filters) or self.stopping.limits_anything()
        goes_on = self.sized() or is_endless(self.space)
        exact = goes_on and not shortened and self.replay is None
        return min(counts, default=None), exact


def score_of(evaluation: Evaluation, metric: str | None) -> float:
    """Return the score that decides, by `metric` or by the first there is; NaN if none is.

    A candidate that racing stopped has none: it is behind, and its mean is over other splits.
    """
    if evaluation.state == "stopped":
        return math.nan
    if metric is not None:
        return evaluation.scores.get(metric, math.nan)
    return next(iter(evaluation.scores.values()), math.nan)


def _ahead_of(
    store: Store, workers: int | None, clock: Callable[[], float] = time.monotonic
) -> Callable[[], int]:
    """Return a function that returns how many units keep the workers busy.

    In this process one: the next candidate is asked for once the last one is known, even if
    others help.  Of others one more than there are, so that none waits for the generator.
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


class AdaptiveDriver(Driver):
    """Has candidates scored as they come about.

    `workers` is None for this process, 0 for standalone workers only.  So many units of a candidate
    are queued `at_once` when it is given.  `earlier` returns scores of earlier searches to begin
    with, if anything learns from them; a replay tells those that were told then.
    """

    def __init__(
        self,
        store: Store,
        record: SearchRecord,
        state: SearchState,
        planner: Planner[Any],
        course: Course,
        *,
        workers: int | None,
        at_once: int,
        race: Race | None,
        earlier: Callable[[], Sequence[Evaluation]],
        **how: Any,
    ) -> None:
        super().__init__(store, record, state, **how)
        self._planner, self._course, self._workers, self._race = planner, course, workers, race
        self._proposer = proposer_for(course.space, course.directions)
        self._filters = Filters(course.filters, course.directions)
        self._stopping = course.stopping
        self._schedule: Live | Recorded
        self._told_before: Sequence[Evaluation] = ()
        if course.replay is not None:
            events, self._told_before = to_repeat(store, course.replay, self._opening())
            self._schedule = Recorded(events)
        else:
            self._schedule = self._live(at_once, earlier)
        self._doubts_said = False
        self._looked_at = -_LOOK
        self._noted_at = self._began
        self._cut_off = False
        self._pages = 0
        self._n_units = 0
        self._new_ids: list[str] = []
        self._new_candidates: list[Candidate] = []
        self._events: list[Event] = self._opening()
        self._earlier = ""

    def _opening(self) -> list[Event]:
        return [] if self._race is None else [self._race.opening]

    def _live(self, at_once: int, earlier: Callable[[], Sequence[Evaluation]]) -> Live:
        course, race = self._course, self._race
        learns = self._proposer.adaptive or bool(self._filters)
        if learns:
            self._told_before = earlier()
        if race is not None:
            # Candidates that wait for each other would be nowhere when time is over.
            learns = learns or course.stopping.limits_anything()
            race.together = not learns
        ahead = _ahead_of(self._store, self._workers) if learns else lambda: _FAR_AHEAD
        return Live(ahead, at_once, course.n_iter, sized=course.sized())

    def _open(self) -> None:
        self._store.searches.open(self._record, [])

    def _work(self, start: Callable[[], Executor]) -> None:
        """Go on until the generator has nothing more; `start` is called once a unit is queued."""
        reap_vanished(self._store)
        self._tell_earlier()
        self.turn()
        while not self.over():
            executor = start()
            self._watch(standalone=executor.standalone)
            executor.work(self._store, self._record.id, self.over, self)
            self._sizes.update(executor.sizes)
            if executor.error is not None:
                raise executor.error
            if self._cut_off:
                break
        if self._cut_off:  # withdraw the rest, and read what came all the same
            self._store.jobs.cancel(self._record.id)
            self._look()
        self._note()

    def _tell_earlier(self) -> None:
        """Pass scores of earlier searches to the generator; they are no candidates of this one."""
        known = self._told_before
        if not known:
            return
        self._events.append(event_of(known))
        self._state.note_earlier(known)
        used = self._proposer.tell_earlier(known)
        self._earlier = f"told of {used} of {len(known)} earlier scores"
        if not used:
            warn(
                f"None of {len(known)} earlier scores could be told to the generator "
                f"{self._proposer.name}: it has no tell_earlier(evaluations), or its space does "
                "not hold their params. It begins without them; filters have them.",
                UserWarning,
            )

    # -- between units ---------------------------------------------------------------------

    def turn(self) -> bool:
        """Look what has ended, tell and ask; return whether anything was queued."""
        if self.grace() is not None:
            return False
        if len(self._state.open) <= _MUCH or self._clock() - self._looked_at >= _LOOK:
            self._look()
        queued = False
        while self.grace() is None:
            if self._clock() - self._noted_at >= _NOTE or len(self._new_ids) >= IDS:
                self._note()  # where all is stored, nothing else ends this for long
            untold, n_open = self._state.untold(), len(self._state.open)
            event = self._schedule.next(untold, n_open, self._race)
            if event is None:
                break
            queued = self._do(event) or queued
        self._note()
        return queued

    def grace(self) -> float | None:
        """Return how long running units may go on, once the search is to end early."""
        stopping = self._stopping
        stopping.after(self._clock() - self._began)
        if stopping.reason is None:
            return None
        if not self._cut_off:
            self._cut_off = True
            self._store.jobs.cancel_queued(self._record.id)
        return GRACE

    def over(self) -> bool:
        """Return whether there is nothing to wait for."""
        if self.grace() is not None:
            return not self._store.jobs.waits(self._record.id)
        waited_for = self._state.open or self._state.in_race
        if self._state.open and self._availability is not None:
            self._availability.foreign = self._state.open
            self._availability.look()
        return self._schedule.exhausted and not waited_for

    def _do(self, event: Event) -> bool:
        self._events.append(event)
        if event[0] == "ask":
            return self._ask(event[1])
        if event[0] == "race":
            return self._let_on(*event[1:])
        evaluations = self._state.told(event[1])
        self._proposer.tell(evaluations)
        for evaluation in evaluations:
            if evaluation.state != "left out":
                self._stopping.note(score_of(evaluation, self._course.metric))
        return False

    def _let_on(self, go_on: Sequence[int], out: Sequence[int]) -> bool:
        assert self._race is not None
        new = self._race.carry_out(go_on, out)
        self._following.stopped(out)
        self._new_ids += [unit.id for unit in new]
        return self._submit(new)

    # -- ask, filter, submit ---------------------------------------------------------------

    def _ask(self, n: int) -> bool:
        state = self._state
        candidates = self._proposer.ask(n, state.history)
        reasons = self._filters.reasons(candidates, state.history)
        kept = [c for c, reason in zip(candidates, reasons, strict=True) if reason is None]
        plan = self._plan(kept)
        proposed = with_left_out(candidates, reasons, plan)
        new = state.add(proposed, plan.units)
        self._new_candidates += proposed
        tell_planned(proposed, self._following, self._audience)
        self._new_ids += [unit.id for unit in new]
        self._schedule.given(
            len(candidates),
            len(state.open),
            adaptive=self._proposer.adaptive,
            kept=len(kept),
            new=bool(new),
        )
        self._parts.update(plan.parts)  # units that are held back will need theirs
        return self._submit(new, plan)

    def _plan(self, kept: Sequence[dict[str, Any]]) -> Plan:
        try:
            plan = self._planner.plan(kept)
        except (TypeError, ValueError) as error:
            raise GeneratorFailed(
                f"The generator {self._proposer.name} gave candidates that cannot be "
                f"scored. {error}"
            ) from error
        if kept and not self._doubts_said:
            self._doubts_said = True
            self._store.searches.note_asked(self._record.id, plan.asked)
            report_doubts(plan.doubts, plan.refusal, self._workers)
        return plan

    def _submit(self, new: Sequence[Unit], plan: Plan | None = None) -> bool:
        """Take what is stored, queue the rest; return whether there is any."""
        missing = self._take_stored(new, plan) if new else []
        if missing:
            self._note()  # a search that is there is there with all that it asked for
            self._publish(missing)
            self._queue(missing, retry_failed=self._retry_failed)
        return bool(missing)

    def _look(self) -> None:
        """Take what has ended; queue again what was lost."""
        open_units = self._state.open
        if not open_units:
            return
        self._looked_at = self._clock()
        gone = set(open_units).difference(self._store.jobs.waiting(self._record.id))
        if not gone:
            return
        self._read(sorted(gone))
        again = [open_units[unit_id] for unit_id in gone if unit_id in open_units]
        if again and not self._cut_off:
            self._queue(again)

    def _end_interrupted(self, interrupt: KeyboardInterrupt) -> None:
        self._stopping.reason = INTERRUPTED
        self._cut_off = True
        super()._end_interrupted(interrupt)

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
                some,
                own,
                events,
                n_units=self._n_units,
                n_candidates=len(self._state.candidates),
            )
            self._pages += 1
            events = []
            if not goes_on:
                raise self._cancelled()

    def _summary(self, **more: str) -> FitSummary:
        left_out, n_candidates = self._filters.left_out, len(self._state.candidates)
        return super()._summary(
            left_out=shown_left_out(left_out, n_candidates) if left_out else "",
            stopped=self._stopping.reason or self._schedule.reason,
            raced="" if self._race is None else self._race.told,
            earlier=self._earlier,
        )

    def _document(self, summary: FitSummary) -> dict[str, Any]:
        if self._schedule.reason and self._state.outcomes:
            warn_of_repeats(self._proposer.name, self._schedule.reason)
        left_out = [list(pair) for pair in self._filters.left_out.items()]
        return {**summary.document(), "left_out": left_out}
