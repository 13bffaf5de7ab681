"""How many units are claimed, started and left unread at once."""

import pytest

from optomatic.worker.batching import BATCH_UNITS, Pace


def measured(seconds):
    pace = Pace()
    pace.note("work", seconds)
    return pace


def test_nothing_measured_claims_what_can_begin_now():
    assert Pace().batch(children=8, hungry=3) == 3


@pytest.mark.parametrize(("seconds", "units"), [(0.001, BATCH_UNITS), (0.1, 20), (30.0, 2)])
def test_a_batch_is_a_second_of_work_of_all_children(seconds, units):
    assert measured(seconds).batch(children=2, hungry=2) == units


def test_it_follows_slow_units_at_once_and_fast_ones_slowly():
    pace = measured(0.001)
    pace.note("work", 1.0)
    assert pace.of("work") == 1.0
    pace.note("work", 0.001)
    assert 0.5 < pace.of("work") < 1.0


def test_other_work_is_not_measured_by_this_one():
    assert measured(0.001).of("other") is None


def test_a_second_chunk_only_for_short_units():
    assert measured(0.01).wants_more(queued=1)
    assert measured(0.01).wants_more(queued=5)
    assert not measured(0.01).wants_more(queued=6)
    assert not measured(0.2).wants_more(queued=1)
    assert not Pace().wants_more(queued=1)
    assert measured(100.0).wants_more(queued=0)


def test_a_slow_store_has_longer_units_started_ahead():
    pace = measured(0.2)
    for _ in range(30):
        pace.note_start(0.04)
    assert pace.wants_more(queued=1)
    assert not pace.wants_more(queued=2)


def test_nobody_listens_for_a_while_only_if_all_busy_children_have_more():
    pace = measured(0.001)
    assert pace.calm([100, 100]) == 0.01
    assert pace.calm([100, 11]) == 0.005
    assert pace.calm([100, 1]) == 0.0
    assert pace.calm([100, 0]) == 0.01
    assert pace.calm([0, 0]) == pace.calm([]) == Pace().calm([9]) == 0.0
    assert measured(10.0).calm([1]) == 0.0
