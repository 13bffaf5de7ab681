"""What a worker has reserved against a model of it: any order of events, on a real server.

The store may be away at any call, before or after it has done what it was asked.
"""

import secrets
from collections import deque
from threading import Event

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)
from store.units import bad, good, some_units

from optomatic.errors import StoreUnavailable
from optomatic.records import Timing
from optomatic.store.connection import open_store
from optomatic.worker import pool
from optomatic.worker import reservations as module
from optomatic.worker.heartbeat import Heartbeat
from optomatic.worker.reservations import Reservations

#: Nothing runs out by itself: the machine says when.
TIMING = Timing(lease=1000.0, unstarted=1000.0, max_losses=1000)
UNITS = 8
CHILDREN = st.integers(0, 1)
AWAY = st.sampled_from([None, None, False, True])


class Child(pool.Child):
    """A child without a process."""

    def __init__(self):
        self.sent, self.running, self.killed = deque(), None, False

    def send(self, _):
        pass

    def kill(self, _):
        self.killed = True


class Unsteady:
    """The calls of a worker to the queue, of which some fail, and a note of all that was done."""

    def __init__(self, jobs):
        self._jobs = jobs
        #: None, or whether a call that fails takes place all the same.
        self.away = None
        #: What was handed in of each claimed unit: (token, unit) -> kinds.
        self.done = {}
        #: Claims of units to which an earlier run has brought a good result meanwhile.
        self.overtaken = set()

    def _call(self, name, *args, **named):
        if self.away is False:
            raise StoreUnavailable("away")
        result = getattr(self._jobs, name)(*args, **named)
        if self.away is True:
            raise StoreUnavailable("its answer was lost")
        return result

    def _note(self, token, ids, kind):
        if self.away is not False:
            for unit_id in ids:
                self.done.setdefault((token, unit_id), set()).add(kind)

    def claim(self, *args, **named):
        return self._call("claim", *args, **named)

    def start(self, *args):
        return self._call("start", *args)

    def renew(self, *args):
        return self._call("renew", *args)

    def complete_all(self, worker, owed):
        for token, results in owed.items():
            for unit_id, result in results.items():
                self._note(token, [unit_id], "failed" if result.failures else "completed")
                if not result.failures and self.away is not False:
                    now = self._jobs._units.find_one({"_id": unit_id})
                    if now["state"] == "running" and now["claim"] != token:
                        self.overtaken.add((now["claim"], unit_id))
        return self._call("complete_all", worker, owed)

    def crash(self, token, unit_id, why, host):
        self._note(token, [unit_id], "crashed")
        return self._call("crash", token, unit_id, why, host)

    def release(self, token, ids, *, begun):
        for unit_id in ids:
            self._note(token, [unit_id], "released, ran" if unit_id in begun else "released")
        return self._call("release", token, ids, begun=begun)


class Store:
    """What reservations use of a store."""

    def __init__(self, claims):
        self.claims, self.timing = claims, TIMING


