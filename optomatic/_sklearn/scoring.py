"""Fit and score a unit as scikit-learn does, and keep its errors."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import sklearn
from sklearn.base import clone
from sklearn.metrics._scorer import _MultimetricScorer
from sklearn.model_selection._validation import _fit_and_score, _score
from sklearn.utils import get_tags

from optomatic.records import Failure, Result, Scores


class _Watch(float):
    """An ``error_score`` that keeps the exception of a fit.

    scikit-learn asks ``error_score == "raise"`` while it handles an exception of the estimator,
    of which it keeps only the text.  The exception is visible during this comparison.
    """

    seen: list[BaseException]
    #: Called with the rows that are about to be scored.
    scores: Callable[[Any], None]

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
        self._watch.scores(args[0] if args else None)
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
        self._watch.scores(args[0] if args else None)
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
    prefixes: Any = None,
) -> tuple[Result, BaseException | None]:
    """Fit a clone of `estimator` with `params` on the rows `train`, score it on `test`.

    `scorer` is a callable, or several by name.  `error_score` is only printed.  First steps of a
    pipeline may come of `prefixes` (:mod:`optomatic.worker.prefixes`).  Return the result
    with errors of estimator and scorers in ``failures``, and the first exception itself.  Raise
    the errors that GridSearchCV raises for any `error_score`: data that cannot be split, a score
    that is no number.
    """
    watch = _Watch(error_score)
    watch.seen, watch.scores = [], lambda _: None
    watched = (_WatchedScorers if isinstance(scorer, dict) else _WatchedScorer)(scorer, watch)
    data = {"train": train, "test": test, "parameters": params, "scorer": watched}
    data.update(return_train_score=return_train_score, error_score=watch)
    own, unit = clone(estimator), None
    is_watched = "callback_ctx" in (progress or {})
    if prefixes is not None and not is_watched:
        own.set_params(**clone(params, safe=False))
        unit = prefixes.unit(own, train, test)
        # Where it prints them the params are set twice.
        data["parameters"] = params if verbose > 1 else None
        if unit is not None:
            watch.scores = unit.scores
    # Below 2 it prints nothing, so it does not ask which of how many units this is.
    if not (fit_params or score_params or verbose > 1 or is_watched) and _is_plain(X, y):
        raw = _fit_and_score_arrays(own, X, y, **data)
    else:
        raw = _fit_and_score(
            own,
            X,
            y,
            **data,
            verbose=verbose,
            fit_params=_not_shared(fit_params),
            score_params=score_params,
            return_n_test_samples=True,
            return_times=True,
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
        prefix_time_saved=0.0 if unit is None else unit.saved,
    )
    return result, error


def _is_plain(X: Any, y: Any) -> bool:
    """Return whether data are arrays that are indexed by rows as they are."""
    plain = (np.ndarray, np.memmap)
    return type(X) in plain and (y is None or type(y) in plain) and not _dispatches()


def _dispatches() -> bool:
    return bool(sklearn.get_config()["array_api_dispatch"])


def _fit_and_score_arrays(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    scorer: Any,
    train: Any,
    test: Any,
    parameters: Mapping[str, Any] | None,
    return_train_score: bool,
    error_score: _Watch,
) -> dict[str, Any]:
    """Do what scikit-learn's ``_fit_and_score`` does, where there is nothing but arrays.

    That asks for each of four pieces of the data of which kind they are, which takes longer than
    to fit and score a small model.
    """
    if parameters is not None:
        estimator = estimator.set_params(**clone(parameters, safe=False))
    began = time.time()
    train, test = np.asarray(train), np.asarray(test)
    if get_tags(estimator).input_tags.pairwise:
        if X.shape[0] != X.shape[1]:
            raise ValueError("X should be a square kernel matrix")
        X_train, X_test = X[np.ix_(train, train)], X[np.ix_(test, train)]
    else:
        X_train, X_test = X[train, ...], X[test, ...]
    y_train, y_test = (None, None) if y is None else (y[train, ...], y[test, ...])
    result: dict[str, Any] = {"n_test_samples": X_test.shape[0], "fit_error": None}
    try:
        estimator.fit(*((X_train,) if y is None else (X_train, y_train)))
    except Exception as error:
        error_score.seen.append(error)
        result.update(fit_time=time.time() - began, score_time=0.0)
        none: Any = {} if isinstance(scorer, _MultimetricScorer) else error_score
        result.update(fit_error=traceback.format_exc(), test_scores=none)
        if return_train_score:
            result["train_scores"] = none
        return result
    fit_time = time.time() - began
    result["test_scores"] = _score(estimator, X_test, y_test, scorer, None, error_score)
    result.update(fit_time=fit_time, score_time=time.time() - began - fit_time)
    if return_train_score:
        result["train_scores"] = _score(estimator, X_train, y_train, scorer, None, error_score)
    return result


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
