"""What is removed, and what somebody comes to need meanwhile."""

import random
import re
import threading
from contextlib import suppress
from datetime import timedelta

import functions
import numpy as np
import pytest
from store.units import good, unit
from waiting import wait_for

from optomatic.driver.driver import FixedDriver, upload
from optomatic.driver.request import new_record
from optomatic.driver.search_state import SearchState
from optomatic.errors import SearchRunning, StoreError
from optomatic.planning.planner import Planner
from optomatic.planning.serialization import dump
from optomatic.planning.workload import FunctionWorkload
from optomatic.store.connection import open_store
from optomatic.store.parts import SEARCHES
from optomatic.store.removal import Removed
from optomatic.store.retry import RetryingCollection

KEPT = ("searches", "search_units", "units", "bundles", "chunks", "environments")


@pytest.fixture
def store(uri):
    with open_store(uri) as store:
        yield store


@pytest.fixture
def left(database):
    """Tell how many documents there are, and their bytes."""

    def left():
        size = {"$group": {"_id": None, "n": {"$sum": 1}, "b": {"$sum": {"$bsonSize": "$$ROOT"}}}}
        found = {name: list(database[name].aggregate([size])) for name in KEPT}
        counts = {name: of[0]["n"] for name, of in found.items() if of}
        return counts, sum(of[0]["b"] for of in found.values() if of)

    return left


def record(name):
    how = {"estimator": "", "space": "", "scoring": "", "n_candidates": 0, "n_splits": 1}
    return new_record(name, "test", **how)


def plan(values, offset=0.0):
    """Return units with data of their own, in parts."""
    data = {"X": np.arange(9.0) + offset, "y": [1]}
    return Planner(FunctionWorkload(functions.of_data, data, {})).plan(
        [{"weight": value} for value in values]
    )


def complete(store):
    """Complete whatever is queued."""
    while jobs := store.claims.claim("w", 100).jobs:
        lease = store.jobs._units.find_one({"_id": jobs[0].id}, {"claim": 1})["claim"]
        store.claims.start(lease, [job.id for job in jobs])
        store.claims.complete("w", lease, {job.id: good() for job in jobs})


def leave(store, plan, record):
    """Queue the units of `plan` for any workers."""
    FixedDriver(store, record, SearchState(), plan).leave()


def scored(store, name, plan):
    """Have a search, left to workers, that is over; return its id."""
    its = record(name)
    leave(store, plan, its)
    complete(store)
    store.searches.finish(its.id, "completed", {})
    return its.id


def is_whole(store, parts):
    for sha in parts:
        store.parts.get(sha)  # raises if not
    return True


def test_a_search_goes_with_all_that_is_its_own(store, left):
    scored(store, "a", plan([1, 2]))
    counts, size = left()
    would = store.removal.remove("a", dry_run=True)
    assert left() == (counts, size)
    done = store.removal.remove("a")
    assert (done.searches, done.units, done.parts) == (1, 2, counts["bundles"])
    assert left() == ({}, 0)
    assert done.bytes == size
    assert would == Removed(1, 2, counts["bundles"], done.bytes, dry_run=True)
    with pytest.raises(ValueError, match="no search of the name or id 'a'"):
        store.removal.remove("a")
    assert store.removal.remove() == Removed()


@pytest.mark.parametrize("odd", [{"v": 1}, {"v": 2}, {"v": 1, "state": 7, "ids": "none"}])
def test_a_dry_run_changes_no_document(store, database, odd):
    scored(store, "a", plan([1, 2]))
    for collection in KEPT:
        database[collection].insert_one({"_id": "an odd one:0", **odd})
        before = {name: list(database[name].find()) for name in KEPT}
        for name in ("a", None):
            with suppress(StoreError):  # nobody knows what it may need
                store.removal.remove(name, dry_run=True)
            with suppress(StoreError):
                store.removal.remove(older_than=timedelta(0), dry_run=True)
        assert {name: list(database[name].find()) for name in KEPT} == before
        database[collection].delete_one({"_id": "an odd one:0"})


