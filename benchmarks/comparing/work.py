"""The work that searches are compared on; it needs scikit-learn only."""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.datasets import load_digits, load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import cross_val_score
from sklearn.svm import SVC

#: Splits of each candidate.
CV = 5


class Timed(ClassifierMixin, BaseEstimator):
    """Takes `seconds` to fit: waiting, or with `computes` seconds of a core; scores `value`."""

    def __init__(self, seconds: float = 0.0, computes: bool = False, value: int = 0) -> None:
        self.seconds = seconds
        self.computes = computes
        self.value = value

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        end = time.thread_time() + self.seconds
        if self.seconds and not self.computes:
            time.sleep(self.seconds)
        while self.computes and time.thread_time() < end:
            sum(range(1000))
        return self

    def score(self, X, y):
        return float(self.value % 7)


@dataclass(frozen=True)
class Work:
    """An estimator and what is searched: whole numbers, or `between` two numbers.

    `seconds` is the length of a unit, where it is known.
    """

    estimator: BaseEstimator
    units: int
    param: str = "value"
    between: tuple[float, float] | None = None
    data: str = ""
    seconds: float | None = None


def _timed(seconds: float, units: int, computes: bool = False) -> Work:
    return Work(Timed(seconds, computes), units, seconds=seconds)


_FOREST = RandomForestClassifier(n_estimators=10)
WORKS = {
    "nothing": _timed(0.0, 2000),
    "sleep-1ms": _timed(0.001, 500),
    "sleep-10ms": _timed(0.01, 500),
    "sleep-100ms": _timed(0.1, 100),
    "sleep-1s": _timed(1.0, 20),
    "compute-10ms": _timed(0.01, 500, computes=True),
    "compute-100ms": _timed(0.1, 100, computes=True),
    "compute-1s": _timed(1.0, 20, computes=True),
    "iris-svc": Work(SVC(), 500, "C", (0.1, 10.0), "iris"),
    "iris-forest": Work(_FOREST, 300, "random_state", data="iris"),
    "digits-svc": Work(SVC(), 200, "C", (0.5, 50.0), "digits"),
}


@functools.cache
def _data(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and classes; of 50 rows without meaning if no data set is named."""
    if not name:
        return np.zeros((50, 2)), np.arange(50) % 2
    X, y = {"iris": load_iris, "digits": load_digits}[name](return_X_y=True)
    return X[:500], y[:500]


class Case:
    """One search to run: its estimator, its grid, and data that no other seed has."""

    def __init__(self, work: str, units: int, seed: int) -> None:
        self.asked = {"work": work, "units": units, "seed": seed}
        made = WORKS[work]
        self.estimator = made.estimator
        self.candidates = units // CV
        values = range(self.candidates)
        if made.between is not None:
            values = np.geomspace(*made.between, self.candidates).tolist()
        self.grid: dict[str, list[Any]] = {made.param: list(values)}
        X, self.y = _data(made.data)
        # So little that it changes no fit, and enough that nothing is stored yet.
        self.X = X + np.random.default_rng(seed).normal(scale=1e-9, size=X.shape)


def score(case: Case, params: dict[str, Any]) -> float:
    """Return the mean score of a candidate, for searches of functions."""
    estimator = clone(case.estimator).set_params(**params)
    return float(cross_val_score(estimator, case.X, case.y, cv=CV).mean())
