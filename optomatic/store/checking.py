"""Whether a database is one that optomatic can use, and what is in it: read only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pymongo.database import Database
from pymongo.errors import OperationFailure

from optomatic.records import DatabaseCheck
from optomatic.store.faults import Outage, patiently
from optomatic.store.indexes import INDEXES
from optomatic.store.mongod import REPLICA_SET as EMBEDDED_SET

#: What the queue does, in MongoDB's words.
_ACTIONS = ("find", "insert", "update", "remove", "createIndex")
#: Fewer free bytes than this are told of as a problem.
_LITTLE = 1_000_000_000


class Checking:
    """The check of a store."""

    def __init__(self, database: Database[dict[str, Any]], outage: Outage | None = None) -> None:
        self._database = database
        self._outage = outage

    def check(self, address: str) -> DatabaseCheck:
        """Return what is found; `address` is that of the store, without credentials."""
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

        return patiently(ask, self._outage)

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

        return patiently(ask, self._outage)

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
        return patiently(self._database[collection].estimated_document_count, self._outage)


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
