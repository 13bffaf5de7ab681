"""The queue's contract, on each kind of server: what every operation does and leaves alone."""

import time
from collections import Counter

import pytest
import servers
from store.units import SHORT, bad, good, ids, some_units, unit
from waiting import wait_for

from optomatic.errors import RecordTooLarge, StoreIncompatible
from optomatic.store.connection import open_store


@pytest.fixture
def jobs(bench):
    return bench.jobs


@pytest.fixture
def claims(bench):
    return bench.claims


def started(bench, units, worker="w", search="s"):
    """Submit `units`, claim and start them all; return the lease."""
    bench.jobs.submit(units, search)
    lease = bench.claims.claim(worker, len(units))
    assert bench.claims.start(lease.token, ids(lease.jobs)) == set(ids(units))
    return lease


def lose(bench, unit, times):
    """Have `unit` claimed, started and lost by so many workers."""
    for n in range(times):
        lease = bench.claims.claim(f"w{n}", 1)
        assert ids(lease.jobs) == [unit.id]
        bench.claims.start(lease.token, [unit.id])
        assert bench.claims.crash(lease.token, unit.id, "SIGSEGV", f"host {n}")


# Submit


def test_an_index_of_another_version_is_named(one_bench):
    one_bench.units.create_index([("lane", 1)], name="queued")
    named = r"units of the database .* another version of optomatic made it.*db\.units\.dropIndexes"
    with pytest.raises(StoreIncompatible, match=named):
        one_bench.jobs.submit(some_units(1), "s")
    assert one_bench.states() == {}
    one_bench.units.drop_indexes()
    one_bench.jobs.submit(some_units(1), "s")
    assert len(one_bench.states()) == 1


def test_submitted_units_wait_with_their_search(jobs, bench):
    units = some_units(3)
    assert not jobs.waits("s")
    jobs.submit(units, "s")
    assert jobs.waits("s")
    assert set(bench.states().values()) == {"queued"}
    assert jobs.stored(units) == {}


def test_submitting_again_changes_nothing(jobs, bench):
    units = some_units(3)
    jobs.submit(units, "s")
    before = list(bench.units.find())
    jobs.submit(units, "s")
    assert list(bench.units.find()) == before


def test_a_second_search_joins(jobs, bench):
    units = some_units(2)
    jobs.submit(units[:1], "s")
    jobs.submit(units, "t", priority=3)
    first, second = (bench.document(one) for one in units)
    assert sorted(first["wanted_by"]) == ["s", "t"]
    assert first["priority"] == 3
    assert second["wanted_by"] == ["t"]


def test_more_units_than_go_into_one_query(jobs, claims, bench):
    units = some_units(2500)
    jobs.submit(units, "s")
    assert Counter(jobs.states(ids(units)).values()) == {"queued": 2500}
    claimed = []
    while len(claimed) < 200:
        claimed += ids(claims.claim("w", 64).jobs)
    assert claimed == ids(units[: len(claimed)])


def test_one_that_is_too_large_leaves_nothing_behind(jobs, bench):
    units = [*some_units(2), unit("large", params_text="x" * 15_000_001)]
    with pytest.raises(RecordTooLarge, match="Nothing was queued"):
        jobs.submit(units, "s")
    assert bench.states() == {}


# Stored scores


def test_a_stored_score_serves(jobs, claims, bench):
    units = some_units(2)
    lease = started(bench, units)
    assert claims.complete("w", lease.token, {units[0].id: good(0.1 + 0.2)}) == frozenset()
    found = jobs.stored(units)
    assert list(found) == [units[0].id]
    assert found[units[0].id].result == good(0.1 + 0.2)
    assert found[units[0].id].runs == 1


def test_a_score_serves_under_other_terms_a_failure_does_not(jobs, claims, bench):
    scored, failed = some_units(2)
    lease = started(bench, [scored, failed])
    claims.complete("w", lease.token, {scored.id: good(), failed.id: bad()})
    others = [unit(one.key, constraints="other constraints") for one in (scored, failed)]
    assert list(jobs.stored(others)) == [others[0].id]
    assert set(jobs.stored([scored, failed])) == {scored.id, failed.id}


def test_train_scores_serve_those_who_want_none_but_not_the_other_way_round(jobs, claims, bench):
    with_them, without = some_units(2)
    lease = started(bench, [with_them, without])
    claims.complete("w", lease.token, {with_them.id: good(train=0.5), without.id: good()})
    wanting = [unit(one.key, return_train_score=True) for one in (with_them, without)]
    assert list(jobs.stored(wanting)) == [with_them.id]


