"""Fit and score a unit as scikit-learn does, and keep its errors."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.metrics._scorer import _MultimetricScorer
from sklearn.model_selection._validation import _fit_and_score

from optomatic.records import Failure, Result, Scores


class _Watch(float):
    """An ``error_score`` that keeps the exception of a fit.

    scikit-learn asks ``error_score == "raise"`` while it handles an exception of the estimator,
    of which it keeps only the text.  The exception is visible during this comparison.
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
    """A scorer that returns the watch instead of raising, and keeps the exception.

    scikit-learn would warn of a failed score in the process that scores.  Here the table warns,
    for stored units too.
    """

    def __init__(self, scorer: Any, watch: _Watch) -> None:
        self._scorer = scorer
        self._watch = watch
        #: An error or None for each call: the test score first, the train score second.
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
    """Several metrics, with the watch for failed ones, of which scikit-learn keeps texts."""

    def __init__(self, scorers: Mapping[str, Any], watch: _Watch) -> None:
        super().__init__(scorers=scorers, raise_exc=False)
        self._watch = watch
        #: Tracebacks by name, for each call.
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
    """Fit a clone of `estimator` with `params` on the rows `train`, score it on `test`.

    `scorer` is a callable, or several by name.  `error_score` is only printed.  Return the result
    with errors of estimator and scorers in ``failures``, and the first exception itself.  Raise
    the errors that GridSearchCV raises for any `error_score`: data that cannot be split, a score
    that is no number.
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
    """Copy arrays, as some estimators write into them (SGDClassifier into ``coef_init``).

    The next unit would then differ from its key.  GridSearchCV shares them within a process.
    """
    if not fit_params:
        return None
    return {k: v.copy() if isinstance(v, np.ndarray) else v for k, v in fit_params.items()}


def _scores(scores: Any, watch: _Watch) -> Scores | None:
    """Return plain floats, without failed ones."""
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
    """Return `error` as a :class:`Failure`; `text` is its traceback if formatted already."""
    kind = type(error)
    return Failure(
        stage=stage,
        type=f"{kind.__module__}.{kind.__qualname__}",
        text=str(error),
        traceback=text or "".join(traceback.format_exception(error)),
    )
