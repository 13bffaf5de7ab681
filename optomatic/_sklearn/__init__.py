"""Every private name of scikit-learn that optomatic uses, with the reason.

Held by tests against the oldest and the newest supported version (1.6 and 1.9).  When a
release moves one of these, this is the only place to mend.

=============================================  ==========================================
name (versions it was checked on)              why there is no public way
=============================================  ==========================================
``BaseSearchCV`` and its methods               tools ask ``isinstance(search, BaseSearchCV)``;
``_get_scorers``,                              the methods hold the rules for scoring, routing,
``_get_routed_params_for_fit``,                refit and the table, and copying them would drift
``_check_refit_for_multimetric``,              from release to release
``_select_best_index``, ``_format_results``
(1.6-1.9)
``_fit_context`` (1.6-1.9)                     validates constructor parameters as fit does
``_fit_and_score`` (1.6-1.9)                   public ``cross_validate`` costs 2 ms a unit and
                                               passes ``sample_weight`` to scorers differently
``_MultimetricScorer`` (1.6-1.9)               shares predictions among metrics, bit for bit
``_PassthroughScorer`` (1.6-1.9)               recognises "the estimator's own score"
``_check_method_params`` (1.6-1.9)             fit parameters become arrays as in GridSearchCV
``_warn_or_raise_about_fit_failures``,         the warnings people know, word for word
``_insert_error_scores`` (1.6-1.9)
``_init_callback_context``,                    callbacks of a search, where there are any:
``_skl_callbacks``, ``_parent_callback_ctx``,  which of them are called inside of the fits, and
``_propagation_depth``,                        which errors are theirs and not the estimator's
``CallbackContext._call_hooks`` (1.9)
``_param_validation.Interval``,                bounds of constructor parameters, and their text
``_param_validation.HasMethods`` (1.6-1.9)
``HalvingGridSearchCV``,                       its rungs, and which candidates go on, without
``HalvingRandomSearchCV``, ``_run_search``,    asking for its experimental names for everybody;
``_check_input_parameters`` (1.6-1.9)          calling scikit-learn's own keeps them equal to it
``_safe_split`` (1.6-1.9)                      the rows that a callback is shown of a unit
=============================================  ==========================================
"""

from __future__ import annotations

import copy
import inspect
import numbers
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import sklearn
from sklearn.base import _fit_context, clone
from sklearn.metrics._scorer import _MultimetricScorer, _PassthroughScorer
from sklearn.model_selection._search import BaseSearchCV
from sklearn.model_selection._search_successive_halving import (
    HalvingGridSearchCV,
    HalvingRandomSearchCV,
)
from sklearn.model_selection._validation import (
    _fit_and_score,
    _insert_error_scores,
    _warn_or_raise_about_fit_failures,
)
from sklearn.utils._param_validation import HasMethods, Interval
from sklearn.utils.metaestimators import _safe_split
from sklearn.utils.validation import _check_method_params

from optomatic.records import Failure, Result, Scores

