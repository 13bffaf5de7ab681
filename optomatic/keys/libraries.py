"""Libraries whose objects pickle in a way that is new in each process."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import partial
from pickle import PicklingError
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optomatic.keys.stream import Stream


#: What pydantic makes of the rest of the class of a model or of a dataclass.
_MADE_OF_MODELS = frozenset(
    {
        *("__pydantic_complete__", "__pydantic_core_schema__", "__pydantic_fields_complete__"),
        *("__pydantic_serializer__", "__pydantic_setattr_handlers__", "__pydantic_validator__"),
        *("__return_pydantic_validator__", "__signature__"),
    }
)
#: The same of its own objects, as of a TypeAdapter: addresses are in it.
_MADE_OF_OBJECTS = _MADE_OF_MODELS | {
    *("_default_factory_takes_validated_data", "cls_ref"),
    *("core_schema", "serializer", "validator"),
}


def handler_of(kind: type) -> Callable[[Stream, Any, str], None] | None:
    """Return what writes instances of `kind`, None if their pickles say it."""
    torch = sys.modules.get("torch")
    return _tensor if torch is not None and issubclass(kind, torch.Tensor) else None


def _tensor(walk: Stream, value: Any, path: str) -> None:
    """Write a tensor of torch: its storage is pickled with its address."""
    torch = sys.modules["torch"]
    walk.put(b"tensor", str(value.dtype), repr(tuple(value.shape)), repr(value.requires_grad))
    walk.put(str(value.device), str(value.layout))
    walk.visit(type(value), path)
    held = value.detach().cpu()
    flat = (held if held.layout is torch.strided else held.to_dense()).contiguous()
    walk.content(flat.view(-1).view(torch.uint8).numpy().data if flat.numel() else b"")
    walk.visit(dict(vars(value)), path)


def made_by(value: Any) -> frozenset[str]:
    """Return the attributes that a library makes of the others of a class or an object."""
    if isinstance(value, type):
        return _MADE_OF_MODELS if "__pydantic_decorators__" in vars(value) else frozenset()
    return _MADE_OF_OBJECTS if type(value).__module__.startswith("pydantic.") else frozenset()


def complete(kind: Any) -> None:
    """Have a class be as it will be when it is first used.

    Raises
    ------
    PicklingError
        If it cannot travel.
    """
    if type(kind).__module__.startswith("numba."):
        _refused(kind)
    if vars(kind).get("__pydantic_complete__") is False:
        is_model = hasattr(kind, "model_rebuild")
        rebuild = kind.model_rebuild if is_model else partial(_rebuild_dataclass, kind)
        rebuild(raise_errors=False, _parent_namespace_depth=0)


def _rebuild_dataclass(kind: Any, **options: Any) -> None:
    sys.modules["pydantic.dataclasses"].rebuild_dataclass(kind, **options)


def reducer_of(value: object) -> Callable[[Any], tuple[Any, ...]] | None:
    """Return what takes `value` apart, None if its pickle says it."""
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


#: What pydantic has made of names and of options for annotations that it has read by now.
_PYDANTIC: Mapping[str, Callable[[Any], tuple[Any, ...]]] = {
    "ConfigWrapper": lambda value: (type(value), (value.config_dict,)),
    "NsResolver": lambda value: (type(value), ()),
}


def _refused(value: Any) -> tuple[Any, ...]:
    raise PicklingError(f"a {type(value).__name__} of numba")


def _interpolation(value: Any) -> tuple[Any, ...]:
    """Take an interpolation of scipy apart: loading one changes the order of its attributes."""
    make, args, state, *rest = value.__reduce_ex__(4)
    return make, args, dict(sorted(state.items())) if type(state) is dict else state, *rest


def _numba_type(value: Any) -> tuple[Any, ...]:
    """Take a type of numba apart: it has a number, in the order in which types are made."""
    rebuild, (make, args, state) = value.__reduce__()
    return rebuild, (make, args, {n: held for n, held in (state or {}).items() if n != "_code"})


def _dispatcher(value: Any) -> tuple[Any, ...]:
    """Take a function of numba apart: its states may have an id that is new in each process."""
    kind, states = type(value), value._reduce_states()
    if "uuid" not in states:  # ufuncs, whose loops count: one for floats takes integers too
        return make_ufunc, (kind, states)
    del states["uuid"]
    if states["can_compile"]:  # those are what it was called with so far
        states["sigs"] = []
    # It is there before its state, in which recursive functions find themselves.
    return make_dispatcher, (kind,), states, None, None, set_dispatcher


def make_ufunc(kind: Any, states: Mapping[str, Any]) -> Any:
    """Return a ufunc of numba."""
    return kind._rebuild(**states)


def make_dispatcher(kind: Any) -> Any:
    """Return what is going to be a function that numba compiles."""
    return kind.__new__(kind)


def set_dispatcher(function: Any, states: Mapping[str, Any]) -> None:
    """Make a function of numba what it was."""
    function.__init__(states["py_func"], states["locals"], states["targetoptions"])
    for signature in states["sigs"]:
        function.compile(signature)
    function._can_compile = states["can_compile"]


def is_distribution(value: object) -> bool:
    """Tell whether `value` is a distribution of scipy or of a class derived from one."""
    kind = type(value)
    return hasattr(kind, "random_state") and any(
        base.__module__.startswith("scipy.stats.") for base in kind.__mro__
    )
