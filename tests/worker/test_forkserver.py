"""The process that children are forked from is killed, as by a system that lacks memory."""

import contextlib
import os
import signal
import socket
import threading

import numpy as np
import psutil
import pytest
from estimators import Misbehaver, Sleeper
from waiting import wait_for

from optomatic import MongoSearchCV
from optomatic.errors import OptomaticError
from optomatic.worker import forkserver, pool
from optomatic.worker.forkserver import CAN_FORK, ForkServer, Setup, StartFailed
from optomatic.worker.pool import Pool, close_all, current_path

pytestmark = pytest.mark.skipif(not CAN_FORK, reason="children are not forked on this system")
X, Y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2


def fork_servers(pid):
    """Return the numbers of the fork servers that a process has started and that live."""
    found = set()
    for child in psutil.Process(pid).children():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            if "optomatic.worker.forkserver" in child.cmdline():
                found.add(child.pid)
    return found


def kill_fork_server(pid):
    """Kill the fork server of a process as soon as there is one."""
    wait_for(lambda: fork_servers(pid))
    for one in fork_servers(pid):
        os.kill(one, signal.SIGKILL)


@contextlib.contextmanager
def killing(pid, spared=frozenset()):
    """Kill each fork server of a process as soon as it is seen; yield their numbers."""
    killed, over = set(), threading.Event()

    def kill():
        while not over.wait(0.01):
            with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
                for one in fork_servers(pid) - spared:
                    os.kill(one, signal.SIGKILL)
                    killed.add(one)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()


def values(*numbers):
    return [{"value": number} for number in numbers]


def lines(note):
    return note.read_text().splitlines() if note.exists() else []


@pytest.fixture
def no_fork_server(monkeypatch):
    """This process has no fork server and no warm children yet."""
    close_all()
    monkeypatch.setattr(pool, "_orders", None)
    for one in fork_servers(os.getpid()):
        os.kill(one, signal.SIGKILL)
    yield
    close_all()


def test_it_has_imported_what_each_child_needs(queue, worker):
    """Otherwise each child takes seconds to start, and shares no memory with its siblings."""
    process = worker()
    assert "ready" in process.stdout.readline()
    (one,) = fork_servers(process.pid)
    mapped = {file.path for file in psutil.Process(one).memory_maps()}
    assert any("/sklearn/" in path for path in mapped)


def test_a_worker_starts_again_when_it_was_killed_as_it_started(queue, worker):
    queue.submit(Sleeper(), values(1, 2))
    process = worker("--until-empty")
    kill_fork_server(process.pid)
    out, log = process.communicate(timeout=120)
    assert process.returncode == 0, log
    assert "processes that score ended by SIGKILL, and are started again" in log
    assert out.count("ready") == 1
    assert queue.states() == {"completed": 4}


def test_a_worker_whose_fork_servers_are_all_killed_ends_with_the_reason(queue, worker):
    queue.submit(Sleeper(), values(1, 2))
    process = worker("--processes", "2")
    with killing(process.pid) as killed:
        _, log = process.communicate(timeout=120)
    assert process.returncode == 1
    assert len(killed) == 5
    reason = log.splitlines()[-1]
    assert reason.startswith("optomatic worker: The processes that score units end before they")
    assert "5 in a row (the last by SIGKILL)" in reason
    assert "too much memory" in reason
    assert "Traceback" not in log
    assert queue.states() == {"queued": 4}


def test_an_idle_worker_starts_again_when_it_was_killed_later(queue, worker):
    process = worker()
    assert "ready" in process.stdout.readline()
    (first,) = fork_servers(process.pid)
    os.kill(first, signal.SIGKILL)
    search = queue.submit(Sleeper(), values(1, 2))
    wait_for(queue.over(search), process)
    assert fork_servers(process.pid).isdisjoint({first})
    assert queue.states() == {"completed": 4}