def test_scores_by_metric_come_back_as_they_were(jobs, claims, bench):
    (one,) = some_units(1)
    lease = started(bench, [one])
    result = good({"a.b": 0.1, "$c": -1.5, "": 2.0}, {"a.b": float("inf"), "$c": 0.0, "": 1e-320})
    claims.complete("w", lease.token, {one.id: result})
    assert jobs.stored([one])[one.id].result == result


# Claim


def test_a_claim_takes_the_first_ones_in_their_order(jobs, claims, bench):
    units = some_units(10)
    jobs.submit(units, "s")
    lease = claims.claim("w", 3)
    assert ids(lease.jobs) == ids(units[:3])
    assert {bench.document(one)["claim"] for one in units[:3]} == {lease.token}
    assert len(lease.token) == 32
    assert {bench.document(one)["runs"] for one in units} == {0}


def test_higher_priority_goes_first(jobs, claims):
    units = some_units(4)
    jobs.submit(units[:2], "s")
    jobs.submit(units[2:], "t", priority=1)
    assert ids(claims.claim("w", 2).jobs) == ids(units[2:])


def test_nothing_to_claim_is_an_empty_lease(claims):
    assert claims.claim("w", 5).jobs == ()


def test_only_queues_and_searches_that_are_asked_for(jobs, claims):
    one, other = unit("1" * 8, queue="x"), unit("2" * 8, queue="y")
    jobs.submit([one], "s")
    jobs.submit([other], "t")
    assert claims.claim("w", 5, queues=["z"]).jobs == ()
    assert claims.claim("w", 5, queues=["x"], search="t").jobs == ()
    assert ids(claims.claim("w", 5, queues=["y"]).jobs) == [other.id]
    assert ids(claims.claim("w", 5, search="s").jobs) == [one.id]


def test_lost_units_are_claimed_alone_and_last(jobs, claims, bench):
    lost, *calm = some_units(4)
    jobs.submit([lost], "s")
    lose(bench, lost, 1)
    jobs.submit(calm, "s")
    assert ids(claims.claim("w", 64, alone=False).jobs) == ids(calm)
    assert claims.claim("w", 64, alone=False).jobs == ()
    (job,) = claims.claim("w", 64, alone=True).jobs
    assert (job.id, job.losses, job.attempt) == (lost.id, 1, 2)


def test_an_unstarted_claim_lapses_uncharged(jobs, claims, bench):
    (one,) = some_units(1)
    jobs.submit([one], "s")
    lease = claims.claim("w", 1)
    time.sleep(SHORT.unstarted + 0.1)
    assert claims.reap() == 1
    document = bench.document(one)
    assert (document["state"], document["losses"], document["runs"]) == ("queued", 0, 0)
    assert claims.start(lease.token, [one.id]) == frozenset()


# Start, renew, release


def test_a_start_counts_once_however_often_it_is_sent(claims, bench):
    (one,) = some_units(1)
    lease = started(bench, [one])
    assert claims.start(lease.token, [one.id]) == {one.id}
    assert bench.document(one)["runs"] == 1


def test_a_beat_extends_started_units_and_names_those_that_are_gone(claims, bench):
    units = some_units(3)
    lease = started(bench, units)
    before = bench.document(units[0])["lease_until"]
    claims.complete("other", "no token", {units[2].id: good()})
    assert claims.renew({lease.token: set(ids(units))}) == {units[2].id}
    assert bench.document(units[0])["lease_until"] > before
    assert claims.renew({}) == frozenset()


def test_a_late_heartbeat_saves_a_lease_that_was_not_reaped(claims, bench):
    (one,) = some_units(1)
    lease = started(bench, [one])
    time.sleep(SHORT.lease + 0.1)
    assert claims.renew({lease.token: {one.id}}) == frozenset()
    assert claims.reap() == 0


def test_release_gives_back_uncharged(jobs, claims, bench):
    ran, never_ran, wanted_no_more = units = some_units(3)
    jobs.submit(units[:2], "s")
    jobs.submit(units[2:], "t")
    lease = claims.claim("w", 3)
    claims.start(lease.token, ids(units))
    jobs.cancel("t")
    claims.release(lease.token, ids(units), begun=[ran.id])
    assert bench.states() == {
        ran.id: "queued",
        never_ran.id: "queued",
        wanted_no_more.id: "cancelled",
    }
    assert [bench.document(one)["losses"] for one in units] == [0, 0, 0]
    # A start of what never ran is taken back.
    assert [bench.document(one)["runs"] for one in (ran, never_ran)] == [1, 0]
    claims.release(lease.token, ids(units))
    assert bench.document(never_ran)["runs"] == 0


# Complete and fail


