"""Look up and submit: what a search asks of the store, and what it gets back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from optomatic.records import SCHEMA, Outcome, Unit
from optomatic.store.documents import (
    OUTCOME_FIELDS,
    Document,
    outcome_of,
    unit_document,
)
from optomatic.store.finishing import ERRORS_OF_A_MOMENT, is_of_its_moment
from optomatic.store.patient import Patient

T = TypeVar("T")

#: Ids or keys in one query: a thousand answers with results are well under 16 MB.
_SLICE = 1000
_OPEN = ("queued", "running", "cancelled")


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
            documents = self._units.find(
                {
                    "key": {"$in": list(asked)},
                    "state": {"$in": ["completed", "failed", "dead"]},
                    "v": SCHEMA,
                },
                OUTCOME_FIELDS,
            )
            for unit_id, document in _best(asked, documents).items():
                found[unit_id] = outcome_of(document)
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
    ) -> None:
        """Queue `units` for `search`; when this returns each waits with it, or has an end.

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

        Raises
        ------
        RecordTooLarge
            Before anything is queued.
        """
        documents = [unit_document(u, search, priority, n) for n, u in enumerate(units)]
        self._prepare()
        for some in slices(documents):
            self._join_or_insert(some, search, priority, retry_failed)

    def _join_or_insert(
        self, documents: Sequence[Document], search: str, priority: int, retry_failed: bool
    ) -> None:
        ids = [document["_id"] for document in documents]
        there = {d["_id"] for d in self._units.find({"_id": {"$in": ids}}, {"_id": 1})}
        # What somebody inserts meanwhile is left as it is, and joined below.
        self._units.insert([d for d in documents if d["_id"] not in there])
        if retry_failed:
            self._retry(ids, search)
        else:
            self._reopen_passing_failures(ids, search)
        self._units.update(
            {"_id": {"$in": ids}, "state": {"$in": _OPEN}, "wanted_by": {"$type": "array"}},
            [
                {
                    "$set": {
                        "wanted_by": {"$setUnion": ["$wanted_by", [{"$literal": search}]]},
                        "priority": {"$max": ["$priority", priority]},
                        "state": {"$cond": [{"$eq": ["$state", "cancelled"]}, "queued", "$state"]},
                    }
                }
            ],
        )

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
        query = {"wanted_by": search, "state": "queued", "lane": {"$nin": lanes}}
        while (found := self._units.find_one(query, {"lane": 1})) is not None:
            lanes.append(found["lane"])
        return lanes

    def outcomes(self, ids: Sequence[str]) -> dict[str, Outcome]:
        """Return what the store has for `ids`, in whatever state."""
        return {
            document["_id"]: outcome_of(document)
            for some in slices(ids)
            for document in self._units.find(
                {"_id": {"$in": list(some)}, "v": SCHEMA}, OUTCOME_FIELDS
            )
        }


def _any_of(search: str | Sequence[str]) -> Any:
    return search if isinstance(search, str) else {"$in": list(search)}


def _best(asked: Mapping[str, Unit], documents: Iterable[Document]) -> dict[str, Document]:
    """Choose for each unit the document that serves it best, if any does."""
    best: dict[str, Document] = {}
    for document in documents:
        unit = asked[document["key"]]
        if not _serves(document, unit):
            continue
        rival = best.get(unit.id)
        if rival is None or _rank(document, unit) < _rank(rival, unit):
            best[unit.id] = document
    return best


def _serves(document: Document, unit: Unit) -> bool:
    if document["state"] == "completed":
        wants_train = unit.work.options.get("return_train_score")
        return not wants_train or document["result"]["train"] is not None
    if document["_id"] != unit.id:
        return False
    return document["state"] == "dead" or not _failed_for_a_moment(document)


def _failed_for_a_moment(document: Document) -> bool:
    outcome = outcome_of(document)
    return outcome.result is not None and is_of_its_moment(outcome.result.failures)


def _rank(document: Document, unit: Unit) -> Any:
    return document["_id"] != unit.id, document["completed_at"], document["_id"]
