"""What one function or class is made of: its code, without the values that it has by now.

Two processes that import a module of one name may find different code there.  This tells, of
one function or class, whether they did: by byte code, constants and names, those of its methods,
and those of what decorators have wrapped.  Class attributes, closures and globals may hold other
values in each process and mean nothing; what others write at run time (the ``__init__`` of a
dataclass) follows from the rest.

What a decorator of another package has made of a function is told apart from the rest: that
package may be installed in one process and plain source in the other.
"""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader, SourcelessFileLoader
from typing import Any
from zipimport import zipimporter

import cloudpickle

from optomatic.plan.keys.code_identity import BOOKKEEPING, code_digest
from optomatic.plan.keys.fingerprint import Walk
from optomatic.plan.keys.nodes import node
from optomatic.plan.keys.versions import installed_versions
from optomatic.plan.own_code.literals import literals_of

#: Whose modules have the code that stands in their files.  Others may change it as they load it
#: (pytest rewrites asserts), and compiled modules show none.
_PLAIN_LOADERS = (SourceFileLoader, SourcelessFileLoader, zipimporter)


def is_own(module: str | None) -> bool:
    """Tell whether workers must have a module as it is here: it is not installed, nor sent."""
    if not module or module == "__main__" or is_sent(module):
        return False
    return installed_versions(module) is None


def is_sent(module: str) -> bool:
    """Tell whether the code of a module, or of a package it is in, travels by value now."""
    sent = cloudpickle.list_registry_pickle_by_value()
    return any(module == name or module.startswith(f"{name}.") for name in sent)


def shows_its_code(module: types.ModuleType) -> bool:
    """Tell whether what stands in a module is what stands in its file, as Python compiles it."""
    loader = getattr(getattr(module, "__spec__", None), "loader", None)
    return type(loader) in _PLAIN_LOADERS


def at_home(value: Any) -> bool:
    """Tell whether `value` is found under the names that it bears."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str):
        return False
    return find(sys.modules.get(module), name) is value


def find(module: types.ModuleType | None, name: str) -> Any:
    """Return what stands in a module under a dotted name, None if nothing does."""
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


class Anatomy:
    """One function or class, taken apart.

    Parameters
    ----------
    value : object
    module : str
        The name of the module where it stands.

    Attributes
    ----------
    functions : list of function
        Those of one's own in it.
    classes : list of type
        Bases, metaclass and classes that it refers to.
    digest : str
        Of all code of one's own in it; empty if there is none that could be read.
    made : dict of str to str
        Digests of what decorators of other packages of one's own add, by the package.
    """

    def __init__(self, value: object, module: str) -> None:
        self.functions: list[types.FunctionType] = []
        self.classes: list[type] = []
        self._top = _top(module)
        #: The packages of the functions that are being looked into.
        self._within: list[str] = []
        self._made: dict[str, list[bytes]] = {}
        self._walk = Walk((), installed_versions)
        self._seen: dict[int, object] = {}
        parts = self._of(value)
        self.digest = _digest(parts)
        self.made = {top: _digest(made) for top, made in self._made.items()}

    def _of(self, value: object) -> list[bytes]:
        if id(value) in self._seen:
            return []
        self._seen[id(value)] = value
        if isinstance(value, types.FunctionType):
            return self._function(value)
        if isinstance(value, type):
            return self._class(value)
        return self._all(_inside(value))

    def _all(self, values: Iterator[object]) -> list[bytes]:
        return [part for value in values for part in self._of(value)]

    def _function(self, function: types.FunctionType) -> list[bytes]:
        if function.__code__.co_filename.startswith("<"):
            return [b"written at run time"]
        module = str(function.__globals__.get("__name__"))
        top = _top(module)
        self._within.append(top)
        wrapped = self._all(_wrapped_by(function))
        self._within.pop()
        code = []
        if module == "__main__" or is_own(module):
            self.functions.append(function)
            code = [code_digest(self._walk, function.__code__, "")]
        if module == "__main__" or top == self._top or not (wrapped or top in self._within):
            return [*code, *wrapped]
        if code:
            self._made.setdefault(top, []).extend(code)
        # That there is a decorator counts wherever it comes from.
        maker = f"made by {top}:{function.__code__.co_qualname}"
        return [maker.encode(), *wrapped] if wrapped else []

    def _class(self, value: type) -> list[bytes]:
        if value.__module__ != "__main__" and not is_own(value.__module__):
            return []
        self.classes.append(type(value))
        parts = [b"class"]
        for base in value.__bases__:
            if at_home(base):
                self.classes.append(base)
            else:  # made by a function; nobody else finds it by its name
                parts += self._of(base)
        for name, held in sorted(vars(value).items()):
            if name not in BOOKKEEPING and not _set_by_its_own_code(value, name):
                parts += self._member(value, name, held)
        return parts

    def _member(self, owner: type, name: str, held: object) -> list[bytes]:
        if isinstance(held, type) and not held.__qualname__.startswith(f"{owner.__qualname__}."):
            self.classes.append(held)
            return []
        found = self._of(held)
        return [name.encode(), *found] if found else []


def _digest(parts: list[bytes]) -> str:
    return node("own code", *parts).hex()[:24] if parts else ""


def _top(module: str) -> str:
    return module.partition(".")[0]


def _set_by_its_own_code(owner: type, name: str) -> bool:
    """Tell whether a class has an attribute since code of its file ran, as any process may do."""
    module = sys.modules.get(owner.__module__)
    if module is None or not shows_its_code(module):
        return False
    return literals_of(module).is_set_later(owner.__qualname__, name)


def _wrapped_by(function: types.FunctionType) -> Iterator[object]:
    """Return the code that a function of a decorator's runs."""
    for cell in function.__closure__ or ():
        try:
            held = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
        if _is_code(held):
            yield held
    yield function.__dict__.get("__wrapped__")


def _is_code(value: object) -> bool:
    return isinstance(value, types.FunctionType | type) or any(True for _ in _inside(value))


def _inside(value: object) -> Iterator[object]:
    """Return the functions that something callable, or a descriptor, is made of."""
    if isinstance(value, staticmethod | classmethod | types.MethodType):
        yield value.__func__
    elif isinstance(value, property):
        yield from (part for part in (value.fget, value.fset, value.fdel) if part is not None)
    elif isinstance(value, functools.partial | functools.partialmethod | functools.cached_property):
        yield value.func
    else:
        # What lru_cache, numba and joblib's Memory make.
        own = _attributes(value)
        if "__wrapped__" in own:
            yield own["__wrapped__"]


def _attributes(value: object) -> dict[str, object]:
    try:
        own = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return {}
    return own if type(own) is dict else {}
