"""Tells joblib of the backend ``optomatic``, without importing joblib for that alone.

joblib brings numpy with it, which is 0.2 s and 24 MB for processes that need neither, like the
one that watches the embedded server.  So where joblib is not imported yet, it is told when
somebody imports it.
"""

from __future__ import annotations

import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

_MODULE = "joblib.parallel"


def register() -> None:
    """Tell joblib now, or when it is imported."""
    if _MODULE in sys.modules:
        _tell(sys.modules[_MODULE])
    else:
        sys.meta_path.insert(0, _Finder())


def _tell(parallel: ModuleType) -> None:
    parallel.register_parallel_backend("optomatic", _make)


def _make(*args: Any, **kwargs: Any) -> Any:
    """Make a backend; the first one brings all that it needs, and takes this function's place."""
    from joblib import register_parallel_backend

    from optomatic.joblib_backend.backend import OptomaticBackend

    register_parallel_backend("optomatic", OptomaticBackend)
    return OptomaticBackend(*args, **kwargs)


class _Finder(MetaPathFinder):
    """Finds nothing by itself: lets the others find joblib's module, and adds to its loading."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        """Return the spec of joblib's module, loaded such that it is told of the backend."""
        if name != _MODULE or self not in sys.meta_path:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(Loader):
    """Loads as `loader` does, and then tells joblib."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        """Be `loader` in all other ways."""
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Create the module as `loader` does."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Run the module, then tell it."""
        self._loader.exec_module(module)
        _tell(module)
