"""Arguments that several verbs have, and the search that one names."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from optomatic.commands.completion import complete
from optomatic.commands.exits import NO_SEARCH, refuse
from optomatic.errors import shown

if TYPE_CHECKING:
    from optomatic.search.attached import AttachedSearch

Db = Annotated[
    str | None,
    typer.Option(
        "--db",
        metavar="URI",
        show_default=False,
        help="the database: mongodb://host/name (default: $OPTOMATIC_DB, else the private server)",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="print JSON, whole and for programs")]
Search = Annotated[
    str, typer.Argument(metavar="SEARCH", help="name or id of a search", autocompletion=complete)
]
Searches = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="SEARCH", help="names or ids", autocompletion=complete, show_default=False
    ),
]


def find(name: str, db: str | None) -> AttachedSearch:
    """Return a search by its name or id; refuse with similar names if there is none."""
    from optomatic.search.attached import attach

    try:
        return attach(name, db=db)
    except ValueError as error:
        if not str(error).startswith("There is no search"):
            raise
    return refuse(_no_search(name, _names(db)), NO_SEARCH)


def _no_search(name: str, names: Sequence[str]) -> str:
    like = difflib.get_close_matches(name, names, n=3)
    if like:
        return f"no search {shown(name)}; did you mean {' or '.join(map(repr, like))}?"
    if not names:
        return f"no search {shown(name)}: there is none in this database. Look at --db."
    return f"no search {shown(name)}. See: optomatic list"


def _names(db: str | None) -> list[str]:
    """Return the names of searches, each once, the latest first, and then their ids."""
    from optomatic.store.connection import open_store

    with open_store(db) as store:
        found = store.inventory.names()
    return list(dict.fromkeys([*(name for _, name in found), *(own for own, _ in found)]))
