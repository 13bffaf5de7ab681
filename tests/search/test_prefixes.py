"""The same first steps of a pipeline are fitted once, and no score changes by that."""

import os
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import servers
from pymongo import MongoClient
from search.comparing import assert_same_table
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_digits
from sklearn.decomposition import NMF, PCA, TruncatedSVD
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer
from sklearn.feature_selection import SelectKBest, f_classif
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, PolynomialFeatures, StandardScaler
from sklearn.svm import SVC

from optomatic import MongoSearchCV

CV = 2


class Slow(TransformerMixin, BaseEstimator):
    """Leaves the data as they are, and takes its time for it."""

    def __init__(self, seconds=0.2, factor=1.0):
        self.seconds = seconds
        self.factor = factor

    def fit(self, X, y=None):
        time.sleep(self.seconds)
        self.n_seen_ = X.shape[0]
        return self

    def transform(self, X):
        return X if self.factor == 1.0 else X * self.factor


class Writing(Slow):
    """Writes into what it is fitted on."""

    def fit(self, X, y=None):
        super().fit(X)
        X *= 2.0
        return self


class Unseeded(Slow):
    """Adds noise that nobody has seeded."""

    def __init__(self, seconds=0.2, random_state=None):
        super().__init__(seconds)
        self.random_state = random_state

    def transform(self, X):
        return X + np.random.default_rng(self.random_state).normal(size=X.shape)


