"""Where a store is, for people."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

from optomatic.definition import hosts_and_database
from optomatic.errors import masked


def private_home(uri: str) -> Path | None:
    """Return the folder that ``$OPTOMATIC_HOME`` names for the private server at `uri`.

    None says that `uri` is no address of a private server.
    """
    if "%2F" not in uri:
        return None
    from optomatic.store.embedded import folder_of  # only who has a private server imports it

    folder = folder_of(uri)
    return None if folder is None else folder.parent


def place_of(uri: str) -> str:
    """Return where a store is, without credentials.

    >>> place_of("mongodb://ann:secret@host/iris?w=1")
    'database iris at host:27017'
    """
    home = private_home(uri)
    if home is not None:
        return f"private server in {short(home)}"
    hosts, database = hosts_and_database(masked(uri))
    return f"database {unquote(database)} at {','.join(unquote(host) for host in hosts)}"


def short(path: Path) -> str:
    """Return a path as people write it, from their home folder on."""
    try:
        return f"~/{path.relative_to(Path.home().resolve())}"
    except (ValueError, RuntimeError):  # it lies elsewhere; there is no home
        return str(path)
