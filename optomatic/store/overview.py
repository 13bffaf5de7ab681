"""What there is in a store and what is going on, for people: read only, in a few queries.

What does not have its form is left as it is, and missing: who looks may have no right to write.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any, TypeVar

from msgspec import field
from pymongo.database import Database

from optomatic.records import SCHEMA, Process
from optomatic.store.extending import added_to
from optomatic.store.faults import Outage
from optomatic.store.forms import INVALID, Form, Misfit, WorkerForm, fields_of, read
from optomatic.store.listings import listing_and_number, listings_of, pages_of
from optomatic.store.patient import Document, Patient
from optomatic.store.submitting import slices

F = TypeVar("F", bound=Form)

#: Units whose lists are read to count failures; of further searches they are not known.
_MOST_UNITS = 200_000
_MOST_SHOWN = 10_000


class ListedForm(Form):
    """A search as a list shows it."""

    id: str = field(name="_id")
    name: str
    state: str
    n_units: int
    began_at: datetime
    seen_at: datetime | None
    ended_at: datetime | None
    process: Process
    estimator: str = ""
    summary: dict[str, Any] | None = None
    best: dict[str, Any] | None = None
    user: str = ""
    listing: str | None = None
    part_of: str | None = None


class PresentForm(WorkerForm, kw_only=True):
    """A worker, and when it was there."""

    began_at: datetime
    seen_at: datetime


class RunningForm(Form):
    """A unit that is being scored, or a call of joblib that runs."""

    id: str = field(name="_id")
    kind: str
    params: dict[str, Any]
    spec: dict[str, Any]
    wanted_by: list[str]
    worker: str | None
    claimed_at: datetime
    attempt: int
    host: str | None = None
    started_at: datetime | None = None


class Overview:
    """Calls that only read.  Safe to share among threads."""

    def __init__(self, database: Database[dict[str, Any]], outage: Outage | None = None) -> None:
        self._searches = Patient(database["searches"], outage)
        self._pages = Patient(database["search_units"], outage)
        self._units = Patient(database["units"], outage)
        self._workers = Patient(database["workers"], outage)

    def searches(self) -> list[ListedForm]:
        """Return all searches, the latest first."""
        fields = fields_of(ListedForm)
        found = self._searches.find({"v": SCHEMA}, fields, sort=[("began_at", -1)])
        return _formed(ListedForm, found)

    def names(self, limit: int = 0) -> list[tuple[str, str]]:
        """Return id and name of searches, the latest first."""
        how: dict[str, Any] = {"sort": [("began_at", -1)], "limit": limit}
        found = self._searches.find({"v": SCHEMA}, {"name": 1}, **how)
        return [(str(one["_id"]), str(one.get("name", ""))) for one in found]

    def names_of(self, searches: Collection[str]) -> dict[str, str]:
        """Return the names of searches, by id."""
        found = self._searches.find({"_id": {"$in": [*searches]}}, {"name": 1})
        return {one["_id"]: str(one.get("name", "")) for one in found}

    def waiting(self, searches: Sequence[str]) -> Counter[str]:
        """Return how many units each of `searches` waits for, in one query."""
        origin = {waits_as: s for s in searches for waits_as in (s, added_to(s))}
        wanted = {"wanted_by": {"$in": list(origin)}}
        pipeline: list[dict[str, Any]] = [
            {"$match": {**wanted, "state": {"$in": ["queued", "running"]}}},
            {"$project": {"_id": 0, "wanted_by": 1}},
            {"$unwind": "$wanted_by"},
            {"$group": {"_id": "$wanted_by", "n": {"$sum": 1}}},
        ]
        counts: Counter[str] = Counter()
        for found in self._units.aggregate(pipeline) if searches else ():
            if found["_id"] in origin:
                counts[origin[found["_id"]]] += found["n"]
        return counts

    def without_score(self, searches: Sequence[ListedForm]) -> dict[str, Counter[str]]:
        """Return how many units of each of `searches` have ended without a score, by state.

        Of searches beyond the first 200,000 units nothing is returned.
        """
        # No unit that has ended is wanted by anybody: an index finds those.
        states = ["failed", "dead", "cancelled", INVALID]
        unwanted = {"wanted_by": [], "state": {"$in": states}, "kind": {"$ne": "call"}}
        ended = {d["_id"]: d["state"] for d in self._units.find(unwanted, {"state": 1})}
        if not ended:
            return {search.id: Counter() for search in searches}
        counted = list(_up_to(_MOST_UNITS, searches))
        names = {s.id: listings_of({"_id": s.id, "listing": s.listing}) for s in counted}
        ids = self._ids_of({listing for listings in names.values() for listing in listings})
        return {
            search: Counter(
                ended[unit_id]
                for unit_id in {i for name in listings for i in ids.get(name, ())}
                if unit_id in ended
            )
            for search, listings in names.items()
        }

    def _ids_of(self, listings: Collection[str]) -> dict[str, list[str]]:
        """Return the ids of units of lists."""
        ids: dict[str, list[str]] = {}
        for some in slices(sorted(listings)):
            query = {"$or": [pages_of(listing) for listing in some], "state": {"$ne": INVALID}}
            for page in self._pages.find(query, {"ids": 1}):
                listing, _ = listing_and_number(page["_id"])
                own = page.get("ids")
                ids.setdefault(listing, []).extend(own if isinstance(own, list) else ())
        return ids

    def running(self) -> list[RunningForm]:
        """Return what is being scored, what began first at the top."""
        query = {"state": "running", "started": True, "lease_until": {"$type": "date"}, "v": SCHEMA}
        how: dict[str, Any] = {"sort": [("claimed_at", 1)], "limit": _MOST_SHOWN}
        return _formed(RunningForm, self._units.find(query, fields_of(RunningForm), **how))

    def held(self) -> Counter[str]:
        """Return how many units each worker is at."""
        query = {"state": "running", "started": True, "lease_until": {"$type": "date"}}
        by_worker = {"$group": {"_id": "$worker", "n": {"$sum": 1}}}
        found = self._units.aggregate([{"$match": query}, by_worker])
        return Counter({str(one["_id"]): one["n"] for one in found})

    def workers(self, seconds: float) -> list[PresentForm]:
        """Return who was seen in the last `seconds`, by the server's clock."""
        recent = {"$gt": ["$seen_at", {"$subtract": ["$$NOW", round(1000 * seconds)]}]}
        query = {"v": SCHEMA, "$expr": recent}
        found = self._workers.find(query, fields_of(PresentForm), sort=[("began_at", 1)])
        return _formed(PresentForm, found)

    def made_of(self, ids: Sequence[str]) -> tuple[set[str], set[str]]:
        """Return the parts that units are made of, and the lanes that they are queued in."""
        parts: set[str] = set()
        lanes: set[str] = set()
        for some in slices(ids):
            for unit in self._units.find({"_id": {"$in": list(some)}}, {"spec": 1, "lane": 1}):
                spec = {k: v for k, v in unit["spec"].items() if k not in ("split", "env")}
                parts |= {sha for sha in spec.values() if sha is not None}
                lanes.add(unit["lane"])
        return parts, lanes


def _formed(form: type[F], documents: Iterable[Document]) -> list[F]:
    found = []
    for document in documents:
        try:
            found.append(read(form, document))
        except Misfit:
            continue
    return found


def _up_to(most: int, searches: Iterable[ListedForm]) -> Iterable[ListedForm]:
    """Yield `searches` as long as they have no more than `most` units together."""
    for search in searches:
        most -= search.n_units
        if most < 0:
            return
        yield search
