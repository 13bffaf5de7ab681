"""Scoring, refit, error_score and verbose do, say and print what they do in GridSearchCV."""

import re
import warnings

import numpy as np
import pytest
from search.comparing import assert_same_search, assert_same_table
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_iris
from sklearn.metrics import accuracy_score, confusion_matrix, make_scorer
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVC

from optomatic import MongoSearchCV

X, Y = load_iris(return_X_y=True)
BINARY = (X[:100], Y[:100])
GRID = {"C": [0.001, 1, 10]}


def counts(estimator, X, y):
    table = confusion_matrix(y, estimator.predict(X))
    return {"tn": table[0, 0], "fn": table[1, 0]}


def share(estimator, X, y):
    return np.float32(np.mean(estimator.predict(X) == y))


def second(results):
    return 1


SCORINGS = {
    "own": {},
    "name": {"scoring": "f1_macro"},
    "callable": {"scoring": share},
    "scorer": {"scoring": make_scorer(accuracy_score, normalize=False)},
    "list": {"scoring": ["accuracy", "f1_macro"], "refit": "f1_macro"},
    "tuple": {"scoring": ("accuracy", "f1_macro"), "refit": False},
    "dict": {"scoring": {"b": share, "a": "f1_macro"}, "refit": "b"},
    "dict of one": {"scoring": {"accuracy": "accuracy"}, "refit": "accuracy"},
    "callable that gives several": {"scoring": counts, "refit": "tn"},
    "refit by a function": {"scoring": ["accuracy", "f1_macro"], "refit": second},
    "no refit": {"refit": False},
}


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("case", SCORINGS)
def test_scoring_and_refit(uri, case, train):
    options = {"cv": 3, "return_train_score": train, **SCORINGS[case]}
    theirs = GridSearchCV(SVC(), GRID, **options).fit(*BINARY)
    for _ in range(2):  # computed, then stored
        ours = MongoSearchCV(SVC(), GRID, db=uri, **options).fit(*BINARY)
        assert_same_table(ours, theirs)
        for name in ("best_index_", "best_score_", "best_params_", "multimetric_"):
            assert hasattr(ours, name) == hasattr(theirs, name), name
            assert getattr(ours, name, None) == getattr(theirs, name, None), name
    assert ours.summary_.scored == 0
    if options.get("refit", True) and case != "refit by a function":
        assert ours.score(*BINARY) == theirs.score(*BINARY)