@pytest.mark.parametrize("dry_run", [True, False])
def test_nothing_is_removed_beside_a_record_that_cannot_be_read(store, database, left, dry_run):
    scored(store, "a", plan([1, 2]))
    for collection in ("searches", "search_units"):
        database[collection].insert_one({"_id": "a:0", "v": 1})
        before = left()
        with pytest.raises(StoreError, match=f"'a:0' in {collection} cannot be read .*missing"):
            store.removal.remove(dry_run=dry_run)
        assert left() == before
        database[collection].delete_one({"_id": "a:0"})


def test_equal_searches_share_their_list_and_the_last_takes_it_along(store, left):
    first = scored(store, "a", plan([1, 2]))
    before = left()[0]
    second = scored(store, "a", plan([1, 2]))
    assert left()[0] == {**before, "searches": 2}
    assert store.searches.unit_ids(first) == store.searches.unit_ids(second) == plan([1, 2]).ids
    done = store.removal.remove(first)
    assert (done.searches, done.units, done.parts) == (1, 0, 0)
    assert left()[0] == before
    assert store.searches.unit_ids(second) == plan([1, 2]).ids
    assert store.searches.unit_ids(first) == []
    assert store.removal.remove("a").units == 2
    assert left()[0] == {}


def test_units_of_another_search_stay(store):
    scored(store, "a", plan([1, 2, 3]))
    other = scored(store, "b", plan([3, 4]))
    parts = set(plan([3]).parts)
    done = store.removal.remove("a")
    assert (done.units, done.parts) == (2, 0)
    assert set(store.jobs.states(store.searches.unit_ids(other)).values()) == {"completed"}
    assert is_whole(store, parts)
    assert store.removal.remove("b").parts == len(parts)


def test_all_searches_of_a_name_go_and_only_they(store, database):
    for values in ([1], [2], [1]):
        scored(store, "a", plan(values))
    other = scored(store, "b", plan([3]))
    assert store.removal.remove("a", dry_run=True).searches == 3
    done = store.removal.remove("a")
    assert (done.searches, done.units) == (3, 2)
    assert [d["_id"] for d in database["searches"].find()] == [other]


@pytest.mark.parametrize("constraints", ["some constraints", "other constraints"])
def test_a_score_serves_by_key_whatever_its_terms(store, constraints):
    """Ids that a search lists need not be those of the documents that served it."""
    ours, theirs = unit("k" * 64), unit("k" * 64, constraints=constraints)
    first, second = record("first"), record("second")
    for its, one in ((first, ours), (second, theirs)):
        store.searches.open(its, [one.id])
        if not store.jobs.stored([one]):
            store.jobs.submit([one], its.id)
            complete(store)
        store.searches.finish(its.id, "completed", {})
    assert store.removal.remove("first").units == 0
    assert store.jobs.states([theirs.id]) == {theirs.id: "completed"}
    assert store.removal.remove("second").units == 1
    assert store.jobs.states([theirs.id]) == {}


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_unit_keeps_the_parts_of_the_search_that_queued_it_first(store, database, dry_run):
    part, in_params = dump(np.arange(5.0)), dump({"an": "estimator"})
    text = f'{{"x": {{"opaque": "{in_params.sha}"}}}}'
    one, more = unit("k" * 64, params_text=text), unit("l" * 64)
    one.work.spec["X"] = part.sha
    first, second = record("first"), record("second")
    listing = store.searches.open(first, [one.id])
    upload(store, [part, in_params], listing)
    store.workers.publish(one.work)
    store.jobs.submit([one], first.id)
    store.searches.open(second, [one.id, more.id])
    store.jobs.submit([one, more], second.id)
    store.searches.left(second.id)
    store.searches.withdraw(first.id)
    store.jobs.cancel(first.id)
    done = store.removal.remove("first", dry_run=dry_run)
    assert (done.searches, done.units, done.parts) == (1, 0, 0)
    if dry_run:
        return
    assert is_whole(store, [part.sha, in_params.sha])
    complete(store)
    assert store.removal.remove().parts == 0
    assert is_whole(store, [part.sha, in_params.sha])
    store.searches.finish(second.id, "completed", {})
    assert store.removal.remove("second").parts == 2
    assert database["chunks"].count_documents({}) == 0


