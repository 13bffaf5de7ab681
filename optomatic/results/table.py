"""Outcomes -> what scikit-learn makes its ``cv_results_`` of."""

from __future__ import annotations

import ast
import builtins
import sys
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from optomatic.errors import UnitFailed, UnitsDied
from optomatic.plain_values import plain
from optomatic.records import Failure, Outcome, Result, Scores

#: The stages after which GridSearchCV raises whatever ``error_score`` is.
_ALWAYS_RAISED = ("raise", "load")


def fit_and_score_rows(
    outcomes: Sequence[Outcome],
    *,
    error_score: Any,
    metrics: Sequence[str] | None,
    return_train_score: bool,
) -> list[dict[str, Any]]:
    """Return what ``_fit_and_score`` would have returned for each unit.

    Parameters
    ----------
    outcomes : sequence of Outcome
        Candidate-major, in the order of ``cv_results_``.
    error_score : float or "raise"
        Goes where there is no score.
    metrics : sequence of str or None
        Names of the metrics if ``scoring`` names several.
    return_train_score : bool
        A result with train scores serves a search without; they are left out then.

    Returns
    -------
    list of dict
        Keys ``fit_error``, ``test_scores``, ``train_scores`` (if asked for),
        ``n_test_samples``, ``fit_time``, ``score_time`` (seconds).
    """
    return [_row(o, error_score, metrics, return_train_score) for o in outcomes]


def _row(
    outcome: Outcome, error_score: Any, metrics: Sequence[str] | None, train: bool
) -> dict[str, Any]:
    result = outcome.result or _EMPTY
    row = {
        "fit_error": None if outcome.state == "completed" else _fit_error(outcome),
        "test_scores": _filled(result.test, metrics, error_score),
        "n_test_samples": result.n_test,
        "fit_time": result.fit_time,
        "score_time": result.score_time,
    }
    if train:
        row["train_scores"] = _filled(result.train, metrics, error_score)
    return row


_EMPTY = Result(test=None, train=None, fit_time=0.0, score_time=0.0, n_test=0)


def _filled(scores: Scores | None, metrics: Sequence[str] | None, error_score: Any) -> Any:
    """Put `error_score` where there is no score.

    Rows are never shared: scikit-learn writes into those of units that failed.
    """
    if isinstance(scores, Mapping):
        return {name: scores.get(name, error_score) for name in metrics or scores}
    if scores is None:
        return error_score if metrics is None else dict.fromkeys(metrics, error_score)
    return scores


def test_score(outcome: Outcome, metric: str | None, error_score: float) -> float:
    """Return the test score of a unit by `metric`, `error_score` where there is none.

    Raises
    ------
    ValueError
        If there are several scores, and `metric` is None.
    """
    scores = outcome.result.test if outcome.result else None
    if not isinstance(scores, Mapping):
        return float(error_score if scores is None else scores)
    if metric is None and len(scores) == 1:
        (metric,) = scores
    if metric is None:
        raise ValueError(
            f"racing compares candidates by one score, and scoring returned {len(scores)} "
            f"({', '.join(scores)}). What was scored is stored. Name one of them as refit=."
        )
    return float(scores.get(metric, error_score))


def _fit_error(outcome: Outcome) -> str | None:
    """Return the traceback of a fit that failed, or why its unit was given up."""
    if outcome.state == "dead":
        return death_of(outcome)
    for failure in outcome.result.failures if outcome.result else ():
        if failure.stage in ("fit", "limit"):
            return failure.traceback
    return None


def without_the_dead(
    rows: Sequence[dict[str, Any]], outcomes: Sequence[Outcome]
) -> list[dict[str, Any]]:
    """Return `rows` with no fit error where a unit was given up: another warning tells of those.

    Where nothing at all was fitted they stay, as scikit-learn raises then.
    """
    if all(row["fit_error"] is not None for row in rows):
        return list(rows)
    return [
        {**row, "fit_error": None} if outcome.state == "dead" else row
        for row, outcome in zip(rows, outcomes, strict=True)
    ]


