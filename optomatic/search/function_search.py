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
from optomatic.candidates.ask_tell import is_adaptive, is_generator
from optomatic.candidates.filters import Filter
from optomatic.candidates.grids import candidates_of
from optomatic.driver.driver import rather
from optomatic.driver.executors import Executor, LocalWorkers, Standalone
from optomatic.driver.request import Request, record_best
from optomatic.driver.warm_start import check_warm_start
from optomatic.errors import BriefTraceback, shown, warn
from optomatic.planning.params import decode_extra
from optomatic.planning.workload import FunctionWorkload
from optomatic.progress.cv_lines import Line, function_line
from optomatic.records import Evaluation
from optomatic.results import failures
from optomatic.results.frames import SCORE, frame_of
from optomatic.results.summary import FitSummary
from optomatic.search.pickling import KeepsAddress
from optomatic.search.shared_methods import StoredSearch
from optomatic.store.connection import OneStore
from optomatic.worker.inprocess import InProcess


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

    Each candidate is a job that any worker on any machine can claim.  Store and workers are those
    of :class:`MongoSearchCV`.  A stored score serves every later search with the same code, data
    and params.

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
    filters, time_budget, target_score, n_no_improve, replay, n_jobs, random_state, db, name
        As in :class:`MongoSearchCV`, of calls of the function.
    warm_start : bool, str or list of str, default=False
        Whether scores of earlier searches on `db` are told to an adaptive generator before it is
        asked for the first time, and to filters: True takes those of all searches of the same
        function on the same data, a name or id (or several) those of one.  They are no rows of
        `results_`.  Spaces that do not learn are searched as without.
    error_score : "raise" or float, default=nan
        Score of a candidate whose call raised; "raise" raises what it raised.
    verbose : int, default=0
        From 1 on how many candidates there are is printed, and the summary; a live line (in a
        notebook a bar and a grid) shows how far the search is, as of :class:`MongoSearchCV`.  From
        2 on each candidate has a line as it finishes, whoever scores it; those of stored ones
        follow at the end: ``[3/24] END lr=0.1; score=0.932 total time=   1.2s``.  0 shows nothing
        but warnings.
    definition : str or path, default=None
        Name of a search definition file: ``definition="sweep"`` writes the database (without
        credentials) and the name of the search into ``sweep.optomatic.toml`` in the current
        directory, in which ``optomatic worker`` then works off the searches that
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

    search_id_: str
    summary_: FitSummary

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
        with BriefTraceback():
            self._run(self._checked())
        return self

    def _run(self, request: FunctionRequest) -> None:
        with request.store as store:
            request.score(None if request.is_open() else request.some_candidates())
            request.report()
            with rather(request.interrupt):
                failures.raise_what_gridsearchcv_raises(request.outcomes(), self.error_score)
                ends = [request.state.evaluation(number) for number in request.complete]
                self._tabulate(ends, store)
        if request.interrupt is not None:
            raise request.interrupt

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
        with BriefTraceback():
            self._leave(self._checked())
        return self.search_id_

    def _leave(self, request: FunctionRequest) -> None:
        if request.is_decided_on_the_way() or (request.is_lazy and not request.is_cut_off()):
            raise ValueError(
                "A search with a generator, filters, a budget or replay needs the process that "
                "asks for its candidates, so it cannot be left. Nothing was queued. Use run(), or "
                "a space whose candidates are all known: a grid, a list of dicts, draws, or an "
                "iterable of which n_iter= are taken."
            )
        request.leave(request.some_candidates())

    def _checked(self) -> FunctionRequest:
        """Check all params; return what they ask for."""
        if not callable(self.function):
            raise TypeError(f"function is {shown(self.function)}, which cannot be called")
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
        return FunctionRequest(self)

    def _directions(self) -> dict[str, str]:
        if isinstance(self.direction, Mapping):
            return dict(self.direction)
        return {self.metric or SCORE: self.direction}

    def _tabulate(self, evaluations: list[Evaluation], store: OneStore) -> None:
        metric = self._metric_of(evaluations)
        frame = frame_of(evaluations, extras=decode_extra)
        label = SCORE if metric == SCORE else f"score_{metric}"
        failed = frame["state"] == "failed"
        if self.error_score != "raise" and failed.any():
            frame.loc[failed, label] = float(self.error_score)
        self.results_ = frame
        if failed.any():
            self._warn_of_failures(frame[failed], len(frame))
        self._choose_best(evaluations, frame[label].to_numpy(), store)

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

    def _choose_best(self, evaluations: list[Evaluation], scores: Any, store: OneStore) -> None:
        if np.isnan(scores).all():
            raise ValueError(
                f"None of the {len(scores)} candidates came to a score, so there is no best one. "
                f"The first error: {evaluations[0].error or 'the score is NaN'}. What they came "
                "to is in results_, and stored; mend the function, or use retry_failed=True."
            )
        directions, metric = self._directions(), self._metric_of(evaluations)
        decides = directions.get(self.metric or "", next(iter(directions.values())))
        choose = np.nanargmax if decides == "maximize" else np.nanargmin
        self.best_index_ = int(choose(scores))
        self.best_score_ = float(scores[self.best_index_])
        self.best_params_ = dict(evaluations[self.best_index_].params)
        self.best_extra_ = decode_extra(evaluations[self.best_index_].extra)
        record_best(store, self.search_id_, self.best_index_, self.best_score_, metric)