def test_a_job_spec_keeps_its_parts(store):
    """By them the second search can be extended, though it has stored none of them."""
    scored(store, "first", plan([1, 2]))
    second = scored(store, "second", plan([1]))
    needed = {sha for sha in store.searches.asked(second).work.spec.values() if sha}
    assert store.removal.remove("first").units == 1
    assert is_whole(store, needed)
    assert store.removal.remove("second").parts == len(needed) > 0


def test_parts_that_a_joblib_call_holds_stay(store):
    shared = plan([1])
    scored(store, "a", shared)
    sha = max(shared.parts)
    assert not store.parts.missing([sha], "client/1")
    assert store.removal.remove("a").parts == len(shared.parts) - 1
    assert is_whole(store, [sha])
    store.parts.release(["client/1"])
    assert store.parts.missing([sha]) == {sha}


def test_a_search_that_runs_is_not_removed(store, left, database):
    waits, seen, over = record("waits"), record("seen"), record("over")
    leave(store, plan([1]), waits)
    store.searches.open(seen, [])
    store.searches.open(over, [])
    store.searches.finish(over.id, "completed", {})
    for name in ("waits", "seen"):
        with pytest.raises(SearchRunning, match="Cancel it first"):
            store.removal.remove(name)
    assert store.removal.remove(older_than=timedelta(0)).searches == 1
    assert left()[0]["searches"] == 2
    assert store.removal.remove("waits", older_than=timedelta(0)).searches == 0
    for its in (waits, seen):
        store.searches.withdraw(its.id)
        store.jobs.cancel(its.id)
        assert store.removal.remove(its.id).searches == 1
    assert left()[0] == {}


def test_only_one_of_them_runs_and_none_is_removed(store, database):
    scored(store, "a", plan([1]))
    leave(store, plan([2]), record("a"))
    with pytest.raises(SearchRunning):
        store.removal.remove("a")
    assert database["searches"].count_documents({"name": "a"}) == 2


def back(database, name, **moments):
    """Set moments of a record back by so many seconds, or to None."""
    fields = {
        field: seconds and {"$subtract": ["$$NOW", 1000 * seconds]}
        for field, seconds in moments.items()
    }
    database["searches"].update_one({"name": name}, [{"$set": fields}])


DAY = 86_400


def test_age_is_since_the_end(store, database):
    for n, name in enumerate(("old", "young", "named")):
        scored(store, name, plan([n]))
        back(database, name, began_at=9 * DAY, seen_at=9 * DAY)
    back(database, "old", ended_at=3 * DAY)
    assert store.removal.remove("named", older_than=timedelta(days=2)).searches == 0
    assert store.removal.remove(older_than=timedelta(days=4)).searches == 0
    done = store.removal.remove(older_than=timedelta(days=2))
    assert (done.searches, done.units) == (1, 1)
    assert {d["name"] for d in database["searches"].find()} == {"young", "named"}
    assert store.removal.remove("named", older_than=timedelta(0)).searches == 1


def test_the_age_of_a_search_without_a_recorded_end(store, database):
    """Left to workers, its last score tells; with a client that was killed, when that was seen."""
    ids = {name: record(name) for name in ("left", "killed")}
    for n, (name, its) in enumerate(ids.items()):
        leave(store, plan([n]), its)
        complete(store)
        back(database, name, began_at=9 * DAY, seen_at=None if name == "left" else 3 * DAY)
    age = timedelta(days=2)
    assert store.removal.remove(older_than=age).searches == 0
    long_ago = {"$set": {"completed_at": {"$subtract": ["$$NOW", 1000 * 4 * DAY]}}}
    database["units"].update_many({}, [long_ago])
    assert store.removal.remove(older_than=timedelta(days=3.5)).searches == 1  # that was left
    assert store.removal.remove(older_than=age).searches == 1


