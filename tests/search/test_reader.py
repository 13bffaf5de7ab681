"""``attach(...).cv_results_`` in another process is what ``fit`` gave, entry by entry."""

from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pytest
from scipy.stats import loguniform
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, make_scorer
from sklearn.model_selection import ParameterGrid
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, StandardScaler
from sklearn.svm import SVC

from optomatic import MongoHalvingGridSearchCV, MongoHalvingRandomSearchCV, MongoSearchCV, attach
from optomatic.generators import OptunaGenerator

X, y = load_iris(return_X_y=True)
y2 = (y == 1).astype(int)
PIPE = Pipeline([("scale", StandardScaler()), ("svc", SVC())])


def double(values):
    return values * 2


def root(values):
    return np.sqrt(np.abs(values))


def two_scores(estimator, X, y):
    return {"a": estimator.score(X, y), "b": 1.0 - estimator.score(X, y)}


def most_accurate(results):
    return int(np.argmax(results["mean_test_score"]))


def not_three(candidates, history):
    return [candidate["C"] != 3 for candidate in candidates]


SEARCHES = {
    "grid": lambda: MongoSearchCV(SVC(), {"C": [0.1, 1, 10], "gamma": [0.1, 1.0]}, cv=3),
    "list of grids": lambda: MongoSearchCV(
        SVC(), [{"C": [1, 2]}, {"kernel": ["linear"], "C": [1.0]}], cv=3
    ),
    "train scores": lambda: MongoSearchCV(SVC(), {"C": [1, 2]}, return_train_score=True),
    "metrics by name": lambda: MongoSearchCV(
        SVC(), {"C": [1, 2]}, scoring=["accuracy", "balanced_accuracy"], refit="accuracy", cv=3
    ),
    "metrics in a dict, with train scores": lambda: MongoSearchCV(
        SVC(),
        {"C": [1, 2]},
        scoring={"own": make_scorer(accuracy_score), "f1": "f1_macro"},
        refit="f1",
        cv=3,
        return_train_score=True,
    ),
    "a callable that returns metrics": lambda: MongoSearchCV(
        SVC(), {"C": [1, 2]}, scoring=two_scores, refit="a", cv=3
    ),
    "failed fits": lambda: MongoSearchCV(SVC(), {"C": [1, -1, 2]}, cv=3, error_score=np.nan),
    "failed fits with a score": lambda: MongoSearchCV(SVC(), {"C": [1, -1]}, cv=3, error_score=-1),
    "failed fits of several metrics": lambda: MongoSearchCV(
        SVC(), {"C": [1, -1]}, scoring=["accuracy", "f1_macro"], refit="f1_macro", cv=3
    ),
    "estimators as values": lambda: MongoSearchCV(
        PIPE, {"scale": [StandardScaler(), MinMaxScaler(), "passthrough"], "svc__C": [1, 2]}, cv=3
    ),
    "functions as values": lambda: MongoSearchCV(
        Pipeline([("f", FunctionTransformer()), ("svc", SVC())]), {"f__func": [double, root]}, cv=3
    ),
    "steps as values": lambda: MongoSearchCV(
        PIPE,
        {"svc": [LogisticRegression(max_iter=500), KNeighborsClassifier()], "scale": [PCA(2)]},
        cv=3,
    ),
    "values of many kinds": lambda: MongoSearchCV(
        RandomForestClassifier(n_estimators=3, random_state=0),
        {"max_depth": [None, 2, np.int64(3)], "class_weight": [None, {0: 1.0, 1: 2.0, 2: 1.0}]},
        cv=2,
    ),
    "sampled": lambda: MongoSearchCV(
        SVC(), {"C": loguniform(0.1, 10), "kernel": ["rbf", "linear"]}, n_iter=5, random_state=0
    ),
    "equal candidates": lambda: MongoSearchCV(SVC(), {"C": [1, 1, 2]}, cv=3),
    "an iterable": lambda: MongoSearchCV(SVC(), ParameterGrid({"C": [1, 3]}), cv=3),
    "generator": lambda: MongoSearchCV(
        SVC(), OptunaGenerator({"C": loguniform(0.1, 10)}), n_iter=4, cv=3
    ),
    "filters": lambda: MongoSearchCV(SVC(), {"C": [1, 2, 3, 4]}, cv=3, filters=[not_three]),
    "raced": lambda: MongoSearchCV(
        SVC(), {"C": [1e-6, 1e-5, 1, 10], "gamma": [0.1]}, cv=6, racing=True
    ),
    "raced, all equal": lambda: MongoSearchCV(SVC(), {"C": [1, 1.01]}, cv=3, racing=True),
    "halving": lambda: MongoHalvingGridSearchCV(
        SVC(), {"C": [0.1, 1, 2, 10]}, cv=2, factor=2, random_state=0, min_resources=20
    ),
    "halving of a param, drawn": lambda: MongoHalvingRandomSearchCV(
        RandomForestClassifier(random_state=0),
        {"max_depth": [1, 2, 3, 4]},
        resource="n_estimators",
        max_resources=8,
        min_resources=2,
        factor=2,
        cv=2,
        random_state=0,
    ),
    "a callable refit": lambda: MongoSearchCV(SVC(), {"C": [1, 2]}, refit=most_accurate, cv=3),
    "what is set elsewhere": lambda: MongoSearchCV(SVC(gamma=0.1), {"C": [0.1, 1, 10]}, cv=3),
}

