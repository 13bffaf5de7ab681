"""One call of ``fit``: checked and routed as scikit-learn does, scored, and tabulated.

:class:`Call` is what scikit-learn's own search holds in local variables.  :class:`FitRequest` has
candidates scored on some splits, and makes the rows of ``cv_results_`` of their outcomes.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NoReturn, Protocol

import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.model_selection import check_cv
from sklearn.utils import indexable

from optomatic import _sklearn
from optomatic._config import inside_worker
from optomatic.candidates.ask_tell import is_adaptive, up_to_repeats
from optomatic.candidates.grids import candidates_of
from optomatic.candidates.racing import Racing
from optomatic.driver.driver import rather
from optomatic.driver.executors import Executor, executor_for
from optomatic.driver.request import Options, Request, record_best
from optomatic.driver.search_state import Race
from optomatic.errors import RandomnessUnseeded, shown, warn
from optomatic.keys.digest import Digest, digest_of
from optomatic.planning.prefixes import has_prefixes
from optomatic.planning.workload import FitWorkload, draws_anew, fix_splits
from optomatic.progress.cv_lines import Line, cv_line
from optomatic.records import Candidate
from optomatic.results import failures, table
from optomatic.results.frames import SCORE
from optomatic.results.table import STOPPED_AFTER
from optomatic.search.unit_callbacks import UnitCallbacks
from optomatic.store.connection import OneStore


class FitOptions(Options, Protocol):
    """A search of scikit-learn's kind: its params, and the methods of BaseSearchCV."""

    estimator: Any
    param_grid: Any
    param_distributions: Any
    scoring: Any
    refit: Any
    cv: Any
    return_train_score: Any
    racing: Any
    reuse_prefixes: bool
    n_splits_: int
    multimetric_: bool
    scorer_: Any
    cv_results_: Any
    best_index_: Any
    best_score_: Any
    best_params_: Any
    best_estimator_: Any
    refit_time_: float
    feature_names_in_: Any
    _checked_cv_orig: Any
    _part: tuple[str | None, Mapping[str, Any]]

    _get_scorers: Any
    _get_routed_params_for_fit: Any
    _format_results: Any
    _select_best_index: Any
    _check_refit_for_multimetric: Any


@dataclass(frozen=True, slots=True)
class Call:
    """One call of ``fit``, checked.

    `base` is a clone of the estimator, never fitted; `inside` are callbacks that are called inside
    of the fits, and their digest counts in keys.
    """

    search: FitOptions
    X: Any
    y: Any
    scorers: Any
    refit_metric: Any
    routed: Any
    base: Any
    callbacks: Any
    metadata: Mapping[str, Any] | None
    inside: Sequence[Any]
    inside_digest: Digest | None
    store: OneStore

    @property
    def scorer(self) -> Any:
        """One scorer, or several by name."""
        return _sklearn.scorers_by_name(self.scorers) or self.scorers

    def splitter(self) -> Any:
        """Return the splitter; note on the search how many splits it makes."""
        search = self.search
        splitter = check_cv(search.cv, self.y, classifier=is_classifier(search.estimator))
        search._checked_cv_orig = splitter
        search.n_splits_ = splitter.get_n_splits(self.X, self.y, **self.routed.splitter.split)
        return splitter

    def splits(self) -> list[Any]:
        """Ask the splitter once; warn if another fit would get other splits."""
        splitter = self.splitter()
        if draws_anew(splitter) and not inside_worker():
            # Unlike a random estimator, whose stored score serves, it makes a store useless.
            warn(
                f"cv={splitter!r} shuffles without a seed. Its splits were drawn once, and all "
                "candidates are scored on the same; but each fit draws others, so it can reuse no "
                "stored score, and after an interruption it begins anew. Give it a random_state=.",
                RandomnessUnseeded,
            )
        return self.split_by(splitter)

    def split_by(self, splitter: Any) -> list[Any]:
        """Return the (train, test) pairs that `splitter` makes of the data."""
        pairs = splitter.split(self.X, self.y, **self.routed.splitter.split)
        return fix_splits(pairs, self.search.n_splits_)

    def end(self) -> None:
        """Notify callbacks that the fit is over."""
        self.callbacks.call_on_fit_task_end(
            estimator=self.search, X=self.X, y=self.y, metadata=self.metadata
        )


