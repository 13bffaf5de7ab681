"""Child processes: start them, talk with them, end them; and pools of them, warm between fits.

A child takes about a second to start, most of it the import of scikit-learn, so those of one
fit are kept for the next: for 300 s without work, and not longer than their process.  A fit
has its pool to itself while it lasts; two fits in two threads have two pools.
"""

from __future__ import annotations

import atexit
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

import joblib

from optomatic.backoff import Backoff
from optomatic.records import Failure, Reservation
from optomatic.worker.forkserver import (
    Forked,
    ForkServers,
    Fresh,
    Setup,
    StartFailed,
    cannot_start,
    first_message,
    manner,
)
from optomatic.worker.protocol import Channel

log = logging.getLogger(__name__)

#: So many processes in a row that end before anything is scored are a fault of the machine.
_FALSE_STARTS = 5
#: Seconds after which an idle child of a warm pool ends by itself.
IDLE_SECONDS = 300.0
#: A child may print so many bytes at once, and so many a second on the average.
BURST, RATE = 32_000, 4_000
_PIECE = 1 << 16


class Wakeup:
    """Something to wait for, like a connection, that :meth:`wake` makes readable.

    It may be woken from other threads and from signal handlers.
    """

    def __init__(self) -> None:
        self.reads, self._write = os.pipe()
        os.set_blocking(self._write, False)
        # A late wake() must not write into a file that gets the same number next.
        self._lock = threading.RLock()

    def wake(self) -> None:
        """End the wait that is under way, or else the next one."""
        with self._lock, contextlib.suppress(OSError):  # full: it wakes up anyway; -1: it is closed
            os.write(self._write, b"\0")

    def close(self) -> None:
        """Wake nobody any more."""
        with self._lock:
            ends, self._write = (self._write, self.reads), -1
            for end in ends:
                os.close(end)


# The output of children is passed on to this process's stderr, within bounds: a unit that prints
# gigabytes must not fill the log of the machine, nor wait for a reader.


