"""All that the units of a search share, as objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Bundle:
    """All that the units of a search share, as objects.

    Attributes
    ----------
    estimator : estimator
        Never fitted: each unit works on a clone.
    X : array-like of shape (n_samples, n_features)
    y : array-like of shape (n_samples,) or (n_samples, n_outputs), or None
    splits : sequence of (train, test)
        Pairs of row indices, ndarrays of int.
    scorer : callable or dict of str to callable
    fit_params, score_params : mapping or None
        Given to ``fit`` and to the scorer; what has a row per sample is split too.
    options : mapping
        ``return_train_score`` (bool) and ``config`` (scikit-learn's global
        configuration at the client, as far as it may change a score).
    """

    estimator: Any
    X: Any
    y: Any
    splits: Sequence[tuple[Any, Any]]
    scorer: Any
    fit_params: Mapping[str, Any] | None
    score_params: Mapping[str, Any] | None
    options: Mapping[str, Any]
