"""How objects are taken apart: the same way for the digest and for the payload.

Pickle's reduce protocol is the basis.  :class:`Reducer` adds user code, which travels by value::

    function   code, cells, defaults, attributes, and the globals that it can reach
    class      metaclass, name, bases, and its body in order
    module     a namespace that is filled with what is reached of it, or with all of it
    cell       a place of its own, so that closures go on to share it

The functions of one module share one namespace, as they share the globals of that module.
Everything else goes by name if it is found under its name in an installed module.
"""

from __future__ import annotations

import abc
import builtins
import copyreg
import enum
import functools
import importlib
import io
import os
import pathlib
import sys
import threading
import types
import typing
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from pickle import PicklingError
from typing import Any

import numpy as np

from optomatic.keys import libraries
from optomatic.keys.bytecode import Reach, reach_of

_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made by a class statement
_IMMUTABLE = 1 << 8  # Py_TPFLAGS_IMMUTABLETYPE: or not, as Decimal since Python 3.13
#: Class attributes that Python makes from the rest of the class.
_MADE_OF_CLASSES = frozenset(
    {
        *("__dict__", "__weakref__", "__module__", "__qualname__", "__doc__", "__slotnames__"),
        *("_abc_impl", "__annotate__", "__annotate_func__", "__annotations_cache__"),
        *("__firstlineno__", "__static_attributes__"),
    }
)
_MADE_OF_ENUMS = frozenset(
    {
        *("_generate_next_value_", "_member_names_", "_member_map_", "_member_type_"),
        *("_value2member_map_", "_unhashable_values_", "_hashable_values_", "__new_member__"),
        *("_use_args_", "_new_member_", "_value_repr_", "_singles_mask_", "_flag_mask_"),
        *("_all_bits_", "_boundary_", "_inverted_", "_iter_member_", "_unhashable_values_map_"),
    }
)
_MADE_OF_MEMBERS = frozenset({"_value_", "_name_", "__objclass__", "_sort_order_"})
#: Entries of a module's dict that the import system makes.
_MADE_OF_MODULES = frozenset(
    {
        *("__name__", "__doc__", "__package__", "__loader__", "__spec__", "__file__"),
        *("__cached__", "__builtins__", "__path__", "__warningregistry__"),
    }
)
_MAIN = ("__main__", "__mp_main__")
_LOCK, _RLOCK = type(threading.Lock()), type(threading.RLock())
_NO_DEFAULT = getattr(typing, "NoDefault", object())  # of type parameters, since Python 3.13
_TYPE_ALIAS: Any = getattr(typing, "TypeAliasType", None)  # since Python 3.12
_CACHED_FUNCTION = type(functools.lru_cache(len))


#: What ``__reduce_ex__`` returns: callable, args, state, items, pairs, setter.
Reduced = tuple[Any, ...]


class CannotTravel(PicklingError):
    """An object cannot be sent; the text says what it is."""


class Namespace:
    """The globals of functions, before there is a module for them on the other side."""

    def __init__(self, space: Mapping[str, Any]) -> None:
        self.name = space.get("__name__")
        self.package = space.get("__package__")
        self.space = space  # kept alive: namespaces are known by the id of a dict

    def __reduce__(self) -> Reduced:
        return make_namespace, (str(self.name), self.package)


class Cell:
    """A cell of a closure, without what it holds."""

    def __reduce__(self) -> Reduced:
        return types.CellType, ()


class Part:
    """What is reached of a module: a namespace, and values by name."""

    def __init__(self, namespace: Namespace, values: Mapping[str, object]) -> None:
        self.namespace = namespace
        self.values = values

    def __reduce__(self) -> Reduced:
        return _same, (self.namespace,), self.values, None, None, fill_namespace