@contextlib.contextmanager
def carry(captured: bool) -> Iterator[tuple[int | None, Callable[[int], None]]]:
    """Yield the descriptor to which a child prints, and a function that takes the child's number.

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
    """Copy `reads` to stderr until it is closed, as far as the allowance goes."""
    allowance = Allowance()
    with open(reads, "rb", buffering=0) as source:
        while piece := source.read(_PIECE):
            note = allowance.note(pid)
            kept = piece[: allowance.take(len(piece))]
            with contextlib.suppress(OSError):  # children must not notice that stderr is closed
                os.write(2, note + kept)
        with contextlib.suppress(OSError):
            os.write(2, allowance.note(pid, over=True))


class Allowance:
    """The bytes of a stream that may pass: `BURST`, refilled by `RATE` a second."""

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
        """Return a line that counts the bytes left out, once bytes pass again or at the end."""
        if not self._dropped or (self._full() and not over):
            return b""
        dropped, self._dropped = self._dropped, 0
        return f"\n[child {pid} printed too much: {dropped} bytes left out]\n".encode()


def current_path() -> tuple[str, ...]:
    """Return ``sys.path`` with the current directory by its name."""
    return tuple(os.path.abspath(entry) for entry in sys.path)


def cores() -> int:
    """Return how many cores this process may use: affinity and container limits count."""
    return int(joblib.cpu_count())


def threads_each(children: int, cores: int) -> int | None:
    """Return how many threads each of `children` gets: together no more than `cores`."""
    return None if children <= 1 else max(1, cores // children)


class Child:
    """One child process, seen from its parent.  Nobody else writes its attributes.

    Attributes
    ----------
    ready : bool
        It has loaded its modules, and reads at once.
    sent : deque of Reservation
        Started units that were sent and are not done, in the order in which they run.
    running : Reservation or None
        The first of them, once the child has said that it begins.
    stopped : str or None
        Why the parent killed it, if it did, or why it refused a unit and ended.
    refused : bool
        It ended as it refused a unit.
    passed : (str, Failure) or None
        The unit for which it was killed as that passed a limit.
    """

    def __init__(self, process: Fresh | Forked, channel: Channel) -> None:
        self._process, self.channel, self.pid = process, channel, process.pid
        self.ready = self.refused = False
        self.sent: deque[Reservation] = deque()
        self.running: Reservation | None = None
        self.stopped: str | None = None
        self.passed: tuple[str, Failure] | None = None
        self._last: Reservation | None = None

    def loaded(self) -> None:
        """Note that it is ready."""
        self.ready = True

    def assign(self, chunk: Collection[Reservation], message: object) -> None:
        """Send it started units."""
        self.sent.extend(chunk)
        self.send(message)

    def begin(self, unit_id: str) -> Reservation:
        """Note that it begins with a unit; raise ValueError if that is not its next one."""
        self.running = self.next(unit_id)
        return self.running

    def next(self, unit_id: str) -> Reservation:
        """Return the first unit that it was sent; raise ValueError if that is not `unit_id`."""
        one = self.sent[0]
        if one.job.id != unit_id:
            raise ValueError(f"it speaks of {unit_id!r}, but has {one.job.id!r}")
        return one

    def finish(self) -> Reservation:
        """Note that its first unit is over, and return it."""
        self.running = None
        return self.sent.popleft()

    def refuse(self, why: str) -> None:
        """Note that it refuses its first unit, and ends."""
        self.stopped, self.refused, self.running = why, True, None

    def give_up(self) -> tuple[Reservation | None, list[Reservation]]:
        """Take from a dead child the unit that ran, and those that it had not begun."""
        units = [one for one in self.sent if one is not self.running]
        ran, self.running = self.running, None
        self.sent.clear()
        return ran, units

    def runs_last(self) -> bool:
        """Return whether it still runs what it ran at the first call: nothing else may begin."""
        self._last = self._last or self.running
        return self.running is not None and self.running is self._last

    def descriptors(self) -> list[int]:
        """Return those that become readable when it exits, where there is one, or says more."""
        death = self._process.death
        return [self.channel.fileno()] if death is None else [death, self.channel.fileno()]

    def alive(self) -> bool:
        """Return whether the process runs, without reaping it: see :meth:`kill`."""
        return self._process.state() == "runs"

    def send(self, message: object) -> None:
        """Send a message; the exit of a child is noticed elsewhere."""
        with contextlib.suppress(OSError):
            self.channel.send(message)

    def kill(self, why: str, passed: tuple[str, Failure] | None = None) -> None:
        """Kill the child and all that it started.  One that is dead already was not stopped.

        `passed` is a unit, if the reason is that this passed a limit, and its failure.
        """
        self.passed = self.passed or passed
        if self.alive():
            self.stopped = self.stopped or why
        self._kill_group()

    def _kill_group(self) -> None:
        # Its own children may outlive it.  The kernel gives its number to no other process or
        # group before it has been waited for.
        if self._process.state() != "gone":
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def reap(self) -> str:
        """Make sure that the child is dead, free its descriptors, and return how it ended.

        A child whose channel closed may be about to exit by itself, so it gets a second.
        """
        if self.stopped is None:
            self.wait(1.0)
        self._kill_group()
        code = self._process.wait()
        self.close()
        if code is None:  # it died with its fork server, so no unit is charged
            self.stopped = self.stopped or "the process that it was forked from ended"
        return "the end of its fork server" if code is None else manner(code)

    def wait(self, seconds: float) -> None:
        """Wait up to `seconds` for the child to end by itself."""
        deadline = time.monotonic() + seconds
        while self.alive() and time.monotonic() < deadline:
            time.sleep(0.005)

    def close(self) -> None:
        """Close this process's ends of what connects it with the child."""
        self.channel.close()
        self._process.close()


_lock = threading.Lock()
#: Orders for the one thread that starts all children.  Linux kills children when the *thread* that
#: started them ends, which must not happen when a fit in a passing thread is over.
_orders: queue.SimpleQueue[tuple[Setup, Future[Child]]] | None = None
#: Pools that no fit uses now.
_warm: list[Pool] = []


def start_child(setup: Setup) -> Child:
    """Start a child; raise StartFailed if it cannot be started now."""
    global _orders
    with _lock:
        if _orders is None:
            _orders = queue.SimpleQueue()
            name = "optomatic-starter"
            threading.Thread(target=_serve, args=(_orders,), name=name, daemon=True).start()
        orders = _orders
    answer: Future[Child] = Future()
    orders.put((setup, answer))
    try:
        return answer.result()
    except KeyboardInterrupt:
        answer.add_done_callback(lambda late: late.exception() or late.result().reap())
        raise


