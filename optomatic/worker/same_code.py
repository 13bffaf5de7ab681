"""In the child: whether the code that is imported here is that of the process which asks.

What a pickle names is imported, as loading it would do so anyway, and compared before anything
is scored.  A module that code imports as it runs, if it does so at all, is compared once it is
loaded: before the score is handed in.  To import it for comparing could do anything.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import types

from optomatic.plan.own_code.anatomy import is_own
from optomatic.plan.own_code.survey import differs

#: So many names are said.
_NAMES = 3


class Files:
    """What the files of the modules of one's own were like when these were imported here."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, int]] = {}

    def note(self) -> None:
        """Look at those that were imported since the last time."""
        for name, module in [*sys.modules.items()]:
            if name not in self._seen and is_own(name):
                now = _look(module)
                if now is not None:
                    self._seen[name] = now

    def changed(self, name: str) -> bool:
        """Tell whether the file of a module is another by now."""
        then = self._seen.get(name)
        return then is not None and _look(sys.modules.get(name)) != then


def _look(module: object) -> tuple[int, int] | None:
    file = getattr(module, "__file__", None)
    try:
        found = os.stat(file) if isinstance(file, str) else None
    except OSError:
        return None
    return None if found is None else (found.st_mtime_ns, found.st_size)


class Refused(Exception):
    """What is to be scored cannot be had here as it is meant, so nothing is scored.

    Attributes
    ----------
    why : str
        What is missing or differs.
    error : ImportError or None
        What loading raised, where all code that was compared is the same.
    behind : bool
        A file was edited since it was imported here, so a new process will do better.
    """

    def __init__(self, why: str, error: ImportError | None = None, *, behind: bool = False) -> None:
        super().__init__(why)
        self.why = why
        self.error = error
        self.behind = behind


def check_code(text: str, files: Files) -> dict[str, str]:
    """Compare the code here with what :func:`~optomatic.plan.own_code.survey.code_text` wrote.

    Returns
    -------
    dict of str to str
        What is of modules that are not loaded yet, for :func:`check_loaded`.

    Raises
    ------
    Refused
        If a module cannot be imported, or has other code.
    """
    wanted: dict[str, str] = json.loads(text)
    try:
        for key in wanted:
            if key.endswith(":"):
                _import(key.removesuffix(":"))
    finally:
        files.note()
    check_loaded(wanted, files)
    return wanted


def check_loaded(wanted: dict[str, str], files: Files) -> None:
    """Compare what is of modules that are loaded by now, and strike it off `wanted`.

    Raises
    ------
    Refused
        If a module has other code.
    """
    loaded = [key for key in wanted if key.partition(":")[0] in sys.modules]
    if loaded:
        files.note()
        _compare({key: wanted.pop(key) for key in loaded}, files)


#: What was compared in this process, where others than our own workers score, with what is left
#: to be compared.
_same: dict[str, dict[str, str]] = {}
_files = Files()


def check_code_once(text: str) -> None:
    """Compare as :func:`check_code` does, each thing once in the life of this process."""
    if text in _same:
        check_loaded(_same[text], _files)
    else:
        _same[text] = check_code(text, _files)


def _compare(wanted: dict[str, str], files: Files) -> None:
    found = {key: _differs(key, digest) for key, digest in wanted.items()}
    if others := [key for key, other in found.items() if other]:
        raise Refused(_other_code(others))
    for key in (key for key, other in found.items() if other is None):
        if files.changed(module := key.partition(":")[0]):
            raise Refused(f"{module} was edited since it was imported here", behind=True)


def _import(name: str) -> None:
    """Import a module that is needed: the process that asks has done so."""
    try:
        importlib.import_module(name)
    # Whatever another version of it, or a half-saved one, raises.
    except (Exception, SystemExit) as error:
        raise Refused(missing(error, name)) from error


def missing(error: BaseException, module: str | None = None) -> str:
    """Say that something cannot be imported."""
    what = module or getattr(error, "name", None) or "what it needs"
    return f"{what} cannot be imported ({type(error).__name__}: {error})"


def _differs(key: str, digest: str) -> bool | None:
    module, _, name = key.partition(":")
    found = sys.modules.get(module) if digest else None
    try:
        return False if not isinstance(found, types.ModuleType) else differs(found, name, digest)
    except Exception:  # of objects that raise when they are looked at; only what is sure counts
        return False


def _other_code(keys: list[str]) -> str:
    module = keys[0].partition(":")[0]
    names = ", ".join(_said(key) for key in keys[:_NAMES])
    more = f" and {len(keys) - _NAMES} more" if len(keys) > _NAMES else ""
    file = getattr(sys.modules[module], "__file__", None) or module
    return f"{names}{more} is other code here (in {file})"


def _said(key: str) -> str:
    name, _, maker = key.replace(":", ".").partition("@")
    return f"{name} (decorated by {maker})" if maker else name
