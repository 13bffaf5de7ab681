"""User code and other objects, taken apart for digests and payloads, and put together again.

Pickle's reduce protocol is the basis.  :class:`Reducer` adds user code, which travels by value::

    function   code, cells, defaults, attributes, and the globals that it reaches
    class      metaclass, name, bases, and its body in order
    module     a namespace with its reached attributes, or with all of them
    cell       an object of its own, so that closures keep sharing it

Byte code says which globals and imports a function reaches.  Functions of one module share one
namespace, as they share the globals of that module.  All other objects go by name if an installed
module has them under their name.  Payloads and digests contain the names of the functions that
rebuild an object: ``make_...`` and ``set_...``.
"""

from __future__ import annotations

import abc
import builtins
import copyreg
import dis
import enum
import functools
import importlib
import inspect
import io
import os
import pathlib
import sys
import threading
import types
import typing
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pickle import PicklingError
from typing import Any

import numpy as np

from optomatic.keys.not_counted import CODE_FLAGS as _HAS_DOCSTRING

TYPE_ALIAS: Any = getattr(typing, "TypeAliasType", None)  # since Python 3.12
#: Class attributes that Python derives from the rest of the class.
MADE_OF_CLASSES = frozenset({
    "__dict__", "__weakref__", "__module__", "__qualname__", "__doc__", "__slotnames__",
    "_abc_impl", "__annotate__", "__annotate_func__", "__annotations_cache__", "__firstlineno__",
    "__static_attributes__",
})  # fmt: skip
MADE_OF_ENUMS = frozenset({
    "_generate_next_value_", "_member_names_", "_member_map_", "_member_type_",
    "_value2member_map_", "_unhashable_values_", "_hashable_values_", "__new_member__",
    "_use_args_", "_new_member_", "_value_repr_", "_singles_mask_", "_flag_mask_", "_all_bits_",
    "_boundary_", "_inverted_", "_iter_member_", "_unhashable_values_map_",
})  # fmt: skip
_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made by a class statement
_IMMUTABLE = 1 << 8  # Py_TPFLAGS_IMMUTABLETYPE: or not, as Decimal since Python 3.13
_MADE_OF_MEMBERS = frozenset({"_value_", "_name_", "__objclass__", "_sort_order_"})
#: Entries of a module's dict that the import system adds.
_MADE_OF_MODULES = frozenset({
    "__name__", "__doc__", "__package__", "__loader__", "__spec__", "__file__", "__cached__",
    "__builtins__", "__path__", "__warningregistry__",
})  # fmt: skip
_MAIN = ("__main__", "__mp_main__")
_LOCK, _RLOCK = type(threading.Lock()), type(threading.RLock())
_NO_DEFAULT = getattr(typing, "NoDefault", object())  # of type parameters, since Python 3.13
_CACHED_FUNCTION = type(functools.lru_cache(len))
_LOADS = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})
#: Written globals count too: another function may read their earlier values.
_STORES = frozenset({"STORE_GLOBAL", "DELETE_GLOBAL"})
_ATTRIBUTES = frozenset({"LOAD_ATTR", "LOAD_METHOD"})
_FUNCTION = inspect.CO_OPTIMIZED | inspect.CO_NEWLOCALS


#: The result of ``__reduce_ex__``: callable, args, state, items, pairs, setter.
Reduced = tuple[Any, ...]


def _made(make: Callable[..., Any], args: tuple[Any, ...], state: Any, setter: Any) -> Reduced:
    return make, args, state, None, None, setter


class CannotTravel(PicklingError):
    """An object cannot be sent; the text describes it."""


class Namespace:
    """The globals of a user module, which becomes a new module on a worker."""

    def __init__(self, space: Mapping[str, Any]) -> None:
        self.name = space.get("__name__")
        self.package = space.get("__package__")
        self.space = space  # kept alive: namespaces are known by the id of a dict

    def __reduce__(self) -> Reduced:
        return make_namespace, (str(self.name), self.package)


class Cell:
    """A cell of a closure, without its content."""

    def __reduce__(self) -> Reduced:
        return types.CellType, ()


class ReachedPart:
    """The reached part of a module: a namespace, and values by name."""

    def __init__(self, namespace: Namespace, values: Mapping[str, object]) -> None:
        self.namespace = namespace
        self.values = values

    def __reduce__(self) -> Reduced:
        return _made(_same, (self.namespace,), self.values, fill_namespace)


