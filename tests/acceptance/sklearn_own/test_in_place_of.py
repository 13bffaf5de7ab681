"""The checks on scikit-learn's tests can fail: what is not ours, or not stored, shows."""

import numpy as np
import pytest
import sklearn.model_selection
from accounting import assert_all_stored
from in_place_of import OURS, imported_with_ours
from pymongo import MongoClient
from sklearn.dummy import DummyClassifier

from optomatic import MongoSearchCV

X, Y = np.arange(20.0).reshape(10, 2), np.arange(10) % 2
GRID = {"strategy": ["prior", "uniform"], "random_state": [0]}


@pytest.mark.parametrize("name", ["GridSearchCV", "RandomizedSearchCV"])
def test_a_search_of_scikit_learns_shows(name):
    search = getattr(sklearn.model_selection, name)(DummyClassifier(), GRID)
    assert type(search) not in OURS
    with pytest.raises(AssertionError, match="scikit-learn's own search"):
        search.fit(X, Y)


def test_a_unit_that_is_not_stored_shows(uri):
    search = MongoSearchCV(DummyClassifier(), GRID, cv=2, db=uri).fit(X, Y)
    with MongoClient(uri) as client:
        database = client.get_default_database()
        assert_all_stored(database, search.search_id_)
        database["units"].delete_one({})
        with pytest.raises(AssertionError):
            assert_all_stored(database, search.search_id_)


@pytest.mark.parametrize(
    "module",
    [
        "sklearn.model_selection.tests.test_search",
        "sklearn.tests.test_metaestimators",
        "sklearn.tests.test_metaestimators_metadata_routing",
    ],
)
def test_our_names_are_in_the_tests_and_not_in_scikit_learn(module):
    found = imported_with_ours(module)
    assert (found.GridSearchCV, found.RandomizedSearchCV) == OURS
    assert sklearn.model_selection.GridSearchCV not in OURS
