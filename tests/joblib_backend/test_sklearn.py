"""scikit-learn's own parallel code, and searches, on the workers."""

import numpy as np
import pytest
from joblib import Parallel, delayed
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.inspection import permutation_importance
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.tree import DecisionTreeClassifier

from optomatic import MongoSearchCV

X, Y = make_classification(n_samples=200, random_state=0)
TREE = DecisionTreeClassifier(random_state=0)
GRID = {"max_depth": [1, 2, 3]}


def _scores():
    return cross_val_score(TREE, X, Y, cv=4, n_jobs=-1)


def _forest():
    forest = RandomForestClassifier(20, n_jobs=-1, random_state=0).fit(X, Y)
    return forest.predict_proba(X)


def _importances():
    fitted = DecisionTreeClassifier(random_state=0).fit(X, Y)
    return permutation_importance(fitted, X, Y, n_repeats=3, n_jobs=-1, random_state=0).importances


def _search():
    search = GridSearchCV(TREE, GRID, cv=3, n_jobs=-1).fit(X, Y)
    return search.cv_results_["mean_test_score"]


def _nested_search():
    return cross_val_score(GridSearchCV(TREE, GRID, cv=3, n_jobs=-1), X, Y, cv=3, n_jobs=-1)


CODE = [_scores, _forest, _importances, _search, _nested_search]


@pytest.fixture(scope="module")
def expected():
    """What comes of the same code in this process; before any backend is chosen."""
    return {code: code() for code in CODE}


@pytest.mark.parametrize("code", CODE)
def test_results_are_those_of_any_other_backend(expected, workers, executed, code):
    np.testing.assert_array_equal(code(), expected[code])
    executed.note("it")
    assert executed.by_test["it"] >= 2


def test_a_fit_under_this_backend_is_left_to_the_workers(workers):
    search = MongoSearchCV(TREE, GRID, cv=3, db=workers.uri).fit(X, Y)
    plain = GridSearchCV(TREE, GRID, cv=3).fit(X, Y)
    for name in ("mean_test_score", "std_test_score", "rank_test_score"):
        np.testing.assert_array_equal(search.cv_results_[name], plain.cv_results_[name])
    standalone = workers.database["workers"].distinct("_id", {"kind": "standalone"})
    assert set(workers.database["units"].distinct("completed_by")) <= set(standalone)


def _fit_here(db, number):
    search = MongoSearchCV(TREE, {"min_samples_leaf": [1 + number, 50]}, cv=2, db=db, refit=False)
    return search.fit(X, Y).cv_results_["mean_test_score"]


def test_fits_inside_calls_do_not_wait_for_the_workers_that_they_occupy(workers):
    # Twice as many as workers: if a fit left its units to them, nobody would ever end.
    found = Parallel(batch_size=1)(delayed(_fit_here)(workers.uri, n) for n in range(4))
    assert [len(scores) for scores in found] == [2] * 4
