"""The identity of code: what a function or a class does.

Installed code is named: distribution, version, module, qualified name.  Scripts, notebooks and
editable installs change under their names, so there the code counts: byte code, constants,
defaults, what closures hold, the globals that are used, base classes and class attributes,
recursively; and the Python minor, as byte code is its own in each.
"""

from __future__ import annotations

import dis
import functools
import importlib
import sys
import types
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from optomatic.plan.keys.nodes import node

if TYPE_CHECKING:
    from optomatic.plan.keys.fingerprint import Walk

_PYTHON = f"py{sys.version_info[0]}.{sys.version_info[1]}".encode()
#: What of C has code that nobody can read (the slots of a class have none).
_COMPILED = (types.BuiltinFunctionType, types.MethodDescriptorType)
HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made by a class statement
#: Class attributes that say nothing about what the class does.
BOOKKEEPING = frozenset(
    {
        "__module__",
        "__dict__",
        "__weakref__",
        "__doc__",
        "__qualname__",
        "__annotations__",
        "__annotate__",
        "__annotate_func__",
        "__annotations_cache__",
        "__firstlineno__",
        "__static_attributes__",
        "__abstractmethods__",
        "_abc_impl",
        "__orig_bases__",
        "__parameters__",
        "__match_args__",
        "__slotnames__",  # copyreg keeps it there once an instance was pickled
        "_value2member_map_",  # of an enum: grows as flags are combined, and its members say it all
    }
)


def _installed(walk: Walk, module: str | None) -> bytes | None:
    """Return what names an installed module's distribution, or None; note its version."""
    found = walk.versions_of(module or "__main__")
    if found is None:
        return None
    distribution, version = found
    if distribution:
        walk.versions[distribution] = version
    return f"{distribution}=={version}".encode()


def class_digest(walk: Walk, value: Any, path: str) -> bytes:
    """A class: by name if it is installed, else by bases and attributes."""
    origin = _installed(walk, value.__module__)
    if origin is not None and not _made_at_run_time(value):
        return node("class", origin, f"{value.__module__}:{value.__qualname__}".encode())
    return node(
        "own class",
        _PYTHON,
        value.__qualname__.encode(),
        walk.digest(type(value), path),
        *(walk.digest(base, path) for base in value.__bases__),
        *walk.named(_class_attributes(value), f"{path}<{value.__name__}>"),
    )


def _made_at_run_time(value: type) -> bool:
    """Tell whether a class does not stand in the module that it names.

    So do those of ``type(...)`` and ``types.new_class`` in installed code, and those of
    ``exec``: several may bear one name.  Of what C makes the name says it all.
    """
    if not value.__flags__ & HEAP_TYPE or "__pyx_vtable__" in vars(value):
        return False
    found: Any = sys.modules.get(value.__module__)
    for name in value.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is not value


def _class_attributes(value: type) -> list[tuple[str, Any]]:
    return [(name, held) for name, held in vars(value).items() if name not in BOOKKEEPING]


def function_digest(walk: Walk, value: Any, path: str) -> bytes:
    """A function: by name if it is installed and says it all, else by its code."""
    code = value.__code__
    module = value.__globals__.get("__name__")
    origin = _installed(walk, module)
    if origin is not None and code.co_name != "<lambda>" and "<locals>" not in code.co_qualname:
        return node("function", origin, f"{module}:{code.co_qualname}".encode())
    if origin is not None:  # made by an installed function: its code is named, what it holds not
        head = node("inner", origin, f"{module}:{code.co_qualname}".encode(), _code(walk, code))
        return node("closure", head, *_held(walk, value, path))
    return node(
        "own function",
        _PYTHON,
        _code(walk, code),
        *_held(walk, value, path),
        *_globals(walk, value, path),
    )


def _held(walk: Walk, value: Any, path: str) -> Iterator[bytes]:
    """Defaults, closure cells and attributes of a function."""
    attributes = _attributes(value)
    yield walk.digest(value.__defaults__, f"{path}.__defaults__")
    yield walk.digest(value.__kwdefaults__, f"{path}.__kwdefaults__")
    for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
        try:
            held = cell.cell_contents
        except ValueError:  # not assigned yet
            yield b"empty cell"
        else:
            yield _used(walk, held, attributes, f"{path}<{name}>")
    yield walk.attributes(value, path)


def code_digest(walk: Walk, value: Any, path: str) -> bytes:
    """A code object, as it stands among constants."""
    return _code(walk, value)


def _code(walk: Walk, code: types.CodeType) -> bytes:
    """Byte code and constants; neither file name nor lines."""
    constants = (
        _code(walk, item) if isinstance(item, types.CodeType) else walk.digest(item, "constant")
        for item in code.co_consts
    )
    names = (*code.co_names, "|", *code.co_varnames, "|", *code.co_freevars, "|", *code.co_cellvars)
    counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
    table = getattr(code, "co_exceptiontable", b"")
    return node(
        "code", code.co_code, repr(names).encode(), repr(counts).encode(), table, *constants
    )


def _attributes(value: Any) -> list[str]:
    """Names of all that a function may ask of what it uses."""
    return sorted({name for code in codes_in(value.__code__) for name in code.co_names})


