"""Successive halving, as scikit-learn's two classes do it, with every score kept.

scikit-learn's own code decides which candidates are tried, on how much, and which go on.  They are
scored as in MongoSearchCV.  Each iteration is a search of its own in the database.  A unit is known
by its candidate and its subsample, so no score is computed twice.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from math import ceil, floor, log
from types import ModuleType
from typing import Any

import numpy as np

from optomatic import _sklearn
from optomatic.results.summary import FitSummary, together
from optomatic.search.fit_request import Call, FitRequest, Tabulated
from optomatic.search.grid_search import OURS, MongoSearchCV

#: What the two take beside scikit-learn's own.
_OUR_CONSTRAINTS = {name: MongoSearchCV._parameter_constraints[name] for name in OURS}


def _of(base: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return those arguments of a constructor that scikit-learn's class takes."""
    return {name: given[name] for name in base._get_param_names()}


class _Halving(MongoSearchCV):
    """The common part of the two: score one iteration after the other.

    It stands behind scikit-learn's class, whose ``fit`` then calls that of MongoSearchCV where
    it means its own base class.
    """

    def _search(self, call: Call) -> Tabulated:
        call.splitter()
        split_params = call.routed.splitter.split
        self._check_input_parameters(X=call.X, y=call.y, split_params=split_params)
        iterations = _Iterations(self, call)
        interrupt = None
        try:
            _sklearn.run_search(self, iterations.evaluate, call.callbacks)
        except KeyboardInterrupt as error:
            if not iterations.rows:
                raise
            interrupt = error
            iterations.forget_the_unfinished()
        finally:
            self.__dict__.pop("_part", None)
        self.summary_ = together(iterations.summaries)
        return iterations.results, iterations.rows[0]["test_scores"], interrupt


class _Iterations:
    """Has one iteration after the other scored; keeps the table of all so far."""

    def __init__(self, search: _Halving, call: Call) -> None:
        self._search = search
        self._call = call
        self._candidates: list[dict[str, Any]] = []
        self._more: dict[str, list[Any]] = {}
        #: The record of the first iteration, which stands for the whole.
        self._first: str | None = None
        self.rows: list[dict[str, Any]] = []
        self.summaries: list[FitSummary] = []
        self.results: dict[str, Any] = {}

    def evaluate(
        self,
        candidate_params: Sequence[dict[str, Any]],
        cv: Any,
        more_results: dict[str, list[Any]],
        callback_ctx: Any = None,
    ) -> dict[str, Any]:
        """Score these candidates on the splits of `cv`; return the table so far."""
        search, call = self._search, self._call
        candidates = list(candidate_params)
        search._part = self._first, {name: values[0] for name, values in more_results.items()}
        request = FitRequest(call, call.callbacks if callback_ctx is None else callback_ctx)
        request.split(call.split_by(cv))
        request.score(candidates)
        self._first = search.search_id_
        self.summaries.append(search.summary_)
        if request.interrupt is not None:  # who goes on is not known before all are scored
            request.report()
            raise request.interrupt
        self.rows += request.rows()
        request.report()
        self._candidates += candidates
        for name, values in more_results.items():
            self._more.setdefault(name, []).extend(values)
        self.results = search._format_results(
            self._candidates, search.n_splits_, self.rows, self._more
        )
        return self.results

    def forget_the_unfinished(self) -> None:
        """Set on the search what scikit-learn sets at the end, of the finished iterations."""
        search = self._search
        n, factor = 1 + max(self._more["iter"]), search.factor
        most = search.max_resources_ // search.min_resources_
        search.n_required_iterations_ = 1 + floor(log(search.n_candidates_[0], factor))
        search.n_possible_iterations_ = 1 + floor(log(most, factor))
        del search.n_resources_[n:], search.n_candidates_[n:]
        search.n_iterations_ = n
        search.n_remaining_candidates_ = ceil(search.n_candidates_[-1] / factor)


