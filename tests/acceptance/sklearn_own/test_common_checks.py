"""``check_estimator`` and scikit-learn's other tests of all estimators, for our searches."""

import pytest
from in_place_of import GridSearchCV, imported_with_ours, their_tests
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_param_validation, parametrize_with_checks

from optomatic import MongoSearchCV

_module = imported_with_ours("sklearn.tests.test_common")
globals().update(their_tests(_module))

SEARCHES = [
    MongoSearchCV(Ridge(), {"alpha": [0.1, 1.0]}, cv=2, error_score="raise"),
    MongoSearchCV(
        make_pipeline(PCA(), LogisticRegression()),
        param_distributions={"logisticregression__C": [0.1, 1.0]},
        n_iter=2,
        random_state=0,
        cv=2,
        error_score="raise",
    ),
]


def _failed_by_theirs_too(_):
    return _module._get_expected_failed_checks(GridSearchCV(Ridge(), {}))


@parametrize_with_checks(SEARCHES, expected_failed_checks=_failed_by_theirs_too)
def test_estimator_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("search", SEARCHES)
def test_validation_of_all_parameters(search):
    check_param_validation("MongoSearchCV", search)
