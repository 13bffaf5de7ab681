"""What goes wrong between us and a server: tried again where that helps, told plainly where not."""

import contextlib
import inspect
import math
import signal
import threading

import pytest
from pymongo import MongoClient
from pymongo import errors as driver
from store.units import good, ids, some_units

from optomatic import errors
from optomatic.store import retry
from optomatic.store.connection import open_store

SECRET = "mongodb://ann:tell-nobody@host/db"


@pytest.fixture
def fail(one_bench):
    """Have the server fail some commands of ours, so many times."""
    admin = one_bench.client.admin

    @contextlib.contextmanager
    def failing(*commands, times=2, **how):
        data = {"failCommands": list(commands), **how}
        # The server counts for as long as it lives.
        before = admin.command("configureFailPoint", "failCommand", mode="off")["count"]
        admin.command("configureFailPoint", "failCommand", mode={"times": times}, data=data)
        try:
            yield
        finally:
            answer = admin.command("configureFailPoint", "failCommand", mode="off")
        assert answer["count"] - before == times, "the server was not asked often enough to fail"

    return failing


TROUBLES = [
    {"closeConnection": True},
    *({"errorCode": code} for code in (91, 189, 11600, 11602, 10107, 13435)),
]


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda t: str(next(iter(t.values()))))
def test_a_whole_life_with_every_call_failing_at_first(one_bench, fail, trouble):
    jobs, claims = one_bench.jobs, one_bench.claims
    units = some_units(3)
    # The driver itself tries once more, so each call of ours fails at least once.
    with fail("find", "update", "insert", times=3, **trouble):
        jobs.submit(units, "s")
    with fail("find", "update", times=3, **trouble):
        lease = claims.claim("w", 3)
    with fail("update", times=3, **trouble):
        assert claims.start(lease.token, ids(units)) == set(ids(units))
    with fail("update", times=3, **trouble):
        assert claims.renew({lease.token: set(ids(units))}) == frozenset()
    with fail("update", times=3, **trouble):
        assert claims.complete("w", lease.token, {units[0].id: good()}) == frozenset()
    with fail("update", times=3, **trouble):
        claims.release(lease.token, ids(units[1:]), begun=ids(units))
    with fail("find", times=3, **trouble):
        assert set(jobs.stored(units)) == {units[0].id}
    assert [one_bench.document(unit)["runs"] for unit in units] == [1, 1, 1]
    assert sorted(one_bench.states().values()) == ["completed", "queued", "queued"]


def test_a_write_that_took_place_and_was_called_failed_counts_once(one_bench, fail):
    """Code 91 arrives after the write: the same call again must find that it has done it."""
    late = {"writeConcernError": {"code": 91, "errmsg": "shutting down"}}
    jobs, claims = one_bench.jobs, one_bench.claims
    units = some_units(2)
    with fail("insert", times=1, **late):
        jobs.submit(units, "s")
    with fail("update", times=1, **late):
        lease = claims.claim("w", 2)
    assert set(ids(lease.jobs)) == set(ids(units))
    with fail("update", times=1, **late):
        assert claims.start(lease.token, ids(units)) == set(ids(units))
    with fail("update", times=1, **late):
        assert claims.complete("w", lease.token, {units[0].id: good()}) == frozenset()
    with fail("update", times=1, **late):
        assert claims.crash(lease.token, units[1].id, "SIGSEGV", "a host") in (True, False)
    first, second = (one_bench.document(unit) for unit in units)
    assert (first["state"], first["runs"], first["attempt"]) == ("completed", 1, 1)
    assert (second["state"], second["runs"], second["losses"]) == ("queued", 1, 1)


def test_a_long_outage_is_told_after_the_patience():
    now = [0.0]

    def sleep(seconds):
        now[0] += seconds

    def call():
        tries.append(now[0])
        raise driver.AutoReconnect(f"{SECRET} is gone")

    outage, tries = retry.Outage(patience=60.0), []

    with pytest.raises(errors.StoreUnavailable) as told:
        retry.with_retries(call, outage, clock=lambda: now[0], sleep=sleep)
    assert 50 < now[0] <= 60
    assert "tell-nobody" not in str(told.value)
    assert told.value.__cause__ is None
    # What tidies up afterwards asks once and does not wait as long again.
    now[0] = 61.0
    before = len(tries)
    with pytest.raises(errors.StoreUnavailable):
        retry.with_retries(call, outage, clock=lambda: now[0], sleep=sleep)
    assert len(tries) == before + 1
    # Once it answers, all is as before.
    assert retry.with_retries(lambda: 3, outage, clock=lambda: now[0], sleep=sleep) == 3
    assert outage.since is None


def test_shutting_down_ends_the_retries():
    now = [0.0]

    def sleep(seconds):
        now[0] += seconds
        if now[0] > 3.0:  # told so while it waits
            outage.until = 4.0

    def call():
        raise driver.AutoReconnect("gone")

    outage = retry.Outage(patience=60.0)
    with pytest.raises(errors.StoreUnavailable):
        retry.with_retries(call, outage, clock=lambda: now[0], sleep=sleep)
    assert 3 < now[0] < 10
    # A server that answers is asked as ever.
    assert retry.with_retries(lambda: 3, outage, clock=lambda: now[0], sleep=sleep) == 3
    assert not outage.over(now[0])


