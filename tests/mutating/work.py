"""What is scored while documents are damaged: quick, exact, another number for each split."""

import time
from pathlib import Path

from sklearn.base import BaseEstimator, ClassifierMixin


class Weigher(ClassifierMixin, BaseEstimator):
    """Scores a number of its value, its training rows and its test rows.

    It waits in fit for the file `gate`, if that is named, and raises where `value` is 13.  `mark`
    is there so that its pickle is another one.
    """

    def __init__(self, value=0.0, gate=None, mark=0):
        self.value = value
        self.gate = gate
        self.mark = mark

    def fit(self, X, y):
        _pass(self.gate)
        if self.value == 13:
            raise ValueError("13 is too much")
        self.classes_ = [0, 1]
        self.weight_ = float(X.sum()) * (1.0 + self.value)
        return self

    def predict(self, X):
        return [0] * len(X)

    def score(self, X, y):
        return self.weight_ / 64 - float(X.sum())


def weigh(value, base, gate=None):
    """Return a number of all arguments."""
    _pass(gate)
    if value == 13:
        raise ValueError("13 is too much")
    return value * 3.0 + base / 64


def total(number, array, gate=None):
    """Return a number of all arguments, some of which are large."""
    _pass(gate)
    return float(array.sum()) + number


def _pass(gate):
    """Wait for the file `gate`, half a minute at most."""
    end = time.monotonic() + 30
    while gate is not None and not Path(gate).exists() and time.monotonic() < end:
        time.sleep(0.01)
