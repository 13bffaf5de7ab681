"""MongoSearchCV: plan, drive, tabulate, refit - in that order."""

from __future__ import annotations

import copy
import secrets
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from joblib import effective_n_jobs
from sklearn.base import clone, is_classifier
from sklearn.model_selection import check_cv
from sklearn.utils import indexable

from optomatic import _sklearn
from optomatic.driver import known
from optomatic.driver.asking import asking_for, is_open, nothing_complete, refuse_inside_worker
from optomatic.driver.ending import Ending
from optomatic.driver.engine import Engine
from optomatic.driver.ledger import Ledger
from optomatic.driver.rounds import Asking, Rounds
from optomatic.errors import Address, KeyNotCertain, RandomnessUnseeded, redact
from optomatic.fitting.keeping import without_credentials
from optomatic.fitting.unit_callbacks import UnitCallbacks
from optomatic.plan.bundle import Bundle
from optomatic.plan.environment import environment
from optomatic.plan.filtering import Filter
from optomatic.plan.fingerprint import Fingerprint, fingerprint
from optomatic.plan.generators import candidates_of, shown
from optomatic.plan.limits import limits_of, threads_of
from optomatic.plan.payload import in_payload
from optomatic.plan.proposing import is_adaptive
from optomatic.plan.replayed import Replayed
from optomatic.plan.shipping import shipping
from optomatic.plan.splits import draws_anew, fix_splits
from optomatic.plan.stopping import Budget
from optomatic.plan.tags import tags_of
from optomatic.plan.units import Plan, UnitPlanner, plan_units
from optomatic.records import Outcome, Part, SearchRecord
from optomatic.results import table
from optomatic.results.cv_lines import cv_lines
from optomatic.results.frames import SCORE
from optomatic.store.opening import Store, open_store
from optomatic.store.workers import this_process
from optomatic.warning import warn
from optomatic.worker.engines import Here, engine_for
from optomatic.worker.environment import inside_worker, tags_here
from optomatic.worker.trial import trial_for, try_loading


@dataclass(frozen=True, slots=True)
class _Request:
    """One call of fit, checked: what scikit-learn's own search holds in local variables."""

    X: Any
    y: Any
    scorers: Any
    refit_metric: Any
    routed: Any
    base: Any
    callbacks: Any
    metadata: Mapping[str, Any] | None
    inside: Sequence[Any]
    inside_digest: Fingerprint | None


