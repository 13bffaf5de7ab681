"""``check_estimator`` and scikit-learn's other tests of all estimators, for our searches."""

from in_place_of import imported_with_ours, their_tests

globals().update(their_tests(imported_with_ours("sklearn.tests.test_common")))
