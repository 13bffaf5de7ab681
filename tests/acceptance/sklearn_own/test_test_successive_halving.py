"""scikit-learn's tests of successive halving, with ours in place of its two classes."""

import in_place_of
from in_place_of import imported_with_ours, their_tests

_MODULE = imported_with_ours("sklearn.model_selection.tests.test_successive_halving")
globals().update(their_tests(_MODULE))


def test_it_is_ours_that_is_tested():
    for ours in in_place_of.HALVING:
        assert getattr(_MODULE, ours.__name__) is ours