class Reducer:
    """Takes objects apart, and remembers namespaces and cells that it has met.

    ``travels`` says of a module name whether its functions and classes go by value.
    """

    def __init__(self, travels: Callable[[str], bool]) -> None:
        self.travels = travels
        self._namespaces: dict[int, Namespace] = {}
        self._cells: dict[int, tuple[object, Cell]] = {}
        #: User modules for imports in function bodies, by name.
        self.modules: dict[str, Namespace] = {}
        #: Reached objects of user modules, by ``module.name``.
        self.reached: dict[str, object] = {}

    def reduce(self, value: Any) -> Reduced | str | None:
        """Return how to rebuild `value`, None to leave it to pickle's own protocol.

        Raises :class:`CannotTravel` if `value`, or a part of it, cannot be sent.
        """
        for kind in (type(value), *_BASES):
            take_apart = _TAKERS.get(kind)
            if take_apart is not None and isinstance(value, kind):
                by_name = kind in _NAMED and self.goes_by_name(value)
                return None if by_name else take_apart(self, value)
        of_library = _reducer_of_library(value)
        if of_library is not None and not self.goes_by_name(value):
            return of_library(value)
        if value is os.environ:  # each process has its own, with passwords
            return getattr, (os, "environ")
        return self._singleton(value)

    def _singleton(self, value: Any) -> Reduced | str | None:
        """Take apart an object that is, or pickles as, a global of a module."""
        kind = type(value)
        if getattr(value, "__dict__", None) == {} and not self.travels(kind.__module__):
            # A sentinel such as dataclasses.MISSING: code compares by identity.
            there = getattr(sys.modules.get(kind.__module__), "__dict__", {})
            return next((name for name, held in [*there.items()] if held is value), None)
        own = (kind.__reduce__, kind.__reduce_ex__)
        if not any(isinstance(method, types.FunctionType) for method in own):
            return None
        if not self.travels(kind.__module__) or not isinstance(value.__reduce_ex__(4), str):
            return None
        return copyreg.__newobj__, (kind,), vars(value)  # type: ignore[attr-defined]

    def goes_by_name(self, value: Any) -> bool:
        """Return whether a module that does not travel has `value` under its name."""
        module = getattr(value, "__module__", None)
        name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
        if not isinstance(module, str) or module in _MAIN or not name or self.travels(module):
            return False
        if isinstance(value, type) and not value.__flags__ & _HEAP_TYPE:
            return True
        return find(sys.modules.get(module), name) is value

    def home_of(self, value: Any, name: str) -> str | None:
        """Return the installed module that has `value` under `name`."""
        named = getattr(value, "__module__", None)
        first = [named] if isinstance(named, str) else []
        for module in [*first, "numpy", "scipy.special", *sorted(sys.modules)]:
            if module in _MAIN or self.travels(module):
                continue
            if find(sys.modules.get(module), name) is value:
                return module
        return None

    def ufunc(self, value: np.ufunc) -> Reduced:
        """Take a ufunc apart; pickle would look into all modules, of which some warn."""
        home = self.home_of(value, value.__name__)
        if home is None:
            raise CannotTravel(f"{value.__name__}, a ufunc of no installed module")
        return getattr, (sys.modules[home], value.__name__)

    # -- code ----------------------------------------------------------------------------------

    def function(self, value: types.FunctionType) -> Reduced:
        """Take a function apart."""
        code = value.__code__
        cells = tuple(self._cell(cell) for cell in value.__closure__ or ())
        held = map(_content, value.__closure__ or ())
        state = {
            "names": (value.__name__, value.__qualname__, value.__module__),
            "defaults": value.__defaults__,
            "kwdefaults": value.__kwdefaults__,
            "annotations": value.__annotations__,
            "attributes": value.__dict__,
            "cells": dict(zip(code.co_freevars, zip(cells, held, strict=True), strict=True)),
            "doc": value.__doc__,
            **self._globals_of(value),
        }
        if getattr(value, "__type_params__", ()):  # since Python 3.12
            state["type_params"] = value.__type_params__  # type: ignore[attr-defined]
        return _made(make_function, (code, self.namespace(value), cells), state, set_function)

    def _cell(self, cell: object) -> Cell:
        return self._cells.setdefault(id(cell), (cell, Cell()))[1]

    def namespace(self, function: types.FunctionType) -> object:
        """Return the module or the namespace that holds the globals of `function`."""
        space = function.__globals__
        name = str(space.get("__name__"))
        module = sys.modules.get(name)
        is_there = module is not None and vars(module) is space
        if module is not None and is_there and name not in _MAIN and not self.travels(name):
            return module
        return self._space(space)

    def _space(self, space: dict[str, Any]) -> Namespace:
        return self._namespaces.setdefault(id(space), Namespace(space))

    def _globals_of(self, function: types.FunctionType) -> dict[str, Any]:
        """Return the globals that `function` reaches, and modules that it imports."""
        namespace = self.namespace(function)
        if not isinstance(namespace, Namespace):  # of an installed module
            return {"globals": {}, "imports": []}
        space, reach = function.__globals__, reach_of(function.__code__)
        reached: dict[str, object] = {}
        imports: list[object] = []
        for name in reach.names:
            if name in space:
                reached[name], more = self._reached(space[name], reach.chains.get(name))
                imports += more
                self.reached[f"{namespace.name}.{name}"] = space[name]
        package = space.get("__package__") or ""
        imports += [part for part in self._imported(reach, package) if part is not None]
        return {"globals": reached, "imports": imports}

    def _reached(
        self, value: object, chains: Iterable[tuple[str, ...]] | None
    ) -> tuple[object, list[object]]:
        """Return the form in which a global is sent, and submodules to load beside it."""
        if not isinstance(value, types.ModuleType) or chains is None:
            return value, []
        if self.travels(value.__name__):
            return self._part(value, chains), []
        inner = (_submodule(value, chain) for chain in chains)
        return value, [module for module in inner if module is not None]

    def _part(self, module: types.ModuleType, chains: Iterable[tuple[str, ...]]) -> object:
        """Return the part of `module` that the attribute chains in `chains` reach."""
        if module.__name__ in _MAIN or "__getattr__" in vars(module):
            return module
        values: dict[str, object] = {}
        for name in sorted({chain[0] for chain in chains}):
            if name not in vars(module):
                continue
            held = vars(module)[name]
            rest = [chain[1:] for chain in chains if chain[0] == name]
            if isinstance(held, types.ModuleType) and self.travels(held.__name__) and all(rest):
                held = self._part(held, rest)
            values[name] = held
            self.reached[f"{module.__name__}.{name}"] = held
        return ReachedPart(self._enter(module), values)

    def _enter(self, module: types.ModuleType) -> Namespace:
        """Return the namespace of a user module, and let imports find it."""
        namespace = self._space(vars(module))
        if module.__name__ not in _MAIN:
            self.modules[module.__name__] = namespace
        return namespace

    def _imported(self, reach: Reach, package: str) -> Iterator[object]:
        """Yield the parts of user modules that imports in a function body need."""
        for level, name, names in reach.imports:
            whole = _absolute(level, name, package)
            for module in dict.fromkeys([whole, *(f"{whole}.{own}" for own in names)]):
                found = self._user_module(module)
                if found is None:
                    continue
                wanted = [(own,) for own in names] if module == whole else []
                yield self._part(found, wanted) if wanted else found
                yield from self._parents(module)

    def _user_module(self, name: str) -> types.ModuleType | None:
        # Import now what the function would import: a key must not change with its first call.
        if not self.travels(name) or name in _MAIN:
            return None
        try:
            found = sys.modules.get(name) or importlib.import_module(name)
        except (Exception, SystemExit):  # raised by the user module
            return None
        return found if isinstance(found, types.ModuleType) else None

    def _parents(self, name: str) -> Iterator[object]:
        """Yield the packages above a dotted name, each with the next one below it."""
        above, _, last = name.rpartition(".")
        if above and (package := self._user_module(above)) is not None:
            below = self._user_module(name)
            held = {} if below is None else {last: ReachedPart(self._enter(below), {})}
            yield ReachedPart(self._enter(package), held)
            yield from self._parents(above)

    def module(self, value: types.ModuleType) -> Reduced:
        """Take apart a module that is used as an object."""
        name = value.__name__
        if not self.travels(name) and sys.modules.get(name) is value:
            return importlib.import_module, (name,)
        if name in _MAIN:
            raise CannotTravel("the module __main__ as a whole")
        held = {n: v for n, v in vars(value).items() if n not in _MADE_OF_MODULES}
        self.reached.update({f"{name}.{own}": part for own, part in held.items()})
        return _made(_same, (self._enter(value),), held, fill_module)

    # -- classes -------------------------------------------------------------------------------

    def class_(self, value: type) -> Reduced:
        """Take a class apart."""
        _complete(value)
        if issubclass(value, enum.Enum) and "_member_map_" in vars(value):
            return self._enum(value)
        space: dict[str, Any] = {"__module__": value.__module__}
        if "__slots__" in vars(value):
            space["__slots__"] = vars(value)["__slots__"]
        if "__orig_bases__" in vars(value):  # Generic looks for them
            space["__orig_bases__"] = vars(value)["__orig_bases__"]
        left_out = {"__slots__", "__orig_bases__", "__pydantic_parent_namespace__"}
        state = _class_state(value, MADE_OF_CLASSES | slots_of(value) | left_out)
        args = (type(value), value.__name__, value.__bases__, space)
        is_typed_dict = type(value).__name__ == "_TypedDictMeta"
        make = make_typed_dict if is_typed_dict else make_class
        return _made(make, args, state, set_class)

    def _enum(self, value: type[enum.Enum]) -> Reduced:
        members = {name: member._value_ for name, member in value.__members__.items()}
        state = _class_state(value, MADE_OF_CLASSES | MADE_OF_ENUMS | set(members))
        # Attributes that __init__ or __new__ have set on members.
        state["members"] = {
            name: {n: v for n, v in _attributes(member).items() if n not in _MADE_OF_MEMBERS}
            for name, member in value.__members__.items()
        }
        args = (type(value), value.__name__, value.__bases__, members, value.__module__)
        return _made(make_enum, (*args, *_contents_of_members(value)), state, set_class)

    # -- types that pickle does not take --------------------------------------------------------

    def cached_function(self, value: Any) -> Reduced:
        """Take apart a function behind ``lru_cache``; its cache does not travel."""
        asked = value.cache_parameters()
        return make_cached, (value.__wrapped__, asked["maxsize"], asked["typed"])

    def type_parameter(self, value: Any) -> Reduced:
        """Take a TypeVar, a ParamSpec or a TypeVarTuple apart."""
        asked = _asked_of(value)
        constraints = tuple(map(_as_type, getattr(value, "__constraints__", ())))
        bound = asked.get("bound")
        if _is_made_of(bound, value):  # class C[T: C]
            cell = self._cell(value)
            text = f"def made[{value.__name__}: __held__()](): 0"
            return _made(make_late, (text, cell), (cell, bound), set_late)
        return make_type_parameter, (type(value), value.__name__, constraints, asked)

    def type_alias(self, value: Any) -> Reduced:
        """Take apart an alias made by a ``type`` statement."""
        held = value.__value__
        if _is_made_of(held, value):  # type A = list[A]
            if value.__type_params__:
                raise CannotTravel(f"{value.__name__}, a generic type that is made of itself")
            cell = self._cell(value)
            text = f"type {value.__name__} = __held__()"
            return _made(make_late, (text, cell), (cell, held), set_late)
        return make_type_alias, (value.__name__, held, value.__type_params__)

    def new_type(self, value: Any) -> Reduced:
        """Take a NewType apart."""
        return make_new_type, (value.__qualname__, value.__supertype__, value.__module__)


