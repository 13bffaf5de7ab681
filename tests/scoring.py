"""Functions to score with, importable by workers."""

import ctypes
import os
import time
from pathlib import Path

from waiting import wait_for


def parabola(x, y=0):
    """Best at x = 3, y = 0."""
    return -((x - 3) ** 2) - y


def with_extra(params):
    return params["x"] ** 2, {"path": (params["x"], "é", None), "pid": os.getpid()}


def metrics(x):
    return {"loss": float(x), "gain": -2.0 * x}


def of_data(params, X, y):
    return float(X.sum() * params["weight"] + len(y))


def fails_at_two(x):
    if x == 2:
        raise KeyError("two is too much")
    return x


def crashes_at_two(x):
    if x == 2:
        ctypes.string_at(0)
    return x


def slow(x, seconds=0.1):
    time.sleep(seconds)
    return x


def metrics_of_kind(kind, x):
    return len(kind) + x


def of_kind(kind, x):
    return len(kind) + (x if isinstance(x, float) else 0)


def two_goals(x):
    return {"cost": x**2, "gain": (x - 2) ** 2}


def of_a_search_inside(top, uri, **options):
    """Search in what is scored: there is no store of ones own there."""
    from optomatic import MongoSearch

    return MongoSearch(parabola, {"x": range(top)}, db=uri, **options).run().best_score_


def noisy_parabola(x, r):
    """More resources, less of an error."""
    return parabola(x) + (x % 2) * 0.5 / r


def gated(x, gate):
    """Wait, where `x` is 4 or more, for a file to appear."""
    if x >= 4:
        wait_for(lambda: Path(gate).exists(), seconds=60)
    return x
