"""Views of a store for people: read only, in a few queries.

A document that does not have its form is left as it is, and missing: the user may have no right to
write.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from msgspec import field
from pymongo.database import Database
from pymongo.errors import OperationFailure

from optomatic.embedded.watcher import REPLICA_SET as EMBEDDED_SET
from optomatic.records import SCHEMA, Process
from optomatic.store.documents import Document
from optomatic.store.forms import INVALID, Form, Misfit, WorkerForm, fields_of, read
from optomatic.store.indexes import INDEXES
from optomatic.store.jobs import slices
from optomatic.store.retry import Outage, RetryingCollection, with_retries
from optomatic.store.searches import added_to
from optomatic.store.unit_lists import listing_and_number, listings_of, pages_of

F = TypeVar("F", bound=Form)


#: Units whose lists are read to count failures; of further searches they are not known.
_MOST_UNITS = 200_000
_MOST_SHOWN = 10_000


class ListedForm(Form):
    """A search as a list shows it."""

    id: str = field(name="_id")
    name: str
    state: str
    n_units: int
    began_at: datetime
    seen_at: datetime | None
    ended_at: datetime | None
    process: Process
    estimator: str = ""
    summary: dict[str, Any] | None = None
    best: dict[str, Any] | None = None
    user: str = ""
    listing: str | None = None
    part_of: str | None = None


class PresentForm(WorkerForm, kw_only=True):
    """A worker, and when it was there."""

    began_at: datetime
    seen_at: datetime


class RunningForm(Form):
    """A unit that is being scored, or a call of joblib that runs."""

    id: str = field(name="_id")
    kind: str
    params: dict[str, Any]
    spec: dict[str, Any]
    wanted_by: list[str]
    worker: str | None
    claimed_at: datetime
    attempt: int
    host: str | None = None
    started_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class DatabaseCheck:
    """The result of :func:`optomatic.check_database`.  Its ``str()`` has a line for each field.

    Attributes
    ----------
    address : str
        Without credentials.
    server : str
        A single server, a replica set or the private one, and its hosts.
    version : str
        Of MongoDB.
    rights : str
        The user at the server, and the rights that it lacks.
    write_concern : str
        The write concern of all writes.
    indexes : str
        Those that exist, and those that are missing.
    size : str
        Documents, bytes, and the free space of the disk if the server tells it.
    problems : tuple of str
        Advice on each problem.
    """

    address: str
    server: str
    version: str
    rights: str
    write_concern: str
    indexes: str
    size: str
    problems: tuple[str, ...] = ()

    def __str__(self) -> str:
        named = [(name.replace("_", " "), getattr(self, name)) for name in self.__slots__[:-1]]
        lines = [f"{name:<14} {text}" for name, text in named]
        return "\n".join([*lines, *(f"problem: {text}" for text in self.problems)])


#: The rights that the queue needs, in MongoDB's words.
_ACTIONS = ("find", "insert", "update", "remove", "createIndex")
#: Fewer free bytes than this are told of as a problem.
_LITTLE = 1_000_000_000


class Inventory:
    """Calls that only read.  Safe to share among threads."""

    def __init__(self, database: Database[dict[str, Any]], outage: Outage | None = None) -> None:
        self._searches = RetryingCollection(database["searches"], outage)
        self._pages = RetryingCollection(database["search_units"], outage)
        self._units = RetryingCollection(database["units"], outage)
        self._workers = RetryingCollection(database["workers"], outage)
        self._database, self._outage = database, outage

    def searches(self) -> list[ListedForm]:
        """Return all searches, the latest first."""
        fields = fields_of(ListedForm)
        found = self._searches.find({"v": SCHEMA}, fields, sort=[("began_at", -1)])
        return _formed(ListedForm, found)

    def names(self, limit: int = 0) -> list[tuple[str, str]]:
        """Return id and name of searches, the latest first."""
        how: dict[str, Any] = {"sort": [("began_at", -1)], "limit": limit}
        found = self._searches.find({"v": SCHEMA}, {"name": 1}, **how)
        return [(str(one["_id"]), str(one.get("name", ""))) for one in found]

    def names_of(self, searches: Collection[str]) -> dict[str, str]:
        """Return the names of searches, by id."""
        found = self._searches.find({"_id": {"$in": [*searches]}}, {"name": 1})
        return {one["_id"]: str(one.get("name", "")) for one in found}

    def waiting(self, searches: Sequence[str]) -> Counter[str]:
        """Return how many units each of `searches` waits for, in one query."""
        origin = {waits_as: s for s in searches for waits_as in (s, added_to(s))}
        wanted = {"wanted_by": {"$in": list(origin)}}
        pipeline: list[dict[str, Any]] = [
            {"$match": {**wanted, "state": {"$in": ["queued", "running"]}}},
            {"$project": {"_id": 0, "wanted_by": 1}},
            {"$unwind": "$wanted_by"},
            {"$group": {"_id": "$wanted_by", "n": {"$sum": 1}}},
        ]
        counts: Counter[str] = Counter()
        for found in self._units.aggregate(pipeline) if searches else ():
            if found["_id"] in origin:
                counts[origin[found["_id"]]] += found["n"]
        return counts

    def without_score(self, searches: Sequence[ListedForm]) -> dict[str, Counter[str]]:
        """Return how many units of each of `searches` have ended without a score, by state.

        Of searches beyond the first 200,000 units nothing is returned.
        """
        # No unit that has ended is wanted by anybody: an index finds those.
        states = ["failed", "dead", "cancelled", INVALID]
        unwanted = {"wanted_by": [], "state": {"$in": states}, "kind": {"$ne": "call"}}
        ended = {d["_id"]: d["state"] for d in self._units.find(unwanted, {"state": 1})}
        if not ended:
            return {search.id: Counter() for search in searches}
        counted = list(_up_to(_MOST_UNITS, searches))
        names = {s.id: listings_of({"_id": s.id, "listing": s.listing}) for s in counted}
        ids = self._ids_of({listing for listings in names.values() for listing in listings})
        return {
            search: Counter(
                ended[unit_id]
                for unit_id in {i for name in listings for i in ids.get(name, ())}
                if unit_id in ended
            )
            for search, listings in names.items()
        }

    def _ids_of(self, listings: Collection[str]) -> dict[str, list[str]]:
        """Return the ids of units of lists."""
        ids: dict[str, list[str]] = {}
        for some in slices(sorted(listings)):
            query = {"$or": [pages_of(listing) for listing in some], "state": {"$ne": INVALID}}
            for page in self._pages.find(query, {"ids": 1}):
                listing, _ = listing_and_number(page["_id"])
                own = page.get("ids")
                ids.setdefault(listing, []).extend(own if isinstance(own, list) else ())
        return ids

    def running(self) -> list[RunningForm]:
        """Return the units that are being scored, those that began first at the top."""
        query = {"state": "running", "started": True, "lease_until": {"$type": "date"}, "v": SCHEMA}
        how: dict[str, Any] = {"sort": [("claimed_at", 1)], "limit": _MOST_SHOWN}
        return _formed(RunningForm, self._units.find(query, fields_of(RunningForm), **how))

    def held(self) -> Counter[str]:
        """Return how many units each worker is at."""
        query = {"state": "running", "started": True, "lease_until": {"$type": "date"}}
        by_worker = {"$group": {"_id": "$worker", "n": {"$sum": 1}}}
        found = self._units.aggregate([{"$match": query}, by_worker])
        return Counter({str(one["_id"]): one["n"] for one in found})

    def workers(self, seconds: float) -> list[PresentForm]:
        """Return who was seen in the last `seconds`, by the server's clock."""
        recent = {"$gt": ["$seen_at", {"$subtract": ["$$NOW", round(1000 * seconds)]}]}
        query = {"v": SCHEMA, "$expr": recent}
        found = self._workers.find(query, fields_of(PresentForm), sort=[("began_at", 1)])
        return _formed(PresentForm, found)

    def made_of(self, ids: Sequence[str]) -> tuple[set[str], set[str]]:
        """Return the parts that units are made of, and the queues that they are queued in."""
        parts: set[str] = set()
        queues: set[str] = set()
        for some in slices(ids):
            for unit in self._units.find({"_id": {"$in": list(some)}}, {"spec": 1, "queue": 1}):
                spec = {k: v for k, v in unit["spec"].items() if k not in ("split", "env")}
                parts |= {sha for sha in spec.values() if sha is not None}
                queues.add(unit["queue"])
        return parts, queues

    def check(self, address: str) -> DatabaseCheck:
        """Check the store; `address` is its own, without credentials."""
        hello = self._command("hello")
        version = str(self._command("buildInfo")["version"])
        server, few = _server(hello)
        rights, refused = _rights(
            self._command("connectionStatus", showPrivileges=True), self._database.name
        )
        indexes, missing = self._indexes()
        size, full = self._size()
        concern = self._database.write_concern.document
        journal = "journaled" if concern.get("j") else "not journaled"
        return DatabaseCheck(
            address=address,
            server=server,
            version=version,
            rights=rights,
            write_concern=f"{concern.get('w')}, {journal}",
            indexes=indexes,
            size=size,
            problems=(*few, *refused, *missing, *full),
        )

    def _command(self, name: str, **more: Any) -> dict[str, Any]:
        def ask() -> dict[str, Any]:
            return dict(self._database.command(name, **more))

        return with_retries(ask, self._outage)

    def _indexes(self) -> tuple[str, list[str]]:
        there = {name: self._names_in(name) for name in INDEXES}
        if not any(there.values()):
            return "none yet: the first search makes them", []
        wanted = {
            f"{name}.{index.document['name']}"
            for name, indexes in INDEXES.items()
            for index in indexes
        }
        missing = sorted(wanted - {f"{name}.{i}" for name, own in there.items() for i in own})
        if not missing:
            return f"all {len(wanted)} are there", []
        named = ", ".join(missing)
        return f"{len(wanted) - len(missing)} of {len(wanted)}; missing: {named}", [
            f"indexes are missing ({named}). All works without them, slowly. The next search "
            "makes them; a user without the right to createIndex cannot."
        ]

    def _names_in(self, collection: str) -> list[str]:
        def ask() -> list[str]:
            try:
                return list(self._database[collection].index_information())
            except OperationFailure as error:  # no right to list them
                if error.code != 13:
                    raise
                return []

        return with_retries(ask, self._outage)

    def _size(self) -> tuple[str, list[str]]:
        try:
            stats = self._command("dbStats")
        except PermissionError:
            return "not known: the user may not ask for dbStats", []
        searches = self._count("searches")
        units = self._count("units")
        text = (
            f"{searches:,} searches, {units:,} units, {in_words(stats.get('dataSize', 0))} of data "
            f"in {in_words(stats.get('storageSize', 0) + stats.get('indexSize', 0))} on disk"
        )
        total, used = stats.get("fsTotalSize", 0), stats.get("fsUsedSize", 0)
        if not total:
            return text, []
        free = total - used
        full = f"the disk of the server has only {in_words(free)} left. Free some space there."
        return f"{text}, {in_words(free)} free", [full] if free < _LITTLE else []

    def _count(self, collection: str) -> int:
        return with_retries(self._database[collection].estimated_document_count, self._outage)


