"""Private names of scikit-learn that optomatic uses, with the reasons.

Tests check them on the oldest and the newest supported version (1.6 and 1.9).  If a release
moves one of them, only this package must change.

=============================================  ==========================================
name (versions it was checked on)              why there is no public way
=============================================  ==========================================
``BaseSearchCV`` and its methods               tools ask ``isinstance(search, BaseSearchCV)``;
``_get_scorers``,                              the methods have the rules for scoring, routing,
``_get_routed_params_for_fit``,                refit and the table, and copies would become
``_check_refit_for_multimetric``,              wrong with a release
``_select_best_index``, ``_format_results``
(1.6-1.9)
``_fit_context`` (1.6-1.9)                     validates constructor parameters as fit does
``_fit_and_score`` (1.6-1.9)                   public ``cross_validate`` costs 2 ms a unit and
                                               passes ``sample_weight`` to scorers differently
``_score`` (1.6-1.9)                           the same for arrays, without looking at each
                                               piece of them again for each unit
``_MultimetricScorer`` (1.6-1.9)               shares predictions among metrics, bit for bit
``_PassthroughScorer`` (1.6-1.9)               recognises "the estimator's own score"
``_check_method_params`` (1.6-1.9)             fit parameters become arrays as in GridSearchCV
``_warn_or_raise_about_fit_failures``,         scikit-learn's warnings, word for word
``_insert_error_scores`` (1.6-1.9)
``_init_callback_context``,                    callbacks of a search: which of them are called
``_skl_callbacks``, ``_parent_callback_ctx``,  inside the fits, and which errors are theirs and
``_propagation_depth``,                        not the estimator's
``CallbackContext._call_hooks`` (1.9)
``_param_validation.Interval``,                bounds of constructor parameters, and their text
``_param_validation.HasMethods``,
``_param_validation.InvalidParameterError``
(1.6-1.9)
``HalvingGridSearchCV``,                       its rungs and decisions, without enabling its
``HalvingRandomSearchCV``, ``_run_search``,    experimental names for all code; calls of
``_check_input_parameters`` (1.6-1.9)          scikit-learn's own keep them equal to it
``_repr_html_inner``,                          HTML below the diagram of a search: notebooks
``_repr_mimebundle_`` (1.6-1.9)                call these, which respect ``set_config(display=)``
``_safe_split`` (1.6-1.9)                      the rows of a unit for a callback
``Pipeline._fit``, ``Pipeline._iter``,         whether a subclass hands its data on as they
``FeatureUnion._parallel_func``,               do; then equal first steps are fitted once
``_call_func_on_transformers`` (1.6-1.9)
=============================================  ==========================================
"""

from __future__ import annotations

import copy
import inspect
import numbers
from types import SimpleNamespace
from typing import Any

import sklearn
from sklearn.base import _fit_context
from sklearn.metrics._scorer import _MultimetricScorer, _PassthroughScorer
from sklearn.model_selection._search import BaseSearchCV
from sklearn.model_selection._search_successive_halving import (
    HalvingGridSearchCV,
    HalvingRandomSearchCV,
)
from sklearn.model_selection._validation import (
    _insert_error_scores,
    _warn_or_raise_about_fit_failures,
)
from sklearn.utils._param_validation import HasMethods, Interval, InvalidParameterError
from sklearn.utils.metaestimators import _safe_split
from sklearn.utils.validation import _check_method_params

from optomatic._sklearn.callbacks import (
    callback_context,
    callbacks_inside_fits,
    has_callbacks,
    raised_by_callback,
)
from optomatic._sklearn.scoring import failure_of, fit_and_score

__all__ = [
    "ASKS",
    "POSITIVE_INTEGER",
    "BaseSearchCV",
    "HalvingGridSearchCV",
    "HalvingRandomSearchCV",
    "InvalidParameterError",
    "WithMoreHTML",
    "callback_context",
    "callbacks_inside_fits",
    "check_method_params",
    "estimator_of",
    "failure_of",
    "fit_and_score",
    "fit_context",
    "format_results",
    "has_callbacks",
    "inconsistent_splits",
    "insert_error_scores",
    "numeric_config",
    "own_score_of",
    "raised_by_callback",
    "run_search",
    "safe_split",
    "scorers_by_name",
    "uses_own_score",
    "warn_or_raise_about_fit_failures",
]

