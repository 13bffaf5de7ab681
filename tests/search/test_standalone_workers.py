"""Standalone workers do all of a fit(n_jobs=0), and survive what happens to them."""

import re
import signal
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from estimators import ConfigReader, Crasher, Sleeper
from search.comparing import assert_same_table
from servers import units
from sklearn import config_context
from sklearn.compose import make_column_transformer
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from waiting import wait_for

from optomatic import MongoSearchCV
from optomatic.errors import NoWorkers, UnitsDied

TESTS = Path(__file__).parents[1]
X, Y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2


@pytest.fixture
def start_worker(start_worker):
    """Start workers whose loss is noticed soon."""
    return partial(start_worker, OPTOMATIC_LEASE="2")


def test_one_of_two_is_killed_half_way(standalone_uri, start_worker, monkeypatch):
    monkeypatch.setenv("OPTOMATIC_LEASE", "2")
    uri = standalone_uri
    workers = [start_worker(uri), start_worker(uri)]
    assert all("ready" in worker.stdout.readline() for worker in workers)

    def kill_half_way():
        # This server rings nobody, so one of them may look for work seconds after the other.
        wait_for(lambda: len(units(uri).distinct("completed_by", {"state": "completed"})) == 2)
        running = {"state": "running", "started": True}
        wait_for(lambda: len(units(uri).distinct("worker", running)) == 2)
        workers[0].kill()

    killer = threading.Thread(target=kill_half_way)
    killer.start()
    search = MongoSearchCV(
        Sleeper(seconds=0.2), {"value": list(range(20))}, cv=2, n_jobs=0, db=uri
    ).fit(X, Y)
    killer.join()
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], np.arange(20.0))
    documents = list(units(uri).find())
    assert {u["state"] for u in documents} == {"completed"}
    assert len({u["completed_by"] for u in documents}) == 2
    assert (
        sum(u["losses"] for u in documents) <= 2
    )  # what runs in the killed one, and one started ahead


def test_a_poison_unit_is_dead_after_three_runs(standalone_uri, start_worker):
    uri = standalone_uri
    start_worker(uri)
    search = MongoSearchCV(
        Crasher(), {"value": [1, 13, 2]}, cv=2, n_jobs=0, db=uri, error_score=-1.0
    )
    with pytest.warns(UnitsDied) as caught:
        search.fit(X, Y)
    (said,) = [
        str(w.message) for w in caught if issubclass(w.category, UnitsDied | FitFailedWarning)
    ]
    assert "'value': 13" in said
    assert "SIGSEGV" in said
    assert re.search(r"on \S+", said)
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], [1, -1, 2])
    poison = list(units(uri).find({"state": "dead"}))
    assert [u["runs"] for u in poison] == [3, 3]
    others = list(units(uri).find({"state": {"$ne": "dead"}}))
    assert [u["losses"] for u in others] == [0] * 4


def test_poison_in_local_workers(uri):
    search = MongoSearchCV(Crasher(), {"value": [1, 13, 2]}, cv=2, n_jobs=2, db=uri, refit=False)
    with pytest.warns(UnitsDied, match="SIGSEGV"):
        search.fit(X, Y)
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], [1, np.nan, 2])
    assert {u["runs"] for u in units(uri).find({"state": "dead"})} == {3}


def test_a_worker_gives_back_what_it_has_on_sigterm(standalone_uri, start_worker):
    uri = standalone_uri
    worker = start_worker(uri)
    client = threading.Thread(
        target=lambda: MongoSearchCV(
            Sleeper(seconds=0.2), {"value": list(range(10))}, cv=2, n_jobs=0, db=uri
        ).fit(X, Y)
    )
    client.start()
    wait_for(lambda: units(uri).count_documents({"state": "completed"}) >= 2)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout=20) == 0
    assert not units(uri).count_documents({"state": "running"})
    start_worker(uri)
    client.join(timeout=60)
    assert not client.is_alive()
    assert {(u["losses"], u["state"]) for u in units(uri).find()} == {(0, "completed")}


def test_a_warning_says_that_no_worker_is_there(standalone_uri, start_worker, monkeypatch):
    monkeypatch.setattr("optomatic.worker.missing_workers.LONELY_SECONDS", 0.5)
    late = threading.Timer(2.0, start_worker, [standalone_uri])
    late.start()
    with pytest.warns(NoWorkers, match="optomatic worker"):
        MongoSearchCV(Sleeper(), {"value": [1, 2]}, cv=2, n_jobs=0, db=standalone_uri).fit(X, Y)
    late.join()


def test_configuration_frames_and_routed_params_reach_standalone_workers(
    standalone_uri, start_worker
):
    start_worker(standalone_uri)
    frame = pd.DataFrame({"a": np.arange(40.0), "b": ["x", "y"] * 20}, index=np.arange(40) * 2)
    y = pd.Series(np.arange(40) // 2 % 2, index=frame.index)
    options = {"cv": GroupKFold(2), "n_jobs": 0, "db": standalone_uri, "refit": False}
    with config_context(working_memory=17, assume_finite=True):
        found = MongoSearchCV(ConfigReader(), {"value": [1]}, **options)
        found.fit(frame, y, groups=np.arange(40) % 4)
    assert list(found.cv_results_["mean_test_score"]) == [17.5]
    with config_context(enable_metadata_routing=True, transform_output="pandas"):
        model = make_pipeline(
            make_column_transformer(
                (OneHotEncoder(sparse_output=False, handle_unknown="ignore"), ["b"]),
                remainder="passthrough",
            ),
            LogisticRegression().set_fit_request(sample_weight="w"),
        )
        grid = {"logisticregression__C": [0.01, 1]}
        params = {"w": np.linspace(0.1, 2, 40), "groups": np.arange(40) % 4}
        ours = MongoSearchCV(model, grid, **options).fit(frame, y, **params)
        theirs = GridSearchCV(model, grid, cv=GroupKFold(2), refit=False)
        assert_same_table(ours, theirs.fit(frame, y, **params))
    assert ours.summary_.workers == 1
