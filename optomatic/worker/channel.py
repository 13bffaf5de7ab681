"""A socket between parent and child on which each line is one JSON value.

JSON keeps every float exactly (the shortest text that reads back as the same bits, NaN and
infinities included) and, unlike pickle, runs nothing when it is read.  A line that was
received in part is kept, so that an interrupt at any moment loses nothing.
"""

from __future__ import annotations

import json
import select
import socket
from collections import deque
from math import ceil
from typing import Any

#: More bytes than any line has.  What goes on for longer is not ours.
LARGEST = 1 << 28
_PIECE = 1 << 18


def readable(descriptor: int, seconds: float | None) -> bool:
    """Wait until there is something to read, or never will be; False after `seconds`.

    Unlike select() it takes any number, and those of a process with many open files are
    beyond 1023.
    """
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(None if seconds is None else ceil(1000 * seconds)))


class Channel:
    """One end of the line."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._partial = bytearray()
        self._lines: deque[bytes] = deque()

    def fileno(self) -> int:
        """Return the descriptor, for those who wait."""
        return self._socket.fileno()

    def send(self, value: object) -> None:
        """Send `value`.  Blocks while the other end does not read and the socket is full."""
        text = json.dumps(value, separators=(",", ":"))
        self._socket.sendall(text.encode("ascii") + b"\n")

    def receive(self) -> list[Any]:
        """Return what is there now, without waiting.

        Raises
        ------
        EOFError
            Nothing more will ever come.
        ValueError
            What came is not JSON, or has no end.
        """
        while not self._lines and self._read():
            pass
        values = [json.loads(line) for line in self._lines]
        self._lines.clear()
        return values

    def next(self, seconds: float | None) -> Any:
        """Wait for a value and return it, or None after `seconds` without one.

        Raises
        ------
        EOFError, ValueError
            As :meth:`receive`.
        """
        while not self._lines:
            if not readable(self._socket.fileno(), seconds):
                return None
            self._read()
        return json.loads(self._lines.popleft())

    def close(self) -> None:
        """Close this end."""
        self._socket.close()

    def _read(self) -> bool:
        """Take in what has arrived; tell whether there was something."""
        try:
            piece = self._socket.recv(_PIECE, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError as error:
            raise EOFError(str(error)) from error
        if not piece:
            raise EOFError("the other end is closed")
        self._partial += piece
        if b"\n" in piece:
            *lines, rest = self._partial.split(b"\n")
            self._lines.extend(bytes(line) for line in lines)
            self._partial = rest
        elif len(self._partial) > LARGEST:
            raise ValueError("a line without end")
        return True
