"""Who needs a part, and its removal once nobody does.

Parts are stored by content, so what a search or a call of joblib stores, others may come to
need at any moment, and may be about to upload themselves.  The header of a part says who
needs it::

    holders  names of callers, "<client>/<n>", and SEARCHES, one name for all searches: which of
             them do stands in their lists of units (listings); absent: kept until it is removed
             by name, as what a call returned
    marks    one of each upload for a holder that nobody has given up
    going    those of uploads whose chunks are being removed

Whoever needs a part is among the holders before looking whether it is there, or before
uploading it, and all its chunks carry a mark of the upload (at least one each) before the header
gets its ``v``, which makes it a part.  So it can be removed by anybody, at any time, at any
speed, by any number of processes at the same time, and without clocks::

    read the marks --> nobody holds it: v is taken away --> chunks with no other mark --> header

The second step is one update of one document.  Whoever comes before it is a holder, and nothing
is removed; whoever comes after it finds no part, and uploads with a mark that was not read, so
that no chunk which that upload counts on is removed.  A removal that was cut off is finished by
the next one; an upload whose holder was taken for dead meanwhile finds its mark gone, and begins
anew.

SEARCHES lets go of a part only if nobody has asked for it since the removal began to look who
needs it (``at``): :mod:`~optomatic.store.removing`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from optomatic.store.patient import Document, Filter, Patient

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


def callers(headers: Patient) -> set[str]:
    """Return all callers that hold parts."""
    found = headers.find({"holders": {"$gt": ""}}, {"holders": 1})
    held = {holder for header in found for holder in header["holders"] if isinstance(holder, str)}
    return held - {SEARCHES}


def let_go(
    headers: Patient, chunks: Patient, those: Collection[str], of: Mapping[str, Any] | None = None
) -> None:
    """Take `those` out of the holders of all parts, or `of` some, and remove what nobody holds."""
    if those:
        mine = {"$in": list(those)}
        headers.update({**(of or {}), "holders": mine}, {"$pull": {"holders": mine}})
    for header in headers.find({"holders": []}, {"marks": 1, "going": 1}):
        _remove(headers, chunks, header)


def _remove(headers: Patient, chunks: Patient, read: Document) -> None:
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
