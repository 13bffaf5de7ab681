"""Which modules are taken apart for keys, and which of them travel by value.

Keys take apart all user code that is not compiled.  It travels, too, unless `ship_modules` names
other modules; what does not is imported by workers, and compared by its digest.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import ModuleType

from optomatic.errors import shown
from optomatic.keys.environment import goes_by_reference, is_user_code

#: Modules that travel instead of all user modules; None for all.
_shipped: ContextVar[frozenset[str] | None] = ContextVar("shipped", default=None)
#: Packages with compiled extensions where a payload was made, which need not be here.
_compiled: ContextVar[frozenset[str]] = ContextVar("compiled", default=frozenset())
_ALWAYS = ("__main__", "__mp_main__")
_sending: ContextVar[bool] = ContextVar("sending", default=False)


def is_taken_apart(module: str) -> bool:
    """Tell whether functions and classes of a module (dotted name) count by what they are."""
    if module in _ALWAYS:
        return True
    if module.partition(".")[0] in _compiled.get() or not is_user_code(module):
        return False
    return not goes_by_reference(module)


def travels(module: str) -> bool:
    """Tell whether functions and classes of a module (dotted name) go by value here and now."""
    shipped = _shipped.get()
    if shipped is None or module in _ALWAYS:
        return is_taken_apart(module)
    return any(module == name or module.startswith(f"{name}.") for name in shipped)


@contextmanager
def sending() -> Iterator[None]:
    """What is taken apart in this context goes to workers: no address is in it."""
    token = _sending.set(True)
    try:
        yield
    finally:
        _sending.reset(token)


def is_sending() -> bool:
    """Tell whether something is taken apart for workers."""
    return _sending.get()


@contextmanager
def shipping(modules: Collection[str | ModuleType] | None) -> Iterator[None]:
    """Have the classes and functions of `modules` and their submodules go by value, no others.

    None stands for all user modules that can travel.

    Raises
    ------
    TypeError
        If it is not a collection of modules or of names of modules.
    ImportError
        If there is no module of a name.
    """
    names = None if modules is None else frozenset(_names(modules))
    token = _shipped.set(names)
    try:
        yield
    finally:
        _shipped.reset(token)


@contextmanager
def as_sent(compiled: Collection[str]) -> Iterator[None]:
    """Have the same packages go by name as where a payload was made."""
    token = _compiled.set(frozenset(compiled))
    try:
        yield
    finally:
        _compiled.reset(token)


def _names(modules: Collection[str | ModuleType]) -> Iterator[str]:
    if isinstance(modules, str) or not isinstance(modules, Collection):
        raise TypeError(f"ship_modules is a list of modules or their names, not {shown(modules)}")
    for module in modules:
        if not isinstance(module, str | ModuleType):
            raise TypeError(
                f"ship_modules is a list of modules or their names, not of {shown(module)}"
            )
        found = importlib.import_module(module) if isinstance(module, str) else module
        yield found.__name__
