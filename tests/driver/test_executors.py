"""Waiting for standalone workers."""

from optomatic.driver.executors import Standalone
from optomatic.store.connection import open_store


class Noting(Standalone):
    """Notes for how long it would wait."""

    def __init__(self):
        super().__init__()
        self.pauses = []

    def _wait(self, woken, seconds):
        self.pauses.append(seconds)
        super()._wait(woken, min(seconds, 0.2))


def test_it_looks_less_often_once_it_is_notified(uri):
    executor = Noting()
    with open_store(uri) as store:
        executor.work(store, "s", lambda: 2.0 in executor.pauses or len(executor.pauses) > 100)
    assert executor.pauses[-1] == 2.0
