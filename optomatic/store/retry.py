"""Calls of pymongo that wait for the server, and our errors in place of pymongo's.

The driver retries less than a queue needs: never ``update_many``, and on a standalone server
nothing.  And an error does not mean that nothing happened: code 91 arrives after the write took
place, and a timeout is an unknown outcome.  So every operation of this folder can be repeated as
it is, and :func:`with_retries` repeats it.
"""

from __future__ import annotations

import logging
import math
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import pymongo
from bson.errors import BSONError
from pymongo import ReturnDocument, UpdateOne
from pymongo import errors as driver
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError

from optomatic import errors
from optomatic._uri import redact
from optomatic.backoff import Backoff
from optomatic.folder_checks import says_no_room
from optomatic.records import SCHEMA
from optomatic.store.documents import (
    INVALID,
    Document,
    Form,
    Misfit,
    fields_of,
    read,
)

T = TypeVar("T")
F = TypeVar("F", bound=Form)
Filter = Mapping[str, Any]
log = logging.getLogger(__name__)
#: Seconds for which calls are tried again before an outage is reported.
PATIENCE = 60.0
#: Seconds of a try after one that no server took, or when the outage is over: so a process that is
#: asked to end meanwhile soon notices.
_SHORT_TRY = 5.0
#: Seconds of a first try where the server is ours, and could be restarted.
_FIRST_TRY = 3.0
#: Seconds between two tries.
_PAUSE_SHORT, _PAUSE_LONG = 0.05, 2.0
#: ShutdownInProgress, PrimarySteppedDown, InterruptedAtShutdown,
#: InterruptedDueToReplStateChange, NotWritablePrimary, NotPrimaryOrSecondary.
_TRANSIENT_CODES = frozenset({91, 189, 11600, 11602, 10107, 13435})
#: Unauthorized, AuthenticationFailed, and old servers' "auth failed".
_REFUSED_CODES = frozenset({13, 18, 8000})
#: OutOfDiskSpace.
_FULL_CODES = frozenset({14031})
#: Raised for values that cannot be written as BSON; the last two by Python itself.
_NOT_STORABLE = (BSONError, OverflowError, UnicodeError)
#: Large enough that a thousand ids with results need no second round trip.
_BATCH = 5000
_DUPLICATE_KEY = 11000
#: The end of an update by which a document is written anew, whatever it was.
VALID: Mapping[str, Any] = {"$unset": ["state", "invalid"]}
_SIZE = {"$bsonSize": "$$ROOT"}
#: Ids or keys in one query: a thousand answers with results are well under 16 MB.
_SLICE = 1000


def slices(items: Sequence[T], size: int = _SLICE) -> Iterator[Sequence[T]]:
    """Cut `items` into runs of at most `size`."""
    return (items[start : start + size] for start in range(0, len(items), size))


def array(field: str) -> dict[str, Any]:
    """Return the expression for an array that may be missing, or of another type."""
    return {"$cond": [{"$isArray": field}, field, []]}


def is_transient(error: BaseException) -> bool:
    """Return whether the same call, sent again, may succeed."""
    if not isinstance(error, driver.PyMongoError):
        return False
    if isinstance(error, driver.AutoReconnect):
        return True
    return (
        error.timeout
        or error.has_error_label("RetryableWriteError")
        or getattr(error, "code", None) in _TRANSIENT_CODES
        or bool(_concern_codes(error) & _TRANSIENT_CODES)
    )


def _concern_codes(error: driver.PyMongoError) -> set[int]:
    """Return the codes of write concern errors, which stand beside a bulk's other results."""
    details = getattr(error, "details", None) or {}
    found = details.get("writeConcernErrors") or [details.get("writeConcernError") or {}]
    return {problem["code"] for problem in found if "code" in problem}


def _nobody_there(error: driver.PyMongoError) -> bool:
    """Return whether no server took the call: a slow one is given all its time."""
    return isinstance(error, driver.AutoReconnect) and not isinstance(error, driver.NetworkTimeout)


