"""Fits at the same time, in threads, forks and other people's processes."""

import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pytest
from estimators import Sleeper
from pymongo import MongoClient
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVC
from waiting import wait_for

from optomatic import MongoSearchCV

X, Y = load_iris(return_X_y=True)
GRID = {"C": [0.1, 1, 10]}


def fit(uri, n_jobs=None, grid=GRID):
    """Return what can be compared of a fit, and how many units it scored."""
    search = MongoSearchCV(SVC(), grid, cv=2, n_jobs=n_jobs, db=uri).fit(X, Y)
    return search.cv_results_["mean_test_score"].tolist(), search.summary_.scored


@pytest.fixture(scope="module")
def expected():
    return GridSearchCV(SVC(), GRID, cv=2).fit(X, Y).cv_results_["mean_test_score"].tolist()


def in_fork(function, *arguments, seconds=60):
    """Call a function in a fork of this process, as it is; return what it returns."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            answer = pickle.dumps(function(*arguments))
        except BaseException:
            answer = pickle.dumps(traceback.format_exc())
        with open(writing, "wb") as out:
            out.write(answer)
        os._exit(0)
    os.close(writing)
    killer = threading.Timer(seconds, os.kill, (child, signal.SIGKILL))
    killer.start()
    try:
        with open(reading, "rb") as source:
            answer = source.read()
    finally:
        killer.cancel()
        os.waitpid(child, 0)
    assert answer, "it had no end"
    return pickle.loads(answer)


def runs_of(uri):
    with MongoClient(uri) as client:
        return [unit["runs"] for unit in client.get_default_database()["units"].find()]


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_clones_in_threads(uri, n_jobs):
    """They want the same units: each is scored once, whoever is first."""
    search = MongoSearchCV(
        Sleeper(seconds=0.05), {"value": [1, 2, 3, 4]}, cv=3, n_jobs=n_jobs, db=uri
    )
    together = threading.Barrier(2)

    def fit_clone(_):
        together.wait()
        return clone(search).fit(X, Y)

    with ThreadPoolExecutor(2) as threads:
        fitted = list(threads.map(fit_clone, range(2)))
    for one in fitted:
        assert list(one.cv_results_["mean_test_score"]) == [1, 2, 3, 4]
    assert runs_of(uri) == [1] * 12


def test_different_searches_in_many_threads(uri, expected):
    def score(n):
        return fit(uri, [None, 2][n % 2], {"C": GRID["C"][n % 3 :] + GRID["C"][: n % 3]})

    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(score, range(6)))
    for n, (scores, _) in enumerate(found):
        assert scores == expected[n % 3 :] + expected[: n % 3]
    assert runs_of(uri) == [1] * 6


@pytest.mark.parametrize("n_jobs", [None, 2])
@pytest.mark.parametrize("before", [None, 2])
def test_after_a_fork(uri, expected, before, n_jobs):
    """The parent has fitted, with warm workers; then its child does, then both."""
    assert fit(uri, before, {"C": [0.1]}) == (expected[:1], 2)
    assert in_fork(fit, uri, n_jobs, {"C": [0.1, 1]}) == (expected[:2], 2)
    assert fit(uri, before) == (expected, 2)
    assert in_fork(in_fork, fit, uri, n_jobs) == (expected, 0)


def test_a_fork_while_another_thread_fits(uri, expected):
    slow = MongoSearchCV(
        Sleeper(seconds=0.1), {"value": list(range(8))}, cv=2, n_jobs=2, db=uri, refit=False
    )
    thread = threading.Thread(target=slow.fit, args=(X, Y))
    thread.start()
    with MongoClient(uri) as client:
        units = client.get_default_database()["units"]
        wait_for(lambda: units.count_documents({"state": "running"}))
    for n_jobs in (None, 2):
        assert in_fork(fit, uri, n_jobs)[0] == expected
    thread.join()
    assert list(slow.cv_results_["mean_test_score"]) == list(range(8))
    assert runs_of(uri) == [1] * 22


def test_a_fork_amid_a_fit_leaves_it_alone(uri):
    """A child that is forked by what is being fitted, and ends, takes nothing with it."""
    search = MongoSearchCV(Forker(), {"value": [1, 2]}, cv=2, db=uri).fit(X, Y)
    assert list(search.cv_results_["mean_test_score"]) == [1, 2]
    assert runs_of(uri) == [1] * 4


class Forker(Sleeper):
    def fit(self, X, y):
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        return super().fit(X, y)


@pytest.mark.parametrize("n_jobs", [None, 2])
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_in_processes_of_multiprocessing(uri, expected, method, n_jobs):
    fit(uri, 2, {"C": [0.1]})
    with multiprocessing.get_context(method).Pool(2) as pool:  # daemonic ones
        found = pool.starmap(fit, [(uri, n_jobs), (uri, n_jobs)])
    assert [scores for scores, _ in found] == [expected, expected]
    assert runs_of(uri) == [1] * 6


@pytest.mark.parametrize("backend", ["loky", "threading", "multiprocessing"])
def test_under_joblib(uri, expected, backend):
    found = joblib.Parallel(n_jobs=2, backend=backend)(
        joblib.delayed(fit)(uri, n_jobs) for n_jobs in (None, 2)
    )
    assert [scores for scores, _ in found] == [expected, expected]
    assert runs_of(uri) == [1] * 6


def test_a_worker_that_was_forked_away_from_is_still_used(uri, expected):
    """The child closes its copies of what leads to the parent's workers, and not the workers."""
    from optomatic.worker.pool import _warm

    fit(uri, 2, {"C": [0.1]})
    mine = {child.pid for pool in _warm for child in pool.children}
    in_fork(fit, uri, 2)
    assert fit(uri, 2, {"C": [7]})[1] == 2
    assert {child.pid for pool in _warm for child in pool.children} >= mine
    np.testing.assert_array_equal(fit(uri)[0], expected)


class WhereAmI(Sleeper):
    """Scores the number of the process that it is fitted in."""

    def fit(self, X, y):
        self.pid_ = os.getpid()
        return super().fit(X, y)

    def score(self, X, y):
        return float(self.pid_)


@pytest.mark.parametrize(
    ("n_jobs", "given", "here"), [(2, None, False), (2, 1, True), (1, 2, False)]
)
def test_n_jobs_of_parallel_config_holds_where_none_is_given(uri, n_jobs, given, here):
    with joblib.parallel_config(n_jobs=n_jobs):
        search = MongoSearchCV(WhereAmI(), {"value": [1]}, cv=2, n_jobs=given, db=uri, refit=False)
        scores = search.fit(X, Y).cv_results_["split0_test_score"]
    assert bool(scores[0] == os.getpid()) is here