def _formed(form: type[F], documents: Iterable[Document]) -> list[F]:
    found = []
    for document in documents:
        try:
            found.append(read(form, document))
        except Misfit:
            continue
    return found


def _up_to(most: int, searches: Iterable[ListedForm]) -> Iterable[ListedForm]:
    """Yield `searches` as long as they have no more than `most` units together."""
    for search in searches:
        most -= search.n_units
        if most < 0:
            return
        yield search


def in_words(size: float) -> str:
    """Return a number of bytes for people.

    >>> in_words(999), in_words(1_500_000)
    ('999 bytes', '1.5 MB')
    """
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size:.0f} bytes"


def _server(hello: Mapping[str, Any]) -> tuple[str, list[str]]:
    name = hello.get("setName")
    if name == EMBEDDED_SET:
        return "private server of this user, on this machine", []
    if hello.get("msg") == "isdbgrid":
        return "sharded cluster", []
    if name is None:
        return "single server, no replica set", []
    hosts = list(hello.get("hosts", ()))
    few = []
    if len(hosts) == 2:
        few = ["a replica set of two cannot write while one of them is away. Add a third member."]
    return f"replica set {name} of {len(hosts)}: {', '.join(hosts)}", few


def _rights(status: Mapping[str, Any], database: str) -> tuple[str, list[str]]:
    info = status["authInfo"]
    users = [f"{user['user']}@{user['db']}" for user in info.get("authenticatedUsers", ())]
    if not users:
        return "all: the server asks for no password", []
    allowed = set(_allowed(info.get("authenticatedUserPrivileges", ()), database))
    lacking = [action for action in _ACTIONS if action not in allowed]
    if not lacking:
        return "reads and writes, as an authenticated user", []
    named = ", ".join(lacking)
    return f"lacks {named}", [
        f"the user may not: {named}. Searches and workers cannot use the database. Grant the role "
        f"readWrite on {database} (db.grantRolesToUser)."
    ]


def _allowed(privileges: Iterable[Mapping[str, Any]], database: str) -> Iterable[str]:
    for privilege in privileges:
        resource = privilege["resource"]
        if resource.get("anyResource") or (
            resource.get("db") in ("", database) and resource.get("collection") == ""
        ):
            yield from privilege["actions"]
