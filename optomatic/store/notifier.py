"""Change streams on replica sets: be notified when something happens to units.

A notification is a hint, never the truth: it may come for nothing, and it may fail to come.  Its
receiver looks at the queue, and looks now and then anyway.  A standalone server has no
change streams, so there looking is all.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import pymongo
from pymongo.collection import Collection
from pymongo.errors import OperationFailure, PyMongoError

from optomatic.records import TERMINAL

log = logging.getLogger(__name__)


#: Seconds that the server holds a request without changes.
_HELD = 20.0
#: Seconds more after which the server is taken for dead.
_PATIENCE = 10.0
#: Seconds to tell the server that the stream is closed.
_FAREWELL = 1.0
#: Seconds before the stream of a server that failed is opened again.
_PAUSE = 2.0
#: Least seconds between two notifications: changes in between are one.
_GAP = 0.02
#: "The $changeStream stage is only supported on replica sets"; a stage that is not known; a
#: user who may not watch.
_NEVER = frozenset({40573, 40324, 13})


_UPDATED = "$updateDescription.updatedFields"
_QUEUED: Mapping[str, Any] = {
    "$or": [
        {"operationType": "insert"},
        {"updateDescription.updatedFields.state": "queued"},
        {"updateDescription.updatedFields.notified_at": {"$exists": True}},
    ]
}
#: Another search waits for a unit, too.  An element added to an array is reported as "wanted_by.1",
#: so no plain query finds it.  The end of a unit clears the array, and changes its state.
_JOINED: Mapping[str, Any] = {
    "updateDescription.updatedFields.state": {"$exists": False},
    "$expr": {
        "$anyElementTrue": [
            {
                "$map": {
                    "input": {"$objectToArray": {"$ifNull": [_UPDATED, {}]}},
                    "as": "field",
                    "in": {"$eq": [{"$indexOfCP": ["$$field.k", "wanted_by"]}, 0]},
                }
            }
        ]
    },
}
_ENDED: Mapping[str, Any] = {"updateDescription.updatedFields.state": {"$in": list(TERMINAL)}}


class Subscription:
    """Calls `notify` in a thread of its own, while it is active.

    ``active`` says whether it would; it calls once when that begins, as something may have
    happened before.
    """

    def __init__(
        self,
        collection: Collection[dict[str, Any]],
        events: Mapping[str, Any],
        notify: Callable[[], None],
    ) -> None:
        self._collection = collection
        self._pipeline: list[Mapping[str, Any]] = [{"$match": events}, {"$project": {"_id": 1}}]
        self._notify = notify
        self._wanted = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._never = False
        self.active = False

    def start(self) -> None:
        """Notify from now on, if the server has change streams."""
        if self._never:
            return
        self._wanted.set()
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._run, name="optomatic-notifier", daemon=True
            )
            self._thread.start()

    def pause(self) -> None:
        """Notify no more, from the next change or some seconds on."""
        self._wanted.clear()

    def stop(self) -> None:
        """End, without waiting for the server."""
        self._stopping.set()
        self._wanted.set()

    def __enter__(self) -> Subscription:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self) -> None:
        while self._wanted.wait() and not self._stopping.is_set():
            try:
                self._watch()
            except PyMongoError as error:
                if isinstance(error, OperationFailure) and error.code in _NEVER:
                    self._never = True
                    return
                # The store's own calls report an outage; this is about comfort.
                log.debug("no notifications for now: %s", type(error).__name__)
                self._stopping.wait(_PAUSE)
            finally:
                self.active = False

    def _watch(self) -> None:
        # Each call has a time limit of its own: one around them all would bound each of them, and
        # the stream would fail when it is over.
        with pymongo.timeout(_PATIENCE):
            stream = self._collection.watch(
                self._pipeline, max_await_time_ms=round(1000 * _HELD), batch_size=1000
            )
        try:
            self.active = True
            self._notify()
            while self._wanted.is_set() and not self._stopping.is_set():
                with pymongo.timeout(_HELD + _PATIENCE):
                    if stream.try_next() is not None and self._wanted.is_set():
                        self._notify()
                        self._stopping.wait(_GAP)
        finally:
            with pymongo.timeout(_FAREWELL), suppress(PyMongoError):
                stream.close()


class Notifier:
    """The changes of units that a process can be notified of."""

    def __init__(self, collection: Collection[dict[str, Any]]) -> None:
        self._collection = collection

    def queued(self, notify: Callable[[], None], *, joined: bool = False) -> Subscription:
        """Return a subscription to units that may have been queued.

        With `joined` also to searches that join queued units, for workers that serve some
        searches only.
        """
        events = {"$or": [_QUEUED, _JOINED]} if joined else _QUEUED
        return Subscription(self._collection, events, notify)

    def ended(self, notify: Callable[[], None]) -> Subscription:
        """Return a subscription to units that may have come to an end."""
        return Subscription(self._collection, _ENDED, notify)
