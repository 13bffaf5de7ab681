"""A search enters its definition file, from which workers learn of it."""

from __future__ import annotations

import getpass
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from optomatic import _config
from optomatic import definition as files
from optomatic.candidates.grids import shown_space
from optomatic.errors import LONGEST_NAME, DefinitionError, StoreError, shown
from optomatic.keys.environment import required_versions
from optomatic.records import SearchRecord, TaskSignature
from optomatic.store.connection import open_store
from optomatic.store.workers import this_process
from optomatic.worker.host import inside_worker


def define(definition: str | os.PathLike[str] | None, name: str | None, db: str | None) -> None:
    """Write a search into its definition file, if it is to stand in one.

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
        files.add(path, name, _config.setting(_config.DB) if db is None else db)


def check_name(name: object) -> None:
    """Raise TypeError or ValueError if `name` is no string, or too long for a search."""
    if name is not None and not isinstance(name, str):
        raise TypeError(f"name is a string, not {shown(name)}. Nothing was queued.")
    if name is not None and len(name) > LONGEST_NAME:
        raise ValueError(
            f"name has {len(name):,} characters ({shown(name[:40])}...), and a search's name has "
            f"at most {LONGEST_NAME:,}. Nothing was queued. Choose a shorter one."
        )


def record_best(db: str | None, search: str, index: int, score: float | None, metric: str) -> None:
    """Note which candidate a search has chosen; `index` is its row in the table.

    Without that note the choice is told from the table, but for the choice of a function.
    """
    if inside_worker():
        return
    best = {
        "index": int(index),
        "score": None if score is None else float(score),
        "metric": metric,
    }
    with suppress(StoreError), open_store(db) as store:
        store.searches.note_best(search, best)


def new_record(
    name: str | None,
    kind: str,
    *,
    estimator: str,
    space: Any,
    scoring: str,
    n_candidates: int,
    n_splits: int,
    signature: TaskSignature | None = None,
    ingredients: Mapping[str, Any] | None = None,
    facts: Mapping[str, Any] | None = None,
    part_of: str | None = None,
    more: Mapping[str, Any] | None = None,
) -> SearchRecord:
    """Return the record of a search of this process, with a random id.

    Without a `name` it is `kind` and the beginning of the id.  `n_candidates` is 0 if it is not
    known yet.  By `signature` later searches find scores to learn from; `ingredients` are digests
    of what keys are made of; `facts` say how its table is made.  An iteration of successive halving
    is `part_of` the search of the first one, and has `more` columns.
    """
    search = secrets.token_hex(12)
    return SearchRecord(
        id=search,
        name=name or f"{kind}-{search[:6]}",
        estimator=estimator,
        space=shown_space(space),
        scoring=scoring,
        n_candidates=n_candidates,
        n_splits=n_splits,
        env=required_versions({}),
        process=this_process(),
        signature=signature,
        ingredients=ingredients or {},
        facts=facts or {},
        part_of=part_of,
        more=more or {},
        user=_user(),
    )


def _user() -> str:
    """Return the name of the user, empty where this process has none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return ""