__all__ = [
    "ASKS",
    "POSITIVE_INTEGER",
    "BaseSearchCV",
    "HalvingGridSearchCV",
    "HalvingRandomSearchCV",
    "callback_context",
    "callbacks_inside_fits",
    "check_method_params",
    "estimator_of",
    "fit_and_score",
    "fit_context",
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

#: Decorator of ``fit``: validates the constructor's parameters; the inner estimator is
#: left to its own ``fit``, as in GridSearchCV.
fit_context = _fit_context(prefer_skip_nested_validation=False)

#: A constraint for constructor parameters: an adaptive generator.
ASKS = HasMethods("ask")
#: At least one; a constraint for constructor parameters.
POSITIVE_INTEGER = Interval(numbers.Integral, 1, None, closed="left")

_VERSION = tuple(int(number) for number in sklearn.__version__.split(".")[:2])


def inconsistent_splits(expected: int, got: int) -> str:
    """Return what scikit-learn says of a splitter that does not keep to its own number."""
    verb = "return" if _VERSION >= (1, 9) else "returned"
    return (
        f"cv.split and cv.get_n_splits {verb} inconsistent results. "
        f"Expected {expected} splits, got {got}"
    )


#: Entries of ``sklearn.get_config()`` that only change what is printed.
_PRESENTATION = ("display", "print_changed_only")


def numeric_config() -> dict[str, Any]:
    """Return the entries of scikit-learn's global configuration that may change scores."""
    return {k: v for k, v in sklearn.get_config().items() if k not in _PRESENTATION}


def scorers_by_name(scorer: Any) -> dict[str, Any] | None:
    """Return the scorers of a multi-metric scorer by name, else ``None``."""
    return dict(scorer._scorers) if isinstance(scorer, _MultimetricScorer) else None


def uses_own_score(scorer: Any) -> bool:
    """Tell whether `scorer` is the estimator's own ``score`` (``scoring=None``)."""
    return isinstance(scorer, _PassthroughScorer)


def estimator_of(scorer: Any) -> Any:
    """Return the estimator that holds the ``score`` which `scorer` is."""
    return scorer._estimator


def own_score_of(estimator: Any, scorer: Any) -> Any:
    """Return `scorer`, or if it is an estimator's own ``score``, the same of `estimator`."""
    if not uses_own_score(scorer) or scorer._estimator is estimator:
        return scorer
    made = copy.copy(scorer)
    made._estimator = estimator
    return made


class _Watch(float):
    """An ``error_score`` that notices the exception of a fit that it stands in for.

    scikit-learn asks ``error_score == "raise"`` while it handles an exception of the
    estimator, and keeps only its text.  So the exception can be seen at the question.
    """

    seen: list[BaseException]

    def __eq__(self, other: object) -> bool:
        if other == "raise" and (error := sys.exc_info()[1]) is not None:
            self.seen.append(error)
        return float.__eq__(self, other) if isinstance(other, float) else False

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = float.__hash__


class _WatchedScorer:
    """A scorer that gives the watch instead of raising, and keeps what was raised.

    scikit-learn would warn of a failed score where the unit is scored; that may be another
    process, or long ago, so whoever makes the table does, for all units alike.
    """

    def __init__(self, scorer: Any, watch: _Watch) -> None:
        self._scorer = scorer
        self._watch = watch
        #: An error, or None, a call: the test score first, the train score second.
        self.seen: list[BaseException | None] = []

    def __repr__(self) -> str:
        return repr(self._scorer)

    def __call__(self, estimator: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            scores = self._scorer(estimator, *args, **kwargs)
        except Exception as error:
            self.seen.append(error)
            return self._watch
        self.seen.append(None)
        return scores

    def failures(self) -> list[Failure]:
        stages = zip(_SCORE_STAGES, self.seen, strict=False)
        return [failure_of(error, stage) for stage, error in stages if error is not None]

    def first_error(self) -> BaseException | None:
        return next((error for error in self.seen if error is not None), None)


class _WatchedScorers(_MultimetricScorer):  # type: ignore[misc]  # it has no types
    """Several metrics, with the watch for those that failed.

    scikit-learn keeps errors as text, so that is all there is of them.
    """

    def __init__(self, scorers: Mapping[str, Any], watch: _Watch) -> None:
        super().__init__(scorers=scorers, raise_exc=False)
        self._watch = watch
        #: Tracebacks by name, a call.
        self.seen: list[dict[str, str]] = []

    def __call__(self, estimator: Any, *args: Any, **kwargs: Any) -> Any:
        scores = super().__call__(estimator, *args, **kwargs)
        failed = {n: s for n, s in scores.items() if isinstance(s, str)}
        self.seen.append(failed)
        return {**scores, **dict.fromkeys(failed, self._watch)}

    def failures(self) -> list[Failure]:
        stages = zip(_SCORE_STAGES, self.seen, strict=False)
        return [
            Failure(stage, *_last_error(text), text, metric)
            for stage, errors in stages
            for metric, text in errors.items()
        ]

    def first_error(self) -> BaseException | None:
        return None


#: In the order in which scikit-learn calls the scorer.
_SCORE_STAGES = ("score", "train_score")


def fit_and_score(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    scorer: Any,
    train: Any,
    test: Any,
    params: Mapping[str, Any],
    fit_params: Mapping[str, Any] | None,
    score_params: Mapping[str, Any] | None,
    return_train_score: bool,
    error_score: float = float("nan"),
    verbose: int = 0,
    progress: Mapping[str, Any] | None = None,
) -> tuple[Result, BaseException | None]:
    """Fit a clone of `estimator` with `params` on `train`, score it on `test`.

    Parameters
    ----------
    scorer : callable or dict of str to callable
        One scorer, or several by name.
    train, test : ndarray of int
        Row indices.
    error_score : float
        Only printed and warned of; a failed score is in ``Result.failures``.

    Returns
    -------
    result : Result
        With what the estimator or a scorer raised in ``failures``.
    error : exception or None
        The first exception itself, for a caller in this process that raises it.

    Raises
    ------
    Exception
        What GridSearchCV would raise whatever `error_score` is: data that cannot be
        split, a score that is no number.
    """
    watch = _Watch(error_score)
    watch.seen = []
    watched = (_WatchedScorers if isinstance(scorer, dict) else _WatchedScorer)(scorer, watch)
    raw = _fit_and_score(
        clone(estimator),
        X,
        y,
        scorer=watched,
        train=train,
        test=test,
        verbose=verbose,
        parameters=params,
        fit_params=_not_shared(fit_params),
        score_params=score_params,
        return_train_score=return_train_score,
        return_n_test_samples=True,
        return_times=True,
        error_score=watch,
        **(progress or {}),
    )
    if raw["fit_error"] is None:
        failures, error = watched.failures(), watched.first_error()
    else:
        error = watch.seen[0]
        failures = [failure_of(error, "fit", raw["fit_error"])]
    result = Result(
        test=_scores(raw["test_scores"], watch),
        train=_scores(raw.get("train_scores"), watch),
        fit_time=raw["fit_time"],
        score_time=raw["score_time"],
        n_test=raw["n_test_samples"],
        failures=tuple(failures),
    )
    return result, error


def _not_shared(fit_params: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Copy arrays: some estimators write into them (SGDClassifier into ``coef_init``).

    Then the next unit would not be what its key says.  GridSearchCV shares them within a
    process and copies them to others.
    """
    if not fit_params:
        return None
    return {k: v.copy() if isinstance(v, np.ndarray) else v for k, v in fit_params.items()}


def _scores(scores: Any, watch: _Watch) -> Scores | None:
    """Return plain floats, without those that failed."""
    if isinstance(scores, Mapping):
        return {str(n): float(s) for n, s in scores.items() if s is not watch}
    return None if scores is None or scores is watch else float(scores)


def _last_error(traceback_text: str) -> tuple[str, str]:
    """Read the type and the message of the error that a formatted traceback ends with."""
    lines = traceback_text.rstrip("\n").split("\n")
    start = max((i for i, line in enumerate(lines) if line.startswith("  File ")), default=-1)
    message = next((i for i in range(start + 1, len(lines)) if lines[i][:1] not in (" ", "")), None)
    if message is None:
        return "builtins.Exception", traceback_text
    name, _, text = "\n".join(lines[message:]).partition(": ")
    return (name if "." in name else f"builtins.{name}"), text


def failure_of(error: BaseException, stage: str, text: str | None = None) -> Failure:
    """Describe `error` as a :class:`Failure`; `text` is its traceback if already formatted."""
    kind = type(error)
    return Failure(
        stage=stage,
        type=f"{kind.__module__}.{kind.__qualname__}",
        text=str(error),
        traceback=text or "".join(traceback.format_exception(error)),
    )


class _NoCallbacks:
    """Stands in for a callback context on versions that have none."""

    def subcontext(self, **_: Any) -> _NoCallbacks:
        return self

    def call_on_fit_task_begin(self, **_: Any) -> _NoCallbacks:
        return self

    def call_on_fit_task_end(self, **_: Any) -> bool:
        return False

    @contextmanager
    def propagate_callback_context(self, _: Any) -> Any:
        yield self


def callback_context(search: Any, max_subtasks: int) -> Any:
    """Return the callback context of a fit, or one that does nothing where there is none."""
    if not hasattr(search, "_init_callback_context"):
        return _NoCallbacks()
    return search._init_callback_context(max_subtasks=max_subtasks)


def has_callbacks(search: Any) -> bool:
    """Tell whether anybody listens to the units of `search`, or to what goes on in them."""
    return bool(_callbacks_of(search) or _own_callbacks(search.estimator))


def callbacks_inside_fits(search: Any) -> list[Any]:
    """Return the callbacks that are called while the estimator of `search` is being fitted.

    They are those that are set on it or on something in it, and those of the search that
    scikit-learn hands down.  Its ProgressBar is left out, which only draws.
    """
    above = getattr(search, "_parent_callback_ctx", None)
    depth = 0 if above is None else above._propagation_depth + 1
    takes_them = hasattr(search.estimator, "set_callbacks")
    handed_down = [c for c in _callbacks_of(search) if takes_them and _goes_down(c, depth)]
    inside = _own_callbacks(search.estimator) + handed_down
    return [callback for callback in inside if not _only_draws(callback)]


def _goes_down(callback: Any, depth: int) -> bool:
    if not hasattr(callback, "max_propagation_depth"):
        return False
    deepest = callback.max_propagation_depth
    return deepest is None or depth < deepest


def _only_draws(callback: Any) -> bool:
    kind = type(callback)
    return kind.__name__ == "ProgressBar" and kind.__module__.startswith("sklearn.")


def _own_callbacks(estimator: Any) -> list[Any]:
    within = estimator.get_params(deep=True).values() if hasattr(estimator, "get_params") else ()
    holders = [estimator, *(value for value in within if not isinstance(value, type))]
    return [callback for holder in holders for callback in _callbacks_of(holder)]


def _callbacks_of(value: Any) -> Sequence[Any]:
    """Return the callbacks set on `value`: its own attribute, not what its class makes up."""
    own: Sequence[Any] = getattr(value, "__dict__", {}).get("_skl_callbacks", ())
    return own


def raised_by_callback(error: BaseException) -> bool:
    """Tell whether `error` comes out of a callback, and not out of what is being fitted."""
    if not hasattr(BaseSearchCV, "_init_callback_context"):
        return False
    from sklearn.callback._callback_context import CallbackContext

    hooks = CallbackContext._call_hooks.__code__
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(frame.f_code is hooks for frame in frames)


def run_search(search: Any, evaluate: Any, context: Any) -> None:
    """Let scikit-learn's own search decide what ``evaluate(candidates, cv, ...)`` gets."""
    if "callback_ctx" in inspect.signature(search._run_search).parameters:
        search._run_search(evaluate, callback_ctx=context)
    else:
        search._run_search(evaluate)
