"""Choosing the best candidate, and fitting it on all data: also where a Ctrl-C ended the search."""

from __future__ import annotations

import math
import sys
import time
from typing import Any, NoReturn

from sklearn.base import clone

from optomatic.driver.ending import rather
from optomatic.driver.recording import record_best
from optomatic.results.frames import SCORE
from optomatic.results.table import STOPPED_AFTER
from optomatic.search.fit_request import Call, Table


def finish(call: Call, table: Table) -> None:
    """Set on the search all that follows from its table; raise the Ctrl-C that ended it."""
    with rather(table.interrupt):
        _choose_best(call, table)
        _record_best(call)
    if table.interrupt is not None:
        _end_interrupted(call, table, table.interrupt)
    _refit_best(call)
    call.search.scorer_, call.search.cv_results_ = call.scorer, table.results
    call.end()


def _choose_best(call: Call, table: Table) -> None:
    """Set ``best_index_`` and what belongs to it, as far as `refit` says what is the best."""
    search, results, refit_metric = call.search, table.results, call.refit_metric
    search.multimetric_ = isinstance(table.scores, dict)
    if callable(search.scoring) and search.multimetric_:
        search._check_refit_for_multimetric(table.scores)
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
        record_best(search.db, search.search_id_, search.best_index_, score, metric)


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


def _end_interrupted(call: Call, table: Table, interrupt: KeyboardInterrupt) -> NoReturn:
    """Make a fitted search of what was complete when Ctrl-C came, and raise that.

    The refit may take long, so a line says that it goes on; another Ctrl-C ends it, and the
    table stays.
    """
    search = call.search
    search.scorer_, search.cv_results_ = call.scorer, table.results
    known = f"The search knows the {len(table.results['params'])} candidates that are complete"
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
