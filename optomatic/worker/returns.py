"""What a call returned, on its way from the child to the store: bytes that nobody reads here.

Small values go through the channel.  A large one is left by the child in a file, under a name
of its own in a folder that the parent named, and becomes a part in the store.  The child runs
user code, so the parent opens nothing but plain files in that folder.  Where there is no room for
a file, all but the largest go through the channel, too.
"""

from __future__ import annotations

import base64
import hashlib
import mmap
import os
import secrets
import stat
from pathlib import Path
from typing import Any

from optomatic.records import Failure, Part, Returned
from optomatic.worker.messages import failure_to_wire

#: Bytes that go through the channel, and into the record of the call, at most.
SMALL = 256_000
#: Bytes that go through the channel at most, where there is no room for a file.
_LARGEST = 100_000_000
_PREFIX = ".returned."


def returned_to_wire(data: bytes | None, failure: Failure | None, folder: Path) -> dict[str, Any]:
    """Return what a child says of a call; large `data` are left in `folder`."""
    wire: dict[str, Any] = {"data": None, "left": None, "failure": None}
    if failure is not None:
        wire["failure"] = failure_to_wire(failure)
    if data is not None and len(data) <= SMALL:
        wire["data"] = base64.b64encode(data).decode("ascii")
    elif data is not None:
        try:
            wire["left"] = _leave(data, folder)
        except OSError:
            if len(data) > _LARGEST:
                raise
            wire["data"] = base64.b64encode(data).decode("ascii")
    return wire


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
    """Return what a child said of a call, in the parent.

    Raises
    ------
    ValueError
        If it is not what a child says, or the file that it names is not there.
    """
    failure = wire["failure"]
    data = None if wire["data"] is None else base64.b64decode(wire["data"])
    part = None if wire["left"] is None else _take(folder, wire["left"], call_id)
    if data is not None and len(data) > SMALL:
        part = _part(data, call_id)
        data = None
    return Returned(
        data=data,
        part=part,
        failures=() if failure is None else (Failure(*failure),),
    )


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
