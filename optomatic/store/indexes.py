"""The indexes, and the queries that each serves."""

from __future__ import annotations

from functools import partial
from typing import Any

from pymongo import ASCENDING, DESCENDING, IndexModel
from pymongo.database import Database

from optomatic.embedded.watcher import REPLICA_SET as EMBEDDED_SET
from optomatic.store.retry import with_retries

_UP, _DOWN = ASCENDING, DESCENDING
_ORDER = [("priority", _DOWN), ("sequence", _UP)]

#: By collection.
INDEXES = {
    "units": [
        # stored: the ends that there are for a key, under any constraints
        IndexModel([("key", _UP)], name="key"),
        # claim by queue, in order
        IndexModel(
            [("queue", _UP), *_ORDER], name="queued", partialFilterExpression={"state": "queued"}
        ),
        # reap; and the units of vanished workers
        IndexModel(
            [("lease_until", _UP)], name="leases", partialFilterExpression={"state": "running"}
        ),
        # renew, and the units of a token
        IndexModel([("claim", _UP)], name="claims", partialFilterExpression={"state": "running"}),
        # waits, cancel, and claim for one search
        IndexModel([("wanted_by", _UP), ("state", _UP), *_ORDER], name="wanted"),
        # the calls of a client that have ended; the clients that have calls
        IndexModel(
            [("call_of", _UP), ("state", _UP)],
            name="calls",
            partialFilterExpression={"kind": "call"},
        ),
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


def create_indexes(database: Database[dict[str, Any]], replica_set: str | None = None) -> None:
    """Create missing ones of a server of `replica_set`; many processes may do so at once."""
    # Before a server ends to build an index over documents it asks the members of its set, itself
    # included: the embedded one for ever, at an address that it has left.  It alone decides.
    alone: dict[str, Any] = {"commitQuorum": 0} if replica_set == EMBEDDED_SET else {}
    for name, indexes in INDEXES.items():
        with_retries(partial(database[name].create_indexes, indexes, **alone))
