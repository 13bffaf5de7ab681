"""Alarms ring when something happens, where the server can tell; nobody depends on it."""

import threading

import pytest
from units import good, ids, some_units
from waiting import wait_for

from optomatic.store.opening import open_store


@pytest.fixture
def store(uri):
    with open_store(uri) as store:
        store.jobs.submit(some_units(1), "first")  # the collection is there
        store.jobs.cancel("first")
        yield store


def test_it_rings_once_it_listens_and_for_what_is_queued(store):
    rung = threading.Event()
    with store.alarms.queued(rung.set) as alarm:
        wait_for(lambda: alarm.listening)
        wait_for(rung.is_set)
        rung.clear()
        units = some_units(1)
        store.jobs.submit(units, "s")
        wait_for(rung.is_set)
        # What is given back, taken back or retried is queued too.
        lease = store.jobs.claim("w", 1)
        assert ids(lease.jobs) == ids(units)
        rung.clear()
        store.jobs.release(lease.token, ids(units))
        wait_for(rung.is_set)


def test_it_rings_for_what_ends(store):
    units = some_units(1)
    store.jobs.submit(units, "s")
    rings = []
    with store.alarms.ended(lambda: rings.append(threading.get_ident())) as alarm:
        wait_for(lambda: alarm.listening and rings)
        lease = store.jobs.claim("w", 1)
        store.jobs.start(lease.token, ids(units))
        store.jobs.complete("w", lease.token, {units[0].id: good()})
        wait_for(lambda: len(rings) > 1)
    assert set(rings).isdisjoint({threading.get_ident()})


def test_what_is_disarmed_is_armed_again(store):
    rung = threading.Event()
    alarm = store.alarms.queued(rung.set)
    alarm.arm()
    wait_for(lambda: alarm.listening)
    alarm.disarm()
    store.jobs.submit(some_units(1), "s")
    wait_for(lambda: not alarm.listening)
    rung.clear()
    alarm.arm()
    wait_for(lambda: alarm.listening and rung.is_set())
    alarm.stop()


def test_a_standalone_server_has_none_and_that_is_no_error(standalone_uri):
    with open_store(standalone_uri) as store:
        rung = threading.Event()
        with store.alarms.queued(rung.set) as alarm:
            wait_for(lambda: not alarm._thread.is_alive())
            alarm.arm()  # asks no more
            assert not alarm._thread.is_alive()
        assert not (rung.is_set())
        assert not (alarm.listening)


def test_the_end_of_the_store_ends_it(uri):
    store = open_store(uri)
    store.jobs.submit(some_units(1), "s")
    alarm = store.alarms.queued(lambda: None)
    alarm.arm()
    wait_for(lambda: alarm.listening)
    alarm.stop()
    store.close()
    wait_for(lambda: not alarm._thread.is_alive())
