"""The parent of the children that score, on a real queue with real crashes."""

import os
import signal
import threading
import time

import bson
import numpy as np
import pytest
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from estimators import Crasher, Misbehaver, Sleeper, Unloadable
from sklearn.pipeline import Pipeline
from waiting import wait_for

from optomatic.errors import OptomaticError
from optomatic.worker import forkserver, pool
from optomatic.worker.dispatch import POLL_LONG, POLL_SHORT, POLL_SUBSCRIBED
from optomatic.worker.forkserver import Setup
from optomatic.worker.pool import Pool, current_path
from optomatic.worker.report import Installed


def values(*numbers):
    return [{"value": number} for number in numbers]


@pytest.fixture
def in_thread():
    """Run workers in threads, and have them end before the test does."""
    running = []

    def start(worker, until=lambda: False):
        thread = threading.Thread(target=worker.run, args=(until,))
        running.append((worker, thread))
        thread.start()
        return thread

    yield start
    for worker, thread in running:
        if thread.is_alive():
            worker.stop(grace=0.0)
        thread.join(120)
        assert not thread.is_alive()


def test_every_unit_is_scored_once(queue, make_worker):
    search = queue.submit(Sleeper(), values(*range(100)))
    summary = make_worker().run(queue.over(search))
    assert (summary.scored, summary.failed, summary.crashed) == (200, 0, 0)
    assert queue.states() == {"completed": 200}
    assert queue.field("runs") == [1] * 200
    assert queue.field("completed_by") == [summary.worker] * 200
    outcomes = queue.store.jobs.outcomes(queue.field("_id"))
    assert sorted(o.result.test for o in outcomes.values()) == sorted([*range(100)] * 2)


def test_scores_are_those_of_this_process_to_the_last_bit(queue, make_worker):
    value = np.nextafter(0.1, 1)
    search = queue.submit(Sleeper(), values(value))
    make_worker().run(queue.over(search))
    outcomes = queue.store.jobs.outcomes(queue.field("_id"))
    assert {o.result.test for o in outcomes.values()} == {value}


def test_values_that_are_objects_arrive_as_such(queue, make_worker):
    steps = [("last", Sleeper())]
    candidates = [{"last": Sleeper(value=7)}, {"last": Sleeper(value=8)}]
    search = queue.submit(Pipeline(steps), candidates)
    summary = make_worker().run(queue.over(search))
    assert summary.failed == 0
    outcomes = queue.store.jobs.outcomes(queue.field("_id"))
    assert sorted(o.result.test for o in outcomes.values()) == [7, 7, 8, 8]


def test_a_unit_that_kills_its_child_is_contained(queue, make_worker):
    search = queue.submit(Crasher(), values(*range(9, 30)))
    summary = make_worker().run(queue.over(search))
    assert summary.crashed == 6
    assert queue.states() == {"dead": 2, "completed": 40}
    assert queue.field("losses", state="dead") == [3, 3]
    assert queue.field("losses", state="completed") == [0] * 40
    (outcome, _) = [
        o for o in queue.store.jobs.outcomes(queue.field("_id")).values() if o.state == "dead"
    ]
    assert any("SIGSEGV" in line for line in outcome.history)
    assert len(outcome.lost_on) >= 1


def test_units_blamed_before_run_alone(queue, make_worker, tmp_path):
    """While a poison unit runs for the second and third time, nothing else is started."""
    note = tmp_path / "note"
    estimator = Misbehaver(how="die", seconds=0.02, note=str(note))
    search = queue.submit(estimator, values(*range(30)))
    make_worker().run(queue.over(search))
    assert queue.states() == {"dead": 2, "completed": 58}
    assert queue.field("losses", state="completed") == [0] * 58
    assert note.read_text().count(" 13 ") == 6


def test_a_crash_costs_the_neighbours_in_its_chunk_nothing(queue, make_worker):
    # The units before have taught the pace that chunks may be large.
    search = queue.submit(Crasher(), values(*range(100, 140), 13, *range(200, 240)))
    make_worker().run(queue.over(search))
    assert queue.states() == {"dead": 2, "completed": 160}
    assert set(queue.field("losses", state="completed")) == {0}


def test_failures_are_results(queue, make_worker):
    search = queue.submit(Unloadable(), values(1))
    make_worker().run(queue.over(search))
    assert queue.states() == {"failed": 2}
    for outcome in queue.store.jobs.outcomes(queue.field("_id")).values():
        (failure,) = outcome.result.failures
        assert (failure.stage, failure.type) == ("load", "builtins.ImportError")


