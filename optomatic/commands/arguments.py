"""Arguments that several verbs have, the search that one names, and names completed in shells."""

from __future__ import annotations

import difflib
import io
import os
import re
import sys
import threading
from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Annotated, Any

import typer

from optomatic import _config
from optomatic.commands.exits import NO_SEARCH, refuse
from optomatic.errors import shown

if TYPE_CHECKING:
    from optomatic.search.attached import AttachedSearch

#: Seconds after which a completion gives up.
_PATIENCE = 2.0
_MOST_OFFERED = 1_000
#: Names that any shell takes as they are, and that bash takes quoted.  Else the id is offered.
_PLAIN, _PLAIN_IN_BASH = re.compile(r"[\w.@%+=,/-]+"), re.compile(r"[^\n\r\t'\"\\*?\[]+")


def complete(ctx: Any, incomplete: str) -> list[str]:
    """Return names that begin like this; none if the store is away."""
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
        searches = store.searches.names(_MOST_OFFERED)
    plain = _PLAIN_IN_BASH if in_bash(os.environ) else _PLAIN
    names = dict.fromkeys(name if plain.fullmatch(name) else own for own, name in searches)
    starting = [name for name in names if name.startswith(incomplete)]
    return starting or [own for own, _ in searches if incomplete and own.startswith(incomplete)]


def _private_server_runs() -> bool:
    from optomatic.embedded.server import runs

    return runs()


# bash takes a word apart at ``:`` and ``=``, as addresses and names have them.
_WORDS, _PLACE = "COMP_WORDS", "COMP_CWORD"


@contextmanager
def put_together(environ: MutableMapping[str, str]) -> Iterator[None]:
    """Put together the words of a line that bash completes, and answer as it needs it."""
    if not in_bash(environ):
        yield
        return
    before, typed = _glue(environ)
    names = io.StringIO()
    try:
        with redirect_stdout(names):
            yield
    finally:
        for name in names.getvalue().split("\n"):
            rest = name.removeprefix(before)
            quoted = typed[:1] in ("'", '"')  # bash closes the quotes
            sys.stdout.write((rest if quoted else _escaped(rest)) + "\n" if name else "")


def in_bash(environ: MutableMapping[str, str]) -> bool:
    """Return whether bash asks how a word goes on."""
    return _config.setting(_config.COMPLETE, environ) == "complete_bash"


def _glue(environ: MutableMapping[str, str]) -> tuple[str, str]:
    """Return what of the word stands before the part that bash replaces, and that part."""
    parts, place = environ[_WORDS].split("\n"), int(environ[_PLACE])
    words: list[str] = []
    before = typed = ""
    at, after_sign = place, False
    for n, part in enumerate(parts):
        sign = bool(part) and set(part) <= set(":=")
        glued = len(words) > 1 and (sign or after_sign)
        start = words.pop() if glued else ""
        if n == place:
            before, typed, at = (
                (start + part, "", len(words)) if sign else (start, part, len(words))
            )
        words.append(start + part)
        after_sign = sign
    environ[_WORDS], environ[_PLACE] = "\n".join(words), str(at)
    return re.sub(r"\\(.)", r"\1", before), typed


def _escaped(word: str) -> str:
    return re.sub(r"([^\w.@%+,/-])", r"\\\1", word)


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
        found = store.searches.names()
    return list(dict.fromkeys([*(name for _, name in found), *(own for own, _ in found)]))
