"""Large arguments are in the store as long as a process may need them, and no longer."""

import subprocess
import sys
import threading

import numpy as np
import pytest
import workers
from functions import look_at, square
from joblib import Parallel, delayed, parallel_config
from waiting import wait_for

import optomatic  # noqa: F401
from optomatic.errors import StoreUnavailable
from optomatic.joblib_backend.client import Client
from optomatic.joblib_backend.run import Run
from optomatic.store.connection import open_store

SCRIPT = """
import sys
import joblib, numpy, optomatic
from functions import look_at
with joblib.parallel_config(backend="optomatic", initializer=len, initargs=("abc",)):
    X = numpy.arange(300_000.0)
    joblib.Parallel(n_jobs=2)(joblib.delayed(look_at)(X, n) for n in range(2))
print("done", flush=True)
sys.stdin.readline()
"""


def script(uri):
    """Start a process that makes calls; return it once they are done."""
    process = workers.start(
        *(sys.executable, "-c", SCRIPT),
        OPTOMATIC_DB=uri,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout.readline() == "done\n"
    return process


def end(process):
    process.communicate(input="\n", timeout=60)
    assert process.returncode == 0


@pytest.fixture
def stored(own):
    """Count headers of arrays, all headers, and chunks."""

    def count():
        headers, chunks = own.database["bundles"], own.database["chunks"]
        kinds = [header["kind"] for header in headers.find()]
        return kinds.count("npy"), len(kinds), chunks.count_documents({})

    return count


def test_they_go_with_the_last_process_that_needs_them(own, stored):
    own.start()
    first, second = script(own.uri), script(own.uri)
    try:
        assert stored() == (1, 2, 2)  # the array and the initializer, whoever uses them
        end(first)
        assert stored() == (1, 2, 2)
        # One that is killed cannot say so: whoever makes calls next finds out.
        second.kill()
        second.wait()
        with parallel_config(backend="optomatic", db=own.uri):
            assert Parallel()(delayed(square)(i) for i in range(2)) == [0, 1]
        wait_for(lambda: stored() == (0, 0, 0))
        third = script(own.uri)
        assert stored() == (1, 2, 2)
        end(third)
        assert stored() == (0, 0, 0)
    finally:
        first.kill()
        second.kill()


@pytest.fixture
def client(own):
    client = Client(open_store(own.uri))
    yield client
    client.close()


X = np.arange(300_000.0)


def call(client, run=None, array=X):
    """Queue a call, and withdraw it again."""
    run = run or Run(client, level=1, threads=None, large=1000, mmap_mode="r")
    sent = run.submit([(look_at, (array, 1), {})], lambda _: None)
    run.withdraw()
    assert sent.error is None
    return run


def test_of_two_callers_with_the_same_array_each_may_go_first(own, stored):
    clients = [Client(open_store(own.uri)) for _ in range(2)]
    for client in clients:
        call(client)
    assert stored() == (1, 1, 1)
    clients.pop(0).close()
    assert stored() == (1, 1, 1)
    call(clients[0], array=X + 1)
    assert stored() == (2, 2, 2)
    clients[0].close()
    assert stored() == (0, 0, 0)
    assert own.database["workers"].count_documents({}) == 0


def test_parts_that_a_search_needs_stay(own, client, stored):
    call(client)
    (sha,) = own.database["bundles"].distinct("_id")
    with open_store(own.uri) as store:
        assert store.parts.missing([sha]) == set()
    client.close()
    assert stored() == (1, 1, 1)


def test_a_process_that_was_silent_looks_again_what_is_there(own, client, stored, monkeypatch):
    monkeypatch.setattr("optomatic.joblib_backend.client._IDLE", 0.0)
    run = call(client)
    wait_for(lambda: client._thread is None)
    client._ending.join(120)
    # It is known, so that others find out when it is gone.
    assert own.database["workers"].count_documents({"_id": client.id}) == 1
    before = own.database["chunks"].find_one()["at"]
    call(client, run)
    assert own.database["chunks"].find_one()["at"] == before
    assert len(client.store.parts.client_holders()) == 2
    wait_for(lambda: client._thread is None)
    with open_store(own.uri) as other:  # as after a day
        other.parts.release(other.parts.client_holders())
    assert stored() == (0, 0, 0)
    call(client, run)
    assert stored() == (1, 1, 1)
    client.close()
    assert stored() == (0, 0, 0)


def test_a_call_while_the_thread_ends_raises_and_does_not_hang(client, stored, monkeypatch):
    """joblib sends the next call when it hears of the last one, in the same thread."""
    told = threading.Event()
    again = []

    def fail(_):
        raise RuntimeError("nobody thought of this")

    def once_more(_):
        again.append(run.submit([(look_at, (X + 1, 1), {})], lambda _: told.set()))

    monkeypatch.setattr(client.store.calls, "finished", fail)
    run = Run(client, level=1, threads=None, large=1000, mmap_mode="r")
    run.submit([(look_at, (X, 1), {})], once_more)
    assert told.wait(120)
    assert isinstance(again[0].error, StoreUnavailable)
    assert stored() == (1, 1, 1)
    client.close()
    assert stored() == (0, 0, 0)


def test_a_store_that_is_away_as_the_thread_begins_is_told(client, stored, monkeypatch):
    method, errors = client.store.workers.register, [StoreUnavailable("it is away")] * 2

    def failing(record):
        if errors:
            raise errors.pop()
        method(record)

    monkeypatch.setattr(client.store.workers, "register", failing)
    run = Run(client, level=1, threads=None, large=1000, mmap_mode="r")
    sent = run.submit([(look_at, (X, 1), {})], lambda _: None)
    assert isinstance(sent.error, StoreUnavailable)
    assert stored() == (0, 0, 0)
    call(client, run)  # it is back
    assert stored() == (1, 1, 1)
