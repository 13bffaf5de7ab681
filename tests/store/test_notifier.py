"""Notifier ring when something happens, where the server can tell; nobody depends on it."""

import threading

import pytest
from pymongo import monitoring
from pymongo.uri_parser import parse_uri
from store.units import good, ids, some_units
from waiting import wait_for

from optomatic.store.connection import open_store


@pytest.fixture
def store(uri):
    with open_store(uri) as store:
        store.jobs.submit(some_units(1), "first")  # the collection is there
        store.jobs.cancel("first")
        yield store


def test_it_rings_once_it_listens_and_for_what_is_queued(store):
    woken = threading.Event()
    with store.notifier.queued(woken.set) as subscription:
        wait_for(lambda: subscription.active)
        wait_for(woken.is_set)
        woken.clear()
        units = some_units(1)
        store.jobs.submit(units, "s")
        wait_for(woken.is_set)
        # What is given back, taken back or retried is queued too.
        lease = store.claims.claim("w", 1)
        assert ids(lease.jobs) == ids(units)
        woken.clear()
        store.claims.release(lease.token, ids(units))
        wait_for(woken.is_set)


class Streams(monitoring.CommandListener):
    """Counts how often each stream of one database is asked."""

    def __init__(self, database):
        self.database = database
        self.asked = {}

    def started(self, event):
        if event.database_name == self.database and event.command_name == "getMore":
            cursor = event.command["getMore"]
            self.asked[cursor] = self.asked.get(cursor, 0) + 1

    def succeeded(self, event):
        pass

    def failed(self, event):
        pass


def test_a_stream_outlives_the_time_limit_of_its_calls(uri, store, monkeypatch):
    """Each call has one of its own; a stream that failed with it would be opened again."""
    monkeypatch.setattr("optomatic.store.notifier._HELD", 0.25)
    monkeypatch.setattr("optomatic.store.notifier._PATIENCE", 1.75)
    streams = Streams(parse_uri(uri)["database"])
    monitoring.register(streams)
    with open_store(uri) as watched, watched.notifier.queued(lambda: None):
        # Each is held for a quarter of a second, and the limit of each call is two.
        wait_for(lambda: max(streams.asked.values(), default=0) > 12)


def test_a_worker_of_some_searches_is_notified_of_a_new_one(store):
    """The units are queued already, so their state does not change."""
    units = some_units(3)
    store.jobs.submit(units, "first")
    woken = threading.Event()
    with store.notifier.queued(woken.set, joined=True) as subscription:
        wait_for(lambda: subscription.active and woken.is_set())
        woken.clear()
        store.jobs.submit(units, "second")
        wait_for(woken.is_set)


def test_it_rings_for_what_ends(store):
    units = some_units(1)
    store.jobs.submit(units, "s")
    rings = []
    with store.notifier.ended(lambda: rings.append(threading.get_ident())) as subscription:
        wait_for(lambda: subscription.active and rings)
        lease = store.claims.claim("w", 1)
        store.claims.start(lease.token, ids(units))
        store.claims.complete("w", lease.token, {units[0].id: good()})
        wait_for(lambda: len(rings) > 1)
    assert set(rings).isdisjoint({threading.get_ident()})


def test_a_stopped_subscription_can_start_again(store):
    woken = threading.Event()
    subscription = store.notifier.queued(woken.set)
    subscription.start()
    wait_for(lambda: subscription.active)
    subscription.pause()
    store.jobs.submit(some_units(1), "s")
    wait_for(lambda: not subscription.active)
    woken.clear()
    subscription.start()
    wait_for(lambda: subscription.active and woken.is_set())
    subscription.stop()


def test_a_standalone_server_has_none_and_that_is_no_error(standalone_uri):
    with open_store(standalone_uri) as store:
        woken = threading.Event()
        with store.notifier.queued(woken.set) as subscription:
            wait_for(lambda: not subscription._thread.is_alive())
            subscription.start()  # asks no more
            assert not subscription._thread.is_alive()
        assert not (woken.is_set())
        assert not (subscription.active)


def test_the_end_of_the_store_ends_it(uri, monkeypatch):
    monkeypatch.setattr("optomatic.store.notifier._HELD", 2.0)
    store = open_store(uri)
    store.jobs.submit(some_units(1), "s")
    subscription = store.notifier.queued(lambda: None)
    subscription.start()
    wait_for(lambda: subscription.active)
    subscription.stop()
    store.close()
    wait_for(lambda: not subscription._thread.is_alive())
