"""Parts by content: a header in ``bundles``, the bytes in ``chunks``; and who still needs them."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bson.binary import Binary
from pymongo.database import Database

from optomatic.errors import BundleDamaged
from optomatic.records import SCHEMA, Part
from optomatic.store.documents import Document
from optomatic.store.forms import HeaderForm, Misfit, checksum_of, read
from optomatic.store.retry import VALID, Filter, Outage, RetryingCollection

# Who needs a part, and its removal once nobody does.
#
# Parts are stored by content, so what a search or a call of joblib stores, others may come to
# need at any moment, and may be about to upload themselves.  The header of a part says who
# needs it::
#
#     holders  names of callers, "<client>/<n>", and SEARCHES, one name for all searches: which of
#              them do stands in their lists of units (listings); absent: kept until it is removed
#              by name, as what a call returned
#     marks    one of each upload for a holder that nobody has given up
#     going    those of uploads whose chunks are being removed
#
# Whoever needs a part is among the holders before looking whether it is there, or before
# uploading it, and all its chunks carry a mark of the upload (at least one each) before the header
# gets its ``v``, which makes it a part.  So it can be removed by anybody, at any time, at any
# speed, by any number of processes at the same time, and without clocks::
#
#     read the marks --> nobody holds it: v is taken away --> chunks with no other mark --> header
#
# The second step is one update of one document.  Whoever comes before it is a holder, and nothing
# is removed; whoever comes after it finds no part, and uploads with a mark that was not read, so
# that no chunk which that upload counts on is removed.  A removal that was cut off is finished by
# the next one; an upload whose holder was taken for dead meanwhile finds its mark gone, and begins
# anew.
#
# SEARCHES lets go of a part only if nobody has asked for it since the removal began to look who
# needs it (``at``): :mod:`~optomatic.store.removal`.


#: The holder of what searches need.
SEARCHES = "searches"


def chunks_of(sha: str) -> dict[str, Any]:
    """Return the query for all chunks of a part."""
    # Ids are <sha>:<n>, and ";" comes right after ":".
    return {"_id": {"$gte": f"{sha}:", "$lt": f"{sha};"}}


def keep_for(holder: str | None, marks: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return the update of a header by which a part stays, for `holder` or for ever.

    Parameters
    ----------
    holder : str or None
    marks : sequence of str
        Of the upload that begins, and of those before it that it goes on with.
    """
    if holder is None:
        return [{"$set": {"at": "$$NOW"}}, {"$unset": "holders"}]
    there, free = {"$ne": [_type("kind"), "missing"]}, {"$eq": [_type("holders"), "missing"]}
    held = {"$setUnion": [array("$holders"), [{"$literal": holder}]]}
    # What is kept for ever stays so.
    change: dict[str, Any] = {"at": "$$NOW"}
    change["holders"] = {"$cond": [{"$and": [there, free]}, "$holders", held]}
    if marks:
        change["marks"] = {"$setUnion": [array("$marks"), list(marks)]}
    return [{"$set": change}]


def still_kept_for(holder: str | None, mark: str) -> dict[str, Any]:
    """Return the query that holds if a part was kept without a gap since its upload began."""
    free = {"holders": {"$exists": False}}
    return free if holder is None else {"marks": mark, "$or": [{"holders": holder}, free]}


def callers(headers: RetryingCollection) -> set[str]:
    """Return all callers that hold parts."""
    found = headers.find({"holders": {"$gt": ""}}, {"holders": 1})
    held = {holder for header in found for holder in header["holders"] if isinstance(holder, str)}
    return held - {SEARCHES}


def let_go(
    headers: RetryingCollection,
    chunks: RetryingCollection,
    those: Collection[str],
    of: Mapping[str, Any] | None = None,
) -> None:
    """Take `those` out of the holders of all parts, or `of` some, and remove what nobody holds."""
    if those:
        mine = {"$in": list(those)}
        headers.update({**(of or {}), "holders": mine}, {"$pull": {"holders": mine}})
    for header in headers.find({"holders": []}, {"marks": 1, "going": 1}):
        _remove(headers, chunks, header)


