"""Which pipelines fit their steps as scikit-learn does, and which estimators pass data on to them.

A subclass with a ``_fit`` of its own (as imbalanced-learn's) may do anything with the rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from inspect import getattr_static
from typing import Any

from sklearn.compose import ColumnTransformer
from sklearn.pipeline import FeatureUnion, Pipeline

#: The methods by which each hands its data on.
_OWN = {
    Pipeline: ("_fit", "fit", "fit_transform", "_iter"),
    FeatureUnion: ("fit", "fit_transform", "_parallel_func", "_iter"),
    ColumnTransformer: ("fit", "fit_transform", "_call_func_on_transformers", "_iter"),
}


def is_pipeline(estimator: object) -> bool:
    """Return whether `estimator` fits its steps by ``memory``, as a Pipeline does."""
    return _acts_as(estimator, Pipeline)


def is_column_transformer(estimator: object) -> bool:
    """Return whether `estimator` hands columns of its input to its transformers."""
    return _acts_as(estimator, ColumnTransformer)


def _acts_as(estimator: object, kind: type) -> bool:
    own: Any = type(estimator)
    return isinstance(estimator, kind) and _has_methods_of(own, kind)


@cache
def _has_methods_of(own: type, kind: type) -> bool:
    return all(
        getattr_static(own, name, None) is getattr_static(kind, name, None) for name in _OWN[kind]
    )


def steps_of(estimator: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield name, estimator and columns of what `estimator` hands its data, or some of it, to.

    The columns are None where all are handed on.
    """
    if is_pipeline(estimator):
        yield from ((name, step, None) for name, step in estimator.steps)
    elif _acts_as(estimator, FeatureUnion):
        yield from ((name, step, None) for name, step in estimator.transformer_list)
    elif is_column_transformer(estimator):
        yield from estimator.transformers


def fitted_steps(pipeline: Any) -> list[str]:
    """Return the names of the steps that a pipeline fits by its memory, in order."""
    return [n for n, step in pipeline.steps[:-1] if step is not None and step != "passthrough"]
