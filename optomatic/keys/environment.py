"""The origin of modules, the versions that count and their precision, and the code that travels.

User code counts by its content.  Installed code counts by the versions of its distribution and
of all requirements of that.  :data:`VERSIONS` is the one table of how precisely.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import importlib
import importlib.util
import json
import os
import re
import sys
import sysconfig
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from functools import cache
from importlib import metadata
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec, PathFinder
from types import ModuleType
from typing import NamedTuple, TypeVar

from optomatic.errors import shown

#: Modules whose distributions have other names; saves reading the files of all distributions.
_NAMED_OTHERWISE = {
    "PIL": "pillow",
    "dateutil": "python-dateutil",
    "imblearn": "imbalanced-learn",
    "sklearn": "scikit-learn",
}
#: Modules whose versions count for a fit and for a function, beside those of its objects.
OF_FITS = ("sklearn", "numpy", "scipy")
OF_FUNCTIONS = ("numpy",)


class Precision(NamedTuple):
    """How much of the version of a distribution counts: so many of its numbers, None for all.

    Fewer count where patch releases return equal numbers.  Keys do not have the version at all if
    there is a reason for that.
    """

    numbers: int | None = None
    not_in_keys: str = ""


#: By distribution, or distribution -> requirement.  Versions that are not here count in full.
VERSIONS: Mapping[str, Precision] = {
    "numpy": Precision(2),
    "scipy": Precision(2),
    "pandas": Precision(2),
    "polars": Precision(2),
    "polars-runtime-32": Precision(2),
    "polars-runtime-64": Precision(2),
    "polars-runtime-compat": Precision(2),
    "cloudpickle": Precision(
        1, "It carries objects; a worker compares what it has loaded with the digest."
    ),
    "joblib": Precision(None, "It distributes calls and returns what they return."),
    "threadpoolctl": Precision(None, "It sets how many threads run."),
    "packaging": Precision(None, "It parses version numbers."),
    "scikit-learn -> narwhals": Precision(
        None, "It selects rows and reads names and dtypes of frames."
    ),
    "six": Precision(None, "It gives names of Python 2 to Python 3."),
    "typing-extensions": Precision(None, "It has types for checkers."),
    "optomatic": Precision(None, "It has scikit-learn do the scoring; KEY_VERSION counts."),
}
#: Optional distributions that change the results of another one.
_BESIDES = {"pandas": ("bottleneck", "numexpr", "pyarrow")}
#: Distributions that load every payload, whose versions a worker must match.
_ALWAYS = ("cloudpickle", "scikit-learn", "numpy")
#: Folders that hold only installed code.
_SITES = frozenset({"site-packages", "dist-packages"})
_MAIN = frozenset({"__main__", "__mp_main__"})
_COMPILED = tuple(EXTENSION_SUFFIXES)
#: Suffix of names of packages that count by their files.
_FILES = " (files)"


def is_user_code(module: str) -> bool:
    """Return whether `module` is neither installed nor of the standard library.

    User code are scripts, notebooks, modules beside them, editable installs, source trees, and
    modules made at run time.  An installed module of the same name changes nothing.
    """
    return _owners(module) is None


def goes_by_reference(module: str) -> bool:
    """Return whether `module` is user code of a package that holds compiled modules.

    Compiled code cannot be sent, so its whole package goes by name, and the hash of its files
    counts (:func:`files_digest`).
    """
    if not is_user_code(module) or module in _MAIN:
        return False
    return _origin(module).endswith(_COMPILED) or _holds_compiled(_unit(module))


def files_digest(module: str) -> str | None:
    """Return the hash of the files of the package of `module`, None if there are none.

    Names and contents of all Python files and compiled modules count.  Each package below a
    namespace package counts by itself.  Nothing is imported.
    """
    files = _files(_unit(module))
    try:
        return _hash(f"{name} {_content(path).hex()}" for name, path in files) if files else None
    except OSError:  # in an archive, or gone meanwhile
        return None


def versions(modules: Iterable[str]) -> dict[str, str]:
    """Return the versions that count for code of `modules` (dotted names), by distribution.

    They are those of the distributions of the modules and of all that these require as
    installed.  User code that goes by reference adds ``"<package> (files)"`` with a hash.
    """
    path = tuple(sys.path)
    starts: set[tuple[str, str]] = set()
    files: dict[str, str] = {}
    for module in modules:
        owners = _owners(module)
        if owners is not None:
            starts.update((owner, "") for owner in owners)
        elif goes_by_reference(module):
            name = _unit(module).name
            files[name + _FILES] = files_digest(module) or ""
            # Its imports are not read, but its metadata may name them.
            starts.update(_required(_normal(name), "", path))
    found = _closure(frozenset(starts), path)
    return dict(sorted({**found, **files}.items())) if files else dict(found)


def matched_version(distribution: str) -> str:
    """Return the version of a distribution as far as it counts, ``""`` if it is missing."""
    found = _installed(_normal(distribution), tuple(sys.path))
    return "" if found is None else found.version


def requirement(distribution: str, version: str) -> str:
    """Return the requirement that has pip install `version`, as :func:`versions` gives it.

    It is empty if the distribution was installed from a folder or a repository.

    >>> requirement("numpy", "2.3"), requirement("scikit-learn", "1.9.1")
    ('numpy==2.3.*', 'scikit-learn==1.9.1')
    """
    if distribution == "python" or not re.fullmatch(r"[A-Za-z0-9.!]+", version):
        return ""
    return f"{distribution}=={version}{'.*' * (_precision(distribution).numbers is not None)}"


def _precision(distribution: str) -> Precision:
    return VERSIONS.get(distribution, Precision())


def python_minor() -> str:
    """Return the version of Python as far as it counts, such as ``"3.11"``."""
    return f"{sys.version_info[0]}.{sys.version_info[1]}"


def required_versions(versions: Mapping[str, str]) -> dict[str, str]:
    """Return the versions that a worker must match to load a payload with `versions`.

    Hashes of files are left out: a worker compares them when it loads the payload.
    """
    always = {name: matched_version(name) for name in _ALWAYS}
    found = {name: own for name, own in versions.items() if not name.endswith(_FILES)}
    return {"python": python_minor(), **always, **found}


class _Unit(NamedTuple):
    """A top-level package or module, or one directly below a namespace package."""

    name: str
    place: str | None  # its file, or the first folder of a namespace package
    folders: tuple[str, ...] = ()
    is_namespace: bool = False

    @property
    def entry(self) -> str:
        """Return its folder of ``sys.path``."""
        folder = self.place or ""
        for _ in range(self.name.count(".") + 1 + (bool(self.folders) and not self.is_namespace)):
            folder = os.path.dirname(folder)
        return folder


def _unit(module: str) -> _Unit:
    name, *parts = module.split(".")
    spec = _spec(name, None)
    while spec is not None and parts and _is_namespace(spec):
        name = f"{name}.{parts.pop(0)}"
        spec = _spec(name, list(spec.submodule_search_locations or ()))
    if spec is None:  # made at run time
        return _Unit(name, None)
    folders = tuple(spec.submodule_search_locations or ())
    if _is_namespace(spec):
        return _Unit(name, next(iter(folders), None), folders, True)
    return _Unit(name, spec.origin if spec.has_location else None, folders)


def _spec(name: str, folders: list[str] | None) -> ModuleSpec | None:
    """Return the spec of a module without importing anything."""
    if name in sys.modules:
        return getattr(sys.modules[name], "__spec__", None)
    try:
        if folders is not None:
            return PathFinder.find_spec(name, folders)
        return importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError, KeyError):  # a package that is not loaded
        return None


def _is_namespace(spec: ModuleSpec) -> bool:
    return spec.submodule_search_locations is not None and not spec.has_location


def _origin(module: str) -> str:
    return getattr(getattr(sys.modules.get(module), "__spec__", None), "origin", None) or ""


def _owners(module: str) -> tuple[str, ...] | None:
    """Return the distributions of `module`: () for the standard library, None for user code."""
    top = module.partition(".")[0]
    if top == "optomatic":  # also where it is an editable install
        return ("optomatic",)
    if top in _MAIN:
        return None
    unit = _unit(module)
    if top in sys.stdlib_module_names and _is_standard(unit.place):
        return ()
    return None if unit.place is None else _claimants(module, unit, tuple(sys.path))


@cache
def _is_standard(place: str | None) -> bool:
    if place is None:  # built into Python
        return True
    paths = sysconfig.get_paths()
    folders = (paths["stdlib"], paths["platstdlib"], os.path.dirname(os.__file__))
    return any(
        way(place).startswith(way(folder).rstrip(os.sep) + os.sep)
        for way in (os.path.abspath, os.path.realpath)
        for folder in folders
    )


@cache
def _claimants(module: str, unit: _Unit, path: tuple[str, ...]) -> tuple[str, ...] | None:
    if _SITES.isdisjoint((unit.place or "").split(os.sep)):
        # Code installed into another folder lists its files there; a source tree does not.
        near = metadata.distributions(path=[unit.entry])
        return _narrowed([one for one in near if one.read_text("RECORD")], module, unit)
    top = module.partition(".")[0]
    likely = None if unit.is_namespace else _find(_NAMED_OTHERWISE.get(top, top))
    if likely is not None and _lists(likely, module, unit):
        return None if _is_editable(likely) else (_name(likely),)
    found = [_find(name) for name in set(_packages(path).get(top, ()))]
    return _narrowed([one for one in found if one is not None], module, unit)


def _narrowed(
    found: list[metadata.Distribution], module: str, unit: _Unit
) -> tuple[str, ...] | None:
    """Return the distributions that installed a module, None if there are none."""
    found = [one for one in found if not _is_editable(one) and _lists(one, unit.name, unit)]
    if len(found) > 1 and not unit.is_namespace:  # a package shared by distributions
        found = [one for one in found if _lists(one, module, unit)]
    return tuple(sorted({_name(one) for one in found})) or None


def _lists(distribution: metadata.Distribution, module: str, unit: _Unit) -> bool:
    """Return whether `distribution` lists a module, or has no list."""
    record = distribution.read_text("RECORD")
    start = "\n" + module.replace(".", "/")
    ends = ("/",) if unit.is_namespace else (".", "/__init__.")
    return record is None or any(start + end in f"\n{record}" for end in ends)


@cache
def _packages(path: tuple[str, ...]) -> Mapping[str, list[str]]:
    return metadata.packages_distributions()


def _find(name: str) -> metadata.Distribution | None:
    try:
        return metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return None


def _normal(name: str) -> str:
    # As packaging.utils.canonicalize_name; that import takes longer than all else here.
    return re.sub(r"[-_.]+", "-", name).lower()


class _Installed(NamedTuple):
    version: str  # as far as it counts
    requires: tuple[str, ...]


@cache
def _installed(name: str, path: tuple[str, ...]) -> _Installed | None:
    found = _find(name)
    if found is None:
        return None
    head = _head(found)
    version = _fields(head, "Version")[0]
    # Metadata of old keep requirements in a file of their own.
    requires = _fields(head, "Requires-Dist") or found.requires or ()
    short = ".".join(version.split(".")[: _precision(name).numbers])
    return _Installed(short + _build(found), tuple(requires))


def _head(found: metadata.Distribution) -> str:
    """Return the fields of the metadata, without the long description."""
    text = found.read_text("METADATA") or found.read_text("PKG-INFO") or found.read_text("")
    return "\n" + (text or "").partition("\n\n")[0]


def _fields(head: str, name: str) -> list[str]:
    return re.findall(rf"\n{name}:[ \t]*(.+)", head)


def _name(found: metadata.Distribution) -> str:
    return _normal(_fields(_head(found), "Name")[0])


def _build(found: metadata.Distribution) -> str:
    """Return a suffix that distinguishes builds that did not come from an index."""
    origin = _direct_url(found)
    # Packages of conda name the folder of their build.
    if not origin or (found.read_text("INSTALLER") or "").strip() == "conda":
        return ""
    commit = origin.get("vcs_info", {}).get("commit_id")
    record = found.read_text("RECORD")
    if _is_editable(found) or (record is None and not commit):
        tops = (found.read_text("top_level.txt") or _name(found).replace("-", "_")).split()
        commit = _hash(f"{top} {files_digest(top)}" for top in sorted(tops))
    return f"+{(commit or _record_digest(found, record or ''))[:16]}"


def _record_digest(found: metadata.Distribution, record: str) -> str:
    """Return the hash of the installed files, from their hashes in RECORD."""
    lines = []
    for name, digest, *_ in csv.reader(record.splitlines()):
        if name.startswith(("..", "/")) or name.endswith(".pyc") or ".dist-info/" in name:
            continue
        if not digest:
            path = str(found.locate_file(name))
            content = _content(path) if os.path.exists(path) else b""
            digest = f"sha256={base64.urlsafe_b64encode(content).rstrip(b'=').decode()}"
        lines.append(f"{name} {digest}")
    return _hash(sorted(lines))


def _is_editable(found: metadata.Distribution) -> bool:
    return bool(_direct_url(found).get("dir_info", {}).get("editable"))


def _direct_url(found: metadata.Distribution) -> dict[str, dict[str, str]]:
    return dict(json.loads(found.read_text("direct_url.json") or "{}"))


@cache
def _closure(starts: frozenset[tuple[str, str]], path: tuple[str, ...]) -> dict[str, str]:
    """Return the versions of distributions (with extras) and of all that they require."""
    seen: set[tuple[str, str]] = set()
    todo = list(starts)
    while todo:
        one = todo.pop()
        if one not in seen and not _precision(one[0]).not_in_keys:
            seen.add(one)
            todo += _required(*one, path)
    found = ((name, _installed(name, path)) for name in sorted({name for name, _ in seen}))
    return {name: one.version for name, one in found if one is not None}


def _required(name: str, extra: str, path: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Yield the requirements of a distribution with one of its extras, and their extras."""
    installed = _installed(name, path)
    for text in installed.requires if installed is not None else ():
        for required, wanted in _read(text, extra):
            if not _precision(f"{name} -> {required}").not_in_keys:
                yield required, wanted
    yield from ((besides, "") for besides in _BESIDES.get(name, ()))


