"""One candidate of a scoring function -> its result."""

from __future__ import annotations

import numbers
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from optomatic import _sklearn
from optomatic.plan.packing.extras import encode_extra
from optomatic.plan.units.function_units import Style, data_in
from optomatic.records import Result, Scores


@dataclass(frozen=True, slots=True)
class FunctionBundle:
    """All that the units of a search share, as objects.

    Attributes
    ----------
    function : callable
        Called as ``function(params, **data)`` or ``function(**params, **data)``.
    data : mapping of str to object
    options : mapping
        ``style``: "params" or "keywords".
    """

    function: Callable[..., Any]
    data: Mapping[str, Any]
    options: Mapping[str, Any]

    @classmethod
    def of_roles(cls, have: Mapping[str, Any], options: Mapping[str, Any]) -> FunctionBundle:
        """Make one of loaded parts by their role in a unit's spec."""
        return cls(have["function"], data_in(have), options)


def score_candidate(
    bundle: FunctionBundle, params: Mapping[str, Any]
) -> tuple[Result, Exception | None]:
    """Call the function of `bundle` with `params`.

    Returns
    -------
    result : Result
        What the function raised, or what is wrong with what it returned, is in ``failures``.
    error : Exception or None
        The same as an object, for a caller in this process that raises it.
    """
    style: Style = bundle.options["style"]
    began = time.perf_counter()
    try:
        if style == "params":
            returned = bundle.function(dict(params), **bundle.data)
        else:
            returned = bundle.function(**params, **bundle.data)
        seconds = time.perf_counter() - began
        scores, extra = read_returned(returned)
    except Exception as error:  # of the user's
        seconds = time.perf_counter() - began
        failures = (_sklearn.failure_of(error, "score"),)
        return Result(None, None, seconds, 0.0, 0, failures), error
    return Result(scores, None, seconds, 0.0, 0, extra=extra), None


def read_returned(returned: object) -> tuple[Scores, str | None]:
    """Return the scores in what a function returned, and the text of the extra beside them.

    Raises
    ------
    TypeError, ValueError
        If it is not a number, a dict of numbers, or a pair of one of these and an extra.
    """
    if isinstance(returned, tuple):
        if len(returned) != 2:
            raise _no_score(returned)
        return _scores(returned[0], returned), encode_extra(returned[1])
    return _scores(returned, returned), None


def _scores(value: object, returned: object) -> Scores:
    if isinstance(value, Mapping) and value and all(type(name) is str for name in value):
        return {name: _number(score, returned) for name, score in value.items()}
    return _number(value, returned)


def _number(value: Any, returned: object) -> float:
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    if not isinstance(value, numbers.Real | np.bool_):
        raise _no_score(returned)
    return float(value)


def _no_score(returned: object) -> TypeError:
    return TypeError(
        f"the scoring function returned {returned!r:.200}, which is no score: return a number, a "
        "dict of numbers by metric, or a pair (score, extra)"
    )
