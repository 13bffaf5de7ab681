"""A collection that waits for its server.

The few calls that the queue makes, each tried again while the server is away and with our
errors in place of the driver's.  What they have in common beyond pymongo: each does no harm
when it is repeated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pymongo import UpdateOne
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError

from optomatic.store.faults import Outage, is_transient, patiently

Document = dict[str, Any]
Filter = Mapping[str, Any]

#: Large enough that what was asked for by a thousand ids needs no second round trip.
_BATCH = 5000
_DUPLICATE_KEY = 11000


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

    def delete(self, query: Filter) -> int:
        """Delete all that match."""
        return self._try(lambda: self.collection.delete_many(query).deleted_count)  # type: ignore[no-any-return]