def _globals(walk: Walk, value: Any, path: str) -> Iterator[bytes]:
    """The globals that a function uses, by name, and what it uses of modules."""
    codes = list(codes_in(value.__code__))
    attributes = _attributes(value)
    for name in sorted({name for code in codes for name in loaded_names(code)}):
        yield name.encode()
        if name not in value.__globals__:
            yield b"builtin or missing"
            continue
        yield _used(walk, value.__globals__[name], attributes, f"{path}<{name}>")
    package = value.__globals__.get("__package__") or ""
    names = sorted({name for code in codes for name in imported_names(code, package)})
    # All before any is looked at: importing a module puts it into its package.
    modules = {name: _module(walk, name) for name in names}
    for name, module in modules.items():
        yield name.encode()
        yield b"not imported" if module is None else _imported(walk, module, attributes, path)


def _used(walk: Walk, held: Any, attributes: list[str], path: str) -> bytes:
    """What a function's global is to it: of a module of one's own, only what it may touch."""
    if not isinstance(held, types.ModuleType):
        return walk.digest(held, path)
    return _touched(walk, held, attributes, path, set())


def _touched(
    walk: Walk, module: types.ModuleType, attributes: list[str], path: str, seen: set[int]
) -> bytes:
    """What may be touched of a module, and of the modules of one's own in it (``a.b.c``)."""
    origin = _installed(walk, module.__name__)
    named = node("module", origin or b"own", module.__name__.encode())
    if origin is not None or id(module) in seen:
        return named
    seen.add(id(module))
    parts = []
    for name in attributes:
        held = getattr(module, name, None)
        if isinstance(held, types.ModuleType):
            parts += [name.encode(), _touched(walk, held, attributes, f"{path}.{name}", seen)]
        elif hasattr(module, name):
            parts += [name.encode(), walk.digest(held, f"{path}.{name}")]
    return node("own module", named, *parts)


def codes_in(code: types.CodeType) -> Iterator[types.CodeType]:
    """Return `code` and all code in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from codes_in(constant)


@functools.lru_cache(maxsize=4096)  # a search takes the same code apart for several ends
def loaded_names(code: types.CodeType) -> tuple[str, ...]:
    """Return the names of the globals that `code` reads."""
    return tuple(
        instruction.argval
        for instruction in dis.get_instructions(code)
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME")
    )


def imported_names(code: types.CodeType, package: str) -> Iterator[str]:
    """Return names of what code of `package` imports as it runs, which need not all be modules."""
    level: Any = None
    names: Any = None
    for instruction in dis.get_instructions(code):
        if instruction.opname == "IMPORT_NAME":
            module = _absolute(instruction.argval, level, package)
            yield module
            yield from (f"{module}.{name}" for name in names or ())
        # An import follows two instructions that push its level and the names after "import".
        level, names = names, instruction.argval


def _absolute(name: str, level: Any, package: str) -> str:
    """Return the whole name of a module that is imported from `level` packages up."""
    if not isinstance(level, int) or not level:
        return name
    above = package.rsplit(".", level - 1)[0]
    return f"{above}.{name}" if name else above


def _module(walk: Walk, name: str) -> types.ModuleType | str | None:
    """Return a module of one's own, the name of an installed one, or None for what is neither.

    A function's key must be the same before and after its first call, so what it imports is
    imported here if nobody did yet.
    """
    if _installed(walk, name) is not None:
        return name
    try:
        return sys.modules.get(name) or importlib.import_module(name)
    except (Exception, SystemExit):  # whatever a module of the user's raises as it is imported
        return None


def _imported(
    walk: Walk, module: types.ModuleType | str, attributes: list[str], path: str
) -> bytes:
    """What a module that a function imports is to it."""
    if isinstance(module, str):
        return node("module", _installed(walk, module) or b"own", module.encode())
    return _used(walk, module, attributes, path)


def module_digest(walk: Walk, value: Any, path: str) -> bytes:
    """A module by name and version; nobody knows what will be used of one of one's own."""
    origin = _installed(walk, value.__name__)
    if origin is None:
        return walk.doubt(path, f"module {value.__name__}, which is not installed")
    return node("module", origin, value.__name__.encode())


def builtin_digest(walk: Walk, value: Any, path: str) -> bytes:
    """Something of C: by the module and the name that it goes by, and what it is bound to."""
    owner = getattr(value, "__self__", None)
    module = getattr(value, "__module__", None)
    if module is None:
        kind = getattr(value, "__objclass__", None) or (owner if isinstance(owner, type) else None)
        module = kind.__module__ if kind is not None else type(value).__module__
    origin = _installed(walk, module)
    name = getattr(value, "__qualname__", None) or value.__name__
    if name.endswith(" (vectorized)"):  # as np.frompyfunc names what it makes
        return walk.doubt(path, f"{name}, a ufunc made of a function that it does not show")
    if origin is None and isinstance(value, _COMPILED):
        return walk.doubt(path, f"{name}, compiled and not installed")
    head = node("builtin", origin or b"own", f"{module}:{name}".encode())
    if owner is None or isinstance(owner, types.ModuleType):
        return head
    return node("bound", head, walk.digest(owner, f"{path}.__self__"))


def compiled_digest(walk: Walk, value: Any, path: str) -> bytes:
    """A function of Cython: by name if it is installed; what else it does nobody can read."""
    origin = _installed(walk, value.__module__)
    if origin is None:
        return walk.doubt(path, f"{value.__qualname__}, compiled and not installed")
    return node("compiled", origin, f"{value.__module__}:{value.__qualname__}".encode())


def cached_function(walk: Walk, value: Any, path: str) -> bytes:
    """A function behind ``functools.lru_cache``: what is cached does not matter."""
    return node("cached", walk.digest(value.__wrapped__, path))
