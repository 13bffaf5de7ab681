"""What lives in ``__main__``: classes, lambdas and closures of a script, a pipe, a ``-c``."""

import os
import subprocess
import sys

import pytest

BODY = """
import functools, os, sys
from dataclasses import dataclass
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_iris
from sklearn.metrics import accuracy_score, make_scorer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import SVC
from optomatic import MongoSearchCV

FACTOR = 3

@dataclass(frozen=True)
class Weight:
    value: float

class Base(ClassifierMixin, BaseEstimator):
    def predict(self, X):
        return np.where(X[:, self.column] * FACTOR > self.weight.value, 2, self.default())

class Threshold(Base):
    def __init__(self, column=0, weight=Weight(9.0)):
        self.column = column
        self.weight = weight

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def default(self):
        return 0

    def __sklearn_tags__(self):  # super() without arguments has to be found by value too
        return super().__sklearn_tags__()

def scaled(by):
    def scale(X):
        return X * by
    return scale

def local_class():
    class Local(Threshold):
        def default(self):
            return 1
    return Local()

def halved(y, predicted, *, part):
    return accuracy_score(y, predicted) * part

def compare(estimator, grid, **options):
    X, y = load_iris(return_X_y=True)
    theirs = GridSearchCV(estimator, grid, cv=3, **options).fit(X, y)
    for n_jobs in (2, None):
        ours = MongoSearchCV(estimator, grid, cv=3, db=URI, n_jobs=n_jobs, **options).fit(X, y)
        for name in theirs.cv_results_:
            if name.endswith("test_score"):
                assert list(ours.cv_results_[name]) == list(theirs.cv_results_[name]), name
        print(ours.summary_.scored, end=" ")

def everything():
    columns = {"column": [0, 2], "weight": [Weight(9), Weight(4.5)]}
    compare(Threshold(), columns, scoring=lambda model, X, y: float(model.score(X, y)) / FACTOR)
    compare(local_class(), {"column": [0, 2]}, scoring=make_scorer(halved, part=0.5))
    model = make_pipeline(FunctionTransformer(scaled(2)), SVC())
    compare(model, {"functiontransformer__func": [scaled(2), scaled(5), None, np.abs]})
    compare(SVC(kernel=lambda A, B: A @ B.T), {"C": [1, 2]},
            scoring={"half": make_scorer(functools.partial(halved, part=0.5))}, refit="half")
    print("done")
"""
RUN = "\nURI = sys.argv[1]\nif __name__ == '__main__':\n    everything()\n"
UNGUARDED = "\nURI = sys.argv[1]\nprint('ran')\neverything()\n"


def run(command, uri, folder, **options):
    path = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return subprocess.run(
        [sys.executable, *command, uri],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "error::UserWarning"},
        capture_output=True,
        text=True,
        timeout=150,
        **options,
    )


@pytest.mark.parametrize("how", ["a script", "a script without guard", "a pipe", "-c", "-m"])
def test_a_program_of_its_own(uri, how, tmp_path):
    program = BODY + (UNGUARDED if "without" in how else RUN)
    script = tmp_path / "program.py"
    script.write_text(program)
    commands = {"a pipe": ["-"], "-c": ["-c", program], "-m": ["-m", "program"]}
    command = commands.get(how, [str(script)])
    first = run(command, uri, tmp_path, input=program if how == "a pipe" else None)
    assert first.stdout.replace("ran\n", "") == "12 0 6 0 12 0 6 0 done\n", first.stderr
    assert first.stdout.count("ran") == ("without" in how)  # by the program alone
    assert "Warning" not in first.stderr
    if how not in ("a script", "-c"):
        return
    # Again, in another process with another hash seed: all is stored.
    again = run(command, uri, tmp_path, input=program if how == "a pipe" else None)
    assert again.stdout.replace("ran\n", "") == "0 0 0 0 0 0 0 0 done\n", again.stderr
