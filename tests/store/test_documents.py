"""What is stored is read strictly: what does not fit is set aside, and stops nobody."""

import datetime

import pytest
from store.units import good, ids, some_units

from optomatic.records import Queue

#: Changes of a queued unit, by name.
CHANGES = {
    "a hash of 300 characters": {"$set": {"spec.X": "0" * 300}},
    "a hash that is a number": {"$set": {"spec.X": 7}},
    "no hash": {"$unset": {"spec.X": 1}},
    "no key": {"$unset": {"key": 1}},
    "no kind": {"$unset": {"kind": 1}},
    "another kind": {"$set": {"kind": "call"}},
    "no sequence": {"$unset": {"sequence": 1}},
    "a priority that is a text": {"$set": {"priority": "high"}},
    "a priority that is true": {"$set": {"priority": True}},
    "a date among the options": {"$set": {"options.since": datetime.datetime(2026, 1, 1)}},
    "other params": {"$set": {"params_text": '[1, [["C", 2.0]]]'}},
    "params that are none": {"$set": {"params_text": '"opaque"'}},
    "another split": {"$set": {"spec.split": 1}},
    "losses that are no number": {"$set": {"losses": float("nan")}},
    "losses below zero": {"$set": {"losses": -1}},
    "no history": {"$unset": {"history": 1}},
    "a history of numbers": {"$set": {"history": [1]}},
    "nobody who waits": {"$set": {"wanted_by": "s"}},
    "a list of hosts that is none": {"$set": {"lost_on": {}}},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_queued_unit_that_was_changed_is_set_aside_and_the_others_are_claimed(one_bench, change):
    jobs, claims = one_bench.jobs, one_bench.claims
    units = some_units(3)
    jobs.submit(units, "s")
    one_bench.units.update_one({"_id": units[1].id}, change)
    before = one_bench.document(units[1])
    claimed = [job.id for _ in range(3) for job in claims.claim("w", 3, queues=["a queue"]).jobs]
    assert sorted(claimed) == ids([units[0], units[2]])
    after = one_bench.document(units[1])
    assert after["state"] == "invalid"
    assert after["invalid"]["why"]
    assert after["invalid"]["state"] == "queued"
    assert "process" in after["invalid"]["by"]
    as_before = {**after, "state": "queued", "invalid": None}
    assert repr(as_before) == repr({**before, "invalid": None})


def test_an_invalid_unit_is_queued_anew_when_it_is_asked_for_again(one_bench):
    jobs = one_bench.jobs
    (unit,) = some_units(1)
    jobs.submit([unit], "s")
    one_bench.units.update_one({"_id": unit.id}, {"$set": {"priority": "high"}})
    assert jobs.submit([unit], "t").invalid == 1
    assert one_bench.document(unit)["state"] == "queued"
    assert one_bench.document(unit)["priority"] == 0
    (kept,) = one_bench.units.find({"state": "invalid"})
    assert kept["priority"] == "high"
    assert kept["invalid"]["of"] == unit.id
    assert jobs.invalid([unit.id]) == 1
    # To restore it is to give it back its id and its state.
    assert kept["invalid"]["state"] == "queued"


@pytest.mark.parametrize("number", [2, 0, "1", None, True], ids=repr)
def test_a_unit_with_another_schema_number_is_left_alone(one_bench, number):
    jobs, claims = one_bench.jobs, one_bench.claims
    (unit,) = some_units(1)
    jobs.submit([unit], "s")
    change = {"$set": {"v": number, "priority": "high", "state": "zzz"}}
    one_bench.units.update_one({"_id": unit.id}, change)
    before = one_bench.document(unit)
    assert claims.claim("w", 3).jobs == ()
    jobs.check("s")
    assert jobs.stored([unit]) == {}
    assert jobs.outcomes([unit.id]) == {}
    assert jobs.submit([unit], "s").foreign == (unit.id,)
    assert one_bench.document(unit) == before


RESULTS = {
    "no result": {"$set": {"result": None}},
    "a result that is a number": {"$set": {"result": 0.9}},
    "no n_test": {"$unset": {"result.n_test": 1}},
    "a score that is a text": {"$set": {"result.test": "0.9"}},
    "a score that is true": {"$set": {"result.test": True}},
    "another score": {"$set": {"result.test": 0.5}},
    "an unknown metric": {"$set": {"result.test": [["unknown", 1.0]]}},
    "no train scores": {"$set": {"result.train": []}},
    "an error": {"$set": {"error": {"type": "x"}}},
    "no date": {"$set": {"completed_at": None}},
    "dead": {"$set": {"state": "dead"}},
    "failed": {"$set": {"state": "failed"}},
    "a state that does not exist": {"$set": {"state": "zzz"}},
    "runs that are a text": {"$set": {"runs": "1"}},
    "the checksum": {"$set": {"result.checksum": "0" * 32}},
}


@pytest.mark.parametrize("change", RESULTS.values(), ids=RESULTS)
def test_a_result_that_was_changed_is_none(one_bench, change):
    jobs, claims = one_bench.jobs, one_bench.claims
    units = some_units(2)
    jobs.submit(units, "s")
    lease = claims.claim("w", 2)
    claims.start(lease.token, ids(units))
    claims.complete("w", lease.token, {unit.id: good(0.9) for unit in units})
    one_bench.units.update_one({"_id": units[0].id}, change)
    assert list(jobs.stored(units)) in ([units[1].id], [])  # a state in between is not looked at
    assert list(jobs.outcomes(ids(units))) == [units[1].id]
    assert list(jobs.described(ids(units))) == [units[1].id]
    assert one_bench.document(units[0])["state"] == "invalid"
    assert jobs.states(ids(units)) == {units[0].id: "invalid", units[1].id: "completed"}
    assert jobs.submit(units, "t").invalid == 1
    assert ids(claims.claim("w", 2).jobs) == [units[0].id]


def test_a_result_serves_no_other_unit(one_bench):
    jobs, claims = one_bench.jobs, one_bench.claims
    (first, second) = some_units(2)
    jobs.submit([first, second], "s")
    lease = claims.claim("w", 2)
    claims.start(lease.token, ids([first, second]))
    claims.complete("w", lease.token, {first.id: good(0.1), second.id: good(0.2)})
    other = one_bench.document(second)["result"]
    one_bench.units.update_one({"_id": first.id}, {"$set": {"result": other}})
    assert list(jobs.stored([first, second])) == [second.id]


@pytest.mark.parametrize(
    "change",
    [{"env": "x"}, {"env": [["python"]]}, {"env": None}, {"requires": 0}, {"requires": [1]}],
    ids=str,
)
def test_a_queue_that_was_changed_is_set_aside_until_it_is_published_again(one_bench, change):
    workers, (first, second) = one_bench.store.workers, some_units(2, queue="queue")
    workers.publish(first.work)
    queue = Queue("queue", first.work.env, ())
    assert workers.queues(["queue"]) == [queue]
    one_bench.database["queues"].update_one({"_id": "queue"}, {"$set": change})
    assert workers.queues(["queue"]) == []
    assert workers.queues_for(first.work.env) == []
    assert one_bench.database["queues"].find_one()["state"] == "invalid"
    workers.publish(second.work)
    assert workers.queues(["queue"]) == [queue]
