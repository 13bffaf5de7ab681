"""Which index serves which query."""

from __future__ import annotations

from typing import Any

from pymongo import ASCENDING, DESCENDING, IndexModel
from pymongo.collection import Collection
from pymongo.database import Database

from optomatic.embedded.watcher import REPLICA_SET as EMBEDDED_SET
from optomatic.store.retry import with_retries

_UP, _DOWN = ASCENDING, DESCENDING
_ORDER = [("priority", _DOWN), ("sequence", _UP)]


UNITS = [
    # stored: the ends that there are for a key, under whatever constraints
    IndexModel([("key", _UP)], name="key"),
    # claim by queue, in order
    IndexModel(
        [("queue", _UP), *_ORDER], name="queued", partialFilterExpression={"state": "queued"}
    ),
    # reap; and what vanished workers hold
    IndexModel([("lease_until", _UP)], name="leases", partialFilterExpression={"state": "running"}),
    # beat, and what a token holds
    IndexModel([("claim", _UP)], name="claims", partialFilterExpression={"state": "running"}),
    # waits, cancel, and claim for one search
    IndexModel([("wanted_by", _UP), ("state", _UP), *_ORDER], name="wanted"),
    # which calls of a client have ended; whose calls there are
    IndexModel(
        [("call_of", _UP), ("state", _UP)], name="calls", partialFilterExpression={"kind": "call"}
    ),
    # which units have a record that could not be read
    IndexModel([("invalid.of", _UP)], name="invalid", sparse=True),
]


SEARCHES = [
    # by name: what workers score for, what is attached to, replayed, learned from
    IndexModel([("name", _UP), ("began_at", _DOWN)], name="name"),
    # what is about the same data, the latest first
    IndexModel([("signature.digest", _UP), ("began_at", _DOWN)], name="signature"),
]


SEARCH_UNITS = [
    # what was listed since a removal began
    IndexModel([("at", _UP)], name="at"),
]


BUNDLES = [
    # what a caller holds, what searches do, and what nobody does
    IndexModel([("holders", _UP)], name="holders", sparse=True),
]


#: By collection.
INDEXES = {
    "units": UNITS,
    "searches": SEARCHES,
    "search_units": SEARCH_UNITS,
    "bundles": BUNDLES,
}


def create_indexes(database: Database[dict[str, Any]], replica_set: str | None = None) -> None:
    """Create what is missing.  Any number of processes may do it at the same time.

    Parameters
    ----------
    replica_set : str, optional
        Name of the set that the server is of.
    """
    # Before it ends to build an index over documents a server asks the members of its set, itself
    # included: the embedded one for ever, at an address that it has left.  It alone decides.
    alone: dict[str, Any] = {"commitQuorum": 0} if replica_set == EMBEDDED_SET else {}
    for name, indexes in INDEXES.items():
        _create(database[name], indexes, alone)


def _create(
    collection: Collection[dict[str, Any]], indexes: list[IndexModel], how: dict[str, Any]
) -> None:
    with_retries(lambda: collection.create_indexes(indexes, **how))
