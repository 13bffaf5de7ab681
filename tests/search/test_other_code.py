"""No score of other code than that of the process which asks is ever stored.

Code that travels is scored as this process has it, whatever stands in files.  Of modules that go
by name (``ship_modules=[]``) workers have their own files, and leave them alone where they differ.
"""

import importlib
import os
import sys
import textwrap
import threading
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from estimators import Sleeper
from joblib import parallel_config
from joblib.externals.loky import get_reusable_executor
from servers import database
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from waiting import wait_for

from optomatic import MongoSearch, MongoSearchCV
from optomatic.errors import NoWorkers, OtherCode, WorkersRefuse
from optomatic.worker.pool import close_all

ROOT = Path(__file__).parents[2]
LONG_AGO = 1_000_000_000
X, Y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2
MODEL = """
from sklearn.base import BaseEstimator

OFFSET = {base}

def base(value):
    return value + OFFSET

class Model(BaseEstimator):
    def __init__(self, value=0):
        self.value = value
    def fit(self, X, y):
        self.fitted_ = True
        return self
    def score(self, X, y):
        return base(self.value)

def score(params):
    return base(params["value"])
"""


#: A worker that tries again what it has refused after so many seconds, and logs that it did.
EAGER = """
import logging
logging.getLogger("optomatic.worker.dispatch").setLevel("DEBUG")
from optomatic.worker import __main__, dispatch
dispatch.AGAIN = {}
__main__.main()
"""


def states(uri):
    fields = ("state", "losses", "runs", "machine_failures")
    return {tuple(unit[name] for name in fields) for unit in database(uri)["units"].find()}


@pytest.fixture(autouse=True)
def no_warm_children():
    close_all()
    yield
    close_all()


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module into a checkout of this process; return it imported, and its file."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.syspath_prepend(str(tmp_path / "here"))
    (tmp_path / "here").mkdir()
    names = []

    def write(name, text):
        path = tmp_path / "here" / f"{name}.py"
        path.write_text(textwrap.dedent(text))
        os.utime(path, (LONG_AGO, LONG_AGO))  # it stood there before this process began
        importlib.invalidate_caches()
        names.append(name)
        return importlib.import_module(name), path

    yield write
    for name in names:
        sys.modules.pop(name, None)


