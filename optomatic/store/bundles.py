"""Parts of bundles, by content: a header in ``bundles``, the bytes in ``chunks``.

::

    bundles  {_id: sha, v, kind, size, chunks, at}      at: last put, by the server's clock
    chunks   {_id: "<sha>:<n>", data, at}

The header is written last, so an upload that was cut off at any byte is no part yet, and
anybody's next upload of the same content finishes it.  (GridFS keyed by content is bricked
by one killed upload.)
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from bson.binary import Binary
from pymongo.database import Database

from optomatic.errors import BundleDamaged
from optomatic.records import SCHEMA, Part
from optomatic.store.faults import Outage
from optomatic.store.patient import Patient

#: Bytes in a chunk: small enough that a call ends in time on a slow line.
CHUNK = 4 << 20


class Bundles:
    """The parts in a store.  Every call may be repeated, and made by many at the same time."""

    def __init__(self, database: Database[dict[str, Any]], outage: Outage | None = None) -> None:
        self._headers = Patient(database["bundles"], outage)
        self._chunks = Patient(database["chunks"], outage)

    def missing(self, shas: Collection[str]) -> set[str]:
        """Return those of `shas` that are not stored, and mark the others as used now."""
        if not shas:
            return set()
        query = {"_id": {"$in": list(shas)}}
        there = {document["_id"] for document in self._headers.find(query, {"_id": 1})}
        self._headers.update(query, [{"$set": {"at": "$$NOW"}}])
        return set(shas) - there

    def put(self, part: Part, told: Callable[[int], None] = lambda _: None) -> None:
        """Store a part; when this returns it can be fetched.

        Chunks that an upload which was cut off has left are not sent again.

        Parameters
        ----------
        told : callable
            Told after each chunk how many bytes of the part are stored.
        """
        there = self._chunks_of(part.sha)
        n = done = 0
        for n, data in enumerate(_cut(part.buffers), 1):
            chunk = f"{part.sha}:{n - 1}"
            if there.get(chunk) != len(data):
                content = {"data": {"$literal": Binary(data)}, "at": "$$NOW"}
                self._chunks.update({"_id": chunk}, [{"$set": content}], upsert=True)
            done += len(data)
            told(done)
        header = {"v": SCHEMA, "kind": part.kind, "size": part.size, "chunks": n, "at": "$$NOW"}
        self._headers.update({"_id": part.sha}, [{"$set": header}], upsert=True)

    def _chunks_of(self, sha: str) -> dict[str, int]:
        """Return the bytes in each chunk that is there, and mark all of them as used now."""
        # Ids are <sha>:<n>, and ";" comes right after ":".
        query = {"_id": {"$gte": f"{sha}:", "$lt": f"{sha};"}}
        found = self._chunks.find(query, {"size": {"$binarySize": "$data"}})
        if found:
            self._chunks.update(query, [{"$set": {"at": "$$NOW"}}])
        return {chunk["_id"]: chunk["size"] for chunk in found}

    def get(self, sha: str) -> tuple[str, bytes]:
        """Return kind and content of a part.

        Raises
        ------
        BundleDamaged
            If it is not there, or does not match its hash.
        """
        header = self._header(sha)
        content = b"".join(self._content(sha, header))
        _check(sha, header["kind"], hashlib.sha256(header["kind"].encode() + b"\0" + content))
        return header["kind"], content

    def fetch(self, sha: str, path: Path) -> str:
        """Write the content of a part to `path`, chunk by chunk; return its kind.

        Raises
        ------
        BundleDamaged
            As :meth:`get`; what was written is to be thrown away.
        """
        header = self._header(sha)
        digest = hashlib.sha256(header["kind"].encode() + b"\0")
        with open(path, "wb") as file:
            for data in self._content(sha, header):
                digest.update(data)
                file.write(data)
        _check(sha, header["kind"], digest)
        kind: str = header["kind"]
        return kind

    def remove(self, shas: Collection[str]) -> None:
        """Remove parts that nobody else can refer to."""
        if not shas:
            return
        query = {"_id": {"$in": list(shas)}}
        headers = self._headers.find(query, {"chunks": 1})
        # The header first: a part without one is no part, and its chunks are in nobody's way.
        self._headers.delete(query)
        chunks = [f"{h['_id']}:{n}" for h in headers for n in range(h["chunks"])]
        self._chunks.delete({"_id": {"$in": chunks}})

    def _header(self, sha: str) -> dict[str, Any]:
        header = self._headers.find_one({"_id": sha})
        if header is None or header.get("v") != SCHEMA:
            raise BundleDamaged(
                f"Part {sha[:12]} of a bundle is not in the database, or in a form that this "
                "version does not know, so the units that need it cannot be scored by workers. "
                "Stored scores are not touched. A new fit of the same search uploads it again."
            )
        return header

    def _content(self, sha: str, header: dict[str, Any]) -> Iterator[bytes]:
        for n in range(header["chunks"]):
            chunk = self._chunks.find_one({"_id": f"{sha}:{n}"})
            yield bytes(chunk["data"]) if chunk else b""


def _cut(buffers: Sequence[bytes | memoryview]) -> Iterator[bytes]:
    """Join `buffers` and cut them into chunks, copying a chunk at a time."""
    pending = bytearray()
    for buffer in buffers:
        view = memoryview(buffer).cast("B")
        start = 0
        while start < len(view):
            room = CHUNK - len(pending)
            pending += view[start : start + room]
            start += room
            if len(pending) == CHUNK:
                yield bytes(pending)
                pending.clear()
    if pending:
        yield bytes(pending)


def _check(sha: str, kind: str, digest: Any) -> None:
    if digest.hexdigest() != sha:
        raise BundleDamaged(
            f"Part {sha[:12]} of a bundle ({kind}) does not match its hash: bytes were lost or "
            "changed in the database. It was not loaded, and no score comes of it. Stored scores "
            "are not touched. Delete its document from the collection 'bundles' and those of "
            "'chunks' whose _id begins like it, and fit again: the part is then uploaded anew."
        )