def death_of(outcome: Outcome) -> str:
    """Say how a unit came to be given up."""
    hosts = ", ".join(sorted(set(outcome.lost_on))) or "an unknown host"
    reasons = ", ".join(dict.fromkeys(outcome.history)) or "its lease ran out"
    return f"killed the process that scored it {outcome.losses} times ({reasons}) on {hosts}\n"


def raise_what_gridsearchcv_raises(outcomes: Collection[Outcome], error_score: Any) -> None:
    """Raise the first stored failure that must not become an ``error_score``."""
    for outcome in outcomes:
        if outcome.state == "completed":
            continue
        if outcome.state == "dead" and error_score == "raise":
            raise UnitFailed(
                f"A unit was given up: it {death_of(outcome).strip()}. All other scores are "
                "stored. Set error_score to a number to get a table without it, or "
                "retry_failed=True to run it again."
            )
        for failure in outcome.result.failures if outcome.result else ():
            if error_score == "raise" or failure.stage in _ALWAYS_RAISED:
                raise advised(exception_of(failure), failure.stage)


def advised(error: BaseException, stage: str = "fit") -> BaseException:
    """Return `error` with a note of what the failure means for the next search, and what to do."""
    if stage == "load":
        error.add_note(
            "A worker could not load what the unit is made of. Install that where the worker runs, "
            "start the worker in a folder where it is found, or name the module in "
            "ship_modules=[...]. All other scores are stored."
        )
    else:
        error.add_note(
            "The failure is stored, as scores are: the same search finds it again. "
            "retry_failed=True has units that failed scored anew."
        )
    return error


def exception_of(failure: Failure) -> BaseException:
    """Make an exception of the original type, with the worker's traceback as its cause.

    Nothing is imported for it: a type that this process has not loaded, or that cannot
    be made of a text alone, becomes :class:`~optomatic.errors.UnitFailed`.
    """
    error = _of_original_type(failure) or UnitFailed(f"{failure.type}: {failure.text}")
    error.__cause__ = UnitFailed(f"in the process that scored the unit:\n\n{failure.traceback}")
    return error


def _of_original_type(failure: Failure) -> Exception | None:
    module_name, _, name = failure.type.rpartition(".")
    module = builtins if module_name == "builtins" else sys.modules.get(module_name)
    kind = getattr(module, name, None)
    if not (isinstance(kind, type) and issubclass(kind, Exception)):
        return None
    try:
        error = kind(failure.text)
        # A KeyError shows its key as Python writes it.
        return error if str(error) == failure.text else kind(ast.literal_eval(failure.text))
    except Exception:  # a constructor of the user's that wants more than a text
        return None


def warn_of_failed_scores(outcomes: Collection[Outcome], error_score: Any) -> None:
    """Repeat scikit-learn's warning for each score that failed, stored ones included."""
    for outcome in outcomes:
        for failure in outcome.result.failures if outcome.result else ():
            if failure.stage in ("score", "train_score"):
                warnings.warn(
                    "Scoring failed. The score on this train-test partition for "
                    f"these parameters will be set to {error_score}. Details: \n"
                    f"{failure.traceback}",
                    UserWarning,
                    stacklevel=2,
                )


def warn_of_deaths(
    outcomes: Sequence[Outcome], params_of: Callable[[int], Mapping[str, Any]], error_score: Any
) -> None:
    """Warn once of all units that were given up, with params, signals and hosts.

    Parameters
    ----------
    outcomes : sequence of Outcome
        Candidate-major.
    params_of : callable
        Row of `outcomes` -> the candidate's params.
    """
    lines = [
        f"  {plain(dict(params_of(row)))}: {death_of(outcome).strip()}"
        for row, outcome in enumerate(outcomes)
        if outcome.state == "dead"
    ]
    if lines:
        lines = list(dict.fromkeys(lines))
        warnings.warn(
            "Some units killed the process that scored them and were given up; their score "
            f"is set to {error_score}. `retry_failed=True` runs them again.\n" + "\n".join(lines),
            UnitsDied,
            stacklevel=2,
        )
