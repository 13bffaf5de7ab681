"""What a standalone worker is to score for: which database, which searches, in which order.

=====================  ==========================  ===========================================
told by                the database is             the searches are
=====================  ==========================  ===========================================
nothing                the private server          all
--db, $OPTOMATIC_DB    that                        all
a definition here      the definition's            the definition's, one after another
--definition FILE      the definition's            the definition's, one after another
both of the latter     that of --db, which must    the definition's, one after another
with --db              be the definition's
=====================  ==========================  ===========================================

``--search`` stands in place of whatever searches there are.  A definition that lies in the
directory counts only where no database is named, so that it never changes what a worker does
that was told where to work.
"""

from __future__ import annotations

import logging
import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from optomatic import definition as files
from optomatic.definition import Definition
from optomatic.errors import DefinitionError, masked

log = logging.getLogger("optomatic.worker")

#: Returns the names of searches, first come first served; asked again and again.
Names = Callable[[], Sequence[str]]


@dataclass(frozen=True, slots=True)
class Assignment:
    """Where to work, and for what; without names for whatever search there is."""

    db: str | None
    names: Names | None


def assignment_of(
    db: str | None, searches: Sequence[str], named: Path | None, *, folder: Path = Path()
) -> Assignment:
    """Return what a worker is to do.

    Parameters
    ----------
    db : str or None
        Address, from the command line or the environment.
    searches : sequence of str
        Names or ids; none if nothing is said of them.
    named : Path or None
        Definition that was asked for.
    folder : Path
        Where one may lie.

    Raises
    ------
    DefinitionError
        If a definition cannot be used, is not of `db`, or there are several.
    """
    path = named or _found_in(folder, db)
    chosen: Names | None = (lambda: searches) if searches else None
    if path is None:
        return Assignment(db, chosen)
    definition = files.read(path)
    address = _address(path, definition, db)
    told = "its database is used" if searches else f"its searches are {_listed(definition)}"
    log.info("search definition %s: %s", path, told)
    return Assignment(address, chosen or FromFile(path, definition))


class FromFile:
    """The names in a file, read again when it has changed."""

    def __init__(self, path: Path, definition: Definition) -> None:
        self._path = path
        self._definition = definition
        self._seen: object = None  # it may have changed since it was read

    def __call__(self) -> Sequence[str]:
        """Return the names; those of before, said once, while the file is no use."""
        state = _state(self._path)
        if state != self._seen:
            self._seen = state
            self._look()
        return self._definition.searches

    def _look(self) -> None:
        try:
            found = files.read(self._path)
        except DefinitionError as error:
            log.warning("%s The searches that stood there before are gone on with.", error)
            return
        if not files.same_place(found.db, self._definition.db):
            log.warning(
                "search definition %s is of another database now; the searches that stood there "
                "before are gone on with. Start the worker anew to follow it.",
                self._path,
            )
        elif found.searches != self._definition.searches:
            self._definition = found
            log.info("search definition %s: its searches are %s", self._path, _listed(found))


def _state(path: Path) -> object:
    """Return what is another after each change of a file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _found_in(folder: Path, db: str | None) -> Path | None:
    found = sorted(folder.glob(f"*{files.SUFFIX}"))
    if db is not None:
        for path in found:
            log.info(
                "search definition %s is not used, as a database is named; --definition %s uses it",
                *(path, _quoted(path)),
            )
        return None
    if len(found) > 1:
        names = _listed_names([path.name for path in found])
        first = _quoted(Path(found[0].name))
        raise DefinitionError(
            f"There are several search definitions here ({names}), and nothing says "
            f"which one is meant. Nothing was scored. Say it by --definition {first}, or name a "
            "database by --db for all of its searches."
        )
    return found[0] if found else None


def _address(path: Path, definition: Definition, db: str | None) -> str | None:
    if db is not None:
        if files.same_place(db, definition.db):
            return db
        own = masked(definition.db) if definition.db else "the private server of its machine"
        raise DefinitionError(
            f"The search definition {path} is of another database ({own}) than --db or "
            f"$OPTOMATIC_DB names ({masked(db)}). Nothing was scored. Leave one of them out."
        )
    if not files.is_whole(definition.db):
        raise DefinitionError(
            f"The address in {path} ({masked(definition.db)}) is without its credentials, as these "
            "are never written down. Nothing was scored. Give the whole address in OPTOMATIC_DB: "
            f'python -m optomatic.worker --db "$OPTOMATIC_DB" --definition {_quoted(path)}'
        )
    return definition.db


def _quoted(path: Path) -> str:
    text = os.fspath(path)
    # A word that begins with a hyphen is taken for an option.
    return shlex.quote(f"./{text}" if text.startswith("-") else text)


def _listed(definition: Definition) -> str:
    return _listed_names(definition.searches)


def _listed_names(names: Sequence[str]) -> str:
    return ", ".join(names) or "none yet"
