"""Batches: many units in one document, against a model of each unit, and what opens them."""

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
        assert len(got) <= count
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
