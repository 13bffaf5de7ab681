"""Whoever waits for units on which nobody works says so, once, and why; also with verbose=0."""

import signal
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from estimators import Sleeper
from search.comparing import assert_same_table
from sklearn.model_selection import GridSearchCV
from waiting import wait_for

from optomatic import MongoSearchCV, attach
from optomatic.errors import NoProgress, NoWorkers

ROOT = Path(__file__).parents[2]
X, Y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2
GRID = {"value": [1, 2, 3]}


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """Have it said after one second."""
    monkeypatch.setattr("optomatic.worker.missing_workers.LONELY_SECONDS", 1.0)


def search(uri, **options):
    return MongoSearchCV(Sleeper(seconds=0.0), GRID, cv=2, db=uri, **options)


class Fit:
    """A fit in a thread, and what it has warned of so far."""

    def __init__(self, search):
        self.search = search
        self.said = []
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        with warnings.catch_warnings():
            warnings.showwarning = lambda text, *_, **__: self.said.append(text)
            warnings.simplefilter("always")
            self.search.fit(X, Y)

    def over(self):
        """Wait for its end, and return the search."""
        self.thread.join(120)
        assert not self.thread.is_alive()
        return self.search


@pytest.mark.parametrize("n_jobs", [None, 2, 0])
def test_a_unit_of_another_version_is_waited_for_aloud_and_left_alone(uri, database, n_jobs):
    first = search(uri).fit(X, Y)
    database["units"].update_one({}, {"$set": {"v": 2, "state": "queued"}})
    before = database["units"].find_one({"v": 2})
    fit = Fit(search(uri, n_jobs=n_jobs))
    wait_for(lambda: fit.said)
    time.sleep(2)
    (said,) = fit.said
    assert isinstance(said, NoProgress)
    assert "1 of its units that another version of optomatic has queued" in str(said)
    assert database["units"].find_one({"v": 2}) == before
    database["units"].update_one({"v": 2}, {"$set": {"v": 1, "state": "completed"}})
    assert_same_table(fit.over(), first)
    assert len(fit.said) == 1


def test_a_unit_that_becomes_another_versions_while_it_waits(uri, database):
    fit = Fit(search(uri, n_jobs=0))
    wait_for(lambda: database["units"].count_documents({}) == 6)
    database["units"].update_many({}, {"$set": {"v": 2}})
    wait_for(lambda: fit.said)
    assert "6 of its units" in str(fit.said[0])
    database["units"].delete_many({})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        search(uri).fit(X, Y)
    fit.over()


def test_a_search_that_is_looked_at_says_so_too(uri, database):
    fit = Fit(search(uri, n_jobs=0, name="away"))
    wait_for(lambda: database["units"].count_documents({}) == 6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        search(uri).fit(X, Y)
    fit.over()
    database["units"].update_many(
        {}, {"$set": {"state": "queued", "wanted_by": [fit.search.search_id_], "v": 2}}
    )
    with pytest.warns(NoProgress, match="another version"):
        assert not attach("away", db=uri).wait(3)


def test_workers_that_are_gone_are_missed_at_once(uri, database, start_worker, monkeypatch):
    monkeypatch.setenv("OPTOMATIC_LEASE", "1")
    worker = start_worker(uri)
    assert "ready" in worker.stdout.readline()
    worker.send_signal(signal.SIGSTOP)  # it lives, and says nothing
    fit = Fit(search(uri, n_jobs=0))
    wait_for(lambda: fit.said)
    assert isinstance(fit.said[0], NoProgress | NoWorkers)
    worker.send_signal(signal.SIGCONT)
    fit.over()


def test_one_that_goes_on_slowly_says_nothing(uri):
    slow = MongoSearchCV(Sleeper(seconds=2.5), {"value": [1]}, cv=2, db=uri, n_jobs=2)
    fit = Fit(slow)
    fit.over()
    assert fit.said == []


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_a_state_that_does_not_exist_is_no_state(uri, database, n_jobs):
    search(uri).fit(X, Y)
    truth = GridSearchCV(Sleeper(seconds=0.0), GRID, cv=2).fit(X, Y)
    database["units"].update_many({}, {"$set": {"state": "zzz"}})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert_same_table(search(uri, n_jobs=n_jobs).fit(X, Y), truth)
