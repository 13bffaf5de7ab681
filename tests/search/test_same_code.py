"""No score of other code than that of the process which asks is ever stored."""

import importlib
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest
from joblib import parallel_config
from joblib.externals.loky import get_reusable_executor
from pymongo import MongoClient
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from waiting import wait_for

from optomatic import MongoSearch, MongoSearchCV
from optomatic.errors import NoWorkers, OtherCode, WorkersRefuse
from optomatic.worker.local import close_all

ROOT = Path(__file__).parents[2]
LONG_AGO = 1_000_000_000
X, Y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2
MODEL = """
from sklearn.base import BaseEstimator

def base(value):
    return value + {base}

class Model(BaseEstimator):
    def __init__(self, value=0):
        self.value = value
    def fit(self, X, y):
        return self
    def score(self, X, y):
        return base(self.value)

def score(params):
    return base(params["value"])
"""


#: A worker that tries again what it has refused after so many seconds, and logs that it did.
EAGER = """
import logging
logging.getLogger("optomatic.worker.coroner").setLevel("DEBUG")
from optomatic.worker import __main__, refusal
refusal.AGAIN = {}
__main__.main()
"""


def database(uri):
    return MongoClient(uri).get_default_database()


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
def start_worker(tmp_path):
    """Start a worker with a checkout of its own; lines of its log come with it."""
    started = []

    def start(uri, checkout, *arguments, again=None, **files):
        folder = tmp_path / checkout
        folder.mkdir(exist_ok=True)
        for name, text in files.items():
            (folder / f"{name}.py").write_text(text)
        log = tmp_path / f"{checkout}.log"
        main = ["-m", "optomatic.worker"]
        if again is not None:
            main = ["-c", EAGER.format(again)]
        with log.open("w") as file:
            worker = subprocess.Popen(
                [sys.executable, "-P", *main, "--db", uri, *arguments],
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]),
                    "PYTHONDONTWRITEBYTECODE": "1",
                },
                cwd=folder,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
            )
        started.append(worker)
        assert "ready" in worker.stdout.readline()
        return log

    yield start
    for worker in started:
        worker.kill()
        worker.communicate()


