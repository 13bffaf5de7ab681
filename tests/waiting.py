"""Waiting for something to become true, with an end."""

import time


def wait_for(condition, process=None, seconds=120.0):
    """Return once `condition()` is true; fail when `process` ends before, or after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if process is not None and process.poll() is not None:
            raise AssertionError(f"the process ended before: {process.communicate()}")
        if time.monotonic() > deadline:
            raise AssertionError(f"still not true after {seconds} s")
        time.sleep(0.02)