def test_a_bundle_that_is_not_there_fails_its_units_and_no_others(queue, make_worker):
    bad = queue.submit(Sleeper(), values(1))
    specs = [unit["spec"]["payload"] for unit in queue.units.find()]
    queue.client.get_default_database("optomatic")["bundles"].delete_one({"_id": specs[0]})
    good = queue.submit(Crasher(), values(2))
    make_worker().run(lambda: queue.over(bad)() and queue.over(good)())
    assert queue.states() == {"failed": 2, "completed": 2}
    outcomes = queue.store.jobs.outcomes(queue.field("_id", state="failed"))
    for outcome in outcomes.values():
        assert outcome.result.failures[0].stage == "load"


def test_a_text_in_which_a_bit_has_changed_ends_no_worker(queue, make_worker):
    bad = queue.submit(Sleeper(), values(1))
    raw = CodecOptions(RawBSONDocument, unicode_decode_error_handler="replace")
    for unit in queue.units.find():
        text = unit["params_text"].encode()
        content = bson.encode(unit).replace(text, text[:-4] + bytes([text[-4] ^ 0x80]) + text[-3:])
        queue.units.replace_one({"_id": unit["_id"]}, RawBSONDocument(content, raw))
    good = queue.submit(Sleeper(), values(2))
    make_worker().run(lambda: queue.over(bad)() and queue.over(good)())
    assert queue.states() == {"invalid": 2, "completed": 2}


def test_a_unit_that_was_taken_away_is_stopped(queue, make_worker, in_thread, tmp_path):
    note = tmp_path / "note"
    search = queue.submit(Misbehaver(how="hang", note=str(note)), values(13))
    in_thread(make_worker())
    wait_for(lambda: note.exists() and len(note.read_text().splitlines()) == 2)
    pids = [int(line.split()[0]) for line in note.read_text().splitlines()]
    assert all(runs(pid) for pid in pids)
    queue.store.jobs.cancel(search)
    wait_for(lambda: not any(runs(pid) for pid in pids))
    assert queue.states() == {"cancelled": 2}
    assert queue.field("losses") == [0, 0]
    # Its place is taken by a child that works.
    other = queue.submit(Sleeper(), values(1))
    wait_for(queue.over(other))