def _content(cell: types.CellType) -> tuple[object, ...]:
    try:
        return (cell.cell_contents,)
    except ValueError:  # not assigned yet
        return ()


def find(module: object, name: str) -> object:
    """Return the object under a dotted name in a module, None if there is none."""
    found = module
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def _submodule(module: types.ModuleType, chain: Iterable[str]) -> types.ModuleType | None:
    """Return the deepest module on a chain of attributes, as ``scipy.optimize`` of ``scipy``."""
    name, found = module.__name__, None
    for part in chain:
        name = f"{name}.{part}"
        if not isinstance(sys.modules.get(name), types.ModuleType):
            break
        found = sys.modules[name]
    return found


def _absolute(level: int, name: str, package: str) -> str:
    """Return the absolute name of a module imported from `level` packages up."""
    if not level:
        return name
    above = package.rsplit(".", level - 1)[0]
    return f"{above}.{name}" if name else above


def _attributes(value: Any) -> dict[str, Any]:
    """Return the attributes of an object, those in slots included."""
    slots = copyreg._slotnames(type(value))  # type: ignore[attr-defined]
    return {**{n: getattr(value, n) for n in slots if hasattr(value, n)}, **vars(value)}


def _contents_of_members(kind: Any) -> tuple[Any, ...]:
    """Return the content of members of a data type such as str, unless it is their value."""
    if kind._member_type_ is object:
        return ()
    of_code = _HEAP_TYPE | _IMMUTABLE
    base = next(base for base in kind.__mro__ if base.__flags__ & of_code != _HEAP_TYPE)
    contents: dict[str, tuple[Any, ...]] = {}
    for name, member in kind.__members__.items():
        if hasattr(base, "__getnewargs__"):
            contents[name] = base.__getnewargs__(member)
        else:  # as those of datetime
            contents[name] = () if base is object else base.__reduce__(member)[1]
    values = {name: member._value_ for name, member in kind.__members__.items()}
    are_plain = all(
        len(own) == 1 and own[0] == values[name] and type(own[0]) is type(values[name])
        for name, own in contents.items()
    )
    return () if are_plain else (base, contents)