class Reducer:
    """Takes objects apart.  One of them remembers which namespaces and cells it has met.

    Parameters
    ----------
    travels : callable
        Module name -> whether its functions and classes go by value.
    """

    def __init__(self, travels: Callable[[str], bool]) -> None:
        self.travels = travels
        self._namespaces: dict[int, Namespace] = {}
        self._cells: dict[int, tuple[object, Cell]] = {}
        #: User modules that imports in function bodies find, by name.
        self.modules: dict[str, Namespace] = {}
        #: What was reached of user modules, by ``module.name``.
        self.reached: dict[str, object] = {}

    def reduce(self, value: Any) -> Reduced | str | None:
        """Return how to rebuild `value`; None if it is left to pickle's own protocol.

        Raises
        ------
        CannotTravel
            If it cannot be sent, or not all of it.
        """
        for kind in (type(value), *_BASES):
            take_apart = _TAKERS.get(kind)
            if take_apart is not None and isinstance(value, kind):
                return take_apart(self, value)
        of_library = libraries.reducer_of(value)
        if of_library is not None and not self.goes_by_name(value):
            return of_library(value)
        if value is os.environ:  # it is each process's own, and passwords stand in it
            return getattr, (os, "environ")
        return self._singleton(value)

    def _singleton(self, value: Any) -> Reduced | str | None:
        """Take an object apart that is, or pickles as, a global of a module."""
        kind = type(value)
        if getattr(value, "__dict__", None) == {} and not self.travels(kind.__module__):
            # It is nothing but itself: code asks for the one that is there, as dataclasses.MISSING.
            there = getattr(sys.modules.get(kind.__module__), "__dict__", {})
            return next((name for name, held in [*there.items()] if held is value), None)
        own = (kind.__reduce__, kind.__reduce_ex__)
        if not any(isinstance(method, types.FunctionType) for method in own):
            return None
        if not self.travels(kind.__module__) or not isinstance(value.__reduce_ex__(4), str):
            return None
        return copyreg.__newobj__, (kind,), vars(value)  # type: ignore[attr-defined]

    def goes_by_name(self, value: Any) -> bool:
        """Tell whether `value` is found under its name in a module that does not travel."""
        module = getattr(value, "__module__", None)
        name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
        if not isinstance(module, str) or module in _MAIN or not name or self.travels(module):
            return False
        if isinstance(value, type) and not value.__flags__ & _HEAP_TYPE:
            return True
        return find(sys.modules.get(module), name) is value

    def home_of(self, value: Any, name: str) -> str | None:
        """Return the installed module in which `value` is found under `name`."""
        said = getattr(value, "__module__", None)
        first = [said] if isinstance(said, str) else []
        for module in [*first, "numpy", "scipy.special", *sorted(sys.modules)]:
            if module in _MAIN or self.travels(module):
                continue
            if find(sys.modules.get(module), name) is value:
                return module
        return None

    def ufunc(self, value: np.ufunc) -> Reduced:
        """Take a ufunc apart: pickle looks for its name in all modules, which some warn of."""
        home = self.home_of(value, value.__name__)
        if home is None:
            raise CannotTravel(f"{value.__name__}, a ufunc of no installed module")
        return getattr, (sys.modules[home], value.__name__)

    # -- code ----------------------------------------------------------------------------------

    def function(self, value: types.FunctionType) -> Reduced | None:
        """Take a function apart."""
        if self.goes_by_name(value):
            return None
        code = value.__code__
        cells = tuple(self._cell(cell) for cell in value.__closure__ or ())
        state = {
            "names": (value.__name__, value.__qualname__, value.__module__),
            "defaults": value.__defaults__,
            "kwdefaults": value.__kwdefaults__,
            "annotations": value.__annotations__,
            "attributes": value.__dict__,
            "cells": dict(zip(code.co_freevars, self._contents(value, cells), strict=True)),
            "doc": value.__doc__,
            **self._globals_of(value),
        }
        if getattr(value, "__type_params__", ()):  # since Python 3.12
            state["type_params"] = value.__type_params__  # type: ignore[attr-defined]
        return make_function, (code, self.namespace(value), cells), state, None, None, set_function

    def _cell(self, cell: object) -> Cell:
        return self._cells.setdefault(id(cell), (cell, Cell()))[1]

    def _contents(self, value: Any, cells: tuple[Cell, ...]) -> Iterator[tuple[Cell, Any]]:
        held = map(_content, value.__closure__ or ())
        return zip(cells, held, strict=True)

    def namespace(self, function: types.FunctionType) -> object:
        """Return what stands for the globals of `function`."""
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
        """Return the globals that `function` reaches, and the modules that it imports."""
        namespace = self.namespace(function)
        if not isinstance(namespace, Namespace):  # of an installed module: they are there
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
        """Return what a global is sent as, and submodules that must be loaded beside it."""
        if not isinstance(value, types.ModuleType) or chains is None:
            return value, []
        if self.travels(value.__name__):
            return self._part(value, chains), []
        inner = (_submodule(value, chain) for chain in chains)
        return value, [module for module in inner if module is not None]

    def _part(self, module: types.ModuleType, chains: Iterable[tuple[str, ...]]) -> object:
        """Return what the attribute chains in `chains` reach of `module`."""
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
        return Part(self._enter(module), values)

    def _enter(self, module: types.ModuleType) -> Namespace:
        """Return the namespace of a user module, which imports then find."""
        namespace = self._space(vars(module))
        if module.__name__ not in _MAIN:
            self.modules[module.__name__] = namespace
        return namespace

    def _imported(self, reach: Reach, package: str) -> Iterator[object]:
        """Return what imports in the body of a function need of user modules."""
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
        # A key must be the same before and after the first call, so what a function is going to
        # import is imported here.
        if not self.travels(name) or name in _MAIN:
            return None
        try:
            found = sys.modules.get(name) or importlib.import_module(name)
        except (Exception, SystemExit):  # whatever a user module raises as it is imported
            return None
        return found if isinstance(found, types.ModuleType) else None

    def _parents(self, name: str) -> Iterator[object]:
        """Return the packages that a dotted name needs, each with the one below it."""
        above, _, last = name.rpartition(".")
        if above and (package := self._user_module(above)) is not None:
            below = self._user_module(name)
            held = {} if below is None else {last: Part(self._enter(below), {})}
            yield Part(self._enter(package), held)
            yield from self._parents(above)

    def module(self, value: types.ModuleType) -> Reduced:
        """Take a module apart that is used as an object."""
        name = value.__name__
        if not self.travels(name) and sys.modules.get(name) is value:
            return importlib.import_module, (name,)
        if name in _MAIN:
            raise CannotTravel("the module __main__ as a whole")
        held = {n: v for n, v in vars(value).items() if n not in _MADE_OF_MODULES}
        self.reached.update({f"{name}.{own}": part for own, part in held.items()})
        return _same, (self._enter(value),), held, None, None, fill_module

    # -- classes -------------------------------------------------------------------------------

    def class_(self, value: type) -> Reduced | None:
        """Take a class apart."""
        if self.goes_by_name(value):
            return None
        libraries.complete(value)
        if issubclass(value, enum.Enum) and "_member_map_" in vars(value):
            return self._enum(value)
        space: dict[str, Any] = {"__module__": value.__module__}
        if "__slots__" in vars(value):
            space["__slots__"] = vars(value)["__slots__"]
        if "__orig_bases__" in vars(value):  # Generic looks for them
            space["__orig_bases__"] = vars(value)["__orig_bases__"]
        left_out = {"__slots__", "__orig_bases__", "__pydantic_parent_namespace__"}
        state = _class_state(value, _MADE_OF_CLASSES | _slots(value) | left_out)
        args = (type(value), value.__name__, value.__bases__, space)
        is_typed_dict = type(value).__name__ == "_TypedDictMeta"
        make = make_typed_dict if is_typed_dict else make_class
        return make, args, state, None, None, set_class

    def _enum(self, value: type[enum.Enum]) -> Reduced:
        members = {name: member._value_ for name, member in value.__members__.items()}
        state = _class_state(value, _MADE_OF_CLASSES | _MADE_OF_ENUMS | set(members))
        # What __init__ or __new__ have given to members.
        state["members"] = {
            name: {n: v for n, v in _attributes(member).items() if n not in _MADE_OF_MEMBERS}
            for name, member in value.__members__.items()
        }
        args = (type(value), value.__name__, value.__bases__, members, value.__module__)
        return make_enum, (*args, *_contents_of_members(value)), state, None, None, set_class

    # -- what pickle cannot do -----------------------------------------------------------------

    def cached_function(self, value: Any) -> Reduced | None:
        """Take a function behind ``lru_cache`` apart; what is cached does not travel."""
        if self.goes_by_name(value):
            return None
        asked = value.cache_parameters()
        return make_cached, (value.__wrapped__, asked["maxsize"], asked["typed"])

    def type_parameter(self, value: Any) -> Reduced | None:
        """Take a TypeVar, a ParamSpec or a TypeVarTuple apart."""
        if self.goes_by_name(value):
            return None
        asked = _asked_of(value)
        constraints = tuple(map(_as_type, getattr(value, "__constraints__", ())))
        bound = asked.get("bound")
        if _is_made_of(bound, value):  # class C[T: C]
            cell = self._cell(value)
            text = f"def made[{value.__name__}: __held__()](): 0"
            return make_late, (text, cell), (cell, bound), None, None, set_late
        return make_type_parameter, (type(value), value.__name__, constraints, asked)

    def type_alias(self, value: Any) -> Reduced | None:
        """Take what a ``type`` statement makes apart."""
        if self.goes_by_name(value):
            return None
        held = value.__value__
        if _is_made_of(held, value):  # type A = list[A]
            if value.__type_params__:
                raise CannotTravel(f"{value.__name__}, a generic type that is made of itself")
            cell = self._cell(value)
            text = f"type {value.__name__} = __held__()"
            return make_late, (text, cell), (cell, held), None, None, set_late
        return make_type_alias, (value.__name__, held, value.__type_params__)

    def new_type(self, value: Any) -> Reduced | None:
        """Take a NewType apart."""
        if self.goes_by_name(value):
            return None
        return make_new_type, (value.__qualname__, value.__supertype__, value.__module__)