@pytest.fixture
def heard(monkeypatch):
    """What fit warns of while it waits, in whatever thread."""
    monkeypatch.setattr("optomatic.worker.lookout.LONELY_SECONDS", 0.5)
    said = []
    monkeypatch.setattr(
        "optomatic.worker.lookout.warn",
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
        thread.join(60.0)
        return found[0]

    return result


def searched(estimator, uri, **options):
    return MongoSearchCV(
        estimator, {"value": [1, 2]}, **{"cv": 2, "db": uri, "refit": False, "n_jobs": 0, **options}
    )


def scores(search):
    return list(search.cv_results_["mean_test_score"])


def test_a_worker_with_other_code_scores_nothing_and_others_go_on(uri, module, start_worker, heard):
    mine, _ = module("mymodel", MODEL.format(base=100))
    log = start_worker(uri, "old", mymodel=MODEL.format(base=999))
    result = in_thread(lambda: searched(mine.Model(), uri).fit(X, Y))
    wait_for(lambda: heard)
    category, text = heard[0]
    assert category is NoWorkers
    assert "needed is the code that the search was made with (worker" in text
    assert "mymodel.base is other code here" in text
    assert "Update the code there" in text
    wait_for(lambda: states(uri) == {("queued", 0, 0, 0)})
    (line,) = [line for line in log.read_text().splitlines() if "leaves alone" in line]
    assert "mymodel.base" in line
    assert "looks again every minute" in line
    start_worker(uri, "new", mymodel=MODEL.format(base=100))
    assert scores(result()) == [101, 102]
    assert states(uri) == {("completed", 0, 1, 0)}
    assert log.read_text().count("leaves alone") == 1


def test_fit_tells_who_refused_while_others_go_on_and_each_does_what_it_can(
    uri, module, start_worker, heard
):
    right, wrong = MODEL.format(base=100), MODEL.format(base=999)
    slow = right.replace("return self\n", "__import__('time').sleep(0.2); return self\n")
    mine, _ = module("mymodel", slow)
    other, _ = module("othermodel", right)
    start_worker(uri, "old", mymodel=wrong, othermodel=right)
    result = in_thread(lambda: searched(mine.Model(), uri, cv=6).fit(X, Y))
    workers = database(uri)["workers"]
    wait_for(lambda: workers.find_one({"refused": {"$gt": {}}}))
    old = workers.find_one({"kind": "standalone"})["_id"]
    heard.clear()
    start_worker(uri, "new", mymodel=slow)
    wait_for(lambda: WorkersRefuse in dict(heard) or NoWorkers in dict(heard))
    assert scores(result()) == [101, 102]
    assert all(f"worker {old[:4]} on" in text for _, text in heard)
    units = database(uri)["units"]
    assert old not in units.distinct("completed_by")
    assert scores(searched(other.Model(), uri).fit(X, Y)) == [101, 102]
    assert units.distinct("completed_by", {"key": {"$exists": True}}).count(old) == 1


def test_a_constant_that_the_program_has_set_is_not_scored_with_another(uri, module):
    """Workers import the module anew, so they have what stands in its file."""
    mine, _ = module("mymodel", MODEL.replace("+ {base}", "+ OFFSET") + "OFFSET = 100\n")
    mine.OFFSET = 300
    with pytest.raises(OtherCode, match=r"mymodel\.OFFSET is other code .* ship_modules"):
        searched(mine.Model(), uri, n_jobs=2).fit(X, Y)
    assert "completed" not in {state for state, *_ in states(uri)}
    assert scores(searched(mine.Model(), uri, n_jobs=None).fit(X, Y)) == [301, 302]
    shipped = searched(mine.Model(), uri, n_jobs=2, cv=3, ship_modules=["mymodel"])
    assert scores(shipped.fit(X, Y)) == [301, 302]


def test_a_worker_that_is_behind_its_files_catches_up(uri, module, start_worker, tmp_path):
    """Its checkout was updated after it had imported the module."""
    model = MODEL.replace("+ {base}", "+ OFFSET") + "OFFSET = {base}\n"
    mine, path = module("mymodel", model.format(base=100))
    log = start_worker(uri, "there", mymodel=model.format(base=100))
    assert scores(searched(mine.Model(), uri).fit(X, Y)) == [101, 102]
    for text in (model.format(base=20_000), MODEL.format(base=3_000_000)):
        path.write_text(text)
        (tmp_path / "there" / "mymodel.py").write_text(text)
        mine = importlib.reload(mine)
        expected = [mine.Model(value).score(X, Y) for value in (1, 2)]
        assert scores(searched(mine.Model(), uri).fit(X, Y)) == expected
    assert expected == [3_000_001, 3_000_002]
    assert "leaves alone" not in log.read_text()
    assert states(uri) == {("completed", 0, 1, 0)}


@pytest.mark.parametrize("before", [MODEL.format(base=999), None])
def test_a_worker_whose_code_is_mended_after_it_refused_scores(
    uri, module, start_worker, tmp_path, before
):
    """A checkout that comes late, or files that are seen late; nobody restarts the worker."""
    mine, _ = module("mymodel", MODEL.format(base=100))
    files = {} if before is None else {"mymodel": before}
    log = start_worker(uri, "late", again=0.5, **files)
    result = in_thread(lambda: searched(mine.Model(), uri).fit(X, Y))
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


def test_a_worker_that_only_refuses_is_idle(uri, module, start_worker):
    mine, _ = module("mymodel", MODEL.format(base=100))
    MongoSearch(mine.score, {"value": [1, 2]}, db=uri, n_jobs=0).submit()
    log = start_worker(uri, "old", "--max-idle", "3", again=0.5, mymodel=MODEL.format(base=999))
    wait_for(lambda: "ends: 0 units scored" in log.read_text())
    assert states(uri) == {("queued", 0, 0, 0)}


LAZY = """
def score(params):
    import lazy
    return lazy.times(params["value"])
def plotted(params, plot=False):
    if plot:
        import lazy
        lazy.times(0)
    return params["value"]
"""
TIMES = "def times(value):\n    return {} * value\n"


def test_a_module_that_is_imported_as_code_runs_counts_only_if_it_is(uri, module):
    lazy, path = module("lazy", TIMES.format(2))
    mine, _ = module("lazily", LAZY)

    def run(function, n_jobs=2):
        search = MongoSearch(function, {"value": [1, 2]}, db=uri, n_jobs=n_jobs)
        return list(search.run().results_["score"])

    assert lazy.times(1) == 2
    path.write_text(TIMES.format(3))
    with pytest.raises(OtherCode, match=r"lazy\.times is other code"):
        run(mine.score)
    path.write_text("raise SystemExit('no display')")
    assert run(mine.plotted) == [1, 2]
    get_reusable_executor().shutdown(kill_workers=True)
    path.write_text(TIMES.format(4))
    with parallel_config(backend="loky"), pytest.raises(OtherCode, match=r"lazy\.times is other"):
        run(mine.score)
    assert {unit["state"] for unit in database(uri)["units"].find({"result": None})} == {
        "cancelled"
    }
    path.write_text(TIMES.format(2))
    close_all()
    assert run(mine.score) == [2, 4]


def test_joblibs_workers_compare_the_code_of_candidates(uri, module):
    mine, path = module("mymodel", MODEL.format(base=100))
    path.write_text(MODEL.format(base=999))
    get_reusable_executor().shutdown(kill_workers=True)
    steps = Pipeline([("model", DummyClassifier())])
    grid = {"model": [mine.Model(1), mine.Model(2)]}
    with parallel_config(backend="loky"), pytest.raises(OtherCode, match=r"mymodel\.base is other"):
        MongoSearchCV(steps, grid, cv=2, db=uri, refit=False, n_jobs=2).fit(X, Y)


def test_a_worker_without_the_module_leaves_it_to_others(uri, module, start_worker, heard):
    mine, _ = module("mymodel", MODEL.format(base=100))
    log = start_worker(uri, "empty")
    search = MongoSearch(mine.score, {"value": [1, 2]}, db=uri, n_jobs=0)
    result = in_thread(search.run)
    wait_for(lambda: heard)
    assert "mymodel cannot be imported (ModuleNotFoundError" in heard[0][1]
    wait_for(lambda: states(uri) == {("queued", 0, 0, 0)})
    (line,) = [line for line in log.read_text().splitlines() if "leaves alone" in line]
    assert "mymodel" in line
    start_worker(uri, "whole", mymodel=MODEL.format(base=100))
    assert list(result().results_["score"]) == [101, 102]
    assert states(uri) == {("completed", 0, 1, 0)}


def test_a_file_that_was_edited_after_it_was_imported_ends_the_search_in_words(uri, module):
    mine, path = module("mymodel", MODEL.format(base=100))
    path.write_text(MODEL.format(base=999))
    with pytest.raises(OtherCode, match=r"mymodel\.base is other code.*importlib\.reload"):
        searched(mine.Model(), uri, n_jobs=2).fit(X, Y)
    units = list(database(uri)["units"].find())
    assert {(unit["state"], unit["losses"], unit["result"]) for unit in units} == {
        ("cancelled", 0, None)
    }
    get_reusable_executor().shutdown(kill_workers=True)  # those of other tests know other paths
    with parallel_config(backend="loky"), pytest.raises(OtherCode, match="joblib's backend"):
        searched(mine.Model(), uri, n_jobs=2).fit(X, Y)
    with parallel_config(backend="threading"):
        assert scores(searched(mine.Model(), uri, n_jobs=2).fit(X, Y)) == [101, 102]
    path.write_text("this is no Python")
    with pytest.raises(OtherCode, match=r"mymodel cannot be imported \(SyntaxError"):
        searched(mine.Model(), uri, n_jobs=2, cv=3).fit(X, Y)


def test_an_edited_constant_is_other_code(uri, module, start_worker, tmp_path):
    text = """
        FACTOR = {0}
        class Scale:
            by = {0}
        def times(value, by={0}):
            return value * by
        def score_by_global(params):
            return FACTOR * params["value"]
        def score_by_attribute(params):
            return Scale.by * params["value"]
        def score_by_default(params):
            return times(params["value"])
    """
    mine, path = module("scaling", text.format(3))

    def run(name, n_jobs=2):
        function = getattr(mine, f"score_by_{name}")
        search = MongoSearch(function, {"value": [1, 2]}, db=uri, n_jobs=n_jobs)
        return list(search.run().results_["score"])

    assert run("global") == [3, 6]
    path.write_text(textwrap.dedent(text).format(4))
    close_all()
    with pytest.raises(OtherCode, match=r"scaling\.FACTOR is other code"):
        MongoSearch(mine.score_by_global, {"value": [5]}, db=uri, n_jobs=2).run()
    with pytest.raises(OtherCode, match=r"scaling\.Scale\.by is other code"):
        run("attribute")
    with pytest.raises(OtherCode, match=r"scaling\.times\.__defaults__ is other code"):
        run("default")
    mine = importlib.reload(mine)
    assert [run(name) for name in ("global", "attribute", "default")] == [[4, 8]] * 3


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


def test_code_that_is_the_same_is_never_refused(uri, module):
    """Decorated, partial, made by functions or generated; with globals that a program changes."""
    tricky, _ = module("tricky", TRICKY)
    tricky.MODE = "fast"
    tricky.accuracy(tricky.OfAClosure().fit(X, Y), X, Y)
    assert tricky.COUNT == 1
    assert tricky.built(2) == 2
    cases = [
        (tricky.OfAClosure(), "max_depth", tricky.half),
        (tricky.OfFields(), "max_depth", tricky.accuracy),
        (tricky.piped(), "decisiontreeclassifier__max_depth", tricky.traced(tricky.accuracy)),
    ]
    for estimator, name, scoring in cases:
        options = {"scoring": scoring, "cv": 2, "db": uri, "refit": False}
        grid = {name: [1, 2]}
        found = MongoSearchCV(estimator, grid, n_jobs=2, **options).fit(X, Y)
        theirs = GridSearchCV(estimator, grid, scoring=scoring, cv=2, refit=False).fit(X, Y)
        assert scores(found) == scores(theirs)
        assert found.summary_.failed == 0
    tricky.OfAClosure.fit = lambda self, X, y: self
    with pytest.raises(OtherCode, match=r"tricky\.OfAClosure is other code"):
        MongoSearchCV(tricky.OfAClosure(), {"max_depth": [3]}, n_jobs=2, **options).fit(X, Y)
