"""The queue against a model of it: any order of any calls, on a real server."""

from collections import Counter
from dataclasses import dataclass, field

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from store.units import bad, good, ids, some_units

from optomatic.records import Timing
from optomatic.store.connection import open_store

#: Nothing runs out by itself: the machine says when.
TIMING = Timing(lease=1000.0, unstarted=1000.0)
SEARCHES = st.sampled_from(["s", "t", "u"])
SOME = st.sets(st.integers(0, 5), min_size=1)


@dataclass
class Expected:
    """What a unit should be."""

    state: str | None = None  # None: never submitted
    wanted_by: set = field(default_factory=set)
    claim: str | None = None
    started: bool = False
    over: bool = False  # its lease ran out
    losses: int = 0
    runs: int = 0
    score: float | None = None
    worker: str | None = None

    def leave(self, state):
        """Nobody holds it any more."""
        self.state, self.claim, self.started, self.over = state, None, False, False
        if state in ("completed", "failed", "dead"):
            self.wanted_by = set()

    def give_back(self):
        self.leave("queued" if self.wanted_by else "cancelled")

    def lose(self):
        self.losses += self.started
        if self.losses >= TIMING.max_losses:
            self.leave("dead")
        else:
            self.give_back()


class Queue(RuleBasedStateMachine):
    """Six units, three searches, any number of workers."""

    uri = None
    leases = Bundle("leases")

    def __init__(self):
        super().__init__()
        self.store = open_store(f"{self.uri}", timing=TIMING)
        self.jobs, self.claims = self.store.jobs, self.store.claims
        self.units = some_units(6)
        self.model = {unit.id: Expected() for unit in self.units}
        self.jobs._units.delete({})
        self.workers = 0
        self.completed = {}

    def teardown(self):
        self.store.close()

    def held(self, lease):
        """Return what of `lease` is still its own."""
        return {i for i, one in self.model.items() if one.claim == lease.token and one.claim}

    def some_of(self, numbers):
        return [self.units[n] for n in sorted(numbers)]

    # What searches do

    @rule(search=SEARCHES, numbers=SOME, retry=st.booleans())
    def submit(self, search, numbers, retry):
        self.jobs.submit(self.some_of(numbers), search, retry_failed=retry)
        for unit in self.some_of(numbers):
            one = self.model[unit.id]
            if one.state in (None, "cancelled") or (retry and one.state in ("failed", "dead")):
                if one.state in ("failed", "dead"):
                    one.losses, one.score, one.worker = 0, None, None
                one.state = "queued"
                one.wanted_by = {search}
            elif one.state in ("queued", "running"):
                one.wanted_by.add(search)

    @rule(search=SEARCHES)
    def cancel(self, search):
        self.jobs.cancel(search)
        for one in self.model.values():
            if search in one.wanted_by:
                one.wanted_by.discard(search)
                if not one.wanted_by:
                    one.leave("cancelled")

    # What workers do

    @rule(
        target=leases,
        count=st.integers(1, 4),
        search=st.none() | SEARCHES,
        alone=st.booleans(),
    )
    def claim(self, count, search, alone):
        self.workers += 1
        lease = self.claims.claim(f"w{self.workers}", count, search=search, alone=alone)
        queued = {
            i
            for i, one in self.model.items()
            if one.state == "queued" and (search is None or search in one.wanted_by)
        }
        calm = {i for i in queued if not self.model[i].losses}
        got = set(ids(lease.jobs))
        if calm:
            assert got <= calm
            assert len(got) == min(count, len(calm))
        else:
            assert got <= queued
            assert len(got) == (1 if alone and queued else 0)
        for unit_id in got:
            one = self.model[unit_id]
            one.state, one.claim, one.started = "running", lease.token, False
        return (lease, f"w{self.workers}") if lease.jobs else multiple()

    @rule(claimed=leases, share=st.floats(0, 1))
    def start(self, claimed, share):
        lease, _ = claimed
        asked = ids(lease.jobs)[: max(1, round(share * len(lease.jobs)))]
        ours = self.held(lease).intersection(asked)
        assert self.claims.start(lease.token, asked) == ours
        for unit_id in ours:
            one = self.model[unit_id]
            one.runs += not one.started
            one.over = one.over and one.started
            one.started = True

    @rule(claimed=leases)
    def renew(self, claimed):
        lease, _ = claimed
        mine = {i for i in self.held(lease) if self.model[i].started}
        asked = set(ids(lease.jobs))
        assert self.claims.renew({lease.token: asked}) == asked - mine
        for unit_id in mine:
            self.model[unit_id].over = False

    @rule(claimed=leases, went_well=st.booleans(), score=st.floats(allow_nan=False))
    def complete(self, claimed, went_well, score):
        lease, worker = claimed
        results = {i: good(score) if went_well else bad() for i in ids(lease.jobs)}
        late = self.claims.complete(worker, lease.token, results)
        for unit_id in results:
            one = self.model[unit_id]
            if went_well and one.state != "completed":
                one.leave("completed")
                one.score, one.worker = score, worker
            elif not went_well and one.claim == lease.token:
                one.leave("failed")
                one.score, one.worker = None, worker
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

    # What time does

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
        assert self.claims.reap() == len(over)
        for one in over:
            one.lose()

    # What always holds

    @invariant()
    def the_store_is_as_expected(self):
        stored = {document["_id"]: document for document in self.jobs._units.find({})}
        assert set(stored) == {i for i, one in self.model.items() if one.state}
        for unit_id, document in stored.items():
            one = self.model[unit_id]
            result = document["result"]
            assert (
                document["state"],
                set(document["wanted_by"]),
                document["claim"],
                document["started"],
                document["losses"],
                document["runs"],
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
    def only_what_runs_has_a_token(self):
        for document in self.jobs._units.find({}):
            assert (document["claim"] is not None) == (document["state"] == "running")

    @invariant()
    def completed_never_changes(self):
        for document in self.jobs._units.find({"state": "completed"}):
            first = self.completed.setdefault(document["_id"], document)
            assert document == first
        assert len(self.jobs._units.find({"state": "completed"})) == len(self.completed)

    @invariant()
    def states_add_up(self):
        stored = Counter(document["state"] for document in self.jobs._units.find({}))
        assert stored == Counter(one.state for one in self.model.values() if one.state)

    @invariant()
    def a_search_waits_as_long_as_something_of_it_is_open(self):
        for search in ("s", "t", "u"):
            waits = any(
                search in one.wanted_by and one.state in ("queued", "running")
                for one in self.model.values()
            )
            assert self.jobs.waits(search) == waits


def test_any_order_of_calls(any_uri):
    class Here(Queue):
        uri = any_uri

    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=25,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
