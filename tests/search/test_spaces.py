"""Every kind of space, in both spellings, gives the candidates of scikit-learn's two searches."""

import inspect
import itertools
import pickle
import threading

import numpy as np
import pandas as pd
import pytest
from estimators import Sleeper
from scipy.stats import loguniform, randint
from search.comparing import assert_same_search
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    ParameterGrid,
    ParameterSampler,
    RandomizedSearchCV,
)
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, StandardScaler
from sklearn.svm import SVC

from optomatic import MongoSearchCV

X, Y = load_iris(return_X_y=True)
MODEL = Pipeline([("scale", StandardScaler()), ("model", SVC())])


def params_of(search):
    return [dict(params) for params in search.cv_results_["params"]]


def values_of(uri, space, **options):
    """The values that a search over the one param of Sleeper tries."""
    search = MongoSearchCV(Sleeper(), space, **{"cv": 2, "db": uri, **options}).fit(X, Y)
    return [params["value"] for params in params_of(search)]


@pytest.mark.parametrize("theirs", [GridSearchCV, RandomizedSearchCV])
def test_every_parameter_is_there_with_its_default(theirs):
    ours = inspect.signature(MongoSearchCV).parameters
    for name, parameter in inspect.signature(theirs).parameters.items():
        if name in ("param_grid", "param_distributions", "n_iter"):
            assert ours[name].default is None
        else:
            np.testing.assert_equal(ours[name].default, parameter.default, err_msg=name)
        assert name == "param_distributions" or ours[name].kind is parameter.kind, name


GRIDS = {
    "arrays": {"model__C": np.logspace(-1, 1, 3), "model__kernel": np.array(["rbf", "linear"])},
    "range and tuple": {"model__degree": range(2, 4), "model__kernel": ("poly",)},
    "list of grids": [{"model__C": [1, 2.0]}, {"model__gamma": ["scale", 0.5]}, {}],
    "estimators": {"scale": [MinMaxScaler(), "passthrough", StandardScaler(with_mean=False)]},
    "functions": {"scale": [FunctionTransformer(np.log1p), FunctionTransformer(lambda x: -x)]},
    "whole models": {"model": [SVC(C=3), LogisticRegression(max_iter=500)]},
    "none and bool": {"model__shrinking": [True, False], "model__class_weight": [None, "balanced"]},
    "dicts": {"model__class_weight": [{0: 1, 1: 2, 2: 1}, {0: 1.0, 1: 5, 2: 1}]},
    "arrays as values": {"scale__with_std": [True], "model__C": [np.float32(2), np.int64(3), 2]},
}


@pytest.mark.parametrize("case", GRIDS)
def test_grids(uri, case):
    grid = GRIDS[case]
    theirs = GridSearchCV(MODEL, grid, cv=2).fit(X, Y)
    assert_same_search(MongoSearchCV(MODEL, grid, cv=2, db=uri).fit(X, Y), theirs, X)
    again = MongoSearchCV(MODEL, param_grid=grid, cv=2, db=uri).fit(X, Y)
    assert again.summary_.scored == 0
    assert_same_search(again, theirs, X)


SAMPLED = {
    "distribution": {"model__C": loguniform(0.1, 10), "model__degree": randint(2, 5)},
    "lists": {"model__C": [1, 2, 3, 4, 5], "model__kernel": ["rbf", "linear"]},
    "list of spaces": [{"model__C": loguniform(0.1, 10)}, {"model__gamma": [0.1, 0.2]}],
}


@pytest.mark.parametrize("case", SAMPLED)
def test_draws(uri, case):
    space, options = SAMPLED[case], {"n_iter": 4, "random_state": 3, "cv": 2}
    theirs = RandomizedSearchCV(MODEL, space, **options).fit(X, Y)
    in_place_of_theirs = MongoSearchCV(MODEL, space, db=uri, **options).fit(X, Y)
    assert_same_search(in_place_of_theirs, theirs, X)
    by_name = MongoSearchCV(MODEL, param_distributions=space, db=uri, **options).fit(X, Y)
    assert by_name.summary_.scored == 0
    assert_same_search(by_name, theirs, X)


