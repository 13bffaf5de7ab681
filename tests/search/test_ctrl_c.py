"""Ctrl-C ends a search, and leaves it fitted with what was complete."""

import pickle
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import workers
from servers import units
from sklearn.utils.validation import check_is_fitted
from waiting import wait_for

from optomatic import MongoSearchCV

SCRIPT = """
import itertools, pickle, signal, sys
import numpy as np
from estimators import Sleeper
from functions import slow
from optomatic import MongoHalvingGridSearchCV, MongoSearch, MongoSearchCV

# Started from a shell's background it would ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)


class Stubborn(Sleeper):
    \"\"\"Takes long on all data, as a refit does.\"\"\"

    def fit(self, X, y):
        if len(X) == 20:
            print("refit", file=sys.stderr, flush=True)
            self.seconds = 300
        return super().fit(X, y)


class FailsFirst(Sleeper):
    \"\"\"Fails, and then takes for ever.\"\"\"

    def fit(self, X, y):
        if self.value < 3:
            raise ValueError("it fails")
        self.seconds = 300
        return super().fit(X, y)


uri, kind, n_jobs, out = sys.argv[1], sys.argv[2], eval(sys.argv[3]), sys.argv[4]
X, y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2
slow_one = Sleeper(seconds=0.15)
values = {"value": list(range(100))}
options = {"n_jobs": n_jobs, "db": uri}
searches = {
    "grid": lambda: MongoSearchCV(slow_one, values, cv=2, verbose=2, **options).fit,
    "refit": lambda: MongoSearchCV(Stubborn(seconds=0.15), values, cv=2, **options).fit,
    "never": lambda: MongoSearchCV(Sleeper(seconds=300), values, cv=2, **options).fit,
    "generator": lambda: MongoSearchCV(
        slow_one, ({"value": n} for n in itertools.count()), n_iter=100, cv=2, time_budget=900,
        **options
    ).fit,
    "halving": lambda: MongoHalvingGridSearchCV(
        Sleeper(seconds=0.1), {"value": list(range(12))}, resource="n_samples", min_resources=4,
        max_resources=12, cv=2, **options
    ).fit,
    "only failures": lambda: MongoSearchCV(
        FailsFirst(seconds=0.15), values, cv=2, error_score=np.nan, **options
    ).fit,
    "function": lambda: MongoSearch(slow, {"x": range(100)}, **options).run,
    "function of a generator": lambda: MongoSearch(
        slow, ({"x": n} for n in itertools.count()), n_iter=100, **options
    ).run,
}
start = searches[kind]()
search = start.__self__
try:
    start(*(() if "function" in kind else (X, y)))
finally:
    with open(out, "wb") as file:
        state = {
            name: value
            for name, value in search.__dict__.items()
            if name.endswith("_") and name not in ("scorer_", "best_estimator_")
        }
        state["has_best_estimator"] = hasattr(search, "best_estimator_")
        state["refitted"] = getattr(getattr(search, "best_estimator_", None), "value", None)
        pickle.dump((search if kind == "grid" else None, state), file)
"""