def _as_type(value: Any) -> Any:
    """Return a type given by its name as typing stores it."""
    return typing.ForwardRef(value) if isinstance(value, str) else value


def _asked_of(value: Any) -> dict[str, Any]:
    """Return the arguments that a type parameter was made with."""
    names = ("bound", "covariant", "contravariant", "infer_variance", "default")
    asked = {name: getattr(value, f"__{name}__", _NO_DEFAULT) for name in names}
    if asked["bound"] in (None, type(None)):  # which ParamSpec makes of no bound
        del asked["bound"]
    return {name: _as_type(own) for name, own in asked.items() if own is not _NO_DEFAULT}


def _is_made_of(kind: Any, value: Any) -> bool:
    """Return whether the type `kind` contains `value`."""
    left, met = [kind], set()
    while left:
        one = left.pop()
        if one is value:
            return True
        if id(one) not in met:
            met.add(id(one))
            left.append(one.__value__ if type(one) is TYPE_ALIAS else None)
            left.append(getattr(one, "__origin__", None))
            for name in ("__args__", "__orig_bases__", "__type_params__"):
                parts = getattr(one, name, ())
                left += parts if isinstance(parts, tuple) else ()
    return False


def _class_state(value: type, left_out: Iterable[str]) -> dict[str, Any]:
    body = {name: held for name, held in vars(value).items() if name not in left_out}
    if body.get("__annotations__") == {}:  # Python makes them on access
        del body["__annotations__"]
    if "__annotations__" not in body and "__annotate__" in vars(value):
        body["__annotations__"] = value.__annotations__
    registered: set[type] = set()
    if isinstance(value, abc.ABCMeta):
        found = (reference() for reference in abc._get_dump(value)[0])  # type: ignore[attr-defined]
        registered = {kind for kind in found if kind is not None}
    return {
        "qualname": value.__qualname__,
        "body": body,
        "registered": registered,
        "doc": vars(value).get("__doc__"),
    }