def test_without_name_and_age_only_what_nothing_refers_to_goes(store, database, left):
    kept = scored(store, "kept", plan([1, 2]))
    before = left()
    gone = scored(store, "gone", plan([2, 3], offset=1.0))
    leave(store, plan([4], offset=2.0), waiting := record("waiting"))
    queued = left()
    database["searches"].delete_one({"_id": gone})
    database["units"].insert_one(
        {**database["units"].find_one({"_id": plan([1]).ids[0]}), "_id": "x", "key": "x"}
    )
    database["environments"].insert_one({"_id": "e" * 16, "v": 1, "versions": []})
    half = dump(np.arange(3.0))

    def cut(_):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        store.parts.put(half, cut, holder=SEARCHES)
    database["chunks"].insert_one({"_id": f"{'f' * 64}:0", "data": b"abc"})
    would = store.removal.remove(dry_run=True)
    done = store.removal.remove()
    assert (done.searches, done.units) == (0, 3)
    assert (would.units, would.parts, would.bytes) == (done.units, done.parts, done.bytes)
    assert left()[0]["searches"] == 2
    assert set(store.jobs.states(store.searches.unit_ids(kept)).values()) == {"completed"}
    assert is_whole(store, {*plan([1]).parts, *plan([4], offset=2.0).parts})
    store.searches.withdraw(waiting.id)
    store.jobs.cancel(waiting.id)
    store.removal.remove("waiting")
    assert left() == before
    assert queued[0]["units"] == 5


def test_results_of_abandoned_calls_are_removed(store, database):
    returned = dump(np.arange(4.0))
    store.parts.put(returned)
    assert store.removal.remove().parts == 0
    database["bundles"].update_one({}, [{"$set": {"at": {"$subtract": ["$$NOW", 2 * 3_600_000]}}}])
    assert store.removal.remove().parts == 1
    assert database["chunks"].count_documents({}) == 0


def test_units_of_calls_and_of_other_schemas_are_left_alone(store, database):
    scored(store, "a", plan([1]))
    one = database["units"].find_one()
    strange = [{**one, "_id": "c", "key": "c", "kind": "call"}, {**one, "_id": "v", "v": 99}]
    strange.append({**one, "_id": "s", "key": "s", "state": "odd"})
    database["units"].insert_many(strange)
    assert store.removal.remove("a").units == 1
    assert store.removal.remove().units == 0
    assert {d["_id"] for d in database["units"].find()} == {"c", "v", "s"}


class Cut(Exception):
    pass


def at_command(monkeypatch, number, act):
    """Have `act` happen before the command of that number, and tell whether it has."""
    sent, happened = iter(range(10**6)), []

    def patched(original):
        def method(self, *args, **options):
            if not happened and next(sent) == number:
                happened.append(True)
                act()
            return original(self, *args, **options)

        return method

    for name in ("find", "find_one", "update", "delete", "measure"):
        monkeypatch.setattr(RetryingCollection, name, patched(getattr(RetryingCollection, name)))
    return happened


@pytest.mark.parametrize("whole", [False, True])
def test_a_removal_that_is_cut_off_anywhere_is_finished_by_the_next(store, left, whole):
    def cut():
        raise Cut

    for number in range(200):
        scored(store, "a", plan([1, 2]))
        with pytest.MonkeyPatch.context() as patch:
            at_command(patch, number, cut)
            try:
                age = timedelta(0) if whole else None
                store.removal.remove(None if whole else "a", older_than=age)
            except Cut:
                over = False
            else:
                over = True
        store.removal.remove(older_than=timedelta(0))
        assert left()[0] == {}, number
        if over:
            assert number > 15
            return
    raise AssertionError("it has no end")


