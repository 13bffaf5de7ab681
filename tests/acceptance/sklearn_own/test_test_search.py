"""scikit-learn's tests of its searches, with MongoSearchCV in their place."""

from in_place_of import imported_with_ours, their_tests

globals().update(their_tests(imported_with_ours("sklearn.model_selection.tests.test_search")))
