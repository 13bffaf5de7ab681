"""One unit -> its result.  Knows no store, no queue and no process but its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sklearn import config_context

from optomatic import _sklearn
from optomatic.plan.packing.bundle import Bundle
from optomatic.records import Failure, Result
from optomatic.worker.functions import FunctionBundle, score_candidate


def score_unit(bundle: Bundle | FunctionBundle, params: Mapping[str, Any], split: int) -> Result:
    """Score one candidate on one split.

    Parameters
    ----------
    params : mapping
        The candidate.
    split : int
        Which of ``bundle.splits``.

    Returns
    -------
    Result
        Whatever the user's code raised is in ``failures``, of stage ``raise`` if
        GridSearchCV would not turn it into an ``error_score``.
    """
    if isinstance(bundle, FunctionBundle):
        return score_candidate(bundle, params)[0]
    train, test = bundle.splits[split]
    try:
        with config_context(**bundle.options.get("config", {})):
            return _sklearn.fit_and_score(
                bundle.estimator,
                bundle.X,
                bundle.y,
                scorer=bundle.scorer,
                train=train,
                test=test,
                params=params,
                fit_params=bundle.fit_params,
                score_params=bundle.score_params,
                return_train_score=bundle.options["return_train_score"],
            )[0]
    except Exception as error:
        return failed(_sklearn.failure_of(error, "raise"))


def failed(failure: Failure) -> Result:
    """Return the result of a unit that came to no score at all."""
    return Result(
        test=None, train=None, fit_time=0.0, score_time=0.0, n_test=0, failures=(failure,)
    )
