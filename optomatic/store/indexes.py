"""Which index serves which query.

All are made before the first document of their collection.  On the embedded server a later one
would wait for ever: to build it the server asks for its own vote, at an address that it has left.
"""

from __future__ import annotations

from typing import Any

from pymongo import ASCENDING, DESCENDING, IndexModel
from pymongo.database import Database

from optomatic.store.faults import patiently

_UP, _DOWN = ASCENDING, DESCENDING
_ORDER = [("priority", _DOWN), ("sequence", _UP)]

UNITS = [
    # stored: the ends that there are for a key, under whatever terms
    IndexModel([("key", _UP)], name="key"),
    # claim by lane, in order
    IndexModel(
        [("lane", _UP), *_ORDER], name="queued", partialFilterExpression={"state": "queued"}
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
]


def create_indexes(database: Database[dict[str, Any]]) -> None:
    """Create what is missing.  Any number of processes may do it at the same time."""
    patiently(lambda: database["units"].create_indexes(UNITS))
