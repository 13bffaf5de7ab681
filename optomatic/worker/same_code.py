"""In the child: whether the code that is imported here is that of the process which asks."""

from __future__ import annotations

import importlib
import json
import types

from optomatic.plan.own_code import differs

#: So many names are said.
_NAMES = 3


class Refused(Exception):
    """What is to be scored cannot be had here as it is meant, so nothing is scored.

    Attributes
    ----------
    why : str
        What is missing or differs.
    error : ImportError or None
        What loading raised, where all code that was compared is the same.
    """

    def __init__(self, why: str, error: ImportError | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.error = error


def check_code(text: str) -> None:
    """Compare the code here with what :func:`~optomatic.plan.own_code.code_text` wrote.

    Raises
    ------
    Refused
        If a module cannot be imported, or has other code.
    """
    wanted: dict[str, str] = json.loads(text)
    for key in wanted:
        if key.endswith(":"):
            _import(key.removesuffix(":"))
    others = [key for key, digest in wanted.items() if _differs(key, digest)]
    if others:
        raise Refused(_other_code(others))


def _import(name: str) -> None:
    """Import a module that is needed: the process that asks has done so."""
    try:
        importlib.import_module(name)
    except Exception as error:  # whatever another version of it, or a half-saved one, raises
        raise Refused(missing(error, name)) from error


def missing(error: Exception, module: str | None = None) -> str:
    """Say that something cannot be imported."""
    what = module or getattr(error, "name", None) or "what it needs"
    return f"{what} cannot be imported ({type(error).__name__}: {error})"


def _differs(key: str, digest: str) -> bool:
    module, _, name = key.partition(":")
    found = _imported(module) if digest else None
    return found is not None and differs(found, name, digest)


def _imported(name: str) -> types.ModuleType | None:
    """Return a module that code may import as it runs; None if it cannot, as that may be caught."""
    try:
        return importlib.import_module(name)
    except Exception:
        return None


def _other_code(keys: list[str]) -> str:
    module = keys[0].partition(":")[0]
    names = ", ".join(key.replace(":", ".") for key in keys[:_NAMES])
    more = f" and {len(keys) - _NAMES} more" if len(keys) > _NAMES else ""
    file = getattr(importlib.import_module(module), "__file__", None) or module
    return f"{names}{more} is other code here (in {file})"
