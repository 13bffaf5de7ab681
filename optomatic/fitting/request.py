"""What one call of ``fit`` asks for, checked and routed as scikit-learn's own search does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sklearn.base import clone, is_classifier
from sklearn.utils import indexable

from optomatic import _sklearn
from optomatic.driver.recording import check_name
from optomatic.keys.digest import Digest, digest_of


@dataclass(frozen=True, slots=True)
class Request:
    """One call of fit, checked: what scikit-learn's own search holds in local variables.

    Attributes
    ----------
    base : estimator
        A clone of the search's, never fitted.
    callbacks : callback context
        Of the fit as a whole.
    inside : sequence of callback
        Those that are called inside of the fits, and what stands for them in keys.
    """

    X: Any
    y: Any
    scorers: Any
    refit_metric: Any
    routed: Any
    base: Any
    callbacks: Any
    metadata: Mapping[str, Any] | None
    inside: Sequence[Any]
    inside_digest: Digest | None

    @property
    def scorer(self) -> Any:
        """One scorer, or several by name."""
        return _sklearn.scorers_by_name(self.scorers) or self.scorers


def check(search: Any, X: Any, y: Any, params: Mapping[str, Any]) -> Request:
    """Check and route everything as scikit-learn's fit does, in its order."""
    check_name(search.name)
    scorers, refit_metric = search._get_scorers()
    X, y = indexable(X, y)
    params = _sklearn.check_method_params(X, params=params)
    routed = search._get_routed_params_for_fit(params)
    weight = params.get("sample_weight")
    metadata = None if weight is None else {"sample_weight": weight}
    is_classifier(search.estimator)  # refuses a class, in scikit-learn's words
    base = clone(search.estimator)
    # Before any hook runs: what a callback is like then depends on nothing but the user.
    inside = _sklearn.callbacks_inside_fits(search)
    inside_digest = digest_of(list(inside), "callbacks") if inside else None
    callbacks = _sklearn.callback_context(search, max_subtasks=1 + (search.refit is not False))
    callbacks.call_on_fit_task_begin(estimator=search, X=X, y=y, metadata=metadata)
    return Request(
        X,
        y,
        scorers,
        refit_metric,
        routed,
        base,
        callbacks,
        metadata,
        inside,
        inside_digest,
    )