def test_more_draws_than_there_are_is_said_as_scikit_learn_says_it(uri):
    search = MongoSearchCV(Sleeper(), param_distributions={"value": [1, 2, 3]}, db=uri, cv=2)
    with pytest.warns(UserWarning, match=r"total space of parameters 3 is smaller than n_iter=10"):
        search.fit(X, Y)
    assert [params["value"] for params in params_of(search)] == [1, 2, 3]


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        (ParameterGrid({"value": [3, 1, 3]}), [3, 1, 3]),
        (ParameterSampler({"value": [4, 5]}, 2, random_state=0), [4, 5]),
        (({"value": value} for value in (2, 1)), [2, 1]),
        (map(dict, [[("value", 7)]]), [7]),
        ({"value": pd.Series([2.5, 1], index=["a", "b"])}, [2.5, 1.0]),
        ([{"value": pd.Series(["x", "y"])}, {"value": pd.Index([1])}], ["x", "y", 1]),
    ],
    ids=["grid", "sampler", "generator", "map", "series", "list of series"],
)
def test_spaces_that_scikit_learn_refuses(uri, space, expected):
    search = MongoSearchCV(Numbered(), space, cv=2, db=uri).fit(X, Y)
    assert [params["value"] for params in params_of(search)] == expected


class Numbered(Sleeper):
    """Takes texts for `value` too."""

    def score(self, X, y):
        return 0.0


def test_series_are_drawn_from_by_position(uri):
    space = {"value": pd.Series([1, 2, 3], index=[10, 20, 30])}
    drawn = values_of(uri, space, n_iter=3, random_state=0)
    assert sorted(drawn) == [1, 2, 3]


def endless():
    return ({"value": n} for n in itertools.count())


def test_a_generator_is_whole_in_every_fit_and_clone(uri):
    search = MongoSearchCV(Sleeper(), ({"value": n} for n in range(3)), cv=2, db=uri)
    copies = [clone(search), pickle.loads(pickle.dumps(search)), clone(clone(search))]
    for one in [search, *copies, search]:
        assert [params["value"] for params in params_of(one.fit(X, Y))] == [0, 1, 2]
    assert "generator" in repr(search.param_grid)


def test_n_iter_ends_what_is_endless(uri):
    search = MongoSearchCV(Sleeper(), endless(), n_iter=3, cv=2, db=uri)
    assert [params["value"] for params in params_of(search.fit(X, Y))] == [0, 1, 2]
    more = clone(search).set_params(n_iter=5).fit(X, Y)
    assert [params["value"] for params in params_of(more)] == [0, 1, 2, 3, 4]
    assert (more.summary_.stored, more.summary_.scored) == (6, 4)


def test_threads_share_a_generator(uri):
    searches = [MongoSearchCV(Sleeper(), endless(), n_iter=20, cv=2, db=uri)]
    searches.append(clone(searches[0]))
    threads = [threading.Thread(target=search.fit, args=(X, Y)) for search in searches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [params_of(search) for search in searches] == [
        [{"value": n} for n in range(20)] for _ in searches
    ]


@pytest.mark.parametrize(
    ("space", "error", "said"),
    [
        (5, ValueError, "'param_grid' parameter of MongoSearchCV"),
        ("abc", TypeError, "must be an instance of 'dict'"),
        ({"value": 3}, TypeError, "needs to be a list or a numpy array"),
        ({"value": "abc"}, TypeError, "needs to be a list or a numpy array"),
        ({"value": []}, ValueError, "non-empty sequence"),
        ({"value": np.ones((2, 2))}, ValueError, "one-dimensional"),
        ([{"value": [1]}, 3], TypeError, "is not a dict"),
        (iter([{"value": 1}, 3]), TypeError, r"number 1 of it is 3 \(int\)"),
        (iter([]), ValueError, "No fits were performed"),
        ({"no_such": [1]}, ValueError, "Invalid parameter 'no_such'"),
    ],
)
def test_no_space(uri, space, error, said):
    with pytest.raises(error, match=said):
        values_of(uri, space)


@pytest.mark.parametrize("n_iter", [0, -1, 1.5, "3"])
def test_n_iter_is_checked_in_scikit_learns_words(uri, n_iter):
    with pytest.raises(ValueError, match=r"'n_iter' parameter of MongoSearchCV must be an int in"):
        values_of(uri, {"value": [1]}, n_iter=n_iter)


@pytest.mark.parametrize(
    "options",
    [
        {"n_jobs": "all"},
        {"refit": 3},
        {"cv": "five"},
        {"verbose": "loud"},
        {"pre_dispatch": 1.5},
        {"error_score": "ignore"},
        {"return_train_score": "yes"},
        {"scoring": "no such"},
        {"random_state": "seed"},
        {"name": 3},
        {"retry_failed": 1.5},
    ],
    ids=lambda options: next(iter(options)),
)
def test_parameters_are_checked_in_scikit_learns_words(uri, options):
    (name,) = options
    with pytest.raises(ValueError, match=f"The '{name}' parameter of MongoSearchCV must be"):
        values_of(uri, {"value": [1]}, **options)


@pytest.mark.parametrize("pre_dispatch", ["all", 3, "3*n_jobs"])
def test_pre_dispatch_is_accepted(uri, pre_dispatch):
    assert values_of(uri, {"value": [2, 1]}, pre_dispatch=pre_dispatch) == [2, 1]