def _lock(reducer: Reducer, value: Any) -> Reduced:
    if not value.acquire(blocking=False):
        raise CannotTravel("a lock that is held")
    value.release()
    return (threading.RLock if isinstance(value, _RLOCK) else threading.Lock), ()


def _random_state(reducer: Reducer, value: Any) -> Reduced | None:
    return (global_random_state, ()) if value is global_random_state() else None


def _file(reducer: Reducer, value: Any) -> Reduced | None:
    for name in ("stdout", "stderr"):
        if value in (getattr(sys, name), getattr(sys, f"__{name}__")):
            return getattr, (sys, name)
    raise CannotTravel("an open file")


def _memory_view(reducer: Reducer, value: memoryview) -> Reduced:
    if value.format != "B" or value.ndim != 1:
        raise CannotTravel("a memoryview of items that are not bytes")
    return memoryview, (value.tobytes(),)


def _path(reducer: Reducer, value: pathlib.PurePath) -> Reduced:
    # Python 3.13 keeps the spelling: a//b for a/b.
    return type(value), value.parts


def _cached_property(reducer: Reducer, value: Any) -> Reduced:
    return functools.cached_property, (value.func,), {"attrname": value.attrname}


def _weak_set(reducer: Reducer, value: Any) -> Reduced:
    return weakref.WeakSet, (set(value),)


