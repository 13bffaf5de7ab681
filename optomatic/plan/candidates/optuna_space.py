"""A space in Optuna's terms: how a trial suggests a candidate, and what would have suggested it.

Lists of values are categories.  Of scipy's distributions ``uniform``, ``loguniform`` and
``randint`` are translated exactly; of all others the quantile is suggested.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from optomatic.keys.digest import digest_of
from optomatic.plan.candidates.space import at_quantile, is_discrete, is_distribution

#: Of these Optuna takes values as they are; others go by their place in the list.
_PLAIN = (type(None), bool, int, float, str)
#: The quantiles that are suggested; at those of 0 and 1 a value may be infinite.
_LEAST, _MOST = 1e-9, 1 - 1e-9
_BRANCH = "(branch)"
_WHOLE = (int, np.integer)
_REAL = (*_WHOLE, float, np.floating)

#: What a trial suggested by label, and the distributions that it is from.
Suggested = tuple[dict[str, Any], dict[str, Any]]


def optuna_module() -> Any:
    """Return Optuna, which is imported when it is used.

    Raises
    ------
    ImportError
        If it is not installed, with what to do.
    """
    try:
        import optuna
    except ImportError as error:
        raise ImportError(
            "OptunaGenerator needs Optuna, which is not installed. Nothing was scored. "
            'Install it with: pip install "optomatic[optuna]"'
        ) from error
    return optuna


def suggest_candidate(trial: Any, branches: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the candidate that `trial` suggests: first one of the branches, then its params."""
    several = len(branches) > 1
    number = trial.suggest_categorical(_BRANCH, range(len(branches))) if several else 0
    return {
        name: _suggest(trial, _label(number, name, several), name, values)
        for name, values in branches[number].items()
    }


def as_suggested(
    candidate: Mapping[str, Any], branches: Sequence[Mapping[str, Any]]
) -> Suggested | None:
    """Return what a trial holds that suggests `candidate`; None if none of the branches can."""
    several = len(branches) > 1
    for number, branch in enumerate(branches):
        found = _inverted(candidate, branch) if set(branch) == set(candidate) else None
        if found is None:
            continue
        params = {_label(number, name, several): value for name, value in found.items()}
        distributions = {
            _label(number, name, several): _distribution(values) for name, values in branch.items()
        }
        if several:
            params[_BRANCH] = number
            distributions[_BRANCH] = _distribution(list(range(len(branches))))
        return params, distributions
    return None


def _label(number: int, name: str, several: bool) -> str:
    return f"{number}:{name}" if several else name


def _inverted(candidate: Mapping[str, Any], branch: Mapping[str, Any]) -> dict[str, Any] | None:
    found = {}
    for name, values in branch.items():
        of = _from_distribution if is_distribution(values) else _from_list
        suggested = of(values, candidate[name])
        if suggested is None:
            return None
        (found[name],) = suggested
    return found


# A param


def _suggest(trial: Any, label: str, name: str, values: Any) -> Any:
    if not is_distribution(values):
        if _is_plain(values):
            return trial.suggest_categorical(label, values)
        return values[trial.suggest_categorical(label, range(len(values)))]
    exact = _exact(values)
    if exact == "randint":
        return int(trial.suggest_int(label, *_bounds(values, int)))
    if exact is not None:
        return float(trial.suggest_float(label, *_bounds(values, float), log=exact == "loguniform"))
    return at_quantile(name, values, trial.suggest_float(label, _LEAST, _MOST))


def _distribution(values: Any) -> Any:
    """Return what :func:`_suggest` has Optuna draw from."""
    kinds = optuna_module().distributions
    if not is_distribution(values):
        return kinds.CategoricalDistribution(values if _is_plain(values) else range(len(values)))
    exact = _exact(values)
    if exact == "randint":
        return kinds.IntDistribution(*_bounds(values, int))
    if exact is not None:
        return kinds.FloatDistribution(*_bounds(values, float), log=exact == "loguniform")
    return kinds.FloatDistribution(_LEAST, _MOST)


def _from_list(values: Sequence[Any], value: Any) -> tuple[Any] | None:
    """Return, in a tuple, what is suggested for `value`; None if it is none of `values`.

    Equal are values of equal type and content: ``1`` is not ``1.0``.
    """
    wanted = digest_of(value).hex
    place = next((n for n, v in enumerate(values) if digest_of(v).hex == wanted), None)
    if place is None:
        return None
    return (values[place] if _is_plain(values) else place,)


def _from_distribution(values: Any, value: Any) -> tuple[Any] | None:
    """Return, in a tuple, what is suggested for `value`; None if it is never drawn."""
    whole = is_discrete(values)
    if not isinstance(value, _WHOLE if whole else _REAL) or type(value) is bool:
        return None
    low, high = values.support()
    if not low <= value <= high:
        return None
    if _exact(values) is None:
        return (min(max(float(values.cdf(value)), _LEAST), _MOST),)
    return (int(value) if whole else float(value),)


def _is_plain(values: Sequence[Any]) -> bool:
    return all(type(value) in _PLAIN for value in values)


def _exact(values: Any) -> str | None:
    """Return the name of a distribution of scipy's that Optuna has too."""
    exact = _SAME.get(getattr(getattr(values, "dist", None), "name", ""))
    return exact if exact is not None and len(values.args) + len(values.kwds) > 0 else None


_SAME = {
    "uniform": "uniform",
    "loguniform": "loguniform",
    "reciprocal": "loguniform",
    "randint": "randint",
}


def _bounds(values: Any, kind: Callable[[Any], Any]) -> tuple[Any, Any]:
    low, high = values.support()
    return kind(low), kind(high)