@pytest.mark.parametrize("values", [[1, 2], [2, 3]])
def test_a_search_that_begins_during_a_removal_can_be_scored(uri, store, database, values):
    """Its units wait with all of their parts, or have a score, whenever it comes."""
    for number in range(200):
        scored(store, "a", plan([1, 2]))
        store.jobs._units.update({"key": re.compile("")}, {"$set": {"state": "cancelled"}})
        database["units"].update_one({"_id": plan([2]).ids[0]}, {"$set": {"state": "completed"}})
        its, new = record("b"), plan(values)
        with open_store(uri) as other, pytest.MonkeyPatch.context() as patch:
            happened = at_command(patch, number, lambda: leave(other, new, its))  # noqa: B023
            store.removal.remove("a")
        if not happened:
            break
        there = {d["_id"]: d for d in database["units"].find({"_id": {"$in": new.ids}})}
        assert set(there) == set(new.ids), number
        for one in there.values():
            assert one["state"] == "completed" or one["wanted_by"] == [its.id], number
        if any(one["state"] == "queued" for one in there.values()):
            assert is_whole(store, new.parts), number
        assert store.searches.unit_ids(its.id) == new.ids, number
        store.removal.remove()
        assert store.searches.unit_ids(its.id) == new.ids, number
        assert database["units"].count_documents({"_id": {"$in": new.ids}}) == 2, number
        store.jobs.cancel(its.id)
        store.searches.withdraw(its.id)
        store.removal.remove("b")
    assert number > 15


def test_a_unit_that_is_removed_before_it_is_joined_is_queued_anew(uri, store, database):
    one, its = unit("k" * 64), record("b")
    for number in range(20):
        store.jobs.submit([one], "a")
        store.jobs.cancel("a")
        with open_store(uri) as other, pytest.MonkeyPatch.context() as patch:
            delete = other.jobs._units.delete
            act = lambda: delete({"_id": one.id, "wanted_by": []})  # noqa: E731, B023
            happened = at_command(patch, number, act)
            store.jobs.submit([one], its.id)
        assert database["units"].find_one({"_id": one.id})["wanted_by"] == [its.id]
        store.jobs.cancel(its.id)
        if not happened:
            break
    assert number > 3


def come_and_go(mine, number):
    """Begin searches and end them; fail if one lacks a unit, or a part of one that waits."""
    rng = random.Random(number)
    for n in range(25):
        its = record(f"{number}/{n}")
        wanted = plan(rng.sample(range(6), 3), offset=float(rng.random() < 0.3))
        listing = mine.searches.open(its, wanted.ids, wanted.candidates, wanted.asked)
        served = mine.jobs.stored(wanted.units)
        missing = [unit for unit in wanted.units if unit.id not in served]
        if missing:
            upload(mine, wanted.parts.values(), listing)
            mine.workers.publish(missing[0].work)
            mine.jobs.submit(missing, its.id)
        for _ in range(rng.randrange(3)):
            # A score that was being removed as this search began is away for a moment.
            wait_for(lambda: set(mine.jobs.states(wanted.ids)) == set(wanted.ids))  # noqa: B023
            states = mine.jobs.states(wanted.ids)
            assert "cancelled" not in states.values()
            if "queued" in states.values():
                is_whole(mine, wanted.parts)
            if rng.random() < 0.3:
                complete(mine)
        mine.jobs.cancel(its.id)
        mine.searches.finish(its.id, "interrupted", {})


def test_many_searches_that_come_and_go_have_all_that_they_need(uri, store, left):
    failed, over = [], threading.Event()

    def remove(mine, _):
        while not over.is_set():
            mine.removal.remove(older_than=timedelta(0))

    def run(act, number):
        try:
            with open_store(uri) as mine:
                act(mine, number)
        except BaseException as error:
            failed.append(error)

    removers = [threading.Thread(target=run, args=(remove, n)) for n in range(2)]
    searches = [threading.Thread(target=run, args=(come_and_go, n)) for n in range(3)]
    for thread in removers + searches:
        thread.start()
    for thread in searches:
        thread.join(200.0)
    over.set()
    for thread in removers:
        thread.join(120)
    assert failed == []
    store.removal.remove(older_than=timedelta(0))
    assert left()[0] == {}
