"""A collection that waits for its server.

The few calls that the queue makes, each tried again while the server is away and with our
errors in place of the driver's.  What they have in common beyond pymongo: each does no harm
when it is repeated.  Documents that are read in a form, and do not have it, are set aside.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from pymongo import UpdateOne
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError

from optomatic.errors import redact
from optomatic.records import SCHEMA
from optomatic.store.faults import Outage, is_transient, patiently
from optomatic.store.forms import INVALID, Form, Misfit, fields_of, read

log = logging.getLogger(__name__)

Document = dict[str, Any]
Filter = Mapping[str, Any]
F = TypeVar("F", bound=Form)
T = TypeVar("T")

#: Large enough that what was asked for by a thousand ids needs no second round trip.
_BATCH = 5000
_DUPLICATE_KEY = 11000
#: The end of an update by which a document is written anew, whatever it was.
VALID: Mapping[str, Any] = {"$unset": ["state", "invalid"]}
_SIZE = {"$bsonSize": "$$ROOT"}


class Patient:
    """Wraps `collection`; `outage` is shared by all collections of a store."""

    def __init__(self, collection: Collection[Document], outage: Outage | None = None) -> None:
        self.collection = collection
        self.outage = outage or Outage()

    def _try(self, operation: Any) -> Any:
        return patiently(operation, self.outage)

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

        return self._try(read)  # type: ignore[no-any-return]

    def find_one(self, query: Filter, fields: Mapping[str, Any] | None = None) -> Document | None:
        """Return one document that matches, or None."""
        return self._try(lambda: self.collection.find_one(query, fields))  # type: ignore[no-any-return]

    def read(
        self, form: type[F], query: Filter, made: Callable[[F], T] | None = None, **how: Any
    ) -> list[Any]:
        """Return all documents of our own schema number that match, in their form.

        What does not have the form is set aside, and missing.

        Parameters
        ----------
        form : type of Form
        query : mapping
        made : callable, optional
            What to return of each; may raise Misfit too.
        **how
            As of :meth:`find`.
        """
        own = {"state": {"$ne": INVALID}, **query, "v": SCHEMA}
        while True:
            documents = self.find(own, fields_of(form), **how)
            found = self.formed(form, documents, made)
            if found or not documents or "limit" not in how:
                return found  # else look what is behind those that were set aside

    def formed(
        self, form: type[F], documents: Sequence[Document], made: Callable[[F], T] | None = None
    ) -> list[Any]:
        """Return `documents` in their form; set aside what does not have it."""
        found: list[Any] = []
        for document in documents:
            try:
                whole = read(form, document)
                found.append(whole if made is None else made(whole))
            except Misfit as misfit:
                self.set_aside(document["_id"], str(misfit))
        return found

    def set_aside(self, name: Any, why: str) -> None:
        """Mark a document as one that cannot be read, and leave it as it is otherwise."""
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
                *(self.collection.name, name, redact(why)),
            )

    def make_room(self, names: Sequence[str]) -> None:
        """Give what is invalid of these documents another ``_id``, under which it stays."""
        for document in self.find({"_id": {"$in": list(names)}, "state": INVALID, "v": SCHEMA}):
            own, name = document.get("invalid"), document["_id"]
            kept = own if isinstance(own, dict) else {}
            token = str(kept.get("token"))
            kept = {**kept, "of": name}
            self.insert([{**document, "_id": f"{name}:{INVALID}:{token}", "invalid": kept}])
            self.delete({"_id": name, "state": INVALID, "invalid": own})

    def update(self, query: Filter, change: Any, *, upsert: bool = False) -> int:
        """Change all that match (with `upsert`, one); return how many matched the last time."""

        def write() -> int:
            if upsert:
                return self.collection.update_one(query, change, upsert=True).matched_count
            return self.collection.update_many(query, change).matched_count

        return self._try(write)  # type: ignore[no-any-return]

    def update_each(self, changes: Sequence[tuple[Filter, Any]]) -> int:
        """Make many changes, each to one document, in any order; return how many matched."""
        operations = [UpdateOne(query, change) for query, change in changes]
        write = self.collection.bulk_write
        return self._try(lambda: write(operations, ordered=False).matched_count)  # type: ignore[no-any-return]

    def insert(self, documents: Sequence[Document]) -> None:
        """Insert those that are not there yet, by ``_id``."""

        def write() -> None:
            try:
                self.collection.insert_many(documents, ordered=False)
            except BulkWriteError as error:
                problems = (error.details or {}).get("writeErrors", [])
                others = [p for p in problems if p.get("code") != _DUPLICATE_KEY]
                if others or is_transient(error):
                    raise

        if documents:
            self._try(write)

    def measure(self, query: Filter) -> tuple[int, int]:
        """Return how many documents match, and their bytes."""
        size = {"$group": {"_id": None, "n": {"$sum": 1}, "bytes": {"$sum": _SIZE}}}
        found = self._try(lambda: list(self.collection.aggregate([{"$match": query}, size])))
        return (found[0]["n"], found[0]["bytes"]) if found else (0, 0)

    def aggregate(self, pipeline: Sequence[Mapping[str, Any]]) -> list[Document]:
        """Return what comes out of a pipeline that only reads."""
        return self._try(lambda: list(self.collection.aggregate(pipeline)))  # type: ignore[no-any-return]

    def delete(self, query: Filter) -> int:
        """Delete all that match."""
        return self._try(lambda: self.collection.delete_many(query).deleted_count)  # type: ignore[no-any-return]
