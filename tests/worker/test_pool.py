"""The local workers of fit: warm between fits, alone with their fit, gone with their process."""

import importlib
import multiprocessing
import os
import signal
import sys
import threading

import numpy as np
import psutil
import pytest
from estimators import Misbehaver, Sleeper
from waiting import wait_for

from optomatic import MongoSearchCV
from optomatic.worker import pool as pools
from optomatic.worker.pool import close_all, warm_pool


@pytest.fixture(autouse=True)
def no_warm_children():
    close_all()
    yield
    close_all()


@pytest.fixture
def fit(queue, make_worker, tmp_path):
    """Have `size` local workers score candidates; return the pids of the children."""

    def fit(size, values, **params):
        note = tmp_path / f"note {threading.get_ident()} {len(list(tmp_path.iterdir()))}"
        estimator = Misbehaver(note=str(note), **params)
        with warm_pool(size) as pool:
            search = queue.submit(estimator, [{"value": value} for value in values])
            summary = make_worker(pool, search=search).run(queue.over(search))
            children = {child.pid for child in pool.children}
        assert summary.scored == 2 * len(values)
        scored = {int(line.split()[0]) for line in note.read_text().splitlines()}
        # One that still loads may have had nothing to do.
        assert scored <= children
        return children

    return fit


def test_the_next_fit_finds_them_warm(queue, fit):
    first = fit(2, [1, 2, 3, 4], seconds=0.05)
    second = fit(2, [5, 6, 7, 8], seconds=0.05)
    assert first == second
    assert len(first) == 2
    assert queue.states() == {"completed": 16}


def test_another_number_of_threads_needs_new_ones(fit, monkeypatch):
    monkeypatch.setattr(pools, "cores", lambda: 4)
    two = fit(2, [1, 2, 3, 4], seconds=0.05)
    four = fit(4, [5, 6, 7, 8], seconds=0.1)
    assert not two & four
    wait_for(lambda: not any(psutil.pid_exists(pid) for pid in two))


def test_a_module_that_was_loaded_anew_is_loaded_anew_by_them(uri, tmp_path, monkeypatch):
    """As in a notebook: edit, reload, fit again."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    module = tmp_path / "edited_model.py"
    code = (
        "from estimators import Sleeper\n"
        "class Model(Sleeper):\n"
        "    def score(self, X, y):\n"
        "        return self.value + {}\n"
    )
    module.write_text(code.format(100))
    edited = importlib.import_module("edited_model")
    X, y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2

    def scores():
        search = MongoSearchCV(
            edited.Model(), {"value": [1, 2]}, cv=2, n_jobs=2, refit=False, db=uri
        )
        return list(search.fit(X, y).cv_results_["mean_test_score"])

    try:
        assert scores() == [101, 102]
        module.write_text(code.format(20_000))
        importlib.reload(edited)
        assert scores() == [20_001, 20_002]
    finally:
        del sys.modules["edited_model"]


def test_more_and_fewer_keep_those_that_fit(fit, monkeypatch):
    monkeypatch.setattr(pools, "threads_each", lambda *_: 1)
    two = fit(2, [1, 2, 3, 4], seconds=0.1)
    three = fit(3, [5, 6, 7, 8], seconds=0.2)
    assert two < three
    one = fit(1, [9, 10])
    assert one < three
    wait_for(lambda: sum(psutil.pid_exists(pid) for pid in three) == 1)


def test_one_that_ended_meanwhile_is_replaced(fit):
    first = fit(2, [1, 2, 3, 4], seconds=0.05)
    gone = first.pop()
    os.kill(gone, signal.SIGKILL)
    second = fit(2, [5, 6, 7, 8], seconds=0.2)
    assert first < second
    assert gone not in second


def test_two_fits_at_once_have_their_own(fit):
    found = []
    threads = [
        threading.Thread(target=lambda n=n: found.append(fit(1, [n, n + 1], seconds=0.5)))
        for n in (0, 10)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(found) == 2
    assert not found[0] & found[1]


def test_children_outlive_the_thread_that_used_them_first(fit):
    found = []
    thread = threading.Thread(target=lambda: found.append(fit(1, [1, 2])))
    thread.start()
    thread.join(120)
    assert fit(1, [3, 4]) == found[0]


def test_a_fork_does_not_use_the_children_of_its_parent(fit):
    pids = fit(1, [1, 2])
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    process = context.Process(target=lambda: answers.put(children_after_fork()))
    process.start()
    process.join(120)
    assert process.exitcode == 0
    assert set(answers.get()).isdisjoint(pids)
    assert fit(1, [3, 4]) == pids


def children_after_fork():
    with warm_pool(1) as pool:
        pids = [child.pid for child in pool.children]
    close_all()
    return pids


def test_a_pool_has_at_least_one():
    with pytest.raises(ValueError, match="at least one"), warm_pool(0):
        pass


def test_an_interrupt_stops_what_runs_and_keeps_what_is_idle(queue, make_worker, tmp_path):
    note = tmp_path / "note"
    search = queue.submit(Misbehaver(how="hang", note=str(note)), [{"value": 13}])
    main = threading.main_thread().ident

    def interrupt():
        wait_for(lambda: note.exists() and len(note.read_text().splitlines()) == 2)
        signal.pthread_kill(main, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with warm_pool(3) as pool:
        idle = {child.pid for child in pool.children}
        with pytest.raises(KeyboardInterrupt):
            make_worker(pool, search=search).run(queue.over(search))
    thread.join()
    ran = {int(line.split()[0]) for line in note.read_text().splitlines()}
    assert not any(psutil.pid_exists(pid) for pid in ran)
    assert all(psutil.pid_exists(pid) for pid in idle - ran)
    assert queue.states() == {"queued": 2}
    assert queue.field("losses") == [0, 0]


SCRIPT = """
import sys
from optomatic.driver.executors import LocalWorkers
from optomatic.store.connection import open_store
from optomatic.worker.pool import warm_pool
store = open_store(sys.argv[1])
if sys.argv[2] == "none":
    with warm_pool(2):
        pass
else:
    LocalWorkers(2).work(store, sys.argv[2], lambda: False)
"""


@pytest.fixture
def script(queue, start_process, tmp_path):
    command = (sys.executable, "-c", SCRIPT, queue.uri)
    return lambda search: start_process(*command, search, XDG_CACHE_HOME=str(tmp_path))


def test_children_die_with_a_fit_that_is_killed(queue, script, tmp_path):
    note = tmp_path / "note"
    search = queue.submit(Misbehaver(how="hold", note=str(note)), [{"value": 13}])
    process = script(search)
    wait_for(lambda: note.exists() and len(note.read_text().splitlines()) == 2, process)
    pids = {int(line.split()[0]) for line in note.read_text().splitlines()}
    process.kill()
    process.wait()
    wait_for(lambda: not any(_runs(pid) for pid in pids))


def _runs(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_the_end_of_a_process_ends_its_warm_children(script):
    process = script("none")
    seen = set()

    def started():
        seen.update(psutil.Process(process.pid).children(recursive=True))
        return len(seen) >= 3  # two, and what they were forked from

    wait_for(started)
    assert process.wait(120) == 0
    wait_for(lambda: not any(child.is_running() for child in seen))


def test_units_of_the_search_of_another_are_left_alone(queue, fit):
    queue.submit(Sleeper(), [{"value": 1}])
    fit(1, [2, 3])
    assert queue.states() == {"queued": 2, "completed": 4}
