"""Whole searches reuse scores by key, and workers score the same work."""

import os
import subprocess
import sys

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge, SGDRegressor
from sklearn.metrics import get_scorer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from optomatic import MongoSearchCV


def table(search):
    results = search.cv_results_
    names = sorted(name for name in results if name.startswith("split") and "_test_" in name)
    return [np.asarray(results[name], dtype=float).tobytes() for name in names]


def data():
    X, y = load_diabetes(return_X_y=True)
    return X[:60], y[:60]


def searched(uri, estimator, grid, n_jobs=None, fit=None, **options):
    options = {"cv": 2, "refit": False, **options}
    X, y = data()
    search = MongoSearchCV(estimator, grid, db=uri, n_jobs=n_jobs, **options)
    return search.fit(X, y, **(fit or {}))


def test_order_of_metrics_does_not_count(uri):
    names = ["r2", "neg_mean_squared_error", "neg_max_error"]
    for scoring in (names, names[::-1], {name: get_scorer(name) for name in sorted(names)}):
        found = searched(uri, Ridge(), {"alpha": [1.0]}, scoring=scoring).summary_
        assert found.scored == (2 if scoring is names else 0)


def test_order_of_fit_params_does_not_count(uri):
    _, y = data()
    given = {"coef_init": np.zeros(10), "intercept_init": np.zeros(1), "sample_weight": y}
    model, grid = SGDRegressor(random_state=0), {"alpha": [1.0]}
    assert searched(uri, model, grid, fit=given).summary_.scored == 2
    turned = dict(reversed(given.items()))
    assert searched(uri, model, grid, fit=turned).summary_.scored == 0
    assert searched(uri, model, grid, fit={**given, "sample_weight": y + 1}).summary_.scored == 2


def double(X):
    return X * 2


def cube(X):
    return X**3


class Picky(TransformerMixin, BaseEstimator):
    """Does something else with `double`, and counts rows for the scorer."""

    def __init__(self, function=None):
        self.function = function

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        LOG["rows"] = X.shape[0]
        X = self.function(X)
        return X[:, :1] if self.function is double else X


LOG = {"rows": 0}


def score_and_rows(estimator, X, y):
    return estimator.score(X, y) + LOG["rows"]


def test_workers_have_what_candidates_estimator_and_scorer_share(uri):
    model, grid = make_pipeline(Picky(cube), Ridge()), {"picky__function": [double, cube]}
    options = {"cv": 2, "refit": False, "scoring": score_and_rows}
    theirs = GridSearchCV(model, grid, **options).fit(*data())
    for n_jobs, scored in ((2, 4), (None, 0)):
        ours = searched(uri, model, grid, n_jobs, scoring=score_and_rows)
        assert table(ours) == table(theirs)
        assert ours.summary_.scored == scored


SCRIPT = """
import json, os
import numpy as np
from ownlib_of_tests import Own
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from optomatic import MongoSearchCV
X = np.random.RandomState(0).rand(60, 4)
y = X @ [1.0, 2, 3, 4]
model, grid = make_pipeline(Own(), Ridge()), {"ridge__alpha": [1.0]}
options = {"cv": 2, "refit": False}
ours = MongoSearchCV(model, grid, **options, db=os.environ["DB"]).fit(X, y)
theirs = GridSearchCV(model, grid, **options).fit(X, y)
same = ours.cv_results_["mean_test_score"] == theirs.cv_results_["mean_test_score"]
print(json.dumps([bool(same[0]), ours.summary_.scored]))
"""
LIBRARY = """
import deplib_of_tests
from sklearn.base import BaseEstimator, TransformerMixin
class Own(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None): return self
    def transform(self, X): return X[:, :{} + deplib_of_tests.K]
"""


def install(site, name, version, source, requires=(), folder=True):
    """Write what pip writes as it installs a folder."""
    (site / name).mkdir(parents=True, exist_ok=True)
    (site / name / "__init__.py").write_text(source)
    for old in site.glob(f"{name}-*.dist-info"):
        for file in old.iterdir():
            file.unlink()
        old.rmdir()
    info = site / f"{name}-{version}.dist-info"
    info.mkdir()
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {other}" for other in requires]
    (info / "METADATA").write_text("\n".join(lines) + "\n")
    (info / "RECORD").write_text(f"{name}/__init__.py,,\n{info.name}/METADATA,,\n")
    (info / "top_level.txt").write_text(f"{name}\n")
    (info / "INSTALLER").write_text("pip\n")
    if folder:
        (info / "direct_url.json").write_text('{"dir_info": {}, "url": "file:///somewhere"}')


def test_a_new_version_of_a_requirement_counts(uri, tmp_path):
    site = tmp_path / "site-packages"
    environment = {
        **os.environ,
        "DB": uri,
        "PYTHONPATH": str(site),
        "PYTHONDONTWRITEBYTECODE": "1",
    }

    def scored(columns, dependency, k):
        library = LIBRARY.format(columns)
        install(site, "ownlib_of_tests", "0.1.0", library, ["deplib_of_tests"])
        install(site, "deplib_of_tests", dependency, f"K = {k}\n", folder=False)
        found = subprocess.run(
            [sys.executable, "-c", SCRIPT],
            cwd=tmp_path,
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        )
        return found.stdout.strip().splitlines()[-1]

    assert scored(1, "1.0", 0) == "[true, 2]"
    assert scored(1, "1.0", 0) == "[true, 0]"
    assert scored(2, "1.0", 0) == "[true, 2]", "a folder that was edited and installed again"
    assert scored(2, "2.0", 1) == "[true, 2]", "another version of what it requires"