def test_a_server_that_is_away_is_tried_for_a_short_time_and_a_slow_one_is_not(monkeypatch):
    raised = [driver.AutoReconnect("gone"), driver.NetworkTimeout("slow")]
    tries, short = [], []

    def call():
        tries.append(len(tries))
        if raised:
            raise raised.pop(0)

    def bounded(_):
        short.append(len(tries))
        return contextlib.nullcontext()

    monkeypatch.setattr(retry.pymongo, "timeout", bounded)
    retry.with_retries(call, sleep=lambda _: None)
    assert (tries, short) == ([0, 1, 2], [1])


def test_a_deadline_bounds_each_call(monkeypatch):
    """Also the first one: a server that stands still is away before any call has failed."""
    given = []

    def bounded(seconds):
        given.append(seconds)
        return contextlib.nullcontext()

    monkeypatch.setattr(retry.pymongo, "timeout", bounded)
    outage = retry.Outage(longest=20.0)
    for until, now in [(math.inf, 0.0), (100.0, 0.0), (100.0, 88.0), (100.0, 99.0), (100.0, 101.0)]:
        outage.until = until
        retry.with_retries(lambda: None, outage, clock=lambda now=now: now)
    assert given == [12.0, retry._SHORT_TRY, retry._SHORT_TRY]


def test_permanent_errors_are_raised_at_once(one_bench, fail):
    with fail("find", times=1, errorCode=13), pytest.raises(errors.StoreRefused):
        one_bench.jobs.waits("s")
    with fail("find", times=1, errorCode=14031), pytest.raises(errors.StoreFull, match="full"):
        one_bench.jobs.waits("s")


def made(kind):
    """Make an error of the driver's with a password in its text."""
    if issubclass(kind, driver.BulkWriteError):
        return kind({"writeErrors": [{"code": 2, "errmsg": SECRET}]})
    if issubclass(kind, driver.ClientBulkWriteException):
        return kind({"error": SECRET}, verbose=True)
    if issubclass(kind, driver.EncryptedCollectionError):
        return kind(driver.OperationFailure(SECRET), {})
    if issubclass(kind, driver.OperationFailure):
        return kind(SECRET, 2, {"errmsg": SECRET})
    return kind(SECRET)


DRIVERS_ERRORS = [
    kind
    for _, kind in inspect.getmembers(driver, inspect.isclass)
    if issubclass(kind, driver.PyMongoError) and kind.__module__ == driver.__name__
]


@pytest.mark.parametrize("kind", DRIVERS_ERRORS, ids=lambda kind: kind.__name__)
def test_every_error_of_the_driver_becomes_ours_without_the_password(kind):
    ours = retry.translated(made(kind))
    assert isinstance(ours, errors.StoreError)
    assert "tell-nobody" not in str(ours)
    assert len(str(ours)) > 80, "it says what it means and what to do"


def test_a_full_disk_a_refusal_and_a_size_have_their_own():
    assert isinstance(
        retry.translated(driver.OperationFailure("no space", 14031)), errors.StoreFull
    )
    assert isinstance(
        retry.translated(driver.OperationFailure("not allowed", 13)), errors.StoreRefused
    )
    assert isinstance(retry.translated(driver.DocumentTooLarge("large")), errors.RecordTooLarge)


def test_a_frozen_server_is_not_waited_for_without_end(mongod):
    """It takes connections and answers nothing; going on, it has lost nothing."""
    import servers

    server = servers.standalone()
    try:
        uri = server.uri("frozen") + "?timeoutMS=500"
        with open_store(uri) as store:
            units = some_units(2)
            store.jobs.submit(units, "s")
            store.jobs._units.outage.patience = 1.0
            server.members[0].signal(signal.SIGSTOP)
            with pytest.raises(errors.StoreUnavailable):
                store.claims.claim("w", 2)
            server.members[0].signal(signal.SIGCONT)
            store.jobs._units.outage.patience = 30.0
            assert len(store.claims.claim("w", 2).jobs) == 2
    finally:
        server.remove()


def test_closing_does_not_wait_for_a_server_that_is_away(mongod):
    import servers

    server = servers.standalone()
    try:
        store = open_store(server.uri("away"))
        server.members[0].kill()
        closing = threading.Thread(target=store.close, daemon=True)
        closing.start()
        closing.join(20.0)  # only against a hang: the driver alone would take longer
        assert not closing.is_alive()
    finally:
        server.remove()


def test_acknowledged_results_outlive_a_kill_of_the_server(mongod):
    """Whatever the address says: journal=false survives w="majority" in an address alone."""
    import servers

    server = servers.standalone()
    acknowledged = []
    try:
        uri = server.uri("killed") + "?journal=false&w=1&retryWrites=false"
        with open_store(uri) as store, MongoClient(server.uri("killed")) as client:
            units = some_units(400)
            store.jobs.submit(units, "s")
            held = {}
            while lease := store.claims.claim("w", 400):
                if not lease.jobs:
                    break
                held.update(dict.fromkeys((job.id for job in lease.jobs), lease.token))
            assert held.keys() == {unit.id for unit in units}
            killer = threading.Timer(0.15, server.members[0].kill)
            killer.start()
            store.jobs._units.outage.patience = 0.2
            with contextlib.suppress(errors.StoreUnavailable):
                for unit_id, token in held.items():
                    assert not store.claims.complete("w", token, {unit_id: good()})
                    acknowledged.append(unit_id)
            killer.join()
            assert 0 < len(acknowledged) < 400, "it was killed before or after, not in between"
            server.members[0].start()
            stored = client.get_default_database()["units"]
            assert stored.count_documents(
                {"_id": {"$in": acknowledged}, "state": "completed"}
            ) == len(acknowledged)
    finally:
        server.remove()