#: Taken apart unless an installed module has them under their name.
_NAMED = frozenset({
    types.FunctionType, type, _CACHED_FUNCTION, typing.TypeVar, typing.ParamSpec,
    typing.TypeVarTuple, typing.NewType, TYPE_ALIAS,
})  # fmt: skip
#: Tried in this order if the exact type is not in the table.
_BASES = (type, types.ModuleType)
_TAKERS: dict[type, Callable[[Reducer, Any], Reduced | None]] = {
    types.FunctionType: Reducer.function,
    type: Reducer.class_,
    types.ModuleType: Reducer.module,
    np.ufunc: Reducer.ufunc,
    _CACHED_FUNCTION: Reducer.cached_function,
    **dict.fromkeys(
        (typing.TypeVar, typing.ParamSpec, typing.TypeVarTuple), Reducer.type_parameter
    ),
    typing.NewType: Reducer.new_type,
    functools.cached_property: _cached_property,
    _LOCK: _lock,
    _RLOCK: _lock,
    np.random.RandomState: _random_state,
    io.TextIOWrapper: _file,
    memoryview: _memory_view,
    weakref.WeakSet: _weak_set,
    TYPE_ALIAS: Reducer.type_alias,
    **dict.fromkeys((pathlib.PurePosixPath, pathlib.PosixPath, pathlib.PureWindowsPath), _path),
}


def _same(value: Any) -> Any:
    return value


# -- libraries that pickle in a new way in each process ----------------------------------------


def _complete(kind: Any) -> None:
    """Complete a class of pydantic, as its first use would; refuse classes of numba."""
    if type(kind).__module__.startswith("numba."):
        _refused(kind)
    if vars(kind).get("__pydantic_complete__") is False:
        options = {"raise_errors": False, "_parent_namespace_depth": 0}
        if hasattr(kind, "model_rebuild"):
            kind.model_rebuild(**options)
        else:
            sys.modules["pydantic.dataclasses"].rebuild_dataclass(kind, **options)


def _reducer_of_library(value: object) -> Callable[[Any], tuple[Any, ...]] | None:
    """Return the function that takes apart `value` of a library, None if pickle does."""
    kind = type(value)
    library = kind.__module__.partition(".")[0]
    if library == "numba" and hasattr(kind, "_reduce_states"):
        return _dispatcher
    if library == "numba" and hasattr(kind, "_intern"):
        return _numba_type
    if library == "numba" and callable(value):
        return _refused
    if library == "scipy" and hasattr(kind, "__setstate__") and hasattr(value, "_delegate_to"):
        return _interpolation
    return _PYDANTIC.get(kind.__name__) if library == "pydantic" else None


#: Without names and options that pydantic has cached so far.
_PYDANTIC: Mapping[str, Callable[[Any], tuple[Any, ...]]] = {
    "ConfigWrapper": lambda value: (type(value), (value.config_dict,)),
    "NsResolver": lambda value: (type(value), ()),
}


def _refused(value: Any) -> tuple[Any, ...]:
    raise PicklingError(f"a {type(value).__name__} of numba")


def _interpolation(value: Any) -> tuple[Any, ...]:
    """Take an interpolation of scipy apart; loading changes the order of its attributes."""
    make, args, state, *rest = value.__reduce_ex__(4)
    return make, args, dict(sorted(state.items())) if type(state) is dict else state, *rest


def _numba_type(value: Any) -> tuple[Any, ...]:
    """Take a type of numba apart, without its number in the order of creation."""
    load, (make, args, state) = value.__reduce__()
    return load, (make, args, {n: held for n, held in (state or {}).items() if n != "_code"})


def _dispatcher(value: Any) -> tuple[Any, ...]:
    """Take a function of numba apart, without the id that each process makes anew."""
    kind, states = type(value), value._reduce_states()
    if "uuid" not in states:  # ufuncs, whose loops count: one for floats takes integers too
        return make_ufunc, (kind, states)
    del states["uuid"]
    if states["can_compile"]:  # signatures of the calls so far
        states["sigs"] = []
    # The state of a recursive function contains the function itself.
    return _made(make_dispatcher, (kind,), states, set_dispatcher)


def is_distribution(value: object) -> bool:
    """Return whether `value` is a distribution of scipy, or of a derived class."""
    kind = type(value)
    return hasattr(kind, "random_state") and any(
        base.__module__.startswith("scipy.stats.") for base in kind.__mro__
    )


# -- byte code: the globals that a function reaches, its imports, its docstring ----------------


@dataclass(frozen=True, slots=True)
class Reach:
    """Names that a function reaches.

    ``names`` are globals, sorted.  ``chains`` has the attributes that follow a global
    (``pkg.sub.f``: ``("sub", "f")``), if none of its uses is without one.  ``imports`` are
    level, module and names of each import statement.
    """

    names: tuple[str, ...]
    chains: dict[str, frozenset[tuple[str, ...]]]
    imports: tuple[tuple[int, str, tuple[str, ...]], ...]


