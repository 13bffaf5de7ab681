"""Everything public is a name in the package, and importing it opens and sets up nothing."""

import pickle
import subprocess
import sys

import cloudpickle
import pytest
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
BY_HOME = [pytest.param(h, one, id=type(one).__name__) for h, kept in KEPT.items() for one in kept]


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
        "workers",
    ]
    assert set(optomatic.__all__) <= set(dir(optomatic))
    assert optomatic.MongoSearchCV.__module__ == "optomatic.search"
    assert optomatic.MongoHalvingGridSearchCV.__module__ == "optomatic.halving"
    assert optomatic.MongoSearch.__module__ == "optomatic.function_search"


def test_importing_opens_no_socket_and_sets_no_logging_up():
    script = (
        "import socket, logging, threading\n"
        "def refuse(*args, **kwargs): raise AssertionError('a socket')\n"
        "socket.socket.__init__ = refuse\n"
        "import optomatic, optomatic.search\n"
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
        assert home.encode() in data
        assert b"optomatic.plan" not in data
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
    assert b"optomatic.plan" not in data
    assert pickle.loads(data)(tried, history) == used(tried, history)
    assert "unpromising" in used(tried, history)


def test_the_pickle_of_a_generator_that_was_asked_names_nothing_private():
    asked = generators.AsyncHalving([{"x": 1}], resource="n", min_resources=1, max_resources=9)
    asked.begin({"score": "maximize"})
    assert asked.ask(1) == [{"x": 1, "n": 1}]
    data = pickle.dumps(asked)
    assert b"optomatic.plan" not in data
    again = pickle.loads(data)
    again.tell([Evaluation(0, {"x": 1, "n": 1}, "completed", {"score": 1.0})])
    assert again.ask(1) == []


def test_the_pickle_of_a_search_over_an_iterator_names_nothing_private():
    search = optomatic.MongoSearchCV(DummyClassifier(), iter([{"strategy": "prior"}]))
    for dumps in (pickle.dumps, cloudpickle.dumps):
        data = dumps(search)
        assert b"optomatic.plan" not in data
        assert list(pickle.loads(data).param_grid) == [{"strategy": "prior"}]


@pytest.mark.parametrize(("home", "one"), BY_HOME)
def test_their_code_is_named_and_does_not_travel(home, one):
    found = digest_of(one)
    assert not found.doubts
    assert "optomatic" in {module.partition(".")[0] for module in found.modules}
    assert not found.python