def _remove(headers: RetryingCollection, chunks: RetryingCollection, read: Document) -> None:
    """Remove a part as it was `read`, unless somebody has come to need it since."""
    unheld: Filter = {"_id": read["_id"], "holders": []}
    going = {"$setUnion": [array("$going"), array("$marks")]}
    no_part = [{"$set": {"going": going, "marks": []}}, {"$unset": "v"}]
    if not headers.update({**unheld, "marks": read.get("marks")}, no_part):
        return  # if somebody has come and gone, whoever let go for that one removes it
    known = [mark for name in ("marks", "going") for mark in _listed(read.get(name))]
    others = {"$elemMatch": {"$nin": known}}
    chunks.delete({**chunks_of(read["_id"]), "marks": {"$not": others}})
    headers.delete({**unheld, "v": {"$exists": False}})


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def array(field: str) -> dict[str, Any]:
    """Return the expression for a field that may be missing, or not what it should be."""
    return {"$cond": [{"$isArray": field}, field, []]}


def _type(field: str) -> dict[str, Any]:
    return {"$type": f"${field}"}


# Parts of bundles, by content: a header in ``bundles``, the bytes in ``chunks``.
#
# ::
#
#     bundles  {_id: sha, v, kind, size, chunks, checksum, at, holders, marks}
#              at: last put, server's clock
#     chunks   {_id: "<sha>:<n>", data, at, marks}
#
# A header gets its ``v`` last, so an upload that was cut off at any byte is no part yet, and
# anybody's next upload of the same content finishes it.  (GridFS keyed by content is bricked
# by one killed upload.)
#
# ``holders`` are those that may need a part, as said above.


#: Bytes in a chunk: small enough that a call ends in time on a slow line.
CHUNK = 4 << 20


