"""Warnings that point at the user's own line."""

from __future__ import annotations

import sys
import warnings
from types import FrameType

#: Between a call of the user's and what it leads to stand these: joblib where scikit-learn fits
#: a search as part of something else.
_BETWEEN = ("optomatic", "sklearn", "joblib")


def warn(message: str, category: type[Warning]) -> None:
    """Warn at the line that led here from outside, however many calls lie between."""
    depth, frame = 1, sys._getframe()
    while frame.f_back is not None and _is_between(frame):
        depth, frame = depth + 1, frame.f_back
    warnings.warn(message, category, stacklevel=depth)


def _is_between(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] in _BETWEEN