class Machine(RuleBasedStateMachine):
    """One worker with two children, and others that take units from it."""

    uri = None

    def __init__(self):
        super().__init__()
        self.store = open_store(self.uri, timing=TIMING)
        self.queue = self.store.jobs
        self.claims = self.store.claims
        self.claims._units.delete({})
        self.units = some_units(UNITS)
        self.ids = [unit.id for unit in self.units]
        self.queue.submit(self.units, "s")
        self.jobs = Unsteady(self.claims)
        store = Store(self.jobs)
        self.heartbeat = Heartbeat(store, secrets.token_hex(8))
        self.ours = Reservations(store, self.heartbeat)
        self.heartbeat._revoked = self.ours.revoke
        self.children = [Child(), Child()]
        #: What is owed of each claimed unit, in the model: (token, unit) -> kind.
        self.owed = {}
        #: Units that others took away or withdrew, by token.
        self.taken = self.jobs.overtaken
        #: What is owed and not known to be written.
        self.open = {}
        #: How often each unit may have been charged.
        self.charged = dict.fromkeys(self.ids, 0)
        self.told = []
        self.number = 0
        self.first = {}

    def owe(self, some, kind):
        for one in some:
            assert one.key not in self.owed, "owed twice"
            self.owed[one.key] = self.open[one.key] = kind

    def stored(self):
        return {document["_id"]: document for document in self.claims._units.find({})}

    # What the worker does

    @rule(count=st.integers(1, 4), alone=st.booleans())
    def claim(self, count, alone):
        before = set(self.ours.units)
        alone = alone and not before
        try:
            number = self.ours.claim(count, None, "s", alone)
        except StoreUnavailable:
            number = 0
        new = set(self.ours.units) - before
        assert len(new) == number <= count

    @rule(child=CHILDREN, count=st.integers(1, 3), away=AWAY)
    def start(self, child, count, away):
        if not self.ours.waiting:
            self.claim(4, True)
        if not self.ours.waiting:
            return
        self.jobs.away = away
        child = self.children[child]
        token, chunk = self.ours.waiting[0].token, []
        while self.ours.waiting and self.ours.waiting[0].token == token and len(chunk) < count:
            chunk.append(self.ours.waiting.popleft())
        try:
            started = self.ours.start(chunk)
        except StoreUnavailable:
            self.owe(chunk, "released")
            return
        assert started == {one.key for one in chunk} - self.taken
        child.assign([one for one in chunk if one.key in started], "message")

    @rule(child=CHILDREN)
    def begin(self, child):
        number, child = child, self.children[child]
        if not child.sent:
            self.start(number, 2, self.jobs.away)
        if child.sent:
            first = child.sent[0]
            assert child.begin(first.job.id) is first is child.running
            if len(child.sent) > 1:
                with pytest.raises(ValueError, match="it speaks of"):
                    child.begin(child.sent[1].job.id)

    @rule(child=CHILDREN, well=st.booleans())
    def finish(self, child, well):
        number, child = child, self.children[child]
        if not child.running:
            self.begin(number)
        if child.running:
            self.number += 1
            self.owe([child.running], "completed" if well else "failed")
            self.ours.complete(child.running, good(float(self.number)) if well else bad())
            child.finish()

    @rule(child=CHILDREN)
    def die(self, child):
        """A child exits by itself: what it ran is charged, and nothing else."""
        number, child = child, self.children[child]
        if not child.running:
            self.begin(number)
        ran, rest = child.give_up()
        if ran:
            self.ours.crash(ran, "SIGSEGV")
            self.owe([ran], "crashed")
            self.charged[ran.job.id] += 1
        self.give_back(rest)

    def end(self, child):
        """A child is killed by its parent: nobody is charged."""
        ran, rest = child.give_up()
        child.killed = False
        self.give_back([ran] if ran else [], ran=True)
        self.give_back(rest)

    def give_back(self, some, *, ran=False):
        self.ours.release(some, ran=ran)
        self.owe(some, "released, ran" if ran else "released")

    @rule(child=CHILDREN)
    def kill(self, child):
        self.end(self.children[child])

    @rule()
    def give_back_what_waits(self):
        self.owe(list(self.ours.waiting), "released")
        self.ours.release_waiting()
        assert not self.ours.waiting

    @rule()
    def flush(self):
        self.told += self.ours.arrived()
        took = self.ours.try_flush()
        assert took == self.ours.empty()
        assert took or self.jobs.away is not None
        if took:
            self.everything_was_handed_in()

    @rule()
    def flush_behind(self):
        self.told += self.ours.arrived()
        over = Event()
        try:
            self.ours.flush_behind(over.set)
        except StoreUnavailable:
            assert self.jobs.away is not None
            assert not self.ours.empty()
            return
        if self.ours._hand_in_over is not None:
            assert over.wait(60)
            assert not self.ours.empty()
            assert self.ours.due_in() == 0.0
        if self.ours.empty():
            self.everything_was_handed_in()

    def everything_was_handed_in(self):
        stored = self.stored()
        for (token, unit_id), kind in self.open.items():
            assert self.jobs.done[token, unit_id] == {kind}, "lost"
            document = stored[unit_id]
            assert document["claim"] != token
            if kind == "completed":
                assert document["state"] == "completed"
            if kind == "crashed" and (token, unit_id) not in self.taken:
                assert "SIGSEGV" in [entry["why"] for entry in document["history"]]
        self.open.clear()

    @rule()
    def beat(self):
        held = self.heartbeat.held()
        try:
            self.heartbeat._beat()
        except StoreUnavailable:
            return
        for child in self.children:
            self.ours.kill_revoked([child])
        self.ours.kill_revoked(self.children)
        lost = {(token, i) for token, some in held.items() for i in some} & self.taken
        for child in self.children:
            if child.killed:
                running = child.running
                assert running.key in self.taken, "an innocent was killed"
                self.end(child)
        for child in self.children:
            if child.running:
                assert child.running.key not in lost

    # What the store and others do

    @rule(away=AWAY)
    def go_away(self, away):
        self.jobs.away = away

    @rule(number=st.integers(0, UNITS - 1))
    def lose_the_lease(self, number):
        """The lease of a unit runs out, another worker reaps it, and it is queued again."""
        unit_id = self.ids[number]
        document = self.stored()[unit_id]
        if document["state"] != "running":
            return
        self.taken.add((document["claim"], unit_id))
        self.charged[unit_id] += document["started"]
        ago = {"$subtract": ["$$NOW", 1000]}
        self.claims._units.update({"_id": unit_id}, [{"$set": {"lease_until": ago}}])
        assert self.claims.reap() == 1

    @rule()
    def others_work(self):
        """Another worker scores what is queued."""
        lease = self.claims.claim("other", 2)
        ids = [job.id for job in lease.jobs]
        self.claims.start(lease.token, ids)
        self.claims.complete("other", lease.token, {i: good(-1.0) for i in ids})

    @rule()
    def nobody_wants_anything(self):
        for unit_id, document in self.stored().items():
            if document["state"] == "running":
                self.taken.add((document["claim"], unit_id))
        self.queue.cancel("s")
        self.queue.submit(self.units, "s", retry_failed=True)

    # What always holds

    @invariant()
    def each_unit_is_in_one_place(self):
        waiting = [one.key for one in self.ours.waiting]
        sent = [one.key for child in self.children for one in child.sent]
        assert sorted(waiting + sent) == sorted(self.ours.units)

    @invariant()
    def what_is_started_and_ours_is_renewed(self):
        held = {(token, i) for token, some in self.heartbeat.held().items() for i in some}
        for child in self.children:
            for one in child.sent:
                assert one.key in held | self.taken
        assert not held & {one.key for one in self.ours.waiting}
        if self.ours.empty():
            assert held <= {one.key for child in self.children for one in child.sent}

    @invariant()
    def nothing_was_handed_in_that_is_not_owed(self):
        for key, kinds in self.jobs.done.items():
            assert kinds == {self.owed[key]}

    @invariant()
    def no_innocent_unit_is_charged_and_what_is_completed_stays(self):
        for unit_id, document in self.stored().items():
            assert document["losses"] <= self.charged[unit_id]
            if document["state"] == "completed":
                score = document["result"]["test"]
                assert self.first.setdefault(unit_id, score) == score

    def teardown(self):
        self.jobs.away = None
        for child in self.children:
            self.end(child)
        self.give_back_what_waits()
        assert not self.ours.units
        self.flush()
        assert self.ours.empty()
        assert not self.heartbeat.held()
        kinds = list(self.owed.values())
        assert self.ours.crashed == kinds.count("crashed")
        assert self.ours.failed == kinds.count("failed")
        assert self.ours.scored == kinds.count("failed") + kinds.count("completed")
        assert len(self.told) == self.ours.scored
        for document in self.stored().values():
            # What a claim whose answer was lost holds is not known to anybody: its lease runs out.
            assert document["state"] != "running" or not document["started"]
        self.store.close()


def test_any_order_of_events(uri, monkeypatch):
    monkeypatch.setattr(module, "_MERCY", 0.0)

    class Here(Machine):
        pass

    Here.uri = uri
    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=30,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
