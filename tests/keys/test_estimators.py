"""Estimators count by class and effective params."""

import functools
import pickle

import numpy as np
import pytest
from keys.equality import Own, all_differ, all_equal, effective, key
from sklearn.base import BaseEstimator, clone, config_context
from sklearn.ensemble import RandomForestClassifier, VotingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import f1_score, make_scorer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC

from optomatic.keys.estimators import Effective


def test_estimators_count_by_class_and_effective_params():
    all_equal(effective(SVC(C=2)), effective(clone(SVC(C=2))), effective(SVC(), {"C": 2}))
    all_differ(
        *map(effective, (SVC(C=2), SVC(C=2.0), SVC(C=np.float64(2)), SVC(C=2, gamma="auto"))),
        *map(effective, (make_pipeline(SVC()), Pipeline([("a", SVC())]), Own(), Ridge())),
    )


def test_only_the_effective_estimator_counts():
    model = make_pipeline(StandardScaler(), SVC())
    all_equal(
        effective(SVC(C=5), {"C": 2, "kernel": "rbf"}),
        effective(SVC(C=9, kernel="linear"), {"kernel": "rbf", "C": 2}),
        effective(SVC(C=2)),
    )
    all_equal(
        effective(model, {"svc__C": 3}),
        effective(model, {"svc": SVC(C=3)}),
        effective(model, {"steps": [("standardscaler", StandardScaler()), ("svc", SVC(C=3))]}),
        effective(make_pipeline(StandardScaler(), SVC(C=3))),
    )


def test_fitted_attributes_do_not_count_unless_clone_keeps_them():
    X, y = np.eye(4), [0, 1, 0, 1]
    fitted = LogisticRegression().fit(X, y)
    other = LogisticRegression().fit(X + 1, [1, 0, 0, 1])
    all_equal(effective(LogisticRegression()), effective(fitted))
    for contain in (lambda e: [("a", e)], lambda e: {"a": e}):
        all_equal(effective(Own(contain(SVC()))), effective(Own(contain(SVC().fit(X, y)))))
    all_differ(
        *[effective(FrozenEstimator(model)) for model in (fitted, other, LogisticRegression())]
    )


@pytest.mark.parametrize(
    "holding",
    [
        lambda model: lambda estimator, X, y: (estimator.predict(X) == model.predict(X)).mean(),
        lambda model: model.predict_proba,
        lambda model: make_scorer(f1_score, reference=model),
        lambda model: functools.partial(f1_score, reference=model),
        lambda model: {"init_model": model},
    ],
    ids=["closure", "bound method", "scorer", "partial", "fit params"],
)
def test_fitted_attributes_count_in_objects_that_are_not_cloned(holding):
    X, y = np.eye(4), [0, 1, 0, 1]
    one, other = LogisticRegression().fit(X, y), LogisticRegression().fit(X, [1, 0, 0, 1])
    all_differ(*[key(holding(model)) for model in (one, other, LogisticRegression())])
    all_equal(key(holding(one)), key(holding(pickle.loads(pickle.dumps(one)))))


def test_params_of_how_to_compute_do_not_count_unless_varied():
    forest = RandomForestClassifier
    all_equal(
        *map(effective, (forest(), forest(n_jobs=2), forest(verbose=1))),
        effective(forest(n_jobs=4), {"max_depth": None}),
    )
    all_equal(effective(Pipeline([("a", SVC())], memory="x")), effective(Pipeline([("a", SVC())])))
    nested = VotingClassifier([("a", forest())])
    all_equal(effective(nested), effective(clone(nested).set_params(a__n_jobs=2)))
    all_differ(effective(nested, {"a__n_jobs": 1}), effective(nested, {"a__n_jobs": 2}))
    all_differ(effective(forest(), {"n_jobs": 1}), effective(forest(), {"n_jobs": 2}))


def test_params_of_how_to_compute_count_in_user_classes():
    all_differ(effective(Own(n_jobs=1)), effective(Own(n_jobs=2)))


def test_metadata_requests_and_set_output_count():
    all_differ(
        effective(StandardScaler()), effective(StandardScaler().set_output(transform="pandas"))
    )
    with config_context(enable_metadata_routing=True):
        asking = [SVC().set_fit_request(sample_weight=ask) for ask in (True, False)]
        all_differ(*map(effective, (SVC(), *asking)))
        all_differ(*map(effective, (make_pipeline(SVC()), make_pipeline(asking[0]))))


VOTING = VotingClassifier(
    [("a", make_pipeline(StandardScaler(), SVC())), ("b", RandomForestClassifier())]
)


@pytest.mark.parametrize(
    ("base", "params"),
    [
        (SVC(), {"C": 3, "gamma": 0.1}),
        (SVC(), {"kernel": len}),
        (VOTING, {"a__svc__C": 3, "b__n_estimators": 5, "voting": "soft"}),
        (VOTING, {"a__svc__C": 3, "a__standardscaler__with_mean": False}),
        (VOTING, {"b": SVC(), "a__svc__C": 2}),
        (VOTING, {"a": "drop"}),
        (VOTING, {"a__svc": SVC(C=2), "a__svc__gamma": 1}),
        (VOTING, {"a__steps": [("svc", SVC())]}),
        (VOTING, {"b__n_jobs": 2}),
        (Own(), {"n_jobs": 3}),
    ],
)
def test_a_candidate_has_the_digest_of_the_estimator_with_its_params(base, params):
    applied = clone(base).set_params(**clone(params, safe=False))
    candidates = Effective(base, varied=tuple(params))
    wanted = effective(applied, varied=tuple(params))
    assert [candidates.of(params).hex for _ in range(3)] == [wanted] * 3
    assert candidates.of({}).hex == effective(base, varied=tuple(params))


class Coupled(BaseEstimator):
    def __init__(self, a=1, b=1):
        self.a = a
        self.b = b

    @property
    def a(self):
        return self._a

    @a.setter
    def a(self, value):
        self._a = self.b = value


class Reticent(SVC):
    """Does not say what it was given."""

    def get_params(self, deep=True):
        return {**super().get_params(deep), "C": "whatever"}


def test_params_that_set_others_or_are_unreported_count():
    coupled = Effective(Coupled(), varied=["a"])
    coupled.of({"a": 1})  # the same as before: nothing to be noticed
    all_differ(coupled.of({"a": 1}).hex, coupled.of({"a": 2}).hex)
    reticent = Effective(Reticent(), varied=["C"])
    all_differ(reticent.of({"C": 1}).hex, reticent.of({"C": 2}).hex)


def test_an_unknown_param_raises_scikit_learns_error():
    with pytest.raises(ValueError, match="Invalid parameter 'D'"):
        Effective(SVC()).of({"D": 1})


def test_layout_of_arrays_counts_in_params():
    """Rows of X come out in one order, but a sum over a whole param goes through its memory."""
    W = np.array([[0.1, 0.2], [0.3, 1e3]])
    makes = [lambda w: {"w": w}, lambda w: [w], lambda w: w]
    for make in makes:
        all_differ(
            effective(FunctionTransformer(kw_args=make(W))),
            effective(FunctionTransformer(kw_args=make(np.asfortranarray(W)))),
        )
