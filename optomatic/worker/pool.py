"""Waking a loop that waits, from other threads and from signal handlers."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future
from typing import Any

from optomatic.backoff import Backoff
from optomatic.records import Failure, Held
from optomatic.worker.forkserver import (
    Forked,
    Fresh,
    Setup,
    Starter,
    StartFailed,
    cannot_start,
    first_message,
    manner,
)
from optomatic.worker.protocol import Channel


class Wakeup:
    """Something to wait for, like a connection, that :meth:`wake` makes readable."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)

    def fileno(self) -> int:
        """Return the descriptor, for who waits."""
        return self._read

    def wake(self) -> None:
        """End the wait that is under way, or else the next one."""
        try:
            os.write(self._write, b"\0")
        except OSError:  # full: it wakes up anyway; -1: it is over
            return

    def drain(self) -> None:
        """Forget what it was woken by; called once it is readable."""
        os.read(self._read, 4096)

    def close(self) -> None:
        """Wake nobody any more."""
        # Whoever comes late must not write into what gets these numbers next.
        ends, self._write = (self._write, self._read), -1
        for end in ends:
            os.close(end)


# What children print: passed on to this process's stderr, within bounds.
#
# A unit that prints gigabytes must not fill the log of the machine, nor wait for a reader.


#: A child may print so many bytes at once, and so many a second on the average.
BURST, RATE = 32_000, 4_000
_PIECE = 1 << 16


@contextlib.contextmanager
def carry(captured: bool) -> Iterator[tuple[int | None, Callable[[int], None]]]:
    """Yield the descriptor that a child is to print to, and whom to tell the child's number.

    None leaves the child with the output of this process.
    """
    if not captured:
        yield None, lambda _: None
        return
    reads, writes = os.pipe()
    numbers: list[int] = []
    try:
        yield writes, numbers.append
    finally:
        os.close(writes)
        if not numbers:
            os.close(reads)
    name = f"optomatic-output-{numbers[0]}"
    threading.Thread(target=_pass_on, args=(reads, numbers[0]), name=name, daemon=True).start()


def _pass_on(reads: int, pid: int) -> None:
    """Write what comes out of `reads` to stderr until it is closed; leave out what is too much."""
    allowance = Allowance()
    with open(reads, "rb", buffering=0) as source:
        while piece := source.read(_PIECE):
            note = allowance.note(pid)
            kept = piece[: allowance.take(len(piece))]
            _say(note + kept if kept else b"")
        _say(allowance.note(pid, over=True))


def _say(text: bytes) -> None:
    """Print `text`.  Where nobody listens, children must not notice."""
    with contextlib.suppress(OSError):
        os.write(2, text)