@functools.lru_cache(maxsize=4096)
def reach_of(code: types.CodeType) -> Reach:
    """Return the names that `code` and all code in it reach."""
    used: dict[str, set[tuple[str, ...]]] = {}
    imports: list[tuple[int, str, tuple[str, ...]]] = []
    for inner in codes_in(code):
        instructions = [i for i in dis.get_instructions(inner) if i.opname != "EXTENDED_ARG"]
        _read(instructions, used, imports)
    chains = {name: frozenset(own) for name, own in used.items() if () not in own}
    return Reach(tuple(sorted(used)), chains, tuple(dict.fromkeys(imports)))


def _read(
    instructions: list[dis.Instruction],
    used: dict[str, set[tuple[str, ...]]],
    imports: list[tuple[int, str, tuple[str, ...]]],
) -> None:
    for index, instruction in enumerate(instructions):
        if instruction.opname in _LOADS:
            chain = tuple(_attributes_after(instructions, index))
            used.setdefault(instruction.argval, set()).add(chain)
        elif instruction.opname in _STORES:
            used.setdefault(instruction.argval, set()).add(())
        elif instruction.opname == "IMPORT_NAME":
            # Two instructions before it push the level and the names after "import".
            level, names = (instructions[index - back].argval for back in (2, 1))
            level = level if isinstance(level, int) else 0
            imports.append((level, instruction.argval, tuple(names or ())))


def _attributes_after(instructions: list[dis.Instruction], index: int) -> Iterator[str]:
    for instruction in instructions[index + 1 :]:
        if instruction.opname not in _ATTRIBUTES:
            return
        yield instruction.argval