@pytest.fixture
def start_worker(tmp_path, start_worker):
    """Start a worker with a checkout of its own; lines of its log come with it."""

    def start(uri, checkout, *arguments, again=None, **files):
        folder = tmp_path / checkout
        folder.mkdir(exist_ok=True)
        for name, text in files.items():
            (folder / f"{name}.py").write_text(text)
        log = tmp_path / f"{checkout}.log"
        main = ("-m", "optomatic.worker") if again is None else ("-c", EAGER.format(again))
        path = os.pathsep.join([str(folder), str(ROOT)])
        environ = {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
        with log.open("w") as file:
            command = ("-P", *main)
            worker = start_worker(
                uri, *arguments, command=command, cwd=folder, stderr=file, **environ
            )
        assert "ready" in worker.stdout.readline()
        return log

    return start


@pytest.fixture
def heard(monkeypatch):
    """What fit warns of while it waits, in whatever thread."""
    monkeypatch.setattr("optomatic.worker.missing_workers.LONELY_SECONDS", 0.5)
    said = []
    monkeypatch.setattr(
        "optomatic.worker.missing_workers.warn",
        lambda text, category=UserWarning, **_: (
            said.append((category, text)) if category in (NoWorkers, WorkersRefuse) else None
        ),
    )
    return said


def in_thread(call):
    found = []
    thread = threading.Thread(target=lambda: found.append(call()), daemon=True)
    thread.start()

    def result():
        thread.join(120)
        return found[0]

    return result


def searched(estimator, uri, **options):
    return MongoSearchCV(
        estimator, {"value": [1, 2]}, **{"cv": 2, "db": uri, "refit": False, "n_jobs": 0, **options}
    )


def by_name(estimator, uri, **options):
    """Return a search none of whose modules travel."""
    return searched(estimator, uri, ship_modules=[], **options)


def scores(search):
    return list(search.cv_results_["mean_test_score"])


def engine(backend):
    """Have a backend of joblib score, or local workers where it is None."""
    return nullcontext() if backend is None else parallel_config(backend=backend)


# Modules that go by name


def test_a_worker_with_other_files_scores_nothing_and_others_go_on(
    uri, module, start_worker, heard
):
    mine, _ = module("mymodel", MODEL.format(base=100))
    log = start_worker(uri, "old", mymodel=MODEL.format(base=999))
    result = in_thread(lambda: by_name(mine.Model(), uri).fit(X, Y))
    wait_for(lambda: heard)
    category, text = heard[0]
    assert category is NoWorkers
    assert "needed is the code that the search was made with (worker" in text
    assert "mymodel" in text
    assert "Update the code there" in text
    wait_for(lambda: states(uri) == {("queued", 0, 0, 0)})
    (line,) = [line for line in log.read_text().splitlines() if "leaves alone" in line]
    assert "mymodel" in line
    assert "looks again every minute" in line
    start_worker(uri, "new", mymodel=MODEL.format(base=100))
    assert scores(result()) == [101, 102]
    assert states(uri) == {("completed", 0, 1, 0)}
    assert log.read_text().count("leaves alone") == 1


def test_a_worker_that_refused_a_search_goes_on_with_others(uri, module, start_worker, heard):
    right, wrong = MODEL.format(base=100), MODEL.format(base=999)
    mine, _ = module("mymodel", right)
    other, _ = module("othermodel", right)
    start_worker(uri, "old", mymodel=wrong, othermodel=right)
    result = in_thread(lambda: by_name(mine.Model(), uri).fit(X, Y))
    workers, units = database(uri)["workers"], database(uri)["units"]
    wait_for(lambda: workers.find_one({"refused": {"$gt": {}}}))
    old = workers.find_one({"kind": "standalone"})["_id"]
    plain = MongoSearchCV(DummyClassifier(), {"strategy": ["prior"]}, cv=2, db=uri, n_jobs=0)
    plain.set_params(refit=False)
    assert in_thread(lambda: plain.fit(X, Y))().summary_.scored == 2
    assert scores(in_thread(lambda: searched(mine.Model(3), uri, cv=3).fit(X, Y))()) == [101, 102]
    assert scores(in_thread(lambda: by_name(other.Model(), uri).fit(X, Y))()) == [101, 102]
    assert units.distinct("completed_by", {"state": "completed"}) == [old]
    heard.clear()
    start_worker(uri, "new", mymodel=right)
    assert scores(result()) == [101, 102]
    assert all(f"worker {old[:4]} on" in text for _, text in heard)


def test_fit_tells_who_refused_while_others_go_on(uri, module, start_worker, heard):
    right = MODEL.format(base=100)
    slow = right.replace("return self\n", "__import__('time').sleep(0.2); return self\n")
    mine, _ = module("mymodel", slow)
    start_worker(uri, "old", mymodel=right)
    result = in_thread(lambda: by_name(mine.Model(), uri, cv=6).fit(X, Y))
    wait_for(lambda: database(uri)["workers"].find_one({"refused": {"$gt": {}}}))
    old = database(uri)["workers"].find_one({"kind": "standalone"})["_id"]
    start_worker(uri, "new", mymodel=slow)
    wait_for(lambda: WorkersRefuse in dict(heard) or NoWorkers in dict(heard))
    assert scores(result()) == [101, 102]
    assert all(f"worker {old[:4]} on" in text for _, text in heard)
    assert old not in database(uri)["units"].distinct("completed_by")


@pytest.mark.parametrize("before", [MODEL.format(base=999), None])
def test_a_worker_whose_files_are_mended_after_it_refused_scores(
    uri, module, start_worker, tmp_path, before
):
    """A checkout that comes late, or files that are seen late; nobody restarts the worker."""
    mine, _ = module("mymodel", MODEL.format(base=100))
    files = {} if before is None else {"mymodel": before}
    log = start_worker(uri, "late", again=0.5, **files)
    result = in_thread(lambda: by_name(mine.Model(), uri).fit(X, Y))
    workers = database(uri)["workers"]
    wait_for(lambda: workers.find_one({"refused": {"$gt": {}}}))
    # Released so often, it has tried again; that costs the units nothing.
    wait_for(lambda: log.read_text().count("DEBUG child") >= 2)
    wait_for(lambda: states(uri) == {("queued", 0, 0, 0)})
    text = log.read_text()
    assert text.count("leaves alone") == 1
    assert text.count("is at work") == text.count("INFO child") == 1
    (tmp_path / "late" / "mymodel.py").write_text(MODEL.format(base=100))
    assert scores(result()) == [101, 102]
    assert states(uri) == {("completed", 0, 1, 0)}
    wait_for(lambda: workers.find_one({"kind": "standalone"})["refused"] == {})


def test_a_worker_that_is_behind_its_files_catches_up(uri, module, start_worker, tmp_path):
    """Its checkout was updated after it had imported the module."""
    mine, path = module("mymodel", MODEL.format(base=100))
    log = start_worker(uri, "there", mymodel=MODEL.format(base=100))
    assert scores(by_name(mine.Model(), uri).fit(X, Y)) == [101, 102]
    for base in (20_000, 3_000_000):
        path.write_text(MODEL.format(base=base))
        (tmp_path / "there" / "mymodel.py").write_text(MODEL.format(base=base))
        mine = importlib.reload(mine)
        assert scores(by_name(mine.Model(), uri).fit(X, Y)) == [base + 1, base + 2]
    assert "leaves alone" not in log.read_text()
    assert states(uri) == {("completed", 0, 1, 0)}


def test_a_worker_that_only_refuses_is_idle(uri, module, start_worker):
    mine, _ = module("mymodel", MODEL.format(base=100))
    MongoSearch(mine.score, {"value": [1, 2]}, db=uri, n_jobs=0, ship_modules=[]).submit()
    log = start_worker(uri, "old", "--max-idle", "3", again=0.5, mymodel=MODEL.format(base=999))
    wait_for(lambda: "ends: 0 units scored, 0 of them with failures, 0 crashes" in log.read_text())
    assert "is replaced, as it refused a unit: " in log.read_text()
    assert "killed" not in log.read_text()
    assert states(uri) == {("queued", 0, 0, 0)}


def test_a_worker_without_the_module_leaves_it_to_others(uri, module, start_worker, heard):
    mine, _ = module("mymodel", MODEL.format(base=100))
    log = start_worker(uri, "empty")
    search = MongoSearch(mine.score, {"value": [1, 2]}, db=uri, n_jobs=0, ship_modules=[])
    result = in_thread(search.run)
    wait_for(lambda: heard)
    assert "mymodel" in heard[0][1]
    wait_for(lambda: states(uri) == {("queued", 0, 0, 0)})
    (line,) = [line for line in log.read_text().splitlines() if "leaves alone" in line]
    assert "mymodel" in line
    start_worker(uri, "whole", mymodel=MODEL.format(base=100))
    assert list(result().results_["score"]) == [101, 102]
    assert states(uri) == {("completed", 0, 1, 0)}


def test_edited_files_are_scored_anew_once_they_are_loaded(uri, module):
    """By local workers that are warm, and had imported what stood there before."""
    mine, path = module("mymodel", MODEL.format(base=100))
    assert scores(by_name(mine.Model(), uri, n_jobs=2).fit(X, Y)) == [101, 102]
    path.write_text(MODEL.format(base=20_000))
    mine = importlib.reload(mine)
    search = by_name(mine.Model(), uri, n_jobs=2).fit(X, Y)
    assert scores(search) == [20_001, 20_002]
    assert search.summary_.stored == 0
    again = by_name(mine.Model(), uri, n_jobs=2).fit(X, Y)
    assert scores(again) == [20_001, 20_002]
    assert again.summary_.scored == 0


@pytest.mark.parametrize("backend", [None, "loky"])
def test_a_file_that_was_edited_after_it_was_imported_ends_the_search_in_words(
    uri, module, backend
):
    """New processes import it as it is now, and this one has it as it was."""
    mine, path = module("mymodel", MODEL.format(base=100))
    path.write_text(MODEL.format(base=999))
    get_reusable_executor().shutdown(kill_workers=True)  # those of other tests know other paths
    with engine(backend), pytest.raises(OtherCode, match="mymodel"):
        by_name(mine.Model(), uri, n_jobs=2).fit(X, Y)
    units = list(database(uri)["units"].find())
    assert {(unit["losses"], unit["result"]) for unit in units} == {(0, None)}
    assert scores(by_name(mine.Model(), uri, n_jobs=None).fit(X, Y)) == [101, 102]


def test_a_constant_that_the_program_has_set_is_not_scored_with_another(uri, module):
    """Workers import the module anew, so they have what stands in its file."""
    mine, _ = module("mymodel", MODEL.format(base=100))
    mine.OFFSET = 300
    with pytest.raises(OtherCode, match="mymodel"):
        by_name(mine.Model(), uri, n_jobs=2).fit(X, Y)
    assert "completed" not in {state for state, *_ in states(uri)}
    assert scores(by_name(mine.Model(), uri, n_jobs=None).fit(X, Y)) == [301, 302]
    assert scores(searched(mine.Model(), uri, n_jobs=2, cv=3).fit(X, Y)) == [301, 302]


# Modules that travel


@pytest.fixture
def loky():
    """Joblib's workers, none of which knows anything yet."""
    get_reusable_executor().shutdown(kill_workers=True)
    with parallel_config(backend="loky"):
        yield
    get_reusable_executor().shutdown(kill_workers=True)


def patched(mine, how):
    """Change a module as it lies in memory."""
    if how == "constant":
        mine.OFFSET = 300
    elif how == "function":
        mine.base = lambda value: value + 400
    else:
        mine.Model.score = lambda self, X, y: self.value + mine.OFFSET + 500


@pytest.mark.parametrize("how", ["constant", "function", "method"])
def test_joblibs_workers_score_patched_code(uri, module, loky, how):
    mine, path = module("mymodel", MODEL.format(base=100))
    path.write_text("this is no Python")
    for change in (lambda: None, lambda: patched(mine, how)):
        change()
        found = searched(mine.Model(), uri, n_jobs=2).fit(X, Y)
        theirs = GridSearchCV(mine.Model(), {"value": [1, 2]}, cv=2, refit=False).fit(X, Y)
        assert scores(found) == scores(theirs)
        assert found.summary_.stored == 0


def test_candidates_take_their_code_to_joblibs_workers(uri, module, loky):
    mine, path = module("mymodel", MODEL.format(base=100))
    path.write_text(MODEL.format(base=999))
    mine.OFFSET = 300
    steps = Pipeline([("model", DummyClassifier())])
    grid = {"model": [mine.Model(1), mine.Model(2)]}
    search = MongoSearchCV(steps, grid, cv=2, db=uri, refit=False, n_jobs=2).fit(X, Y)
    assert scores(search) == [301, 302]


LAZY = """
def score(params):
    import lazy
    return lazy.times(params["value"])
"""


@pytest.mark.parametrize("backend", [None, "loky"])
def test_a_module_that_is_imported_as_code_runs_is_as_this_process_has_it(uri, module, backend):
    lazy, path = module("lazy", "def times(value):\n    return 2 * value\n")
    mine, _ = module("lazily", LAZY)
    path.write_text("raise SystemExit('no display')")
    get_reusable_executor().shutdown(kill_workers=True)

    def run():
        search = MongoSearch(mine.score, {"value": [1, 2]}, db=uri, n_jobs=2)
        return list(search.run().results_["score"])

    with engine(backend):
        assert run() == [2, 4]
        lazy.times = lambda value: 3 * value
        assert run() == [3, 6]


TRICKY = """
import functools
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.metrics import accuracy_score, make_scorer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.tree import DecisionTreeClassifier

CALLS, SEEN, COUNT, MODE, built = [], {}, 0, "slow", None

def traced(function):
    @functools.wraps(function)
    def inner(*args, **kwargs):
        CALLS.append(function.__name__)
        return function(*args, **kwargs)
    return inner

def bare(function):
    return lambda *args: function(*args)

@traced
def halve(X):
    return X / 2

@bare
def double(X):
    return X * 2

@functools.lru_cache
def known(n):
    return n + 1

def accuracy(model, X, y, part=1.0):
    global COUNT, built
    COUNT += 1
    SEEN[part] = COUNT
    built = built or (lambda score: score * part)
    known(COUNT)
    return accuracy_score(y, model.predict(X)) * part

half = functools.partial(accuracy, part=0.5)

class Kind(Enum):
    PLAIN = 1

class Pair(NamedTuple):
    left: int = 1
    right: int = 2

def closed_over(column):
    class Base(ClassifierMixin, BaseEstimator):
        def fit(self, X, y):
            self.classes_ = np.unique(y)
            return self
        def predict(self, X):
            return (X[:, column] > 20).astype(int)
    return Base

class OfAClosure(closed_over(0)):
    made, kind, pair = 0, Kind.PLAIN, Pair()
    def __init__(self, max_depth=1):
        OfAClosure.made += 1
        self.max_depth = max_depth
    @property
    def depth(self):
        return self.max_depth
    @staticmethod
    def two():
        return 2

@dataclass
class OfFields(ClassifierMixin, BaseEstimator):
    max_depth: int = 1
    columns: list = field(default_factory=list)
    def fit(self, X, y):
        self.model_ = DecisionTreeClassifier(max_depth=self.max_depth, random_state=0).fit(X, y)
        self.classes_ = self.model_.classes_
        return self
    def predict(self, X):
        return self.model_.predict(X)

class Passing(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        return self
    def transform(self, X):
        return double(halve(X))

def piped():
    steps = [FunctionTransformer(halve), FunctionTransformer(double), Passing()]
    return make_pipeline(*steps, DecisionTreeClassifier(random_state=0))
"""


@pytest.mark.parametrize("backend", [None, "loky"])
def test_code_that_changes_itself_as_it_runs_is_never_refused(uri, module, backend):
    """Decorated, partial, made by functions or generated; with globals that a program changes."""
    tricky, _ = module("tricky", TRICKY)
    tricky.MODE = "fast"
    tricky.accuracy(tricky.OfAClosure().fit(X, Y), X, Y)
    assert tricky.COUNT == 1
    assert tricky.built(2) == 2
    get_reusable_executor().shutdown(kill_workers=True)
    cases = [
        (tricky.OfAClosure(), "max_depth", tricky.half),
        (tricky.OfFields(), "max_depth", tricky.accuracy),
        (tricky.piped(), "decisiontreeclassifier__max_depth", tricky.traced(tricky.accuracy)),
    ]
    for estimator, name, scoring in cases:
        options = {"scoring": scoring, "cv": 2, "refit": False}
        grid = {name: [1, 2]}
        with engine(backend):
            found = MongoSearchCV(estimator, grid, n_jobs=2, db=uri, **options).fit(X, Y)
        theirs = GridSearchCV(estimator, grid, **options).fit(X, Y)
        assert scores(found) == scores(theirs)
        assert found.summary_.failed == 0


def test_modules_that_travel_and_modules_that_do_not_in_one_search(uri, module, start_worker):
    """The worker has one of them."""
    text = "import mymodel\ndef times(model, X, y):\n    return 2 * mymodel.base(model.value)\n"
    module("mymodel", MODEL.format(base=100))
    mine, _ = module("myscorer", text)
    start_worker(uri, "there", mymodel=MODEL.format(base=100))
    search = searched(Sleeper(), uri, scoring=mine.times, ship_modules=["myscorer", "estimators"])
    assert scores(search.fit(X, Y)) == [202, 204]
