"""Lists of the units that searches ask for, in pages.

::

    search_units  {_id: "<listing>:<n>", v, ids: [...], candidates: [...], events: [...], by,
                   parts: [...], at, checksum}
                  n       from 0 on, so that a list may have any size; from 10**9 on: units that
                          were added to a search (searches)
                  candidates  [text, keys, shown, reason] of each (records.Candidate); of the keys
                          of its units the first characters, blanks between; shown is in pairs.
                          Their units may stand on other pages
                  events  what its generator was asked and told, in order, where it has one
                  parts   on page -1 alone: hashes of the parts that workers need for these units
                  at      when it was written or asked for last, by the server's clock

A listing has the name of its search, or, where all units are known as the search begins, a digest
of them and of the candidates.  Equal searches share that one, so each but the first adds its
record and nothing else.  A reference is written down before the look-up whether its target is
there, in this order: record, pages, page -1, parts, units; :mod:`~optomatic.store.removal` says
why.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

from optomatic.records import SCHEMA, Candidate
from optomatic.store.documents import storable
from optomatic.store.forms import INVALID, PAGE, PageForm, checksum_of, key_of
from optomatic.store.jobs import slices
from optomatic.store.parts import array
from optomatic.store.retry import VALID, RetryingCollection

#: Ids in one document: 100 bytes each.
IDS = 20_000
#: The page that names parts.
_PARTS = -1
#: Characters of a key that tell the units of one search apart.
_SHORT = 16
#: Longer params are those of their units only; so many characters of params are on one page.
_LONGEST_TEXT, _TEXTS = 16_000, 4_000_000
Row = tuple[str | None, str, list[tuple[str, str]], str | None]


def listing_of(unit_ids: Sequence[str], candidates: Sequence[Candidate]) -> str:
    """Return the name of the list of these units and candidates, in this order."""
    return checksum_of(unit_ids, [_row(candidate) for candidate in candidates])


def listings_of(record: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the lists of a search, that of added units last."""
    shared = record.get("listing")
    return (shared, record["_id"]) if shared else (record["_id"],)


def listing_and_number(page: str) -> tuple[str, int]:
    """Split the id of a page."""
    listing, _, number = page.rpartition(":")
    return listing, int(number)


def is_page(page: Any) -> bool:
    """Return whether :func:`listing_and_number` can read the id of a page, or of a chunk."""
    return isinstance(page, str) and PAGE.fullmatch(page) is not None


def pages_of(listing: str) -> dict[str, Any]:
    """Return the query for the pages of a list, which the index of ids serves."""
    return {"_id": {"$gte": f"{listing}:", "$lt": f"{listing};"}}  # ";" comes right after ":"


class Listed(NamedTuple):
    """Units (each id once), candidates and events of a search.

    A unit of a candidate that was not asked for yet has the id "".
    """

    ids: list[str]
    candidates: list[Candidate]
    events: list[Any]