def codes_in(code: types.CodeType) -> Iterator[types.CodeType]:
    """Yield `code` and all code in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from codes_in(constant)


@functools.lru_cache(maxsize=4096)
def has_docstring(code: types.CodeType) -> bool:
    """Return whether the first constant of `code` is only its docstring."""
    first = code.co_consts[0] if code.co_consts else None
    if not isinstance(first, str) or code.co_flags & _FUNCTION != _FUNCTION:
        return False
    # Before 3.13 the first constant of a function is its docstring or None.
    is_one = code.co_flags & _HAS_DOCSTRING or (
        not _HAS_DOCSTRING_IS_SET_HERE and not code.co_name.startswith("<")
    )
    return bool(is_one) and not any(
        instruction.opcode in dis.hasconst and instruction.arg == 0
        for instruction in dis.get_instructions(code)
    )


def _documented() -> None:
    """Have a docstring."""


_HAS_DOCSTRING_IS_SET_HERE = bool(_documented.__code__.co_flags & _HAS_DOCSTRING)


def reads_docstrings(code: types.CodeType) -> bool:
    """Return whether `code` may read docstrings."""
    return "__doc__" in code.co_names or "getdoc" in code.co_names or "__doc__" in code.co_consts


# -- functions that payloads call to rebuild objects -------------------------------------------


def make_namespace(name: str, package: str | None) -> types.ModuleType:
    """Return an empty module for globals; payloads put it into ``sys.modules``."""
    module = types.ModuleType(name)
    vars(module).update(__builtins__=builtins, __package__=package)
    return module


def fill_namespace(module: types.ModuleType, values: Mapping[str, object]) -> None:
    vars(module).update(values)


def fill_module(module: types.ModuleType, values: Mapping[str, object]) -> None:
    """Set all attributes of a module, in order."""
    for name in values:
        vars(module).pop(name, None)
    vars(module).update(values)


def make_function(
    code: types.CodeType, module: types.ModuleType, cells: tuple[types.CellType, ...]
) -> types.FunctionType:
    """Return a function in the namespace of `module`."""
    return types.FunctionType(code, vars(module), code.co_name, None, cells)


def set_function(function: Any, state: Mapping[str, Any]) -> None:
    function.__name__, function.__qualname__, function.__module__ = state["names"]
    function.__defaults__, function.__kwdefaults__ = state["defaults"], state["kwdefaults"]
    function.__annotations__, function.__doc__ = state["annotations"], state["doc"]
    if "type_params" in state:
        function.__type_params__ = state["type_params"]
    function.__dict__.update(state["attributes"])
    function.__globals__.update(state["globals"])
    for cell, content in state["cells"].values():
        if content:
            (cell.cell_contents,) = content


def make_class(meta: type, name: str, bases: tuple[Any, ...], space: Mapping[str, Any]) -> type:
    """Return a class without its body."""
    return types.new_class(name, bases, {"metaclass": meta}, lambda own: own.update(space))


def make_typed_dict(
    meta: type, name: str, bases: tuple[type, ...], space: Mapping[str, Any]
) -> type:
    return type.__new__(meta, name, bases, dict(space))


def make_enum(
    meta: Any,
    name: str,
    bases: tuple[type, ...],
    members: Mapping[str, Any],
    module: str,
    base: Any = None,
    contents: Mapping[str, tuple[Any, ...]] | None = None,
) -> type[enum.Enum]:
    """Return an enum with its members and without the rest of its body."""
    space = meta.__prepare__(name, bases)
    for member, value in members.items():
        space[member] = enum.member(value)  # functions, too
    if contents is not None:
        made = iter([(members[member], own) for member, own in contents.items()])

        def make_member(kind: Any, *args: Any) -> Any:
            value, own = next(made)
            member = base.__new__(kind, *own)
            member._value_ = value
            return member

        space["__new__"] = make_member
    space["__module__"] = module
    return meta.__new__(meta, name, bases, space)  # type: ignore[no-any-return]


def set_class(kind: Any, state: Mapping[str, Any]) -> None:
    """Set the body of a class in order; remove attributes that its bases have added."""
    body, members = state["body"], state.get("members", {})
    made = MADE_OF_CLASSES | MADE_OF_ENUMS | slots_of(kind)
    made |= {*members, "__slots__", "__orig_bases__"}
    for name in [*vars(kind)]:
        if name in body or name not in made:
            type.__delattr__(kind, name)
    for name, held in body.items():
        type.__setattr__(kind, name, held)
    for name, own in members.items():
        member, slots = kind.__members__[name], copyreg._slotnames(kind)  # type: ignore[attr-defined]
        for slot in own.keys() & slots:
            object.__setattr__(member, slot, own[slot])
        vars(member).update({n: v for n, v in own.items() if n not in slots})
    kind.__qualname__ = state["qualname"]
    if state["doc"] is not None:
        type.__setattr__(kind, "__doc__", state["doc"])
    for other in state["registered"]:
        kind.register(other)


def make_cached(function: Any, maxsize: int | None, typed: bool) -> Any:
    return functools.lru_cache(maxsize, typed)(function)


def make_type_parameter(
    kind: Any, name: str, constraints: tuple[Any, ...], asked: Mapping[str, Any]
) -> Any:
    return kind(name, *constraints, **asked)


def make_type_alias(name: str, value: Any, params: tuple[Any, ...]) -> Any:
    return TYPE_ALIAS(name, value, type_params=params)


def make_late(text: str, cell: types.CellType) -> Any:
    """Return the result of `text`, whose types are read later from `cell`."""
    space: dict[str, Any] = {}
    exec(text, {"__held__": lambda: cell.cell_contents}, space)
    (made,) = space.values()
    return made if type(made) is TYPE_ALIAS else made.__type_params__[0]


def set_late(made: Any, state: tuple[types.CellType, Any]) -> None:
    """Fill the cell of :func:`make_late`."""
    cell, held = state
    cell.cell_contents = held


def make_new_type(name: str, base: Any, module: str) -> Any:
    kind: Any = typing.NewType(name, base)  # type: ignore[misc]
    kind.__module__ = module
    return kind


def global_random_state() -> Any:
    """Return numpy's global RandomState."""
    return np.random.mtrand._rand


def slots_of(kind: type) -> set[str]:
    own = vars(kind).get("__slots__", ())
    names = [own] if isinstance(own, str) else list(own)
    return {_mangled(kind, name) for name in names}


def _mangled(kind: type, name: str) -> str:
    private = name.startswith("__") and not name.endswith("__") and kind.__name__.strip("_")
    return f"_{kind.__name__.lstrip('_')}{name}" if private else name


def make_ufunc(kind: Any, states: Mapping[str, Any]) -> Any:
    return kind._rebuild(**states)


def make_dispatcher(kind: Any) -> Any:
    """Return a function of numba before its state is set."""
    return kind.__new__(kind)


def set_dispatcher(function: Any, states: Mapping[str, Any]) -> None:
    """Set the state of a function of numba, and compile its signatures."""
    function.__init__(states["py_func"], states["locals"], states["targetoptions"])
    for signature in states["sigs"]:
        function.compile(signature)
    function._can_compile = states["can_compile"]
