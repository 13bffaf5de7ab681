"""Batches: many units in one document, against a model of each unit, and what opens them."""

from concurrent.futures import ThreadPoolExecutor

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from store.test_model import SEARCHES, TIMING, Expected
from store.units import bad, good, ids, some_units

from optomatic.errors import StoreUnavailable
from optomatic.store import batches, jobs
from optomatic.store.connection import open_store

UNITS = 7
SOME = st.sets(st.integers(0, UNITS - 1), min_size=1)


@pytest.fixture
def small_batches(monkeypatch):
    """Queue all units in batches, of one to three."""
    monkeypatch.setattr(jobs, "LEAST", 1)
    monkeypatch.setattr(batches, "SIZES", (1, 2, 3))


class Batched(RuleBasedStateMachine):
    """Seven units in batches, three searches, any number of workers.

    What each unit should be does not depend on whether it is in a batch, but for this: a batch is
    renewed, reaped and joined as a whole.
    """

    uri = None
    leases = Bundle("leases")

    def __init__(self):
        super().__init__()
        self.store = open_store(f"{self.uri}", timing=TIMING)
        self.jobs, self.claims = self.store.jobs, self.store.claims
        self.units = some_units(UNITS)
        self.model = {unit.id: Expected() for unit in self.units}
        self.jobs._units.delete({})
        self.workers = 0
        self.completed = {}

    def teardown(self):
        self.store.close()

    def stored(self):
        """Return the units by id: their documents, and the batches of those without one."""
        documents = {document["_id"]: document for document in self.jobs._units.find({})}
        single = {i: d for i, d in documents.items() if "ids" not in d}
        packed = {i: d for d in documents.values() for i in d.get("ids", ()) if i not in single}
        return single, packed

    def held(self, lease):
        return {i for i, one in self.model.items() if one.claim == lease.token and one.claim}

    def batch_of(self, lease):
        """Return the units that are under a lease in a batch, and this."""
        packed = {i: d for i, d in self.stored()[1].items() if d["claim"] == lease.token}
        return packed.keys(), next(iter(packed.values()), None)

    def some_of(self, numbers):
        return [self.units[n] for n in sorted(numbers)]

    @rule(search=SEARCHES, numbers=SOME, retry=st.booleans())
    def submit(self, search, numbers, retry):
        packed = self.stored()[1]
        asked = self.some_of(numbers)
        self.jobs.submit(asked, search, retry_failed=retry)
        for unit in asked:
            one = self.model[unit.id]
            if one.state in (None, "cancelled") or (retry and one.state in ("failed", "dead")):
                if one.state in ("failed", "dead"):
                    one.losses, one.score, one.worker = 0, None, None
                one.state = "queued"
                one.wanted_by = {search}
            elif one.state in ("queued", "running"):
                one.wanted_by.add(search)
        joined = {packed[i]["_id"] for i in ids(asked) if i in packed}
        for unit_id, batch in packed.items():
            if batch["_id"] in joined and batch["state"] == "running":
                self.model[unit_id].wanted_by.add(search)

    @rule(search=SEARCHES)
    def cancel(self, search):
        self.jobs.cancel(search)
        for one in self.model.values():
            if search in one.wanted_by:
                one.wanted_by.discard(search)
                if not one.wanted_by:
                    one.leave("cancelled")

    @rule(search=SEARCHES, numbers=SOME)
    def cancel_some(self, search, numbers):
        packed = self.stored()[1]
        some = ids(self.some_of(numbers))
        self.jobs.cancel(search, some)
        for unit_id in some:
            one = self.model[unit_id]
            runs = unit_id in packed and packed[unit_id]["state"] == "running"
            if search in one.wanted_by and not runs:
                one.wanted_by.discard(search)
                if not one.wanted_by:
                    one.leave("cancelled")

    @rule(
        target=leases,
        count=st.integers(1, 4),
        search=st.none() | SEARCHES,
        alone=st.booleans(),
    )
    def claim(self, count, search, alone):
        self.workers += 1
        packed = self.stored()[1]
        lease = self.claims.claim(f"w{self.workers}", count, search=search, alone=alone)
        queued = {
            i
            for i, one in self.model.items()
            if one.state == "queued" and (search is None or search in one.wanted_by)
        }
        calm = {
            i
            for i in queued
            if not self.model[i].losses and not (i in packed and packed[i]["losses"])
        }
        got = set(ids(lease.jobs))
        assert got <= queued
        assert len(got) <= 2 * count  # a batch is taken as a whole
        assert bool(got) == bool(calm or (alone and queued))
        if any(self.model[i].losses for i in got):
            assert len(got) == 1
            assert alone
            assert not calm
        for unit_id in got:
            one = self.model[unit_id]
            one.state, one.claim, one.started = "running", lease.token, False
        return (lease, f"w{self.workers}") if lease.jobs else multiple()

    @rule(claimed=leases, share=st.floats(0, 1))
    def start(self, claimed, share):
        lease, _ = claimed
        asked = ids(lease.jobs)[: max(1, round(share * len(lease.jobs)))]
        ours = self.held(lease).intersection(asked)
        batched, _ = self.batch_of(lease)
        got = self.claims.start(lease.token, asked)
        assert ours <= got <= set(asked)
        assert batched or got == ours
        for unit_id in ours:
            one = self.model[unit_id]
            one.runs += not one.started
            one.over = one.over and one.started
            one.started = True
        for unit_id in batched:
            self.model[unit_id].over = False

    @rule(claimed=leases)
    def renew(self, claimed):
        lease, _ = claimed
        batched, batch = self.batch_of(lease)
        mine = {i for i in self.held(lease) if self.model[i].started}
        asked = set(ids(lease.jobs))
        lost = self.claims.renew({lease.token: asked})
        if batched:
            mine = batched if batch["started"] else set()
            assert lost == (set() if batch["started"] else asked)
        else:
            assert lost == asked - mine
        for unit_id in mine:
            self.model[unit_id].over = False

    @rule(claimed=leases, went_well=st.booleans(), share=st.floats(0, 1), score=st.floats(0, 1))
    def complete(self, claimed, went_well, share, score):
        lease, worker = claimed
        some = ids(lease.jobs)[: max(1, round(share * len(lease.jobs)))]
        results = {i: good(score) if went_well else bad() for i in some}
        packed = self.stored()[1]
        remembered = lease.token in self.claims._claimed
        late = self.claims.complete(worker, lease.token, results)
        for unit_id in results:
            one = self.model[unit_id]
            # Nobody else has it before its batch is opened, and then it has a document.
            first = remembered and unit_id in packed
            if went_well and one.state != "completed":
                one.leave("completed")
                one.score, one.worker = score, worker
            elif not went_well and (one.claim == lease.token or first):
                one.leave("failed")
                one.score, one.worker = None, worker
            else:
                continue
            if first:
                one.runs, one.losses = 1, 0
        assert late == {i for i in results if self.model[i].worker != worker}

    @rule(claimed=leases, ran=st.booleans())
    def release(self, claimed, ran):
        lease, _ = claimed
        asked = ids(lease.jobs)
        self.claims.release(lease.token, asked, begun=asked if ran else ())
        for unit_id in self.held(lease):
            one = self.model[unit_id]
            one.runs -= one.started and not ran
            one.give_back()

    @rule(claimed=leases)
    def crash(self, claimed):
        lease, _ = claimed
        first = lease.jobs[0].id
        was_ours = first in self.held(lease)
        assert self.claims.crash(lease.token, first, "SIGSEGV", "a host") == was_ours
        if was_ours:
            self.model[first].lose()

    @rule(claimed=leases)
    def let_the_lease_run_out(self, claimed):
        lease, _ = claimed
        ago = {"$subtract": ["$$NOW", 1000]}
        self.jobs._units.update({"claim": lease.token}, [{"$set": {"lease_until": ago}}])
        for unit_id in self.held(lease):
            self.model[unit_id].over = True

    @rule()
    def reap(self):
        over = [one for one in self.model.values() if one.over]
        assert bool(self.claims.reap()) == bool(over)
        for one in over:
            one.lose()

    @invariant()
    def the_store_is_as_expected(self):
        single, packed = self.stored()
        assert single.keys() | packed.keys() == {i for i, o in self.model.items() if o.state}
        for unit_id, one in self.model.items():
            if one.state is None:
                continue
            document = single.get(unit_id) or packed[unit_id]
            began = unit_id in batches.begun_in(document) if "ids" in document else True
            result = document["result"]
            assert (
                document["state"],
                set(document["wanted_by"]),
                document["claim"],
                document["started"] and began,
                document["losses"] if began else 0,
                document["runs"] if unit_id in single else int(began),
                result and result["test"],
            ) == (
                one.state,
                one.wanted_by,
                one.claim,
                one.started,
                one.losses,
                one.runs,
                one.score,
            )

    @invariant()
    def completed_never_changes(self):
        for document in self.jobs._units.find({"state": "completed"}):
            assert document == self.completed.setdefault(document["_id"], document)
        assert len(self.jobs._units.find({"state": "completed"})) == len(self.completed)

    @invariant()
    def each_unit_is_described_as_it_is(self):
        known = {i: one for i, one in self.model.items() if one.state}
        states = {i: one.state for i, one in known.items()}
        assert self.jobs.states(list(self.model)) == states
        described = self.jobs.described(list(self.model))
        assert {i: one.outcome.state for i, one in described.items()} == states
        running = {i for i, one in known.items() if one.started}
        assert {form.id for form in self.jobs.running()} == running

    @invariant()
    def a_search_waits_as_long_as_something_of_it_is_open(self):
        for search in ("s", "t", "u"):
            waits = {
                i
                for i, one in self.model.items()
                if search in one.wanted_by and one.state in ("queued", "running")
            }
            assert waits <= set(self.jobs.waiting(search))
            assert self.jobs.waits(search) or not waits


