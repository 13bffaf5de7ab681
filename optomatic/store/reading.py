"""What the units of a search came to, for whoever looks at it from outside."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from optomatic.records import SCHEMA, Described, Outcome
from optomatic.store.documents import outcome_of
from optomatic.store.forms import INVALID, DescribedForm, EndForm, key_of
from optomatic.store.patient import Document, Patient
from optomatic.store.submitting import slices

T = TypeVar("T")

_STATE = {"key": 1, "state": 1}


class Reading:
    """Calls that only read.  Safe to share among threads."""

    def __init__(self, units: Patient) -> None:
        self._units = units

    def described(self, ids: Sequence[str]) -> dict[str, Described]:
        """Return what there is of each of `ids`, by the id that was asked.

        Where a completed unit under other terms serves, that is returned.  What is not there
        (or is in a format of another version) is missing.
        """
        found = {}
        for some in slices(ids):
            query = {"key": {"$in": [key_of(unit_id) for unit_id in some]}}
            read = self._units.read(DescribedForm, query, _described)
            ends = [one.outcome for one in read]
            rows = ((key_of(e.id), e.id, e.state, one) for e, one in zip(ends, read, strict=True))
            found.update(_best(some, rows))
        return found

    def ends(self, ids: Sequence[str]) -> dict[str, Outcome]:
        """Return what came of each of `ids`, as of :meth:`described`, without what was asked."""
        found = {}
        for some in slices(ids):
            query = {"key": {"$in": [key_of(unit_id) for unit_id in some]}}
            ends = self._units.read(EndForm, query, outcome_of)
            found.update(_best(some, ((key_of(e.id), e.id, e.state, e) for e in ends)))
        return found

    def payloads(self, ids: Sequence[str]) -> dict[str, tuple[str, str]]:
        """Return the exact params of each of `ids`, and the payload that has their objects."""
        found = {}
        fields = {"params_text": 1, "spec.payload": 1}
        for some in slices(ids):
            query = {"_id": {"$in": list(some)}, "v": SCHEMA, "state": {"$ne": INVALID}}
            for document in self._units.find(query, fields):
                own = document["params_text"], document["spec"].get("payload") or ""
                found[document["_id"]] = own
        return found

    def states(self, ids: Sequence[str]) -> dict[str, str]:
        """Return the state of each of `ids`, as of :meth:`described`; ``invalid`` ones too."""
        found = {}
        for some in slices(ids):
            keys = {"key": {"$in": [key_of(unit_id) for unit_id in some]}}
            query = {"$or": [keys, {"_id": {"$in": list(some)}}], "v": SCHEMA}
            rows = ((_key(d), d["_id"], d.get("state")) for d in self._units.find(query, _STATE))
            found.update(_best(some, ((*row, str(row[2])) for row in rows if row[0])))
        return found

    def invalid(self, ids: Sequence[str]) -> int:
        """Return how many records of `ids` could not be read, and stand beside them now."""
        queries = ({"invalid.of": {"$in": list(some)}} for some in slices(ids))
        return sum(len(self._units.find(query, {"_id": 1})) for query in queries)


def _key(document: Document) -> str:
    unit_id = document["_id"]
    return key_of(unit_id) if isinstance(unit_id, str) else ""


def _best(ids: Sequence[str], rows: Iterable[tuple[str, str, Any, T]]) -> dict[str, T]:
    """Choose for each id what there is of its key: key, id and state, and what to return."""
    wanted = {key_of(unit_id): unit_id for unit_id in ids}
    best: dict[str, tuple[tuple[bool, bool, bool], T]] = {}
    for key, found_id, state, value in rows:
        if (unit_id := wanted.get(key)) is None:
            continue
        # A completed one serves under whatever terms; what could not be read is the last resort.
        rank = (state != "completed", found_id != unit_id, state == INVALID)
        if unit_id not in best or rank < best[unit_id][0]:
            best[unit_id] = rank, value
    return {unit_id: value for unit_id, (_, value) in best.items()}


def _described(unit: DescribedForm) -> Described:
    return Described(
        params=unit.params,
        params_text=unit.params_text,
        split=unit.spec["split"],
        outcome=outcome_of(unit),
    )