def _read(text: str, extra: str) -> Iterator[tuple[str, str]]:
    """Yield name and extras of a requirement, nothing if its marker is false here."""
    of_an_extra = re.search(r";.*\bextra *== *[\"']([^\"']+)[\"']", text)
    if of_an_extra and " or " not in text and _normal(of_an_extra[1]) != _normal(extra):
        return
    if re.search(r"[;@[]", text) is None:
        yield _normal(re.split(r"[^\w.-]", text, maxsplit=1)[0]), ""
        return
    # Most requirements end above; this import takes longer than all of them.
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        read = Requirement(text)
    except InvalidRequirement:  # metadata of old may hold anything
        return
    if read.marker is None or read.marker.evaluate({"extra": extra}):
        yield from ((_normal(read.name), _normal(wanted)) for wanted in ("", *read.extras))


def _files(unit: _Unit) -> list[tuple[str, str]]:
    """Return the names and paths of the files of a unit, sorted."""
    if not unit.folders:
        return [(os.path.basename(unit.place), unit.place)] if unit.place else []
    found = []
    for top in unit.folders:
        for folder, below, names in os.walk(top):
            below[:] = [one for one in below if not one.startswith((".", "__pycache__"))]
            paths = [
                os.path.join(folder, one) for one in names if one.endswith((".py", *_COMPILED))
            ]
            found += [(os.path.relpath(path, top), path) for path in paths]
    return sorted(found)


