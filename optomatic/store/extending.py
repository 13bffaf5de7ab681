"""What is added to a search from elsewhere, while its client may be there or not.

It is listed with the units of the search, and waits under an id of its own: the client of the
search, which knows nothing of it, goes on to score and to await what it has asked for itself.
Its pages are in the search's own list, from 10**9 on: those of the client come before.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Sequence
from dataclasses import asdict
from typing import Any

from optomatic.records import SCHEMA, Candidate, Recipe, Work
from optomatic.store.forms import Misfit, RecipeForm, checksum_of, read
from optomatic.store.listings import Listed, Listings, listings_of, paged
from optomatic.store.patient import Patient

_FIRST_PAGE = 10**9


def added_to(search: str) -> str:
    """Return the id under which units wait that were added to `search`."""
    return f"{search}+"


def search_of(waiting: str) -> str:
    """Return the search whose units wait under an id."""
    return waiting.removesuffix(added_to(""))


def ids_that_wait(search: str) -> list[str]:
    """Return the ids under which units of `search` may wait."""
    return [search, added_to(search)]


class Extending:
    """Calls that make a search wider.  Every call may be repeated."""

    def __init__(self, searches: Patient, pages: Patient) -> None:
        self._searches = searches
        self._listings = Listings(pages)

    def need(self, listing: str, shas: Collection[str]) -> None:
        """Note that units of a list are made of these parts, before they are stored."""
        self._listings.need(listing, shas)

    def unit_ids(self, search: str) -> list[str]:
        """Return the ids of the units that `search` asks for, in the order of its candidates."""
        record = self._searches.find_one({"_id": search}, {"listing": 1})
        return self._listings.ids(listings_of(record)) if record else []

    def listed(self, search: str) -> Listed:
        """Return what `search` asks for: units, candidates, events."""
        record = self._searches.find_one({"_id": search}, {"listing": 1})
        return self._listings.listed(listings_of(record)) if record else Listed([], [], [])

    def invalid_lists(self, search: str) -> int:
        """Return how many lists of units of `search` could not be read."""
        record = self._searches.find_one({"_id": search}, {"listing": 1})
        return self._listings.invalid(listings_of(record)) if record else 0

    def note_asked(self, search: str, asked: Recipe | None) -> None:
        """Note what more units of `search` can be made of, if that can be written down."""
        if asked is not None:
            change = {"$set": {"asked": asked_document(asked)}}
            self._searches.update({"_id": search}, [change])

    def asked(self, search: str) -> Recipe | None:
        """Return what :meth:`note_asked` wrote, None if there is nothing."""
        found = self._searches.find_one({"_id": search, "v": SCHEMA}, {"asked": 1}) or {}
        try:
            return _asked(read(RecipeForm, found.get("asked") or {}))
        except Misfit:
            return None

    def add(self, search: str, candidates: Sequence[Candidate], *, goes_on: bool) -> None:
        """Note that `search` asks for more candidates, whoever else adds some at the same time.

        Parameters
        ----------
        goes_on : bool
            Some of them have no score yet: the search is running (again).
        """
        token = secrets.token_hex(8)
        number = max(_FIRST_PAGE, *(n + 1 for n in self._listings.numbers(search)), 0)
        unit_ids = list(dict.fromkeys(i for candidate in candidates for i in candidate.units))
        for ids, some in paged(unit_ids, candidates):
            while not self._listings.take(search, number, ids, some, token):
                number += 1
            number += 1
        # Counted after the writing: of several at once the one who saw the most is right.
        n_units = len(set(self.unit_ids(search)))
        counts = {name: {"$max": [f"${name}", n_units]} for name in ("n_units", "n_candidates")}
        self._searches.update(
            {"_id": search}, [{"$set": {**counts, **(_AGAIN if goes_on else {})}}]
        )

    def go_on(self, search: str) -> None:
        """Note that units of `search` wait again, which nobody awaits."""
        self._searches.update({"_id": search}, [{"$set": _AGAIN}])


#: A search that goes on.  Nobody waits for a client that has ended.
_AGAIN: dict[str, Any] = {
    "state": "running",
    "extended": True,
    "ended_at": None,
    "seen_at": {"$cond": [{"$eq": ["$state", "running"]}, "$seen_at", None]},
}


def asked_document(asked: Recipe | None) -> dict[str, Any]:
    """Return the stored form, for an update that is a pipeline."""
    if asked is None:
        return {"$literal": None}
    work = asdict(asked.work)
    # A name of a distribution may hold what a field's name must not.
    work["env"] = [list(pair) for pair in sorted(asked.work.env.items())]
    environment = [list(pair) for pair in sorted(asked.environment.items())]
    checksum = checksum_of(asked.key, work, environment)
    own = {"key": asked.key, "work": work, "environment": environment, "checksum": checksum}
    return {"$literal": own}


def _asked(recipe: RecipeForm) -> Recipe:
    work = recipe.work
    env, requires = dict(work["env"]), tuple(work["requires"])
    whole = Work(**{**work, "env": env, "requires": requires})
    return Recipe(recipe.key, whole, dict(recipe.environment))