def _content(cell: types.CellType) -> tuple[object, ...]:
    try:
        return (cell.cell_contents,)
    except ValueError:  # not assigned yet
        return ()


def find(module: object, name: str) -> object:
    """Return what is found under a dotted name in a module, None if nothing is."""
    found = module
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def _submodule(module: types.ModuleType, chain: Iterable[str]) -> types.ModuleType | None:
    """Return the deepest module that attributes lead to, as ``scipy.optimize`` of ``scipy``."""
    name, found = module.__name__, None
    for part in chain:
        name = f"{name}.{part}"
        if not isinstance(sys.modules.get(name), types.ModuleType):
            break
        found = sys.modules[name]
    return found


def _absolute(level: int, name: str, package: str) -> str:
    """Return the whole name of a module that is imported from `level` packages up."""
    if not level:
        return name
    above = package.rsplit(".", level - 1)[0]
    return f"{above}.{name}" if name else above


def _slots(kind: type) -> set[str]:
    own = vars(kind).get("__slots__", ())
    names = [own] if isinstance(own, str) else list(own)
    return {_mangled(kind, name) for name in names}


def _mangled(kind: type, name: str) -> str:
    private = name.startswith("__") and not name.endswith("__") and kind.__name__.strip("_")
    return f"_{kind.__name__.lstrip('_')}{name}" if private else name


