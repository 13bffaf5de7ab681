"""Waking a loop that waits, from other threads and from signal handlers."""

from __future__ import annotations

import os


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
