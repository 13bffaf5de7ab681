"""Look up and submit: what a search asks of the store, and what it gets back."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar

from pymongo.database import Database

from optomatic.records import (
    SCHEMA,
    Described,
    Inspected,
    LostAttempt,
    Outcome,
    SetAside,
    Timing,
    Unit,
)
from optomatic.store.claims import (
    ERRORS_OF_A_MOMENT,
    Claiming,
    Finishing,
    Recovering,
    is_of_its_moment,
)
from optomatic.store.documents import Document, outcome_of, unit_document
from optomatic.store.forms import (
    INVALID,
    DescribedForm,
    EndForm,
    InspectedForm,
    Loss,
    UnitForm,
    key_of,
)
from optomatic.store.retry import Outage, Patient, patiently

T = TypeVar("T")


#: Ids or keys in one query: a thousand answers with results are well under 16 MB.
_SLICE = 1000
_OPEN = ("queued", "running", "cancelled")


@dataclass(frozen=True, slots=True)
class Glance:
    """The state of a unit, and the time of its end."""

    state: str
    ended: datetime | None


class Submitted(NamedTuple):
    """What was met while units were queued.

    ``invalid`` counts those that took the place of a record that could not be read; ``foreign``
    are those that another version of this program has queued, in a form of its own.
    """

    invalid: int = 0
    foreign: tuple[str, ...] = ()


def slices(items: Sequence[T], size: int = _SLICE) -> Iterator[Sequence[T]]:
    """Cut `items` into runs of at most `size`."""
    return (items[start : start + size] for start in range(0, len(items), size))


class Submitting:
    """The calls of a search.  Safe to share among threads, and to repeat."""

    def __init__(
        self, units: Patient, prepare: Callable[[], None], retry: Callable[[list[str], str], int]
    ) -> None:
        self._units = units
        self._prepare = prepare
        self._retry = retry

    def stored(self, units: Sequence[Unit]) -> dict[str, Outcome]:
        """Return the ends that the store has for `units` already, by the id that was asked.

        A completed unit serves by key, whatever its constraints, if it has the train scores that
        are asked for; under several constraints one's own come first, then the earliest.  Failed
        and dead ones serve only under equal constraints, and failures of the machine never.

        One query for each 1,000 units.
        """
        found: dict[str, Outcome] = {}
        for some in slices(units):
            asked = {unit.key: unit for unit in some}
            query = {
                "key": {"$in": list(asked)},
                "state": {"$in": ["completed", "failed", "dead"]},
            }
            ends = self._units.read(EndForm, query, _end)
            found.update(_best_ends(asked, ends))
        return found

    def completed(self, keys: Sequence[str]) -> list[str]:
        """Return those of `keys` that have a score.  One query for each 1,000."""
        found: set[str] = set()
        for some in slices(keys):
            query = {"key": {"$in": list(some)}, "state": "completed", "v": SCHEMA}
            found.update(document["key"] for document in self._units.find(query, {"key": 1}))
        return sorted(found)

    def submit(
        self, units: Sequence[Unit], search: str, *, priority: int = 0, retry_failed: bool = False
    ) -> Submitted:
        """Queue `units` for `search`; when this returns each waits with it, or has an end.

        But for those of another version, by their schema number, which are left as they are.

        Parameters
        ----------
        units : sequence of Unit
            Those that :meth:`stored` did not serve, in the order in which to work them off.
        search : str
            Its record and the parts that its units name are in the store already.
        priority : int
            Higher ones are claimed first.
        retry_failed : bool
            Reopen those that failed or are dead.

        Returns
        -------
        Submitted

        Raises
        ------
        RecordTooLarge
            Before anything is queued.
        """
        documents = [unit_document(u, search, priority, n) for n, u in enumerate(units)]
        self._prepare()
        met = [
            self._join_or_insert(some, search, priority, retry_failed) for some in slices(documents)
        ]
        foreign = tuple(unit_id for one in met for unit_id in one.foreign)
        return Submitted(sum(one.invalid for one in met), foreign)

    def _join_or_insert(
        self, documents: Sequence[Document], search: str, priority: int, retry_failed: bool
    ) -> Submitted:
        ids = [document["_id"] for document in documents]
        there, met = self._there(ids)
        # What somebody inserts meanwhile is left as it is, and joined below.
        self._units.insert([d for d in documents if d["_id"] not in there])
        if retry_failed:
            self._retry(ids, search)
        else:
            self._reopen_passing_failures(ids, search)
        join = {
            "wanted_by": {"$setUnion": ["$wanted_by", [{"$literal": search}]]},
            "priority": {"$max": ["$priority", priority]},
            "state": {"$cond": [{"$eq": ["$state", "cancelled"]}, "queued", "$state"]},
        }
        own = {"_id": {"$in": ids}, "v": SCHEMA, "wanted_by": {"$type": "array"}}
        self._units.update({**own, "state": {"$in": _OPEN}}, [{"$set": join}])
        if there and len(self._units.find({"_id": {"$in": ids}}, {"_id": 1})) < len(ids):
            # A cancelled or failed one was removed before it was joined.
            more = self._join_or_insert(documents, search, priority, retry_failed)
            return Submitted(met.invalid + more.invalid, more.foreign)
        return met

    def _there(self, ids: Sequence[str]) -> tuple[set[str], Submitted]:
        """Return which of `ids` are there; make room for those that cannot be read."""
        found = self._units.find({"_id": {"$in": list(ids)}}, {"v": 1})
        if not found:
            return set(), Submitted()
        there = {document["_id"] for document in found}
        foreign = tuple(d["_id"] for d in found if not _is_ours(d.get("v")))
        query = {"_id": {"$in": [*there]}}
        self._units.read(UnitForm, query)
        gone = self._units.find({**query, "state": INVALID, "v": SCHEMA}, {"_id": 1})
        invalid = [document["_id"] for document in gone]
        self._units.make_room(invalid)
        return there.difference(invalid), Submitted(len(invalid), foreign)

    def foreign(self, ids: Sequence[str]) -> list[str]:
        """Return those of `ids` that another version of this program has queued."""
        queries = ({"_id": {"$in": list(some)}, "v": {"$ne": SCHEMA}} for some in slices(ids))
        return [d["_id"] for query in queries for d in self._units.find(query, {"_id": 1})]

    def foreign_for(self, searches: Sequence[str]) -> list[str]:
        """Return the units that these wait for in the form of another version."""
        waiting = {"wanted_by": _any_of(searches), "state": {"$in": ["queued", "running"]}}
        found = self._units.find({**waiting, "v": {"$ne": SCHEMA}}, {"_id": 1})
        return [document["_id"] for document in found]

    def ring(self, searches: Sequence[str]) -> None:
        """Wake idle workers for what `searches` have queued: it may have become possible."""
        queued = {"wanted_by": _any_of(searches), "state": "queued", "v": SCHEMA}
        found = self._units.find_one(queued, {"_id": 1})
        if found is not None:
            self._units.update({"_id": found["_id"], **queued}, [{"$set": {"rung_at": "$$NOW"}}])

    def pulse(self, searches: Sequence[str]) -> Any:
        """Return None while somebody works on what `searches` wait for, else what is next.

        Where that stays the same, nobody does.
        """
        waiting = {"wanted_by": _any_of(searches)}
        live = {"state": "running", "$expr": {"$gt": ["$lease_until", "$$NOW"]}}
        if self._units.find_one({**waiting, **live}, {"_id": 1}) is not None:
            return None
        queued = {**waiting, "state": "queued"}
        order = [("priority", -1), ("sequence", 1)]
        return self._units.find(queued, {"attempt": 1}, sort=order, limit=1)

    def _reopen_passing_failures(self, ids: list[str], search: str) -> None:
        failed = {"_id": {"$in": ids}, "state": "failed", **ERRORS_OF_A_MOMENT}
        again = [document["_id"] for document in self._units.find(failed, {"_id": 1})]
        if again:
            self._retry(again, search)

    def waits(self, search: str | Sequence[str]) -> bool:
        """Tell whether anything that `search` (or one of several) wants has no end yet."""
        query = {"wanted_by": _any_of(search), "state": {"$in": ["queued", "running"]}}
        return self._units.find_one(query, {"_id": 1}) is not None

    def queued_for(self, searches: Sequence[str]) -> bool:
        """Tell whether anything that one of `searches` wants is queued."""
        query = {"wanted_by": _any_of(searches), "state": "queued"}
        return self._units.find_one(query, {"_id": 1}) is not None

    def waiting(self, search: str) -> list[str]:
        """Return the ids of what `search` wants that has no end yet."""
        query = {"wanted_by": search, "state": {"$in": ["queued", "running"]}}
        return [document["_id"] for document in self._units.find(query, {"_id": 1})]

    def queues_of(self, search: str) -> list[str]:
        """Return the queues in which `search` has something queued: one, or a few."""
        queues: list[str] = []
        query = {"wanted_by": search, "state": "queued", "queue": {"$nin": queues}, "v": SCHEMA}
        while (found := self._units.find_one(query, {"queue": 1})) is not None:
            queues.append(found["queue"])
        return queues

    def queued_queues(self, most: int, searches: Sequence[str] | None = None) -> dict[str, str]:
        """Return queues in which something is queued, at most so many, and who waits for it.

        Parameters
        ----------
        searches : sequence of str, optional
            Only what one of these waits for.
        """
        wanted = {} if searches is None else {"wanted_by": _any_of(searches)}
        queues: dict[str, str] = {}
        while len(queues) < most:
            query = {**wanted, "state": "queued", "queue": {"$gte": "", "$nin": [*queues]}}
            found = self._units.find_one({**query, "v": SCHEMA}, {"queue": 1, "wanted_by": 1})
            if found is None:
                break
            queues[found["queue"]] = next(iter(_texts(found.get("wanted_by"))), "")
        return queues

    def outcomes(self, ids: Sequence[str]) -> dict[str, Outcome]:
        """Return what the store has for `ids`, in whatever state."""
        return {
            outcome.id: outcome
            for some in slices(ids)
            for outcome in self._units.read(EndForm, {"_id": {"$in": list(some)}}, outcome_of)
        }


def _is_ours(number: Any) -> bool:
    return number == SCHEMA and number is not True


def _texts(found: Any) -> list[str]:
    """Return the texts in a field that may hold anything."""
    return [text for text in found if isinstance(text, str)] if isinstance(found, list) else []


def _any_of(search: str | Sequence[str]) -> Any:
    return search if isinstance(search, str) else {"$in": list(search)}


def _end(end: EndForm) -> tuple[EndForm, Outcome]:
    return end, outcome_of(end)


def _best_ends(
    asked: Mapping[str, Unit], ends: Iterable[tuple[EndForm, Outcome]]
) -> dict[str, Outcome]:
    """Choose for each unit the end that serves it best, if any does."""
    best: dict[str, tuple[EndForm, Outcome]] = {}
    for end, outcome in ends:
        unit = asked[end.key]
        if not _serves(outcome, unit):
            continue
        rival = best.get(unit.id)
        if rival is None or _rank(end, unit) < _rank(rival[0], unit):
            best[unit.id] = end, outcome
    return {unit_id: outcome for unit_id, (_, outcome) in best.items()}


def _serves(outcome: Outcome, unit: Unit) -> bool:
    if outcome.state == "completed":
        wants_train = unit.work.options.get("return_train_score")
        return not wants_train or (outcome.result is not None and outcome.result.train is not None)
    if outcome.id != unit.id:
        return False
    return outcome.state == "dead" or not _failed_for_a_moment(outcome)


def _failed_for_a_moment(outcome: Outcome) -> bool:
    return outcome.result is not None and is_of_its_moment(outcome.result.failures)


def _rank(end: EndForm, unit: Unit) -> Any:
    return end.id != unit.id, end.completed_at, end.id


_STATE = {"key": 1, "state": 1}


class Reading:
    """Calls that only read.  Safe to share among threads."""

    def __init__(self, units: Patient) -> None:
        self._units = units

    def described(self, ids: Sequence[str]) -> dict[str, Described]:
        """Return what there is of each of `ids`, by the id that was asked.

        Where a completed unit under other constraints serves, that is returned.  What is not there
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
        # A completed one serves under all constraints; one that cannot be read is the last resort.
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


