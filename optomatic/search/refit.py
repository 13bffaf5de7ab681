"""Choosing the best candidate, and fitting it on all data: also where a Ctrl-C ended the search."""

from __future__ import annotations

import sys
import time
from typing import Any, NoReturn

from sklearn.base import clone

from optomatic.driver.recording import record_best
from optomatic.results.frames import SCORE
from optomatic.search.cv_results import Table, refuse_a_stopped_one
from optomatic.search.request import Request


def choose_best(search: Any, request: Request, results: dict[str, Any], scores: Any) -> None:
    """Set ``best_index_`` and what belongs to it, as far as `refit` says what is the best.

    Parameters
    ----------
    results : dict
        ``cv_results_``.
    scores : float or dict
        Test scores of the first unit.
    """
    refit_metric = request.refit_metric
    search.multimetric_ = isinstance(scores, dict)
    if callable(search.scoring) and search.multimetric_:
        search._check_refit_for_multimetric(scores)
        refit_metric = search.refit
    if search.refit or not search.multimetric_:
        search.best_index_ = search._select_best_index(search.refit, refit_metric, results)
        refuse_a_stopped_one(search, results)
        if not callable(search.refit):
            search.best_score_ = results[f"mean_test_{refit_metric}"][search.best_index_]
        search.best_params_ = results["params"][search.best_index_]


def note_best(search: Any) -> None:
    """Have the record of the search say which candidate it has chosen, if it has."""
    if hasattr(search, "best_index_"):
        score = getattr(search, "best_score_", None)
        metric = search.refit if isinstance(search.refit, str) else SCORE
        record_best(search.db, search.search_id_, search.best_index_, score, metric)


def refit_best(search: Any, request: Request) -> None:
    """Set ``best_estimator_`` and what belongs to it, if `refit` asks for it."""
    if not search.refit:
        return
    X, y, fit_params = request.X, request.y, request.routed.estimator.fit
    # The params are cloned too: they may be estimators themselves.
    params = clone(search.best_params_, safe=False)
    search.best_estimator_ = clone(request.base).set_params(**params)
    context = request.callbacks.subcontext(task_name="refit-with-best-params")
    with context.propagate_callback_context(search.best_estimator_):
        context.call_on_fit_task_begin(estimator=search, X=X, y=y, metadata=request.metadata)
        began = time.time()
        data = (X,) if y is None else (X, y)
        search.best_estimator_.fit(*data, **fit_params)
        search.refit_time_ = time.time() - began
    if hasattr(search.best_estimator_, "feature_names_in_"):
        search.feature_names_in_ = search.best_estimator_.feature_names_in_
    context.call_on_fit_task_end(estimator=search, X=X, y=y, metadata=request.metadata)


def end_interrupted(search: Any, request: Request, table: Table) -> NoReturn:
    """Make a fitted search of what was complete when Ctrl-C came, and raise that.

    The refit may take long, so it is said that it goes on; another Ctrl-C ends it, and the
    table stays.
    """
    search.scorer_, search.cv_results_ = request.scorer, table.results
    interrupt = table.interrupt or KeyboardInterrupt()
    known = f"The search knows the {len(table.results['params'])} candidates that are complete"
    interrupt.add_note(f"{known}: cv_results_ and what follows from it are set.")
    if search.refit:
        print(
            f"Interrupted. {known}, and fits the best of them on all data now; "
            "Ctrl-C again leaves that out.",
            file=sys.stderr,
        )
    try:
        refit_best(search, request)
    except BaseException as error:  # what is not fitted is not to be there
        vars(search).pop("best_estimator_", None)
        if isinstance(error, Exception):  # the user wants to be out, and is told of both
            raise interrupt from error
        raise
    raise interrupt
