"""Open a store: URI -> connection, server and collections."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pymongo
from pymongo import MongoClient
from pymongo import errors as driver
from pymongo.uri_parser import parse_uri

from optomatic import _config
from optomatic._uri import WITHHELD, NoAddress, masked, redact
from optomatic.definition import hosts_and_database
from optomatic.errors import StoreIncompatible, StoreUnavailable, shown
from optomatic.private_folder import room_in
from optomatic.records import Timing
from optomatic.store.calls import Calls
from optomatic.store.claims import Claims
from optomatic.store.indexes import create_indexes
from optomatic.store.inventory import Inventory
from optomatic.store.jobs import Jobs
from optomatic.store.notifier import Notifier
from optomatic.store.parts import Parts
from optomatic.store.removal import Removal
from optomatic.store.retry import Outage, bad_uri, is_transient, text_of, translated
from optomatic.store.searches import Environments, Searches
from optomatic.store.workers import Workers


def private_home(uri: str) -> Path | None:
    """Return the folder that ``$OPTOMATIC_HOME`` names for the private server at `uri`.

    None says that `uri` is no address of a private server.
    """
    if "%2F" not in uri:
        return None
    from optomatic.embedded.server import folder_of  # only who has a private server imports it

    folder = folder_of(uri)
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
#: A text in which a bit has changed must not keep all from reading what stands beside it.
_READ: dict[str, Any] = {"tz_aware": True, "unicode_decode_error_handler": "replace"}
#: Nothing times out by itself, and a frozen server would be waited for without end.
_TIMEOUTS: dict[str, Any] = {"timeoutMS": 20_000, "connectTimeoutMS": 5_000}
#: Connections of one process that can be in use, besides the two with which the driver watches
#: each server: so 64 workers need under 500 in the worst case.  Threads beyond wait their turn.
_POOL: dict[str, Any] = {"maxPoolSize": 5}
#: Seconds to wait for a server that has not answered yet.
_PATIENCE = 8.0
#: Seconds to take leave of a server that may be away.
_FAREWELL = 1.0


@dataclass(frozen=True)
class Store:
    """One database, by concern.  Safe to share among threads, not across a fork."""

    searches: Searches
    environments: Environments
    parts: Parts
    jobs: Jobs
    claims: Claims
    workers: Workers
    notifier: Notifier
    calls: Calls
    removal: Removal
    inventory: Inventory
    #: The address without credentials.
    shown_uri: str
    _client: MongoClient[dict[str, Any]] = field(repr=False)
    _outage: Outage = field(repr=False)

    def hurry(self, seconds: float) -> None:
        """Wait for a server that is away until `seconds` from now at most, and never again.

        For a process that is about to end.  Calls that wait already give up too, within some
        seconds.  Safe in a signal handler.
        """
        self._outage.until = time.monotonic() + seconds

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
    joined.  `timing` has the durations of leases, `patience` the seconds for a first answer.

    Raise :class:`StoreURIError` if `uri` cannot be an address.  Raise, within 10 s,
    :class:`StoreUnavailable`, :class:`StoreRefused` (wrong password) or
    :class:`StoreIncompatible` (not a MongoDB).
    """
    uri = _address(uri)
    client = _connect(uri, app)
    try:
        replica_set = _greet(client, uri, patience)
        database = client.get_default_database(_DATABASE)
    except BaseException:
        client.close()
        raise
    outage = Outage(longest=client.options.timeout or math.inf, **_private_server(uri))
    prepare = cache(partial(create_indexes, database, replica_set))
    parts = Parts(database, outage)
    jobs = Jobs(database, outage, prepare=prepare)
    return Store(
        searches=Searches(database, outage),
        environments=Environments(database, outage),
        parts=parts,
        jobs=jobs,
        claims=Claims(database, outage, timing=timing),
        workers=Workers(database, outage),
        notifier=Notifier(database["units"]),
        calls=Calls(database, parts, prepare=prepare, outage=outage),
        removal=Removal(database, jobs, parts, outage),
        inventory=Inventory(database, outage),
        shown_uri=masked(uri),
        _client=client,
        _outage=outage,
    )


def _address(uri: object) -> str:
    if uri is None:
        uri = _config.setting(_config.DB)
    if uri is None:
        from optomatic.embedded.server import serve  # only who needs a server imports it

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


def _private_server(uri: str) -> dict[str, Any]:
    """Return the arguments of the outage of a private server, empty for others."""
    if "%2F" not in uri:
        return {}
    from optomatic.embedded.server import folder_of, look_after

    folder = folder_of(uri)
    if folder is None:
        return {}
    return {"look_after": partial(look_after, folder), "room": partial(room_in, folder)}


def _with_credentials(uri: str) -> str:
    """Return `uri`, or if a pickled search lost its credentials, what ``$OPTOMATIC_DB`` has."""
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
