"""Ctrl-C and kill -9 of a fit leave what is finished, and the next fit does the rest."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pymongo import MongoClient
from waiting import wait_for

from optomatic import MongoSearchCV

TESTS = Path(__file__).parents[1]
SCRIPT = """
import signal
import sys
import numpy as np
from estimators import Sleeper
from optomatic import MongoSearchCV

# Started from a shell's background it would ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)
uri, n_jobs, values = sys.argv[1], eval(sys.argv[2]), eval(sys.argv[3])
X, y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2
search = MongoSearchCV(Sleeper(seconds=0.15), {"value": values}, cv=2, n_jobs=n_jobs, db=uri)
print(search.fit(X, y).summary_)
"""
N_UNITS = 40


def units(uri):
    return MongoClient(uri).get_default_database()["units"]


def start_fit(uri, n_jobs, values=tuple(range(20))):
    path = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, uri, repr(n_jobs), repr(list(values))],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def fit_again(uri, n_jobs):
    from estimators import Sleeper

    X, y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2
    search = MongoSearchCV(
        Sleeper(seconds=0.15), {"value": list(range(20))}, cv=2, n_jobs=n_jobs, db=uri
    )
    return search.fit(X, y)


@pytest.mark.parametrize("n_jobs", [None, 2])
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_the_next_fit_does_only_the_rest(uri, how, n_jobs):
    client = start_fit(uri, n_jobs)
    wait_for(lambda: units(uri).count_documents({"state": "completed"}) >= 5, client)
    client.send_signal(how)
    _, errors = client.communicate(timeout=30)
    assert client.returncode != 0, errors
    finished = units(uri).count_documents({"state": "completed"})
    assert 5 <= finished < N_UNITS
    if how == signal.SIGINT:
        assert "KeyboardInterrupt" in errors
        assert not units(uri).count_documents({"state": {"$in": ["queued", "running"]}})
    again = fit_again(uri, n_jobs)
    assert again.summary_.stored >= finished
    assert again.summary_.stored + again.summary_.scored == N_UNITS
    # What was started and lost in the kill counts twice, nothing else does: for each worker what
    # runs, and up to half a second of work (four units) that was started ahead.
    extra = sum(u["runs"] for u in units(uri).find()) - N_UNITS
    assert 0 <= extra <= 5 * (n_jobs or 1)
    np.testing.assert_array_equal(again.cv_results_["mean_test_score"], np.arange(20.0))


def test_a_killed_fit_is_taken_up_at_once_not_after_its_lease(uri):
    """The lease of an in-process fit is minutes; its vanished process is noticed at once."""
    client = start_fit(uri, None)
    wait_for(lambda: units(uri).count_documents({"started": True, "state": "running"}), client)
    client.kill()
    client.communicate(timeout=30)
    held = [u["_id"] for u in units(uri).find({"state": "running", "started": True})]
    assert held
    fit_again(uri, 2)  # would time out if it waited for the lease of 300 s
    assert {u["state"] for u in units(uri).find({"_id": {"$in": held}})} == {"completed"}


def test_two_overlapping_fits_execute_each_unit_once(uri):
    both = [start_fit(uri, None, range(14)), start_fit(uri, 2, range(6, 20))]
    for client in both:
        _, errors = client.communicate(timeout=60)
        assert client.returncode == 0, errors
    documents = list(units(uri).find())
    assert len(documents) == N_UNITS
    assert {(u["state"], u["runs"]) for u in documents} == {("completed", 1)}
