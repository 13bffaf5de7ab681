"""What can be done with a search that is fitted, or that is not fitted yet."""

import copy
import io
import os
import pickle
import subprocess
import sys

import bson
import cloudpickle
import joblib
import numpy as np
import pandas as pd
import pytest
from estimators import InsideAsker
from pymongo import MongoClient
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.cluster import KMeans
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import (
    GridSearchCV,
    cross_val_predict,
    cross_val_score,
    cross_validate,
)
from sklearn.model_selection._search import BaseSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted

from optomatic import MongoSearchCV
from optomatic.errors import StoreURIError

X, Y = load_iris(return_X_y=True)
FRAME = pd.DataFrame(X, columns=["sepal length", "sepal width", "petal length", "petal width"])
SECRET = "the right one"


def both(uri, estimator, grid, X=X, y=Y, **options):
    theirs = GridSearchCV(estimator, grid, **options)
    ours = MongoSearchCV(estimator, grid, db=uri, **options)
    data = (X,) if y is None else (X, y)
    return ours.fit(*data), theirs.fit(*data)


METHODS = [
    "predict",
    "predict_proba",
    "predict_log_proba",
    "decision_function",
    "score_samples",
    "transform",
    "inverse_transform",
]
ATTRIBUTES = [
    "classes_",
    "n_features_in_",
    "feature_names_in_",
    "best_score_",
    "best_params_",
    "best_index_",
    "multimetric_",
    "n_splits_",
]
MODELS = {
    "classifier": (LogisticRegression(max_iter=500), {"C": [0.1, 1]}, FRAME, Y),
    "without probabilities": (SVC(), {"C": [0.1, 1]}, X, Y),
    "regressor": (Ridge(), {"alpha": [1, 2]}, *load_diabetes(return_X_y=True)),
    "transformer": (PCA(), {"n_components": [1, 2]}, X, None),
    "clusters": (KMeans(n_init=1, random_state=0), {"n_clusters": [2, 3]}, X, None),
}


@pytest.mark.parametrize("refit", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_methods_and_attributes_are_gridsearchcvs(uri, name, refit):
    estimator, grid, data, y = MODELS[name]
    ours, theirs = both(uri, estimator, grid, data, y, refit=refit)
    for attribute in ATTRIBUTES:
        same_outcome(lambda s, a=attribute: getattr(s, a), ours, theirs)
    given = data if not hasattr(theirs, "inverse_transform") else data[:, :2]
    for method in METHODS:
        rows = given if method == "inverse_transform" else data
        same_outcome(lambda s, m=method, rows=rows: getattr(s, m)(rows), ours, theirs)
    same_outcome(lambda s: s.score(data, y), ours, theirs)
    assert hasattr(ours, "refit_time_") is refit
    assert repr(ours.scorer_) == repr(theirs.scorer_)


def same_outcome(call, ours, theirs):
    """Both give the same, or raise the same in the same words."""
    try:
        expected = call(theirs)
    except Exception as error:
        with pytest.raises(type(error)) as caught:
            call(ours)
        words = str(error).replace("GridSearchCV", "MongoSearchCV")
        assert str(caught.value) == words
    else:
        np.testing.assert_array_equal(call(ours), expected)


def test_before_fit():
    search = MongoSearchCV(SVC(), {"C": [1]})
    with pytest.raises(NotFittedError):
        check_is_fitted(search)
    with pytest.raises(NotFittedError, match="MongoSearchCV instance is not fitted yet"):
        search.predict(X)
    assert not hasattr(search, "classes_")


def test_it_is_a_search_and_what_its_estimator_is(uri):
    search = MongoSearchCV(SVC(), {"C": [1]}, db=uri)
    assert isinstance(search, BaseSearchCV)
    assert is_classifier(search)
    assert is_regressor(MongoSearchCV(Ridge(), {"alpha": [1]}))
    for estimator in (SVC(kernel="precomputed"), KMeans(), LogisticRegression()):
        ours, theirs = get_tags(MongoSearchCV(estimator, {})), get_tags(GridSearchCV(estimator, {}))
        assert ours == theirs


def test_params_and_clones(uri):
    search = MongoSearchCV(make_pipeline(StandardScaler(), SVC()), {"svc__C": [1, 2]}, db=uri, cv=2)
    assert search.get_params()["estimator__svc__C"] == 1.0
    search.set_params(estimator__svc__kernel="linear", cv=3, name="iris")
    fitted = search.fit(X, Y)
    again = clone(fitted)
    assert not hasattr(again, "cv_results_")
    assert str(again.get_params()) == str(search.get_params())
    assert again.fit(X, Y).summary_.scored == 0


def test_in_html_and_text():
    search = MongoSearchCV(SVC(), {"C": [1]}, db=f"mongodb://ann:{SECRET}@somewhere/iris")
    for text in (search._repr_html_(), make_pipeline(search)._repr_html_(), repr(search)):
        assert "MongoSearchCV" in text
        assert SECRET not in text


# Pickles

SCRIPT = """
import pickle, sys
from sklearn.datasets import load_iris
X, y = load_iris(return_X_y=True)
search = pickle.load(sys.stdin.buffer)
print(search.score(X, y), search.best_params_, search.cv_results_["mean_test_score"].tolist())
"""


def test_a_fitted_search_is_used_where_no_database_is(uri):
    search = MongoSearchCV(SVC(), {"C": [0.1, 1]}, db=uri).fit(X, Y)
    environment = {**os.environ, "OPTOMATIC_DB": "mongodb://127.0.0.1:1/nobody"}
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        input=pickle.dumps(search),
        env=environment,
        capture_output=True,
        check=True,
        timeout=60,
    )
    expected = (
        search.score(X, Y),
        search.best_params_,
        search.cv_results_["mean_test_score"].tolist(),
    )
    assert run.stdout.decode().strip() == " ".join(map(str, expected))


