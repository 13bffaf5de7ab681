"""What is scored again, and what is not."""

import warnings

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC

from optomatic import MongoSearchCV
from optomatic.errors import KeyNotCertain
from optomatic.keys import environment
from optomatic.planning import planner


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return X[:200], y[:200]


def fit(uri, digits, estimator=None, grid=None, **options):
    X, y = digits
    options = {"cv": 3, "db": uri, **options}
    return MongoSearchCV(estimator or SVC(), grid or {"C": [1, 2]}, **options).fit(X, y).summary_


def test_the_same_again_scores_nothing(uri, digits):
    assert fit(uri, digits).scored == 6
    again = fit(uri, digits)
    assert (again.scored, again.stored, again.units) == (0, 6, 6)


def test_a_wider_grid_scores_exactly_the_new_units(uri, digits):
    fit(uri, digits)
    wider = fit(uri, digits, grid={"C": [0.5, 1, 2, 4], "gamma": ["scale"]})
    assert (wider.stored, wider.scored) == (6, 6)  # gamma="scale" is the default


def test_duplicate_candidates_are_one_unit_each_split(uri, digits):
    found = fit(uri, digits, grid={"C": [1, 1, 1]})
    assert (found.units, found.scored) == (3, 3)


@pytest.mark.parametrize(
    "change",
    [
        {"cv": KFold(3, shuffle=True, random_state=1)},
        {"scoring": "f1_macro"},
        {"estimator": SVC(tol=1e-4)},
        {"grid": {"C": [1.0, 2.0]}},  # a float is not an int
    ],
    ids=["split seed", "scorer", "base parameter", "type of a value"],
)
def test_a_change_scores_all(uri, digits, change):
    fit(uri, digits, cv=KFold(3, shuffle=True, random_state=0))
    found = fit(uri, digits, **{"cv": KFold(3, shuffle=True, random_state=0), **change})
    assert (found.stored, found.scored) == (0, 6)


def test_a_changed_y_scores_all(uri, digits):
    X, y = digits
    fit(uri, digits)
    changed = y.copy()
    changed[0] = (changed[0] + 1) % 10
    assert fit(uri, (X, changed)).stored == 0


def test_another_base_that_comes_to_the_same_scores_nothing(uri, digits):
    fit(uri, digits, estimator=SVC(C=5), grid={"C": [1, 2], "kernel": ["rbf"]})
    assert (
        fit(
            uri, digits, estimator=SVC(C=9, kernel="linear"), grid={"C": [2, 1], "kernel": ["rbf"]}
        ).scored
        == 0
    )
    assert fit(uri, digits, estimator=SVC(C=2), grid={"kernel": ["rbf"]}).scored == 0


def test_a_nested_value_is_the_same_as_a_whole_step(uri, digits):
    model = make_pipeline(StandardScaler(), SVC())
    fit(uri, digits, estimator=model, grid={"svc__C": [3]})
    assert fit(uri, digits, estimator=model, grid={"svc": [SVC(C=3)]}).scored == 0


def test_memory_layout_does_not_matter(uri, digits):
    X, y = digits
    fit(uri, (X, y))
    assert fit(uri, (np.asfortranarray(X), y)).scored == 0


def test_train_scores_are_terms_not_key(uri, digits):
    fit(uri, digits, return_train_score=True)
    assert fit(uri, digits).scored == 0


def test_train_scores_that_are_missing_are_computed(uri, digits):
    fit(uri, digits)
    assert fit(uri, digits, return_train_score=True).scored == 6


class Coin(SVC):
    """Fails for C=2."""

    def fit(self, X, y):
        if self.C == 2:
            raise ValueError("two is too much")
        return super().fit(X, y)


def test_a_stored_failure_is_a_failure_until_retried(uri, digits):
    with pytest.warns(match="3 fits failed out of a total of 6"):
        first = fit(uri, digits, estimator=Coin())
    assert (first.scored, first.failed) == (6, 3)
    with pytest.warns(match="two is too much"):
        again = fit(uri, digits, estimator=Coin())
    assert (again.scored, again.failed) == (0, 3)
    with pytest.warns(match="two is too much"):
        retried = fit(uri, digits, estimator=Coin(), retry_failed=True)
    assert (retried.scored, retried.stored) == (3, 3)


class Warned(SVC):
    """Warns as it is fitted."""

    def fit(self, X, y):
        warnings.warn("not quite converged", ConvergenceWarning, stacklevel=2)
        return super().fit(X, y)


def test_a_warning_that_was_an_error_for_once_is_no_failure_later(uri, digits):
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        with pytest.raises(ValueError, match="All the 6 fits failed"):
            fit(uri, digits, estimator=Warned())
    with pytest.warns(ConvergenceWarning):
        later = fit(uri, digits, estimator=Warned())
    assert (later.scored, later.failed) == (6, 0)


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_raise_raises_the_original_type(uri, digits, n_jobs):
    for _ in range(2):  # computed, then stored
        with pytest.raises(ValueError, match="two is too much"):
            fit(uri, digits, estimator=Coin(), error_score="raise", n_jobs=n_jobs)


def test_fits_that_all_failed_say_how_to_try_again(uri, digits):
    for _ in range(2):
        with pytest.raises(ValueError, match="All the 3 fits failed") as raised:
            fit(uri, digits, estimator=Coin(), grid={"C": [2]})
        assert "retry_failed=True" in "".join(raised.value.__notes__)


class Unsure:
    """Its state is behind a generator, which nobody can look into."""

    def __init__(self):
        self.values = (x for x in range(3))

    def __deepcopy__(self, memo):
        return self


class Odd(SVC):
    def __init__(self, C=1.0, source=None):
        super().__init__(C=C)
        self.source = source


def test_an_estimator_without_a_key_is_scored_for_this_search_only(uri, digits):
    model = Odd(source=Unsure())
    for _ in range(2):
        with pytest.warns(KeyNotCertain, match="source"):
            assert fit(uri, digits, estimator=model).scored == 6


class Forgetful:
    """What its pickles leave out, scores depend on."""

    def __init__(self, by):
        self.by = by

    def __reduce__(self):
        return Forgetful, (0,)


FORGETFUL = Forgetful(2)


def times(X):
    return X * FORGETFUL.by


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_an_estimator_changed_by_pickling_is_scored_for_this_search_only(uri, digits, n_jobs):
    model = make_pipeline(FunctionTransformer(times), SVC())
    for _ in range(2):
        with pytest.warns(KeyNotCertain, match="FORGETFUL"):
            found = fit(uri, digits, model, {"svc__C": [1, 2]}, n_jobs=n_jobs)
        assert found.scored == found.units


STATE = {"fits": 0}


def counted(X):
    STATE["fits"] += 1
    return X


def test_state_that_scoring_changes_is_named(uri, digits):
    model = make_pipeline(FunctionTransformer(counted), SVC())
    with pytest.warns(KeyNotCertain, match=r"STATE.*changed while units were scored"):
        fit(uri, digits, model, {"svc__C": [1, 2]})


def test_the_summary_says_that_only_versions_differ(uri, digits, monkeypatch):
    fit(uri, digits)
    first = environment.versions
    monkeypatch.setattr(planner, "versions", lambda m: {**first(m), "numpy": "1.0"})
    found = fit(uri, digits)
    assert (found.stored, found.scored) == (0, found.units)
    assert f"0 stored ({found.units} of other versions: numpy" in str(found)
