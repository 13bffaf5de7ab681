"""What is added to a search from elsewhere, while its client may be there or not.

It is listed with the units of the search, and waits under an id of its own: the client of the
search, which knows nothing of it, goes on to score and to await what it has asked for itself.

::

    search_units  {_id: "<search>:<n>", ..., by}    n from 10**9 on: pages of the client come before
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from optomatic.records import SCHEMA, Recipe, Work
from optomatic.store.forms import Misfit, PageForm, RecipeForm, checksum_of, read
from optomatic.store.patient import Patient
from optomatic.store.submitting import slices

#: Ids in one document: 100 bytes each.
IDS = 20_000
_FIRST_PAGE = 10**9


def added_to(search: str) -> str:
    """Return the id under which units wait that were added to `search`."""
    return f"{search}+"


def ids_that_wait(search: str) -> list[str]:
    """Return the ids under which units of `search` may wait."""
    return [search, added_to(search)]


def number_of(page: PageForm) -> int:
    """Return the place of a page among those of its search."""
    return int(page.id.rpartition(":")[2])


def pages_of(search: str) -> dict[str, Any]:
    """Return the query for the pages of `search`, which the index of ids serves."""
    return {"_id": {"$gte": f"{search}:", "$lt": f"{search};"}}  # ";" comes right after ":"


class Extending:
    """Calls that make a search wider.  Every call may be repeated."""

    def __init__(self, searches: Patient, units: Patient) -> None:
        self._searches = searches
        self._units = units

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

    def add(self, search: str, unit_ids: Sequence[str], *, goes_on: bool) -> None:
        """Note that `search` asks for more units, whoever else adds some at the same time.

        Parameters
        ----------
        goes_on : bool
            Some of them have no score yet: the search is running (again).
        """
        token, number = secrets.token_hex(8), self._next_page(search)
        for ids in slices(unit_ids, IDS):
            while not self._takes(search, number, ids, token):
                number += 1
            number += 1
        # Counted after the writing: of several at once the one who saw the most is right.
        pages = self._units.read(PageForm, pages_of(search))
        n_units = len({unit_id for page in pages for unit_id in page.ids})
        counts = {name: {"$max": [f"${name}", n_units]} for name in ("n_units", "n_candidates")}
        self._searches.update(
            {"_id": search}, [{"$set": {**counts, **(_AGAIN if goes_on else {})}}]
        )

    def _next_page(self, search: str) -> int:
        pages = self._units.read(PageForm, pages_of(search))
        return max(_FIRST_PAGE, *(number_of(page) + 1 for page in pages), 0)

    def _takes(self, search: str, number: int, ids: Sequence[str], token: str) -> bool:
        """Write a page, and tell whether nobody else had that number."""
        page = f"{search}:{number}"
        self._units.insert([{**page_document(search, number, ids), "by": token}])
        return self._units.find_one({"_id": page, "by": token}, {"_id": 1}) is not None


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


def page_document(
    search: str, number: int, ids: Sequence[str], events: Sequence[Sequence[Any]] = ()
) -> dict[str, Any]:
    """Return the document of a page."""
    name, listed, told = f"{search}:{number}", list(ids), [list(event) for event in events]
    own = {"_id": name, "v": SCHEMA, "search": search, "ids": listed, "events": told}
    return {**own, "checksum": checksum_of(name, search, listed, told)}
