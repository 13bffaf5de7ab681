"""Workers that stand still for longer than a lease, as a laptop or a virtual machine does."""

import signal

import psutil
import pytest
from estimators import Sleeper
from waiting import wait_for

#: Long enough for a loaded machine, short enough to wait for.
LEASE = 3
UNITS = 24


@pytest.fixture
def two_at_work(queue, worker):
    """Two workers in the middle of a queue."""
    queue.submit(Sleeper(seconds=0.5), [{"value": n} for n in range(UNITS // 2)])
    workers = [worker(OPTOMATIC_LEASE=str(LEASE)) for _ in range(2)]
    wait_for(lambda: len(holders(queue)) == 2, workers[0], 60)
    return workers


def holders(queue):
    """Return which workers have something started."""
    return {unit["worker"] for unit in queue.units.find({"state": "running", "started": True})}


def send(worker, number, *, whole):
    """Send a signal to a supervisor, or to its children too."""
    supervisor = psutil.Process(worker.pid)
    for process in [supervisor, *(supervisor.children(recursive=True) if whole else ())]:
        process.send_signal(number)


def worker_id(queue, process):
    return queue.units.database["workers"].find_one({"process.pid": process.pid})["_id"]


def seen_at(queue, process):
    return queue.units.database["workers"].find_one({"process.pid": process.pid})["seen_at"]


def ends(queue):
    fields = ("completed_by", "completed_at", "result")
    return {
        unit["_id"]: [unit[name] for name in fields]
        for unit in queue.units.find({"state": "completed"})
    }


def end(process):
    """Ask a worker to end; return its log."""
    process.terminate()
    _, log = process.communicate(timeout=120)
    assert process.returncode == 0, log
    return log


@pytest.mark.parametrize("whole", [False, True], ids=["supervisor", "with its children"])
def test_a_worker_that_stood_still_changes_nothing_when_it_goes_on(queue, two_at_work, whole):
    stopped, other = two_at_work
    its_id = worker_id(queue, stopped)
    send(stopped, signal.SIGSTOP, whole=whole)
    wait_for(lambda: not queue.count(worker=its_id, state="running") and queue.count(losses=1))
    lost = set(queue.field("_id", losses=1))
    wait_for(lambda: queue.count(losses=1, state="completed") == len(lost))
    before, moment = ends(queue), seen_at(queue, stopped)
    send(stopped, signal.SIGCONT, whole=whole)
    wait_for(lambda: seen_at(queue, stopped) > moment, stopped)
    wait_for(lambda: queue.count(state="completed") == UNITS, other, 60)
    log = end(stopped)
    assert "others were first" in log or "were taken away" in log
    end(other)
    after = ends(queue)
    assert {unit_id: after[unit_id] for unit_id in before} == before
    assert its_id not in {after[unit_id][0] for unit_id in lost}
    assert 1 <= len(lost) <= 2  # what ran, and what was started ahead of it
    for unit in queue.units.find():
        assert unit["losses"] == (unit["_id"] in lost)
        assert unit["runs"] == 1 + unit["losses"]


def test_a_suspended_machine_loses_no_leases(queue, two_at_work):
    """Whoever wakes up first finds that every lease is over; but the others live."""
    for one in two_at_work:
        send(one, signal.SIGSTOP, whole=True)
    over = {"$expr": {"$lt": ["$lease_until", "$$NOW"]}}
    running = queue.count(state="running")
    wait_for(lambda: queue.count(state="running", **over) == running > 0)
    for one in two_at_work:
        send(one, signal.SIGCONT, whole=True)
    wait_for(lambda: queue.count(state="completed") == UNITS, two_at_work[0], 60)
    assert queue.field("losses") == [0] * UNITS
    assert queue.field("runs") == [1] * UNITS