def test_the_first_good_result_wins(claims, bench):
    (one,) = some_units(1)
    lease = started(bench, [one], worker="first")
    time.sleep(SHORT.lease + 0.1)
    assert claims.reap() == 1
    second = claims.claim("second", 1)
    claims.start(second.token, [one.id])
    assert claims.complete("first", lease.token, {one.id: good(1.0)}) == frozenset()
    assert claims.complete("second", second.token, {one.id: good(2.0)}) == {one.id}
    document = bench.document(one)
    assert (document["result"]["test"], document["completed_by"]) == (1.0, "first")
    assert (document["wanted_by"], document["claim"]) == ([], None)


def test_completing_again_is_taken_as_said_before(claims, bench):
    (one,) = some_units(1)
    lease = started(bench, [one])
    assert claims.complete("w", lease.token, {one.id: good()}) == frozenset()
    assert claims.complete("w", lease.token, {one.id: good()}) == frozenset()


def test_a_stale_failure_does_not_hide_a_good_run(claims, bench):
    (one,) = some_units(1)
    lease = started(bench, [one], worker="stale")
    assert claims.crash(lease.token, one.id, "SIGKILL", "a host")
    again = claims.claim("w", 1)
    assert claims.complete("stale", lease.token, {one.id: bad()}) == {one.id}
    assert bench.document(one)["state"] == "running"
    assert claims.complete("w", again.token, {one.id: good()}) == frozenset()


def test_a_late_result_reopens_no_end_but_replaces_a_death(jobs, claims, bench):
    (one,) = some_units(1)
    jobs.submit([one], "s")
    lose(bench, one, 3)
    assert bench.document(one)["state"] == "dead"
    assert claims.complete("late", "a token", {one.id: good()}) == frozenset()
    assert bench.document(one)["state"] == "completed"


@pytest.mark.parametrize("text", ["$5 missing", "$$NOW", "a.b", "\ud800 alone", "", "\x00"])
def test_texts_of_users_are_stored_as_they_are(jobs, claims, text, bench):
    (one,) = some_units(1)
    lease = started(bench, [one])
    claims.complete("w", lease.token, {one.id: bad(text=text)})
    (failure,) = jobs.stored([one])[one.id].result.failures
    assert failure.text == text.replace("\ud800", "\\ud800")


def test_a_failure_of_the_machine_is_tried_elsewhere_and_never_served(jobs, claims, bench):
    (one,) = some_units(1)
    jobs.submit([one], "s")
    for n in range(3):
        assert jobs.waits("s")
        lease = claims.claim(f"w{n}", 1)
        claims.start(lease.token, [one.id])
        claims.complete(f"w{n}", lease.token, {one.id: bad("builtins.MemoryError")})
    assert bench.document(one)["state"] == "failed"
    assert not jobs.waits("s")
    assert jobs.stored([one]) == {}
    jobs.submit([one], "t")
    assert bench.document(one)["state"] == "queued"
    assert jobs.waits("t")


@pytest.mark.parametrize(
    "kind", ["sklearn.exceptions.ConvergenceWarning", "builtins.FloatingPointError"]
)
def test_a_failure_that_settings_of_the_process_made_is_never_served(jobs, claims, bench, kind):
    one, another = some_units(2)
    lease = started(bench, [one, another])
    claims.complete("w", lease.token, {one.id: bad(kind), another.id: bad()})
    assert bench.document(one)["state"] == "failed"
    assert [*jobs.stored([one, another])] == [another.id]
    jobs.submit([one, another], "t")
    assert [bench.document(unit)["state"] for unit in (one, another)] == ["queued", "failed"]


# Reap, crash, cancel, retry


def test_a_started_unit_is_charged_when_its_lease_runs_out(claims, bench):
    (one,) = some_units(1)
    started(bench, [one])
    assert claims.reap() == 0
    time.sleep(SHORT.lease + 0.1)
    assert claims.reap() == 1
    assert claims.reap() == 0
    document = bench.document(one)
    assert (document["state"], document["losses"], document["claim"]) == ("queued", 1, None)
    assert document["history"][0]["why"] == "its lease ran out"
    assert len(document["lost_on"]) == 1


def test_three_losses_are_the_end_until_an_explicit_retry(jobs, bench):
    (one,) = some_units(1)
    jobs.submit([one], "s")
    lose(bench, one, 3)
    document = bench.document(one)
    assert (document["state"], document["runs"], document["wanted_by"]) == ("dead", 3, [])
    assert not jobs.waits("s")
    outcome = jobs.stored([one])[one.id]
    assert outcome.lost_on == ("host 0", "host 1", "host 2")
    assert outcome.history == ("SIGSEGV",) * 3
    jobs.submit([one], "t")
    assert bench.document(one)["state"] == "dead"
    jobs.submit([one], "t", retry_failed=True)
    document = bench.document(one)
    assert (document["state"], document["losses"], document["wanted_by"]) == ("queued", 0, ["t"])


