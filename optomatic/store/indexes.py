"""The indexes of all collections, and the queries that each serves."""

from __future__ import annotations

from functools import partial
from typing import Any

from pymongo import ASCENDING, DESCENDING, IndexModel
from pymongo import errors as driver
from pymongo.database import Database
from pymongo.write_concern import WriteConcern

from optomatic.embedded.watcher import REPLICA_SET as EMBEDDED_SET
from optomatic.errors import StoreIncompatible
from optomatic.store.retry import with_retries

_UP, _DOWN = ASCENDING, DESCENDING
#: The order in which units are claimed.
ORDER = [("priority", _DOWN), ("sequence", _UP)]

#: The indexes by collection, with the queries that each serves.
INDEXES = {
    "units": [
        # stored: the ends that there are for a key, under any constraints
        IndexModel([("key", _UP)], name="key"),
        # claim by queue, in order
        IndexModel(
            [("queue", _UP), *ORDER], name="queued", partialFilterExpression={"state": "queued"}
        ),
        # reap; and the units of vanished workers
        IndexModel(
            [("lease_until", _UP)], name="leases", partialFilterExpression={"state": "running"}
        ),
        # renew, and the units of a token
        IndexModel([("claim", _UP)], name="claims", partialFilterExpression={"state": "running"}),
        # waits, cancel, and claim for one search
        IndexModel([("wanted_by", _UP), ("state", _UP), *ORDER], name="wanted"),
        # the calls of a client that have ended; the clients that have calls
        IndexModel(
            [("call_of", _UP), ("state", _UP)],
            name="calls",
            partialFilterExpression={"kind": "call"},
        ),
        # the batch of a unit; and no unit is in two
        IndexModel([("ids", _UP)], name="batches", unique=True, sparse=True),
        # units with a record that could not be read
        IndexModel([("invalid.of", _UP)], name="invalid", sparse=True),
    ],
    "searches": [
        # by name: for workers, attach, replay, warm start
        IndexModel([("name", _UP), ("began_at", _DOWN)], name="name"),
        # of the same data, the latest first
        IndexModel([("signature.digest", _UP), ("began_at", _DOWN)], name="signature"),
    ],
    # listed since a removal began
    "search_units": [IndexModel([("at", _UP)], name="at")],
    # held by a caller, by searches, by nobody
    "bundles": [IndexModel([("holders", _UP)], name="holders", sparse=True)],
}
#: IndexOptionsConflict, IndexKeySpecsConflict.
_OTHER_INDEX = frozenset({85, 86})


def create_indexes(database: Database[dict[str, Any]], replica_set: str | None = None) -> None:
    """Create missing ones of a server of `replica_set`; many processes may do so at once."""
    # Before a server ends to build an index over documents it asks the members of its set, itself
    # included: the embedded one for ever, at an address that it has left.  It alone decides.
    alone: dict[str, Any] = {"commitQuorum": 0} if replica_set == EMBEDDED_SET else {}
    for name, indexes in INDEXES.items():
        with_retries(partial(_create, database, name, indexes, **alone))


def _create(
    database: Database[dict[str, Any]], name: str, indexes: list[IndexModel], **alone: Any
) -> None:
    # An index that only makes queries fast need not outlive a failover: the next search makes it.
    unique = any(index.document.get("unique") for index in indexes)
    concern = None if unique else WriteConcern(1)
    try:
        database.get_collection(name, write_concern=concern).create_indexes(indexes, **alone)
    except driver.OperationFailure as error:
        if error.code not in _OTHER_INDEX:
            raise
        raise StoreIncompatible(
            f"The collection {name} of the database {database.name} has an index of another form, "
            "so another version of optomatic made it. Nothing was queued, and nothing that is "
            "stored was changed. Use that version, or name another database in db= or "
            f"$OPTOMATIC_DB. Or, if no other version uses this one, run db.{name}.dropIndexes() "
            "in mongosh, and fit again: that makes them anew."
        ) from None
