"""How the candidates of an open search come about."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optomatic.driver.race import Race
from optomatic.driver.replaying import to_repeat
from optomatic.plan.course.filtering import Filter, Filters
from optomatic.plan.course.proposing import Proposer, is_adaptive, is_endless, proposer_for
from optomatic.plan.course.schedule import NO_RACE, Live, NoRace, Recorded
from optomatic.plan.course.stopping import Budget, Stopping
from optomatic.records import Evaluation
from optomatic.results.progress import opening_line
from optomatic.store.opening import Store

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
