"""All kinds of data, splits and params of fit: as GridSearchCV, here and in local workers."""

import tempfile
import warnings
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from estimators import ConfigReader, Scoreless, Writer
from search.comparing import assert_same_search
from sklearn import config_context
from sklearn.base import clone
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.datasets import (
    load_breast_cancer,
    load_diabetes,
    load_digits,
    load_iris,
    load_linnerud,
    load_wine,
)
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Lasso, LogisticRegression, Ridge, SGDClassifier
from sklearn.metrics import make_scorer, mean_absolute_error, recall_score
from sklearn.metrics.pairwise import linear_kernel, pairwise_distances
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    LeaveOneGroupOut,
    PredefinedSplit,
    RepeatedStratifiedKFold,
    ShuffleSplit,
    StratifiedGroupKFold,
    TimeSeriesSplit,
    cross_val_score,
)
from sklearn.naive_bayes import MultinomialNB
from sklearn.neighbors import KernelDensity, KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KernelCenterer,
    OneHotEncoder,
    StandardScaler,
)
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from optomatic import MongoSearchCV
from optomatic.errors import RandomnessUnseeded

N = 120


@dataclass
class Case:
    """A search, and the data that it is fitted to."""

    estimator: Any
    grid: Any
    X: Any
    y: Any = None
    options: dict = field(default_factory=dict)
    params: dict = field(default_factory=dict)


def real(load):
    """Real rows, all classes of them mixed."""
    X, y = load(return_X_y=True)
    rows = np.random.RandomState(0).permutation(len(X))[:N]
    return X[rows], y[rows]


WEIGHT = np.random.RandomState(1).uniform(0.5, 2, N)
GROUPS = np.random.RandomState(2).randint(0, 6, N)
TREE = DecisionTreeClassifier(random_state=0)
DEPTHS = {"max_depth": [1, 4]}
WORDS = np.array("grid random search score split fold model data fit worker".split())  # noqa: SIM905


def texts():
    random = np.random.RandomState(0)
    labels = random.randint(0, 2, N)
    return [" ".join(random.choice(WORDS[3 * n : 3 * n + 7], 12)) for n in labels], list(labels)


def mixed_frame():
    """Numbers, strings, objects, categories, missing values, moments; an index with holes."""
    X, y = real(load_breast_cancer)
    random = np.random.RandomState(0)
    frame = pd.DataFrame(X[:, :3], columns=["mean radius", "texture", "größe"])
    frame["word"] = random.choice(["a", "b", "ü"], N)
    frame["object"] = pd.Series(random.choice(["x", "y"], N), dtype=object)
    frame["category"] = pd.Categorical(random.choice(["low", "high"], N), ["low", "high"])
    frame["count"] = pd.array(random.randint(0, 9, N), dtype="Int64")
    frame["flag"] = random.randint(0, 2, N).astype(bool)
    frame.index = pd.Index(np.arange(N) * 3 + 7, name="patient")
    return frame, pd.Series(np.where(y == 1, "benign", "malignant"), index=frame.index, name="type")


def encoded(*columns):
    encode = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), list(columns)), remainder="passthrough"
    )
    return make_pipeline(encode, TREE)


def as_days(frame):
    """Days since 1970, from a frame of moments."""
    return frame.apply(lambda column: column.astype("int64") / 86_400e9)


def mapped(array):
    """The same values, in a file."""
    with tempfile.TemporaryFile() as file:
        made = np.memmap(file, array.dtype, "w+", shape=array.shape)
    made[:] = array
    return made


def with_long_indices(X):
    made = scipy.sparse.csr_matrix(np.floor(X / 5))
    made.indices, made.indptr = made.indices.astype(np.int64), made.indptr.astype(np.int64)
    return made