@dataclass
class Outage:
    """The time for which a store has not answered, shared by all that call its server.

    So the clean-up after a call that was given up does not wait as long again, and again.  Safe
    to share among threads.  All moments are by the caller's clock.
    """

    #: Seconds of an outage after which each call is made once, and its error raised.
    patience: float = PATIENCE
    #: When the first call that failed was sent; None while the server answers.
    since: float | None = None
    #: From this moment on no outage is waited for, as the caller is about to end.
    until: float = math.inf
    #: Seconds that the driver gives a call by itself.
    longest: float = math.inf
    #: Starts a server that is ours, and returns why it does not run; raises if a wait is vain.
    #: The first try of each call is a short one then: the server may never come by itself.
    look_after: Callable[[], str] | None = None
    #: Returns how much space that server has, in words.
    room: Callable[[], str] = str

    def over(self, now: float) -> bool:
        """Return whether it has lasted longer than any call waits."""
        return self.since is not None and now > min(self.since + self.patience, self.until)

    def seconds_left(self, now: float) -> float | None:
        """Return the seconds for a call that is sent now, None for the driver's own limit.

        They are limited before any failure, too: a server that stops answering now must not keep
        a process that is about to end.
        """
        if self.over(now):
            return _SHORT_TRY
        left = max(_SHORT_TRY, self.until - now)
        return left if left < self.longest else None


