"""Being woken when something happens to units: a change stream, on replica sets.

An alarm is a clock, never the truth: it may ring for nothing, and it may fail to ring.
Whoever is woken looks at the queue, and whoever waits looks at it now and then anyway.  On
a standalone server there are no change streams, and looking is all there is.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import pymongo
from pymongo.change_stream import CollectionChangeStream
from pymongo.collection import Collection
from pymongo.errors import OperationFailure, PyMongoError

log = logging.getLogger(__name__)


#: Seconds that the server holds a question that has no answer yet.
_HELD = 20.0
#: Seconds more after which the server is taken for dead.
_PATIENCE = 10.0
#: Seconds to tell the server that nobody listens any more.
_FAREWELL = 1.0
#: Seconds before the stream of a server that failed is opened again.
_PAUSE = 2.0
#: Seconds between two rings at the least: what comes in between is one ring.
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
#: Somebody else waits for a unit, too.  What is added to an array is told as "wanted_by.1", so that
#: no plain query finds it; what ends a unit clears the array, and its state with it.
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
_ENDED: Mapping[str, Any] = {
    "updateDescription.updatedFields.state": {"$in": ["completed", "failed", "dead", "cancelled"]}
}


class Alarm:
    """Calls `ring` in a thread of its own; listens only while it is armed.

    Attributes
    ----------
    listening : bool
        Whether it would ring.  It rings once when that begins, as something may have
        happened before.
    """

    def __init__(
        self,
        collection: Collection[dict[str, Any]],
        events: Mapping[str, Any],
        ring: Callable[[], None],
    ) -> None:
        self._collection = collection
        self._pipeline: Sequence[Mapping[str, Any]] = [
            {"$match": events},
            {"$project": {"_id": 1}},
        ]
        self._ring = ring
        self._armed = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._never = False
        self.listening = False

    def arm(self) -> None:
        """Listen from now on, if the server can tell of changes."""
        if self._never:
            return
        self._armed.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="optomatic-alarm", daemon=True)
            self._thread.start()

    def disarm(self) -> None:
        """Listen no more, from the next change or some seconds on."""
        self._armed.clear()

    def stop(self) -> None:
        """End, without waiting for the server."""
        self._stopping.set()
        self._armed.set()

    def __enter__(self) -> Alarm:
        self.arm()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self) -> None:
        while self._wanted():
            try:
                self._listen()
            except PyMongoError as error:
                if isinstance(error, OperationFailure) and error.code in _NEVER:
                    self._never = True
                    return
                # The store's own calls tell of an outage; this is about comfort.
                log.debug("the alarm does not work for now: %s", type(error).__name__)
                self._stopping.wait(_PAUSE)
            finally:
                self.listening = False

    def _wanted(self) -> bool:
        self._armed.wait()
        return not self._stopping.is_set()

    def _listen(self) -> None:
        with self._stream() as stream:
            self.listening = True
            self._ring()
            while self._armed.is_set() and not self._stopping.is_set():
                with pymongo.timeout(_HELD + _PATIENCE):
                    if stream.try_next() is not None and self._armed.is_set():
                        self._ring()
                        self._stopping.wait(_GAP)

    @contextmanager
    def _stream(self) -> Iterator[CollectionChangeStream[dict[str, Any]]]:
        """Open a stream, and close it in the end.

        Each call has a time limit of its own: one around them all would bound each of them, and
        the stream would fail when it is over.
        """
        with pymongo.timeout(_PATIENCE):
            stream = self._collection.watch(
                self._pipeline, max_await_time_ms=round(1000 * _HELD), batch_size=1000
            )
        try:
            yield stream
        finally:
            with pymongo.timeout(_FAREWELL), suppress(PyMongoError):
                stream.close()


class Alarms:
    """The alarms of a store."""

    def __init__(self, collection: Collection[dict[str, Any]]) -> None:
        self._collection = collection

    def queued(self, ring: Callable[[], None], *, joined: bool = False) -> Alarm:
        """Return an alarm that rings when units may have been queued.

        Parameters
        ----------
        joined : bool
            It also rings when a search joins units that are queued already, for who serves some
            searches only.
        """
        events = {"$or": [_QUEUED, _JOINED]} if joined else _QUEUED
        return Alarm(self._collection, events, ring)

    def ended(self, ring: Callable[[], None]) -> Alarm:
        """Return an alarm that rings when units may have come to an end."""
        return Alarm(self._collection, _ENDED, ring)
