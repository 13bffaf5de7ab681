"""Look up and submit: what a search asks of the store, and what it gets back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from optomatic.records import SCHEMA, Outcome, Unit
from optomatic.store.documents import Document, outcome_of, unit_document
from optomatic.store.finishing import ERRORS_OF_A_MOMENT, is_of_its_moment
from optomatic.store.forms import INVALID, EndForm, UnitForm
from optomatic.store.patient import Patient

T = TypeVar("T")

#: Ids or keys in one query: a thousand answers with results are well under 16 MB.
_SLICE = 1000
_OPEN = ("queued", "running", "cancelled")


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

        A completed unit serves by key, whatever its terms, if it has the train scores that
        are asked for; under several terms one's own come first, then the earliest.  Failed
        and dead ones serve only under equal terms, and failures of the machine never.

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
            found.update(_best(asked, ends))
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

    def lanes_of(self, search: str) -> list[str]:
        """Return the lanes in which `search` has something queued: one, or a few."""
        lanes: list[str] = []
        query = {"wanted_by": search, "state": "queued", "lane": {"$nin": lanes}, "v": SCHEMA}
        while (found := self._units.find_one(query, {"lane": 1})) is not None:
            lanes.append(found["lane"])
        return lanes

    def queued_lanes(self, most: int, searches: Sequence[str] | None = None) -> dict[str, str]:
        """Return lanes in which something is queued, at most so many, and who waits for it.

        Parameters
        ----------
        searches : sequence of str, optional
            Only what one of these waits for.
        """
        wanted = {} if searches is None else {"wanted_by": _any_of(searches)}
        lanes: dict[str, str] = {}
        while len(lanes) < most:
            query = {**wanted, "state": "queued", "lane": {"$gte": "", "$nin": [*lanes]}}
            found = self._units.find_one({**query, "v": SCHEMA}, {"lane": 1, "wanted_by": 1})
            if found is None:
                break
            lanes[found["lane"]] = next(iter(_texts(found.get("wanted_by"))), "")
        return lanes

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


def _best(asked: Mapping[str, Unit], ends: Iterable[tuple[EndForm, Outcome]]) -> dict[str, Outcome]:
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
