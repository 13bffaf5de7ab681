"""How a search is, as others see it."""

import os
import signal
import sys
import threading

import functions
import numpy as np
import pytest
import servers
from estimators import Sleeper
from sklearn.datasets import load_iris
from sklearn.svm import SVC
from waiting import wait_for
from workers import work_off

from optomatic import MongoHalvingGridSearchCV, MongoSearch, MongoSearchCV, attach
from optomatic.driver import driver
from optomatic.store.searches import Searches

CLIENT = """
import sys
import numpy as np
from estimators import Sleeper
from optomatic import MongoSearchCV
X, y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2
search = MongoSearchCV(Sleeper(seconds=0.2), {"value": range(500)}, cv=2, db=sys.argv[1])
search.set_params(name="long").fit(X, y)
"""


def test_a_search_whose_client_was_killed_is_abandoned(uri, start_process):
    client = start_process(sys.executable, "-c", CLIENT, uri)
    try:
        wait_for(lambda: servers.units(uri).count_documents({"state": "completed"}) >= 2)
        seen = attach("long", db=uri)
        assert seen.state == "running"
        assert 0 < len(seen.cv_results_["params"]) < 500
    finally:
        os.kill(client.pid, signal.SIGKILL)
        client.wait()
    assert seen.state == "abandoned"
    assert seen.best_score_ == seen.cv_results_["mean_test_score"].max()
    seen.cancel()
    assert seen.state == "cancelled"


def test_a_client_elsewhere_is_gone_when_it_was_not_seen_for_a_minute(uri):
    search = MongoSearch(functions.parabola, {"x": [1]}, db=uri, name="far").run()
    records = servers.database(uri)["searches"]
    far = {"state": "running", "process.host": "elsewhere", "process.boot": "another"}
    records.update_one({"_id": search.search_id_}, {"$set": far})
    seen = attach("far", db=uri)
    assert seen.state == "running"
    long_ago = [{"$set": {"seen_at": {"$subtract": ["$seen_at", 61_000]}}}]
    records.update_one({"_id": search.search_id_}, long_ago)
    assert seen.state == "abandoned"


def test_a_search_that_uploads_counts_as_alive(uri, monkeypatch):
    """Whatever is uploaded before units are queued: nothing else tells the store by then."""
    monkeypatch.setattr(driver, "TOUCH_SECONDS", 0)
    touched, touch = [], Searches.touch

    def spy(searches, search):
        touched.append((search, threading.current_thread()))
        touch(searches, search)

    monkeypatch.setattr(Searches, "touch", spy)
    X, y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2
    keep = [lambda candidates, _: [True] * len(candidates)]
    for n, filters in enumerate((None, keep)):
        search = MongoSearchCV(Sleeper(seconds=0), {"value": [n]}, cv=2, db=uri, filters=filters)
        assert (search.fit(X + n, y).search_id_, threading.current_thread()) in touched
    left = MongoSearch(functions.parabola, {"x": [1]}, db=uri).submit()
    assert (left, threading.current_thread()) in touched
    assert attach(left, db=uri).state == "left"


def test_a_search_that_was_left_to_workers_is_left_until_they_are_done(uri):
    found = MongoSearch(functions.parabola, {"x": [1, 2]}, db=uri, name="left").submit()
    seen = attach(found, db=uri)
    assert seen.state == "left"
    assert seen.cv_results_ == {}
    with pytest.raises(AttributeError, match="none is complete yet"):
        seen.best_params_  # noqa: B018
    work_off(uri)
    assert seen.state == "completed"
    assert seen.best_params_ == {"x": 2}


def test_of_several_searches_of_one_name_the_latest_is_meant(uri):
    first = MongoSearch(functions.parabola, {"x": [1]}, db=uri, name="daily").run()
    second = MongoSearch(functions.parabola, {"x": [2]}, db=uri, name="daily").run()
    with pytest.warns(UserWarning, match=f"2 searches.*Before it: {first.search_id_}"):
        seen = attach("daily", db=uri)
    assert seen.search_id == second.search_id_
    assert attach(first.search_id_, db=uri).cv_results_["params"] == [{"x": 1}]


@pytest.mark.filterwarnings("ignore")
def test_the_iterations_of_halving_are_one_search(uri):
    X, y = load_iris(return_X_y=True)
    how = {"cv": 2, "factor": 2, "min_resources": 20, "random_state": 0}
    search = MongoHalvingGridSearchCV(SVC(), {"C": [0.1, 1, 2, 10]}, db=uri, name="rungs", **how)
    search.fit(X, y)
    seen = attach("rungs", db=uri)
    assert seen.search_id == search.search_id_
    assert seen.state == "completed"
    assert sum(seen.counts().values()) == search.summary_.units
    assert seen.remove().searches == search.n_iterations_
    assert servers.units(uri).count_documents({}) == 0


def test_a_repeated_search_takes_the_list_of_the_first(uri):
    X, y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2
    database = servers.database(uri)
    for _ in range(2):
        MongoSearchCV(Sleeper(), {"value": [3, 1]}, cv=2, db=uri).fit(X, y)
        pages = database["search_units"].count_documents({"ids": {"$ne": []}})
        assert pages == 1