def test_units_are_not_charged_when_the_fork_server_is_killed(queue, worker, tmp_path):
    note = tmp_path / "note"
    search = queue.submit(Misbehaver(seconds=1.0, note=str(note)), values(1, 2))
    process = worker("--processes", "2")
    wait_for(lambda: len(lines(note)) == 2, process)
    kill_fork_server(process.pid)
    wait_for(queue.over(search), process)
    assert queue.states() == {"completed": 4}
    assert queue.field("losses") == [0] * 4


def test_a_worker_whose_children_never_get_to_an_end_ends_with_the_reason(queue, worker, tmp_path):
    """Each time the units begin, and their fork server is killed."""
    note = tmp_path / "note"
    queue.submit(Misbehaver(how="hang", note=str(note)), values(13))
    process = worker("--processes", "2")

    def begun(number):
        return len(lines(note)) >= number or process.poll() is not None

    for number in range(2, 16, 2):  # two times more than it may take, at most
        wait_for(lambda number=number: begun(number), seconds=60.0)
        if process.poll() is None:
            kill_fork_server(process.pid)
    _, log = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "in a row (the last by SIGKILL)" in log.splitlines()[-1]
    assert queue.states() == {"queued": 2}
    assert queue.field("losses") == [0, 0]


def fitted(uri, **params):
    search = MongoSearchCV(Sleeper(), {"value": [1, 2, 3]}, cv=2, n_jobs=2, db=uri, **params)
    return search.fit(X, Y)


def test_a_fit_goes_on_when_it_was_killed_as_it_started(uri, no_fork_server):
    thread = threading.Thread(target=kill_fork_server, args=(os.getpid(),))
    thread.start()
    search = fitted(uri)
    thread.join()
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], [1, 2, 3])


def test_a_fit_whose_fork_servers_are_all_killed_raises_the_reason(uri, no_fork_server):
    with killing(os.getpid()) as killed, pytest.raises(OptomaticError, match="SIGKILL") as caught:
        fitted(uri)
    assert len(killed) == 5
    assert "\n" not in str(caught.value)
    # The next fit begins anew.
    search = fitted(uri)
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], [1, 2, 3])


def test_the_children_of_a_fit_are_replaced_when_it_was_killed_between_two(uri, no_fork_server):
    fitted(uri)
    kill_fork_server(os.getpid())
    search = MongoSearchCV(Sleeper(), {"value": [4, 5]}, cv=2, n_jobs=2, db=uri).fit(X, Y)
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], [4, 5])


def test_a_child_that_lives_goes_on_alone(queue, make_worker, no_fork_server, monkeypatch):
    pool = Pool(1, Setup(current_path()))
    try:
        first = queue.submit(Sleeper(), values(0))
        make_worker(pool).run(queue.over(first))
        (child,) = pool.children
        # What another number of threads asks for is another fork server.
        monkeypatch.setenv("OMP_NUM_THREADS", "7")
        pool.size = 2
        with killing(os.getpid(), spared=frozenset(fork_servers(os.getpid()))) as killed:
            search = queue.submit(Sleeper(seconds=0.5), values(*range(1, 9)))
            make_worker(pool).run(queue.over(search))
        assert pool.children == [child]
        assert len(killed) > 1
    finally:
        pool.close()
    assert queue.states() == {"completed": 18}


def test_one_that_cannot_fork_says_so_and_lives(monkeypatch):
    """As where there is no memory: its children must not end with it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def fail():
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(forkserver.os, "fork", fail)
    thread = threading.Thread(target=forkserver._serve, args=(theirs, None))
    thread.start()
    seen = ForkServer.__new__(ForkServer)
    seen._lock, seen._ours, seen._environ = threading.Lock(), ours, {}
    seen._setup = Setup(current_path())
    for _ in range(2):
        with pytest.raises(StartFailed, match="Cannot allocate memory"):
            seen.fork(0, None)
    ours.close()
    thread.join(120)
    assert not thread.is_alive()
    theirs.close()
