"""Which modules of the user's travel to workers: all of them, or those that are named."""

import os
import subprocess
import sys
import types
from pathlib import Path

import cloudpickle
import numpy as np
import pytest
from estimators import Sleeper
from pymongo import MongoClient

from optomatic import MongoSearchCV
from optomatic.errors import OptomaticError

ROOT = Path(__file__).parents[2]
X, Y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2
SOURCE = """
from sklearn.base import BaseEstimator
FACTOR = 2.0
class Own(BaseEstimator):
    def __init__(self, value=0):
        self.value = value
    def fit(self, X, y):
        return self
    def score(self, X, y):
        return FACTOR * self.value
"""


@pytest.fixture
def ghost(monkeypatch):
    """A module that only this process has."""
    return made("ghost", SOURCE, monkeypatch)


def made(name, source, monkeypatch):
    module = types.ModuleType(name)
    monkeypatch.setitem(sys.modules, name, module)
    exec(source, module.__dict__)
    return module


def search(estimator, uri, n_jobs=1, **options):
    # A limit has n_jobs=1 score in another process.
    options = {"cv": 2, "db": uri, "refit": False, "fit_timeout": 100, **options}
    return MongoSearchCV(estimator, {"value": [1, 2]}, n_jobs=n_jobs, **options)


def scores(fitted):
    return list(fitted.cv_results_["mean_test_score"])


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_module_of_this_process_alone_travels(uri, ghost, n_jobs):
    assert scores(search(ghost.Own(), uri, n_jobs=n_jobs).fit(X, Y)) == [2.0, 4.0]


@pytest.mark.parametrize("named", [[], ["functions"]])
def test_a_module_that_is_missing_elsewhere_scores_nothing(uri, ghost, named):
    with pytest.raises((ImportError, OptomaticError), match="ghost"):
        search(ghost.Own(), uri, n_jobs=2, ship_modules=named, error_score="raise").fit(X, Y)
    with MongoClient(uri) as client:
        units = client.get_default_database()["units"]
        assert units.count_documents({"state": "completed"}) == 0


@pytest.mark.parametrize("as_module", [False, True])
def test_named_modules_travel(uri, ghost, as_module):
    fitted = search(ghost.Own(), uri, ship_modules=[ghost if as_module else "ghost"]).fit(X, Y)
    assert scores(fitted) == [2.0, 4.0]
    assert "ghost" not in cloudpickle.list_registry_pickle_by_value()


def test_modules_beside_named_ones_do_not_travel(uri, ghost, monkeypatch):
    haunted = made("haunted", "import ghost\nclass Own(ghost.Own):\n    pass\n", monkeypatch)
    both = search(haunted.Own(), uri, ship_modules=["haunted", "ghost"]).fit(X, Y)
    assert scores(both) == [2.0, 4.0]
    with pytest.raises((ImportError, OptomaticError), match="ghost"):
        search(haunted.Own(), uri, cv=3, ship_modules=["haunted"], error_score="raise").fit(X, Y)


def test_modules_that_the_user_registered_stay_registered(uri, ghost):
    cloudpickle.register_pickle_by_value(ghost)
    try:
        search(ghost.Own(), uri, ship_modules=["ghost"]).fit(X, Y)
        assert "ghost" in cloudpickle.list_registry_pickle_by_value()
    finally:
        cloudpickle.unregister_pickle_by_value(ghost)


@pytest.mark.parametrize(
    ("modules", "error"), [("ghost", TypeError), ([3], TypeError), (["no_such"], ImportError)]
)
def test_wrong_modules_are_refused(uri, modules, error):
    with pytest.raises(error):
        search(Sleeper(), uri, ship_modules=modules).fit(X, Y)


@pytest.mark.parametrize("named", [None, ["helpers"]])
def test_scripts_and_named_modules_reach_a_standalone_worker(uri, tmp_path, named):
    """The worker has neither the script nor the module."""
    (tmp_path / "helpers.py").write_text("FACTOR = 2.0\n")
    script = tmp_path / "script.py"
    script.write_text(
        f"import sys\nimport numpy as np\nimport helpers\n"
        f"{SOURCE.replace('FACTOR = 2.0', '').replace('FACTOR *', 'helpers.FACTOR *')}\n"
        "from optomatic import MongoSearchCV\n"
        "X, y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2\n"
        "search = MongoSearchCV(Own(), {'value': [1, 2]}, cv=2, n_jobs=0, db=sys.argv[1],"
        f" refit=False, ship_modules={named}).fit(X, y)\n"
        "print(list(map(float, search.cv_results_['mean_test_score'])))\n"
    )
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "optomatic.worker", "--db", uri, "--max-units", "4"]
    worker = subprocess.Popen(command, env=environ, cwd=ROOT)
    try:
        done = subprocess.run(
            [sys.executable, script, uri], env=environ, capture_output=True, text=True, timeout=120
        )
        assert done.stdout.strip() == "[2.0, 4.0]", done.stderr
        assert worker.wait(120) == 0
    finally:
        worker.kill()
        worker.wait()
