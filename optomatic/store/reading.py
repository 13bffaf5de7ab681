"""What the units of a search came to, for whoever looks at it from outside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, TypeVar

from optomatic.records import SCHEMA, Described, Glance, Inspected, LostAttempt, Outcome, SetAside
from optomatic.store.documents import outcome_of
from optomatic.store.forms import INVALID, DescribedForm, EndForm, InspectedForm, Loss, key_of
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
        return self._read(ids, DescribedForm, _described)

    def inspected(self, ids: Sequence[str]) -> dict[str, Inspected]:
        """Return as :meth:`described`, with who scored them and when."""
        return self._read(ids, InspectedForm, _inspected)

    def _read(self, ids: Sequence[str], form: Any, made: Callable[[Any], Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for some in slices(ids):
            query = {"key": {"$in": [key_of(unit_id) for unit_id in some]}}
            read = self._units.read(form, query, made)
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

    def glances(self, ids: Sequence[str]) -> dict[str, Glance]:
        """Return how far each of `ids` is, as :meth:`states` does, and when it ended."""
        found = {}
        fields = {**_STATE, "completed_at": 1}
        for some in slices(ids):
            query = {"key": {"$in": [key_of(unit_id) for unit_id in some]}, "v": SCHEMA}
            rows = (
                (_key(d), d["_id"], d.get("state"), _glance(d))
                for d in self._units.find(query, fields)
            )
            found.update(_best(some, rows))
        return found

    def without_score(self, ids: Sequence[str]) -> list[str]:
        """Return those of `ids` that have failed, or were given up, and have no score."""
        query = {"state": {"$in": ["failed", "dead"]}, "v": SCHEMA}
        wanted = {key_of(unit_id): unit_id for unit_id in ids}
        found: dict[str, None] = {}
        for some in slices(list(wanted)):
            for document in self._units.find({**query, "key": {"$in": list(some)}}, {"key": 1}):
                found[wanted[document["key"]]] = None
        return list(found)

    def set_aside(self, ids: Sequence[str]) -> list[SetAside]:
        """Return the records of `ids` that could not be read, those of queued anew included."""
        found = []
        for some in slices(ids):
            own = {"_id": {"$in": list(some)}, "state": INVALID}
            for query in (own, {"invalid.of": {"$in": list(some)}}):
                found += self._units.find({**query, "v": SCHEMA}, {"invalid": 1})
        return [_set_aside(document) for document in found]

    def running_for(self, searches: Sequence[str]) -> Counter[tuple[str, str]]:
        """Return how many units of `searches` are being scored, by worker and host."""
        query = {"wanted_by": {"$in": list(searches)}, "state": "running"}
        found = self._units.find(query, {"worker": 1, "host": 1})
        return Counter((str(d.get("worker")), str(d.get("host"))) for d in found)

    def poisonous(self, searches: Sequence[str]) -> Counter[int]:
        """Return how many units that `searches` wait for have ended their workers how often."""
        query = {"wanted_by": {"$in": list(searches)}, "losses": {"$gt": 0}}
        found = self._units.find(query, {"losses": 1})
        return Counter(d["losses"] for d in found if isinstance(d["losses"], int))

    def states(self, ids: Sequence[str]) -> dict[str, str]:
        """Return the state of each of `ids`, as of :meth:`described`; ``invalid`` ones too."""
        found = {}
        for some in slices(ids):
            keys = {"key": {"$in": [key_of(unit_id) for unit_id in some]}}
            query = {"$or": [keys, {"_id": {"$in": list(some)}}], "v": SCHEMA}
            rows = ((_key(d), d["_id"], d.get("state")) for d in self._units.find(query, _STATE))
            found.update(_best(some, ((*row, str(row[2])) for row in rows if row[0])))
        return found

    def at_work(self, search: str) -> list[tuple[str, str, bool]]:
        """Return what workers hold of what `search` wants: unit, worker, whether it is started."""
        query = {"wanted_by": search, "state": "running", "v": SCHEMA}
        found = self._units.find(query, {"worker": 1, "started": 1})
        return [(d["_id"], str(d.get("worker")), d.get("started") is True) for d in found]

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


def _moment(value: Any) -> datetime | None:
    return value if isinstance(value, datetime) else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _glance(document: Document) -> Glance:
    return Glance(str(document.get("state")), _moment(document.get("completed_at")))


def _set_aside(document: Document) -> SetAside:
    kept = document.get("invalid")
    kept = kept if isinstance(kept, dict) else {}
    why, of = kept.get("why"), _text(kept.get("of")) or str(document["_id"])
    return SetAside(of, _text(why) or "for an unknown reason", _moment(kept.get("at")))


def _inspected(unit: InspectedForm) -> Inspected:
    worker, host, began, ended = None, None, None, None
    if unit.state in ("completed", "failed"):
        worker, host = unit.completed_by, _text(unit.completed_on)
        began, ended = _moment(unit.started_at), unit.completed_at
    elif unit.state == "running":
        worker, host = _text(unit.worker), _text(unit.host)
        began = _moment(unit.started_at) if unit.started is True else None
    return Inspected(
        unit.params,
        unit.params_text,
        unit.spec["split"],
        outcome_of(unit),
        unit.kind,
        unit.attempt,
        worker,
        host,
        began,
        ended,
        tuple(map(_lost, unit.history)),
    )


def _lost(loss: Loss) -> LostAttempt:
    number = loss.attempt if isinstance(loss.attempt, int) else None
    where = _text(loss.worker), _text(loss.host)
    return LostAttempt(number, *where, _moment(loss.began), _moment(loss.at), loss.why)


def _described(unit: DescribedForm) -> Described:
    return Described(
        params=unit.params,
        params_text=unit.params_text,
        split=unit.spec["split"],
        outcome=outcome_of(unit),
    )
