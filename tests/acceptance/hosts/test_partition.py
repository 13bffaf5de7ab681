"""Hosts that are cut off in the middle of their work and come back: nothing lost, nothing twice."""

import pytest
from waiting import wait_for

from optomatic.store.workers import this_process

CANDIDATES = 10
UNITS = 2 * CANDIDATES


@pytest.fixture
def at_work(lab):
    """A fit with both workers in the middle of it; the fit's process."""
    fit = lab.fit(CANDIDATES, 0.6)
    workers = [lab.worker(lab.left), lab.worker(lab.right)]
    wait_for(lambda: lab.running_on(lab.left) and lab.running_on(lab.right), workers[0], 60)
    return fit


def test_hosts_are_strangers_to_each_other(lab):
    """Otherwise the tests below would show how one machine behaves."""
    say = (
        "from dataclasses import astuple; from optomatic.store.workers import this_process;"
        "print(*astuple(this_process()))"
    )
    hosts = (lab.left, lab.right, lab.client)
    said = [lab.start(host, "-c", say, stdout=-1).communicate()[0].split() for host in hosts]
    here = this_process()
    assert [host for host, *_ in said] == ["left", "right", "client"]
    for n in (1, 2):
        assert len({here.boot, here.namespace, *(one[n] for one in said)}) == 5


def test_a_host_comes_back_after_others_did_its_units(lab, at_work):
    """Its late results are turned away, and it goes on working."""
    lab.left.cut()
    wait_for(lambda: not lab.running_on(lab.left) and lab.count(losses=1))
    lost = {unit["_id"] for unit in lab.units.find({"losses": 1})}
    wait_for(lambda: lab.count(losses=1, state="completed") == len(lost))
    ends = lab.ends()
    lab.left.heal()
    log = lab.log_of(lab.left)
    handled = ("others were first", "taken away")
    wait_for(lambda: any(words in log.read_text() for words in handled))
    assert lab.scores(at_work) == list(range(CANDIDATES))
    assert_each_once(lab, ends)
    for unit in lab.units.find():
        assert unit["losses"] == (unit["_id"] in lost)
        assert unit["lost_on"] == ["left"] * unit["losses"]
        assert unit["runs"] == 1 + unit["losses"]
    assert 1 <= len(lost) <= 2  # what ran, and what was started ahead of it
    lab.right.close()
    assert lab.scores(lab.fit(1, 0.0)) == [0]


def test_a_late_result_is_taken_unless_another_was_recorded(lab):
    """Its lease is over and the unit is queued again, but its score is as good as any."""
    fit = lab.fit(1, 1.0)
    worker = lab.worker(lab.left)
    wait_for(lambda: lab.running_on(lab.left), worker, 60)
    lab.left.cut()
    wait_for(lambda: lab.count(losses=1, state="queued"))
    lab.left.heal()
    assert lab.scores(fit) == [0]
    assert lab.count(state="completed") == 2
    lost = list(lab.units.find({"losses": {"$gt": 0}}))
    assert lost
    for unit in lost:
        # Once, or twice where the beat told of the loss before the result was handed in.
        assert (unit["losses"], unit["completed_by"]) == (1, unit["history"][0]["worker"])
        assert unit["runs"] <= 2


def test_a_host_that_dies_loses_its_units_to_the_others(lab, at_work):
    lab.left.close()
    assert lab.scores(at_work) == list(range(CANDIDATES))
    assert_each_once(lab, {})
    lost = lab.count(losses=1, runs=2, lost_on="left")
    assert 1 <= lost <= 2
    assert lab.count(losses=0, runs=1) == UNITS - lost


def test_the_database_is_cut_off_from_everybody(lab):
    """When it is back every lease looks over; but the living beat before anyone reaps."""
    lab.lease = 9.0
    fit = lab.fit(1, 14.0)
    workers = [lab.worker(lab.left), lab.worker(lab.right)]
    wait_for(lambda: lab.running_on(lab.left) and lab.running_on(lab.right), workers[0], 60)
    lab.database.host.cut()
    try:
        over = {"$expr": {"$lt": ["$lease_until", "$$NOW"]}}
        wait_for(lambda: lab.count(state="running", started=True, **over) == 2)
    finally:
        lab.database.host.heal()
    assert lab.scores(fit) == [0]
    assert lab.count(state="completed", losses=0, runs=1) == 2


def assert_each_once(lab, ends):
    """Every unit is completed, and what was completed when `ends` was read is as it was."""
    assert lab.count(state="completed") == lab.count() == UNITS
    now = lab.ends()
    assert {unit_id: now[unit_id] for unit_id in ends} == ends
