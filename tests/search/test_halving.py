"""Successive halving: what scikit-learn does, with every score kept."""

import numpy as np
import pytest
from estimators import Misbehaver
from scipy.stats import loguniform, randint
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import FitFailedWarning
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import HalvingGridSearchCV, HalvingRandomSearchCV
from sklearn.svm import SVC

from optomatic import MongoHalvingGridSearchCV, MongoHalvingRandomSearchCV, MongoSearchCV
from optomatic.definition import read

X, Y = make_classification(n_samples=300, n_informative=4, random_state=0)
GRID = {"C": [0.1, 1, 10], "gamma": [0.01, 0.1, 1], "kernel": ["rbf"]}
TIMES = ("mean_fit_time", "std_fit_time", "mean_score_time", "std_score_time")
FITTED = (
    "n_resources_",
    "n_candidates_",
    "n_remaining_candidates_",
    "max_resources_",
    "min_resources_",
    "n_iterations_",
    "n_possible_iterations_",
    "n_required_iterations_",
    "best_index_",
    "best_score_",
    "best_params_",
)


def same(ours, theirs):
    for name in FITTED:
        assert getattr(ours, name) == getattr(theirs, name), name
    assert list(ours.cv_results_) == list(theirs.cv_results_)
    for name, column in theirs.cv_results_.items():
        if name not in TIMES:
            np.testing.assert_array_equal(ours.cv_results_[name], column, err_msg=name)
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_halving_over_samples_is_scikit_learns(uri, n_jobs):
    options = {"cv": 3, "factor": 2, "random_state": 0}
    ours = MongoHalvingGridSearchCV(SVC(), GRID, **options, n_jobs=n_jobs, db=uri)
    ours = clone(ours).fit(X, Y)
    same(ours, HalvingGridSearchCV(SVC(), GRID, **options).fit(X, Y))
    assert isinstance(ours, HalvingGridSearchCV)
    assert isinstance(ours, MongoSearchCV)
    n_units = 3 * sum(ours.n_candidates_)
    assert (ours.summary_.units, ours.summary_.scored) == (n_units, n_units)
    again = clone(ours).fit(X, Y)
    assert (again.summary_.stored, again.summary_.scored) == (n_units, 0)
    same(again, ours)


def test_halving_over_a_parameter_is_scikit_learns(uri):
    model = RandomForestClassifier(random_state=0)
    space = {"max_depth": randint(1, 9), "min_samples_split": [2, 5, 10]}
    options = {
        "resource": "n_estimators",
        "max_resources": 12,
        "n_candidates": 6,
        "cv": 2,
        "random_state": 3,
    }
    ours = MongoHalvingRandomSearchCV(model, space, **options, db=uri).fit(X, Y)
    same(ours, HalvingRandomSearchCV(model, space, **options).fit(X, Y))


def test_random_halving_with_aggressive_elimination(uri):
    options = {
        "n_candidates": 20,
        "min_resources": 60,
        "aggressive_elimination": True,
        "cv": 2,
        "random_state": 1,
    }
    space = {"C": loguniform(1e-2, 1e2)}
    ours = MongoHalvingRandomSearchCV(SVC(), space, **options, db=uri).fit(X, Y)
    same(ours, HalvingRandomSearchCV(SVC(), space, **options).fit(X, Y))


def test_a_wider_grid_scores_only_what_is_new(uri):
    options = {"cv": 2, "random_state": 0, "min_resources": 30, "factor": 3, "db": uri}
    MongoHalvingGridSearchCV(SVC(), {"C": [0.1, 1, 10]}, **options).fit(X, Y)
    wider = MongoHalvingGridSearchCV(SVC(), {"C": [0.1, 1, 10, 100]}, **options).fit(X, Y)
    assert wider.summary_.stored >= 2 * 3  # all of the first iteration but the new candidate
    assert wider.summary_.stored + wider.summary_.scored == wider.summary_.units


def test_limits_and_a_definition_file_are_those_of_mongosearchcv(uri, tmp_path):
    search = MongoHalvingGridSearchCV(
        *(Misbehaver(how="hang"), {"value": [1, 13, 2]}),
        cv=2,
        min_resources=30,
        random_state=0,
        refit=False,
        error_score=-1.0,
        db=uri,
        name="halves",
        definition=tmp_path / "sweep",
        fit_timeout=2.0,
        n_jobs=2,
    )
    search = clone(search)
    with pytest.warns(FitFailedWarning, match="not done after 2 s, the fit_timeout"):
        search.fit(X, Y)
    assert search.best_params_ == {"value": 2}
    assert read(tmp_path / "sweep.optomatic.toml").searches == ("halves",)
