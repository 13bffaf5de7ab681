"""Limits: kill children whose unit runs for too long or takes too much memory.

A thread does, as the worker's loop may wait for a slow store meanwhile.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from optomatic.planning.constraints import limits_in, shown_size, too_large, too_long
from optomatic.records import Failure, Reservation
from optomatic.worker.pool import Child

log = logging.getLogger(__name__)


#: Seconds between two looks.
POLL = 0.05


def anonymous_memory(pid: int) -> int:
    """Return the bytes that a process and all that it started hold for themselves alone.

    Files that are mapped into memory are shared with others, and are not counted.
    """
    total = 0
    for one in _tree(pid):
        with suppress(psutil.Error):  # it is over
            memory: Any = psutil.Process(one).memory_info()
            total += int(memory.rss - getattr(memory, "shared", 0))
    return total


def _tree(pid: int) -> Iterator[int]:
    yield pid
    for child in _started_by(pid):
        yield from _tree(child)


def _started_by(pid: int) -> list[int]:
    """Return the children of a process.

    psutil reads all processes of the machine for that, 20 times what this takes.
    """
    tasks = Path(f"/proc/{pid}/task")
    found: list[int] = []
    try:
        for task in tasks.iterdir():
            found += map(int, (task / "children").read_text().split())
    except OSError:
        return [] if tasks.parent.is_dir() or tasks.parents[1].is_dir() else _by_psutil(pid)
    return found


def _by_psutil(pid: int) -> list[int]:
    try:
        return [child.pid for child in psutil.Process(pid).children()]
    except psutil.Error:
        return []


class Watch(NamedTuple):
    """The unit that a child runs, since when, and its limits."""

    child: Child
    unit: str
    began: float
    seconds: float | None
    size: int | None


class Limits:
    """Watch units that have limits."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watches: dict[int, Watch] = {}
        self._something = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def watch(self, child: Child, one: Reservation) -> None:
        """Watch `child` from now on: `one` begins, or its data have just been loaded."""
        limits = limits_in(one.job.options)
        if not limits:
            self.forget(child)
            return
        seconds, size = limits.get("seconds"), limits.get("bytes")
        with self._lock:
            self._watches[child.pid] = Watch(child, one.job.id, time.monotonic(), seconds, size)
        self._something.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="optomatic-limits", daemon=True)
            self._thread.start()

    def forget(self, child: Child) -> None:
        """Leave `child` alone; when this returns it will not be killed any more."""
        if self._watches:
            with self._lock:
                self._watches.pop(child.pid, None)

    def stop(self) -> None:
        """End the thread, if there is one."""
        self._stopping.set()
        self._something.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(POLL):
            if not self._watches:
                self._something.clear()
                if not self._watches:
                    self._something.wait()
            self.look()

    def look(self) -> None:
        """Kill the children whose unit has passed a limit."""
        with self._lock:
            for watch in list(self._watches.values()):
                failure = self._passed(watch)
                if failure is not None:
                    del self._watches[watch.child.pid]
                    watch.child.kill("its unit passed a limit", (watch.unit, failure))

    def _passed(self, watch: Watch) -> Failure | None:
        child, unit, began, seconds, limit = watch
        if seconds is not None and time.monotonic() - began > seconds:
            what, failure = f"is not done after fit_timeout={seconds:g} s", too_long(seconds)
        elif limit is not None and (size := anonymous_memory(child.pid)) > limit:
            what = f"has {shown_size(size)} of memory, its limit is {shown_size(limit)}"
            failure = too_large(limit)
        else:
            return None
        log.warning("child %d is ended: unit %s %s", child.pid, unit, what)
        return failure