def start(uri, kind, n_jobs, out):
    return workers.start(
        *(sys.executable, "-c", SCRIPT, uri, kind, repr(n_jobs), out),
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def interrupted(uri, kind, n_jobs, out, after=5):
    """Press Ctrl-C once `after` units are scored; return what the search was left with."""
    client = start(uri, kind, n_jobs, out)
    wait_for(lambda: units(uri).count_documents({"state": "completed"}) >= after, client)
    client.send_signal(signal.SIGINT)
    output, errors = client.communicate(timeout=120)
    assert client.returncode != 0
    assert "KeyboardInterrupt" in errors, errors
    assert not units(uri).count_documents({"state": {"$in": ["queued", "running"]}})
    search, state = pickle.loads(out.read_bytes())
    return search, state, output, errors


def check_table(state, least):
    """The rows are those of complete candidates, and of nothing else."""
    results = state["cv_results_"]
    values = [params["value"] for params in results["params"]]
    assert least <= len(values) < 100
    np.testing.assert_array_equal(results["mean_test_score"], values)
    np.testing.assert_array_equal(results["std_test_score"], 0.0)
    assert state["best_params_"] == {"value": max(values)}
    assert state["refitted"] == max(values)
    assert state["best_score_"] == max(values)
    assert state["refit_time_"] > 0
    return values


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_a_grid(uri, tmp_path, n_jobs):
    search, state, output, errors = interrupted(uri, "grid", n_jobs, tmp_path / "state")
    values = check_table(state, least=1)
    assert f"the {len(values)} candidates that are complete" in errors
    assert "fits the best of them on all data now" in errors
    assert "; interrupted" in output.splitlines()[-1]
    assert state["summary_"].stopped == "interrupted"
    check_is_fitted(search)
    assert len(search.predict(np.zeros((3, 2)))) == 3
    finished = units(uri).count_documents({"state": "completed"})
    # The same search does only the rest.
    from estimators import Sleeper

    X, y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2
    grid = {"value": values}
    again = MongoSearchCV(Sleeper(seconds=0.15), grid, cv=2, db=uri).fit(X, y)
    assert (again.summary_.stored, again.summary_.scored) == (2 * len(values), 0)
    assert finished >= 2 * len(values)
    for name, column in again.cv_results_.items():
        if name not in ("params", "rank_test_score"):
            np.testing.assert_array_equal(column, state["cv_results_"][name])


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_candidates_that_come_about_meanwhile(uri, tmp_path, n_jobs):
    _, state, _, _ = interrupted(uri, "generator", n_jobs, tmp_path / "state")
    check_table(state, least=1)
    assert state["summary_"].stopped == "interrupted"


def test_halving_keeps_its_finished_iterations(uri, tmp_path):
    _, state, _, _ = interrupted(uri, "halving", None, tmp_path / "state", after=2 * 12 + 1)
    results = state["cv_results_"]
    assert set(results["iter"]) == {0}
    assert len(results["params"]) == 12
    assert state["n_iterations_"] == 1
    assert state["n_candidates_"] == [12]
    assert state["n_resources_"] == [4]
    assert state["n_remaining_candidates_"] == 4
    assert state["n_required_iterations_"] == 3
    assert state["n_possible_iterations_"] == 2
    assert state["best_params_"] == {"value": 11}
    assert state["refitted"] == 11


@pytest.mark.parametrize("kind", ["function", "function of a generator"])
def test_a_function(uri, tmp_path, kind):
    _, state, _, _ = interrupted(uri, kind, 2, tmp_path / "state")
    frame = state["results_"]
    assert 5 <= len(frame) < 100
    assert set(frame["state"]) == {"completed"}
    assert state["best_params_"] == {"x": frame["param_x"].max()}
    assert state["best_score_"] == frame["score"].max()


def test_nothing_is_complete(uri, tmp_path):
    client = start(uri, "never", None, tmp_path / "state")
    wait_for(lambda: units(uri).count_documents({"state": "running"}), client)
    time.sleep(0.2)
    client.send_signal(signal.SIGINT)
    _, errors = client.communicate(timeout=120)
    assert "KeyboardInterrupt" in errors
    _, state = pickle.loads((tmp_path / "state").read_bytes())
    assert "cv_results_" not in state
    assert "best_params_" not in state


def test_a_failing_table_does_not_hide_the_interrupt(uri, tmp_path):
    client = start(uri, "only failures", 2, tmp_path / "state")
    wait_for(lambda: units(uri).count_documents({"state": "failed"}) >= 6, client)
    wait_for(lambda: units(uri).count_documents({"state": "running"}), client)
    client.send_signal(signal.SIGINT)
    _, errors = client.communicate(timeout=120)
    assert errors.strip().splitlines()[-1].startswith(("KeyboardInterrupt", "All finished scores"))
    assert "All the 6 fits failed" in errors  # as its cause


def test_a_second_one_leaves_out_the_refit_and_keeps_the_table(uri, tmp_path):
    client = start(uri, "refit", 2, tmp_path / "state")
    wait_for(lambda: units(uri).count_documents({"state": "completed"}) >= 5, client)
    client.send_signal(signal.SIGINT)
    while client.stderr.readline().strip() != "refit":
        assert client.poll() is None
    client.send_signal(signal.SIGINT)
    _, errors = client.communicate(timeout=120)
    assert client.returncode != 0
    assert "KeyboardInterrupt" in errors
    _, state = pickle.loads((tmp_path / "state").read_bytes())
    results = state["cv_results_"]
    assert state["best_params_"] == {"value": max(p["value"] for p in results["params"])}
    assert "refit_time_" not in state
    assert not state["has_best_estimator"]
