"""Workers that are killed, that are not there, and clients that vanish."""

import signal
import sys

import joblib
import psutil
import pytest
from functions import crash, hang_first_time, large_without_room, pid, square
from joblib import Parallel, delayed, parallel_config
from waiting import wait_for

import optomatic  # noqa: F401
from optomatic.errors import CallLost, NoWorkers


@pytest.fixture
def calling(own):
    with parallel_config(backend="optomatic", db=own.uri):
        yield own


def test_a_call_whose_worker_is_killed_is_run_again(calling, tmp_path):
    note = tmp_path / "note"
    first, second = calling.start(), calling.start()
    values = Parallel(return_as="generator")([delayed(hang_first_time)(note), delayed(square)(2)])
    wait_for(lambda: note.exists() and note.read_text())
    above = {process.pid for process in psutil.Process(int(note.read_text())).parents()}
    (unlucky,) = [worker for worker in (first, second) if worker.pid in above]
    unlucky.kill()
    assert list(values) == ["the second time", 4]
    assert unlucky.wait() == -signal.SIGKILL


def test_a_call_that_ends_its_worker_three_times_is_an_error(calling, tmp_path):
    worker = calling.start()
    note = tmp_path / "note"
    with pytest.raises(CallLost, match=r"3 times \(on .*SIGSEGV") as caught:
        Parallel()([delayed(crash)(note), delayed(square)(2)])
    assert "is not tried again" in str(caught.value)
    assert note.read_text() == "xxx"
    # The worker has outlived its processes.
    assert worker.poll() is None
    assert Parallel()(delayed(square)(i) for i in range(3)) == [0, 1, 4]


def test_results_are_returned_without_room_on_the_worker(calling, tmp_path):
    calling.start(OPTOMATIC_CACHE_DIR=str(tmp_path))
    assert Parallel(n_jobs=2)([delayed(large_without_room)()]) == [b"x" * 1_000_000]
    assert not [path for path in tmp_path.rglob("*") if "returned" in path.name]


def test_a_warning_says_that_no_worker_is_there_and_a_late_one_serves(calling, monkeypatch):
    monkeypatch.setattr("optomatic.joblib_backend.client.LONELY_SECONDS", 0.5)
    with pytest.warns(NoWorkers, match=r"optomatic worker --db 'mongodb://127"):
        assert joblib.effective_n_jobs(-1) == 2
    values = Parallel(n_jobs=2, return_as="generator")(delayed(square)(i) for i in range(4))
    with pytest.warns(NoWorkers, match="none has been seen") as caught:
        wait_for(lambda: caught.list)
    assert calling.calls(state="queued") == 4
    calling.start()
    assert list(values) == [0, 1, 4, 9]


def test_removed_calls_are_an_error(calling, monkeypatch):
    monkeypatch.setattr("optomatic.joblib_backend.client.LONELY_SECONDS", 0.5)
    values = Parallel(n_jobs=2, return_as="generator")(delayed(square)(i) for i in range(2))
    with pytest.warns(NoWorkers) as caught:
        wait_for(lambda: caught.list)
    assert calling.database["units"].delete_many({"kind": "call"}).deleted_count == 2
    with pytest.raises(CallLost, match="not in the database any more"):
        list(values)


CLIENT = """
import joblib, optomatic, functions
with joblib.parallel_config(backend="optomatic", n_jobs=2):
    joblib.Parallel(batch_size=1, pre_dispatch="all")(
        joblib.delayed(functions.note_and_hang)({folder!r}, n) for n in range(10)
    )
"""


def test_the_calls_of_a_client_that_vanished_are_withdrawn(calling, start_process, tmp_path):
    calling.start()
    client = start_process(
        *(sys.executable, "-c", CLIENT.format(folder=str(tmp_path))), OPTOMATIC_DB=calling.uri
    )
    wait_for(lambda: (tmp_path / "0").exists() and (tmp_path / "0").read_text(), client)
    hung = int((tmp_path / "0").read_text())
    client.kill()
    client.wait()
    wait_for(lambda: not calling.calls())
    wait_for(lambda: not psutil.pid_exists(hung))
    assert Parallel()(delayed(square)(i) for i in range(3)) == [0, 1, 4]


def test_units_and_calls_share_the_workers(calling):
    """A fit beside calls, of one worker."""
    import numpy as np
    from estimators import Sleeper

    from optomatic import MongoSearchCV

    calling.start()
    X, y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2
    values = Parallel(return_as="generator", batch_size=1)(delayed(pid)() for _ in range(20))
    search = MongoSearchCV(Sleeper(), {"value": [1, 2, 3]}, cv=2, n_jobs=0, db=calling.uri)
    search.fit(X, y)
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], [1, 2, 3])
    assert len(set(values)) == 1
    wait_for(lambda: calling.database["units"].distinct("kind") == ["score"])
