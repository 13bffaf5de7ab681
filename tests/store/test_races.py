"""Many processes at the same queue: each unit in one hand at a time, recorded once."""

import json
import random
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from pymongo import MongoClient
from store.units import good, ids, some_units

from optomatic.errors import StoreError
from optomatic.records import Timing
from optomatic.store.connection import open_store

UNITS, CLAIMERS = 400, 6


def claim_and_complete(uri, seed):
    """Be a worker until nothing is left; return what was started and whose result was taken."""
    rng = random.Random(seed)
    began, taken = [], []
    with open_store(uri, timing=Timing(lease=30.0, unstarted=10.0)) as store:
        while store.jobs.waits("s"):
            lease = store.claims.claim(f"w{seed}", rng.choice([1, 8, 64]))
            ours = store.claims.start(lease.token, ids(lease.jobs)) if lease.jobs else ()
            began += ours
            if rng.random() < 0.1:
                store.claims.release(lease.token, list(ours), begun=ours)
            elif ours:
                late = store.claims.complete(f"w{seed}", lease.token, {i: good(seed) for i in ours})
                taken += set(ours) - late
    return {"began": began, "taken": taken}


if __name__ == "__main__":
    print(json.dumps(claim_and_complete(sys.argv[1], int(sys.argv[2]))))
    sys.exit()


@pytest.fixture
def together(bench, start_process):
    """Run so many claimers at the same time; return what each of them says."""

    def run(count):
        processes = [
            start_process(sys.executable, __file__, bench.uri, n, stdout=subprocess.PIPE)
            for n in range(count)
        ]
        answers = [process.communicate(timeout=120)[0] for process in processes]
        assert all(process.returncode == 0 for process in processes)
        return [json.loads(answer) for answer in answers]

    return run


def test_claimers_in_many_processes_share_without_overlap(bench, together):
    units = some_units(UNITS)
    bench.jobs.submit(units, "s")
    said = together(CLAIMERS)
    assert sorted(i for one in said for i in one["taken"]) == sorted(ids(units))
    for document in bench.units.find():
        assert document["state"] == "completed"
        (worker,) = (n for n, one in enumerate(said) if document["_id"] in one["taken"])
        assert (document["completed_by"], document["result"]["test"]) == (f"w{worker}", worker)
        assert document["runs"] == sum(one["began"].count(document["_id"]) for one in said)


def connections(bench, app):
    """Return how many connections the server has under this name, idle ones included."""
    operations = {"$currentOp": {"allUsers": True, "idleConnections": True}}
    return len(list(bench.client.admin.aggregate([operations, {"$match": {"appName": app}}])))


def test_64_claimers_share_without_overlap_on_few_connections(one_bench):
    """Each is as light as a worker can be: a thread, and a store of its own."""
    units = some_units(1280)
    one_bench.jobs.submit(units, "s")
    all_open = threading.Barrier(65)

    def claim(number):
        taken = []
        with open_store(one_bench.uri, timing=Timing(unstarted=100.0), app="64 claimers") as store:
            while lease := ids(store.claims.claim(f"w{number}", 4).jobs):
                taken += lease
            all_open.wait(120)
            all_open.wait(120)
        return taken

    with ThreadPoolExecutor(64) as threads:
        claimed = [threads.submit(claim, n) for n in range(64)]
        all_open.wait(120)
        used = connections(one_bench, "64 claimers")
        all_open.wait(120)
    taken = [unit_id for one in claimed for unit_id in one.result()]
    assert len(taken) == len(set(taken)) == 1280
    described = one_bench.jobs.inspected(ids(units)).values()
    assert {(one.outcome.state, one.attempt) for one in described} == {("running", 1)}
    assert 64 <= used <= 64 * 4


def test_one_store_has_few_connections_however_many_threads_use_it(one_bench):
    used = []
    with open_store(one_bench.uri, app="threads") as store, ThreadPoolExecutor(40) as threads:
        calls = [threads.submit(store.jobs.waits, "s") for _ in range(2000)]
        while not all(call.done() for call in calls):
            used.append(connections(one_bench, "threads"))
        assert not any(call.result() for call in calls)
    assert 2 < max(used) <= 7  # five, and two that watch the server


def test_many_submit_the_same_at_once(bench):
    """Whoever comes second joins; nothing is there twice, and nobody's wish is lost."""
    units = some_units(1500)
    searches = [f"search {n}" for n in range(6)]
    with ThreadPoolExecutor(6) as threads:
        list(threads.map(lambda search: bench.jobs.submit(units, search), searches))
    documents = list(bench.units.find())
    assert len(documents) == len(units)
    assert all(sorted(document["wanted_by"]) == searches for document in documents)


def test_a_primary_that_is_killed_loses_nothing_that_was_acknowledged(three_nodes):
    name = f"killed{random.getrandbits(32)}"
    uri = three_nodes.uri(name)
    units = some_units(300)
    acknowledged, late = [], []
    with open_store(uri) as store, MongoClient(uri) as client:
        store.jobs.submit(units, "s")
        victim = three_nodes.primary()
        began = time.monotonic()
        killed = False
        try:
            while store.jobs.waits("s"):
                lease = store.claims.claim("w", 16)
                ours = store.claims.start(lease.token, ids(lease.jobs))
                if not killed and len(acknowledged) > 100:
                    victim.kill()
                    killed = True
                late += store.claims.complete("w", lease.token, {i: good() for i in ours})
                acknowledged += ours
        except StoreError as error:
            pytest.fail(f"after {time.monotonic() - began:.0f} s: {error}")
        finally:
            victim.start()
            three_nodes.primary()
        stored = client.get_default_database()["units"]
        assert killed
        assert late == []
        assert sorted(acknowledged) == sorted(ids(units))
        assert stored.count_documents({"state": "completed", "runs": 1}) == len(units)
        client.drop_database(name)
