"""Filters of warnings are those of the process that searches, in its local workers too."""

import re
import warnings

import numpy as np
import pytest
from estimators import Warner
from sklearn.exceptions import ConvergenceWarning, FitFailedWarning
from sklearn.model_selection import GridSearchCV

from optomatic import MongoSearchCV
from optomatic.worker.score import filtered, filters_here

X, Y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2
GRID = {"category": [UserWarning, ConvergenceWarning, DeprecationWarning]}


def scores(search):
    return search.fit(X, Y).cv_results_["mean_test_score"].tolist()


def ignore():
    warnings.simplefilter("ignore")


def ignore_some():
    warnings.simplefilter("always")
    warnings.filterwarnings("ignore", category=ConvergenceWarning)
    warnings.filterwarnings("ignore", "loud$", UserWarning)


def let_all_through():
    warnings.simplefilter("always")


def strictly(search):
    warnings.simplefilter("error", ConvergenceWarning)
    return scores(search)


@pytest.mark.parametrize(
    ("chosen", "shown"),
    [(ignore, [0, 0, 0]), (ignore_some, [1, 0, 2]), (let_all_through, [2, 2, 2])],
)
def test_workers_show_what_the_process_shows(uri, chosen, shown):
    with warnings.catch_warnings():
        chosen()
        assert scores(GridSearchCV(Warner(), GRID, cv=2, refit=False)) == shown
        assert scores(MongoSearchCV(Warner(), GRID, cv=2, refit=False, n_jobs=2, db=uri)) == shown


def test_warnings_that_are_errors_fail_in_workers_and_are_not_stored(uri):
    search = MongoSearchCV(Warner(), GRID, cv=2, refit=False, n_jobs=2, db=uri, error_score=-1.0)
    with pytest.warns(FitFailedWarning, match="2 fits failed out of a total of 6"):
        found = strictly(search)
    assert found == [2, -1, 2]
    with warnings.catch_warnings():
        let_all_through()
        assert scores(search) == [2, 2, 2]
    assert (search.summary_.stored, search.summary_.scored) == (4, 2)


def test_filters_of_modules_that_are_not_loaded_are_skipped():
    with warnings.catch_warnings():
        warnings.resetwarnings()
        warnings.filterwarnings("error", "a (very )?odd", RuntimeWarning, r"somewhere\.else", 7)
        warnings.simplefilter("ignore", ConvergenceWarning)
        written = filters_here()
    odd = ["ignore", "", "no_such_module:Odd", "", 0]
    with filtered([odd, *written]):
        assert filters_here() == written
        assert warnings.filters[1][1] == re.compile("a (very )?odd", re.IGNORECASE)
    with filtered(None):
        pass
