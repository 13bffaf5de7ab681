"""Assertions about digests, and an estimator of user code."""

from sklearn.base import BaseEstimator, TransformerMixin

from optomatic.keys.digest import digest_of
from optomatic.keys.estimators import Effective


class Own(TransformerMixin, BaseEstimator):
    def __init__(self, a=None, b=None, n_jobs=None):
        self.a = a
        self.b = b
        self.n_jobs = n_jobs

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return X


def key(value):
    found = digest_of(value)
    assert not found.doubts
    return found.hex


def effective(base, params=None, varied=None):
    params = params or {}
    found = Effective(base, varied=tuple(params) if varied is None else varied).of(params)
    assert not found.doubts
    return found.hex


def all_differ(*keys):
    assert len(set(keys)) == len(keys)


def all_equal(*keys):
    assert len(set(keys)) == 1
