"""What children print: passed on to this process's stderr, within bounds.

A unit that prints gigabytes must not fill the log of the machine, nor wait for a reader.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator

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
