"""Calls of joblib in the queue: submit, finished, remove, withdraw.

A call, or several short ones that are joined, is a document among the units, of kind ``call``:
workers claim, start, lose and finish it as they do units.  What it returns is of use to its client
alone, the process that made it.  So it is removed once it is read, and as soon as the client
withdraws it, whatever its state: its worker finds that out at the next write or beat, and stops.
Beyond a unit's, its document has::

    call_of   id of the client, under which it is registered among the workers
    run       which call of Parallel it belongs to
    own       hash of the part that holds its arguments, where those are large
    result    {data, sha}: the pickled values or exception of each call that is joined there, or
              the hash of the part that holds them
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from pymongo.database import Database

from optomatic.errors import RecordTooLarge
from optomatic.records import SCHEMA, TERMINAL, UNFINISHED, Call, Failure, State
from optomatic.store.documents import (
    INVALID,
    CallEndForm,
    UnitForm,
    check_sizes,
    failures_of,
    fields_of,
    unit_documents,
)
from optomatic.store.parts import Parts
from optomatic.store.retry import Outage, RetryingCollection, slices
from optomatic.store.workers import seen_since

#: The names of so many parts fit into the record of a call.
_MOST_PARTS = 100_000
#: A client that was not seen for so many seconds will not come back for its calls.
_VANISHED = 86_400


def holder_name(client: str, number: int) -> str:
    """Return a name under which `client` holds parts: another one whenever it begins anew."""
    return f"{client}/{number}"


def client_of(holder: str) -> str:
    """Return the client that holds parts under the name `holder`."""
    return holder.partition("/")[0]


@dataclass(frozen=True, slots=True)
class CallEnd:
    """The stored end of a call, for the process that made it.

    The pickled result is in ``data``, or in the part with the hash ``sha``.  ``own`` is the hash
    of the part with its arguments.  A record that cannot be read has the state ``invalid``.
    """

    id: str
    state: State | Literal["invalid"]
    data: bytes | None = field(default=None, repr=False)
    sha: str | None = None
    own: str | None = None
    failure: Failure | None = None
    losses: int = 0
    lost_on: tuple[str, ...] = ()
    history: tuple[str, ...] = ()


class Missed(NamedTuple):
    """Calls that are not there, that cannot be read, and that are in another version's form."""

    gone: Sequence[str]
    broken: Sequence[CallEnd]
    foreign: Sequence[str]


