"""A search seen from elsewhere."""

import itertools
import threading
import warnings
from functools import partial

import functions
import numpy as np
import pandas as pd
import pytest
from estimators import Sleeper
from pymongo import MongoClient
from servers import database, units
from sklearn.svm import SVC
from waiting import wait_for
from workers import work_off

from optomatic import MongoSearch, MongoSearchCV, attach
from optomatic.errors import NoWorkers, SearchCancelled


def test_the_frame_is_that_of_the_search(uri):
    space = {"x": [2, 1, (1, 2)], "y": [0]}
    with pytest.warns(match="1 of 3 candidates failed"):
        search = MongoSearch(functions.parabola, space, db=uri, name="sweep").run()
    seen = attach("sweep", db=uri)
    frame = seen.to_frame()
    same = [name for name in search.results_ if name in frame]
    assert same == list(search.results_)
    tables = (table.astype(object) for table in (frame[same], search.results_))
    pd.testing.assert_frame_equal(*(table.where(table.notna(), None) for table in tables))
    assert seen.search_id == search.search_id_
    assert seen.counts() == {"completed": 2, "failed": 1}
    assert seen.record()["state"] == "completed"
    assert seen.wait(timeout=0)


def test_stored_scores_and_means_over_splits(uri):
    X, y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2
    grid = {"value": [3, 1]}
    MongoSearchCV(Sleeper(), grid, cv=2, db=uri, name="first", return_train_score=True).fit(X, y)
    MongoSearchCV(Sleeper(), grid, cv=2, db=uri, name="second").fit(X, y)
    frame = attach("second", db=uri).to_frame()
    assert frame["param_value"].tolist() == [3, 1]
    assert frame["score"].tolist() == [3.0, 1.0]


def test_objects_are_shown_and_not_loaded(uri):
    X, y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2
    from sklearn.pipeline import Pipeline

    model = Pipeline([("model", SVC())])
    MongoSearchCV(model, {"model": [SVC(C=3)]}, cv=2, db=uri, name="objects").fit(X, y)
    assert attach("objects", db=uri).to_frame()["param_model"].tolist() == ["SVC(C=3)"]


def test_watching_and_withdrawing_a_search_that_runs(uri):
    raised = []

    def run():
        try:
            MongoSearch(functions.slow, {"x": range(3000)}, db=uri, name="long").run()
        except SearchCancelled as error:
            raised.append(error)

    client = threading.Thread(target=run)
    client.start()
    wait_for(lambda: units(uri).count_documents({"state": "completed"}) >= 2)
    seen = attach("long", db=uri)
    assert not seen.wait(timeout=0)
    states = set(seen.to_frame()["state"])
    assert {"pending", "completed"} <= states
    seen.cancel()
    client.join()
    assert len(raised) == 1
    assert seen.wait(timeout=60)
    assert seen.record()["state"] == "cancelled"
    assert set(seen.counts()) == {"completed", "cancelled"}


def test_there_is_no_such_search(uri):
    with pytest.raises(ValueError, match="no search with the name or id 'sweep' in mongodb://"):
        attach("sweep", db=uri)


def test_a_search_that_is_left_to_workers(uri):
    left = MongoSearch(functions.parabola, {"x": range(6)}, db=uri, name="left").submit()
    seen = attach("left", db=uri)
    assert seen.search_id == left
    assert seen.counts() == {"queued": 6}
    work_off(uri)
    assert seen.wait(timeout=60)
    assert seen.record()["state"] == "completed"
    assert seen.to_frame()["score"].tolist() == [functions.parabola(x) for x in range(6)]
    search = MongoSearch(functions.parabola, {"x": range(6)}, db=uri)
    assert search.run().summary_.stored == 6
    again = attach(search.submit(), db=uri)
    assert again.record()["state"] == "completed"


def test_wait_warns_that_no_worker_can_score(uri):
    left = MongoSearch(functions.parabola, {"x": range(6)}, db=uri, name="left").submit()
    seen = attach("left", db=uri)
    minutes = partial(next, itertools.count(step=60.0))
    searches = database(uri)["searches"]
    searches.update_one({"_id": left}, {"$currentDate": {"seen_at": True}})
    with warnings.catch_warnings():  # its client is there, and says it itself
        warnings.simplefilter("error", NoWorkers)
        assert not seen.wait(timeout=600, clock=minutes, sleep=lambda _: None)
    searches.update_one({"_id": left}, {"$unset": {"seen_at": 1}})
    with pytest.warns(NoWorkers, match="none has been seen. The units stay queued. Start one"):
        assert not seen.wait(timeout=600, clock=minutes, sleep=lambda _: None)
    pauses = iter([lambda: None, seen.cancel])
    with pytest.warns(NoWorkers, match="none has been seen"):
        counts = list(seen.watch(clock=minutes, sleep=lambda _: next(pauses)()))
    assert counts == [{"queued": 6}, {"cancelled": 6}]


@pytest.mark.parametrize(
    "options",
    [
        {"space": iter([{"x": 1}])},
        {"space": lambda history: {"x": 1}, "n_iter": 3},
        {"time_budget": 1.0},
        {"filters": [print]},
    ],
)
def test_a_search_that_needs_its_driver_cannot_be_left(uri, options):
    options = {"space": {"x": [1]}, **options}
    with pytest.raises(ValueError, match="so it cannot be left"):
        MongoSearch(functions.parabola, db=uri, **options).submit()
    assert units(uri).count_documents({}) == 0


def test_so_many_of_an_endless_iterable_can_be_left(uri):
    endless = ({"x": x} for x in itertools.count())
    MongoSearch(functions.parabola, endless, n_iter=3, db=uri, name="left").submit()
    assert attach("left", db=uri).counts() == {"queued": 3}


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_the_record_says_that_the_client_lives(uri, n_jobs, monkeypatch):
    """Also while one long unit runs, and nothing else is written."""
    monkeypatch.setenv("OPTOMATIC_LEASE", "1")
    seen = set()

    def look():
        with MongoClient(uri) as client:
            searches = client.get_default_database()["searches"]
            wait_for(lambda: searches.count_documents({}) == 1)
            wait_for(lambda: len(seen.update([searches.find_one()["seen_at"]]) or seen) >= 4)

    looking = threading.Thread(target=look)
    looking.start()
    X, y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2
    MongoSearchCV(Sleeper(seconds=2.0), {"value": [1]}, cv=2, n_jobs=n_jobs, db=uri).fit(X, y)
    looking.join()
    assert len(seen) >= 4
