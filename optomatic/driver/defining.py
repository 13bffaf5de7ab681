"""A search enters its definition file, from which workers learn of it."""

from __future__ import annotations

import os

from optomatic import definition as files
from optomatic.errors import DefinitionError
from optomatic.store.opening import DB_VARIABLE, open_store
from optomatic.worker.machine import inside_worker


def define(definition: str | os.PathLike[str] | None, name: str | None, db: str | None) -> None:
    """Write a search into its definition file, if it is to stand in one.

    Parameters
    ----------
    definition : path or None
    name : str or None
        Of the search.
    db : str or None
        As the user gives it.

    Raises
    ------
    DefinitionError
        If the search has no name, or the file cannot be used or is of another database.
    StoreError
        If the database cannot be used: an address with a slip is not written down.
    """
    if definition is None or inside_worker():
        return
    path = files.path_of(definition)
    if not name:
        raise DefinitionError(
            f"A search that is to stand in {path} needs a name: by it workers know the search, "
            "and it stands there once, however often the driver runs. Nothing was queued. Give "
            "name=, such as name='trees'."
        )
    with open_store(db):
        files.add(path, name, os.environ.get(DB_VARIABLE) if db is None else db)