class Calls:
    """The calls in a store.  Safe to share among threads; every operation may be repeated."""

    def __init__(
        self,
        database: Database[dict[str, Any]],
        parts: Parts,
        *,
        prepare: Callable[[], None] = lambda: None,
        outage: Outage | None = None,
    ) -> None:
        self._units = RetryingCollection(database["units"], outage)
        self._workers = RetryingCollection(database["workers"], outage)
        self._parts = parts
        self._prepare = prepare

    def submit(self, calls: Sequence[Call], client: str, run: str, first: int) -> None:
        """Queue `calls`, whose parts are stored, the first of them as number `first` of `run`.

        Raises
        ------
        RecordTooLarge
            Before anything is queued.
        """
        check_sizes([call.unit for call in calls])
        self._prepare()
        documents = [_document(call, client, run, first + n) for n, call in enumerate(calls)]
        for some in slices(documents):
            self._units.insert(some)

    def finished(self, client: str) -> list[CallEnd]:
        """Return the ends of those of `client`'s calls that have one.

        One that could not be read has the state ``invalid``.
        """
        query = {"kind": "call", "call_of": client, "state": {"$in": [*TERMINAL, INVALID]}}
        documents = self._units.find({**query, "v": SCHEMA}, fields_of(CallEndForm))
        whole = [document for document in documents if document["state"] != INVALID]
        ends: list[CallEnd] = self._units.formed(CallEndForm, whole, _end)
        read = {end.id for end in ends}
        names = [d["_id"] for d in documents if isinstance(d["_id"], str)]
        return ends + [CallEnd(name, "invalid") for name in names if name not in read]

    def missed(self, client: str, ids: Sequence[str]) -> Missed:
        """Return those of `ids`, calls of `client`, that no worker can finish."""
        waiting = {"_id": {"$in": list(ids)}, "state": {"$in": list(UNFINISHED)}}
        self._units.read(UnitForm, waiting)
        fields = dict.fromkeys(("v", "kind", "call_of", "state"), 1)
        found = self._units.find({"_id": {"$in": list(ids)}}, fields)
        there = {document["_id"]: document for document in found}
        own = {"v": SCHEMA, "kind": "call", "call_of": client}
        foreign = [i for i, d in there.items() if d.get("v") != SCHEMA]
        sound = (*UNFINISHED, *TERMINAL)
        good = [i for i, d in there.items() if own.items() <= d.items() and d.get("state") in sound]
        broken = there.keys() - {*foreign, *good}
        gone = [i for i in ids if i not in there]
        return Missed(gone, [CallEnd(i, "invalid") for i in sorted(broken)], foreign)

    def remove(self, ids: Sequence[str], parts: Sequence[str]) -> None:
        """Remove calls whose ends were read, and the parts that were theirs alone."""
        self._parts.remove(parts)
        self._units.delete({"_id": {"$in": list(ids)}})

    def withdraw(self, client: str, run: str) -> None:
        """Remove all calls of `run`, those that run now included."""
        self._remove_all({"kind": "call", "call_of": client, "run": run})

    def abandon(self, clients: Sequence[str]) -> None:
        """Remove all calls of clients that are gone."""
        if clients:
            self._remove_all({"kind": "call", "call_of": {"$in": list(clients)}})

    def _remove_all(self, query: Mapping[str, Any]) -> None:
        documents = self._units.find(query, {"own": 1, "result.sha": 1})
        shas = [d.get("own") for d in documents]
        shas += [(d.get("result") or {}).get("sha") for d in documents]
        self._units.delete(query)
        self._parts.remove([sha for sha in shas if sha])

    def forget(self, clients: Sequence[str]) -> None:
        """Remove the calls of clients whose processes are gone for certain, and their parts."""
        self.abandon(clients)
        if clients:
            self._let_go(clients, self._parts.client_holders())

    def sweep(self) -> None:
        """Remove the calls of clients that have gone without a word, and their parts."""
        # Read before the clients: one that is not among these has gone since, and if it comes
        # back it holds under another name.
        holders = self._parts.client_holders()
        owners = {*self._owners(), *map(client_of, holders)}
        known = self._workers.find(
            {"_id": {"$in": sorted(owners)}, **seen_since(_VANISHED)}, {"_id": 1}
        )
        gone = sorted(owners - {document["_id"] for document in known})
        self.abandon(gone)
        self._let_go(gone, holders)

    def _let_go(self, clients: Sequence[str], holders: Collection[str]) -> None:
        self._parts.release([holder for holder in holders if client_of(holder) in clients])

    def _owners(self) -> list[str]:
        """Return all clients that have calls, one look in the index for each."""
        owners: list[str] = []
        while True:
            query: dict[str, Any] = {
                "kind": "call",
                "call_of": {"$gt": owners[-1] if owners else ""},
            }
            found = self._units.find(query, {"call_of": 1}, sort=[("call_of", 1)], limit=1)
            if not found:
                return owners
            owners.append(found[0]["call_of"])


def _document(call: Call, client: str, run: str, sequence: int) -> dict[str, Any]:
    if len(call.unit.work.spec) > _MOST_PARTS:
        raise RecordTooLarge(
            "A call names so many large arrays that it does not fit into a record of 16 MB, and "
            "it was not queued. Stack the arrays, or raise max_nbytes of joblib."
        )
    (document,) = unit_documents([call.unit], run, first=sequence)
    return {**document, "call_of": client, "run": run, "own": call.own and call.own.sha}


def _end(end: CallEndForm) -> CallEnd:
    stored, failures = end.result or {}, failures_of(end)
    return CallEnd(
        id=end.id,
        state=end.state,
        data=stored.get("data"),
        sha=stored.get("sha"),
        own=end.own,
        failure=failures[0] if failures else None,
        losses=end.losses,
        lost_on=tuple(end.lost_on),
        history=tuple(entry.why for entry in end.history),
    )
