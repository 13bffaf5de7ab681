"""The thread that makes calls of joblib: its end, its next beginning, and stores that fail."""

import threading

import pytest
from functions import square
from waiting import wait_for

from optomatic.errors import StoreUnavailable
from optomatic.joblib_backend.client import Client
from optomatic.joblib_backend.run import CallFuture, Run
from optomatic.store.connection import open_store


@pytest.fixture
def client(own):
    client = Client(open_store(own.uri))
    yield client
    client.close()


def fail_once(monkeypatch, calls, name, error):
    """Have the next call of a method raise `error`."""
    method, errors = getattr(calls, name), [error]

    def failing(*args):
        if errors:
            raise errors.pop()
        return method(*args)

    monkeypatch.setattr(calls, name, failing)


def run_of(client):
    return Run(client, level=1, threads=None, large=None, mmap_mode=None)


def send(client, callback=lambda _: None):
    return run_of(client).submit([(square, (2,), {})], callback)


def test_a_thread_that_ends_does_not_sign_off_the_next_one(client, own, monkeypatch):
    """Without a record its calls would be taken for those of a client that is gone."""
    workers, known = client.store.workers, own.database["workers"]
    leave, register = workers.leave, workers.register
    leaving, registered, may_leave = threading.Event(), threading.Event(), threading.Event()

    def leave_late(worker):
        leaving.set()
        assert may_leave.wait(120)
        leave(worker)

    def register_and_tell(record):
        register(record)
        registered.set()

    monkeypatch.setattr("optomatic.joblib_backend.client._IDLE", 0.0)
    monkeypatch.setattr(workers, "leave", leave_late)
    client.withdraw(run_of(client))
    old = client._thread
    assert leaving.wait(120)
    monkeypatch.setattr("optomatic.joblib_backend.client._IDLE", 30.0)
    monkeypatch.setattr(workers, "register", register_and_tell)
    client.withdraw(run_of(client))
    registered.wait(1.0)  # too early, if it does
    may_leave.set()
    old.join(120)
    assert registered.wait(120)
    assert known.count_documents({"_id": client.id}) == 1


def test_calls_after_an_error_of_the_thread_get_another_thread(client, own, monkeypatch):
    fail_once(monkeypatch, client.store.calls, "finished", RuntimeError("nobody thought of this"))
    told = threading.Event()
    sent = send(client, lambda _: told.set())
    assert told.wait(120)
    assert isinstance(sent.error, RuntimeError)
    second = send(client)
    wait_for(lambda: own.calls(_id=second.call.unit.id))


def test_a_call_that_could_not_be_sent_is_told_of_though_the_store_fails(client, monkeypatch):
    fail_once(monkeypatch, client.store.calls, "withdraw", StoreUnavailable("it is away"))
    told = threading.Event()
    with client._news:  # both in one turn of the thread
        client.withdraw(run_of(client))
        future = CallFuture(run_of(client), lambda _: told.set(), error=TypeError("not a call"))
        client.send(future)
    assert told.wait(120)


def test_abandoned_calls_do_not_run(client, own, monkeypatch):
    fail_once(monkeypatch, client.store.calls, "finished", StoreUnavailable("it is away"))
    told = threading.Event()
    given_up = send(client, lambda _: told.set())
    assert told.wait(120)
    assert isinstance(given_up.error, StoreUnavailable)
    second = send(client)
    wait_for(lambda: own.calls(_id=second.call.unit.id))
    assert not own.calls(_id=given_up.call.unit.id)