class MongoHalvingGridSearchCV(_sklearn.HalvingGridSearchCV, _Halving):  # type: ignore[misc]
    """HalvingGridSearchCV whose every score is kept in MongoDB.

    Parameters
    ----------
    estimator, param_grid, cv, scoring, refit, error_score, return_train_score, random_state
        As in :class:`~sklearn.model_selection.HalvingGridSearchCV`.
    factor, resource, max_resources, min_resources, aggressive_elimination
        As in :class:`~sklearn.model_selection.HalvingGridSearchCV`.
    verbose
        As in :class:`~sklearn.model_selection.HalvingGridSearchCV`, and in each iteration as in
        :class:`MongoSearchCV`: a live line, or in a notebook a bar and a grid, for each; ``[CV]``
        lines from 2 on; and a line that sums up.
    n_jobs, db, name, retry_failed, reuse_prefixes, ship_modules
        As in :class:`MongoSearchCV`.
    fit_timeout, memory_limit, requires, inner_max_num_threads
        As in :class:`MongoSearchCV`.
    definition
        As in :class:`MongoSearchCV`.  Each iteration is a search of that name: workers with
        ``--until-empty`` may end between two of them, others wait.

    Attributes
    ----------
    n_resources_, n_candidates_, n_remaining_candidates_, max_resources_, min_resources_, \
    n_iterations_, n_possible_iterations_, n_required_iterations_, cv_results_, ...
        As in :class:`~sklearn.model_selection.HalvingGridSearchCV`.
    summary_ : FitSummary
        Of all iterations.
    search_id_ : str
        Id of the search in the database: of the record of its first iteration.  Each has one.
    """

    __module__ = "optomatic"  # its public name, in pickles too, wherever it stands

    _parameter_constraints: dict[str, Any] = {
        **_sklearn.HalvingGridSearchCV._parameter_constraints,
        **_OUR_CONSTRAINTS,
    }

    def __init__(
        self,
        estimator: Any,
        param_grid: Any,
        *,
        factor: float = 3,
        resource: str = "n_samples",
        max_resources: Any = "auto",
        min_resources: Any = "exhaust",
        aggressive_elimination: bool = False,
        cv: Any = 5,
        scoring: Any = None,
        refit: Any = True,
        error_score: Any = np.nan,
        return_train_score: bool = True,
        random_state: Any = None,
        n_jobs: int | None = None,
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
        reuse_prefixes: bool = True,
    ) -> None:
        super().__init__(**_of(_sklearn.HalvingGridSearchCV, locals()))
        self._keep(locals())


class MongoHalvingRandomSearchCV(_sklearn.HalvingRandomSearchCV, _Halving):  # type: ignore[misc]
    """HalvingRandomSearchCV whose every score is kept in MongoDB.

    Parameters
    ----------
    estimator, param_distributions, n_candidates, cv, scoring, refit, error_score
        As in :class:`~sklearn.model_selection.HalvingRandomSearchCV`.
    factor, resource, max_resources, min_resources, aggressive_elimination
        As in :class:`~sklearn.model_selection.HalvingRandomSearchCV`.
    return_train_score, random_state
        As in :class:`~sklearn.model_selection.HalvingRandomSearchCV`.
    verbose
        As in :class:`MongoHalvingGridSearchCV`.
    n_jobs, db, name, retry_failed, reuse_prefixes, ship_modules
        As in :class:`MongoSearchCV`.
    fit_timeout, memory_limit, requires, inner_max_num_threads
        As in :class:`MongoSearchCV`.
    definition
        As in :class:`MongoHalvingGridSearchCV`.

    Attributes
    ----------
    n_resources_, n_candidates_, n_remaining_candidates_, max_resources_, min_resources_, \
    n_iterations_, n_possible_iterations_, n_required_iterations_, cv_results_, ...
        As in :class:`~sklearn.model_selection.HalvingRandomSearchCV`.
    summary_, search_id_
        As in :class:`MongoHalvingGridSearchCV`.
    """

    __module__ = "optomatic"  # its public name, in pickles too, wherever it stands

    _parameter_constraints: dict[str, Any] = {
        **_sklearn.HalvingRandomSearchCV._parameter_constraints,
        **_OUR_CONSTRAINTS,
    }

    def __init__(
        self,
        estimator: Any,
        param_distributions: Any,
        *,
        n_candidates: Any = "exhaust",
        factor: float = 3,
        resource: str = "n_samples",
        max_resources: Any = "auto",
        min_resources: Any = "smallest",
        aggressive_elimination: bool = False,
        cv: Any = 5,
        scoring: Any = None,
        refit: Any = True,
        error_score: Any = np.nan,
        return_train_score: bool = True,
        random_state: Any = None,
        n_jobs: int | None = None,
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
        reuse_prefixes: bool = True,
    ) -> None:
        super().__init__(**_of(_sklearn.HalvingRandomSearchCV, locals()))
        self._keep(locals())