@cache
def cases():
    digits, cancer, iris, wine = (
        real(load) for load in (load_digits, load_breast_cancer, load_iris, load_wine)
    )
    diabetes, linnerud = real(load_diabetes), load_linnerud(return_X_y=True)
    frame, kinds = mixed_frame()
    words, labels = texts()
    kernel = linear_kernel(digits[0])
    several = np.column_stack([iris[1] == 0, iris[1] == 1]).astype(int)
    weighted = {"sample_weight": WEIGHT}
    grouped = {"groups": GROUPS}
    rows = np.random.RandomState(3).permutation(N)
    masks = [(np.arange(N) % 3 != k, np.arange(N) % 3 == k) for k in range(3)]
    svc = {"C": [0.1, 10]}
    nan = cancer[0].copy()
    nan[::7, ::3] = np.nan
    found = {
        "sample_weight": Case(SVC(), svc, *wine, {"cv": 3}, weighted),
        "sample_weight as a list": Case(SVC(), svc, *wine, {"cv": 3}, {"sample_weight": [*WEIGHT]}),
        "sample_weight, several metrics": Case(
            SGDClassifier(random_state=0),
            {"alpha": [1e-4, 1e-1]},
            *cancer,
            {"scoring": ["accuracy", "recall"], "refit": "recall", "return_train_score": True},
            weighted,
        ),
        "groups": Case(TREE, DEPTHS, *cancer, {"cv": GroupKFold(3)}, grouped),
        "groups out": Case(TREE, DEPTHS, *wine, {"cv": LeaveOneGroupOut()}, grouped),
        "groups and strata": Case(
            TREE, DEPTHS, *cancer, {"cv": StratifiedGroupKFold(2)}, {"groups": list(GROUPS)}
        ),
        "groups and sample_weight": Case(
            TREE, DEPTHS, *cancer, {"cv": GroupKFold(2)}, {**grouped, **weighted}
        ),
        "cv is a list of pairs": Case(TREE, DEPTHS, *iris, {"cv": [*KFold(3).split(iris[0])]}),
        "cv is masks": Case(TREE, DEPTHS, *iris, {"cv": masks}),
        "cv overlaps and leaves rows out": Case(
            TREE, DEPTHS, *iris, {"cv": [(rows[:50], rows[40:60]), (list(rows[60:]), [3, 1, 2])]}
        ),
        "cv of times": Case(Ridge(), {"alpha": [1, 9]}, *diabetes, {"cv": TimeSeriesSplit(3)}),
        "cv is predefined": Case(TREE, DEPTHS, *iris, {"cv": PredefinedSplit(GROUPS - 1)}),
        "cv is repeated": Case(
            TREE, DEPTHS, *iris, {"cv": RepeatedStratifiedKFold(n_splits=2, random_state=0)}
        ),
        "precomputed kernel": Case(SVC(kernel="precomputed"), svc, kernel, digits[1], {"cv": 3}),
        "precomputed distances": Case(
            KNeighborsClassifier(metric="precomputed"),
            {"n_neighbors": [1, 5]},
            pairwise_distances(iris[0]),
            iris[1],
        ),
        "precomputed in a pipeline": Case(
            make_pipeline(KernelCenterer(), SVC(kernel="precomputed")),
            {"svc__C": [0.1, 10]},
            kernel,
            digits[1],
            {"cv": 3},
        ),
        "a frame": Case(
            encoded("word", "object", "category"),
            {"decisiontreeclassifier__max_depth": [1, None]},
            frame,
            kinds,
        ),
        "a frame with nothing but numbers": Case(
            TREE, DEPTHS, pd.DataFrame(iris[0], columns=list("abcd")), pd.Series(iris[1])
        ),
        "a frame of sparse columns": Case(
            LogisticRegression(max_iter=50),
            {"C": [0.1, 1]},
            pd.DataFrame.sparse.from_spmatrix(scipy.sparse.csr_matrix(np.floor(digits[0] / 5))),
            digits[1],
            {"cv": 2},
        ),
        "moments and missing words": Case(
            make_pipeline(
                make_column_transformer(
                    (OneHotEncoder(handle_unknown="ignore"), ["word"]),
                    (FunctionTransformer(as_days), ["when"]),
                ),
                TREE,
            ),
            {"decisiontreeclassifier__max_depth": [1, None]},
            pd.DataFrame(
                {
                    "when": pd.date_range("2020-03-28", periods=N, freq="5h", tz="Europe/Berlin"),
                    "word": np.where(GROUPS == 2, None, WORDS[GROUPS]),
                }
            ),
            iris[1],
        ),
        "categories": Case(
            HistGradientBoostingClassifier(
                max_iter=2, random_state=0, categorical_features="from_dtype"
            ),
            {"max_depth": [1, 3]},
            frame.drop(columns=["word", "object"]),
            kinds,
        ),
        "columns by type": Case(
            make_pipeline(
                make_column_transformer(
                    (StandardScaler(), make_column_selector(dtype_include=np.float64)),
                    (OneHotEncoder(), make_column_selector(dtype_include=["category"])),
                ),
                LogisticRegression(),
            ),
            {"logisticregression__C": [0.1, 1]},
            frame,
            kinds,
        ),
        "set_output": Case(
            make_pipeline(StandardScaler(), TREE).set_output(transform="pandas"),
            {"decisiontreeclassifier__max_depth": [1, 4]},
            pd.DataFrame(iris[0], columns=list("abcd")),
            iris[1],
        ),
        "an array of objects": Case(
            encoded(0, 1),
            {"columntransformer__remainder": ["passthrough", "drop"]},
            frame[["word", "object", "texture"]].to_numpy(dtype=object),
            kinds.to_numpy(object),
        ),
        "an array of strings": Case(
            make_pipeline(OneHotEncoder(handle_unknown="ignore"), SVC()),
            {"svc__C": [0.1, 10]},
            frame[["word", "object"]].to_numpy(dtype="U3"),
            kinds.to_numpy("U9"),
        ),
        "texts": Case(
            make_pipeline(TfidfVectorizer(), SVC()),
            {"tfidfvectorizer__ngram_range": [(1, 1), (1, 2)]},
            words,
            labels,
        ),
        "texts in a series": Case(
            make_pipeline(TfidfVectorizer(), SVC()), {"svc__C": [1, 2]}, pd.Series(words), labels
        ),
        "lists of lists": Case(TREE, DEPTHS, iris[0].tolist(), iris[1].tolist()),
        "tuples": Case(TREE, DEPTHS, tuple(map(tuple, iris[0])), tuple(iris[1])),
        "three dimensions": Case(
            Scoreless(),
            {"value": [0, 1]},
            digits[0].reshape(-1, 8, 8),
            digits[1] % 2,
            {"scoring": "accuracy"},
        ),
        "float32": Case(SVC(), svc, digits[0].astype(np.float32), digits[1], {"cv": 3}),
        "columns first": Case(
            Lasso(), {"alpha": [0.1, 1]}, np.asfortranarray(diabetes[0]), diabetes[1]
        ),
        "every second row and column": Case(
            Ridge(), {"alpha": [0.1, 1]}, real(load_diabetes)[0][::2, ::-2], diabetes[1][::2]
        ),
        "memory-mapped": Case(SVC(), svc, mapped(digits[0]), mapped(digits[1]), {"cv": 2}),
        "sparse, 64-bit indices": Case(
            MultinomialNB(), {"alpha": [0.1, 1]}, with_long_indices(digits[0]), digits[1], {"cv": 2}
        ),
        "bytes swapped": Case(TREE, DEPTHS, iris[0].astype(">f8"), iris[1].astype(">i4")),
        "missing values": Case(
            TREE,
            {"max_depth": [1, None]},
            nan,
            cancer[1],
        ),
        "several outputs": Case(DecisionTreeRegressor(random_state=0), DEPTHS, *linnerud),
        "several labels": Case(RandomForestClassifier(5, random_state=0), DEPTHS, iris[0], several),
        "a column as y": Case(Ridge(), {"alpha": [1, 2]}, diabetes[0], diabetes[1][:, None]),
        "no y": Case(PCA(), {"n_components": [1, 3]}, iris[0]),
        "no y, no predict": Case(KernelDensity(), {"bandwidth": [0.5, 1.0]}, iris[0]),
        "no score of its own": Case(
            Scoreless(),
            {"value": [0, 1, 2]},
            *iris,
            {"scoring": {"a": "accuracy", "b": make_scorer(mean_absolute_error)}, "refit": "a"},
        ),
        "a callable that scores": Case(
            Scoreless(),
            {"value": [0, 1, 2]},
            *iris,
            {
                "scoring": lambda model, X, y: {"hits": np.mean(model.predict(X) == y)},
                "refit": "hits",
            },
        ),
        "names as classes": Case(
            SVC(),
            svc,
            wine[0],
            np.array(["barolo", "grignolino", "barbera"])[wine[1]],
            {"scoring": "f1_macro"},
        ),
    }
    for name in ("csr", "csc", "coo", "bsr", "dia", "lil", "dok"):
        for kind in ("matrix", "array"):
            make = getattr(scipy.sparse, f"{name}_{kind}")
            found[f"sparse, {name}_{kind}"] = Case(
                SVC(kernel="linear"), svc, make(np.floor(digits[0] / 5)), digits[1], {"cv": 2}
            )
    return found


