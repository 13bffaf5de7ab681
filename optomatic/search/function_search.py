"""MongoSearch: the line of MongoSearchCV for any scoring function."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from numbers import Integral, Real
from types import ModuleType
from typing import Any, Literal

import numpy as np
import pandas as pd
from sklearn.exceptions import FitFailedWarning, NotFittedError

from optomatic import _sklearn
from optomatic.candidates.ask_tell import is_adaptive, is_generator, refuse_endless
from optomatic.candidates.filters import Filter
from optomatic.candidates.grids import candidates_of
from optomatic.candidates.stopping import Budget
from optomatic.driver.adaptive import Course, Rounds, asking_for, completed
from optomatic.driver.earlier_searches import (
    check_named_at,
    check_warm_start,
    earlier_evaluations,
    named,
)
from optomatic.driver.executors import Executor, LocalWorkers, Standalone
from optomatic.driver.fixed import leave, run_at
from optomatic.driver.following import Unfollowed, following, say_of_uploads
from optomatic.driver.preflight import (
    is_open,
    refuse_inside_worker,
    report_doubts,
    report_moved,
    workers_for,
)
from optomatic.driver.recording import check_name, define, new_record, record_best
from optomatic.driver.state import Ledger
from optomatic.driver.summary import rather
from optomatic.errors import shown, warn
from optomatic.keys.environment import shipping
from optomatic.planning.constraints import how_to_run, tags_of
from optomatic.planning.params import decode_extra
from optomatic.planning.planner import Plan, Planner
from optomatic.planning.workload import FunctionWorkload
from optomatic.records import Evaluation, SearchRecord
from optomatic.results import table
from optomatic.results.cv_lines import Lines, function_line
from optomatic.results.frames import SCORE, evaluation_of, frame_of
from optomatic.results.progress import FitSummary, opening_line
from optomatic.results.tally import Tally
from optomatic.search.pickling import KeepsAddress
from optomatic.search.stored_search import StoredSearch
from optomatic.store.connection import open_store
from optomatic.worker.inprocess import InProcess, Place


def _is_space(value: Any) -> bool:
    gives = isinstance(value, Iterable) or callable(value) or hasattr(value, "ask")
    return gives and not isinstance(value, str | bytes | type)


#: What can be an argument of MongoSearch, where it is not None, and how that is said.
_ARGUMENTS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "space": (
        _is_space,
        "a dict of lists, a list of such dicts, an iterable of dicts or a generator",
    ),
    "data": (lambda v: isinstance(v, Mapping), "a dict of arguments of the function"),
    "n_iter": (lambda v: isinstance(v, Integral) and int(v) >= 1, "a number from 1 on"),
    "direction": (lambda v: not isinstance(v, Mapping) or bool(v), "given for one metric at least"),
    "metric": (lambda v: isinstance(v, str), "the name of a metric"),
    "filters": (lambda v: isinstance(v, list | tuple), "a list of filters"),
    "replay": (lambda v: isinstance(v, str), "the name or id of a search"),
    "n_jobs": (lambda v: isinstance(v, Integral), "a number of processes"),
    "verbose": (lambda v: isinstance(v, Real), "a number"),
    "retry_failed": (lambda v: isinstance(v, bool | np.bool_), "True or False"),
}


class MongoSearch(StoredSearch, KeepsAddress):
    """Search over the params of any function, every score kept in MongoDB.

    Each candidate is a job that any worker on any machine can claim, in the same store and by
    the same workers as those of :class:`MongoSearchCV`.  A stored score serves every later
    search with the same code, data and params.

    Parameters
    ----------
    function : callable
        Takes a candidate, as ``function(params, **data)`` or ``function(**params, **data)``,
        whichever its signature fits, and returns

        - a number: the score;
        - a dict of numbers: scores by metric;
        - a pair of one of these and an extra: plain values (numbers, texts, small arrays,
          lists and dicts of them), which are kept and come back as ``extra``.

        What it raises is kept as a failure of its candidate.
    space : dict, list of dict, iterable of dict, or generator
        A grid; or, if a value has ``rvs`` or `n_iter` is given, distributions to draw from;
        or anything that gives candidates, such as ``ParameterGrid(...)`` or a Python generator,
        which is gone through no further than is needed; or an adaptive generator
        (:mod:`optomatic.candidates.ask_tell`): an object with ``ask(n)``, and
        ``tell(evaluations)`` if it likes, or a function of ``history``, a DataFrame like
        `results_`.  It is asked as units finish, and knows what is in flight.
    data : mapping of str to object, optional
        Arguments that are equal for all candidates.  They are stored once, and workers keep
        them on their disks.
    n_iter : int, default=None
        Number of draws, 10 if the space is sampled and this is None; of a generator, how many
        candidates it is asked for, as many as it gives if this is None.
    direction : {"maximize", "minimize"} or dict of them by metric, default="maximize"
        Which score is the best.
    metric : str, default=None
        By which metric, where the function returns several; the first if not given.
    filters : sequence of callable, default=()
        Each gets candidates (list of dict) and history (DataFrame), and returns one answer a
        candidate: True keeps it; False, or a text that is the reason, leaves it out.
    time_budget : float, default=None
        Seconds after which the search ends: what is queued is withdrawn at once, and what runs
        gets 5 s (with ``n_jobs=None`` it finishes).
    target_score : float, default=None
        The search ends with the first candidate that is as good.
    n_no_improve : int, default=None
        The search ends after so many candidates in a row that are no better than the best.
    replay : str, default=None
        Id or name of an earlier search on `db`: the generator is asked and told as it was
        then, so that it proposes the same candidates, however many workers there are now.
    warm_start : bool, str or list of str, default=False
        Whether scores of earlier searches on `db` are told to an adaptive generator before it is
        asked for the first time, and to filters: True takes those of all searches of the same
        function on the same data, a name or id (or several) those of one.  They are no rows of
        `results_`.  Spaces that do not learn are searched as without.
    n_jobs : int, default=None
        None or 1 calls the function in this process; k in k local worker processes; -1 in
        one a core; 0 leaves all to standalone workers (``python -m optomatic.worker``).
    random_state : int, RandomState instance or None, default=None
        Seed of the draws.
    error_score : "raise" or float, default=nan
        Score of a candidate whose call raised; "raise" raises what it raised.
    verbose : int, default=0
        From 1 on how many candidates there are is printed, and the summary; a live line (in a
        notebook a bar and a grid) shows how far the search is, as of :class:`MongoSearchCV`.  From
        2 on each candidate has a line as it finishes, whoever scores it; those of stored ones
        follow at the end: ``[3/24] END lr=0.1; score=0.932 total time=   1.2s``.  0 shows nothing
        but warnings.
    db : str, default=None
        MongoDB URI.  None reads ``$OPTOMATIC_DB``; without that, a private embedded server is
        used.
    name : str, default=None
        Name of the search in the database.
    definition : str or path, default=None
        Name of a search definition file: ``definition="sweep"`` writes the database (without
        credentials) and the name of the search into ``sweep.optomatic.toml`` in the current
        directory, in which ``python -m optomatic.worker`` then works off the searches that
        stand there, one after another.  The search needs a `name` for that.
    retry_failed : bool, default=False
        Score candidates again whose stored end is a failure.
    fit_timeout, memory_limit, requires, inner_max_num_threads, ship_modules
        As in :class:`MongoSearchCV`, of calls of the function.

    Attributes
    ----------
    results_ : DataFrame
        One row a candidate, in the order in which they were proposed: ``param_<name>``,
        ``score`` (or ``score_<metric>``), ``state``, ``seconds``, ``error``, ``extra``.
    best_params_, best_score_, best_index_, best_extra_
        Of the best candidate; the first of equal ones.
    summary_ : FitSummary
        How many units were stored, scored and failed, by how many workers.
    search_id_ : str
        Id of this run's record in the database.

    Notes
    -----
    The function is known by its code, not by its name: the byte code, constants, defaults,
    closures and globals that it uses, or distribution and version if it is installed.
    An edited function scores anew.

    A generator that is ``endless`` needs one of `n_iter`, `time_budget`, `target_score` and
    `n_no_improve`; what goes on without anything new ends as in :class:`MongoSearchCV`.

    Examples
    --------
    >>> from optomatic import MongoSearch
    >>> def distance(x, y):
    ...     return (x - 3) ** 2 + y
    >>> search = MongoSearch(
    ...     distance, {"x": range(6), "y": [0, 1]}, direction="minimize"
    ... ).run()  # doctest: +SKIP
    >>> search.best_params_  # doctest: +SKIP
    {'x': 3, 'y': 0}
    """

    __module__ = "optomatic"  # its public name, in pickles too, wherever it stands

    def __init__(
        self,
        function: Callable[..., Any],
        space: Any,
        *,
        data: Mapping[str, Any] | None = None,
        n_iter: int | None = None,
        direction: str | Mapping[str, str] = "maximize",
        metric: str | None = None,
        filters: Sequence[Filter] = (),
        time_budget: float | None = None,
        target_score: float | None = None,
        n_no_improve: int | None = None,
        replay: str | None = None,
        warm_start: bool | str | Sequence[str] = False,
        n_jobs: int | None = None,
        random_state: Any = None,
        error_score: float | Literal["raise"] = np.nan,
        verbose: int = 0,
        db: str | None = None,
        name: str | None = None,
        definition: str | os.PathLike[str] | None = None,
        retry_failed: bool = False,
        fit_timeout: float | None = None,
        memory_limit: int | str | None = None,
        requires: Collection[str] | None = None,
        inner_max_num_threads: int | None = None,
        ship_modules: Collection[str | ModuleType] | None = None,
    ) -> None:
        self.function = function
        self.space = space
        self.data = data
        self.n_iter = n_iter
        self.direction = direction
        self.metric = metric
        self.filters = filters
        self.time_budget = time_budget
        self.target_score = target_score
        self.n_no_improve = n_no_improve
        self.replay = replay
        self.warm_start = warm_start
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.error_score = error_score
        self.verbose = verbose
        self.db = db
        self.name = name
        self.definition = definition
        self.retry_failed = retry_failed
        self.fit_timeout = fit_timeout
        self.memory_limit = memory_limit
        self.requires = requires
        self.inner_max_num_threads = inner_max_num_threads
        self.ship_modules = ship_modules

    def run(self) -> MongoSearch:
        """Score every candidate.

        Returns
        -------
        self : MongoSearch

        Raises
        ------
        TypeError, ValueError
            For a bad argument; if no candidate came to a score; for a generator that is
            ``endless`` if `n_iter`, `time_budget`, `target_score` and `n_no_improve` are all
            left out.
        KeyboardInterrupt
            After Ctrl-C.  What was scored makes `results_` and `best_params_` all the same.
        StoreError
            If the database cannot be used, within 10 s at the start and a minute later.
        DefinitionError
            If `definition` cannot be used, or is of another database.
        NotShippable
            With workers, if the function or its data cannot be pickled.
        OtherCode
            If local workers load something else than they were sent, as a file was edited.
        GeneratorFailed, FilterFailed
            If one of them raises, or gives what cannot be used.
        SearchCancelled
            If somebody withdrew the search (``attach(...).cancel()``).

        Notes
        -----
        After a crash, Ctrl-C or ``kill -9`` the next equal run calls the function only for
        what is missing.
        """
        self._check()
        budget = self._budget()
        refuse_endless(
            self.space,
            ends=self.n_iter is not None or budget.limits_anything() or self.replay is not None,
        )
        if is_open(self.space, self.filters, budget, self.replay):
            evaluations, interrupt = self._run_open()
        else:
            evaluations, interrupt = self._run_all()
        with rather(interrupt):
            self._tabulate(evaluations)
        if interrupt is not None:
            raise interrupt
        return self

    def _is_done(self) -> bool:
        return hasattr(self, "search_id_")

    def _search_id(self) -> str:
        if not self._is_done():
            raise NotFittedError(
                "This MongoSearch was not run yet, so there is nothing of it in the database. "
                "Call run() or submit() first."
            )
        return self.search_id_

    def _repr_html_(self) -> str | None:
        return self._stored_html() if self._is_done() else None

    def submit(self) -> str:
        """Queue every candidate that has no score yet, for standalone workers, and return.

        ``attach(search_id, db=...)`` waits for the search and reads it, from anywhere; ``run()``
        of an equal search takes its scores.

        Returns
        -------
        str
            Id of the search.

        Raises
        ------
        ValueError
            If candidates come about while others are scored (an adaptive generator, an iterable
            without `n_iter`, filters, a budget): that needs a process which asks for them.
        DefinitionError, NotShippable, StoreError
            As :meth:`run`.
        """
        self._check()
        space = () if self._is_cut_off() else self.space
        if is_open(space, self.filters, self._budget(), self.replay):
            raise ValueError(
                "A search with a generator, filters, a budget or replay needs the process that "
                "asks for its candidates, so it cannot be left. Nothing was queued. Use run(), or "
                "a space whose candidates are all known: a grid, a list of dicts, draws, or an "
                "iterable of which n_iter= are taken."
            )
        candidates = self._known_candidates()
        with shipping(self.ship_modules):
            plan = self._planner().plan(candidates)
        check_named_at(self.db, self.warm_start)
        report_doubts(plan, 0)
        define(self.definition, self.name, self.db)
        record = self._record(len(candidates), plan)
        with open_store(self.db) as store:
            leave(
                *(store, plan, record),
                retry_failed=self.retry_failed,
                say=say_of_uploads(self.verbose),
            )
        return self.search_id_

    # What is asked

    def _check(self) -> None:
        if not callable(self.function):
            raise TypeError(f"function is {shown(self.function)}, which cannot be called")
        check_name(self.name)
        for argument, (fits, what) in _ARGUMENTS.items():
            value = getattr(self, argument)
            if value is not None and not fits(value):
                raise _sklearn.InvalidParameterError(
                    f"{argument} is {shown(value)}, and has to be {what}. Nothing was queued."
                )
        check_warm_start(self.warm_start)
        for metric, direction in self._directions().items():
            if not isinstance(direction, str) or direction not in ("maximize", "minimize"):
                raise ValueError(
                    f"direction of {metric} is 'maximize' or 'minimize', not {shown(direction)}"
                )
        if not (isinstance(self.error_score, int | float) or shown(self.error_score) == "'raise'"):
            raise ValueError(f"error_score is a number or 'raise', not {shown(self.error_score)}")
        for name in self.data or ():
            if not (isinstance(name, str) and name.isidentifier()):
                raise ValueError(f"data are arguments of the function by name, not {shown(name)}")

    def _workers(self) -> int | None:
        """Return the number of local workers: None is this process, 0 is nobody."""
        limited = self.fit_timeout is not None or self.memory_limit is not None
        return workers_for(self.n_jobs, requires=tags_of(self.requires), limited=limited)

    def _planner(self) -> Planner:
        workload = FunctionWorkload(self.function, dict(self.data or {}), self._how_to_run())
        return Planner(workload, requires=tags_of(self.requires))

    def _how_to_run(self) -> dict[str, Any]:
        """Return what is said of how units may be run; empty if nothing is."""
        return how_to_run(self.fit_timeout, self.memory_limit, self.inner_max_num_threads)

    def _directions(self) -> dict[str, str]:
        if isinstance(self.direction, Mapping):
            return dict(self.direction)
        return {self.metric or SCORE: self.direction}

    def _named_directions(self) -> Mapping[str, str]:
        return self.direction if isinstance(self.direction, Mapping) else {}

    def _direction(self) -> str:
        """Return the direction of the metric that decides."""
        directions = self._directions()
        return directions.get(self.metric or "", next(iter(directions.values())))

    def _budget(self) -> Budget:
        limits = (self.time_budget, self.target_score, self.n_no_improve)
        return Budget(*limits, self._direction())

    # Scoring

    def _run_all(self) -> tuple[list[Evaluation], KeyboardInterrupt | None]:
        """Score candidates that are all known; return what came of them, and what ended it."""
        candidates = self._known_candidates()
        with shipping(self.ship_modules):
            planner = self._planner()
            plan = planner.plan(candidates)
        check_named_at(self.db, self.warm_start)
        self._announce(opening_line(len(candidates)))
        report_doubts(plan, self._workers())

        def place(unit_id: str) -> tuple[Mapping[str, Any], int]:
            return candidates[plan.ids.index(unit_id)], 0

        define(self.definition, self.name, self.db)
        followed = self._following(len(candidates))
        for params, unit_id in zip(candidates, plan.ids, strict=True):
            followed.planned(params, [unit_id])
        ending = run_at(
            *(
                self.db,
                plan,
                self._record(len(candidates), plan),
                self._executor(planner.workload, place),
            ),
            retry_failed=self.retry_failed,
            following=followed,
        )
        followed.print_rest()
        if self._workers() is None and ending.fresh:
            report_moved(planner.sender.moved())
        self._sum_up(ending.summary)
        if ending.interrupt is not None and not ending.outcomes:
            raise ending.interrupt
        outcomes = [ending.outcomes.get(unit_id) for unit_id in plan.ids]
        with rather(ending.interrupt):
            table.raise_what_gridsearchcv_raises([o for o in outcomes if o], self.error_score)
        pairs = zip(candidates, outcomes, strict=True)
        ended = [(candidate, outcome) for candidate, outcome in pairs if outcome is not None]
        evaluations = [evaluation_of(n, c, [outcome]) for n, (c, outcome) in enumerate(ended)]
        return evaluations, ending.interrupt

    def _is_cut_off(self) -> bool:
        """Tell whether the space is an iterable, endless maybe, of which so many are taken."""
        return (
            is_generator(self.space)
            and self.n_iter is not None
            and not (is_adaptive(self.space) or callable(self.space))
        )

    def _known_candidates(self) -> list[dict[str, Any]]:
        candidates = self._all_candidates()
        if not candidates:
            raise ValueError("The space has no candidates, so there is nothing to score.")
        return candidates

    def _all_candidates(self) -> list[dict[str, Any]]:
        return candidates_of(
            self.space, n_iter=self.n_iter, sampled=False, random_state=self.random_state
        )

    def _run_open(self) -> tuple[list[Evaluation], KeyboardInterrupt | None]:
        """As :meth:`_run_all`, of candidates as they come about."""
        refuse_inside_worker()
        ledger = Ledger()
        course = self._course()
        self._announce(course.opening_line())
        most, exact = course.most()
        followed = self._following(most, exact=exact, grows=True)
        with shipping(self.ship_modules), open_store(self.db) as store:
            planner = self._planner()
            names = named(store, self.warm_start)
            asking = asking_for(
                *(store, course, self._workers()),
                earlier=lambda: earlier_evaluations(
                    store, names, planner, getattr(self.space, "space", None)
                ),
            )
            rounds = Rounds(
                *(store, self._record(0, planner), planner, asking, ledger),
                workers=self._workers(),
                retry_failed=self.retry_failed,
                following=followed,
            )
            define(self.definition, self.name, self.db)
            summary = rounds.run(lambda: self._executor(planner.workload, ledger.place))
        followed.print_rest()
        if self._workers() is None and summary.scored:
            report_moved(planner.sender.moved())
        self._sum_up(summary)
        complete = completed(ledger, summary, rounds.interrupt)
        outcomes = ledger.outcomes_of(complete)
        with rather(rounds.interrupt):
            table.raise_what_gridsearchcv_raises(outcomes, self.error_score)
        return [ledger.evaluation(entry) for entry in complete], rounds.interrupt

    def _course(self) -> Course:
        generator = is_generator(self.space)
        return Course(
            space=self.space if generator else self._all_candidates(),
            directions=self._directions(),
            metric=self.metric,
            filters=self.filters,
            budget=self._budget(),
            n_iter=self.n_iter if generator else None,
            replay=self.replay,
        )

    def _announce(self, line: str) -> None:
        if self.verbose > 0:
            print(line)

    def _following(
        self, most: int | None, *, exact: bool = True, grows: bool = False
    ) -> Unfollowed:
        return following(
            self.verbose,
            lambda: Tally(
                metric=self.metric or next(iter(self._named_directions()), None),
                direction=self._direction(),
                most=most,
                exact=exact,
                grows=grows,
            ),
            lambda: Lines(function_line(verbose=self.verbose, n_candidates=most)),
        )

    def _sum_up(self, summary: FitSummary) -> None:
        self.summary_ = summary
        if self.verbose > 0:
            print(summary)

    def _executor(self, bundle: Any, place: Place) -> Executor:
        workers = self._workers()
        if workers is None:
            return InProcess(bundle, place, self.error_score)
        return LocalWorkers(workers) if workers else Standalone()

    def _record(self, n_candidates: int, plan: Plan | Planner) -> SearchRecord:
        name = getattr(self.function, "__qualname__", type(self.function).__name__)
        record = new_record(
            self.name,
            name,
            estimator=f"{getattr(self.function, '__module__', None)}:{name}",
            space=self.space,
            scoring=repr(self.direction),
            n_candidates=n_candidates,
            n_splits=1,
            signature=plan.signature,
            ingredients=plan.ingredients,
            facts={
                "kind": "function",
                "metrics": None,
                "error_score": _error_score(self.error_score),
                "return_train_score": False,
                "callable_scoring": False,
                "racing": False,
                "refit": self.metric,
                "directions": [[*pair] for pair in self._directions().items()],
            },
        )
        self.search_id_ = record.id
        return record

    # Results

    def _tabulate(self, evaluations: list[Evaluation]) -> None:
        metric = self._metric_of(evaluations)
        frame = frame_of(evaluations, extras=decode_extra)
        label = SCORE if metric == SCORE else f"score_{metric}"
        failed = frame["state"] == "failed"
        if self.error_score != "raise" and failed.any():
            frame.loc[failed, label] = float(self.error_score)
        self.results_ = frame
        if failed.any():
            self._warn_of_failures(frame[failed], len(frame))
        self._choose_best(evaluations, frame[label].to_numpy())

    def _metric_of(self, evaluations: list[Evaluation]) -> str:
        """Return the metric that decides: the one asked for, else the first there is."""
        names = next((list(e.scores) for e in evaluations if e.scores), [SCORE])
        if self.metric is not None and self.metric not in names:
            raise ValueError(
                f"metric is {self.metric!r}, and the function returned {names}. Its scores are "
                "stored: run again with one of these, and nothing is scored twice."
            )
        return self.metric or next((n for n in self._directions() if n in names), names[0])

    def _warn_of_failures(self, failed: pd.DataFrame, n_candidates: int) -> None:
        counts = failed["error"].value_counts()
        lines = "\n".join(f"  {count} x {error:.300}" for error, count in counts.items())
        warn(
            f"{len(failed)} of {n_candidates} candidates failed; their score is set to "
            f"{self.error_score}. `retry_failed=True` runs them again, and error_score='raise' "
            f"raises the first.\n{lines}",
            FitFailedWarning,
        )

    def _choose_best(self, evaluations: list[Evaluation], scores: Any) -> None:
        if np.isnan(scores).all():
            raise ValueError(
                f"None of the {len(scores)} candidates came to a score, so there is no best one. "
                f"The first error: {evaluations[0].error or 'the score is NaN'}. What they came "
                "to is in results_, and stored; mend the function, or use retry_failed=True."
            )
        choose = np.nanargmax if self._direction() == "maximize" else np.nanargmin
        self.best_index_ = int(choose(scores))
        self.best_score_ = float(scores[self.best_index_])
        self.best_params_ = dict(evaluations[self.best_index_].params)
        self.best_extra_ = decode_extra(evaluations[self.best_index_].extra)
        where = (self.db, self.search_id_, self.best_index_)
        record_best(*where, self.best_score_, self._metric_of(evaluations))


def _error_score(given: Any) -> float | None:
    return None if isinstance(given, str) else float(given)
