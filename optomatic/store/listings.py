"""Which units searches ask for: lists of their ids, in pages.

::

    search_units  {_id: "<listing>:<n>", v, ids: [...], events: [...], by, parts: [...], at,
                   checksum}
                  n       from 0 on, so that a list may have any size; from 10**9 on: see extending
                  events  what its generator was asked and told, in order, where it has one
                          (plan/course/schedule.py)
                  parts   on page -1 alone: hashes of what workers need for these units
                  at      when it was written or asked for last, by the server's clock

A listing has the name of its search, or, where all units are known as the search begins, a digest
of their ids.  Equal searches share that one, so each but the first adds its record and nothing
else.  Whoever refers to something writes that down before looking whether it is there, in this
order: record, pages, page -1, parts, units.  :mod:`~optomatic.store.removing` says why.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from optomatic.records import SCHEMA
from optomatic.store.forms import INVALID, PAGE, PageForm, page_checksum
from optomatic.store.holding import array
from optomatic.store.patient import VALID, Patient
from optomatic.store.submitting import slices

#: Ids in one document: 100 bytes each.
IDS = 20_000
#: The page that names parts.
_PARTS = -1


def listing_of(unit_ids: Sequence[str]) -> str:
    """Return the name of the list of these units, in this order."""
    return hashlib.sha256("\n".join(unit_ids).encode()).hexdigest()[:32]


def listings_of(record: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the lists of a search, that of what was added to it last."""
    shared = record.get("listing")
    return (shared, record["_id"]) if shared else (record["_id"],)


def listing_and_number(page: str) -> tuple[str, int]:
    """Return what the id of a page is made of."""
    listing, _, number = page.rpartition(":")
    return listing, int(number)


def is_page(page: Any) -> bool:
    """Return whether :func:`listing_and_number` can read the id of a page, or of a chunk."""
    return isinstance(page, str) and PAGE.fullmatch(page) is not None


def pages_of(listing: str) -> dict[str, Any]:
    """Return the query for the pages of a list, which the index of ids serves."""
    return {"_id": {"$gte": f"{listing}:", "$lt": f"{listing};"}}  # ";" comes right after ":"


class Listings:
    """The lists of a store.  Every call may be repeated."""

    def __init__(self, pages: Patient) -> None:
        self._pages = pages

    def share(self, listing: str, unit_ids: Sequence[str]) -> None:
        """Write a list that is named by its content, unless it is there."""
        pages = {f"{listing}:{n}": ids for n, ids in enumerate(slices(unit_ids, IDS))}
        # What is asked for now stays: a removal that has begun before leaves it alone.
        whole = {"_id": {"$in": list(pages)}, "state": {"$ne": INVALID}}
        there = self._pages.update(whole, [{"$set": {"at": "$$NOW"}}])
        if there < len(pages):
            for page, ids in pages.items():
                self._set(page, _content(page, ids))

    def write(self, listing: str, number: int, unit_ids: Sequence[str], events: Any = ()) -> None:
        """Write a page of the list of one search."""
        page = f"{listing}:{number}"
        self._set(page, _content(page, unit_ids, [list(event) for event in events]))

    def take(self, listing: str, number: int, unit_ids: Sequence[str], token: str) -> bool:
        """Write a page, and return whether nobody else had that number."""
        page = f"{listing}:{number}"
        first = {"by": token, **_content(page, unit_ids)}
        self._set(page, {name: {"$ifNull": [f"${name}", v]} for name, v in first.items()})
        return self._pages.find_one({"_id": page, "by": token}, {"_id": 1}) is not None

    def need(self, listing: str, shas: Collection[str]) -> None:
        """Note that units of a list are made of these parts, before they are stored."""
        parts = {"$setUnion": [array("$parts"), sorted(shas)]}
        self._set(f"{listing}:{_PARTS}", {"ids": [], "parts": parts})

    def numbers(self, listing: str) -> list[int]:
        """Return the numbers of the pages of a list."""
        return [listing_and_number(page.id)[1] for page in self._read([listing])]

    def ids(self, listings: Sequence[str]) -> list[str]:
        """Return the ids on all pages of these lists, in order."""
        return [unit_id for page in self._read(listings) for unit_id in page.ids]

    def events(self, listing: str) -> list[list[Any]]:
        """Return what was asked and told, in order."""
        return [event for page in self._read([listing]) for event in page.events]

    def invalid(self, listings: Sequence[str]) -> int:
        """Return how many pages of these lists could not be read."""
        query = {"$or": [pages_of(listing) for listing in listings], "state": INVALID}
        return len(self._pages.find(query, {"_id": 1}))

    def _read(self, listings: Sequence[str]) -> list[PageForm]:
        query = {"$or": [pages_of(listing) for listing in listings]}
        return sorted(self._pages.read(PageForm, query), key=_number)

    def first_ids(self, whole: Collection[str], cut: Collection[str]) -> dict[str, list[str]]:
        """Return the ids of several lists by name, of some of them those of the first page."""
        ranges = [*map(pages_of, whole), *({"_id": f"{listing}:0"} for listing in cut)]
        found: dict[str, list[str]] = {listing: [] for listing in (*whole, *cut)}
        if ranges:
            for page in sorted(self._pages.read(PageForm, {"$or": ranges}), key=_number):
                found[listing_and_number(page.id)[0]] += page.ids
        return found

    def _set(self, page: str, fields: Mapping[str, Any]) -> None:
        self._pages.update(
            {"_id": page}, [{"$set": {"v": SCHEMA, **fields, "at": "$$NOW"}}, VALID], upsert=True
        )


def _content(page: str, ids: Sequence[str], events: Sequence[Any] = ()) -> dict[str, Any]:
    """Return what a page holds, for an update that is a pipeline."""
    listed, told = list(ids), list(events)
    fields = {"ids": listed, "events": told, "checksum": page_checksum(page, listed, told)}
    return {name: {"$literal": value} for name, value in fields.items()}


def _number(page: PageForm) -> int:
    return listing_and_number(page.id)[1]
