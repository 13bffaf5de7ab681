"""Everything public is a name in the package, and importing it opens and sets up nothing."""

import importlib
import importlib.util
import pickle
import pickletools
import subprocess
import sys

import cloudpickle
import pytest
from sklearn.datasets import load_iris
from sklearn.dummy import DummyClassifier

import optomatic
from optomatic import filters, generators
from optomatic.keys.digest import digest_of
from optomatic.records import Evaluation
from optomatic.results.frames import frame_of

#: What users may have in pickles, and in searches that are scored for others.
KEPT = {
    "optomatic": [optomatic.Racing(alpha=0.1)],
    "optomatic.generators": [
        generators.AsyncHalving([{"x": 1}], resource="n", min_resources=1, max_resources=9),
        generators.OptunaGenerator({"x": [1, 2]}),
        generators.QuasiRandom({"x": [1, 2]}, seed=0),
    ],
    "optomatic.filters": [
        filters.NearFilter(0.1, log=["x"]),
        filters.PromisingFilter(min_history=8),
        filters.SeenFilter(),
        filters.ValidFilter(bool, reason="empty"),
    ],
}
#: All names of ours that stand in pickles, of fitted searches too.  A name that is moved, renamed
#: or removed makes pickles of users unreadable.
PICKLED = {
    *("optomatic.MongoHalvingGridSearchCV", "optomatic.MongoHalvingRandomSearchCV"),
    *("optomatic.MongoSearch", "optomatic.MongoSearchCV", "optomatic.Racing"),
    *("optomatic.filters.Columns", "optomatic.filters.GrowingTable"),
    *("optomatic.filters.NearFilter", "optomatic.filters.PromisingFilter"),
    *("optomatic.filters.SeenFilter", "optomatic.filters.ValidFilter"),
    *("optomatic.generators.AsyncHalving", "optomatic.generators.OptunaGenerator"),
    *("optomatic.generators.QuasiRandom", "optomatic.generators.Replayed"),
    *("optomatic.generators.Rung", "optomatic.results.summary.FitSummary"),
}
#: Started with ``python -m``, by users and by us.
STARTED = (
    *("optomatic", "optomatic.worker", "optomatic.worker.child", "optomatic.worker.forkserver"),
)
BY_HOME = [pytest.param(h, one, id=type(one).__name__) for h, kept in KEPT.items() for one in kept]


def names_in(data):
    """Return the names of ours that a pickle looks up."""
    strings, found = [], set()
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name == "GLOBAL":
            found.add(argument.replace(" ", "."))
        elif opcode.name == "STACK_GLOBAL":
            found.add(".".join(strings[-2:]))
        elif isinstance(argument, str):
            strings.append(argument)
    return {name for name in found if name.startswith("optomatic")}


def test_public_names():
    assert optomatic.__all__ == [
        "MongoHalvingGridSearchCV",
        "MongoHalvingRandomSearchCV",
        "MongoSearch",
        "MongoSearchCV",
        "Racing",
        "attach",
        "check_database",
        "remove",
        "running",
        "searches",
        "show_versions",
        "workers",
    ]
    assert set(optomatic.__all__) <= set(dir(optomatic))
    assert generators.__all__ == ["AsyncHalving", "OptunaGenerator", "QuasiRandom"]
    assert filters.__all__ == ["NearFilter", "PromisingFilter", "SeenFilter", "ValidFilter"]


