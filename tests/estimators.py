"""Estimators that take time, crash, or say who scored them; importable by workers."""

import ctypes
import os
import time
import warnings
from pathlib import Path

import numpy as np
import sklearn
from sklearn.base import BaseEstimator, ClassifierMixin
from waiting import wait_for

from optomatic.worker.host import inside_worker


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


class Hurried(Sleeper):
    """Waits `seconds` in fit until there is a file, and from then on not at all."""

    def __init__(self, value=0, seconds=0.0, hurry=""):
        super().__init__(value, seconds)
        self.hurry = hurry

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        if not Path(self.hurry).exists():
            time.sleep(self.seconds)
        return self


class Crasher(Sleeper):
    """Ends its process by a segmentation fault where `value` is 13."""

    def fit(self, X, y):
        if self.value == 13:
            ctypes.string_at(0)
        return super().fit(X, y)


class ConfigReader(Sleeper):
    """Scores what scikit-learn's global configuration is where it is fitted."""

    def fit(self, X, y):
        self.seen_ = sklearn.get_config()["working_memory"]
        return super().fit(X, y)

    def score(self, X, y):
        return float(self.seen_) + sklearn.get_config()["assume_finite"] / 2


class Gated(Sleeper):
    """Waits in fit, where `value` is 4 or more, for a file to appear."""

    def __init__(self, value=0, gate=""):
        super().__init__(value)
        self.gate = gate

    def fit(self, X, y):
        if self.value >= 4:
            wait_for(lambda: Path(self.gate).exists(), seconds=60)
        return super().fit(X, y)


class Scoreless(BaseEstimator):
    """Predicts a constant, and cannot judge itself."""

    def __init__(self, value=0):
        self.value = value

    def fit(self, X, y):
        self.fitted_ = True
        return self

    def predict(self, X):
        return np.full(len(X), self.value)


class InsideAsker(Sleeper):
    """Scores 1 where it is fitted by a worker, 0 elsewhere."""

    def score(self, X, y):
        return float(inside_worker())


class Writer(Sleeper):
    """Writes into the param that its fit is given, and scores what comes of it."""

    def fit(self, X, y, start=None):
        start += 1
        self.start_ = start
        return super().fit(X, y)

    def score(self, X, y):
        return float(self.start_.sum())


class WhoIsIt(Sleeper):
    """Scores the number of its process."""

    def score(self, X, y):
        return float(os.getpid())


class Warner(BaseEstimator):
    """Warns in fit, and scores how many of its warnings would have been shown."""

    def __init__(self, category=UserWarning):
        self.category = category

    def fit(self, X, y):
        with warnings.catch_warnings(record=True) as caught:
            for text in ("loud", "louder"):
                warnings.warn(text, self.category, stacklevel=1)
        self.shown_ = len(caught)
        return self

    def score(self, X, y):
        return float(self.shown_)
