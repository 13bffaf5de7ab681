"""How the candidates of an open search come about: what the two searches share."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from optomatic.driver.ledger import Entry, Ledger
from optomatic.driver.race import Race
from optomatic.driver.rounds import Asking
from optomatic.errors import OptomaticError
from optomatic.plan.course.earlier import EARLIER, told_in
from optomatic.plan.course.filtering import Filter, Filters
from optomatic.plan.course.proposing import is_generator, proposer_for
from optomatic.plan.course.racing import Racing
from optomatic.plan.course.schedule import NO_RACE, Event, Live, NoRace, Recorded
from optomatic.plan.course.stopping import Budget, Stopping
from optomatic.records import Evaluation
from optomatic.results.progress import FitSummary
from optomatic.store.opening import Store
from optomatic.worker.machine import inside_worker

#: Units that are queued ahead where nothing is learned from those before.
_FAR_AHEAD = 2000
#: Seconds for which a count of standalone workers is believed.
_COUNT_SECONDS = 5.0


def is_open(
    space: Any,
    filters: Sequence[Filter],
    budget: Budget,
    replay: str | None,
    racing: Racing | None = None,
) -> bool:
    """Tell whether candidates come about while others are scored, or the end is open."""
    lazy = is_generator(space) and not hasattr(space, "__len__")
    decided_on_the_way = bool(filters) or budget.limits_anything() or racing is not None
    return lazy or decided_on_the_way or replay is not None


def refuse_inside_worker() -> None:
    """Raise what says that this process has no store of its own.

    Raises
    ------
    OptomaticError
        In a process that scores for a worker.
    """
    if inside_worker():
        raise OptomaticError(
            "A search with a generator, filters, a budget, racing or replay keeps its course in "
            "the store, and a process that scores for a worker has none. Nothing was scored. "
            "Inside of what is scored use a search over a grid or over draws."
        )


def asking_for(
    store: Store,
    space: Any,
    *,
    directions: Mapping[str, str],
    metric: str | None,
    filters: Sequence[Filter],
    budget: Budget,
    n_iter: int | None,
    n_splits: int,
    workers: int | None,
    replay: str | None,
    race: Race | NoRace = NO_RACE,
    earlier: Callable[[], Sequence[Evaluation]] = tuple,
) -> Asking:
    """Say how candidates come about.

    Parameters
    ----------
    space : generator or list of dict
    directions : mapping of str to str
        Metric -> "maximize" or "minimize".
    metric : str or None
        Which one decides; the first that there is if not given.
    n_iter : int or None
        So many candidates are asked for.
    workers : int or None
        None for this process, 0 for standalone workers only, k for k local workers.
    replay : str or None
        Id or name of an earlier search.
    race : Race or NoRace
    earlier : callable
        Returns scores of earlier searches to begin with; called if anything learns from them.
        A replay tells those that were told then.

    Raises
    ------
    ValueError
        If there is no search to replay, or its race was another one.
    """
    proposer = proposer_for(space, directions)
    chain = Filters(filters, directions)
    schedule: Live | Recorded
    known: Sequence[Evaluation] = ()
    if replay is not None:
        events = _events_of(store, replay)
        known = told_in(events)
        events = [event for event in events if event[0] != EARLIER]
        schedule = Recorded(_without_opening(events, race.opening, replay))
    else:
        learns = proposer.adaptive or bool(chain)
        known = earlier() if learns else ()
        if isinstance(race, Race):
            # Candidates that wait for each other would be nowhere when time is over.
            learns = learns or budget.limits_anything()
            race.together = not learns
        ahead = _ahead_of(store, workers) if learns else lambda: _FAR_AHEAD
        schedule = Live(ahead, n_splits, n_iter)

    def score_in(evaluation: Evaluation) -> float:
        return score_of(evaluation, metric)

    return Asking(proposer, chain, schedule, Stopping(budget), score_in, race, known)


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


def _events_of(store: Store, replay: str) -> list[Event]:
    for search in store.searches.ids_of(replay):
        events = store.searches.events(search)
        if events:
            return events
    raise ValueError(
        f"There is no search with a generator of the name or id {replay!r} on this database, so "
        "none can be replayed. Nothing was scored. Look at the name, and at db."
    )


def _without_opening(events: list[Event], opening: list[Event], replay: str) -> list[Event]:
    """Return `events` without what a race begins with; see that it is the race of this search."""
    recorded = [event for event in events if event[0] == "racing"]
    if recorded != opening:
        raise ValueError(
            f"The search {replay!r} was made {_raced(recorded)}, and this one {_raced(opening)} "
            "cannot repeat it. Nothing was scored. Give racing= and cv= as they were."
        )
    return [event for event in events if event[0] != "racing"]


def _raced(opening: list[Event]) -> str:
    if not opening:
        return "without racing"
    _, min_splits, alpha, n_splits = opening[0]
    return f"with racing (min_splits={min_splits}, alpha={alpha:g}, {n_splits} splits)"


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
