"""Waiting for something to become true, with an end."""

import time

from optomatic.candidates.stopping import Stopping


def wait_for(condition, process=None, seconds=120.0):
    """Return once `condition()` is true; fail when `process` ends before, or after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if process is not None and process.poll() is not None:
            raise AssertionError(f"the process ended before: {process.communicate()}")
        if time.monotonic() > deadline:
            raise AssertionError(f"still not true after {seconds} s")
        time.sleep(0.02)


def begin_budgets_when(condition, monkeypatch):
    """Count time budgets from the moment at which `condition()` is true.

    The start of processes may take longer than a budget of seconds.
    """
    after, began = Stopping.after, []

    def after_the_gate(self, seconds):
        if not began and condition():
            began.append(seconds)
        if began:
            after(self, seconds - began[0])

    monkeypatch.setattr(Stopping, "after", after_the_gate)
