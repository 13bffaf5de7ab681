"""Errors and warnings about units that failed, as GridSearchCV raises and warns."""

from __future__ import annotations

import ast
import builtins
import sys
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from optomatic import _sklearn
from optomatic.errors import UnitFailed, UnitsDied
from optomatic.planning.params import plain
from optomatic.records import Failure, Outcome

#: The stages after which GridSearchCV raises whatever ``error_score`` is.
_ALWAYS_RAISED = ("raise", "load")


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


def warn_of_failed_fits(
    rows: list[dict[str, Any]], outcomes: Sequence[Outcome], error_score: Any
) -> None:
    """Repeat scikit-learn's warning "n fits failed out of m"; raise its error if all failed."""
    try:
        _sklearn.warn_or_raise_about_fit_failures(without_the_dead(rows, outcomes), error_score)
    except ValueError as error:  # nothing was fitted at all
        advised(error)
        raise


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
    """Warn once of all units that were given up, with params (by place), signals and hosts."""
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