class Allowance:
    """How much of a stream may pass: `BURST` bytes, refilled by `RATE` a second."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._left = float(BURST)
        self._at = clock()
        self._dropped = 0
        self._shut = False

    def _full(self) -> bool:
        return self._shut and self._left + RATE * (self._clock() - self._at) < RATE

    def take(self, size: int) -> int:
        """Return how many of `size` bytes may pass."""
        now = self._clock()
        self._left = min(BURST, self._left + RATE * (now - self._at))
        self._at = now
        self._shut = self._shut and self._left < RATE
        passed = 0 if self._shut else min(size, int(self._left))
        self._shut = self._shut or passed < size
        self._left -= passed
        self._dropped += size - passed
        return passed

    def note(self, pid: int, *, over: bool = False) -> bytes:
        """Return a line about what was left out, if something was and that is over now."""
        if not self._dropped or (self._full() and not over):
            return b""
        dropped, self._dropped = self._dropped, 0
        return f"\n[child {pid} printed too much: {dropped} bytes left out]\n".encode()


# Child processes: starting them, talking to them, ending them.
#
# :func:`start_child` is the only place where one comes into being, and
# :mod:`optomatic.worker.forkserver` says how.


log = logging.getLogger(__name__)


#: So many processes in a row that end before anything is scored are a fault of the machine.
_FALSE_STARTS = 5


def current_path() -> tuple[str, ...]:
    """Return ``sys.path`` with the current directory by its name."""
    return tuple(os.path.abspath(entry) for entry in sys.path)


def threads_each(children: int, cores: int) -> int | None:
    """Return how many threads each of `children` gets: together no more than `cores`."""
    return None if children <= 1 else max(1, cores // children)


class Child:
    """One child process, seen from its parent.  Nobody else writes its attributes.

    Attributes
    ----------
    pid : int
    ready : bool
        It has loaded what it needs and reads what it is sent at once.
    sent : deque of Held
        Started units that were sent and are not done, in the order in which they run.
    running : Held or None
        The first of them, once the child has said that it begins.
    stopped : str or None
        Why the parent killed it, if it did, or why it refused a unit and ended.
    refused, expected : bool
        It ended as it refused a unit; that was to be expected, so no log needs to say it.
    passed : (str, Failure) or None
        The unit for which it was killed as that passed a limit.
    death : int or None
        A descriptor that becomes readable when the child ends, where there is such a thing.
    """

    def __init__(self, process: Fresh | Forked, channel: Channel) -> None:
        self._process = process
        self.channel = channel
        self.pid = process.pid
        self.ready = False
        self.sent: deque[Held] = deque()
        self.running: Held | None = None
        self.stopped: str | None = None
        self.refused = self.expected = False
        self.passed: tuple[str, Failure] | None = None
        self._last: Held | None = None
        self.death = _open_pidfd(process.pid)

    def loaded(self) -> None:
        """Note that it is ready."""
        self.ready = True

    def assign(self, chunk: Collection[Held], message: object) -> None:
        """Send it started units."""
        self.sent.extend(chunk)
        self.send(message)

    def begin(self, unit_id: str) -> Held:
        """Note that it begins with a unit; raise ValueError if that is not its next one."""
        self.running = self.next(unit_id)
        return self.running

    def finish(self) -> Held:
        """Note that its first unit is over, and return it."""
        self.running = None
        return self.sent.popleft()

    def next(self, unit_id: str) -> Held:
        """Return the first unit that it was sent; raise ValueError if that is not `unit_id`."""
        held = self.sent[0]
        if held.job.id != unit_id:
            raise ValueError(f"it speaks of {unit_id!r}, but has {held.job.id!r}")
        return held

    def refuse(self, why: str, *, expected: bool) -> None:
        """Note that it refuses its first unit, and ends."""
        self.stopped, self.refused, self.expected, self.running = why, True, expected, None

    def give_up(self) -> tuple[Held | None, list[Held]]:
        """Take from a dead child the unit that ran, and those that it had not begun."""
        units = [held for held in self.sent if held is not self.running]
        ran, self.running = self.running, None
        self.sent.clear()
        return ran, units

    def runs_last(self) -> bool:
        """Return whether it still runs what it ran at the first call: nothing else may begin."""
        self._last = self._last or self.running
        return self.running is not None and self.running is self._last

    def waitables(self) -> list[Any]:
        """Return what becomes readable when the child says something, or dies."""
        return [self.channel] if self.death is None else [self.channel, self.death]

    def alive(self) -> bool:
        """Tell whether the process runs.  Looks without reaping it: see :meth:`kill`."""
        return self._process.state() == "runs"

    def send(self, message: object) -> None:
        """Send a message; a child that is gone is noticed elsewhere."""
        with contextlib.suppress(OSError):
            self.channel.send(message)

    def end(self) -> None:
        """Ask an idle child to finish in its own way."""
        self.send({"do": "end"})

    def kill(self, why: str, passed: tuple[str, Failure] | None = None) -> None:
        """Kill the child and all that it started.  One that is dead already was not stopped.

        `passed` is a unit, if the reason is that this passed a limit, and its failure.
        """
        self.passed = self.passed or passed
        if self.alive():
            self.stopped = self.stopped or why
        self._kill_group()

    def _kill_group(self) -> None:
        if self._process.state() == "gone":
            return
        # What it started may outlive it.  Its number is not given to another process or
        # group before it has been waited for.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def bury(self) -> str:
        """Make sure that the child is dead, free what it held, and say how it ended.

        One whose channel closed may be about to die by itself, so it gets a second.
        """
        if self.stopped is None:
            self.wait(1.0)
        self._kill_group()
        code = self._process.wait()
        self.close()
        if code is None:  # killed as its template was, which nobody is to be charged for
            self.stopped = self.stopped or "the process that it was forked from ended"
        return "its template's end" if code is None else manner(code)

    def wait(self, seconds: float) -> None:
        """Wait up to `seconds` for the child to end by itself."""
        deadline = time.monotonic() + seconds
        while self.alive() and time.monotonic() < deadline:
            time.sleep(0.005)

    def close(self) -> None:
        """Close this process's ends of what connects it with the child."""
        self.channel.close()
        self._process.close()
        if self.death is not None:
            os.close(self.death)
            self.death = None


def _open_pidfd(pid: int) -> int | None:
    """Return a descriptor that becomes readable when `pid` ends, where there is such a thing."""
    if not hasattr(os, "pidfd_open"):
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