def test_any_order_of_calls(any_uri, small_batches):
    class Here(Batched):
        uri = any_uri

    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=40,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


# What opens a batch, one thing at a time


@pytest.fixture
def batch(one_bench, small_batches, monkeypatch):
    """Three units in one batch, which `search` has queued."""
    monkeypatch.setattr(batches, "SIZES", (3,))
    units = some_units(3)
    one_bench.jobs.submit(units, "search")
    return units


def packed(bench):
    """Return the batches that are stored."""
    return list(bench.units.find({"ids": {"$exists": True}}))


def run_out(bench, token):
    ago = {"$subtract": ["$$NOW", 1]}
    bench.units.update_many({"claim": token}, [{"$set": {"lease_until": ago}}])
    return bench.claims.reap()


def test_all_units_of_a_batch_are_one_document_until_they_have_results(one_bench, batch):
    assert one_bench.units.count_documents({}) == 1
    lease = one_bench.claims.claim("w", 3)
    assert ids(lease.jobs) == ids(batch)
    assert one_bench.claims.start(lease.token, ids(batch)) == set(ids(batch))
    one_bench.claims.complete("w", lease.token, {batch[0].id: good(), batch[1].id: bad()})
    assert one_bench.states().keys() >= {batch[0].id, batch[1].id}
    assert one_bench.jobs.waits("search")
    one_bench.claims.complete("w", lease.token, {batch[2].id: good()})
    assert one_bench.states() == dict(
        zip(ids(batch), ("completed", "failed", "completed"), strict=True)
    )
    assert not one_bench.jobs.waits("search")
    ends = one_bench.jobs.inspected(ids(batch))
    assert {(one.attempt, one.outcome.runs, one.worker) for one in ends.values()} == {(1, 1, "w")}
    assert all(one.began <= one.ended for one in ends.values())


