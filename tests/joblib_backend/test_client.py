"""The thread that makes calls of joblib: its end, its next beginning, and stores that fail."""

import threading

import pytest
from functions import square
from waiting import wait_for

from optomatic.errors import StoreUnavailable
from optomatic.joblib_backend.backend import Run
from optomatic.joblib_backend.client import Caller, Sent
from optomatic.store.connection import open_store


@pytest.fixture
def caller(own):
    caller = Caller(open_store(own.uri))
    yield caller
    caller.close()


def fail_once(monkeypatch, calls, name, error):
    """Have the next call of a method raise `error`."""
    method, errors = getattr(calls, name), [error]

    def failing(*args):
        if errors:
            raise errors.pop()
        return method(*args)

    monkeypatch.setattr(calls, name, failing)


def send(caller, callback=lambda _: None):
    run = Run(caller, level=1, threads=None, large=None, mmap_mode=None, initializer=(None, ()))
    return run.submit([(square, (2,), {})], callback)


def test_a_thread_that_ends_does_not_sign_off_the_next_one(caller, own, monkeypatch):
    """Without a record its calls would be taken for those of a client that is gone."""
    workers, known = caller.store.workers, own.database["workers"]
    leave, register = workers.leave, workers.register
    leaving, registered, may_leave = threading.Event(), threading.Event(), threading.Event()

    def leave_late(worker):
        leaving.set()
        assert may_leave.wait(30.0)
        leave(worker)

    def register_and_tell(record):
        register(record)
        registered.set()

    monkeypatch.setattr("optomatic.joblib_backend.client._IDLE", 0.0)
    monkeypatch.setattr(workers, "leave", leave_late)
    caller.withdraw("a run")
    old = caller._thread
    assert leaving.wait(30.0)
    monkeypatch.setattr("optomatic.joblib_backend.client._IDLE", 30.0)
    monkeypatch.setattr(workers, "register", register_and_tell)
    caller.withdraw("another run")
    registered.wait(1.0)  # too early, if it does
    may_leave.set()
    old.join(30.0)
    assert registered.wait(30.0)
    assert known.count_documents({"_id": caller.id}) == 1


def test_calls_after_an_error_of_the_thread_get_another_thread(caller, own, monkeypatch):
    fail_once(monkeypatch, caller.store.calls, "finished", RuntimeError("nobody thought of this"))
    told = threading.Event()
    sent = send(caller, lambda _: told.set())
    assert told.wait(30.0)
    assert isinstance(sent.error, RuntimeError)
    second = send(caller)
    wait_for(lambda: own.calls(_id=second.call.unit.id))


def test_a_call_that_could_not_be_sent_is_told_of_though_the_store_fails(caller, monkeypatch):
    fail_once(monkeypatch, caller.store.calls, "withdraw", StoreUnavailable("it is away"))
    told = threading.Event()
    with caller._news:  # both in one turn of the thread
        caller.withdraw("a run")
        caller.fail(Sent("another run", lambda _: told.set(), error=TypeError("not a call")))
    assert told.wait(30.0)


def test_what_was_given_up_is_not_run_for_nobody(caller, own, monkeypatch):
    fail_once(monkeypatch, caller.store.calls, "finished", StoreUnavailable("it is away"))
    told = threading.Event()
    given_up = send(caller, lambda _: told.set())
    assert told.wait(30.0)
    assert isinstance(given_up.error, StoreUnavailable)
    second = send(caller)
    wait_for(lambda: own.calls(_id=second.call.unit.id))
    assert not own.calls(_id=given_up.call.unit.id)
