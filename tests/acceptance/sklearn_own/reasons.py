"""The tests of scikit-learn's that do not hold for a search which remembers, and why."""

_DRAWN_TWICE = (
    "counts what goes on inside of the fits of a candidate that is drawn twice: it is one unit "
    "here, fitted once"
)
_SET_ONCE_MORE = (
    "counts calls of set_params; ours sets the params of each candidate once more, to key it"
)
#: These cannot pass as they are.
NOT_SO = {
    "test_custom_run_search": (
        "compares all public fitted attributes with those of a BaseSearchCV; ours has summary_ and "
        "search_id_ besides"
    ),
    "test_search_callbacks_propagation[search1-True]": _DRAWN_TWICE,
    "test_search_callbacks_propagation[search1-False]": _DRAWN_TWICE,
    "test_base_estimator_inputs[HalvingGridSearchCV]": _SET_ONCE_MORE,
    "test_base_estimator_inputs[HalvingRandomSearchCV]": _SET_ONCE_MORE,
}

_DRAWN_AGAIN = (
    "counts what goes on inside of the fits of a halving without a seed: where two of its rounds "
    "draw the same rows it is one unit here, fitted once"
)
_WARNED_BESIDES = (
    "counts warnings; ours has one more, that scoring has changed the scorer, unless all is stored"
)
#: These pass or not, as chance will have it.
BY_CHANCE = {
    **{
        f"test_searchcv_raise_warning_with_non_finite_score[{search}-{train}]": _WARNED_BESIDES
        for search in ("GridSearchCV-specialized_params0", "RandomizedSearchCV-specialized_params1")
        for train in (False, True)
    },
    "test_search_callbacks_propagation[search2-True]": _DRAWN_AGAIN,
    "test_search_callbacks_propagation[search2-False]": _DRAWN_AGAIN,
}

#: These look at what a scorer writes down while it scores, which it does once: they get a
#: database where nothing is stored yet.
NOTHING_STORED = {
    "test_multi_metric_search_forwards_metadata",
    "test_metadata_is_routed_correctly_to_scorer",
}