check_method_params = _check_method_params
warn_or_raise_about_fit_failures = _warn_or_raise_about_fit_failures
insert_error_scores = _insert_error_scores
safe_split = _safe_split

#: Decorator of ``fit``: validates the constructor's parameters, but not those of the inner
#: estimator, as in GridSearchCV.
fit_context = _fit_context(prefer_skip_nested_validation=False)

#: A constraint for constructor parameters: an adaptive generator.
ASKS = HasMethods("ask")
#: At least one; a constraint for constructor parameters.
POSITIVE_INTEGER = Interval(numbers.Integral, 1, None, closed="left")

_VERSION = tuple(int(number) for number in sklearn.__version__.split(".")[:2])


def inconsistent_splits(expected: int, got: int) -> str:
    """Return scikit-learn's error for a splitter with another number of splits than it says."""
    verb = "return" if _VERSION >= (1, 9) else "returned"
    return (
        f"cv.split and cv.get_n_splits {verb} inconsistent results. "
        f"Expected {expected} splits, got {got}"
    )


#: Entries of ``sklearn.get_config()`` that only change output.
_PRESENTATION = ("display", "print_changed_only")


def numeric_config() -> dict[str, Any]:
    """Return the entries of scikit-learn's configuration that may change scores."""
    return {k: v for k, v in sklearn.get_config().items() if k not in _PRESENTATION}


def scorers_by_name(scorer: Any) -> dict[str, Any] | None:
    """Return the scorers of a multi-metric scorer by name, else ``None``."""
    return dict(scorer._scorers) if isinstance(scorer, _MultimetricScorer) else None


def uses_own_score(scorer: Any) -> bool:
    """Return whether `scorer` is the estimator's own ``score`` (``scoring=None``)."""
    return isinstance(scorer, _PassthroughScorer)


def estimator_of(scorer: Any) -> Any:
    """Return the estimator whose ``score`` is `scorer`."""
    return scorer._estimator


def own_score_of(estimator: Any, scorer: Any) -> Any:
    """Return `scorer`, or ``score`` of `estimator` if it is that of another estimator."""
    if not uses_own_score(scorer) or scorer._estimator is estimator:
        return scorer
    made = copy.copy(scorer)
    made._estimator = estimator
    return made


def format_results(
    candidates: Any, n_splits: int, rows: Any, *, return_train_score: bool, more_results: Any = None
) -> dict[str, Any]:
    """Return scikit-learn's ``cv_results_`` of `rows`."""
    # The method reads only this attribute of its search.
    search = SimpleNamespace(return_train_score=return_train_score)
    results: dict[str, Any] = BaseSearchCV._format_results(
        search, candidates, n_splits, rows, more_results
    )
    return results


def run_search(search: BaseSearchCV, evaluate: Any, context: Any) -> None:
    """Run scikit-learn's own search, which calls ``evaluate(candidates, cv, ...)``."""
    if "callback_ctx" in inspect.signature(search._run_search).parameters:
        search._run_search(evaluate, callback_ctx=context)
    else:
        search._run_search(evaluate)


class WithMoreHTML:
    """A base class, before scikit-learn's, that adds HTML below the diagram of an estimator."""

    def _html_below(self) -> str:
        """Return the HTML below the diagram."""
        return ""

    def _repr_html_inner(self) -> str:
        return f"{super()._repr_html_inner()}{self._html_below()}"  # type: ignore[misc]

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        bundle: dict[str, Any] = super()._repr_mimebundle_(**kwargs)  # type: ignore[misc]
        if "text/html" in bundle:
            bundle["text/html"] += self._html_below()
        return bundle