class FunctionRequest(Request[FunctionWorkload]):
    """Has candidates of a scoring function scored."""

    options: MongoSearch

    def __init__(self, search: MongoSearch) -> None:
        store = OneStore(search.db)
        super().__init__(search, search.space, search._directions(), search.metric, store)

    def is_open(self) -> bool:
        """Return whether candidates come about while others are scored, or the end is open."""
        return self.is_lazy or self.is_decided_on_the_way()

    def is_cut_off(self) -> bool:
        """Return whether the space is an iterable, endless maybe, of which so many are taken."""
        space = self.space
        taken = is_generator(space) and self.options.n_iter is not None
        return taken and not (is_adaptive(space) or callable(space))

    def workload(self) -> FunctionWorkload:
        search = self.options
        return FunctionWorkload(search.function, dict(search.data or {}), self.how_to_run())

    def known_candidates(self) -> list[dict[str, Any]]:
        search = self.options
        return candidates_of(
            self.space, n_iter=search.n_iter, sampled=False, random_state=search.random_state
        )

    def some_candidates(self) -> list[dict[str, Any]]:
        """Return all candidates; raise ValueError if there are none."""
        candidates = self.known_candidates()
        if not candidates:
            raise ValueError("The space has no candidates, so there is nothing to score.")
        return candidates

    def described(self) -> dict[str, Any]:
        search = self.options
        name = getattr(search.function, "__qualname__", type(search.function).__name__)
        raises = isinstance(search.error_score, str)
        return {
            "kind": name,
            "estimator": f"{getattr(search.function, '__module__', None)}:{name}",
            "scoring": repr(search.direction),
            "facts": {
                "kind": "function",
                "metrics": None,
                "error_score": None if raises else float(search.error_score),
                "return_train_score": False,
                "callable_scoring": False,
                "racing": False,
                "refit": self.metric,
                "directions": [[*pair] for pair in self.directions.items()],
            },
        }

    def executor(self, n_candidates: int | None) -> Executor:
        if self.workers is None:
            return InProcess(self.planner.workload, self.state.place, self.options.error_score)
        return LocalWorkers(self.workers) if self.workers else Standalone()

    def shown_metric(self) -> str | None:
        """Return the metric that decides, as far as it has a name."""
        named = isinstance(self.options.direction, Mapping)
        return self.metric or (next(iter(self.directions)) if named else None)

    def line(self, n_candidates: int | None) -> Line | None:
        return function_line(verbose=self.options.verbose, n_candidates=n_candidates)
