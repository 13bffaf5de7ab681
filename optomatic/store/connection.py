"""Open and check a database: its address, connection, server and indexes."""

from __future__ import annotations

import math
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

import pymongo
from pymongo import MongoClient
from pymongo import errors as driver
from pymongo.database import Database
from pymongo.uri_parser import parse_uri

from optomatic import _config
from optomatic._uri import WITHHELD, NoAddress, hosts_and_database, masked, redact
from optomatic.embedded.watcher import REPLICA_SET as EMBEDDED_SET
from optomatic.errors import StoreIncompatible, StoreUnavailable, shown
from optomatic.folder_checks import room_in
from optomatic.records import Timing
from optomatic.store.calls import Calls
from optomatic.store.claims import Claims
from optomatic.store.indexes import INDEXES, create_indexes
from optomatic.store.jobs import Jobs
from optomatic.store.notifier import Notifier
from optomatic.store.parts import Parts
from optomatic.store.removal import Removal
from optomatic.store.retry import Outage, bad_uri, is_transient, text_of, translated, with_retries
from optomatic.store.searches import Searches
from optomatic.store.workers import Workers

T = TypeVar("T")


def private_home(uri: str) -> Path | None:
    """Return the folder that ``$OPTOMATIC_HOME`` names for the private server at `uri`.

    None says that `uri` is no address of a private server.
    """
    folder = _private_folder(uri)
    return None if folder is None else folder.parent


def place_of(uri: str) -> str:
    """Return where a store is, without credentials.

    >>> place_of("mongodb://ann:secret@host/iris?w=1")
    'database iris at host:27017'
    """
    home = private_home(uri)
    if home is not None:
        return f"private server in {short(home)}"
    hosts, database = hosts_and_database(masked(uri))
    return f"database {unquote(database)} at {','.join(unquote(host) for host in hosts)}"


def short(path: Path) -> str:
    """Return a path as people write it, from their home folder on."""
    try:
        return f"~/{path.relative_to(Path.home().resolve())}"
    except (ValueError, RuntimeError):  # it lies elsewhere; there is no home
        return str(path)


_DATABASE = "optomatic"
#: Wire version of MongoDB 5.0: the oldest server whose updates do what the queue needs.
_OLDEST_WIRE = 13


#: Has an acknowledged write outlive a crash.  It overrides the URI, as a URI's journal=false would
#: survive w="majority".
_SAFE: dict[str, Any] = {
    "w": "majority",
    "journal": True,
    "readConcernLevel": "majority",
    "readPreference": "primary",
    "retryWrites": True,
    "retryReads": True,
}
#: A text in which a bit has changed must not hide the fields beside it.
_READ: dict[str, Any] = {"tz_aware": True, "unicode_decode_error_handler": "replace"}
#: Nothing times out by itself, and a frozen server would be waited for without end.
_TIMEOUTS: dict[str, Any] = {"timeoutMS": 20_000, "connectTimeoutMS": 5_000}
#: Connections of one process that can be in use, besides the two with which the driver watches
#: each server: so 64 workers need under 500 in the worst case.  Threads beyond wait their turn.
_POOL: dict[str, Any] = {"maxPoolSize": 5}
#: Seconds to wait for a server that has not answered yet.
_PATIENCE = 8.0
#: Seconds for a server on this machine whose port is closed: it may be starting again.
_CLOSED = 1.0
#: Seconds after which a line says what is waited for.
_SILENT = 2.0
#: Seconds to take leave of a server that may be away.
_FAREWELL = 1.0


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


#: Seconds, some 30 years: more is a slip, and no clock takes much more.
LONGEST = 1e9


def timing_of(lease: float | str | None) -> Timing:
    """Return the durations for a lease in seconds; raise ValueError if it is none above 0."""
    if lease is None or lease == "":
        return Timing()
    try:
        seconds = float(lease)
    except (ValueError, OverflowError):
        seconds = -1.0
    if not 0 < seconds <= LONGEST:
        raise ValueError(f"a lease is a number of seconds above 0, not {shown(lease)}")
    return Timing(lease=seconds, unstarted=min(Timing().unstarted, seconds / 3))


def timing_here() -> Timing:
    """Return the durations that ``$OPTOMATIC_LEASE`` asks for."""
    try:
        return timing_of(_config.setting(_config.LEASE))
    except ValueError as error:
        raise ValueError(f"$OPTOMATIC_LEASE: {error}") from None


