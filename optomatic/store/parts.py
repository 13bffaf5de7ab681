"""Parts by content: a header in ``bundles``, the bytes in ``chunks``, and their holders.

::

    bundles  {_id: sha, v, kind, size, chunks, checksum, at, holders, marks, going}
             at       last put, server's clock
             holders  names of clients, "<client>/<n>", and SEARCHES, one name for all searches:
                      which of them need it stands in their lists of units (listings); absent: kept
                      until it is removed by name, as what a call returned
             marks    one of each upload for a holder that nobody has given up
             going    those of uploads whose chunks are being removed
    chunks   {_id: "<sha>:<n>", data, at, marks}

A header gets its ``v`` last, so an upload that was cut off at any byte is no part yet.  The next
upload of the same content finishes it.  (GridFS keyed by content is bricked by one killed upload.)

Other searches and calls may come to need a part at any moment, and may be about to upload it
themselves.  They are among the holders before they look whether it is there, and before they
upload it.  Each chunk carries a mark of the upload before the header gets its ``v``.  So any
number of processes can remove it, at any time and speed, without clocks::

    read the marks --> nobody holds it: v is taken away --> chunks with no other mark --> header

The second step is one update of one document.  A search or call that comes before it is a holder,
and nothing is removed.  One that comes after it finds no part, and uploads with a mark that was
not read: no chunk of that upload is removed.  The next removal finishes one that was cut off.  An
upload whose holder was taken for dead meanwhile finds its mark gone, and begins anew.

SEARCHES releases a part only if nobody has asked for it (``at``) since the removal began to read
the references: :mod:`~optomatic.store.removal`.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from bson.binary import Binary
from pymongo.database import Database

from optomatic.errors import BundleDamaged
from optomatic.records import SCHEMA, Part
from optomatic.store.documents import (
    Document,
    HeaderForm,
    Misfit,
    checksum_of,
    pieces_of,
    read,
)
from optomatic.store.retry import VALID, Filter, Outage, RetryingCollection, array

#: The holder of the parts that searches need.
SEARCHES = "searches"
#: Bytes in a chunk: small enough that a call ends in time on a slow line.
CHUNK = 4 << 20


class Parts:
    """The parts in a store.  Every call may be repeated, and made by many at the same time."""

    def __init__(self, database: Database[dict[str, Any]], outage: Outage | None = None) -> None:
        self.headers = RetryingCollection(database["bundles"], outage)
        self.chunks = RetryingCollection(database["chunks"], outage)
        #: Parts that this process has itself.
        self._own: dict[str, Part] = {}

    def own(self, parts: Iterable[Part]) -> None:
        """Have :meth:`fetch` take `parts` from this process, which has just stored them."""
        self._own.update((part.sha, part) for part in parts)

    def missing(self, shas: Collection[str], holder: str | None = None) -> set[str]:
        """Return those of `shas` that are not stored; the others stay, for `holder`.

        Without a holder they are kept until they are removed by name.
        """
        if not shas:
            return set()
        query = {"_id": {"$in": list(shas)}}
        # Before it is looked which are there: nobody removes them from now on.
        self.headers.update(query, _keep_for(holder))
        return set(shas) - {header.id for header in self.headers.read(HeaderForm, query)}

    def put(
        self,
        part: Part,
        progress: Callable[[int], None] = lambda _: None,
        *,
        holder: str | None = None,
        anew: bool = False,
    ) -> None:
        """Store a part for `holder`; on return it can be fetched.

        Chunks that an earlier upload has left are not sent again, unless it is to be stored
        `anew`.  After each chunk `progress` gets the number of bytes that are stored.
        """
        marks = [secrets.token_hex(8)]
        while not self._put(part, progress, holder, marks, anew):
            # The holder was taken for dead meanwhile, and its chunks were removed.
            marks.append(secrets.token_hex(8))

    def _put(
        self,
        part: Part,
        progress: Callable[[int], None],
        holder: str | None,
        marks: Sequence[str],
        anew: bool,
    ) -> bool:
        mark = marks[-1]
        begin = [*_keep_for(holder, marks), {"$set": {"kind": part.kind}}]
        is_known = self.headers.update({"_id": part.sha}, begin, upsert=True)
        there = self._marked_chunks(part.sha, mark) if is_known else {}
        n = done = 0
        for n, data in enumerate(_cut(part.buffers), 1):
            chunk = f"{part.sha}:{n - 1}"
            if anew or there.get(chunk) != len(data):
                content = {"data": {"$literal": Binary(data)}, **_marked(mark)}
                self.chunks.update({"_id": chunk}, [{"$set": content}], upsert=True)
            done += len(data)
            progress(done)
        header = {"v": SCHEMA, "kind": part.kind, "size": part.size, "chunks": n, "at": "$$NOW"}
        header["checksum"] = checksum_of(part.sha, part.kind, part.size, n)
        # Kept without a gap since this upload began?
        free = {"holders": {"$exists": False}}
        held = {"marks": mark, "$or": [{"holders": holder}, free]}
        kept = {"_id": part.sha, **(free if holder is None else held)}
        return bool(self.headers.update(kept, [{"$set": header}, VALID]))

    def _marked_chunks(self, sha: str, mark: str) -> dict[str, int]:
        """Mark all chunks that are there, so that they stay; return the bytes in each."""
        query = pieces_of(sha)
        if self.chunks.find_one(query, {"_id": 1}) is None:
            return {}
        self.chunks.update(query, [{"$set": _marked(mark)}])
        binary = {"$eq": [{"$type": "$data"}, "binData"]}
        size = {"size": {"$cond": [binary, {"$binarySize": "$data"}, -1]}}
        found = self.chunks.find({**query, "marks": mark}, size)
        return {chunk["_id"]: chunk["size"] for chunk in found}

    def mend(self, part: Part, holder: str | None = None) -> None:
        """Store a part anew, for `holder`, if it is damaged in the store."""
        try:
            self.get(part.sha)
        except BundleDamaged:
            self.put(part, holder=holder, anew=True)

    def get(self, sha: str) -> tuple[str, bytes]:
        """Return kind and content of a part.

        Raise :class:`BundleDamaged` if it is not there, or does not match its hash.
        """
        header = self._header(sha)
        return header.kind, b"".join(self._content(sha, header))

    def fetch(self, sha: str, path: Path) -> str:
        """Write the content of a part to `path`, chunk by chunk; return its kind.

        Raise as :meth:`get`; the file is to be thrown away then.
        """
        if (part := self._own.get(sha)) is not None:
            with open(path, "wb") as file:
                file.writelines(part.buffers)
            return part.kind
        header = self._header(sha)
        with open(path, "wb") as file:
            file.writelines(self._content(sha, header))
        return header.kind

    def _header(self, sha: str) -> HeaderForm:
        found = self.headers.find_one({"_id": sha, "v": SCHEMA})
        try:
            return read(HeaderForm, found or {})
        except Misfit:
            raise BundleDamaged(
                f"Part {sha[:12]} of a bundle is not in the database, or in a form that this "
                "version does not know, so the units that need it cannot be scored by workers. "
                "Stored scores are not touched. A new fit of the same search uploads it again."
            ) from None

    def _content(self, sha: str, header: HeaderForm) -> Iterator[bytes]:
        """Yield the bytes in each chunk; raise in the end if they do not match the hash."""
        digest = hashlib.sha256(header.kind.encode() + b"\0")
        for n in range(header.chunks):
            chunk = self.chunks.find_one({"_id": f"{sha}:{n}"})
            # A chunk that is not there, or holds no bytes, does not match the hash.
            data = chunk and chunk.get("data")
            if isinstance(data, bytes):
                digest.update(data)
                yield bytes(data)
        if digest.hexdigest() != sha:
            raise BundleDamaged(
                f"Part {sha[:12]} of a bundle ({header.kind}) does not match its hash: bytes were "
                "lost or changed in the database. It was not loaded, and no score comes of it. "
                "Stored scores are not touched. Fit again where the data are: the part is then "
                "uploaded anew."
            )

    def remove(self, shas: Collection[str]) -> None:
        """Remove parts that nobody else can refer to."""
        if not shas:
            return
        query = {"_id": {"$in": list(shas)}}
        headers = self.headers.find(query, {"chunks": 1})
        # The header first: without one the chunks are no part, and in nobody's way.
        self.headers.delete(query)
        chunks = [f"{h['_id']}:{n}" for h in headers for n in range(h.get("chunks", 0))]
        self.chunks.delete({"_id": {"$in": chunks}})

    def client_holders(self) -> set[str]:
        """Return the names under which clients hold parts."""
        found = self.headers.find({"holders": {"$gt": ""}}, {"holders": 1})
        held = {holder for header in found for holder in header["holders"]}
        return {holder for holder in held if isinstance(holder, str)} - {SEARCHES}

    def release(self, holders: Collection[str], of: Filter | None = None) -> None:
        """Take `holders` off all parts, or `of` some, and remove the parts that nobody holds."""
        if holders:
            mine = {"$in": list(holders)}
            self.headers.update({**(of or {}), "holders": mine}, {"$pull": {"holders": mine}})
        for header in self.headers.find({"holders": []}, {"marks": 1, "going": 1}):
            self._remove_unheld(header)

    def _remove_unheld(self, read: Document) -> None:
        """Remove a part as it was `read`, unless somebody has come to need it since."""
        unheld: Filter = {"_id": read["_id"], "holders": []}
        going = {"$setUnion": [array("$going"), array("$marks")]}
        no_part = [{"$set": {"going": going, "marks": []}}, {"$unset": "v"}]
        if not self.headers.update({**unheld, "marks": read.get("marks")}, no_part):
            return  # a holder has come and gone, and its release removes the part
        fields = [read.get(name) for name in ("marks", "going")]
        known = [mark for field in fields if isinstance(field, list) for mark in field]
        others = {"$elemMatch": {"$nin": known}}
        self.chunks.delete({**pieces_of(read["_id"]), "marks": {"$not": others}})
        self.headers.delete({**unheld, "v": {"$exists": False}})


def _keep_for(holder: str | None, marks: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return the update of a header by which a part stays, for `holder` or for ever.

    `marks` are of the upload that begins, and of those before it that it goes on with.
    """
    if holder is None:
        return [{"$set": {"at": "$$NOW"}}, {"$unset": "holders"}]
    there = {"$ne": [{"$type": "$kind"}, "missing"]}
    free = {"$eq": [{"$type": "$holders"}, "missing"]}
    held = {"$setUnion": [array("$holders"), [{"$literal": holder}]]}
    # A part that is kept for ever stays so.
    change: dict[str, Any] = {"at": "$$NOW"}
    change["holders"] = {"$cond": [{"$and": [there, free]}, "$holders", held]}
    if marks:
        change["marks"] = {"$setUnion": [array("$marks"), list(marks)]}
    return [{"$set": change}]


def _marked(mark: str) -> dict[str, Any]:
    return {"at": "$$NOW", "marks": {"$setUnion": [array("$marks"), [mark]]}}


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