def dumped_by_joblib(search):
    buffer = io.BytesIO()
    joblib.dump(search, buffer)
    return buffer.getvalue()


DUMPS = {"pickle": pickle.dumps, "cloudpickle": cloudpickle.dumps, "joblib": dumped_by_joblib}


def load(dumps, data):
    return joblib.load(io.BytesIO(data)) if dumps is dumped_by_joblib else pickle.loads(data)


def with_password(auth_server, name="after_fit"):
    return auth_server.uri(name, user="ann", password=SECRET.replace(" ", "%20"))


@pytest.mark.parametrize("how", DUMPS)
@pytest.mark.parametrize("nested", [False, True])
def test_a_fitted_search_is_pickled_without_password_and_data(
    auth_server, how, nested, monkeypatch
):
    uri, dumps = with_password(auth_server), DUMPS[how]
    X, y = load_breast_cancer(return_X_y=True)
    estimator, grid = LogisticRegression(solver="liblinear"), {"C": [0.1, 1]}
    if nested:
        estimator = MongoSearchCV(estimator, {"fit_intercept": [True, False]}, cv=2, db=uri)
        grid = {"estimator__C": [0.1, 1]}
    search = MongoSearchCV(estimator, grid, cv=2, db=uri).fit(X, y)
    data = dumps(search)
    assert b"right" not in data
    assert b"ann" not in data.replace(b"annot", b"").replace(b"channel", b"")
    assert X[5:7].tobytes() not in data
    assert len(data) < X.nbytes / 4
    loaded = load(dumps, data)
    np.testing.assert_array_equal(loaded.predict(X), search.predict(X))
    assert "***" in loaded.db
    # It is not lost here, and where it is, that is said in time, or it comes from elsewhere.
    assert search.db == copy.deepcopy(search).db == copy.copy(search).db == uri
    with pytest.raises(StoreURIError, match=r"pickled without.*OPTOMATIC_DB"):
        clone(loaded).fit(X, y)
    monkeypatch.setenv("OPTOMATIC_DB", uri)
    assert clone(loaded).fit(X, y).summary_.scored == 0
    monkeypatch.setenv("OPTOMATIC_DB", "mongodb://elsewhere/db")
    with pytest.raises(StoreURIError):
        clone(loaded).fit(X, y)


def test_no_password_of_candidates_or_of_what_is_in_them_is_pickled(auth_server):
    """Wherever a search inside of a fitted search keeps an address of its own."""
    uri = with_password(auth_server, "candidates")
    inner = MongoSearchCV(SVC(), {"C": [1, 2]}, cv=2, db=uri)
    model = Pipeline([("scale", StandardScaler()), ("model", inner)])
    many = OneVsRestClassifier(clone(inner))
    grid = [{"model": [many, SVC()]}, {"model__cv": [2]}]
    search = MongoSearchCV(model, grid, cv=2, db=uri).fit(X, Y)
    search.set_params(estimator__scale=many)
    data = pickle.dumps(search)
    assert b"right" not in data
    loaded = pickle.loads(data)
    np.testing.assert_array_equal(loaded.predict(X), search.predict(X))
    assert str(loaded.cv_results_["params"]) == str(search.cv_results_["params"])
    np.testing.assert_array_equal(
        loaded.cv_results_["param_model"].mask, search.cv_results_["param_model"].mask
    )
    assert [p["model"].estimator.db for p in search.cv_results_["params"][:1]] == [uri]
    assert inner.db == uri


