"""The table, the best and the refitted model are GridSearchCV's, to the last bit."""

import os

import joblib
import pytest
from estimators import WhoIsIt
from scipy.stats import loguniform, randint
from search.comparing import assert_same_search
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, KFold, RandomizedSearchCV, ShuffleSplit
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import SVC, SVR

from optomatic import MongoSearchCV


def data(name):
    load = {"digits": load_digits, "cancer": load_breast_cancer, "diabetes": load_diabetes}[name]
    X, y = load(return_X_y=True)
    return X[:400], y[:400]


GRIDS = {
    "svc on digits": ("digits", SVC(), {"C": [0.1, 1, 10], "gamma": ["scale", 0.001]}, {}),
    "train scores": ("digits", SVC(), {"C": [1, 10]}, {"return_train_score": True}),
    "list of grids": (
        "cancer",
        Pipeline([("scale", StandardScaler()), ("svc", SVC())]),
        [{"svc__C": [1, 2.0]}, {"scale": [MinMaxScaler(), "passthrough"], "svc__gamma": [0.1]}],
        {"cv": KFold(3, shuffle=True, random_state=0)},
    ),
    "forest with a seed": (
        "cancer",
        RandomForestClassifier(n_estimators=10, random_state=3),
        {"max_depth": [2, None], "min_samples_leaf": [1, 5]},
        {"scoring": "roc_auc", "cv": 3},
    ),
    "several metrics": (
        "cancer",
        make_pipeline(StandardScaler(), SVC()),
        {"svc__C": [0.1, 1]},
        {"scoring": ["accuracy", "f1", "roc_auc"], "refit": "f1", "return_train_score": True},
    ),
    "regression": (
        "diabetes",
        RandomForestRegressor(n_estimators=5, random_state=0),
        {"max_features": [0.5, 1.0]},
        {"cv": ShuffleSplit(4, random_state=1), "scoring": "neg_mean_absolute_error"},
    ),
    "duplicates": ("diabetes", Ridge(), {"alpha": [1.0, 1.0, 2]}, {"cv": 4}),
}
SAMPLED = {
    "svc": ("digits", SVC(), {"C": loguniform(1e-2, 1e2), "kernel": ["rbf", "linear"]}, {}),
    "forest": (
        "diabetes",
        RandomForestRegressor(n_estimators=5, random_state=0),
        {"max_depth": randint(1, 9), "bootstrap": [True, False]},
        {"cv": 3},
    ),
    "pipeline": (
        "cancer",
        make_pipeline(StandardScaler(), SVR()),
        [{"svr__C": loguniform(0.1, 10)}, {"svr__epsilon": [0.1, 0.2], "svr__C": [1, 2]}],
        {"cv": 3},
    ),
}


@pytest.mark.parametrize("n_jobs", [None, 2])
@pytest.mark.parametrize("case", GRIDS)
def test_grid(uri, case, n_jobs):
    name, estimator, grid, options = GRIDS[case]
    X, y = data(name)
    theirs = GridSearchCV(estimator, grid, **options).fit(X, y)
    ours = MongoSearchCV(estimator, grid, db=uri, n_jobs=n_jobs, **options).fit(X, y)
    assert_same_search(ours, theirs, X)
    again = MongoSearchCV(estimator, grid, db=uri, n_jobs=n_jobs, **options).fit(X, y)
    assert again.summary_.scored == 0
    assert_same_search(again, theirs, X)


@pytest.mark.parametrize("n_jobs", [None, 2])
@pytest.mark.parametrize("case", SAMPLED)
def test_sampled(uri, case, n_jobs):
    name, estimator, space, options = SAMPLED[case]
    X, y = data(name)
    options = {"n_iter": 4, "random_state": 7, **options}
    theirs = RandomizedSearchCV(estimator, space, **options).fit(X, y)
    ours = MongoSearchCV(estimator, space, db=uri, n_jobs=n_jobs, **options).fit(X, y)
    assert_same_search(ours, theirs, X)
    named = MongoSearchCV(estimator, param_distributions=space, db=uri, **options).fit(X, y)
    assert named.summary_.scored == 0
    assert_same_search(named, theirs, X)


def test_all_cores_score_where_n_jobs_is_minus_one(uri):
    X, y = data("cancer")
    grid = {"C": [0.1, 1.0, 10.0]}
    theirs = GridSearchCV(SVC(), grid, n_jobs=1).fit(X, y)
    assert_same_search(MongoSearchCV(SVC(), grid, db=uri, n_jobs=-1).fit(X, y), theirs, X)
    who = MongoSearchCV(WhoIsIt(), {"value": range(20)}, cv=2, db=uri, n_jobs=-1).fit(X, y)
    pids = {pid for n in range(2) for pid in who.cv_results_[f"split{n}_test_score"]}
    assert len(pids) <= joblib.cpu_count()
    assert (os.getpid() in pids) == (joblib.cpu_count() == 1)


def test_distributions_are_sampled_without_being_told(uri):
    X, y = data("diabetes")
    search = MongoSearchCV(Ridge(), {"alpha": loguniform(0.1, 10)}, db=uri, random_state=0)
    assert len(search.fit(X, y).cv_results_["params"]) == 10