class Store:
    """One database, by concern.  Safe to share among threads, not across a fork.

    ``shown_uri`` is the address without credentials, ``timing`` the durations of leases.
    """

    def __init__(
        self,
        client: MongoClient[dict[str, Any]],
        uri: str,
        replica_set: str | None,
        timing: Timing,
    ) -> None:
        database = client.get_default_database(_DATABASE)
        outage = Outage(longest=client.options.timeout or math.inf, **_of_a_private_server(uri))
        prepare = cache(partial(create_indexes, database, replica_set))
        self.shown_uri, self.timing = masked(uri), timing
        self.searches = Searches(database, outage)
        self.parts = Parts(database, outage)
        self.jobs = Jobs(database, outage, prepare=prepare)
        self.claims = Claims(database, outage, timing=timing)
        self.workers = Workers(database, outage)
        self.notifier = Notifier(database["units"])
        self.calls = Calls(database, self.parts, prepare=prepare, outage=outage)
        self.removal = Removal(database, self.jobs, self.searches, self.parts, outage)
        self._client, self._database, self._outage = client, database, outage

    def hurry(self, seconds: float) -> None:
        """Wait for a server that is away until `seconds` from now at most, and never again.

        For a process that is about to end.  Calls that wait already give up too, within some
        seconds.  Safe in a signal handler.
        """
        self._outage.until = time.monotonic() + seconds

    def check(self) -> DatabaseCheck:
        """Check the server, the user's rights, the indexes and the space; change nothing."""
        return _Check(self._database, self._outage).made(self.shown_uri)

    def close(self) -> None:
        """Close the connections."""
        # The driver first tells the server that its sessions end: courtesy, not worth a wait.
        with pymongo.timeout(_FAREWELL):
            self._client.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_store(
    uri: str | None = None,
    *,
    timing: Timing | None = None,
    app: str = "optomatic",
    patience: float = _PATIENCE,
) -> Store:
    """Open the store at `uri`; connections are listed at the server under `app`.

    It is ``mongodb://host/name`` or ``mongodb+srv://...``; the database is ``optomatic`` if it
    names none.  None reads ``$OPTOMATIC_DB``; without that the private server is started or
    joined.  `timing` has the durations of leases, by default those of ``$OPTOMATIC_LEASE``;
    `patience` is the seconds for a first answer.

    Raise :class:`StoreURIError` if `uri` cannot be an address.  Raise, within 10 s,
    :class:`StoreUnavailable`, :class:`StoreRefused` (wrong password) or
    :class:`StoreIncompatible` (not a MongoDB).
    """
    timing = timing or timing_here()
    uri = _address(uri)
    client = _connect(uri, app)
    try:
        _refuse_closed_port(client, min(_CLOSED, patience))
        with _told(f"waiting for MongoDB at {masked(uri)}"):
            replica_set = _greet(client, uri, patience)
        return Store(client, uri, replica_set, timing)
    except BaseException:
        client.close()
        raise


class OneStore:
    """The store of one call: opened when it is first needed, and closed when the call is left."""

    def __init__(self, uri: str | None) -> None:
        self._uri = uri
        self._store: Store | None = None

    def open(self) -> Store:
        """Return the store; see :func:`open_store` for errors."""
        if self._store is None:
            self._store = open_store(self._uri)
        return self._store

    def __enter__(self) -> OneStore:
        return self

    def __exit__(self, *_: object) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None


def _address(uri: object) -> str:
    if uri is None:
        uri = _config.setting(_config.DB)
    if uri is None:
        from optomatic.embedded.server import serve  # imported only where it is used

        return serve()
    if not isinstance(uri, str):
        kind = uri.kind if isinstance(uri, NoAddress) else type(uri).__name__
        raise bad_uri(f"it is of type {kind}, not a string (db takes a URI)")
    uri = _with_credentials(uri)
    if not uri.startswith(("mongodb://", "mongodb+srv://")):
        raise bad_uri("it does not begin with mongodb:// or mongodb+srv://")
    if "%2F" in uri:  # a unix socket: that of an embedded server, maybe, which needs us as a client
        from optomatic.embedded.server import revive

        revive(uri)
    return uri


def _of_a_private_server(uri: str) -> dict[str, Any]:
    """Return the arguments of the outage of a private server, empty for others."""
    folder = _private_folder(uri)
    if folder is None:
        return {}
    from optomatic.embedded.server import look_after

    return {"look_after": partial(look_after, folder), "room": partial(room_in, folder)}


def _private_folder(uri: str) -> Path | None:
    if "%2F" not in uri:  # no unix socket
        return None
    from optomatic.embedded.server import folder_of  # imported only where one is used

    return folder_of(uri)


def _with_credentials(uri: str) -> str:
    """Return `uri`; if a pickled search lost its credentials, the URI in ``$OPTOMATIC_DB``."""
    if WITHHELD not in uri or masked(uri) != uri:
        return uri
    whole = _config.setting(_config.DB) or ""
    if masked(whole) == uri != whole:
        return whole
    raise bad_uri(
        f"it came without its credentials ({uri}), as a search is pickled without them; give the "
        f"whole address by ${_config.DB} or db="
    )