@pytest.mark.parametrize("how", DUMPS)
def test_a_search_that_is_not_fitted_yet_finds_its_database(auth_server, how):
    search = MongoSearchCV(SVC(), {"C": [0.1, 1]}, cv=2, db=with_password(auth_server, "before"))
    loaded = load(DUMPS[how], DUMPS[how](search))
    assert loaded.db == search.db
    assert "***" in repr(loaded)
    loaded.fit(X, Y)
    assert copy.deepcopy(search).fit(X, Y).summary_.scored == 0


# Inside of other things


def test_in_a_pipeline(uri):
    search = MongoSearchCV(SVC(), {"C": [0.1, 1]}, cv=3, db=uri)
    ours = Pipeline([("scale", StandardScaler()), ("search", search)]).fit(X, Y)
    grid = GridSearchCV(SVC(), {"C": [0.1, 1]}, cv=3)
    theirs = make_pipeline(StandardScaler(), grid).fit(X, Y)
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))
    assert ours[-1].best_score_ == theirs[-1].best_score_
    many = OneVsRestClassifier(clone(search)).fit(X, Y)
    np.testing.assert_array_equal(many.predict(X), OneVsRestClassifier(grid).fit(X, Y).predict(X))


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_in_cross_val_score(uri, n_jobs):
    search = MongoSearchCV(SVC(), {"C": [0.1, 1]}, cv=3, db=uri)
    theirs = cross_val_score(GridSearchCV(SVC(), {"C": [0.1, 1]}, cv=3), X, Y)
    np.testing.assert_array_equal(cross_val_score(search, X, Y, n_jobs=n_jobs), theirs)
    again = cross_validate(search, X, Y, n_jobs=n_jobs, return_estimator=True)
    assert [fitted.summary_.scored for fitted in again["estimator"]] == [0] * 5
    cross_val_predict(search, X, Y, n_jobs=n_jobs)


@pytest.mark.parametrize(("n_jobs", "inside"), [(None, 0), (2, 1)])
def test_an_estimator_in_a_worker_knows_that_it_is_inside(uri, n_jobs, inside):
    search = MongoSearchCV(InsideAsker(), {"value": [1]}, n_jobs=n_jobs, db=uri).fit(X, Y)
    assert search.best_score_ == inside


@pytest.mark.parametrize("inner", [None, 2])
@pytest.mark.parametrize("outer", [None, 2])
def test_a_search_in_a_search(auth_server, standalone_uri, outer, inner):
    uri = with_password(auth_server, f"nested_{outer}_{inner}")
    grid, steps = {"C": [0.1, 1]}, {"estimator__gamma": [0.1, "scale"]}
    theirs = GridSearchCV(GridSearchCV(SVC(), grid, cv=2), steps, cv=3).fit(X, Y)
    search = MongoSearchCV(SVC(), grid, cv=2, n_jobs=inner, db=uri)
    ours = MongoSearchCV(search, steps, cv=3, n_jobs=outer, db=uri).fit(X, Y)
    for key, scores in theirs.cv_results_.items():
        if key.endswith("_test_score"):
            np.testing.assert_array_equal(ours.cv_results_[key], scores)
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))
    # Where the inner one keeps its scores says nothing about them.
    elsewhere = clone(ours).set_params(estimator__db=standalone_uri, estimator__n_jobs=None)
    assert elsewhere.fit(X, Y).summary_.scored == 0
    found = stored_bytes(auth_server, f"nested_{outer}_{inner}")
    assert b"ann" not in found.replace(b"annot", b"")
    assert SECRET.replace(" ", "%20").encode() not in found


def test_searches_as_candidates_take_no_address_with_them(uri):
    """Workers score them without a database, so it does not matter that there is none."""
    db = "mongodb://ann:s3cret@nowhere.invalid/iris"
    inner = [MongoSearchCV(SVC(), {"C": [c, 1]}, cv=2, db=db) for c in (0.1, 10)]
    model = Pipeline([("scale", StandardScaler()), ("model", SVC())])
    ours = MongoSearchCV(model, {"model": inner}, cv=2, n_jobs=2, refit=False, db=uri).fit(X, Y)
    plain = [GridSearchCV(SVC(), {"C": [c, 1]}, cv=2) for c in (0.1, 10)]
    theirs = GridSearchCV(model, {"model": plain}, cv=2, refit=False).fit(X, Y)
    np.testing.assert_array_equal(*(s.cv_results_["mean_test_score"] for s in (ours, theirs)))
    with MongoClient(uri) as client:
        found = bytes_in(client.get_default_database())
    assert b"s3cret" not in found
    assert b"MongoSearchCV" in found


def stored_bytes(server, name):
    with MongoClient(with_password(server, name)) as client:
        return bytes_in(client.get_default_database())


def bytes_in(database):
    """Everything that a database holds, as it would lie on a disk."""
    return b"".join(
        bson.encode(document)
        for collection in database.list_collection_names()
        for document in database[collection].find()
    )
