"""Ctrl-C and kill -9 of a fit leave what is finished, and the next fit does the rest."""

import signal
import subprocess
import sys

import numpy as np
import pytest
import workers
from estimators import Hurried
from servers import units
from waiting import wait_for

from optomatic import MongoSearchCV, attach
from optomatic.store.jobs import Jobs

SCRIPT = """
import signal
import sys
import numpy as np
from estimators import Hurried
from optomatic import MongoSearchCV

# Started from a shell's background it would ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)
uri, n_jobs, values, hurry = sys.argv[1], eval(sys.argv[2]), eval(sys.argv[3]), sys.argv[4]
X, y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2
slow = Hurried(seconds=0.15, hurry=hurry)
search = MongoSearchCV(slow, {"value": values}, cv=2, n_jobs=n_jobs, db=uri)
print(search.fit(X, y).summary_)
"""
N_UNITS = 40


def start_fit(uri, n_jobs, hurry, values=tuple(range(20))):
    return workers.start(
        *(sys.executable, "-c", SCRIPT, uri, repr(n_jobs), repr(list(values)), hurry),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def fit_again(uri, n_jobs, hurry):
    """Fit the same, with no wait but in what was begun before."""
    hurry.touch()
    X, y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2
    slow = Hurried(seconds=0.15, hurry=str(hurry))
    search = MongoSearchCV(slow, {"value": list(range(20))}, cv=2, n_jobs=n_jobs, db=uri)
    return search.fit(X, y)


def frozen_at_work(client, uri):
    """Freeze a client if it has begun a unit, and tell whether it is so."""
    client.send_signal(signal.SIGSTOP)
    if units(uri).count_documents({"state": "running", "started": True}):
        return True
    client.send_signal(signal.SIGCONT)
    return False


@pytest.mark.parametrize("n_jobs", [None, 2])
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_the_next_fit_does_only_the_rest_and_at_once(uri, how, n_jobs, tmp_path):
    """The lease of a fit is minutes; that its process has vanished is noticed at once."""
    hurry = tmp_path / "hurry"
    client = start_fit(uri, n_jobs, hurry)
    wait_for(lambda: units(uri).count_documents({"state": "completed"}) >= 5, client)
    if how == signal.SIGKILL:
        wait_for(lambda: frozen_at_work(client, uri), client)
    client.send_signal(how)
    _, errors = client.communicate(timeout=120)
    assert client.returncode != 0, errors
    finished = units(uri).count_documents({"state": "completed"})
    assert 5 <= finished < N_UNITS
    if how == signal.SIGINT:
        assert "KeyboardInterrupt" in errors
        assert not units(uri).count_documents({"state": {"$in": ["queued", "running"]}})
    held = [u["_id"] for u in units(uri).find({"state": "running", "started": True})]
    assert bool(held) == (how == signal.SIGKILL)
    again = fit_again(uri, n_jobs, hurry)  # would time out if it waited for the lease of 300 s
    assert {u["state"] for u in units(uri).find({"_id": {"$in": held}})} <= {"completed"}
    assert again.summary_.stored >= finished
    assert again.summary_.stored + again.summary_.scored == N_UNITS
    # What was started and lost in the kill counts twice, nothing else does: for each worker what
    # runs, and up to half a second of work (four units) that was started ahead.
    extra = sum(u["runs"] for u in units(uri).find()) - N_UNITS
    assert 0 <= extra <= 5 * (n_jobs or 1)
    np.testing.assert_array_equal(again.cv_results_["mean_test_score"], np.arange(20.0))


def test_two_overlapping_fits_execute_each_unit_once(uri, tmp_path):
    hurry = tmp_path / "never"
    both = [start_fit(uri, None, hurry, range(14)), start_fit(uri, 2, hurry, range(6, 20))]
    for client in both:
        _, errors = client.communicate(timeout=120)
        assert client.returncode == 0, errors
    documents = list(units(uri).find())
    assert len(documents) == N_UNITS
    assert {(u["state"], u["runs"]) for u in documents} == {("completed", 1)}


@pytest.mark.parametrize("options", [{}, {"time_budget": 600.0}])
def test_ctrl_c_while_stored_scores_are_looked_up_is_raised_at_once(uri, options, monkeypatch):
    def search():
        return MongoSearchCV(Hurried(hurry="/"), {"value": [1, 2]}, cv=2, db=uri, **options)

    X, y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2
    search().fit(X, y)
    stored = Jobs.stored

    def stored_and_interrupted(jobs, asked):
        stored(jobs, asked)
        raise KeyboardInterrupt

    monkeypatch.setattr(Jobs, "stored", stored_and_interrupted)
    interrupted = search()
    with pytest.raises(KeyboardInterrupt):
        interrupted.fit(X, y)
    assert not hasattr(interrupted, "cv_results_")
    assert attach(interrupted.search_id_, db=uri).state == "interrupted"