CASES = sorted(cases())


def fit(search, case, **options):
    made = search(case.estimator, case.grid, **case.options, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return made.fit(case.X, case.y, **case.params)


@pytest.mark.parametrize("name", CASES)
def test_as_gridsearchcv(uri, standalone_uri, name):
    case = cases()[name]
    theirs = fit(GridSearchCV, case)
    here = fit(MongoSearchCV, case, db=uri)
    assert_same_search(here, theirs, case.X)
    in_workers = fit(MongoSearchCV, case, db=standalone_uri, n_jobs=2)
    assert in_workers.summary_.scored == in_workers.summary_.units
    assert_same_search(in_workers, theirs, case.X)
    again = fit(MongoSearchCV, case, db=uri, n_jobs=2)
    assert again.summary_.scored == 0
    assert_same_search(again, theirs, case.X)


def test_polars_frames(uri):
    polars = pytest.importorskip("polars")
    X, y = real(load_iris)
    frame = polars.DataFrame(X, schema=list("abcd")).with_columns(
        polars.Series("kind", np.where(X[:, 0] > 5.8, "big", "small"))
    )
    encode = make_column_transformer(
        (OneHotEncoder(sparse_output=False), ["kind"]), remainder="passthrough"
    )
    model = make_pipeline(encode, SVC()).set_output(transform="polars")
    case = Case(model, {"svc__C": [0.1, 10]}, frame, polars.Series("y", y))
    try:
        theirs = fit(GridSearchCV, case)
    except ValueError as error:
        pytest.skip(f"this scikit-learn does not take this polars: {str(error)[-80:]}")
    assert_same_search(fit(MongoSearchCV, case, db=uri, n_jobs=2), theirs, frame)
    again = fit(MongoSearchCV, case, db=uri)
    assert again.summary_.scored == 0
    assert list(again.feature_names_in_) == ["a", "b", "c", "d", "kind"]
    # As a frame of pandas it is something else, and is scored as such.
    pandas = Case(
        clone(model).set_output(transform="default"),
        case.grid,
        pd.DataFrame(frame.to_dict(as_series=False)),
        y,
    )
    assert fit(MongoSearchCV, pandas, db=uri).summary_.stored == 0


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_metadata_routing(uri, n_jobs):
    X, y = real(load_breast_cancer)
    with config_context(enable_metadata_routing=True):
        model = LogisticRegression(max_iter=50).set_fit_request(sample_weight="w")
        scoring = make_scorer(recall_score).set_score_request(sample_weight="v")
        case = Case(
            make_pipeline(StandardScaler().set_fit_request(sample_weight=False), model),
            {"logisticregression__C": [0.01, 1]},
            X,
            y,
            {"cv": GroupKFold(3), "scoring": scoring},
            {"w": WEIGHT, "v": WEIGHT[::-1], "groups": GROUPS},
        )
        theirs = fit(GridSearchCV, case)
        assert_same_search(fit(MongoSearchCV, case, db=uri, n_jobs=n_jobs), theirs, X)
        assert fit(MongoSearchCV, case, db=uri).summary_.scored == 0
        other = replace(case, params={**case.params, "v": WEIGHT})
        assert fit(MongoSearchCV, other, db=uri).summary_.stored == 0
        with pytest.raises(TypeError, match=r"unexpected argument\(s\) \{'u'\}"):
            fit(MongoSearchCV, replace(case, params={"u": WEIGHT}), db=uri)


def test_unknown_params_raise_scikit_learns_errors(uri):
    case = Case(KNeighborsClassifier(), {"n_neighbors": [1]}, *real(load_iris), {}, {"w": WEIGHT})
    with pytest.raises(ValueError, match="unexpected keyword argument 'w'"):
        fit(MongoSearchCV, case, db=uri)
    with pytest.raises(ValueError, match="'groups' parameter should not be None"):
        fit(MongoSearchCV, replace(case, options={"cv": GroupKFold(2)}, params={}), db=uri)


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_a_fit_that_changes_its_params_changes_no_other_unit(uri, n_jobs):
    case = Case(Writer(), {"value": [1, 2]}, *real(load_iris), {"cv": 3, "refit": False})
    search = fit(MongoSearchCV, replace(case, params={"start": np.zeros(1)}), db=uri, n_jobs=n_jobs)
    assert list(search.cv_results_["mean_test_score"]) == [1, 1]


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_an_estimator_without_score_needs_scoring(uri, n_jobs):
    case = Case(Scoreless(), {"value": [0, 1]}, *real(load_iris))
    with pytest.raises(TypeError) as theirs:
        fit(GridSearchCV, case)
    with pytest.raises(TypeError) as ours:
        fit(MongoSearchCV, case, db=uri, n_jobs=n_jobs)
    assert str(ours.value) == str(theirs.value)


def test_a_generator_of_splits_is_used_once_and_all_candidates_share_it(uri):
    X, y = real(load_iris)
    case = Case(SVC(), {"C": [1, 1.0, 2]}, X, y)
    theirs = fit(GridSearchCV, replace(case, options={"cv": KFold(3).split(X)}))
    ours = fit(MongoSearchCV, replace(case, options={"cv": KFold(3).split(X)}), db=uri, n_jobs=2)
    assert_same_search(ours, theirs, X)
    assert fit(MongoSearchCV, replace(case, options={"cv": 3}), db=uri).n_splits_ == 3


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_an_unseeded_shuffler_is_asked_once_and_that_is_said_once(uri, n_jobs):
    X, y = real(load_iris)
    search = MongoSearchCV(SVC(), {"C": [1, 1.0]}, cv=ShuffleSplit(4), n_jobs=n_jobs, db=uri)
    with pytest.warns(RandomnessUnseeded, match=r"cv=ShuffleSplit.*random_state") as said:
        search.fit(X, y)
    (warning,) = [w for w in said if w.category is RandomnessUnseeded]
    assert warning.filename == __file__
    # An int and an equal float are the same to an SVC: on equal splits they score the same.
    for n in range(4):
        scores = search.cv_results_[f"split{n}_test_score"]
        assert scores[0] == scores[1]
    with pytest.warns(RandomnessUnseeded):
        again = clone(search).fit(X, y)
    assert again.summary_.stored == 0  # other splits, other scores


def test_warnings_of_a_nested_search_point_at_the_users_line(uri):
    X, y = real(load_iris)
    search = MongoSearchCV(SVC(), {"C": [1]}, cv=ShuffleSplit(2), db=uri)
    with pytest.warns(RandomnessUnseeded) as said:
        cross_val_score(search, X, y, cv=2)
    files = [w.filename for w in said if w.category is RandomnessUnseeded]
    assert files == [__file__, __file__]


@pytest.mark.parametrize(
    "cv",
    [
        3,
        None,
        KFold(3),
        KFold(3, shuffle=True, random_state=0),
        TimeSeriesSplit(3),
        ShuffleSplit(3, random_state=0),
        RepeatedStratifiedKFold(n_splits=2, random_state=0),
    ],
    ids=str,
)
def test_of_what_is_not_random_nothing_is_said(uri, cv):
    X, y = real(load_iris)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = RandomForestClassifier(3)  # random too, and so common that it is left alone
        MongoSearchCV(model, {"max_depth": [1]}, cv=cv, db=uri).fit(X, y)


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_the_global_configuration_reaches_the_fits(uri, n_jobs):
    case = Case(ConfigReader(), {"value": [0]}, *real(load_iris), {"refit": False})

    def score():
        search = fit(MongoSearchCV, case, db=uri, n_jobs=n_jobs)
        return search.cv_results_["mean_test_score"][0], search.summary_.stored

    with config_context(working_memory=12, assume_finite=True):
        assert score() == (12.5, 0)
    with config_context(working_memory=34):
        assert score() == (34, 0)
    with config_context(working_memory=12, assume_finite=True, print_changed_only=False):
        assert score() == (12.5, 5)


def test_output_in_frames_by_configuration(uri):
    X, y = real(load_iris)
    case = Case(
        make_pipeline(StandardScaler(), TREE),
        {"decisiontreeclassifier__max_depth": [1]},
        pd.DataFrame(X, columns=list("abcd")),
        y,
    )
    with config_context(transform_output="pandas"):
        search = fit(MongoSearchCV, case, db=uri, n_jobs=2)
        assert_same_search(search, fit(GridSearchCV, case), case.X)
    assert list(search.best_estimator_[-1].feature_names_in_) == list("abcd")
    assert fit(MongoSearchCV, case, db=uri).summary_.stored == 0
