"""Have the units of a fit scored."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from optomatic import _sklearn
from optomatic.candidates.ask_tell import NO_RACE, NoRace, is_adaptive, is_generator
from optomatic.candidates.racing import Racing
from optomatic.driver.adaptive import Asking, Course, Rounds, asking_for
from optomatic.driver.earlier_searches import earlier_evaluations, named
from optomatic.driver.executors import Executor, executor_for
from optomatic.driver.fixed import run_at
from optomatic.driver.following import Unfollowed, following
from optomatic.driver.preflight import (
    refuse_inside_worker,
    report_doubts,
    report_moved,
    workers_for,
)
from optomatic.driver.recording import define, new_record
from optomatic.driver.state import Ledger, Race
from optomatic.driver.summary import Ending
from optomatic.errors import warn
from optomatic.keys.environment import shipping
from optomatic.planning.constraints import tags_of
from optomatic.planning.planner import Plan, Planner
from optomatic.records import Outcome, SearchRecord
from optomatic.results.cv_lines import Lines, cv_line
from optomatic.results.frames import SCORE
from optomatic.results.progress import FitSummary
from optomatic.results.table import test_score
from optomatic.results.tally import Tally
from optomatic.search.request import (
    Planned,
    Request,
    budget_of,
    bundle_of,
    known_candidates,
    space_of,
)
from optomatic.search.unit_callbacks import UnitCallbacks
from optomatic.store.connection import Store, open_store


def racing_of(search: Any) -> Racing | None:
    """Return how to race, None if not at all."""
    if isinstance(search.racing, Racing):
        return search.racing
    return Racing() if search.racing else None


def check_racing(search: Any, request: Request) -> None:
    """See that there is one score to race by.

    Raises
    ------
    ValueError
        If there are several metrics and `refit` names none of them.
    """
    several = _sklearn.scorers_by_name(request.scorers) or {}
    if racing_of(search) is not None and len(several) > 1 and not isinstance(search.refit, str):
        raise ValueError(
            f"racing compares candidates by one score, and there are {len(several)} "
            f"({', '.join(several)}). Nothing was queued. Name one of them as refit=, or leave "
            "racing out."
        )


def race_of(search: Any, ledger: Ledger, splits: Sequence[Any]) -> Race | NoRace:
    """Return the race of a search; say it if nobody can be stopped in it."""
    racing = racing_of(search)
    if racing is None:
        return NO_RACE
    if len(splits) <= racing.min_splits:
        warn(
            f"racing stops nobody: cv makes {len(splits)} splits, and all candidates get the "
            f"first {racing.min_splits}. Use more splits, or racing=Racing(min_splits=...).",
            UserWarning,
        )
    ratios = [_n_rows(test) / _n_rows(train) for train, test in splits]
    return Race(racing, ledger, ratios, _score_of(search))


def _n_rows(chosen: Any) -> int:
    """Return how many rows a split takes, which may be given as a mask."""
    rows = np.asarray(chosen)
    return int(np.count_nonzero(rows)) if rows.dtype == bool else len(rows)


def _score_of(search: Any) -> Callable[[Outcome], float]:
    metric = search.refit if isinstance(search.refit, str) else None
    error_score = math.nan if search.error_score == "raise" else search.error_score
    return lambda outcome: test_score(outcome, metric, error_score)


def workers_of(search: Any) -> int | None:
    """Return the number of local workers: None is this process, 0 is nobody."""
    return workers_for(search.n_jobs, requires=tags_of(search.requires), limited=_limited(search))


def _limited(search: Any) -> bool:
    return search.fit_timeout is not None or search.memory_limit is not None


def _workers_beside(search: Any, inside: Sequence[Any]) -> int | None:
    """Return the number of local workers: none where callbacks reach into the fits."""
    workers = workers_of(search)
    if not inside or workers is None:
        return workers
    names = ", ".join(sorted({type(callback).__name__ for callback in inside}))
    if _limited(search) or search.requires:
        raise ValueError(
            f"Callbacks ({names}) are called inside of the fits, so these run in this process, "
            "where fit_timeout, memory_limit and requires cannot be held. Nothing was queued. "
            "Leave out one or the other."
        )
    warn(
        f"Callbacks ({names}) are called inside of the fits and live in this process, so all "
        f"units are scored in it, one after the other, whatever n_jobs is (here "
        f"{search.n_jobs}). Callbacks without max_propagation_depth, set on the search itself, "
        "leave the fits to workers.",
        UserWarning,
    )
    return None


def drive_known(
    search: Any, request: Request, planned: Planned, context: Any
) -> tuple[Ending, Unfollowed]:
    """Have all units scored; return what came of them, and what followed it.

    Parameters
    ----------
    context : callback context
        Of the task whose subtasks the units are.
    """
    report_doubts(planned.plan, workers_of(search))
    callbacks = None
    if _sklearn.has_callbacks(search):
        callbacks = UnitCallbacks(search, context, planned.bundle)
    followed = _following(search, request, len(planned.candidates))
    for number, params in enumerate(planned.candidates):
        ids = planned.plan.ids[number * search.n_splits_ : (number + 1) * search.n_splits_]
        followed.planned(params, ids)
        if callbacks is not None:
            callbacks.planned(params, ids)
    workers = _workers_beside(search, request.inside)
    executor = _executor(search, planned, workers, callbacks)
    followed.printed(executor.scored)
    define(search.definition, search.name, search.db)
    ending = run_at(
        *(
            search.db,
            planned.plan,
            _record(search, request, len(planned.candidates), planned.plan),
            executor,
        ),
        retry_failed=search.retry_failed,
        told=None if callbacks is None else callbacks.done,
        following=followed,
    )
    if workers is None and ending.fresh:
        report_moved(planned.sender.moved())
    return ending, followed


def _following(
    search: Any,
    request: Request,
    n_candidates: int | None,
    *,
    exact: bool = True,
    grows: bool = False,
) -> Unfollowed:
    """Return what follows the search, and prints its lines."""
    named = _sklearn.scorers_by_name(request.scorers)
    metrics = None if named is None else list(named)
    # Of several metrics the one that refit names decides, and without one none does.
    metric = search.refit if isinstance(search.refit, str) else "" if metrics else None
    most = None if n_candidates is None else n_candidates * search.n_splits_
    return following(
        search.verbose,
        lambda: Tally(metric=metric, most=most, exact=exact, grows=grows),
        lambda: Lines(
            cv_line(
                verbose=search.verbose,
                error_score=search.error_score,
                metrics=metrics,
                return_train_score=bool(search.return_train_score),
                n_candidates=n_candidates,
            )
        ),
    )


def _executor(
    search: Any, planned: Planned, workers: int | None, callbacks: UnitCallbacks | None
) -> Executor:
    def progress(unit_id: str) -> dict[str, Any]:
        candidate, split = planned.places[unit_id]
        return {
            "split_progress": (split, search.n_splits_),
            "candidate_progress": (candidate, len(planned.candidates)),
            **({} if callbacks is None else callbacks.of(unit_id)),
        }

    return executor_for(
        workers,
        bundle=planned.bundle,
        place=planned.place,
        error_score=search.error_score,
        verbose=search.verbose,
        progress=progress,
        told=_tell_nobody if callbacks is None else callbacks.done,
        db=search.db,
        sender=planned.sender,
    )


def _record(search: Any, request: Request, n_candidates: int, plan: Plan | Planner) -> SearchRecord:
    part_of, more = search._part
    record = new_record(
        search.name,
        type(search.estimator).__name__,
        estimator=repr(search.estimator)[:4000],
        space=space_of(search),
        scoring=repr(search.scoring)[:1000],
        n_candidates=n_candidates,
        n_splits=search.n_splits_,
        signature=plan.signature,
        ingredients=plan.ingredients,
        facts=_facts(search, request),
        part_of=part_of,
        more=more,
    )
    search.search_id_ = part_of or record.id
    return record


def _facts(search: Any, request: Request) -> dict[str, Any]:
    """Return how the table of `search` is made (results/stored_table.py)."""
    scorer, refit = request.scorer, request.refit_metric
    raises = isinstance(search.error_score, str)
    return {
        "kind": "fit",
        "metrics": list(scorer) if isinstance(scorer, dict) else None,
        "error_score": None if raises else float(search.error_score),
        "return_train_score": bool(search.return_train_score),
        "callable_scoring": callable(search.scoring),
        "racing": racing_of(search) is not None,
        "refit": refit if isinstance(refit, str) and not callable(search.refit) else None,
    }


def _tell_nobody(_: object) -> None:
    """Stand in where nobody wants to know."""


def drive_open(
    search: Any, request: Request, splits: Sequence[Any]
) -> tuple[Ledger, FitSummary, KeyboardInterrupt | None, Unfollowed]:
    """Have candidates scored as they come about.

    Return what was asked and came of it, the Ctrl-C that ended it, if one did, and what followed.
    """
    refuse_inside_worker()
    check_racing(search, request)
    racing = racing_of(search)
    ledger = Ledger(None if racing is None else racing.min_splits)
    race = race_of(search, ledger, splits)
    course = _course(search)
    if search.verbose > 0:
        print(course.opening_line(search.n_splits_, raced=racing is not None))
    most, exact = course.most(raced=racing is not None)
    followed = _following(search, request, most, exact=exact, grows=True)
    context = request.callbacks.subcontext(
        task_name="search",
        max_subtasks=None if most is None else most * search.n_splits_,
        sequential_subtasks=False,
    )
    context.call_on_fit_task_begin(estimator=search)
    bundle = bundle_of(search, request, splits)
    callbacks = None
    if _sklearn.has_callbacks(search):
        callbacks = UnitCallbacks(search, context, bundle)
    workers = _workers_beside(search, request.inside)

    def progress(unit_id: str) -> dict[str, Any]:
        _, split = ledger.place(unit_id)
        told = {} if callbacks is None else callbacks.of(unit_id)
        return {"split_progress": (split, search.n_splits_), **told}

    def start() -> Executor:
        executor = executor_for(
            workers,
            bundle=bundle,
            place=ledger.place,
            error_score=search.error_score,
            verbose=search.verbose,
            progress=progress,
            db=search.db,
            sender=planner.sender,
        )
        followed.printed(executor.scored)
        return executor

    with shipping(search.ship_modules), open_store(search.db) as store:
        planner = Planner(bundle, requires=tags_of(search.requires))
        rounds = Rounds(
            *(store, _record(search, request, 0, planner), planner),
            *(_asking(search, course, store, planner, workers, race), ledger),
            workers=workers,
            retry_failed=search.retry_failed,
            following=followed,
            audience=callbacks,
        )
        define(search.definition, search.name, search.db)
        summary = rounds.run(start)
    if workers is None and summary.scored:
        report_moved(planner.sender.moved())
    if rounds.interrupt is None:
        context.call_on_fit_task_end(estimator=search)
    return ledger, summary, rounds.interrupt, followed


def _asking(
    search: Any,
    course: Course,
    store: Store,
    planner: Planner,
    workers: int | None,
    race: Race | NoRace,
) -> Asking:
    racing = racing_of(search)
    names = named(store, search.warm_start)
    return asking_for(
        *(store, course, workers),
        at_once=search.n_splits_ if racing is None else min(racing.min_splits, search.n_splits_),
        race=race,
        earlier=lambda: earlier_evaluations(
            *(store, names, planner, getattr(space_of(search), "space", None)),
            fixed=search.estimator.get_params(),
        ),
    )


def _course(search: Any) -> Course:
    space = space_of(search)
    # No more is taken than is needed of an iterable without a length: it may be endless.
    lazy = is_adaptive(space) or (is_generator(space) and not hasattr(space, "__len__"))
    metric = search.refit if isinstance(search.refit, str) else None
    return Course(
        space=space if lazy else known_candidates(search),
        directions={metric or SCORE: "maximize"},
        metric=metric,
        filters=search.filters or (),
        budget=budget_of(search),
        n_iter=search.n_iter if lazy else None,
        replay=search.replay,
    )