def check(search: FitOptions, X: Any, y: Any, params: Mapping[str, Any]) -> Call:
    """Check and route everything as scikit-learn's fit does, in its order."""
    scorers, refit_metric = search._get_scorers()
    X, y = indexable(X, y)
    params = _sklearn.check_method_params(X, params=params)
    routed = search._get_routed_params_for_fit(params)
    weight = params.get("sample_weight")
    metadata = None if weight is None else {"sample_weight": weight}
    is_classifier(search.estimator)  # refuses a class, in scikit-learn's words
    base = clone(search.estimator)
    # Before any hook runs: what a callback is like then depends on nothing but the user.
    inside = _sklearn.callbacks_inside_fits(search)
    inside_digest = digest_of(list(inside), "callbacks") if inside else None
    callbacks = _sklearn.callback_context(search, max_subtasks=1 + (search.refit is not False))
    callbacks.call_on_fit_task_begin(estimator=search, X=X, y=y, metadata=metadata)
    return Call(
        search=search,
        X=X,
        y=y,
        scorers=scorers,
        refit_metric=refit_metric,
        routed=routed,
        base=base,
        callbacks=callbacks,
        metadata=metadata,
        inside=inside,
        inside_digest=inside_digest,
        store=OneStore(search.db),
    )


def space_of(search: FitOptions) -> Any:
    """Return the one space that is given; raise ValueError if it is not one."""
    for name in ("param_grid", "param_distributions"):
        space = getattr(search, name)
        if isinstance(space, str | bytes | type):  # iterable or callable, and no space
            raise _sklearn.InvalidParameterError(
                f"The {name!r} parameter of {type(search).__name__} must be an instance of 'dict', "
                "an instance of 'list', an iterable of dicts or a generator. "
                f"Got {shown(space)} instead."
            )
    if (search.param_grid is None) == (search.param_distributions is None):
        raise ValueError(
            "Give exactly one of param_grid and param_distributions; "
            f"{'neither was' if search.param_grid is None else 'both were'} given."
        )
    return search.param_distributions if search.param_grid is None else search.param_grid