def test_what_ended_its_worker_runs_alone_and_nothing_else_is_blamed(one_bench, batch):
    claims = one_bench.claims
    lease = claims.claim("w1", 3)
    claims.start(lease.token, ids(batch)[:2])
    run_out(one_bench, lease.token)
    for n in (2, 3):  # the second one ends its worker each time
        assert ids(claims.claim(f"w{n}", 3, alone=False).jobs) in ([], [batch[2].id])
        other = claims.claim(f"w{n}", 3)
        if other.jobs and other.jobs[0].id == batch[2].id:
            other = claims.claim(f"w{n}", 3)
        while ids(other.jobs) != [batch[1].id]:
            assert ids(other.jobs) == [batch[0].id]
            claims.start(other.token, ids(other.jobs))
            claims.complete("well", other.token, {batch[0].id: good()})
            other = claims.claim(f"w{n}", 3)
        claims.start(other.token, [batch[1].id])
        run_out(one_bench, other.token)
    states = one_bench.states()
    assert (states[batch[0].id], states[batch[1].id]) == ("completed", "dead")
    assert one_bench.document(batch[1])["losses"] == 3
    assert one_bench.document(batch[2])["losses"] == 0
    assert packed(one_bench) == []


@pytest.mark.parametrize("kept", [0, 1, 3])
def test_a_process_that_ends_while_it_opens_a_batch_leaves_all_units_once(
    one_bench, batch, monkeypatch, kept
):
    """Some of the units are inserted, and the batch is still there."""
    insert = one_bench.jobs._units.insert
    with monkeypatch.context() as broken:

        def some(documents):
            insert(documents[:kept])
            raise StoreUnavailable("it ended")

        broken.setattr(one_bench.jobs._units, "insert", some)
        with pytest.raises(StoreUnavailable):
            one_bench.jobs.cancel("search", [batch[0].id])
    run_out(one_bench, packed(one_bench)[0]["claim"])
    got = []
    while lease := one_bench.claims.claim("w", 3):
        if not lease.jobs:
            break
        got += ids(lease.jobs)
        one_bench.claims.start(lease.token, ids(lease.jobs))
        one_bench.claims.complete("w", lease.token, {i: good() for i in ids(lease.jobs)})
    assert sorted(got) == sorted(ids(batch))
    assert not one_bench.jobs.waits("search")
    assert packed(one_bench) == []


