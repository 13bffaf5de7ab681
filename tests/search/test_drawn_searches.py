"""Searches that nobody thought of: drawn from real data, models and options, and compared.

Each number stands for one search, the same in every run.
"""

import random
import warnings

import pytest
from scipy.stats import loguniform, randint, uniform
from search.comparing import assert_same_search
from sklearn.datasets import (
    load_breast_cancer,
    load_diabetes,
    load_digits,
    load_iris,
    load_wine,
)
from sklearn.decomposition import PCA
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import ElasticNet, LogisticRegression, Ridge
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    RandomizedSearchCV,
    RepeatedKFold,
    ShuffleSplit,
)
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import SVC, SVR
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from optomatic import MongoSearchCV

CLASSES = [load_breast_cancer, load_digits, load_iris, load_wine]
CLASSIFIERS = [
    (
        SVC(max_iter=5000),
        {"C": loguniform(0.01, 100), "kernel": ["rbf", "linear"], "gamma": ["scale", 0.01]},
    ),
    (
        LogisticRegression(max_iter=60),
        {"C": loguniform(0.01, 10), "class_weight": [None, "balanced"]},
    ),
    (KNeighborsClassifier(), {"n_neighbors": randint(1, 9), "weights": ["uniform", "distance"]}),
    (
        DecisionTreeClassifier(random_state=1),
        {"max_depth": [1, 3, None], "ccp_alpha": uniform(0, 0.05)},
    ),
    (GaussianNB(), {"var_smoothing": loguniform(1e-12, 1e-2), "priors": [None]}),
]
REGRESSORS = [
    (Ridge(), {"alpha": loguniform(0.01, 10), "fit_intercept": [True, False]}),
    (ElasticNet(), {"alpha": [0.01, 1.0], "l1_ratio": uniform(0, 1)}),
    (SVR(max_iter=5000), {"C": loguniform(0.1, 100), "epsilon": [0.01, 0.5]}),
    (KNeighborsRegressor(), {"n_neighbors": randint(1, 9), "p": [1, 2]}),
    (DecisionTreeRegressor(random_state=1), {"max_depth": [2, None], "min_samples_leaf": [1, 0.1]}),
]
SCORING = {
    True: [
        None,
        "accuracy",
        "f1_macro",
        ["accuracy", "f1_micro"],
        {"a": "accuracy", "b": "f1_macro"},
    ],
    False: [None, "r2", "neg_mean_absolute_error", ("r2", "neg_max_error"), {"a": "r2"}],
}


def draw(seed):
    """Return estimator, space, options and data of search number `seed`."""
    rng = random.Random(seed)
    classes = rng.random() < 0.7
    X, y = (rng.choice(CLASSES) if classes else load_diabetes)(return_X_y=True)
    rows = rng.sample(range(len(X)), 100)
    estimator, space = rng.choice(CLASSIFIERS if classes else REGRESSORS)
    if rng.random() < 0.5:
        steps = [("scale", StandardScaler()), ("reduce", PCA(2)), ("model", estimator)]
        estimator = Pipeline(steps)
        space = {f"model__{name}": values for name, values in space.items()}
        space["scale"] = [StandardScaler(), MinMaxScaler(), "passthrough"]
        space["reduce"] = ["passthrough", PCA(2, random_state=0), SelectKBest(k=2)]
    scoring = rng.choice(SCORING[classes])
    several = not (scoring is None or isinstance(scoring, str))
    options = {
        "scoring": scoring,
        "refit": rng.choice([sorted(scoring)[0], False]) if several else rng.random() < 0.9,
        "return_train_score": rng.random() < 0.5,
        "error_score": rng.choice([float("nan"), 0, -1.5]),
        "cv": rng.choice(
            [
                None,
                2,
                3,
                KFold(3, shuffle=True, random_state=seed),
                RepeatedKFold(n_splits=2, n_repeats=2, random_state=0),
                ShuffleSplit(3, random_state=7),
            ]
        ),
    }
    return estimator, space, options, X[rows], y[rows]


def grid_of(space):
    """Make a grid of a space that has distributions."""
    return {
        name: values.rvs(2, random_state=0).tolist() if hasattr(values, "rvs") else values
        for name, values in space.items()
    }


@pytest.mark.parametrize("seed", range(16))
def test_as_scikit_learn(uri, seed):
    estimator, space, options, X, y = draw(seed)
    if seed % 2:
        sampled = {"n_iter": 6, "random_state": seed, **options}
        searches = [
            RandomizedSearchCV(estimator, space, **sampled),
            MongoSearchCV(estimator, space, db=uri, **sampled),
            MongoSearchCV(estimator, param_distributions=space, n_jobs=2, db=uri, **sampled),
        ]
    else:
        grid = grid_of(space)
        searches = [
            GridSearchCV(estimator, grid, **options),
            MongoSearchCV(estimator, grid, n_jobs=2, db=uri, **options),
            MongoSearchCV(estimator, grid, db=uri, **options),
        ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs, ours, stored = (search.fit(X, y) for search in searches)
    assert ours.summary_.scored == ours.summary_.units
    assert stored.summary_.scored == 0
    for search in (ours, stored):
        assert_same_search(search, theirs, X)