def _serve(orders: queue.SimpleQueue[tuple[Setup, Future[Child]]]) -> None:
    servers = ForkServers()
    while True:
        setup, answer = orders.get()
        try:
            answer.set_result(_start(servers, setup))
        except Exception as error:
            answer.set_exception(error)


def _start(servers: ForkServers, setup: Setup) -> Child:
    ours, theirs = socket.socketpair()
    with theirs, carry(setup.captured) as (output, note_number):
        process = servers.start(setup, theirs.fileno(), output)
        note_number(process.pid)
    child = Child(process, Channel(ours))
    if setup.fresh:
        child.send(first_message(setup))
    return child


def _forget_in_fork() -> None:
    """Leave threads and children to the parent; the lock may be held by one of its threads."""
    global _lock, _orders
    _lock, _orders = threading.Lock(), None
    for pool in _warm:
        for child in pool.children:
            child.close()
    _warm.clear()


os.register_at_fork(after_in_child=_forget_in_fork)


class Pool:
    """A number of children that is kept up; missing ones are started again."""

    def __init__(
        self, size: int, setup: Setup, *, start: Callable[[Setup], Child] = start_child
    ) -> None:
        self.size, self.setup, self._start = size, setup, start
        self._backoff = Backoff()
        self.children: list[Child] = []

    def fill(self) -> None:
        """Start the children that are missing, unless that has failed a moment ago."""
        while self.time_left() == 0.0:
            try:
                self.children.append(self._start(self.setup))
            except StartFailed as error:
                self.false_start(str(error))

    def time_left(self) -> float | None:
        """Return the seconds until children are to be started, None if none is missing."""
        return self._backoff.time_left() if len(self.children) < self.size else None

    def false_start(self, how: str) -> None:
        """Note that a child, or the fork server of one, ended before it was of use.

        After so many in a row raise an OptomaticError, if no child is left that can score.
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
        """Note that a child has scored something."""
        if len(self.children) == self.size:
            self._backoff.succeeded()

    def busy(self) -> bool:
        """Return whether a child has something to do."""
        return any(child.sent for child in self.children)

    def resize(self, size: int) -> None:
        """Keep `size` children from now on: remove those that exited, end surplus ones."""
        for child in [child for child in self.children if not child.alive()]:
            self.remove(child)
        end_children(self.children[size:], seconds=0.0)
        self.children = self.children[:size]
        self.size = size

    def remove(self, child: Child) -> str:
        """Remove `child`, which is dead or dying; return how it ended."""
        self.children.remove(child)
        return child.reap()

    def close(self, seconds: float = 1.0) -> None:
        """End all children: idle ones get up to `seconds` to exit by themselves."""
        end_children(self.children, seconds)
        self.children = []


def end_children(children: Iterable[Child], seconds: float) -> None:
    """End `children`, all at the same time."""
    children = list(children)
    for child in children:
        if child.sent:
            child.kill("its parent ends")
        else:
            child.send({"do": "end"})
    deadline = time.monotonic() + seconds
    for child in children:
        child.wait(max(0.0, deadline - time.monotonic()))
        child.kill("its parent ends")
        child.reap()


@contextlib.contextmanager
def warm_pool(size: int) -> Iterator[Pool]:
    """Yield a pool that nobody else uses, of warm children and new ones; keep it for the next.

    Missing children are started without waiting for them, so that they load while the caller
    does something else.
    """
    if size < 1:
        raise ValueError(f"a pool has at least one worker, not {size}")
    setup = Setup(current_path(), threads_each(size, cores()), IDLE_SECONDS)
    with _lock:
        pool = _warm.pop() if _warm else Pool(size, setup)
    try:
        if pool.setup != setup:
            pool.close()  # its children find other modules
            pool.setup = setup
        pool.resize(size)
        pool.fill()
        yield pool
    finally:
        with _lock:
            _warm.append(pool)


@atexit.register
def close_all() -> None:
    """End all warm children."""
    with _lock:
        pools = _warm.copy()
        _warm.clear()
    for pool in pools:
        pool.close()