def test_importing_opens_no_socket_and_sets_no_logging_up():
    script = (
        "import socket, logging, threading\n"
        "def refuse(*args, **kwargs): raise AssertionError('a socket')\n"
        "socket.socket.__init__ = refuse\n"
        "import optomatic, optomatic.search.grid_search\n"
        "assert not logging.getLogger().handlers and not logging.getLogger('optomatic').handlers\n"
        "assert threading.active_count() == 1\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize(("home", "one"), BY_HOME)
def test_pickles_find_what_is_public_under_its_public_name(home, one):
    kind = type(one)
    assert (kind.__module__, kind.__qualname__) == (home, kind.__name__)
    for dumps in (pickle.dumps, cloudpickle.dumps):
        data = dumps(one)
        assert f"{home}.{kind.__name__}" in names_in(data)
        assert names_in(data) <= PICKLED
        again = pickle.loads(data)
        assert type(again) is kind
        assert vars(again) == vars(one)


def test_a_new_process_loads_them():
    kept = [one for kept in KEPT.values() for one in kept]
    script = "import pickle, sys; print([type(o).__name__ for o in pickle.load(sys.stdin.buffer)])"
    loaded = subprocess.run(
        [sys.executable, "-c", script], input=pickle.dumps(kept), capture_output=True, check=True
    )
    assert loaded.stdout.decode().strip() == str([type(one).__name__ for one in kept])


def test_the_pickle_of_a_filter_that_was_used_names_nothing_private():
    used = filters.PromisingFilter(min_history=8)
    tried = [{"x": n, "kind": "ab"[n % 2]} for n in range(20)]
    history = frame_of(
        Evaluation(n, c, "completed", {"score": c["x"]}) for n, c in enumerate(tried)
    )
    used(tried, history)
    data = pickle.dumps(used)
    assert names_in(data) <= PICKLED
    assert pickle.loads(data)(tried, history) == used(tried, history)
    assert "unpromising" in used(tried, history)


def test_the_pickle_of_a_generator_that_was_asked_names_nothing_private():
    asked = generators.AsyncHalving([{"x": 1}], resource="n", min_resources=1, max_resources=9)
    asked.begin({"score": "maximize"})
    assert asked.ask(1) == [{"x": 1, "n": 1}]
    data = pickle.dumps(asked)
    assert names_in(data) <= PICKLED
    again = pickle.loads(data)
    again.tell([Evaluation(0, {"x": 1, "n": 1}, "completed", {"score": 1.0})])
    assert again.ask(1) == []


def test_the_pickle_of_a_search_over_an_iterator_names_nothing_private():
    search = optomatic.MongoSearchCV(DummyClassifier(), iter([{"strategy": "prior"}]))
    for dumps in (pickle.dumps, cloudpickle.dumps):
        data = dumps(search)
        assert names_in(data) <= PICKLED
        assert list(pickle.loads(data).param_grid) == [{"strategy": "prior"}]


@pytest.mark.parametrize(("home", "one"), BY_HOME)
def test_their_code_is_named_and_does_not_travel(home, one):
    found = digest_of(one)
    assert not found.doubts
    assert "optomatic" in {module.partition(".")[0] for module in found.modules}
    assert not found.python


def test_every_name_in_pickles_is_there():
    for name in PICKLED:
        module, _, attribute = name.rpartition(".")
        assert getattr(importlib.import_module(module), attribute).__module__ == module


@pytest.mark.parametrize(
    "search",
    [
        lambda uri: optomatic.MongoSearchCV(DummyClassifier(), {"strategy": ["prior"]}, db=uri),
        lambda uri: optomatic.MongoSearchCV(
            DummyClassifier(), iter([{"strategy": "prior"}]), racing=optomatic.Racing(), db=uri
        ),
        lambda uri: optomatic.MongoSearchCV(
            DummyClassifier(),
            generators.QuasiRandom({"strategy": ["prior", "uniform"]}, seed=0),
            n_iter=2,
            filters=[filters.SeenFilter()],
            db=uri,
        ),
        lambda uri: optomatic.MongoHalvingGridSearchCV(
            DummyClassifier(), {"strategy": ["prior"]}, db=uri
        ),
    ],
    ids=["grid", "iterator in a race", "generator and filter", "halving"],
)
def test_the_pickle_of_a_fitted_search_names_only_what_is_pinned(uri, search):
    fitted = search(uri).fit(*load_iris(return_X_y=True))
    assert names_in(pickle.dumps(fitted)) <= PICKLED
    assert pickle.loads(pickle.dumps(fitted)).best_params_ == fitted.best_params_


@pytest.mark.parametrize("module", STARTED)
def test_modules_that_are_started_are_there(module):
    assert importlib.util.find_spec(module if module != "optomatic" else "optomatic.__main__")