def with_retries(
    operation: Callable[[], T],
    outage: Outage | None = None,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """Return what `operation` returns; repeat it while the server is away.

    It must do no harm when it runs more often than its result tells.  The patience of `outage`,
    that of its store, limits the time.  Raise :class:`StoreError` in place of errors of the
    driver, or why our own server does not run.
    """
    outage = outage or Outage()
    backoff, away = Backoff(_PAUSE_SHORT, _PAUSE_LONG, clock=clock), False
    first, why = None if outage.look_after is None else _FIRST_TRY, ""
    while True:
        sent_at = clock()
        try:
            seconds = first or (_SHORT_TRY if away else outage.seconds_left(sent_at))
            with nullcontext() if seconds is None else pymongo.timeout(seconds):
                result = operation()
        except _NOT_STORABLE as error:
            raise translated(error) from None
        except driver.PyMongoError as error:
            away, first = _nobody_there(error), None
            outage.since = sent_at if outage.since is None else outage.since
            wait = backoff.failed()
            if away and outage.look_after is not None and clock() < outage.until:
                why = outage.look_after()
            if not is_transient(error) or outage.over(clock() + wait):
                # Not `from error`: the driver's texts hold addresses with credentials.
                raise translated(error, outage.room(), why) from None
        else:
            outage.since = None
            return result
        sleep(wait)


def text_of(error: Exception) -> str:
    """Return the text of an error of the driver, without its account of timeouts and topology."""
    text = str(error)
    for further in (" (configured timeouts", ", Timeout: ", ", Topology Description"):
        text = text.partition(further)[0]
    return text[:1000]


def translated(error: Exception, room: str = "", why: str = "") -> errors.StoreError:
    """Return our error for one of pymongo's: what happened, what it means, what to do.

    `room` is how much space the server has, and `why` the reason why it does not run, if known.
    """
    said = redact(why or text_of(error))
    code = getattr(error, "code", None)
    if code in _REFUSED_CODES:
        return errors.StoreRefused(
            f"The database refused the user or what it was asked ({said}). Nothing was changed. "
            "Check user, password and authSource in db= or $OPTOMATIC_DB, and that the user may "
            "read and write that database."
        )
    # A server that goes on without a file which it could not make says UnknownError.
    if code in _FULL_CODES or says_no_room(said):
        return errors.StoreFull(
            f"The database's disk is full ({said}{room and f'; {room}'}). Acknowledged writes are "
            "safe, nothing new was stored. Free some space there and fit again: only missing "
            "units are scored."
        )
    if isinstance(error, driver.DocumentTooLarge):
        return errors.RecordTooLarge(
            f"A record is over 16 MB ({said}) and was not stored. Stored records are not touched. "
            "Look for a long text or a large value among the arguments of the search."
        )
    if isinstance(error, _NOT_STORABLE):
        return errors.StoreError(
            f"A value cannot be written as a record of MongoDB ({said}), so nothing was stored of "
            "it. Stored records are not touched. Look for texts that are no UTF-8 and for very "
            "large numbers among the arguments of the search."
        )
    if isinstance(error, driver.InvalidURI | driver.ConfigurationError | driver.InvalidName):
        return bad_uri(said)
    if is_transient(error) or isinstance(error, driver.ConnectionFailure):
        return errors.StoreUnavailable(
            f"The database does not answer ({said}). Acknowledged writes are safe; whether the "
            "last write took place is not known, and does no harm. Check that MongoDB runs and "
            "can be reached from here, then fit again: only missing units are scored."
        )
    return errors.StoreError(
        f"The database could not do what it was asked ({type(error).__name__}: {said}). "
        "Acknowledged writes are safe. If this goes on, the server may be too old (MongoDB 5.0 is "
        "needed) or hold documents that are not optomatic's: use a database of its own."
    )


def bad_uri(why: str) -> errors.StoreURIError:
    """Return the error of an address that cannot be one."""
    return errors.StoreURIError(
        f"db is not an address of a MongoDB: {why}. Nothing was stored. It looks like "
        '"mongodb://host:27017/name", with user and password percent-encoded '
        '("mongodb://USER:PASSWORD@host/name").'
    )


def readable(form: type[F], documents: Sequence[Document]) -> list[F]:
    """Return those of `documents` that have their form, in it."""
    found: list[F] = []
    for document in documents:
        with suppress(Misfit):
            found.append(read(form, document))
    return found


class RetryingCollection:
    """A collection whose calls wait for its server, and do no harm when they are repeated.

    Documents that are read in a form, and do not have it, are set aside.  All collections of a
    store share its `outage`.
    """

    def __init__(self, collection: Collection[Document], outage: Outage | None = None) -> None:
        self.collection = collection
        self.outage = outage or Outage()

    def _try(self, operation: Callable[[], T]) -> T:
        return with_retries(operation, self.outage)

    def find(
        self,
        query: Filter,
        fields: Mapping[str, Any] | None = None,
        *,
        sort: Sequence[tuple[str, int]] = (),
        limit: int = 0,
        skip: int = 0,
    ) -> list[Document]:
        """Return all documents that match."""

        def read() -> list[Document]:
            found = self.collection.find(query, fields, limit=limit, skip=skip, batch_size=_BATCH)
            return list(found.sort(list(sort)) if sort else found)

        return self._try(read)

    def each(
        self,
        field: str,
        values: Sequence[Any],
        query: Filter,
        fields: Mapping[str, Any] | None = None,
    ) -> Iterator[Document]:
        """Yield the documents with one of `values` in a field, many in each query."""
        for some in slices(values):
            yield from self.find({**query, field: {"$in": list(some)}}, fields)

    def find_one(self, query: Filter, fields: Mapping[str, Any] | None = None) -> Document | None:
        """Return one document that matches, or None."""
        return self._try(lambda: self.collection.find_one(query, fields))

    def read(
        self, form: type[F], query: Filter, made: Callable[[F], T] | None = None, **how: Any
    ) -> list[Any]:
        """Return all documents of our own schema number that match, in their form.

        Documents without it are set aside, and missing.  `made` converts each, and may raise
        Misfit, too; the options are those of :meth:`find`.
        """
        own = {"state": {"$ne": INVALID}, **query, "v": SCHEMA}
        while True:
            documents = self.find(own, fields_of(form), **how)
            found = self.formed(form, documents, made)
            if found or not documents or "limit" not in how:
                return found  # else read on behind those that were set aside

    def look(self, form: type[F], query: Filter, **how: Any) -> list[F]:
        """Return documents in their form, for people who may have no right to write.

        Documents without it are missing, and left as they are.
        """
        return readable(form, self.find({**query, "v": SCHEMA}, fields_of(form), **how))

    def formed(
        self, form: type[F], documents: Sequence[Document], made: Callable[[F], T] | None = None
    ) -> list[Any]:
        """Return `documents` in their form; set aside those without it."""
        found: list[Any] = []
        for document in documents:
            try:
                whole = read(form, document)
                found.append(whole if made is None else made(whole))
            except Misfit as misfit:
                self.set_aside(document["_id"], str(misfit))
        return found

    def set_aside(self, name: Any, why: str) -> None:
        """Mark a document as one that cannot be read, and leave all else of it as it is."""
        invalid = {
            "state": {"$ifNull": ["$state", None]},
            "why": {"$literal": why},
            "by": {"$literal": f"process {os.getpid()} on {socket.gethostname()}"},
            "at": "$$NOW",
            "token": secrets.token_hex(8),
        }
        own = {"_id": name, "v": SCHEMA, "state": {"$ne": INVALID}}
        if self.update(own, [{"$set": {"state": INVALID, "invalid": invalid}}]):
            log.info(
                "a record in %s cannot be read, and is set aside as 'invalid' (_id %.100s): %s",
                self.collection.name,
                name,
                redact(why),
            )

    def make_room(self, names: Sequence[str]) -> None:
        """Give the invalid ones of these documents another ``_id``, under which they stay."""
        for document in self.find({"_id": {"$in": list(names)}, "state": INVALID, "v": SCHEMA}):
            own, name = document.get("invalid"), document["_id"]
            kept = own if isinstance(own, dict) else {}
            token = str(kept.get("token"))
            kept = {**kept, "of": name}
            self.insert([{**document, "_id": f"{name}:{INVALID}:{token}", "invalid": kept}])
            self.delete({"_id": name, "state": INVALID, "invalid": own})

    def update(self, query: Filter, change: Any, *, upsert: bool = False) -> int:
        """Change all that match, with `upsert` one; return how many matched the last time."""

        def write() -> int:
            if upsert:
                return self.collection.update_one(query, change, upsert=True).matched_count
            return self.collection.update_many(query, change).matched_count

        return self._try(write)

    def take(
        self, query: Filter, change: Any, *, sort: Sequence[tuple[str, int]], mine: Filter
    ) -> Document | None:
        """Change the first document that matches; return it as it is then.

        It is one of `mine` from then on: if a reply was lost, no second one is changed.
        """
        tries = 0

        def write() -> Document | None:
            nonlocal tries
            tries += 1
            if tries > 1 and (found := self.collection.find_one(mine)) is not None:
                return found
            return self.collection.find_one_and_update(
                query, change, sort=list(sort), return_document=ReturnDocument.AFTER
            )

        return self._try(write)

    def update_each(self, changes: Sequence[tuple[Filter, Any]]) -> int:
        """Make many changes, each to one document, in any order; return how many matched."""
        operations = [UpdateOne(query, change) for query, change in changes]
        write = self.collection.bulk_write
        return self._try(lambda: write(operations, ordered=False).matched_count)

    def insert(self, documents: Sequence[Document]) -> list[Any]:
        """Insert those that are not there yet; return the ``_id`` of the others.

        If a reply was lost, these may have been inserted by this call.
        """

        def write() -> list[Any]:
            try:
                self.collection.insert_many(documents, ordered=False)
            except BulkWriteError as error:
                problems = (error.details or {}).get("writeErrors", [])
                others = [p for p in problems if p.get("code") != _DUPLICATE_KEY]
                if others or is_transient(error):
                    raise
                return [documents[problem["index"]]["_id"] for problem in problems]
            return []

        return self._try(write) if documents else []

    def measure(self, query: Filter) -> tuple[int, int]:
        """Return how many documents match, and their bytes."""
        size = {"$group": {"_id": None, "n": {"$sum": 1}, "bytes": {"$sum": _SIZE}}}
        found = self._try(lambda: list(self.collection.aggregate([{"$match": query}, size])))
        return (found[0]["n"], found[0]["bytes"]) if found else (0, 0)

    def aggregate(self, pipeline: Sequence[Mapping[str, Any]]) -> list[Document]:
        """Return the result of a pipeline that only reads."""
        return self._try(lambda: list(self.collection.aggregate(pipeline)))

    def delete(self, query: Filter) -> int:
        """Delete all that match."""
        return self._try(lambda: self.collection.delete_many(query).deleted_count)
