"""A worker outlives an outage of its server, however long, and goes on by itself."""

import logging
import signal
import threading
import time

import pytest
import servers
from estimators import Sleeper
from pymongo.errors import PyMongoError
from waiting import wait_for

from optomatic.keys.environment import required_versions
from optomatic.records import Timing, WorkerRecord
from optomatic.store.claims import Claims
from optomatic.store.jobs import Jobs
from optomatic.store.parts import Parts
from optomatic.store.retry import Outage
from optomatic.store.workers import Workers, this_process
from optomatic.worker.disk_cache import Cache
from optomatic.worker.dispatch import WorkerOptions
from optomatic.worker.worker import Worker

#: Seconds for which a call is tried again; far less than the outage lasts.
PATIENCE = 0.5
OUTAGE = 4.0
TIMING = Timing(lease=3.0, unstarted=1.0)
LASTING = WorkerOptions(lasting=True)


@pytest.fixture(params=["standalone", "replica set"])
def server(mongod, request):
    """A server of its own, to be killed."""
    alone = request.param == "standalone"
    server = servers.standalone() if alone else servers.replica_set(1)
    yield server
    server.remove()


@pytest.fixture
def uri(server):
    address = server.uri("outage")
    return f"{address}{'&' if '?' in address else '?'}timeoutMS=1000"


@pytest.fixture
def impatient(queue):
    """Have the store give up soon, so that an outage need not last for minutes."""
    database = queue.store._client.get_default_database()  # which writes as is due
    outage = Outage(PATIENCE)
    queue.store.jobs = Jobs(database, outage)
    queue.store.claims = Claims(database, outage, timing=TIMING)
    queue.store.workers = Workers(database, outage)
    queue.store.parts = Parts(database, outage)
    return queue


def completed(queue):
    try:
        return queue.count(state="completed")
    except PyMongoError:
        return 0


def test_an_outage_longer_than_leases_and_patience_costs_nothing(
    server, impatient, pool, tmp_path, caplog
):
    caplog.set_level(logging.INFO)
    queue = impatient
    search = queue.submit(Sleeper(seconds=0.2), [{"value": value} for value in range(30)])
    record = WorkerRecord("w", "standalone", this_process(), pool.size, required_versions({}))
    cache = Cache(tmp_path / "cache")
    worker = Worker(queue.store, pool, cache, record, LASTING)
    thread = threading.Thread(target=worker.run, args=(queue.over(search),))
    thread.start()
    wait_for(lambda: completed(queue) >= 4)
    (member,) = server.members
    member.kill()
    wait_for(lambda: "the store does not answer, waiting for it" in caplog.text)
    time.sleep(OUTAGE)  # the outage itself: nothing is waited for
    member.start()
    thread.join(120)
    assert not thread.is_alive()
    assert "the store answers again" in caplog.text
    wait_for(lambda: completed(queue) == 60)
    assert set(queue.field("losses")) == {0}
    assert set(queue.field("runs")) == {1}


def test_a_worker_that_is_stopped_does_not_wait_for_an_unreachable_store(
    server, queue, pool, tmp_path
):
    record = WorkerRecord("w", "standalone", this_process(), pool.size, required_versions({}))
    worker = Worker(queue.store, pool, Cache(tmp_path / "c"), record, LASTING)
    thread = threading.Thread(target=worker.run, args=(lambda: False,))
    thread.start()
    wait_for(lambda: worker.idle_for() is not None)
    (member,) = server.members
    member.kill()
    wait_for(lambda: queue.store._outage.since is not None)
    worker.stop(grace=0.0)
    thread.join(45.0)  # only against a hang: the store alone would be waited for longer
    assert not thread.is_alive()
    member.start()


class Noted(Workers):
    """Notes who signs off."""

    def __init__(self, database, outage):
        super().__init__(database, outage)
        self.left = []

    def leave(self, worker):
        self.left.append(worker)
        super().leave(worker)


@pytest.mark.parametrize("server", ["standalone"], indirect=True)
@pytest.mark.parametrize("frozen", [True, False])
def test_only_who_could_give_back_what_it_had_signs_off(server, queue, pool, tmp_path, frozen):
    """Its record says whose process is gone, which is how others find what it still holds."""
    workers = Noted(queue.store._client.get_default_database(), queue.store._outage)
    queue.store.workers = workers
    queue.submit(Sleeper(seconds=300.0), [{"value": 1}])
    record = WorkerRecord("w", "standalone", this_process(), pool.size, required_versions({}))
    worker = Worker(queue.store, pool, Cache(tmp_path / "c"), record, LASTING)
    thread = threading.Thread(target=worker.run, args=(lambda: False,))
    thread.start()
    wait_for(lambda: all(child.running for child in pool.children) and pool.children)
    (member,) = server.members
    if frozen:
        member.signal(signal.SIGSTOP)
    worker.stop(grace=0.0)
    thread.join(45.0)  # only against a hang
    assert not thread.is_alive()
    assert workers.left == ([] if frozen else ["w"])
    if frozen:
        member.signal(signal.SIGCONT)
    assert (queue.client.get_default_database()["workers"].find_one("w") is not None) == frozen
    if not frozen:
        assert (queue.states(), set(queue.field("losses"))) == ({"queued": 2}, {0})
