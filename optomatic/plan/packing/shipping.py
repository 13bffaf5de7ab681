"""Modules whose code travels by value, as that of ``__main__`` and notebooks always does."""

from __future__ import annotations

import contextlib
import importlib
import threading
from collections import Counter
from collections.abc import Collection, Iterator
from types import ModuleType

import cloudpickle

_lock = threading.Lock()
#: How many fits of this process ship each module now.
_shipped: Counter[str] = Counter()


@contextlib.contextmanager
def shipping(modules: Collection[str | ModuleType] | None) -> Iterator[None]:
    """Have the classes and functions of `modules` and their submodules pickled by value.

    Raises
    ------
    TypeError
        If it is not a collection of modules or of names of modules.
    ImportError
        If there is no module of a name.
    """
    found = [_module(module) for module in _checked(modules)]
    for module in found:
        _register(module)
    try:
        yield
    finally:
        for module in found:
            _unregister(module)


def _checked(modules: Collection[str | ModuleType] | None) -> Collection[str | ModuleType]:
    if modules is None:
        return ()
    if isinstance(modules, str) or not isinstance(modules, Collection):
        raise TypeError(f"ship_modules is a list of modules or their names, not {modules!r}")
    return modules


def _module(module: str | ModuleType) -> ModuleType:
    if isinstance(module, ModuleType):
        return module
    if not isinstance(module, str):
        raise TypeError(f"ship_modules is a list of modules or their names, not of {module!r}")
    return importlib.import_module(module)


def _register(module: ModuleType) -> None:
    with _lock:
        # What the user has registered stays registered.
        known = module.__name__ in cloudpickle.list_registry_pickle_by_value()
        if _shipped[module.__name__] or not known:
            _shipped[module.__name__] += 1
            cloudpickle.register_pickle_by_value(module)


def _unregister(module: ModuleType) -> None:
    with _lock:
        if _shipped[module.__name__]:
            _shipped[module.__name__] -= 1
            if not _shipped[module.__name__]:
                cloudpickle.unregister_pickle_by_value(module)