def _connect(uri: str, app: str) -> MongoClient[dict[str, Any]]:
    """Return a client that does not connect yet; raise for a wrong address."""
    try:
        parsed = {} if uri.startswith("mongodb+srv://") else parse_uri(uri)
        named = {name.lower() for name in parsed.get("options", {})}
        free = {k: v for k, v in {**_TIMEOUTS, **_POOL}.items() if k.lower() not in named}
        client: MongoClient[dict[str, Any]] = MongoClient(
            uri, appname=app, **_READ, **_SAFE, **free
        )
    except driver.ConfigurationError as error:
        if "DNS" in str(error) or "resolution" in str(error):
            raise _unavailable(str(error)) from None
        raise bad_uri(redact(str(error))) from None
    except OSError as error:
        raise bad_uri(f"an option of it names a file that cannot be used: {error}") from None
    except Exception as error:  # options may name numbers and codes that are none
        raise bad_uri(redact(str(error))) from None
    if parsed.get("collection"):
        client.close()
        name = f"{parsed['database']}.{parsed['collection']}"
        raise bad_uri(f"the database's name, {shown(name)}, has a dot in it, which MongoDB forbids")
    return client


def _refuse_closed_port(client: MongoClient[dict[str, Any]], seconds: float) -> None:
    """Raise StoreUnavailable if this machine is all that the address names, and has no such port.

    The driver would go on trying for as long as it waits for a server that is far away.
    """
    seeds = sorted(client.topology_description.server_descriptions())
    end = time.monotonic() + seconds
    while seeds and all(port and _is_here(host) and _is_closed(host, port) for host, port in seeds):
        if time.monotonic() > end:
            named = ", ".join(f"{host}:{port}" for host, port in seeds)
            raise _unavailable(f"nothing listens on {named}")
        time.sleep(0.1)


def _is_here(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


def _is_closed(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), 0.5).close()
    except ConnectionRefusedError:
        return True
    except OSError:  # whatever it is, the driver says it better
        return False
    return False


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Print a line on stderr if this takes long."""
    timer = threading.Timer(_SILENT, print, [f"optomatic: {what}"], {"file": sys.stderr})
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _greet(client: MongoClient[dict[str, Any]], uri: str, patience: float) -> str | None:
    """Check that a usable MongoDB answers and lets us in; return the name of its replica set."""
    try:
        # The time of a whole operation counts before that of finding a server.
        with pymongo.timeout(patience):
            hello = client.admin.command("hello")
            client.get_default_database(_DATABASE)["units"].find_one({}, {"_id": 1})
    except driver.PyMongoError as error:
        if isinstance(error, driver.ConfigurationError):
            raise StoreIncompatible(_too_old(redact(str(error)))) from None
        if is_transient(error) or isinstance(error, driver.ConnectionFailure):
            raise _unavailable(f"{masked(uri)}: {text_of(error)}") from None
        raise translated(error) from None
    except Exception as error:  # a host or a database whose name cannot be sent
        raise bad_uri(redact(str(error))) from None
    if hello.get("maxWireVersion", 0) < _OLDEST_WIRE:
        raise StoreIncompatible(_too_old("its protocol is older than MongoDB 5.0's"))
    return hello.get("setName")


def _too_old(why: str) -> str:
    return (
        f"The server at db is not one that optomatic can use: {why}. Nothing was stored. "
        "MongoDB 5.0 or newer is needed."
    )


def _unavailable(why: str) -> StoreUnavailable:
    return StoreUnavailable(
        f"No MongoDB answers at db ({redact(why)[:600]}). Nothing was queued, and nothing that "
        "is stored is touched. Check host and port, that MongoDB runs there, and that no firewall "
        "is between; then fit again. Without db= and $OPTOMATIC_DB a private server is used."
    )


#: The rights that the queue needs, in MongoDB's words.
_ACTIONS = ("find", "insert", "update", "remove", "createIndex")
#: Fewer free bytes than this are told of as a problem.
_LITTLE = 1_000_000_000


class _Check:
    """One check of a database."""

    def __init__(self, database: Database[dict[str, Any]], outage: Outage) -> None:
        self._database, self._outage = database, outage

    def made(self, address: str) -> DatabaseCheck:
        """Return the result; `address` has no credentials."""
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

    def _ask(self, call: Callable[..., T], *args: Any, **more: Any) -> T:
        return with_retries(partial(call, *args, **more), self._outage)

    def _command(self, name: str, **more: Any) -> dict[str, Any]:
        return self._ask(self._database.command, name, **more)

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
        try:
            return list(self._ask(self._database[collection].index_information))
        except PermissionError:  # no right to list them
            return []

    def _size(self) -> tuple[str, list[str]]:
        try:
            stats = self._command("dbStats")
        except PermissionError:
            return "not known: the user may not ask for dbStats", []
        searches = self._ask(self._database["searches"].estimated_document_count)
        units = self._ask(self._database["units"].estimated_document_count)
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
