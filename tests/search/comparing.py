"""A search of ours against one of scikit-learn, entry by entry."""

import numpy as np


def assert_same_search(ours, theirs, X):
    """Every attribute that does not tell time is equal, exactly, and so are predictions."""
    assert_same_table(ours, theirs)
    for name in ("best_index_", "best_score_", "best_params_", "multimetric_", "n_splits_"):
        assert str(getattr(ours, name, "none")) == str(getattr(theirs, name, "none")), name
    assert repr(ours.scorer_) == repr(theirs.scorer_)
    if hasattr(theirs, "predict"):
        np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))


def assert_same_table(ours, theirs):
    """``cv_results_`` is equal but for times: keys and their order, types, masks and values."""
    columns = [name for name in ours.cv_results_ if name != "prefix_time_saved"]  # tells time, too
    assert columns == list(theirs.cv_results_)
    for key, expected in theirs.cv_results_.items():
        if "time" in key:
            continue
        got = ours.cv_results_[key]
        if isinstance(expected, np.ma.MaskedArray):
            assert got.dtype == expected.dtype
            np.testing.assert_array_equal(got.mask, expected.mask)
            assert list(got.compressed()) == list(expected.compressed())
        elif key == "params":
            assert [{k: str(v) for k, v in params.items()} for params in got] == [
                {k: str(v) for k, v in params.items()} for params in expected
            ]
        else:
            assert got.dtype == expected.dtype
            np.testing.assert_array_equal(got, expected, err_msg=key)
