"""scikit-learn's tests of meta-estimators and of metadata routing, for our searches."""

from in_place_of import imported_with_ours, their_tests

globals().update(their_tests(imported_with_ours("sklearn.tests.test_metaestimators")))
globals().update(
    their_tests(imported_with_ours("sklearn.tests.test_metaestimators_metadata_routing"))
)
