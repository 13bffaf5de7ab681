"""Functions that payloads call to rebuild objects that keys/reducers.py has taken apart.

Payloads and digests contain their names.
"""

from __future__ import annotations

import builtins
import copyreg
import enum
import functools
import types
import typing
from collections.abc import Mapping
from typing import Any

import numpy as np

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


def make_namespace(name: str, package: str | None) -> types.ModuleType:
    """Return an empty module for globals; payloads put it into ``sys.modules``."""
    module = types.ModuleType(name)
    vars(module).update(__builtins__=builtins, __package__=package)
    return module


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
    """Return a TypedDict without its body."""
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
    """Return `function` behind an empty cache."""
    return functools.lru_cache(maxsize, typed)(function)


def make_type_parameter(
    kind: Any, name: str, constraints: tuple[Any, ...], asked: Mapping[str, Any]
) -> Any:
    """Return a TypeVar, a ParamSpec or a TypeVarTuple."""
    return kind(name, *constraints, **asked)


def make_type_alias(name: str, value: Any, params: tuple[Any, ...]) -> Any:
    """Return a type alias."""
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
    """Return a NewType."""
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
    """Return a ufunc of numba."""
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