class Listings:
    """The lists of a store.  Every call may be repeated."""

    def __init__(self, pages: RetryingCollection) -> None:
        self._pages = pages

    def share(self, listing: str, unit_ids: Sequence[str], candidates: Sequence[Candidate]) -> None:
        """Write a list that is named by its content, unless it is there."""
        pages = {f"{listing}:{n}": own for n, own in enumerate(paged(unit_ids, candidates))}
        # A removal that has begun before leaves it alone from now on.
        whole = {"_id": {"$in": list(pages)}, "state": {"$ne": INVALID}}
        there = self._pages.update(whole, [{"$set": {"at": "$$NOW"}}])
        if there < len(pages):
            for page, own in pages.items():
                self._set(page, _content(page, *own))

    def write(
        self,
        listing: str,
        number: int,
        unit_ids: Sequence[str],
        candidates: Sequence[Candidate] = (),
        events: Any = (),
    ) -> None:
        """Write a page of the list of one search."""
        page = f"{listing}:{number}"
        self._set(page, _content(page, unit_ids, candidates, [list(event) for event in events]))

    def take(
        self,
        listing: str,
        number: int,
        unit_ids: Sequence[str],
        candidates: Sequence[Candidate],
        token: str,
    ) -> bool:
        """Write a page, and return whether nobody else had that number."""
        page = f"{listing}:{number}"
        first = {"by": token, **_content(page, unit_ids, candidates)}
        self._set(page, {name: {"$ifNull": [f"${name}", v]} for name, v in first.items()})
        return self._pages.find_one({"_id": page, "by": token}, {"_id": 1}) is not None

    def need(self, listing: str, shas: Collection[str]) -> None:
        """Note that units of a list are made of these parts, before they are stored."""
        parts = {"$setUnion": [array("$parts"), sorted(shas)]}
        self._set(f"{listing}:{_PARTS}", {"ids": [], "parts": parts})

    def numbers(self, listing: str) -> list[int]:
        """Return the numbers of the pages of a list."""
        return [_number(page) for page in self._read([listing])]

    def ids(self, listings: Sequence[str]) -> list[str]:
        """Return the ids on all pages of these lists, in order."""
        return [unit_id for page in self._read(listings) for unit_id in page.ids]

    def listed(self, listings: Sequence[str]) -> Listed:
        """Return the content of all pages of these lists, in order."""
        pages = self._read(listings)
        ids = list(dict.fromkeys(unit_id for page in pages for unit_id in page.ids))
        known = {key_of(unit_id)[:_SHORT]: unit_id for unit_id in ids}
        candidates = [_candidate(row, known) for page in pages for row in page.candidates]
        return Listed(ids, candidates, [event for page in pages for event in page.events])

    def events(self, listing: str) -> list[list[Any]]:
        """Return what was asked and told, in order."""
        return [event for page in self._read([listing]) for event in page.events]

    def invalid(self, listings: Sequence[str]) -> int:
        """Return how many pages of these lists could not be read."""
        if not listings:
            return 0
        query = {"$or": [pages_of(listing) for listing in listings], "state": INVALID}
        return len(self._pages.find(query, {"_id": 1}))

    def _read(self, listings: Sequence[str]) -> list[PageForm]:
        return self._sorted([pages_of(listing) for listing in listings])

    def _sorted(self, ranges: Sequence[Mapping[str, Any]]) -> list[PageForm]:
        found = self._pages.read(PageForm, {"$or": ranges}) if ranges else []
        return sorted(found, key=_number)

    def first_ids(self, whole: Collection[str], cut: Collection[str]) -> dict[str, list[str]]:
        """Return the ids of several lists by name, of some of them those of the first page."""
        ranges = [*map(pages_of, whole), *({"_id": f"{listing}:0"} for listing in cut)]
        found: dict[str, list[str]] = {listing: [] for listing in (*whole, *cut)}
        for page in self._sorted(ranges):
            found[listing_and_number(page.id)[0]] += page.ids
        return found

    def _set(self, page: str, fields: Mapping[str, Any]) -> None:
        self._pages.update(
            {"_id": page}, [{"$set": {"v": SCHEMA, **fields, "at": "$$NOW"}}, VALID], upsert=True
        )


def paged(
    unit_ids: Sequence[str], candidates: Sequence[Candidate]
) -> Iterator[tuple[Sequence[str], Sequence[Candidate]]]:
    """Cut units and candidates into pages."""
    return zip_longest(slices(unit_ids, IDS), _runs(candidates), fillvalue=())


def _runs(candidates: Sequence[Candidate]) -> Iterator[list[Candidate]]:
    """Cut candidates into runs of a bounded size."""
    run: list[Candidate] = []
    size = 0
    for candidate in candidates:
        own = len(candidate.text or "") + (_SHORT + 1) * len(candidate.units)
        if run and size + own > _TEXTS:
            yield run
            run, size = [], 0
        run.append(candidate)
        size += own
    if run:
        yield run


def _row(candidate: Candidate) -> Row:
    text = candidate.text
    keys = " ".join(key_of(unit_id)[:_SHORT] for unit_id in candidate.units)
    shown = [(storable(name), storable(value)) for name, value in candidate.shown.items()]
    return text if len(text or "") <= _LONGEST_TEXT else None, keys, shown, candidate.reason


def _candidate(row: Row, known: Mapping[str, str]) -> Candidate:
    text, keys, shown, reason = row
    return Candidate(text, tuple(known.get(key, "") for key in keys.split()), dict(shown), reason)


def _content(
    page: str,
    ids: Sequence[str],
    candidates: Sequence[Candidate] = (),
    events: Sequence[Any] = (),
) -> dict[str, Any]:
    """Return the fields of a page, for an update that is a pipeline."""
    listed, told = list(ids), list(events)
    rows = [_row(candidate) for candidate in candidates]
    checksum = checksum_of(page, listed, told, rows)
    fields = {"ids": listed, "candidates": rows, "events": told, "checksum": checksum}
    return {name: {"$literal": value} for name, value in fields.items()}


def _number(page: PageForm) -> int:
    return listing_and_number(page.id)[1]