class FitRequest(Request[FitWorkload]):
    """Has candidates scored on the splits of one call of ``fit``.

    The units are subtasks of `context`, or of a new callback context of the call.
    """

    options: FitOptions

    def __init__(self, call: Call, context: Any = None) -> None:
        search = call.search
        metric = search.refit if isinstance(search.refit, str) else None
        directions = {metric or SCORE: "maximize"}
        super().__init__(search, space_of(search), directions, metric, call.store)
        self.call = call
        self.splits: Sequence[Any] = ()
        self.racing = racing_of(search)
        self._context = context
        self._is_own = context is None

    def split(self, splits: Sequence[Any]) -> None:
        """Take the splits of the data."""
        self.splits, self.n_splits, self.shown_splits = splits, len(splits), len(splits)

    def is_open(self) -> bool:
        """Return whether candidates come about while others are scored, or the end is open."""
        return is_adaptive(self.space) or self.is_decided_on_the_way()

    @cached_property
    def _metrics(self) -> list[str] | None:
        named = _sklearn.scorers_by_name(self.call.scorers)
        return None if named is None else list(named)

    def workload(self) -> FitWorkload:
        call, routed = self.call, self.call.routed
        reuses = self.options.reuse_prefixes and has_prefixes(call.base)
        return FitWorkload(
            estimator=call.base,
            X=call.X,
            y=call.y,
            splits=self.splits,
            scorer=call.scorer,
            fit_params=routed.estimator.fit,
            score_params=routed.scorer.score,
            options={
                "return_train_score": bool(self.options.return_train_score),
                "config": _sklearn.numeric_config(),
                **self.how_to_run(),
                **({"prefixes": {}} if reuses else {}),
            },
            callbacks=call.inside_digest,
        )

    def known_candidates(self) -> list[dict[str, Any]]:
        search = self.options
        return candidates_of(
            up_to_repeats(self.space) if search.n_iter is None else self.space,
            n_iter=search.n_iter,
            sampled=search.param_grid is None,
            random_state=search.random_state,
        )

    def described(self) -> dict[str, Any]:
        search, scorer = self.options, self.call.scorer
        refit = self.call.refit_metric
        part_of, more = search._part
        return {
            "kind": type(search.estimator).__name__,
            "estimator": repr(search.estimator)[:4000],
            "scoring": repr(search.scoring)[:1000],
            "facts": {  # how to make the table
                "kind": "fit",
                "metrics": list(scorer) if isinstance(scorer, dict) else None,
                "error_score": None if self._raises else float(search.error_score),
                "return_train_score": bool(search.return_train_score),
                "callable_scoring": callable(search.scoring),
                "racing": self.racing is not None,
                "refit": refit if isinstance(refit, str) and not callable(search.refit) else None,
            },
            "part_of": part_of,
            "more": more,
        }

    @property
    def _raises(self) -> bool:
        return isinstance(self.options.error_score, str)

    def shown_metric(self) -> str | None:
        """Return the metric that `refit` names; of several no other decides."""
        return self.metric or ("" if self._metrics else None)

    def line(self, n_candidates: int | None) -> Line | None:
        search = self.options
        return cv_line(
            verbose=search.verbose,
            error_score=search.error_score,
            metrics=self._metrics,
            return_train_score=bool(search.return_train_score),
            n_candidates=n_candidates,
        )

    # -- executor, race ----------------------------------------------------------------------

    def begin(self, n_units: int | None) -> None:
        if n_units == 0:
            raise ValueError(
                "No fits were performed. Was the CV iterator empty? Were there no candidates?"
            )
        search = self.options
        if self._is_own:
            self._context = self.call.callbacks.subcontext(
                task_name="search", max_subtasks=n_units, sequential_subtasks=False
            )
            self._context.call_on_fit_task_begin(estimator=search)
        if _sklearn.has_callbacks(search):
            self.audience = UnitCallbacks(search, self._context, self.planner.workload)

    def end(self) -> None:
        if self._is_own:
            self._context.call_on_fit_task_end(estimator=self.options)

    def count_workers(self) -> int | None:
        """Return the number of local workers: none where callbacks reach into the fits."""
        search, inside, workers = self.options, self.call.inside, super().count_workers()
        if not inside or workers is None:
            return workers
        names = ", ".join(sorted({type(callback).__name__ for callback in inside}))
        limited = search.fit_timeout is not None or search.memory_limit is not None
        if limited or search.requires:
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

    def executor(self, n_candidates: int | None) -> Executor:
        search, audience, state = self.options, self.audience, self.state

        def progress(unit_id: str) -> dict[str, Any]:
            number, split = state.where(unit_id)
            of = {} if n_candidates is None else {"candidate_progress": (number, n_candidates)}
            told = audience.of(unit_id) if isinstance(audience, UnitCallbacks) else {}
            return {"split_progress": (split, self.n_splits), **of, **told}

        how = {} if audience is None or n_candidates is None else {"told": audience.done}
        executor = executor_for(
            self.workers,
            bundle=self.planner.workload,
            place=state.place,
            error_score=search.error_score,
            verbose=search.verbose,
            progress=progress,
            db=search.db,
            sender=self.planner.sender,
            **how,
        )
        self.following.printed(executor.scored)  # scikit-learn prints their lines
        return executor

    def fixed_params(self) -> Mapping[str, Any]:
        return self.options.estimator.get_params()  # type: ignore[no-any-return]

    def race(self) -> Race | None:
        """Return the race of the candidates; warn if none can be stopped in it.

        Raise ValueError if there are several metrics and `refit` names none of them.
        """
        racing, metrics = self.racing, self._metrics or ()
        if racing is None:
            return None
        if len(metrics) > 1 and self.metric is None:
            raise ValueError(
                f"racing compares candidates by one score, and there are {len(metrics)} "
                f"({', '.join(metrics)}). Nothing was queued. Name one of them as refit=, or leave "
                "racing out."
            )
        if self.n_splits <= racing.min_splits:
            warn(
                f"racing stops nobody: cv makes {self.n_splits} splits, and all candidates get the "
                f"first {racing.min_splits}. Use more splits, or racing=Racing(min_splits=...).",
                UserWarning,
            )
        error_score = math.nan if self._raises else self.options.error_score
        ratios = [_n_rows(test) / _n_rows(train) for train, test in self.splits]
        return Race(
            racing, self.state, ratios, lambda end: table.test_score(end, self.metric, error_score)
        )

    # -- the table ---------------------------------------------------------------------------

    def rows(self) -> list[dict[str, Any]]:
        """Return what scikit-learn tabulates of each unit; warn and raise as it does."""
        search, outcomes = self.options, self.outcomes()
        failures.raise_what_gridsearchcv_raises(outcomes, search.error_score)
        if any(outcome.state != "completed" for outcome in outcomes):
            params = [own.params for own in self._completed() for _ in own.units]
            failures.warn_of_failed_scores(outcomes, search.error_score)
            failures.warn_of_deaths(outcomes, params.__getitem__, search.error_score)
        rows = table.fit_and_score_rows(
            outcomes,
            error_score=search.error_score,
            metrics=self._metrics,
            return_train_score=bool(search.return_train_score),
        )
        failures.warn_of_failed_fits(rows, outcomes, search.error_score)
        if callable(search.scoring):
            _sklearn.insert_error_scores(rows, search.error_score)
        return rows

    def _completed(self) -> list[Candidate]:
        return [self.state.candidates[number] for number in self.complete]

    def results(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return ``cv_results_``."""
        found, form = self._completed(), self.options._format_results
        candidates = [own.params for own in found]
        results: dict[str, Any]
        if self.racing is None:
            results = form(candidates, self.n_splits, rows)
        else:
            counts = [len(own.units) for own in found]
            after = np.array([self.state.stopped.get(n, math.nan) for n in self.complete])
            results = table.raced_results(form, self.n_splits, candidates, rows, counts, after)
        table.put_time_saved(results, [self.state.outcomes_of(n) for n in self.complete])
        return results


def racing_of(search: FitOptions) -> Racing | None:
    """Return how to race, None if not at all."""
    if isinstance(search.racing, Racing):
        return search.racing
    return Racing() if search.racing else None


def _n_rows(chosen: Any) -> int:
    """Return how many rows a split takes, which may be given as a mask."""
    rows = np.asarray(chosen)
    return int(np.count_nonzero(rows)) if rows.dtype == bool else len(rows)


#: ``cv_results_``, the test scores of its first unit, and the Ctrl-C that ended the search.
Tabulated = tuple[dict[str, Any], Any, KeyboardInterrupt | None]


def search_and_refit(call: Call, tabulate: Callable[[Call], Tabulated]) -> None:
    """Set on the search its table and all that follows; raise the Ctrl-C that ended it."""
    with call.store:  # closed before the refit, which may take long, or fork
        results, scores, interrupt = tabulate(call)
        with rather(interrupt):
            _choose_best(call, results, scores)
            _record_best(call)
    if interrupt is not None:
        _end_interrupted(call, results, interrupt)
    _refit_best(call)
    call.search.scorer_, call.search.cv_results_ = call.scorer, results
    call.end()


def _choose_best(call: Call, results: dict[str, Any], scores: Any) -> None:
    """Set ``best_index_`` and what belongs to it, as far as `refit` says what is the best."""
    search, refit_metric = call.search, call.refit_metric
    search.multimetric_ = isinstance(scores, dict)
    if callable(search.scoring) and search.multimetric_:
        search._check_refit_for_multimetric(scores)
        refit_metric = search.refit
    if search.refit or not search.multimetric_:
        search.best_index_ = search._select_best_index(search.refit, refit_metric, results)
        _refuse_a_stopped_one(call, results)
        if not callable(search.refit):
            search.best_score_ = results[f"mean_test_{refit_metric}"][search.best_index_]
        search.best_params_ = results["params"][search.best_index_]


def _refuse_a_stopped_one(call: Call, results: dict[str, Any]) -> None:
    """Raise ValueError if a callable `refit` chose a candidate without all of its splits."""
    search, after = call.search, results.get(STOPPED_AFTER)
    if after is not None and not math.isnan(after[search.best_index_]):
        raise ValueError(
            f"refit chose candidate {search.best_index_}, which racing stopped after "
            f"{after[search.best_index_]:.0f} of {search.n_splits_} splits, so its mean cannot be "
            "compared. All scores are stored. Have refit choose among rows where "
            f"cv_results_[{STOPPED_AFTER!r}] is NaN."
        )


def _record_best(call: Call) -> None:
    """Note in the record of the search which candidate it has chosen, if it has."""
    search = call.search
    if hasattr(search, "best_index_"):
        score = getattr(search, "best_score_", None)
        metric = search.refit if isinstance(search.refit, str) else SCORE
        record_best(call.store, search.search_id_, search.best_index_, score, metric)


def _refit_best(call: Call) -> None:
    """Set ``best_estimator_`` and what belongs to it, if `refit` asks for it."""
    search = call.search
    if not search.refit:
        return
    # The params are cloned too: they may be estimators themselves.
    best = clone(call.base).set_params(**clone(search.best_params_, safe=False))
    search.best_estimator_ = best
    shown = {"estimator": search, "X": call.X, "y": call.y, "metadata": call.metadata}
    context = call.callbacks.subcontext(task_name="refit-with-best-params")
    with context.propagate_callback_context(best):
        context.call_on_fit_task_begin(**shown)
        began = time.time()
        best.fit(*((call.X,) if call.y is None else (call.X, call.y)), **call.routed.estimator.fit)
        search.refit_time_ = time.time() - began
    if hasattr(best, "feature_names_in_"):
        search.feature_names_in_ = best.feature_names_in_
    context.call_on_fit_task_end(**shown)


def _end_interrupted(call: Call, results: dict[str, Any], interrupt: KeyboardInterrupt) -> NoReturn:
    """Make a fitted search of what was complete when Ctrl-C came, and raise that.

    The refit may take long, so a line says that it goes on; another Ctrl-C ends it, and the
    table stays.
    """
    search = call.search
    search.scorer_, search.cv_results_ = call.scorer, results
    known = f"The search knows the {len(results['params'])} candidates that are complete"
    interrupt.add_note(f"{known}: cv_results_ and what follows from it are set.")
    if search.refit:
        print(
            f"Interrupted. {known}, and fits the best of them on all data now; "
            "Ctrl-C again leaves that out.",
            file=sys.stderr,
        )
    try:
        _refit_best(call)
    except BaseException as error:  # what is not fitted is not to be there
        vars(search).pop("best_estimator_", None)
        if isinstance(error, Exception):  # the user wants to be out, and is told of both
            raise interrupt from error
        raise
    raise interrupt
