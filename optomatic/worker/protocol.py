"""The protocol of parent and child: a socket on which each line is one JSON value."""

from __future__ import annotations

import base64
import hashlib
import json
import mmap
import os
import secrets
import select
import socket
import stat
from collections import deque
from collections.abc import Callable, Mapping
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

from optomatic.records import Failure, Part, Result, Returned

# JSON keeps every float exactly (the shortest text that reads back as the same bits, NaN and
# infinities included) and, unlike pickle, runs nothing when it is read.  A line that was
# received in part is kept, so that an interrupt at any moment loses nothing.

#: More bytes than any line has.  What goes on for longer is not ours.
LARGEST = 1 << 28
_PIECE = 1 << 18


def readable(descriptor: int, seconds: float | None) -> bool:
    """Wait until there is something to read, or never will be; return False after `seconds`.

    Unlike select() it takes descriptors beyond 1023, which a process with many files has.
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
        """Return the descriptor to wait for."""
        return self._socket.fileno()

    def send(self, value: object) -> None:
        """Send `value`.  Blocks while the other end does not read and the socket is full."""
        text = json.dumps(value, separators=(",", ":"))
        self._socket.sendall(text.encode("ascii") + b"\n")

    def receive(self) -> list[Any]:
        """Return what is there now, without waiting.

        Raise EOFError if nothing more will ever come, ValueError if it is not JSON or has no end.
        """
        while not self._lines and self._read():
            pass
        values = [json.loads(line) for line in self._lines]
        self._lines.clear()
        return values

    def next(self, seconds: float | None) -> Any:
        """Wait for a value and return it, or None after `seconds` without one."""
        while not self._lines:
            if not readable(self._socket.fileno(), seconds):
                return None
            self._read()
        return json.loads(self._lines.popleft())

    def close(self) -> None:
        """Close this end."""
        self._socket.close()

    def _read(self) -> bool:
        """Take in what has arrived; return whether there was something."""
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


# The messages of parent and child on their channel:
#
# ===================  ==========================================================================
# parent to child      meaning
# ===================  ==========================================================================
# ``setup``            first message: ``path`` (``sys.path``), ``python_path`` (the environment's
#                      own PYTHONPATH or None), ``idle`` (seconds or None)
# ``score``            ``units``: [[id, split, params_text, number of the bundle]], ``bundles``:
#                      [{key, kind, spec, options}], ``parts``: {sha: [kind, path]}, ``folder``
#                      for large return values, ``warnings``: filters or None
# ``end``              finish, once what came before is scored
# ===================  ==========================================================================
#
# A child answers with one ``[done, begun]`` after another.  ``done`` is ``[id, result, seconds]``
# or null, ``begun`` the id of the unit that starts now or null; ``[null, null]``, once, says that
# the child is ready.  A unit that has limits begins twice: its clock starts anew once its data
# is loaded.  Units are scored in the order in which they came.  Where the result is null, the
# child has refused the unit, says why in place of the seconds, and ends.


#: Texts of a failure are cut here, in characters, the traceback in its middle.
_LONGEST_TEXT, _LONGEST_TRACEBACK = 8_000, 32_000


def result_to_wire(result: Result) -> list[Any]:
    """Return `result` as plain lists, numbers and texts; long texts are cut."""
    failures = [failure_to_wire(failure) for failure in result.failures]
    times = [result.fit_time, result.score_time]
    rest = [result.n_test, failures, result.extra, result.prefix_time_saved]
    return [result.test, result.train, *times, *rest]


def result_from_wire(wire: list[Any]) -> Result:
    """Return the result that :func:`result_to_wire` made `wire` of."""
    test, train, fit_time, score_time, n_test, failed, extra, saved = wire
    failures = tuple(Failure(*failure) for failure in failed)
    return Result(test, train, fit_time, score_time, n_test, failures, extra, saved)


def failure_to_wire(failure: Failure) -> list[str | None]:
    """Return `failure` as a list of texts; long ones are cut."""
    text = _cut(failure.text, _LONGEST_TEXT)
    traceback = _cut(failure.traceback, _LONGEST_TRACEBACK)
    return [failure.stage, failure.type, text, traceback, failure.metric]


class Refusal(NamedTuple):
    """Why a child did not score a unit.

    ``child`` is "fresh" if it had loaded nothing before, "behind" if files are newer than what
    it has imported of them, else "used"; ``failure`` is what loading raised, where all code that
    was compared is the same.
    """

    why: str
    child: str
    failure: Failure | None


def refusal_to_wire(refusal: Refusal) -> list[Any]:
    """Return `refusal` as a list; long texts are cut."""
    why, child, failure = refusal
    return [_cut(why, _LONGEST_TEXT), child, failure and failure_to_wire(failure)]


def refusal_from_wire(wire: list[Any]) -> Refusal:
    """Return the refusal that :func:`refusal_to_wire` made `wire` of."""
    why, child, failure = wire
    return Refusal(str(why), str(child), None if failure is None else Failure(*failure))


def _cut(text: str, length: int) -> str:
    """Shorten `text` in its middle: a traceback says most at its two ends."""
    if len(text) <= length:
        return text
    half = length // 2
    return f"{text[:half]}\n[... {len(text) - 2 * half} characters cut ...]\n{text[-half:]}"


# The return value of a call, on its way from the child to the store, as bytes.
#
# Small values go through the channel.  The child writes a large one into a new file in a folder
# that the parent named, and it becomes a part in the store.  The child runs user code, so the
# parent opens nothing but plain files in that folder.  Where there is no room for a file, all but
# the largest go through the channel, too.


#: Bytes that go through the channel, and into the record of the call, at most.
SMALL = 256_000
#: Bytes that go through the channel at most, where there is no room for a file.
_LARGEST = 100_000_000
_PREFIX = ".returned."


def returned_to_wire(data: bytes | None, failure: Failure | None, folder: Path) -> dict[str, Any]:
    """Return the message about a call; large `data` are left in `folder`."""
    left = None
    if data is not None and len(data) > SMALL:
        try:
            left = _leave(data, folder)
        except OSError:
            if len(data) > _LARGEST:
                raise
    text = base64.b64encode(data).decode("ascii") if data is not None and left is None else None
    return {"data": text, "left": left, "failure": failure and failure_to_wire(failure)}


def _leave(data: bytes, folder: Path) -> str:
    name = f"{_PREFIX}{secrets.token_hex(16)}"
    try:
        with open(folder / name, "xb") as file:
            file.write(data)
    except OSError:  # what is there of it would take what room is left
        (folder / name).unlink(missing_ok=True)
        raise
    return name


def returned_from_wire(wire: dict[str, Any], call_id: str, folder: Path) -> Returned:
    """Return the end of a call from the message of a child; raise ValueError if it is none."""
    failures = () if wire["failure"] is None else (Failure(*wire["failure"]),)
    if wire["left"] is not None:
        return Returned(part=_take(folder, wire["left"], call_id), failures=failures)
    data = None if wire["data"] is None else base64.b64decode(wire["data"])
    if data is not None and len(data) > SMALL:
        return Returned(part=_part(data, call_id), failures=failures)
    return Returned(data=data, failures=failures)


def _take(folder: Path, name: str, call_id: str) -> Part:
    """Return the file that a child left as a part; only this process can reach it afterwards."""
    if not name.startswith(_PREFIX) or not name[len(_PREFIX) :].isalnum():
        raise ValueError(f"{name!r} is not the name of a file that a child leaves")
    path = folder / name
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise ValueError(f"what a child says it left is not there: {error}") from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError(f"{name!r} is not a plain file")
        content = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
    finally:
        os.close(descriptor)
        path.unlink(missing_ok=True)
    return _part(content, call_id)


def _part(content: bytes | mmap.mmap, call_id: str) -> Part:
    # With the call in its kind it is nobody else's part, and may be removed with the call.
    kind = "returned." + hashlib.sha256(call_id.encode()).hexdigest()[:16]
    digest = hashlib.sha256(kind.encode("ascii") + b"\0")
    digest.update(content)
    return Part(digest.hexdigest(), kind, len(content), (memoryview(content),))


class Kind(NamedTuple):
    """How the parent treats the units of a kind.

    Attributes
    ----------
    awaited : bool
        A client waits for each of them, and may withdraw it at any moment: an outcome is handed in
        at once, beats are brisk, and a worker takes only what it can begin now.
    read : callable
        Message of a child, unit id, folder -> Result or Returned.
    failed : callable
        Failure -> Result or Returned of a unit that came to nothing.
    """

    awaited: bool
    read: Callable[[Any, str, Path], Result | Returned]
    failed: Callable[[Failure], Result | Returned]


_SCORED = Kind(
    awaited=False,
    read=lambda wire, *_: result_from_wire(wire),
    failed=lambda failure: Result(None, None, 0.0, 0.0, 0, (failure,)),
)
#: By the kind of a job.
KINDS: Mapping[str, Kind] = {
    "score": _SCORED,
    "function": _SCORED,
    "call": Kind(True, returned_from_wire, lambda failure: Returned(failures=(failure,))),
}
