"""Names of searches on the command line: completed, and suggested where they are misspelt."""

from __future__ import annotations

import difflib
import os
import re
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from optomatic import _config
from optomatic.commands.bash_words import in_bash
from optomatic.commands.ending import NO_SEARCH, refuse
from optomatic.errors import shown

if TYPE_CHECKING:
    from optomatic.search.attached import AttachedSearch


#: Who presses the tab key is not kept waiting for longer, in seconds.
_PATIENCE = 2.0
_MOST_OFFERED = 1_000
#: What any shell takes as it is, and what bash takes quoted.  Of other names the id is offered.
_PLAIN, _PLAIN_IN_BASH = re.compile(r"[\w.@%+=,/-]+"), re.compile(r"[^\n\r\t'\"\\*?\[]+")


def find(name: str, db: str | None) -> AttachedSearch:
    """Return a search by its name or id.

    Raises
    ------
    Refused
        If there is none, with the names that are like it.
    """
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
        found = store.overview.names()
    return list(dict.fromkeys([*(name for _, name in found), *(own for own, _ in found)]))


def complete(ctx: Any, incomplete: str) -> list[str]:
    """Return what may be meant by the beginning of a name; nothing if the store is away."""
    found: list[str] = []

    def look() -> None:
        try:
            db = ctx.params.get("db")  # as typed: the shell has not replaced variables
            found.extend(_offered(db and os.path.expandvars(db), incomplete))
        except Exception:  # a shell that completes a word has no use for a reason
            return

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    looking.join(_PATIENCE)
    return found


def _offered(db: str | None, incomplete: str) -> list[str]:
    from optomatic.store.connection import open_store

    if db is None and _config.setting(_config.DB) is None and not _private_server_runs():
        return []
    with open_store(db) as store:
        searches = store.overview.names(_MOST_OFFERED)
    plain = _PLAIN_IN_BASH if in_bash(os.environ) else _PLAIN
    names = dict.fromkeys(name if plain.fullmatch(name) else own for own, name in searches)
    starting = [name for name in names if name.startswith(incomplete)]
    return starting or [own for own, _ in searches if incomplete and own.startswith(incomplete)]


def _private_server_runs() -> bool:
    from optomatic.embedded.server import runs

    return runs()