def test_who_joins_or_leaves_while_a_batch_is_opened_waits_for_its_units_or_not(
    one_bench, batch, monkeypatch
):
    jobs_of_others = open_store(one_bench.uri).jobs
    insert = one_bench.jobs._units.insert

    def meanwhile(documents):
        jobs_of_others.submit(batch[:1], "joins")
        jobs_of_others.cancel("search")
        return insert(documents)

    monkeypatch.setattr(one_bench.jobs._units, "insert", meanwhile)
    one_bench.jobs.cancel("nobody", [batch[0].id])
    assert packed(one_bench) == []
    assert {tuple(d["wanted_by"]) for d in one_bench.units.find()} == {("joins",)}
    assert not one_bench.jobs.waits("search")


def test_another_search_gets_the_units_that_it_asks_for_and_no_others(one_bench, batch):
    one_bench.jobs.submit(batch[1:2], "other")
    wanted = {d["_id"]: sorted(d["wanted_by"]) for d in one_bench.units.find()}
    assert wanted == dict(
        zip(ids(batch), (["search"], ["other", "search"], ["search"]), strict=True)
    )
    assert ids(one_bench.claims.claim("w", 3, search="other").jobs) == [batch[1].id]


@pytest.mark.parametrize("field", ["packed", "ids", "options", "began"])
def test_a_batch_that_was_changed_is_set_aside_and_its_units_are_queued_anew(
    one_bench, batch, field
):
    wrong = {"packed": b"other", "ids": ["x"], "options": {"other": 1}, "began": [7]}[field]
    one_bench.units.update_one({}, {"$set": {field: wrong}})
    assert one_bench.claims.claim("w", 3).jobs == ()
    assert packed(one_bench)[0]["state"] == "invalid"
    assert not one_bench.jobs.waits("search")
    met = one_bench.jobs.submit(batch, "search")
    assert met.invalid == (0 if field == "ids" else 3)
    assert ids(one_bench.claims.claim("w", 3).jobs) == ids(batch)


def test_a_batch_of_another_version_is_told_of_and_left_alone(one_bench, batch):
    one_bench.units.update_one({}, {"$set": {"v": 2}})
    assert one_bench.jobs.submit(batch, "other").foreign == tuple(sorted(ids(batch)))
    assert one_bench.claims.claim("w", 3).jobs == ()
    assert one_bench.units.count_documents({}) == 1


def test_many_searches_at_once_queue_each_unit_once(one_bench, monkeypatch):
    monkeypatch.setattr(jobs, "LEAST", 4)
    units = some_units(60)
    shares = [units, units[10:50], units[::3], units[:3], units[40:]]

    def submit(number):
        with open_store(one_bench.uri) as store:
            store.jobs.submit(shares[number], f"s{number}")

    with ThreadPoolExecutor(len(shares)) as threads:
        list(threads.map(submit, range(len(shares))))
    got = []
    while lease := ids(one_bench.claims.claim("w", 30).jobs):
        got += lease
    assert sorted(got) == sorted(ids(units))
    for number, share in enumerate(shares):
        assert set(one_bench.jobs.waiting(f"s{number}")) >= set(ids(share))