class Bundles:
    """The parts in a store.  Every call may be repeated, and made by many at the same time."""

    def __init__(self, database: Database[dict[str, Any]], outage: Outage | None = None) -> None:
        self._headers = RetryingCollection(database["bundles"], outage)
        self._chunks = RetryingCollection(database["chunks"], outage)

    def missing(self, shas: Collection[str], holder: str | None = None) -> set[str]:
        """Return those of `shas` that are not stored, and see to it that the others stay.

        Parameters
        ----------
        holder : str, optional
            Who needs them; if nobody is named, they are kept until they are removed by name.
        """
        if not shas:
            return set()
        query = {"_id": {"$in": list(shas)}}
        # Before it is looked what is there: nobody removes it from now on.
        self._headers.update(query, keep_for(holder))
        return set(shas) - {header.id for header in self._headers.read(HeaderForm, query)}

    def put(
        self,
        part: Part,
        told: Callable[[int], None] = lambda _: None,
        *,
        holder: str | None = None,
        anew: bool = False,
    ) -> None:
        """Store a part; when this returns it can be fetched.

        Chunks that an upload which was cut off has left are not sent again, unless it is to be
        stored `anew`.

        Parameters
        ----------
        told : callable
            Told after each chunk how many bytes of the part are stored.
        holder : str, optional
            Who needs it; if nobody is named, it is kept until it is removed by name.
        """
        marks = [secrets.token_hex(8)]
        while not self._put(part, told, holder, marks, anew):
            # The holder was taken for dead meanwhile, and what was there was removed.
            marks.append(secrets.token_hex(8))

    def _put(
        self,
        part: Part,
        told: Callable[[int], None],
        holder: str | None,
        marks: Sequence[str],
        anew: bool,
    ) -> bool:
        mark = marks[-1]
        begin = [*keep_for(holder, marks), {"$set": {"kind": part.kind}}]
        self._headers.update({"_id": part.sha}, begin, upsert=True)
        there = self._chunks_of(part.sha, mark)
        n = done = 0
        for n, data in enumerate(_cut(part.buffers), 1):
            chunk = f"{part.sha}:{n - 1}"
            if anew or there.get(chunk) != len(data):
                content = {"data": {"$literal": Binary(data)}, **_marked(mark)}
                self._chunks.update({"_id": chunk}, [{"$set": content}], upsert=True)
            done += len(data)
            told(done)
        header = {"v": SCHEMA, "kind": part.kind, "size": part.size, "chunks": n, "at": "$$NOW"}
        header["checksum"] = checksum_of(part.sha, part.kind, part.size, n)
        kept = {"_id": part.sha, **still_kept_for(holder, mark)}
        return bool(self._headers.update(kept, [{"$set": header}, VALID]))

    def mend(self, part: Part, holder: str | None = None) -> None:
        """Store a part anew, for `holder`, if what is stored is not what it was."""
        try:
            self.get(part.sha)
        except BundleDamaged:
            self.put(part, holder=holder, anew=True)

    def _chunks_of(self, sha: str, mark: str) -> dict[str, int]:
        """Mark all chunks that are there, and return the bytes in each."""
        query = chunks_of(sha)
        if self._chunks.find_one(query, {"_id": 1}) is None:
            return {}
        # Only what is marked is there to stay.
        self._chunks.update(query, [{"$set": _marked(mark)}])
        binary = {"$eq": [{"$type": "$data"}, "binData"]}
        size = {"size": {"$cond": [binary, {"$binarySize": "$data"}, -1]}}
        found = self._chunks.find({**query, "marks": mark}, size)
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
        _check(sha, header.kind, hashlib.sha256(header.kind.encode() + b"\0" + content))
        return header.kind, content

    def fetch(self, sha: str, path: Path) -> str:
        """Write the content of a part to `path`, chunk by chunk; return its kind.

        Raises
        ------
        BundleDamaged
            As :meth:`get`; what was written is to be thrown away.
        """
        header = self._header(sha)
        digest = hashlib.sha256(header.kind.encode() + b"\0")
        with open(path, "wb") as file:
            for data in self._content(sha, header):
                digest.update(data)
                file.write(data)
        _check(sha, header.kind, digest)
        return header.kind

    def remove(self, shas: Collection[str]) -> None:
        """Remove parts that nobody else can refer to."""
        if not shas:
            return
        query = {"_id": {"$in": list(shas)}}
        headers = self._headers.find(query, {"chunks": 1})
        # The header first: a part without one is no part, and its chunks are in nobody's way.
        self._headers.delete(query)
        chunks = [f"{h['_id']}:{n}" for h in headers for n in range(h.get("chunks", 0))]
        self._chunks.delete({"_id": {"$in": chunks}})

    def callers(self) -> set[str]:
        """Return all callers that hold parts."""
        return callers(self._headers)

    def let_go(self, those: Collection[str]) -> None:
        """Remove the parts that these have held, and nobody else needs."""
        let_go(self._headers, self._chunks, those)

    def _header(self, sha: str) -> HeaderForm:
        found = self._headers.find_one({"_id": sha, "v": SCHEMA})
        try:
            return read(HeaderForm, found or {})
        except Misfit:
            raise BundleDamaged(
                f"Part {sha[:12]} of a bundle is not in the database, or in a form that this "
                "version does not know, so the units that need it cannot be scored by workers. "
                "Stored scores are not touched. A new fit of the same search uploads it again."
            ) from None

    def _content(self, sha: str, header: HeaderForm) -> Iterator[bytes]:
        for n in range(header.chunks):
            chunk = self._chunks.find_one({"_id": f"{sha}:{n}"})
            # What is not there, or no bytes, does not match the hash.
            data = chunk and chunk.get("data")
            yield bytes(data) if isinstance(data, bytes) else b""


def _marked(mark: str) -> dict[str, Any]:
    marks = {"$setUnion": [array("$marks"), [mark]]}
    return {"at": "$$NOW", "marks": marks}


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
            "are not touched. Fit again where the data are: the part is then uploaded anew."
        )
