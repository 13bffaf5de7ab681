"""Waiting for standalone workers."""

from optomatic.driver.executors import Standalone


class Noting(Standalone):
    """Notes for how long it would wait."""

    def __init__(self):
        super().__init__()
        self.pauses = []

    def _wait(self, rung, seconds):
        self.pauses.append(seconds)
        super()._wait(rung, min(seconds, 0.2))


def test_it_looks_less_often_once_the_alarm_listens(queue):
    executor = Noting()
    executor.work(queue.store, "s", lambda: 2.0 in executor.pauses or len(executor.pauses) > 100)
    assert executor.pauses[-1] == 2.0