def test_a_crash_with_another_token_is_nobodys_business(claims, bench):
    (one,) = some_units(1)
    started(bench, [one])
    assert not claims.crash("another token", one.id, "SIGSEGV", "a host")
    assert bench.document(one)["state"] == "running"


def test_units_of_a_vanished_worker_come_back_at_once(claims, bench):
    mine, other = some_units(2)
    started(bench, [mine], worker="gone")
    started(bench, [other], worker="alive")
    assert claims.reap_workers(["gone"], "its process is gone") == 1
    assert bench.states() == {mine.id: "queued", other.id: "running"}


def test_cancel_withdraws_units_that_no_other_search_wants(jobs, claims, bench):
    shared, queued, running = units = some_units(3)
    jobs.submit(units, "s")
    jobs.submit([shared], "t")
    lease = claims.claim("w", 3)
    claims.start(lease.token, ids(units))
    claims.release(lease.token, [queued.id])
    jobs.cancel("s")
    assert bench.states() == {
        shared.id: "running",
        queued.id: "cancelled",
        running.id: "cancelled",
    }
    assert not jobs.waits("s")
    assert jobs.waits("t")
    # Its worker learns of it, and what it has already is welcome.
    assert claims.renew({lease.token: {shared.id, running.id}}) == {running.id}
    assert claims.complete("w", lease.token, {running.id: good()}) == frozenset()


def test_a_cancelled_unit_is_reopened_by_a_later_search(jobs, bench):
    (one,) = some_units(1)
    jobs.submit([one], "s")
    jobs.cancel("s")
    jobs.submit([one], "t")
    document = bench.document(one)
    assert (document["state"], document["wanted_by"]) == ("queued", ["t"])


# What is not ours


def test_other_schemas_and_invalid_units_stop_no_worker(claims, bench):
    units = some_units(2)
    started(bench, units)
    strange = [
        {"_id": "a", "v": 1, "state": "running", "losses": "many", "lease_until": 0},
        {"_id": "c", "v": 2, "state": "queued", "wanted_by": ["s"], "queue": "a queue"},
        {"_id": "d", "v": 1, "state": "running"},
    ]
    bench.units.insert_many(strange)
    assert claims.claim("w", 10).jobs == ()
    time.sleep(SHORT.lease + 0.1)
    assert claims.reap() == 2
    assert list(bench.units.find({"_id": {"$in": list("abcd")}}).sort("_id")) == strange


def test_every_query_of_the_queue_uses_an_index(jobs, claims, bench):
    jobs.submit(some_units(50), "s")
    with bench.client as client:
        client.admin.command("setParameter", 1, notablescan=True)
        try:
            units = some_units(3)
            jobs.submit(units, "t")
            lease = claims.claim("w", 3)
            claims.claim("w", 3, search="t")
            claims.claim("w", 3, queues=["a queue"], alone=True)
            claims.start(lease.token, ids(lease.jobs))
            claims.renew({lease.token: ids(lease.jobs)})
            claims.reap()
            claims.reap_workers(["w"], "gone")
            claims.release(lease.token, ids(lease.jobs))
            jobs.waits("t")
            claims.anything_queued()
            claims.anything_runs()
            jobs.queues_of("t")
            jobs.stored(units)
            jobs.outcomes(ids(units))
            jobs.cancel("t")
        finally:
            client.admin.command("setParameter", 1, notablescan=False)


def test_it_can_be_told_whether_anything_is_queued_or_runs(jobs, claims):
    assert not claims.anything_queued()
    units = some_units(1)
    jobs.submit(units, "s")
    assert claims.anything_queued()
    assert not claims.anything_runs()
    assert jobs.queues_of("s") == ["a queue"]
    claims.claim("w", 1)
    assert (claims.anything_queued(), claims.anything_runs()) == (False, True)
    assert jobs.queues_of("s") == []


def test_the_servers_clock_is_read(jobs):
    first = jobs.server_time()
    wait_for(lambda: jobs.server_time() > first)


def test_leases_last_as_the_environment_says(uri, monkeypatch):
    monkeypatch.setenv("OPTOMATIC_LEASE", "500")
    with open_store(uri) as store:
        store.jobs.submit(some_units(1), "s")
        lease = store.claims.claim("w", 1)
        store.claims.start(lease.token, ids(lease.jobs))
        database = servers.database(uri)
        document = database["units"].find_one()
        now = database.client.admin.command("hello")["localTime"]
        assert 400 < (document["lease_until"] - now).total_seconds() <= 500