@cache
def _holds_compiled(unit: _Unit) -> bool:
    if unit.is_namespace:  # without code of its own
        return False
    # Some editable installs keep compiled modules elsewhere, loaded by now.
    loaded = [_origin(one) for one in list(sys.modules) if one.startswith(f"{unit.name}.")]
    return any(path.endswith(_COMPILED) for path in (*loaded, *dict(_files(unit)).values()))


def _content(path: str) -> bytes:
    state = os.stat(path)
    return _content_then(path, state.st_mtime_ns, state.st_size)


@cache
def _content_then(path: str, changed: int, size: int) -> bytes:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _hash(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


# -- which modules travel ------------------------------------------------------------------------

# Keys take apart all user code that is not compiled.  It travels, too, unless `ship_modules`
# names other modules; workers import the rest, and compare it by its digest.

_T = TypeVar("_T")
#: Modules that travel; None for all user modules that can.
_shipped: ContextVar[frozenset[str] | None] = ContextVar("shipped", default=None)
#: Packages with compiled modules on the host that made a payload.
_compiled: ContextVar[frozenset[str]] = ContextVar("compiled", default=frozenset())
_sending: ContextVar[bool] = ContextVar("sending", default=False)


def is_taken_apart(module: str) -> bool:
    """Return whether functions and classes of a module count by their content."""
    if module in _MAIN:
        return True
    if module.partition(".")[0] in _compiled.get() or not is_user_code(module):
        return False
    return not goes_by_reference(module)


def travels(module: str) -> bool:
    """Return whether functions and classes of a module go by value in this context."""
    shipped = _shipped.get()
    if shipped is None or module in _MAIN:
        return is_taken_apart(module)
    return any(module == name or module.startswith(f"{name}.") for name in shipped)


def sending() -> AbstractContextManager[None]:
    """Note that objects of this context go to workers: they leave addresses out."""
    return _holding(_sending, True)


def is_sending() -> bool:
    """Return whether objects are being taken apart for workers."""
    return _sending.get()


def shipping(modules: Collection[str | ModuleType] | None) -> AbstractContextManager[None]:
    """Send classes and functions of `modules` and their submodules by value, no others.

    None stands for all user modules that can travel.  Raises TypeError for anything but modules
    and their names, ImportError for a name without a module.
    """
    return _holding(_shipped, None if modules is None else frozenset(_names(modules)))


def as_sent(compiled: Collection[str]) -> AbstractContextManager[None]:
    """Send the same packages by name as the maker of a payload."""
    return _holding(_compiled, frozenset(compiled))


@contextmanager
def _holding(variable: ContextVar[_T], value: _T) -> Iterator[None]:
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)


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