# The queue: every operation on units, each in a file of its own concern.
#
# =============================  ====================================================
# :mod:`~.submitting`            stored, submit, waits, outcomes   (a search)
# :mod:`~.claiming`              claim, start, renew, release      (a worker)
# :mod:`~.finishing`             complete                          (a worker)
# :mod:`~.recovering`            reap, crash, cancel, retry        (anybody)
# :mod:`~.reading`               described                         (anybody)
# =============================  ====================================================
#
# ::
#
#     submit --> queued --claim--> running --good result--> completed   (from any state)
#       ^          ^  ^               |--failures (fenced)--> failed
#     cancelled <--+  |               |--release (fenced)--> queued, nobody charged
#      (unwanted)     +--lease over or process died, losses < 3
#                      losses >= 3 --> dead --retry--> queued
#
# Every operation is written with majority and journal, may be repeated, and is decided by the
# server's clock alone.


class Jobs(Submitting, Claiming, Finishing, Recovering, Reading):
    """The units of a store.  Safe to share among threads, not across a fork."""

    def __init__(
        self,
        database: Database[dict[str, Any]],
        timing: Timing,
        *,
        prepare: Callable[[], None] = lambda: None,
        outage: Outage | None = None,
        rng: random.Random | None = None,
    ) -> None:
        units = Patient(database["units"], outage)
        Submitting.__init__(self, units, prepare, self.retry)
        Claiming.__init__(self, units, timing, rng or random.Random())
        Finishing.__init__(self, units)
        Recovering.__init__(self, units, timing)
        Reading.__init__(self, units)
        self._database = database

    def server_time(self) -> datetime:
        """Return the server's clock."""
        hello = patiently(
            lambda: self._database.client.admin.command("hello"), Outage(patience=5.0)
        )
        moment: datetime = hello["localTime"]
        return moment.replace(tzinfo=UTC)