def _attributes(value: Any) -> dict[str, Any]:
    """Return the attributes of an object, in slots too."""
    slots = copyreg._slotnames(type(value))  # type: ignore[attr-defined]
    return {**{n: getattr(value, n) for n in slots if hasattr(value, n)}, **vars(value)}


def _contents_of_members(kind: Any) -> tuple[Any, ...]:
    """Return what members are besides their values, as texts are; nothing if they are the same."""
    if kind._member_type_ is object:
        return ()
    of_code = _HEAP_TYPE | _IMMUTABLE
    base = next(base for base in kind.__mro__ if base.__flags__ & of_code != _HEAP_TYPE)
    contents: dict[str, tuple[Any, ...]] = {}
    for name, member in kind.__members__.items():
        if hasattr(base, "__getnewargs__"):
            contents[name] = base.__getnewargs__(member)
        else:  # moments of datetime say it in this way
            contents[name] = () if base is object else base.__reduce__(member)[1]
    values = {name: member._value_ for name, member in kind.__members__.items()}
    are_plain = all(
        len(own) == 1 and own[0] == values[name] and type(own[0]) is type(values[name])
        for name, own in contents.items()
    )
    return () if are_plain else (base, contents)


def _as_type(value: Any) -> Any:
    """Return a type as typing stores it that is given by its name."""
    return typing.ForwardRef(value) if isinstance(value, str) else value