class Honest(Slow):
    """Says that it is not deterministic."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.non_deterministic = True
        return tags


_seeds = iter(range(1, 1000))


@pytest.fixture
def digits():
    """Rows of numbers that no other test has."""
    X, y = load_digits(return_X_y=True)
    rng = np.random.default_rng(hash((os.getpid(), next(_seeds))) % 2**32)
    return np.abs(X[:300] + rng.normal(scale=1e-6, size=(300, X.shape[1]))), y[:300]


def texts(digits):
    X, y = digits
    words = np.array([f"word{n}" for n in range(X.shape[1])])
    return [" ".join(np.repeat(words, (row / 4).astype(int))) for row in X], y


def frame(digits):
    X, y = digits
    columns = {f"n{n}": X[:, n + 10] for n in range(6)}
    return pd.DataFrame({**columns, "c": np.where(X[:, 20] > 8, "much", "little")}), y


def with_gaps(digits):
    X, y = digits
    X = X.copy()
    X[::7, 3::5] = np.nan
    return X, y


def as_is(digits):
    return digits


SGD = SGDClassifier(random_state=0, max_iter=5, tol=None)
TREES = RandomForestClassifier(n_estimators=5, random_state=0)
NUMBERS = Pipeline([("slow", Slow()), ("impute", SimpleImputer()), ("scale", StandardScaler())])
COLUMNS = ColumnTransformer([
    ("numbers", NUMBERS, [f"n{n}" for n in range(6)]),
    ("kinds", OneHotEncoder(), ["c"]),
])  # fmt: skip
INNER = Pipeline([("slow", Slow()), ("pca", PCA(5, random_state=0)), ("scale", StandardScaler())])
UNION = FeatureUnion([("slow", Pipeline([("slow", Slow()), ("pca", PCA(3, random_state=0))])),
                      ("best", SelectKBest(f_classif, k=4))])  # fmt: skip
#: Data, steps, grid.
PIPELINES = {
    "text": (
        texts,
        [("count", CountVectorizer()), ("tfidf", TfidfTransformer()), ("slow", Slow()),
         ("clf", SGD)],
        {"count__min_df": [1, 2], "clf__alpha": [1e-4, 1e-3]},
    ),
    "columns of a frame": (
        frame,
        [("columns", COLUMNS), ("clf", SGD)],
        {"columns__numbers__impute__strategy": ["mean", "median"], "clf__alpha": [1e-4, 1e-3]},
    ),
    "pca": (
        as_is,
        [("slow", Slow()), ("pca", PCA(random_state=0)), ("clf", SVC())],
        {"pca__n_components": [4, 9], "clf__C": [1.0, 5.0]},
    ),
    "polynomial features": (
        as_is,
        [("best", SelectKBest(f_classif, k=8)), ("poly", PolynomialFeatures()), ("slow", Slow()),
         ("scale", StandardScaler()), ("clf", SGD)],
        {"poly__degree": [2, 3], "clf__alpha": [1e-4, 1e-3]},
    ),
    "imputer, selector, forest": (
        with_gaps,
        [("impute", SimpleImputer()), ("slow", Slow()), ("best", SelectKBest(f_classif)),
         ("clf", TREES)],
        {"best__k": [5, 10], "clf__max_depth": [2, 4]},
    ),
    "nested": (
        as_is,
        [("inner", INNER), ("clf", SVC())],
        {"inner__pca__n_components": [3, 5], "clf__C": [1.0, 5.0]},
    ),
    "union": (
        as_is,
        [("union", UNION), ("clf", SVC())],
        {"union__best__k": [3, 5], "clf__C": [1.0, 5.0]},
    ),
    "seeded": (
        as_is,
        [("noise", Unseeded(random_state=3)), ("clf", SVC())],
        {"noise__random_state": [1, 2], "clf__C": [1.0, 5.0]},
    ),
    "sparse": (
        texts,
        [("count", CountVectorizer()), ("slow", Slow()), ("svd", TruncatedSVD(4, random_state=0)),
         ("scale", MinMaxScaler()), ("clf", SVC())],
        {"count__binary": [True, False], "clf__C": [1.0, 5.0]},
    ),
}  # fmt: skip


def search(uri, name, digits, n_jobs=None, **options):
    data, steps, grid = PIPELINES[name]
    X, y = data(digits)
    options = {"cv": CV, "db": uri, "n_jobs": n_jobs, "return_train_score": True, **options}
    return MongoSearchCV(Pipeline(steps), grid, **options).fit(X, y)


def forget(uri):
    """Remove all scores, so that the next search scores again."""
    with MongoClient(uri) as client:
        for collection in ("units", "searches", "search_units"):
            client.get_default_database()[collection].delete_many({})


def expected(name, digits):
    data, steps, grid = PIPELINES[name]
    found = GridSearchCV(Pipeline(steps), grid, cv=CV, return_train_score=True)
    return found.fit(*data(digits))


def same_scores(ours, theirs):
    ours.cv_results_.pop("prefix_time_saved", None)
    assert_same_table(ours, theirs)


@pytest.mark.parametrize("n_jobs", [None, 2, 0])
@pytest.mark.parametrize("name", PIPELINES)
def test_scores_are_those_of_gridsearchcv_also_on_the_second_run(
    uri, digits, start_worker, name, n_jobs
):
    if n_jobs == 0:
        start_worker(uri, "--processes", "2")
    theirs = expected(name, digits)
    found = search(uri, name, digits, n_jobs)
    assert "reused" in found.summary_.reused
    saved = found.cv_results_["prefix_time_saved"]
    assert (saved > 0).sum() >= len(saved) / 2
    same_scores(found, theirs)
    forget(uri)
    again = search(uri, name, digits, n_jobs)
    assert again.summary_.scored == len(saved) * CV
    assert again.summary_.reused.startswith(f"{len(saved) * CV} prefixes reused")
    same_scores(again, theirs)


def test_a_search_reuses_nothing_if_it_is_to(uri, digits):
    found = search(uri, "pca", digits, reuse_prefixes=False)
    assert found.summary_.reused == ""
    assert "prefix_time_saved" not in found.cv_results_


@pytest.mark.parametrize("step", [Unseeded(), Honest(), Slow(seconds=0.0)], ids=["u", "h", "s"])
def test_steps_are_left_alone_that_are_random_or_say_so_or_cost_nothing(uri, digits, step):
    X, y = digits
    pipeline = Pipeline([("step", step), ("clf", SVC())])
    found = MongoSearchCV(pipeline, {"clf__C": [1.0, 2.0, 3.0]}, cv=CV, db=uri).fit(X, y)
    assert found.summary_.reused == ""


def test_a_step_that_writes_into_its_input_is_left_alone(uri, digits):
    X, y = digits
    pipeline, grid = Pipeline([("step", Writing()), ("clf", SVC())]), {"clf__C": [1.0, 2.0, 3.0]}
    options = {"cv": CV, "return_train_score": True}
    found = MongoSearchCV(pipeline, grid, db=uri, **options).fit(X, y)
    assert found.summary_.reused == ""
    assert_same_table(found, GridSearchCV(pipeline, grid, **options).fit(X, y))


def test_a_step_with_fit_params_is_left_alone(uri, digits):
    X, y = digits
    pipeline = Pipeline([("slow", WithWeights()), ("clf", SVC())])
    found = MongoSearchCV(pipeline, {"clf__C": [1.0, 2.0]}, cv=CV, db=uri)
    assert found.fit(X, y, slow__sample_weight=np.ones(len(y))).summary_.reused == ""


class WithWeights(Slow):
    def fit(self, X, y=None, sample_weight=None):
        return super().fit(X)


def test_a_memory_of_the_users_is_left_alone(uri, digits, tmp_path):
    X, y = digits
    pipeline = Pipeline([("slow", Slow()), ("clf", SVC())], memory=str(tmp_path))
    found = MongoSearchCV(pipeline, {"clf__C": [1.0, 2.0]}, cv=CV, db=uri).fit(X, y)
    assert found.summary_.reused == ""
    assert any(tmp_path.iterdir())


def test_other_code_of_a_step_is_fitted_anew(uri, digits):
    X, y = digits

    def fitted(factor):
        step = type("Step", (Slow,), {"transform": lambda self, X: X * factor})()
        pipeline = Pipeline([("step", step), ("clf", SVC(gamma=0.001))])
        grid = {"clf__C": [1.0, 2.0]}
        found = MongoSearchCV(pipeline, grid, cv=CV, db=uri).fit(X, y)
        same_scores(found, GridSearchCV(pipeline, grid, cv=CV).fit(X, y))

    fitted(1.0)
    fitted(3.0)


def test_equal_steps_on_other_rows_are_fitted_anew(uri, digits):
    X, y = digits
    for shift in (0.0, 100.0):
        pipeline = Pipeline([("slow", Slow(factor=2.0)), ("clf", SVC())])
        grid = {"clf__C": [1.0, 2.0]}
        found = MongoSearchCV(pipeline, grid, cv=CV, db=uri).fit(X + shift, y)
        same_scores(found, GridSearchCV(pipeline, grid, cv=CV).fit(X + shift, y))


def test_nothing_is_believed_that_is_not_whole(uri, digits):
    search(uri, "pca", digits)
    files = list(Path(os.environ["OPTOMATIC_HOME"]).rglob("*.prefix"))
    assert files
    for n, path in enumerate(files):
        content = bytearray(path.read_bytes())
        if n % 3 == 0:
            content = content[: len(content) // 2]
        elif n % 3 == 1:
            content[-20] ^= 1
        else:
            content = bytearray(b"garbage")
        path.unlink()  # else the maps of other processes change
        path.write_bytes(content)
    forget(uri)
    again = search(uri, "pca", digits, n_jobs=1)
    same_scores(again, expected("pca", digits))


def test_files_stay_below_the_size_of_the_cache(uri, digits, monkeypatch, tmp_path):
    monkeypatch.setenv("OPTOMATIC_HOME", str(tmp_path))
    monkeypatch.setenv("OPTOMATIC_CACHE_SIZE", "2MB")
    X, y = np.tile(digits[0], (1, 4)), digits[1]
    pipeline = Pipeline([("slow", Slow(seconds=0.2)), ("clf", SVC())])
    grid = {"slow__factor": [1.0 + n / 8 for n in range(40)], "clf__C": [1.0, 2.0]}
    found = MongoSearchCV(pipeline, grid, cv=CV, db=uri).fit(X, y)
    assert X.nbytes * 40 > 10 * 2_000_000
    sizes = [path.stat().st_size for path in tmp_path.rglob("*.prefix")]
    assert sizes
    assert sum(sizes) <= 2_000_000
    same_scores(found, GridSearchCV(pipeline, grid, cv=CV).fit(X, y))


def test_steps_are_reused_without_classes_too(uri, digits):
    X, _ = digits
    pipeline = Pipeline([("slow", Slow()), ("clf", KMeans(n_init=1, random_state=0))])
    grid = {"clf__n_clusters": [2, 3, 4]}
    found = MongoSearchCV(pipeline, grid, cv=CV, db=uri).fit(X)
    assert found.summary_.reused
    same_scores(found, GridSearchCV(pipeline, grid, cv=CV).fit(X))


def test_the_best_estimator_and_its_pickle_are_scikit_learns_own(uri, digits):
    found = search(uri, "nested", digits)
    assert found.best_estimator_.memory is None
    assert found.best_estimator_["inner"].memory is None
    assert "transform" not in vars(found.best_estimator_["inner"])


def test_a_nonnegative_factorization_is_reused_with_its_seed(uri, digits):
    X, y = digits
    pipeline = Pipeline([("nmf", NMF(4, random_state=0, max_iter=300)),
                         ("clf", LogisticRegression(max_iter=50))])  # fmt: skip
    grid = {"clf__C": [0.1, 1.0, 10.0]}
    found = MongoSearchCV(pipeline, grid, cv=CV, db=uri).fit(X, y)
    same_scores(found, GridSearchCV(pipeline, grid, cv=CV).fit(X, y))


def test_the_database_has_what_was_saved(uri, digits):
    found = search(uri, "pca", digits)
    results = [unit["result"] for unit in servers.database(uri)["units"].find()]
    saved = sum(result.get("prefix_time_saved", 0.0) for result in results)
    assert saved == pytest.approx(found.cv_results_["prefix_time_saved"].sum())