def runs(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_second_interrupt_stops_the_heartbeat_too(queue, make_worker):
    """A heartbeat that went on would keep what is not given back from everybody else."""

    def interrupt(*_):
        raise KeyboardInterrupt

    queue.submit(Sleeper(), values(1))
    worker = make_worker(on_done=interrupt)
    worker._reservations.try_flush = interrupt
    with pytest.raises(KeyboardInterrupt):
        worker.run(lambda: False)
    assert not worker._heartbeat._thread.is_alive()


def test_a_busy_worker_polls_besides_its_subscription(make_worker):
    """Disarmed it listens for some seconds more, in which it does not ring."""
    worker = make_worker(lasting=True)
    idle = worker._idle
    idle._subscription.active = True
    for _ in range(10):
        idle.found_nothing(busy=True)
    assert 0.5 * POLL_LONG <= idle.time_left() <= 1.5 * POLL_LONG
    idle.since = time.monotonic() - 60.0
    idle.found_nothing(busy=False)
    assert idle.time_left() > 0.4 * POLL_SUBSCRIBED
    worker._leave(taken=True)


def test_a_worker_that_begins_to_idle_looks_often(make_worker):
    """Work often comes again within a moment, and its subscription begins later."""
    worker = make_worker(lasting=True)
    idle = worker._idle
    for _ in range(10):
        idle.found_nothing(busy=False)
    assert idle.time_left() <= 6 * POLL_SHORT
    idle.since = time.monotonic() - 60.0
    for _ in range(10):
        idle.found_nothing(busy=False)
    assert idle.time_left() >= 0.4 * POLL_LONG
    worker._leave(taken=True)


def test_long_units_are_renewed(queue, make_worker):
    """The lease is one second, the unit takes two and a half, and runs once."""
    search = queue.submit(Sleeper(seconds=2.5), values(1))
    make_worker().run(queue.over(search))
    assert (queue.field("runs"), queue.field("losses")) == ([1, 1], [0, 0])


def test_two_workers_share_a_queue(queue, make_worker, in_thread):
    others = Pool(1, Setup(current_path()))
    ready = [threading.Event(), threading.Event()]
    try:
        both = [make_worker(on_ready=ready[0].set), make_worker(pool=others, on_ready=ready[1].set)]
        threads = [in_thread(one, lambda: queue.count(state="completed") == 80) for one in both]
        assert all(event.wait(120) for event in ready)
        queue.submit(Sleeper(seconds=0.02), values(*range(40)))
        for thread in threads:
            thread.join(120)
    finally:
        others.close()
    assert queue.states() == {"completed": 80}
    assert queue.field("runs") == [1] * 80
    assert len(set(queue.field("completed_by"))) == 2


def test_only_units_of_its_search_are_taken(queue, make_worker):
    queue.submit(Sleeper(), values(*range(5)))
    mine = queue.submit(Sleeper(), values(3, 4, 5))
    summary = make_worker(search=mine).run(queue.over(mine))
    assert summary.scored == 6
    assert queue.states() == {"completed": 6, "queued": 6}


def test_only_queues_that_it_satisfies_are_taken(queue, make_worker):
    queue.submit(Sleeper(), values(1), requires=("gpu",))
    search = queue.submit(Sleeper(), values(1))
    queues = queue.store.workers.queues_for(Installed(), ())
    make_worker(queues=lambda: queues).run(queue.over(search))
    assert queue.states() == {"completed": 2, "queued": 2}


@pytest.mark.parametrize(
    ("name", "version"),
    [("python", "3.9"), ("scikit-learn", "0.1"), ("numpy", "0.1"), ("cloudpickle", "99")],
)
def test_work_of_another_version_is_left_alone_before_it_is_claimed(
    queue, make_worker, name, version
):
    queue.submit(Sleeper(), values(1))
    queues = queue.client.get_default_database()["queues"]
    (stored,) = queues.find()
    env = [[n, version if n == name else v] for n, v in stored["env"]]
    assert env != stored["env"]
    queues.update_one({}, {"$set": {"env": env}})
    make_worker(queues=lambda: queue.store.workers.queues_for(Installed(), ())).run(lambda: True)
    assert queue.states() == {"queued": 2}
    assert queue.field("attempt") == [0, 0]


def test_work_of_another_schema_is_left_alone(queue, make_worker):
    queue.submit(Sleeper(), values(1))
    queue.units.update_many({}, {"$set": {"v": 2}})
    make_worker().run(lambda: True)
    assert queue.field("attempt") == [0, 0]
    queue.units.update_many({}, {"$set": {"v": 1}})
    queues = queue.client.get_default_database()["queues"]
    queues.update_many({}, {"$set": {"v": 3}})
    assert queue.store.workers.queues_for(Installed(), ()) == []


def test_children_that_cannot_start_end_the_worker_with_a_reason(queue, make_worker, monkeypatch):
    monkeypatch.setattr(forkserver, "python_command", lambda *_: ["false"])
    monkeypatch.setattr(pool, "_orders", None)  # no fork server is there yet
    queue.submit(Sleeper(), values(1))
    with pytest.raises(OptomaticError, match="exit code 1"):
        make_worker().run(lambda: False)
    assert queue.states() == {"queued": 2}


def test_stopping_gives_back_what_does_not_run(queue, make_worker, in_thread, tmp_path):
    note = tmp_path / "note"
    search = queue.submit(Misbehaver(seconds=0.5, note=str(note)), values(*range(10)))
    worker = make_worker()
    thread = in_thread(worker)
    wait_for(lambda: note.exists() and len(note.read_text().splitlines()) == 2)
    worker.stop(grace=30.0)
    thread.join(120)
    assert queue.states() == {"completed": 2, "queued": 18}
    assert set(queue.field("losses")) == {0}
    assert not queue.over(search)()


def test_stopping_without_grace_charges_no_unit(queue, make_worker, in_thread, tmp_path):
    note = tmp_path / "note"
    queue.submit(Misbehaver(how="hang", note=str(note)), values(13))
    worker = make_worker()
    thread = in_thread(worker)
    wait_for(lambda: note.exists() and len(note.read_text().splitlines()) == 2)
    worker.stop(grace=0.1)
    thread.join(120)
    assert not thread.is_alive()
    assert queue.states() == {"queued": 2}
    assert queue.field("losses") == [0, 0]


def test_an_interrupt_keeps_what_is_finished_and_gives_back_the_rest(queue, make_worker, tmp_path):
    search = queue.submit(Misbehaver(seconds=0.1), values(*range(20)))
    half = len(queue.field("_id")) // 4
    killer = threading.Thread(
        target=lambda: (
            wait_for(lambda: queue.count(state="completed") >= half),
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT),
        )
    )
    killer.start()
    with pytest.raises(KeyboardInterrupt):
        make_worker().run(queue.over(search))
    killer.join()
    states = queue.states()
    assert set(states) == {"completed", "queued"}
    assert set(queue.field("losses")) == {0}
