"""Who may reap, and when."""

from datetime import UTC, datetime, timedelta

import pytest

from optomatic.worker.heartbeat import ReapGuard

BEAT = 10.0
START = datetime(2026, 1, 1, tzinfo=UTC)


class Clocks:
    """The server's clock and ours, moved by hand."""

    def __init__(self):
        self.guard = ReapGuard(BEAT)
        self.server = START
        self.now = 1000.0

    def after(self, seconds, server=None):
        """Let `seconds` pass here and `server` seconds there; tell whether reaping is allowed."""
        self.now += seconds
        self.server += timedelta(seconds=seconds if server is None else server)
        return self.guard.allows(self.server, self.now)


@pytest.fixture
def clocks():
    """A process in good standing."""
    clocks = Clocks()
    assert [clocks.after(s) for s in (0, 5, 5, 5)] == [False, False, False, True]
    return clocks


def test_a_new_process_waits_one_and_a_half_beats(clocks):
    assert clocks.after(5)


def test_the_server_moving_by_one_beat_is_good_and_by_more_is_not(clocks):
    assert clocks.after(5, server=BEAT)
    assert not clocks.after(5, server=BEAT + 0.01)


def test_after_a_suspend_the_living_get_time_to_beat(clocks):
    # Our monotonic clock stands still while the machine sleeps, the server's does not.
    assert not clocks.after(1, server=3600)
    assert [clocks.after(5), clocks.after(5), clocks.after(5)] == [False, False, True]


def test_a_failed_call_takes_good_standing_away(clocks):
    clocks.guard.failed()
    assert [clocks.after(s) for s in (1, 7, 7, 1)] == [False, False, False, True]


def test_another_fault_while_waiting_starts_the_wait_anew(clocks):
    clocks.guard.failed()
    assert not clocks.after(5)
    assert not clocks.after(9)
    clocks.guard.failed()
    assert [clocks.after(5), clocks.after(9), clocks.after(7)] == [False, False, True]


def test_a_server_whose_clock_went_back_is_not_trusted(clocks):
    assert not clocks.after(5, server=-1)