def start_child(setup: Setup) -> Child:
    """Start a child, from the thread that starts them all.

    Raises
    ------
    StartFailed
    """
    return _spawner().start(setup)


class Spawner:
    """A thread that starts children and lives as long as its process.

    Linux kills children when the *thread* that started them ends, which must not happen
    when a fit in a passing thread is over.
    """

    def __init__(self) -> None:
        self._orders: queue.SimpleQueue[tuple[Setup, Future[Child]]] = queue.SimpleQueue()
        threading.Thread(target=self._serve, name="optomatic-spawner", daemon=True).start()

    def start(self, setup: Setup) -> Child:
        """Start a child and return it."""
        answer: Future[Child] = Future()
        self._orders.put((setup, answer))
        try:
            return answer.result()
        except KeyboardInterrupt:
            answer.add_done_callback(lambda late: late.exception() or late.result().bury())
            raise

    def _serve(self) -> None:
        starter = Starter()
        while True:
            setup, answer = self._orders.get()
            try:
                answer.set_result(_start(starter, setup))
            except Exception as error:
                answer.set_exception(error)


_lock = threading.Lock()
_only: Spawner | None = None


def _spawner() -> Spawner:
    """Return the spawner of this process."""
    global _only
    with _lock:
        _only = _only or Spawner()
        return _only


def _forget_in_fork() -> None:
    """A fork has none of its parent's threads, and maybe a lock that nobody will open."""
    global _lock, _only
    _lock, _only = threading.Lock(), None


os.register_at_fork(after_in_child=_forget_in_fork)


def _start(starter: Starter, setup: Setup) -> Child:
    ours, theirs = socket.socketpair()
    with theirs, carry(setup.captured) as (output, whose):
        process = starter.start(setup, theirs.fileno(), output)
        whose(process.pid)
    child = Child(process, Channel(ours))
    if setup.fresh:
        child.send(first_message(setup))
    return child


class Pool:
    """A number of children that is kept up."""

    def __init__(
        self, size: int, setup: Setup, *, start: Callable[[Setup], Child] = start_child
    ) -> None:
        self.size = size
        self.setup = setup
        self._start = start
        self._backoff = Backoff()
        self.children: list[Child] = []

    def fill(self) -> None:
        """Start the children that are missing, unless that has failed a moment ago.

        Raises
        ------
        OptomaticError
            As :meth:`false_start`.
        """
        while self.time_left() == 0.0:
            try:
                self.children.append(self._start(self.setup))
            except StartFailed as error:
                self.false_start(str(error))

    def time_left(self) -> float | None:
        """Return the seconds until children are to be started, None if none is missing."""
        return self._backoff.time_left() if len(self.children) < self.size else None

    def false_start(self, how: str) -> None:
        """Take note that a process ended before it was of use, a child or what it is forked from.

        Raises
        ------
        OptomaticError
            After so many in a row, if no child is left that can score.
        """
        self._backoff.failed()
        times = self._backoff.failures
        living = any(child.ready and child.alive() for child in self.children)
        if times < _FALSE_STARTS or living:
            log.warning("processes that score ended by %s, and are started again", how)
            return
        self._backoff.succeeded()
        raise cannot_start(how, times)

    def scored(self) -> None:
        """Take note that a child has scored something."""
        if len(self.children) == self.size:
            self._backoff.succeeded()

    def busy(self) -> bool:
        """Tell whether a child has something to do."""
        return any(child.sent for child in self.children)

    def resize(self, size: int) -> None:
        """Keep `size` children from now on: bury those that ended by themselves, end some more."""
        for child in [child for child in self.children if not child.alive()]:
            self.remove(child)
        end_children(self.children[size:], seconds=0.0)
        self.children = self.children[:size]
        self.size = size

    def remove(self, child: Child) -> str:
        """Bury `child`, which is dead or dying; return how it ended."""
        self.children.remove(child)
        return child.bury()

    def close(self, seconds: float = 1.0) -> None:
        """End all children: the idle ones get up to `seconds` to finish in their own way."""
        end_children(self.children, seconds)
        self.children = []

    def forget(self) -> None:
        """Drop the children without touching them: they are those of another process."""
        for child in self.children:
            child.close()
        self.children = []


def end_children(children: Iterable[Child], seconds: float) -> None:
    """End `children`, all at the same time."""
    children = list(children)
    for child in children:
        if child.sent:
            child.kill("its parent ends")
        else:
            child.end()
    deadline = time.monotonic() + seconds
    for child in children:
        child.wait(max(0.0, deadline - time.monotonic()))
        child.kill("its parent ends")
        child.bury()