@pytest.mark.parametrize(
    "options",
    [
        {"scoring": ["accuracy", "f1_macro"]},
        {"scoring": ["accuracy", "f1_macro"], "refit": "recall"},
        {"scoring": counts},
        {"scoring": counts, "refit": "accuracy"},
        {"scoring": []},
        {"scoring": ["accuracy", "accuracy"]},
        {"scoring": {"a": 3}},
        {"scoring": lambda estimator, X, y: "good"},
        {"scoring": lambda estimator, X, y: {"a": "good"}, "refit": "a"},
        {"refit": lambda results: 99},
        {"refit": lambda results: "first"},
    ],
)
def test_scorers_that_scikit_learn_refuses(uri, options):
    errors = []
    for search in (GridSearchCV(SVC(), GRID), MongoSearchCV(SVC(), GRID, db=uri)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises(Exception) as caught:  # noqa: PT011  # whatever theirs is
                search.set_params(cv=3, **options).fit(*BINARY)
        errors.append((caught.type, str(caught.value)))
    theirs, ours = errors
    assert ours == theirs


class Picky(ClassifierMixin, BaseEstimator):
    """Fails in fit, predict, or on training data in predict, as its param says."""

    def __init__(self, fails="never"):
        self.fails = fails

    def fit(self, X, y):
        if self.fails == "fit":
            raise ValueError("no fit")
        self.classes_ = np.unique(y)
        self.n_ = len(X)
        return self

    def predict(self, X):
        on_train = len(X) == self.n_
        if self.fails == "predict" or (self.fails == "train" and on_train):
            raise ValueError("no prediction")
        return np.full(len(X), self.classes_[0])


FAILING = {
    "fits": (["never", "fit"], {}),
    "scores": (["never", "predict"], {"scoring": "accuracy"}),
    "train scores": (["never", "train"], {"scoring": "accuracy", "return_train_score": True}),
    "one of two": (
        ["never", "predict"],
        {"scoring": {"good": lambda e, X, y: 0.5, "bad": "accuracy"}, "refit": "good"},
    ),
    "all of it": (
        ["never", "fit", "predict", "train", "fit"],
        {"scoring": ["accuracy", "f1_macro"], "refit": False, "return_train_score": True},
    ),
    "a function of several": (["never", "fit"], {"scoring": counts, "refit": "tn"}),
}


def said(search):
    """Fit; return the category and the text of each warning, less the traceback."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        search.fit(*BINARY)
    return sorted((w.category.__name__, _without_traceback(str(w.message))) for w in caught)


def _without_traceback(text):
    return re.sub(r"(?s)Details: .*|Traceback.*(?=\nValue)", "", text)


@pytest.mark.parametrize("error_score", [np.nan, 0, -1.5])
@pytest.mark.parametrize("case", FAILING)
def test_failures_are_said_as_by_scikit_learn(uri, case, error_score):
    fails, options = FAILING[case]
    options = {"cv": 2, "error_score": error_score, **options}
    theirs = GridSearchCV(Picky(), {"fails": fails}, **options)
    ours = MongoSearchCV(Picky(), {"fails": fails}, db=uri, **options)
    expected = said(theirs)
    assert expected
    for _ in range(2):  # computed, then stored
        assert said(ours) == expected
        assert_same_table(ours, theirs)
    assert ours.summary_.scored == 0


def test_failures_in_workers_are_said_in_this_process(uri):
    fails, options = FAILING["all of it"]
    theirs = GridSearchCV(Picky(), {"fails": fails}, cv=2, **options)
    ours = MongoSearchCV(Picky(), {"fails": fails}, cv=2, db=uri, n_jobs=2, **options)
    assert said(ours) == said(theirs)
    assert_same_table(ours, theirs)


@pytest.mark.parametrize("case", FAILING)
def test_raise_raises_and_warns_of_nothing(uri, case):
    fails, options = FAILING[case]
    search = MongoSearchCV(Picky(), {"fails": fails}, cv=2, db=uri, error_score="raise", **options)
    for _ in range(2):  # computed, then stored
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(ValueError, match=r"no (fit|prediction)"):
                search.fit(*BINARY)


def test_all_fits_failed(uri):
    theirs = GridSearchCV(Picky(), {"fails": ["fit"]}, cv=2)
    ours = MongoSearchCV(Picky(), {"fails": ["fit"]}, cv=2, db=uri)
    for search in (theirs, ours, ours):
        with pytest.raises(ValueError, match="All the 2 fits failed"):
            search.fit(*BINARY)


def lines_of(capsys, search):
    """Fit; return what is printed, with no times."""
    search.fit(*BINARY)
    printed = re.sub(r"total time= *[\d.]+(s|min)", "total time", capsys.readouterr().out)
    return re.sub(r"\.{3,}", "...", printed).splitlines()


PRINTED = {
    "one score": {"scoring": "accuracy"},
    "train score": {"return_train_score": True},
    "several scores": {"scoring": ["accuracy", "f1_macro"], "refit": False},
    "several train scores": {
        "scoring": ["accuracy", "f1_macro"],
        "refit": False,
        "return_train_score": True,
    },
}


@pytest.mark.parametrize("verbose", [0, 1, 2, 3, 10])
@pytest.mark.parametrize("case", PRINTED)
def test_verbose(uri, capsys, case, verbose):
    options = {"cv": 2, "verbose": verbose, **PRINTED[case]}
    grid = [{"C": [0.1, 1, 0.1], "kernel": ["rbf"]}, {}]
    expected = lines_of(capsys, GridSearchCV(SVC(), grid, **options))
    for stored in (0, 6):  # two of the eight are duplicates
        ours = MongoSearchCV(SVC(), grid, db=uri, **options)
        printed = lines_of(capsys, ours)
        if verbose:
            assert printed.pop() == str(ours.summary_)
        if verbose > 9:  # what is not scored now does not start
            printed, expected = (
                [line for line in lines if " START " not in line] for lines in (printed, expected)
            )
        assert sorted(printed) == sorted(expected)
        assert ours.summary_.stored == stored


def test_verbose_of_workers(uri, capsys):
    options = {"cv": 2, "verbose": 3}
    expected = lines_of(capsys, GridSearchCV(SVC(), GRID, **options))
    printed = lines_of(capsys, MongoSearchCV(SVC(), GRID, db=uri, n_jobs=2, **options))
    assert sorted(printed[:-1]) == sorted(expected)


def test_a_search_with_train_scores_serves_one_without(uri):
    options = {"cv": 3, "scoring": ["accuracy", "f1_macro"], "refit": "accuracy"}
    MongoSearchCV(SVC(), GRID, db=uri, return_train_score=True, **options).fit(X, Y)
    ours = MongoSearchCV(SVC(), GRID, db=uri, **options).fit(X, Y)
    assert ours.summary_.scored == 0
    assert_same_search(ours, GridSearchCV(SVC(), GRID, **options).fit(X, Y), X)
