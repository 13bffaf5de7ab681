"""Fitted first steps of pipelines on local disk, in the folder of the cache, for all processes.

::

    <key>.prefix    MAGIC, SHA-256 of the rest, its size; lengths; pickle; arrays

The arrays of what is kept stand behind the pickle, each on a boundary of 64 bytes.  A process that
reads them maps the file privately: pages are shared with others as long as nobody writes, and what
is written stays in this process.

A file appears whole, by a rename.  What is not whole, or was changed, or cannot be read is no
result: marker, size and digest are checked at the first look of each process.  The cache's own cap
counts these files, too, and the least recently used ones go first.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import mmap
import os
import pickle
import secrets
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from optomatic.errors import OptomaticError
from optomatic.worker.disk_cache import Cache

#: The schema number stands in it.
_MAGIC = b"optomatic prefix 1\n"
_HEAD = struct.Struct("<32sQ")
_COUNT = struct.Struct("<Q")
_BOUNDARY = 64
#: A file may take this part of the cache.
_LARGEST_PART = 4
#: Seconds for which a process waits for another one that writes; that may be frozen.
_PATIENCE = 0.5


class PrefixFiles:
    """Keeps objects by key in the folder of `cache`.

    Every call may be made by many processes at the same time.  Nothing is kept any more once the
    folder has refused a file.
    """

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._verified: dict[Path, tuple[int, int]] = {}
        self._takes_more = True

    def load(self, key: str, named: Mapping[str, object]) -> Any:
        """Return what was kept under `key`, None if there is nothing, or nothing that is whole.

        Each call returns new objects, which their owner may change, but for those that are `named`:
        they are those of the caller.
        """
        path = self._path(key)
        try:
            with open(path, "rb") as file:
                status = os.fstat(file.fileno())
                content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        except (OSError, ValueError):  # none, or an empty one
            return None
        try:
            known = (status.st_ino, status.st_size)
            if self._verified.get(path) != known and not _is_whole(content):
                path.unlink(missing_ok=True)
                return None
            self._verified[path] = known
            os.utime(path)
            return _read(content, named)
        except Exception:  # it was removed just now; or whatever a class raises that is read
            return None

    def keep(self, key: str, kept: object, named: Mapping[str, object]) -> int:
        """Keep an object; return its bytes, 0 if it was not kept, as what has no pickle.

        Objects that are `named` are kept by their name.
        """
        if not self._takes_more:
            return 0
        arrays: list[memoryview] = []
        written = io.BytesIO()
        try:
            _Pickler(written, arrays, named).dump(kept)
        except Exception:  # of objects of the user's
            return 0
        text = written.getvalue()
        size = len(text) + sum(array.nbytes for array in arrays)
        if size > self._cache.largest // _LARGEST_PART:
            return 0
        temporary = self._cache.root / f".{key}.{secrets.token_hex(8)}"
        try:
            with self._alone() as alone:
                if not alone:
                    return 0
                self._cache.trim(self._cache.largest - size)
                _write(temporary, text, arrays)
                temporary.rename(self._path(key))
        except OSError:
            self._takes_more = False
            return 0
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        return size

    @contextmanager
    def _alone(self) -> Iterator[bool]:
        """Be the only process that makes room and writes; give whether it is, within a moment."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self._cache.root / ".lock-prefixes", flags, 0o600)
        try:
            end = time.monotonic() + _PATIENCE
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    if time.monotonic() > end:
                        yield False
                        return
                    time.sleep(0.002)
                else:
                    yield True
                    return
        finally:
            os.close(descriptor)

    def _path(self, key: str) -> Path:
        return self._cache.root / f"{key}.prefix"


def prefix_files(place: Path, largest: int) -> PrefixFiles | None:
    """Return the files in the cache's folder in `place`, None if that cannot be used."""
    try:
        return PrefixFiles(Cache(place, largest=largest))
    except (OptomaticError, OSError):
        return None


def _write(path: Path, text: bytes, arrays: Sequence[memoryview]) -> None:
    pieces: list[bytes | memoryview] = [_COUNT.pack(len(arrays)), _COUNT.pack(len(text))]
    pieces += [_COUNT.pack(array.nbytes) for array in arrays]
    pieces.append(text)
    at = len(_MAGIC) + _HEAD.size + sum(len(piece) for piece in pieces)
    for array in arrays:
        padding = bytes(-at % _BOUNDARY)
        pieces += [padding, array]
        at += len(padding) + array.nbytes
    digest, size = hashlib.sha256(), 0
    for piece in pieces:
        digest.update(piece)
        size += piece.nbytes if isinstance(piece, memoryview) else len(piece)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(_MAGIC + _HEAD.pack(digest.digest(), size))
        for piece in pieces:
            file.write(piece)


def _is_whole(content: mmap.mmap) -> bool:
    start = len(_MAGIC) + _HEAD.size
    if len(content) < start or content[: len(_MAGIC)] != _MAGIC:
        return False
    digest, size = _HEAD.unpack_from(content, len(_MAGIC))
    with memoryview(content) as view, view[start:] as rest:
        return bool(len(rest) == size and hashlib.sha256(rest).digest() == digest)


class _Pickler(pickle.Pickler):
    """Writes arrays aside, and named objects by their names."""

    def __init__(
        self, file: io.BytesIO, arrays: list[memoryview], named: Mapping[str, object]
    ) -> None:
        super().__init__(file, 5, buffer_callback=lambda buffer: arrays.append(buffer.raw()))
        self._names = {id(value): name for name, value in named.items()}

    def reducer_override(self, value: Any) -> Any:
        """Return how `value` is pickled."""
        name = self._names.get(id(value))
        return NotImplemented if name is None else (_named_here, (name,))


def _named_here(name: str) -> object:
    """Stand for an object that is named in the file; a reader has its own."""
    raise KeyError(name)


class _Unpickler(pickle.Unpickler):
    def __init__(
        self, text: memoryview, arrays: Sequence[memoryview], named: Mapping[str, object]
    ) -> None:
        super().__init__(io.BytesIO(text), buffers=arrays)
        self._named = named

    def find_class(self, module: str, name: str) -> Any:
        """Return an object by its place."""
        if name == _named_here.__name__ and module == __name__:
            return self._named.__getitem__
        return super().find_class(module, name)


def _read(content: mmap.mmap, named: Mapping[str, object]) -> Any:
    view = memoryview(content)
    at = len(_MAGIC) + _HEAD.size
    (count,) = _COUNT.unpack_from(content, at)
    sizes = [_COUNT.unpack_from(content, at + _COUNT.size * (1 + n))[0] for n in range(count + 1)]
    at += _COUNT.size * (count + 2)
    text, at = view[at : at + sizes[0]], at + sizes[0]
    arrays = []
    for size in sizes[1:]:
        at += -at % _BOUNDARY
        arrays.append(view[at : at + size])
        at += size
    return _Unpickler(text, arrays, named).load()
