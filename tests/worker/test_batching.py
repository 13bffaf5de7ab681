"""How many units are claimed, started and left unread at once."""

import pytest

from optomatic.worker.batching import BATCH_UNITS, BatchSizing


def measured(seconds):
    sizing = BatchSizing()
    sizing.measured(seconds, "work")
    return sizing


def test_nothing_measured_claims_what_can_begin_now():
    assert BatchSizing().batch(children=8, idle=3) == 3


@pytest.mark.parametrize(("seconds", "units"), [(0.001, BATCH_UNITS), (0.1, 20), (30.0, 2)])
def test_a_batch_is_a_second_of_work_of_all_children(seconds, units):
    assert measured(seconds).batch(children=2, idle=2) == units


def test_it_is_the_mean_at_first():
    sizing = measured(0.001)
    sizing.measured(0.003, "work")
    assert sizing.seconds_of("work") == pytest.approx(0.002)


def test_one_unit_that_had_to_wait_does_not_make_chunks_of_one():
    sizing = measured(0.01)
    for _ in range(10):
        sizing.measured(0.01, "work")
    sizing.measured(0.06, "work")
    assert sizing.chunk() == 8


@pytest.mark.parametrize(("before", "after"), [(0.001, 1.0), (1.0, 0.001)])
def test_it_follows_units_that_take_another_time_within_a_few(before, after):
    sizing = measured(before)
    for _ in range(15):
        sizing.measured(after, "work")
    assert sizing.seconds_of("work") == pytest.approx(after, rel=0.1, abs=0.05)


def test_other_work_is_not_measured_by_this_one():
    assert measured(0.001).seconds_of("other") is None


@pytest.mark.parametrize(
    ("seconds", "units"), [(0.001, 50), (0.005, 10), (0.01, 8), (0.03, 8), (0.1, 2), (0.3, 1)]
)
def test_a_chunk_is_short_or_has_few_units(seconds, units):
    sizing = measured(seconds)
    assert sizing.chunk() == units
    assert units == 1 or sizing.fits(units, units * seconds)
    assert not sizing.fits(units + 1, (units + 1) * seconds)


def test_a_second_chunk_only_for_short_units():
    assert measured(0.01).wants_more(sent=1)
    assert measured(0.01).wants_more(sent=5)
    assert not measured(0.01).wants_more(sent=6)
    assert not measured(0.2).wants_more(sent=1)
    assert not BatchSizing().wants_more(sent=1)
    assert measured(100.0).wants_more(sent=0)


def test_a_chunk_that_is_started_anyway_goes_to_children_with_a_little_more():
    assert measured(0.001).takes(sent=75)
    assert not measured(0.001).takes(sent=76)
    assert measured(0.03).takes(sent=4)
    assert not measured(0.03).takes(sent=5)
    assert not measured(0.2).takes(sent=1)
    assert not BatchSizing().takes(sent=1)


def test_a_slow_store_has_longer_units_started_ahead():
    sizing = measured(0.2)
    for _ in range(30):
        sizing.started(0.04)
    assert sizing.wants_more(sent=1)
    assert not sizing.wants_more(sent=2)


def test_reading_is_postponed_only_if_all_busy_children_have_more():
    sizing = measured(0.001)
    assert sizing.unread([100, 100]) == 0.01
    assert sizing.unread([100, 11]) == 0.005
    assert sizing.unread([100, 1]) == 0.0
    assert sizing.unread([100, 0]) == 0.01
    assert sizing.unread([0, 0]) == sizing.unread([]) == BatchSizing().unread([9]) == 0.0
    assert measured(10.0).unread([1]) == 0.0