def _asked_of(value: Any) -> dict[str, Any]:
    """Return what a type parameter was made with."""
    names = ("bound", "covariant", "contravariant", "infer_variance", "default")
    asked = {name: getattr(value, f"__{name}__", _NO_DEFAULT) for name in names}
    if asked["bound"] in (None, type(None)):  # which ParamSpec makes of no bound
        del asked["bound"]
    return {name: _as_type(own) for name, own in asked.items() if own is not _NO_DEFAULT}


def _is_made_of(kind: Any, value: Any) -> bool:
    """Tell whether `value` stands in the type `kind`."""
    left, met = [kind], set()
    while left:
        one = left.pop()
        if one is value:
            return True
        if id(one) not in met:
            met.add(id(one))
            left.append(one.__value__ if type(one) is _TYPE_ALIAS else None)
            left.append(getattr(one, "__origin__", None))
            for name in ("__args__", "__orig_bases__", "__type_params__"):
                parts = getattr(one, name, ())
                left += parts if isinstance(parts, tuple) else ()
    return False


def _class_state(value: type, left_out: Iterable[str]) -> dict[str, Any]:
    body = {name: held for name, held in vars(value).items() if name not in left_out}
    if body.get("__annotations__") == {}:  # Python makes them when somebody asks
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
    # Python 3.13 itself says how it was written: as a//b, which is a/b.
    return type(value), value.parts


def _cached_property(reducer: Reducer, value: Any) -> Reduced:
    return functools.cached_property, (value.func,), {"attrname": value.attrname}


def _weak_set(reducer: Reducer, value: Any) -> Reduced:
    return weakref.WeakSet, (set(value),)


#: Looked for in this order if the exact type is not in the table.
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
    **dict.fromkeys((pathlib.PurePosixPath, pathlib.PosixPath, pathlib.PureWindowsPath), _path),
}


if _TYPE_ALIAS is not None:
    _TAKERS[_TYPE_ALIAS] = Reducer.type_alias


def make_namespace(name: str, package: str | None) -> types.ModuleType:
    """Return an empty module for globals; it stands in ``sys.modules`` while units are scored."""
    module = types.ModuleType(name)
    vars(module).update(__builtins__=builtins, __package__=package)
    return module


def _same(value: Any) -> Any:
    return value


def fill_namespace(module: types.ModuleType, values: Mapping[str, object]) -> None:
    """Set attributes of a module."""
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
    """Set the rest of a function."""
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
    """Return a class of dicts with types for checkers, without its body."""
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
    """Set the body of a class, in order; remove what its bases have put there meanwhile."""
    body, members = state["body"], state.get("members", {})
    made = _MADE_OF_CLASSES | _MADE_OF_ENUMS | _slots(kind)
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
    """Return `function` behind an empty cache."""
    return functools.lru_cache(maxsize, typed)(function)


def make_type_parameter(
    kind: Any, name: str, constraints: tuple[Any, ...], asked: Mapping[str, Any]
) -> Any:
    """Return a TypeVar, a ParamSpec or a TypeVarTuple."""
    return kind(name, *constraints, **asked)


def make_type_alias(name: str, value: Any, params: tuple[Any, ...]) -> Any:
    """Return what a ``type`` statement makes."""
    return _TYPE_ALIAS(name, value, type_params=params)


def make_late(text: str, cell: types.CellType) -> Any:
    """Return what `text` makes of types, which are read from `cell` when they are asked for."""
    space: dict[str, Any] = {}
    exec(text, {"__held__": lambda: cell.cell_contents}, space)
    (made,) = space.values()
    return made if type(made) is _TYPE_ALIAS else made.__type_params__[0]


def set_late(made: Any, state: tuple[types.CellType, Any]) -> None:
    """Set the types that are read later."""
    cell, held = state
    cell.cell_contents = held


def make_new_type(name: str, base: Any, module: str) -> Any:
    """Return a NewType."""
    kind: Any = typing.NewType(name, base)  # type: ignore[misc]
    kind.__module__ = module
    return kind


def global_random_state() -> Any:
    """Return numpy's global RandomState."""
    return np.random.mtrand._rand
