"""Values as people read them: numbers and texts of numpy as Python's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

_KINDS = "biufcSU"


def plain(value: Any) -> Any:
    """Return `value` with Python's own numbers and texts in place of numpy's.

    Looks into lists, tuples and dicts.

    Examples
    --------
    >>> plain({"C": np.float64(0.3), "kernels": [np.str_("rbf"), None]})
    {'C': 0.3, 'kernels': ['rbf', None]}
    """
    if isinstance(value, np.generic):
        return value.item() if value.dtype.kind in _KINDS else value
    if type(value) is dict:
        return {name: plain(item) for name, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(plain(item) for item in value)
    return value


def params_line(params: Mapping[str, Any]) -> str:
    """Return params in one line, as scikit-learn prints them.

    Examples
    --------
    >>> params_line({"C": np.float64(0.3), "kernel": "rbf"})
    'C=0.3, kernel=rbf'
    """
    return ", ".join(f"{name}={_shown(value)}" for name, value in params.items())


def _shown(value: Any) -> str:
    try:
        return " ".join(str(plain(value)).split())
    except Exception:  # a str of the user's
        return f"<{type(value).__name__}>"