READ = """
import pickle, sys, cloudpickle
from optomatic import attach
found = {{}}
for kind, search in pickle.loads({ids!r}).items():
    search = attach(search, load_objects=True)
    found[kind] = [search.cv_results_, search.best_index_, search.best_params_]
    found[kind].append(getattr(search, "best_score_", None))
    found[kind].append(search.n_splits_)
sys.stdout.buffer.write(cloudpickle.dumps(found))
"""


@pytest.fixture(scope="module")
def fitted(module_uri):
    found = {}
    for kind, make in SEARCHES.items():
        found[kind] = make().set_params(db=module_uri).fit(X, y)
    return found


@pytest.fixture(scope="module")
def read(fitted, module_uri):
    """What another process reads, which has neither data nor estimators."""
    ids = pickle.dumps({kind: search.search_id_ for kind, search in fitted.items()})
    code = READ.format(ids=ids)
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"OPTOMATIC_DB": module_uri, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        check=True,
        timeout=120,
    )
    return pickle.loads(done.stdout)


def same(ours, theirs):
    if isinstance(theirs, np.ma.MaskedArray):
        return (
            type(ours) is type(theirs)
            and ours.dtype == theirs.dtype
            and np.array_equal(np.ma.getmaskarray(ours), np.ma.getmaskarray(theirs))
            and all(map(alike, ours.compressed(), theirs.compressed()))
        )
    if isinstance(theirs, np.ndarray):
        return ours.dtype == theirs.dtype and np.array_equal(ours, theirs, equal_nan=True)
    return len(ours) == len(theirs) and all(
        list(own) == list(other) and all(map(alike, own.values(), other.values()))
        for own, other in zip(ours, theirs, strict=True)
    )


def alike(ours, theirs):
    if callable(theirs):
        return ours.__code__.co_code == theirs.__code__.co_code
    return type(ours) is type(theirs) and repr(ours) == repr(theirs)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", SEARCHES)
def test_the_table_is_that_of_fit(kind, fitted, read):
    search = fitted[kind]
    results, index, params, score, n_splits = read[kind]
    assert list(results) == list(search.cv_results_)
    odd = [name for name in results if not same(results[name], search.cv_results_[name])]
    assert odd == []
    assert index == search.best_index_
    assert list(map(alike, params.values(), search.best_params_.values())) == [True] * len(params)
    assert score == getattr(search, "best_score_", None)
    assert n_splits == search.n_splits_


@pytest.mark.filterwarnings("ignore")
def test_objects_are_text_unless_they_are_asked_for(fitted, module_uri):
    seen = attach(fitted["estimators as values"].search_id_, db=module_uri)
    scales = {params["scale"] for params in seen.cv_results_["params"]}
    assert scales == {"StandardScaler()", "MinMaxScaler()", "passthrough"}
    assert seen.best_params_["svc__C"] in (1, 2)


@pytest.mark.filterwarnings("ignore")
def test_params_are_those_of_the_search_that_is_read(fitted, module_uri):
    """Units are shared with searches that set the same values elsewhere."""
    wider = MongoSearchCV(SVC(), {"C": [0.1, 1], "gamma": [0.1]}, cv=3, db=module_uri).fit(X, y)
    assert wider.summary_.scored == 0
    seen = attach(wider.search_id_, db=module_uri).cv_results_
    assert seen["params"] == wider.cv_results_["params"]
