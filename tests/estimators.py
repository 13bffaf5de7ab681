"""Estimators that take time, crash, or say who scored them; importable by workers."""

import ctypes
import time

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin


class Sleeper(ClassifierMixin, BaseEstimator):
    """Waits `seconds` in fit; scores `value`."""

    def __init__(self, value=0, seconds=0.0):
        self.value = value
        self.seconds = seconds

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        time.sleep(self.seconds)
        return self

    def predict(self, X):
        return np.full(len(X), self.classes_[0])

    def score(self, X, y):
        return float(self.value)


class Crasher(Sleeper):
    """Ends its process by a segmentation fault where `value` is 13."""

    def fit(self, X, y):
        if self.value == 13:
            ctypes.string_at(0)
        return super().fit(X, y)
