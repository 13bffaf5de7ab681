"""scikit-learn's callbacks, which versions before 1.9 do not have."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from contextlib import contextmanager
from typing import Any

from sklearn.model_selection._search import BaseSearchCV


class _NoCallbacks:
    """A callback context that does nothing, for versions without callbacks."""

    def subcontext(self, **_: Any) -> _NoCallbacks:
        return self

    def call_on_fit_task_begin(self, **_: Any) -> _NoCallbacks:
        return self

    def call_on_fit_task_end(self, **_: Any) -> bool:
        return False

    @contextmanager
    def propagate_callback_context(self, _: Any) -> Any:
        yield self


def callback_context(search: BaseSearchCV, max_subtasks: int) -> Any:
    """Return the callback context of a fit."""
    if not hasattr(search, "_init_callback_context"):
        return _NoCallbacks()
    return search._init_callback_context(max_subtasks=max_subtasks)


def has_callbacks(search: BaseSearchCV) -> bool:
    """Return whether `search`, or its estimator, has callbacks."""
    return bool(_callbacks_of(search) or _own_callbacks(search.estimator))


def callbacks_inside_fits(search: BaseSearchCV) -> list[Any]:
    """Return the callbacks that run inside the fits of the estimator of `search`.

    They are set on the estimator or on its parts, or scikit-learn hands them down from the
    search.  ProgressBar, which only draws, is left out.
    """
    above = getattr(search, "_parent_callback_ctx", None)
    depth = 0 if above is None else above._propagation_depth + 1
    takes_them = hasattr(search.estimator, "set_callbacks")
    handed_down = [c for c in _callbacks_of(search) if takes_them and _goes_down(c, depth)]
    inside = _own_callbacks(search.estimator) + handed_down
    return [callback for callback in inside if not _only_draws(callback)]


def _goes_down(callback: Any, depth: int) -> bool:
    if not hasattr(callback, "max_propagation_depth"):
        return False
    deepest = callback.max_propagation_depth
    return deepest is None or depth < deepest


def _only_draws(callback: Any) -> bool:
    kind = type(callback)
    return kind.__name__ == "ProgressBar" and kind.__module__.startswith("sklearn.")


def _own_callbacks(estimator: Any) -> list[Any]:
    within = estimator.get_params(deep=True).values() if hasattr(estimator, "get_params") else ()
    holders = [estimator, *(value for value in within if not isinstance(value, type))]
    return [callback for holder in holders for callback in _callbacks_of(holder)]


def _callbacks_of(value: Any) -> Sequence[Any]:
    """Return the callbacks set on `value` itself, not those that its class computes."""
    own: Sequence[Any] = getattr(value, "__dict__", {}).get("_skl_callbacks", ())
    return own


def raised_by_callback(error: BaseException) -> bool:
    """Return whether `error` comes from a callback, not from the estimator."""
    if not hasattr(BaseSearchCV, "_init_callback_context"):
        return False
    from sklearn.callback._callback_context import CallbackContext

    hooks = CallbackContext._call_hooks.__code__
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(frame.f_code is hooks for frame in frames)