class MongoSearchCV(_sklearn.BaseSearchCV):  # type: ignore[misc]  # it has no types
    """Search over parameters with cross-validation, every score kept in MongoDB.

    Each (candidate, split) is a job that any worker on any machine can claim.  A stored
    score serves every later search with the same effective estimator, data, split and
    scorer, so a search that was interrupted goes on, and one that is extended computes
    only what is new.

    Parameters
    ----------
    estimator : estimator object
        As in :class:`~sklearn.model_selection.GridSearchCV`.
    param_grid : dict, list of dict, or iterable of dict, default=None
        The space to search, as GridSearchCV takes it or as RandomizedSearchCV does: with
        `n_iter`, or if a value has ``rvs``, candidates are drawn from it; otherwise all
        combinations are tried.  Values may be Series too.  An iterable that is no list or
        tuple of grids (a ParameterGrid, a ParameterSampler, a generator) gives the
        candidates themselves, of which `n_iter` are taken, by default all.  What an iterator
        gives is remembered: each fit, and each clone, gets all of it.  So does an adaptive
        generator (:mod:`optomatic.generators`), which is asked for `n_iter` candidates as units
        finish; each fit begins with a copy of it.
    param_distributions : dict, list of dict, or iterable of dict, default=None
        The same, always drawn from.  Exactly one of the two spaces is given.
    n_iter : int, default=None
        Number of candidates to draw; 10 if the space is sampled and this is None.
    scoring, refit, cv, error_score, return_train_score
        As in :class:`~sklearn.model_selection.GridSearchCV`.
    verbose : int, default=0
        As in :class:`~sklearn.model_selection.GridSearchCV`, and a line that sums up.  Lines
        of units that were stored, or scored by other processes, follow at the end.
    n_jobs : int, default=None
        None or 1 scores in this process; k in k local worker processes that stay warm
        between fits; -1 in one a core; 0 leaves all to standalone workers
        (``python -m optomatic.worker --db URI``), which may help in every case.
    pre_dispatch : int or str, default='2*n_jobs'
        As in :class:`~sklearn.model_selection.GridSearchCV`, without effect: the queue needs
        no such limit.
    random_state : int, RandomState instance or None, default=None
        Seed of the draws from the space; grids have none.
    filters : sequence of callable, default=None
        Each gets candidates (list of dict) and history (DataFrame), and returns one answer a
        candidate: True keeps it; False, or a text that is the reason, leaves it out
        (:mod:`optomatic.filters` has some).
    time_budget : float, default=None
        Seconds after which the search for candidates ends: what is queued is withdrawn at
        once, what runs gets 5 s (with ``n_jobs=None`` it finishes), and candidates all of
        whose splits are scored make ``cv_results_``.  Then the best is refitted.
    target_score : float, default=None
        The search ends with the first candidate whose mean test score is as good.
    n_no_improve : int, default=None
        The search ends after so many candidates in a row that are no better than the best.
    replay : str, default=None
        Id or name of an earlier search on `db`: an adaptive generator is asked and told as it
        was then, so that it proposes the same candidates, however many workers there are.
    db : str, default=None
        MongoDB URI, with the database's name as its path (``mongodb://host/iris``).
        None reads ``$OPTOMATIC_DB``; without that, a private embedded server is used.
    name : str, default=None
        Name of the search in the database.
    retry_failed : bool, default=False
        Score units again whose stored end is a failure of the estimator, or that were
        given up after killing three workers.
    fit_timeout : float, default=None
        Seconds that a unit may take to be fitted and scored, loading apart.  One that is not
        done then is ended and gets `error_score`.
    memory_limit : int or str, default=None
        Bytes, or a size such as ``"500MB"``: how much memory the process that scores a unit
        and all that it starts may hold for themselves, of which Python with scikit-learn
        takes about 100 MB and data that is an array of numbers nothing.  A unit that
        takes more is ended and gets `error_score`.  With either limit ``n_jobs=None`` scores in
        one local worker process instead of this one.
    requires : set of str, default=None
        Only workers that carry all these tags score the search (``python -m optomatic.worker
        --tag gpu``).  Local workers carry those in ``$OPTOMATIC_TAG``; if that does not do,
        `fit` leaves all to standalone workers, whatever `n_jobs` is.
    inner_max_num_threads : int, default=None
        Threads that numeric libraries (BLAS, OpenMP) may use in each process that scores.
        None shares the cores of a machine out among the processes of a worker.
    ship_modules : list of str or module, default=None
        Modules whose code travels to workers with the search, as that of ``__main__`` and of
        notebooks does; all others must be installed there.

    Attributes
    ----------
    cv_results_, best_estimator_, best_score_, best_params_, best_index_, scorer_, \
    n_splits_, refit_time_, multimetric_, classes_, n_features_in_, feature_names_in_
        As in :class:`~sklearn.model_selection.GridSearchCV`.  Times of stored units are
        those measured when they were scored.
    summary_ : FitSummary
        How many units were stored, scored and failed, by how many workers, in how many
        seconds; its ``str`` is the line that ``verbose`` prints.
    search_id_ : str
        Id of this fit's record in the database.

    Notes
    -----
    A splitter that shuffles without a seed is asked once a fit, which is said by a
    :class:`~optomatic.errors.RandomnessUnseeded` warning, as nothing stored can be reused
    then.  Of an estimator without ``random_state`` nothing is said: its scores are one draw,
    and a stored draw serves later fits.

    A fitted search is pickled without the credentials in `db` and without training data, and
    predicts where no database is.  To fit it (or a clone) there, give the address by
    ``$OPTOMATIC_DB`` or ``set_params(db=...)``.  One that is not fitted yet is pickled with
    its `db`, so that it works in other processes; if such pickles are kept, leave `db` out and
    set ``$OPTOMATIC_DB``.  Copies (:mod:`copy`) keep all.

    With an adaptive generator, `filters`, a budget or `replay` the number of units is not known
    beforehand, so scikit-learn's callbacks then hear of the search and the refit only.

    Inside of a worker (as the estimator of another search, say) a search scores all of its
    units there, one after the other and without a store: the address of the database does not
    travel to workers, and what is stored is what comes of the whole.

    Callbacks are told of each unit once, in the thread that calls ``fit``: see
    :mod:`optomatic.fitting.unit_callbacks`.

    Several fits may run at the same time, in any number of processes, on one database: a
    unit that two of them want is scored once.  After a crash, Ctrl-C or ``kill -9``, the
    next equal fit computes only what is missing.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.svm import SVC
    >>> from optomatic import MongoSearchCV
    >>> X, y = load_iris(return_X_y=True)
    >>> search = MongoSearchCV(SVC(), {"C": [0.1, 1, 10]}).fit(X, y)  # doctest: +SKIP
    >>> search.best_params_  # doctest: +SKIP
    {'C': 1}
    """

    _parameter_constraints: dict[str, Any] = {
        **_sklearn.BaseSearchCV._parameter_constraints,
        "param_grid": [dict, list, Iterable, _sklearn.ASKS, callable, None],
        "param_distributions": [dict, list, Iterable, _sklearn.ASKS, callable, None],
        "n_iter": [_sklearn.POSITIVE_INTEGER, None],
        "random_state": ["random_state"],
        "filters": [list, tuple, None],
        "time_budget": "no_validation",
        "target_score": "no_validation",
        "n_no_improve": "no_validation",
        "replay": [str, None],
        "db": "no_validation",
        "name": [str, None],
        "retry_failed": ["boolean"],
        "fit_timeout": "no_validation",
        "memory_limit": "no_validation",
        "requires": "no_validation",
        "inner_max_num_threads": "no_validation",
        "ship_modules": "no_validation",
    }

    def __init__(
        self,
        estimator: Any,
        param_grid: Any = None,
        *,
        param_distributions: Any = None,
        n_iter: int | None = None,
        scoring: Any = None,
        n_jobs: int | None = None,
        refit: Any = True,
        cv: Any = None,
        verbose: int = 0,
        pre_dispatch: Any = "2*n_jobs",
        random_state: Any = None,
        error_score: Any = np.nan,
        return_train_score: bool = False,
        filters: Sequence[Filter] | None = None,
        time_budget: float | None = None,
        target_score: float | None = None,
        n_no_improve: int | None = None,
        replay: str | None = None,
        db: str | None = None,
        name: str | None = None,
        retry_failed: bool = False,
        fit_timeout: float | None = None,
        memory_limit: int | str | None = None,
        requires: Collection[str] | None = None,
        inner_max_num_threads: int | None = None,
        ship_modules: Collection[str | ModuleType] | None = None,
    ) -> None:
        super().__init__(
            estimator=estimator,
            scoring=scoring,
            n_jobs=n_jobs,
            refit=refit,
            cv=cv,
            verbose=verbose,
            pre_dispatch=pre_dispatch,
            error_score=error_score,
            return_train_score=return_train_score,
        )
        self.param_grid = param_grid
        self.param_distributions = param_distributions
        self.n_iter = n_iter
        self.random_state = random_state
        self.filters = filters
        self.time_budget = time_budget
        self.target_score = target_score
        self.n_no_improve = n_no_improve
        self.replay = replay
        self.db = db
        self.name = name
        self.retry_failed = retry_failed
        self.fit_timeout = fit_timeout
        self.memory_limit = memory_limit
        self.requires = requires
        self.inner_max_num_threads = inner_max_num_threads
        self.ship_modules = ship_modules

    @_sklearn.fit_context  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: Any = None, **params: Any) -> MongoSearchCV:
        """Score every candidate on every split, then refit the best.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, n_samples)
            Training data, or a precomputed kernel or distance matrix.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            Target.
        **params : dict of str -> object
            Passed to the estimator's ``fit``, the scorer and the splitter as in
            :class:`~sklearn.model_selection.GridSearchCV`.

        Returns
        -------
        self : MongoSearchCV

        Raises
        ------
        StoreError
            If the database cannot be used, within 10 s at the start and a minute later.
        NotShippable
            With workers, if the estimator, scorer or data cannot be pickled.
        ValueError, TypeError
            scikit-learn's own for bad parameters, data or spaces.
        """
        request = self._check(X, y, params)
        results, scores = self._search(request)
        self._choose_best(request, results, scores)
        self._refit_best(request)
        self.scorer_ = _sklearn.scorers_by_name(request.scorers) or request.scorers
        self.cv_results_ = results
        request.callbacks.call_on_fit_task_end(
            estimator=self, X=request.X, y=request.y, metadata=request.metadata
        )
        return self

    # What is asked

    def _check(self, X: Any, y: Any, params: Mapping[str, Any]) -> _Request:
        """Check and route everything as scikit-learn's fit does, in its order."""
        scorers, refit_metric = self._get_scorers()
        X, y = indexable(X, y)
        params = _sklearn.check_method_params(X, params=params)
        routed = self._get_routed_params_for_fit(params)
        weight = params.get("sample_weight")
        metadata = None if weight is None else {"sample_weight": weight}
        # Before any hook runs: what a callback is like then depends on nothing but the user.
        inside = _sklearn.callbacks_inside_fits(self)
        inside_digest = fingerprint({"callbacks": inside}) if inside else None
        callbacks = _sklearn.callback_context(self, max_subtasks=1 + (self.refit is not False))
        callbacks.call_on_fit_task_begin(estimator=self, X=X, y=y, metadata=metadata)
        return _Request(
            X,
            y,
            scorers,
            refit_metric,
            routed,
            clone(self.estimator),
            callbacks,
            metadata,
            inside,
            inside_digest,
        )

    def _search(self, request: _Request) -> tuple[dict[str, Any], Any]:
        """Return ``cv_results_`` and the test scores of the first unit."""
        self._refuse_two_spaces()
        space, budget = self._space(), self._budget()
        if is_adaptive(space) or is_open((), self.filters or (), budget, self.replay):
            return self._evaluate_open(request, space, self._fix_splits(request))
        candidates = self._candidates()
        return self._evaluate(request, candidates, self._fix_splits(request))

    def _space(self) -> Any:
        return self.param_distributions if self.param_grid is None else self.param_grid

    def _budget(self) -> Budget:
        return Budget(self.time_budget, self.target_score, self.n_no_improve)

    def _refuse_two_spaces(self) -> None:
        if (self.param_grid is None) == (self.param_distributions is None):
            raise ValueError(
                "Give exactly one of param_grid and param_distributions; "
                f"{'neither' if self.param_grid is None else 'both'} was given."
            )

    def _candidates(self) -> list[dict[str, Any]]:
        return candidates_of(
            self._space(),
            n_iter=self.n_iter,
            sampled=self.param_grid is None,
            random_state=self.random_state,
        )

    def _check_cv(self, request: _Request) -> Any:
        """Return the splitter; note how many splits it makes."""
        X, y, split_params = request.X, request.y, request.routed.splitter.split
        self._checked_cv_orig = check_cv(self.cv, y, classifier=is_classifier(self.estimator))
        self.n_splits_ = self._checked_cv_orig.get_n_splits(X, y, **split_params)
        return self._checked_cv_orig

    def _fix_splits(self, request: _Request) -> list[Any]:
        cv = self._check_cv(request)
        if draws_anew(cv) and not inside_worker():
            _warn_that_splits_are_a_draw(cv)
        return self._splits_of(cv, request)

    def _splits_of(self, cv: Any, request: _Request) -> list[Any]:
        split_params = request.routed.splitter.split
        return fix_splits(cv.split(request.X, request.y, **split_params), self.n_splits_)

    # Scoring

    def _evaluate(
        self, request: _Request, candidates: list[dict[str, Any]], splits: Sequence[Any]
    ) -> tuple[dict[str, Any], list[Any]]:
        """Have all units scored; return ``cv_results_`` and the first unit's test scores."""
        n_candidates, n_splits = len(candidates), len(splits)
        self._announce(n_candidates, n_splits)
        context = request.callbacks.subcontext(
            task_name="search", max_subtasks=n_candidates * n_splits, sequential_subtasks=False
        )
        context.call_on_fit_task_begin(estimator=self)
        rows = self._score(request, candidates, splits, context)
        results = self._format_results(candidates, n_splits, rows)
        context.call_on_fit_task_end(estimator=self)
        return results, rows[0]["test_scores"]

    def _announce(self, n_candidates: int, n_splits: int) -> None:
        """Say what will be fitted, or that it is nothing."""
        if self.verbose > 0:
            print(
                f"Fitting {n_splits} folds for each of {n_candidates} candidates, "
                f"totalling {n_candidates * n_splits} fits"
            )
        if not n_candidates * n_splits:
            raise ValueError(
                "No fits were performed. Was the CV iterator empty? Were there no candidates?"
            )

    def _score(
        self,
        request: _Request,
        candidates: list[dict[str, Any]],
        splits: Sequence[Any],
        context: Any,
    ) -> list[dict[str, Any]]:
        """Have all units scored; return what scikit-learn tabulates, of each."""
        bundle = self._bundle(request, splits)
        with shipping(self.ship_modules):
            plan = plan_units(
                bundle,
                candidates,
                requires=tags_of(self.requires),
                callbacks=request.inside_digest,
            )
        self._report_doubts(plan)
        callbacks = None
        if _sklearn.has_callbacks(self):
            callbacks = UnitCallbacks(self, context, plan, bundle, candidates)
        engine = self._engine(request, bundle, plan, candidates, callbacks)
        ending = self._drive(plan, engine, len(candidates), callbacks)
        rows = self._rows(request, [ending.outcomes[i] for i in plan.ids], candidates)
        self._print_lines(rows, candidates, plan, engine.scored)
        return rows

    def _evaluate_open(
        self, request: _Request, space: Any, splits: Sequence[Any]
    ) -> tuple[dict[str, Any], Any]:
        """Have candidates scored as they come about; tabulate those that are complete."""
        refuse_inside_worker()
        ledger = Ledger()
        bundle = self._bundle(request, splits)
        workers = self._workers_with(request.inside)
        self.search_id_ = secrets.token_hex(12)
        with shipping(self.ship_modules), open_store(self.db) as store:
            planner = UnitPlanner(
                bundle, requires=tags_of(self.requires), callbacks=request.inside_digest
            )
            rounds = Rounds(
                *(store, self._record(0), planner, self._asking(store, space, workers), ledger),
                workers=workers,
                retry_failed=self.retry_failed,
                trial=trial_for(workers),
            )
            self.summary_ = rounds.run(lambda: self._open_engine(bundle, ledger, workers))
        if self.verbose > 0:
            print(self.summary_)
        complete = ledger.complete()
        if not complete:
            raise ValueError(nothing_complete(self.summary_))
        candidates = [entry.params for entry in complete]
        outcomes = [ledger.outcomes[unit_id] for entry in complete for unit_id in entry.ids]
        rows = self._rows(request, outcomes, candidates)
        return self._format_results(candidates, len(splits), rows), rows[0]["test_scores"]

    def _asking(self, store: Store, space: Any, workers: int | None) -> Asking:
        adaptive = is_adaptive(space)
        metric = self.refit if isinstance(self.refit, str) else None
        return asking_for(
            store,
            space if adaptive else self._candidates(),
            directions={metric or SCORE: "maximize"},
            metric=metric,
            filters=self.filters or (),
            budget=self._budget(),
            n_iter=self.n_iter if adaptive else None,
            n_splits=self.n_splits_,
            workers=workers,
            replay=self.replay,
        )

    def _open_engine(self, bundle: Bundle, ledger: Ledger, workers: int | None) -> Engine:
        return engine_for(
            workers,
            bundle=bundle,
            place=ledger.place,
            error_score=self.error_score,
            verbose=self.verbose,
            db=self.db,
        )

    def _bundle(self, request: _Request, splits: Sequence[Any]) -> Bundle:
        return Bundle(
            estimator=request.base,
            X=request.X,
            y=request.y,
            splits=splits,
            scorer=_sklearn.scorers_by_name(request.scorers) or request.scorers,
            fit_params=request.routed.estimator.fit,
            score_params=request.routed.scorer.score,
            options={
                "return_train_score": bool(self.return_train_score),
                "config": _sklearn.numeric_config(),
                **self._how_to_run(),
            },
        )

    def _how_to_run(self) -> dict[str, Any]:
        """Return what is said of how units may be run; empty if nothing is."""
        how = {
            "limits": limits_of(self.fit_timeout, self.memory_limit),
            "inner_max_num_threads": threads_of(self.inner_max_num_threads),
        }
        return {name: value for name, value in how.items() if value}

    def _report_doubts(self, plan: Plan) -> None:
        if inside_worker():  # nothing is shared anyway
            return
        if plan.refusal is not None and self._workers() is not None:
            raise plan.refusal
        if plan.refusal is not None:
            warn(
                f"{plan.refusal} It is scored in this process; other workers cannot help.",
                KeyNotCertain,
            )
        if plan.doubts:
            warn(
                "Scored for this search only and not reused by later ones, as it cannot be told "
                "for certain when it is equal: " + "; ".join(plan.doubts),
                KeyNotCertain,
            )

    def _workers(self) -> int | None:
        """Return the number of local workers: None is this process, 0 is nobody."""
        if inside_worker():
            return None
        if self.n_jobs == 0 or not set(tags_of(self.requires)) <= set(tags_here()):
            return 0
        k = effective_n_jobs(self.n_jobs)
        # A limit is held by ending the process that scores.
        return None if k == 1 and not self._limited() else k

    def _limited(self) -> bool:
        return self.fit_timeout is not None or self.memory_limit is not None

    def _workers_with(self, inside: Sequence[Any]) -> int | None:
        """Return the number of local workers: none where callbacks reach into the fits."""
        workers = self._workers()
        if not inside or workers is None:
            return workers
        names = ", ".join(sorted({type(callback).__name__ for callback in inside}))
        if self._limited() or self.requires:
            raise ValueError(
                f"Callbacks ({names}) are called inside of the fits, so these run in this process, "
                "where fit_timeout, memory_limit and requires cannot be held. Nothing was queued. "
                "Leave out one or the other."
            )
        warn(
            f"Callbacks ({names}) are called inside of the fits and live in this process, so all "
            f"units are scored in it, one after the other, whatever n_jobs is (here "
            f"{self.n_jobs}). Callbacks without max_propagation_depth, set on the search itself, "
            "leave the fits to workers.",
            UserWarning,
        )
        return None

    def _engine(
        self,
        request: _Request,
        bundle: Bundle,
        plan: Plan,
        candidates: Sequence[Mapping[str, Any]],
        callbacks: UnitCallbacks | None,
    ) -> Engine:
        def place(unit_id: str) -> tuple[Mapping[str, Any], int]:
            candidate, split = plan.places[unit_id]
            return candidates[candidate], split

        def progress(unit_id: str) -> dict[str, Any]:
            candidate, split = plan.places[unit_id]
            return {
                "split_progress": (split, self.n_splits_),
                "candidate_progress": (candidate, len(candidates)),
                **({} if callbacks is None else callbacks.of(unit_id)),
            }

        return engine_for(
            self._workers_with(request.inside),
            bundle=bundle,
            place=place,
            error_score=self.error_score,
            verbose=self.verbose,
            progress=progress,
            told=_tell_nobody if callbacks is None else callbacks.done,
            db=self.db,
        )

    def _drive(
        self,
        plan: Plan,
        engine: Engine,
        n_candidates: int,
        callbacks: UnitCallbacks | None,
    ) -> Ending:
        self.search_id_ = secrets.token_hex(12)
        if isinstance(engine, Here) and inside_worker():
            ending = known.run_alone(plan, engine)
        else:
            ending = self._run(plan, engine, n_candidates, callbacks)
        self.summary_ = ending.summary
        return ending

    def _run(
        self, plan: Plan, engine: Engine, n_candidates: int, callbacks: UnitCallbacks | None
    ) -> Ending:
        with open_store(self.db) as store:
            return known.run(
                store,
                plan,
                self._record(n_candidates),
                engine,
                retry_failed=self.retry_failed,
                told=None if callbacks is None else callbacks.done,
                say=print if self.verbose > 0 else _tell_nobody,
                trial=self._trial(engine),
            )

    def _trial(self, engine: Engine) -> Callable[[Iterable[Part]], None]:
        """Return what tries whether others can load what is about to be queued for them."""
        if isinstance(engine, Here):
            return _tell_nobody
        return lambda parts: try_loading(parts, self._workers() or 0)

    def _record(self, n_candidates: int) -> SearchRecord:
        return SearchRecord(
            id=self.search_id_,
            name=self.name or f"{type(self.estimator).__name__}-{self.search_id_[:6]}",
            estimator=repr(self.estimator)[:4000],
            space=shown(self._space()),
            scoring=repr(self.scoring)[:1000],
            n_candidates=n_candidates,
            n_splits=self.n_splits_,
            env=environment(),
            process=this_process(),
        )

    # Results

    def _rows(
        self, request: _Request, outcomes: list[Outcome], candidates: list[dict[str, Any]]
    ) -> list[dict[str, Any]]:
        """Make what scikit-learn tabulates of all outcomes; warn and raise as it does."""
        named = _sklearn.scorers_by_name(request.scorers)
        table.raise_what_gridsearchcv_raises(outcomes, self.error_score)
        self._warn_of_failures(outcomes, candidates, len(outcomes) // len(candidates))
        rows = table.fit_and_score_rows(
            outcomes,
            error_score=self.error_score,
            metrics=None if named is None else list(named),
            return_train_score=bool(self.return_train_score),
        )
        failed_fits = table.without_the_dead(rows, outcomes)
        _sklearn.warn_or_raise_about_fit_failures(failed_fits, self.error_score)
        if callable(self.scoring):
            _sklearn.insert_error_scores(rows, self.error_score)
        return rows

    def _print_lines(
        self,
        rows: list[dict[str, Any]],
        candidates: list[dict[str, Any]],
        plan: Plan,
        printed: Collection[str],
    ) -> None:
        """Print what `verbose` asks for of units that this process did not score itself."""
        if self.verbose < 1:
            return
        n_splits = len(rows) // len(candidates)
        leave_out = [
            unit_id in printed and plan.places[unit_id] == divmod(n, n_splits)
            for n, unit_id in enumerate(plan.ids)
        ]
        for line in cv_lines(rows, candidates, leave_out=leave_out, verbose=self.verbose):
            print(line)
        print(self.summary_)

    def _warn_of_failures(
        self, outcomes: list[Outcome], candidates: list[dict[str, Any]], n_splits: int
    ) -> None:
        if all(outcome.state == "completed" for outcome in outcomes):
            return
        table.warn_of_failed_scores(outcomes, self.error_score)
        table.warn_of_deaths(outcomes, lambda row: candidates[row // n_splits], self.error_score)

    def _choose_best(self, request: _Request, results: dict[str, Any], scores: Any) -> None:
        refit_metric = request.refit_metric
        self.multimetric_ = isinstance(scores, dict)
        if callable(self.scoring) and self.multimetric_:
            self._check_refit_for_multimetric(scores)
            refit_metric = self.refit
        if self.refit or not self.multimetric_:
            self.best_index_ = self._select_best_index(self.refit, refit_metric, results)
            if not callable(self.refit):
                self.best_score_ = results[f"mean_test_{refit_metric}"][self.best_index_]
            self.best_params_ = results["params"][self.best_index_]

    def _refit_best(self, request: _Request) -> None:
        if not self.refit:
            return
        X, y, fit_params = request.X, request.y, request.routed.estimator.fit
        # The params are cloned too: they may be estimators themselves.
        self.best_estimator_ = clone(request.base).set_params(
            **clone(self.best_params_, safe=False)
        )
        context = request.callbacks.subcontext(task_name="refit-with-best-params")
        with context.propagate_callback_context(self.best_estimator_):
            context.call_on_fit_task_begin(estimator=self, X=X, y=y, metadata=request.metadata)
            began = time.time()
            data = (X,) if y is None else (X, y)
            self.best_estimator_.fit(*data, **fit_params)
            self.refit_time_ = time.time() - began
        if hasattr(self.best_estimator_, "feature_names_in_"):
            self.feature_names_in_ = self.best_estimator_.feature_names_in_
        context.call_on_fit_task_end(estimator=self, X=X, y=y, metadata=request.metadata)

    def __setattr__(self, name: str, value: Any) -> None:
        """Keep credentials in `db` from being printed, and what an iterator gives.

        All else is stored untouched.
        """
        # Address and Replayed stay the objects that they are: clone() looks whether they do.
        if name == "db" and type(value) is str and redact(value) != value:
            value = Address(value)
        if name in ("param_grid", "param_distributions") and isinstance(value, Iterator):
            value = Replayed(value)
        super().__setattr__(name, value)

    # Copies

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled.

        For workers, without any address.  A fitted search is kept and passed on to predict,
        so it goes without credentials; one that is not fitted yet is on its way to a process
        where it has to reach its database.
        """
        state = dict(super().__getstate__())
        if in_payload():
            state["db"] = None
        elif hasattr(self, "cv_results_"):
            state = {name: without_credentials(value) for name, value in state.items()}
        return state

    def __copy__(self) -> MongoSearchCV:
        """Return a shallow copy: it stays in this process, with all that it knows."""
        made = type(self).__new__(type(self))
        made.__dict__.update(self.__dict__)
        return made

    def __deepcopy__(self, memo: dict[int, Any]) -> MongoSearchCV:
        """Return a deep copy: it stays in this process, with all that it knows."""
        made = type(self).__new__(type(self))
        memo[id(self)] = made
        made.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return made


def _warn_that_splits_are_a_draw(cv: Any) -> None:
    """Say it: unlike a random estimator, whose stored score serves, it makes a store useless."""
    warn(
        f"cv={cv!r} shuffles without a seed. Its splits were drawn once, and all candidates are "
        "scored on the same; but each fit draws others, so it can reuse no stored score, and "
        "after an interruption it begins anew. Give it a random_state=.",
        RandomnessUnseeded,
    )


def _tell_nobody(_: object) -> None:
    """Stand in where nobody wants to know."""
