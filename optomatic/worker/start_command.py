"""The command that starts a worker, as warnings and errors print it: it is there to be pasted."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Mapping
from ipaddress import ip_address

from optomatic.definition import hosts_and_database
from optomatic.errors import WITHHELD
from optomatic.store.opening import DB_VARIABLE
from optomatic.store.place import private_home

_WORKER = "python -m optomatic.worker"


def start_command(
    uri: str, requires: Iterable[str] = (), environ: Mapping[str, str] = os.environ
) -> str:
    """Return the command that starts a worker on a store, for bash and zsh.

    Parameters
    ----------
    uri : str
        As :attr:`~optomatic.store.opening.Store.shown_uri`: without credentials.
    requires : iterable of str
        Tags that the worker needs.
    environ : mapping
        Of the process that waits for workers.
    """
    tags = [_tag(tag) for tag in sorted(set(requires))]
    return " ".join([*_home(uri, environ), _WORKER, *_db(uri, environ), *tags])


def start_advice(
    uri: str, requires: Iterable[str] = (), environ: Mapping[str, str] = os.environ
) -> str:
    """Return by whom and where a worker can be started, and the command on its own line."""
    command = start_command(uri, requires, environ)
    said = f"{_where(uri)} with:\n\n    {command}\n\n"
    if WITHHELD in uri:
        said += f"where {DB_VARIABLE} holds the whole address ({uri}). "
    return said


def _tag(tag: str) -> str:
    return f"--tag{'=' if tag.startswith('-') else ' '}{shlex.quote(tag)}"


def _home(uri: str, environ: Mapping[str, str]) -> list[str]:
    """Return the assignment that leads to the private server, if it is not the default one."""
    home = private_home(uri)
    if home is None or DB_VARIABLE in environ:
        return []
    from optomatic.store.embedded import default_home

    # Neither variable of this process is known to be set where the command is pasted.
    default = default_home({}).resolve()
    return [] if home == default else [f"OPTOMATIC_HOME={shlex.quote(str(home))}"]


def _db(uri: str, environ: Mapping[str, str]) -> list[str]:
    if WITHHELD in uri:
        return [f'--db "${DB_VARIABLE}"']
    # Where the variable names another database, a worker without --db would go there.
    if private_home(uri) is not None and DB_VARIABLE not in environ:
        return []
    return [f"--db {shlex.quote(uri)}"]


def _where(uri: str) -> str:
    if private_home(uri) is not None:
        return "as this user on this machine, as nobody else can reach the private server,"
    hosts, _ = hosts_and_database(uri)
    if all(_is_here(host) for host in hosts):
        return "on this machine"
    return "on any machine that reaches the database"


def _is_here(host: str) -> bool:
    """Return whether a host is this machine for whoever asks: a loopback address or a socket."""
    name = host.rpartition(":")[0].strip("[]") or host
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return name == "localhost" or "%2F" in host
