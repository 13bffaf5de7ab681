"""Which distribution a module belongs to, and which version of it is installed."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import sysconfig
from collections.abc import Callable, Sequence
from functools import cache
from importlib import metadata

#: Module name -> (distribution, version), or None for code that is not installed: scripts,
#: notebooks, editable installs.
Versions = Callable[[str], tuple[str, str] | None]

#: What scikit-learn users meet always; spares reading the files of all distributions.
_KNOWN = {
    "sklearn": "scikit-learn",
    "numpy": "numpy",
    "scipy": "scipy",
    "pandas": "pandas",
    "joblib": "joblib",
}
#: Numbers of a version that tell: patch releases of these keep their numbers.
_MINOR_IS_ENOUGH = ("numpy", "scipy", "pandas")
#: Folders in which nothing but what was installed is put.
_SITES = frozenset({"site-packages", "dist-packages"})


def installed_versions(module: str) -> tuple[str, str] | None:
    """Return distribution and version of `module` if it is installed, else None.

    The standard library is ``("", "")``: it comes with Python.
    """
    top = module.partition(".")[0]
    # Of a package that several distributions share each has its own modules.
    return _shared(module) if len(_names(top)) > 1 else _installed(top)


@cache
def _installed(top: str) -> tuple[str, str] | None:
    if top in sys.stdlib_module_names:
        is_there = top != "__main__" and _is_below(_place(top), _standard_library())
        return ("", "") if is_there else None
    return next((_version(name, _place(top)) for name in _names(top)), None)


@cache
def _shared(module: str) -> tuple[str, str] | None:
    path = module.replace(".", "/")
    owner = next((n for n in _names(module.partition(".")[0]) if _has(n, path)), None)
    return None if owner is None else _version(owner, None)


def _has(distribution: str, path: str) -> bool:
    found = _find(distribution)
    files = found.files if found is not None else None
    starts = (f"{path}.", f"{path}/__init__.")
    return any(str(file).startswith(starts) for file in files or ())


def _version(name: str, place: str | None) -> tuple[str, str] | None:
    """Return a distribution and its version if that says what stands at `place`."""
    found = _find(name)
    # Our own code scores by scikit-learn's; to walk it would only lead to locks and sockets.
    if found is None or (name != "optomatic" and _may_be_edited(found, place)):
        return None
    version = found.version
    if name in _MINOR_IS_ENOUGH:
        version = ".".join(version.split(".")[:2])
    return name, version


def _find(name: str) -> metadata.Distribution | None:
    try:
        return metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return None


def _names(top: str) -> tuple[str, ...]:
    """Return the distributions that say they have the top-level module `top`."""
    if top in sys.stdlib_module_names:
        return ()
    if top in _KNOWN:
        return (_KNOWN[top],)
    return tuple(sorted(set(_distributions().get(top, ()))))  # some name it twice


@cache
def _distributions() -> dict[str, list[str]]:
    return dict(metadata.packages_distributions())


# Whether the code may change while the version stays


def _may_be_edited(distribution: metadata.Distribution, place: str | None) -> bool:
    """Tell whether the code at `place` is not what was once installed as `distribution`.

    It may be an editable install (PEP 610), the source tree that metadata were built in, or a
    module of one's own that bears the name of one that is installed.
    """
    origin = distribution.read_text("direct_url.json")
    if origin and json.loads(origin).get("dir_info", {}).get("editable"):
        return True
    where = str(distribution.locate_file(""))
    if _is_of_a_site(where):
        return not (_is_of_a_site(place) or _is_below(place, (where,)))
    return distribution.read_text("RECORD") is None or not _is_below(place, (where,))


@cache
def _place(top: str) -> str | None:
    """Return the file or folder of a top-level module, None if it has none that is known."""
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError, AttributeError):  # made at run time
        return None
    if spec is None:
        return None
    if spec.has_location and spec.origin:
        return spec.origin
    return next(iter(spec.submodule_search_locations or ()), None)


@cache
def _standard_library() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    return paths["stdlib"], paths["platstdlib"], os.path.dirname(os.__file__)


def _is_of_a_site(place: str | None) -> bool:
    return place is not None and not _SITES.isdisjoint(place.split(os.sep))


def _is_below(place: str | None, folders: Sequence[str]) -> bool:
    """Tell whether `place` is in one of `folders`; what has no place is taken to be."""
    if place is None:
        return True
    ways = (os.path.abspath, os.path.realpath)
    return any(
        way(place).startswith(way(folder).rstrip(os.sep) + os.sep)
        for way in ways
        for folder in folders
    )
