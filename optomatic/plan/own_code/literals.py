"""Values that stand as constants in the file of a module: ``FACTOR = 2.0``, ``def f(x, k=3)``.

An edited constant is other code as much as an edited function is, and so is one that a program
has set since it imported the module (``helpers.FACTOR = 3``): a worker imports it anew, and has the
old one.  What is no constant of the file says nothing of it: it may come from the environment, or
be counted up by code of the module itself.  So a name counts that the file binds once, to a
constant, and that no code of the file sets.

The file that counts is the one that was imported.  Where it was edited since, what Python kept
as it compiled it says what it was.
"""

from __future__ import annotations

import dis
import inspect
import os
import sys
import types
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec, SourceFileLoader, SourcelessFileLoader
from typing import Any

from optomatic.plan.keys.code_identity import codes_in
from optomatic.plan.keys.fingerprint import Walk
from optomatic.plan.keys.nodes import node
from optomatic.plan.keys.versions import installed_versions

_SCALARS = frozenset({type(None), bool, int, float, complex, str, bytes})
_DEFAULTS = ("__defaults__", "__kwdefaults__")
_WRAPPED = "__wrapped__"
#: What instructions leave on the stack that is no constant.
_UNKNOWN = object()
_CONSTANTS = ("LOAD_CONST", "LOAD_SMALL_INT")
#: They leave alone what is on the stack already.
_PUSHES = ("PUSH_NULL", "LOAD_NAME", "LOAD_GLOBAL", "LOAD_CLOSURE", "LOAD_DEREF", "LOAD_FAST")
_NOTHING = ("EXTENDED_ARG", "NOP", "RESUME", "CACHE")


@dataclass(slots=True)
class Literals:
    """What the file of a module binds as constants.

    Attributes
    ----------
    bound : dict of str to str
        Digests of values by name, dotted in classes; defaults of functions among them.
    members : dict of str to set of str
        What the bodies of classes bind, by the qualified name of the class.
    attributes : set of str
        Names of attributes that some code of the file sets, of whatever object.
    """

    bound: dict[str, str] = field(default_factory=dict)
    members: dict[str, set[str]] = field(default_factory=dict)
    attributes: set[str] = field(default_factory=set)

    def has(self, name: str, value: object) -> bool:
        """Tell whether the file says that `name` is `value`."""
        return self.bound.get(_as_defined(name)) == digest_of(value)

    def binds(self, name: str) -> bool:
        """Tell whether the file binds `name` to a constant, and none of its code sets it later."""
        return _as_defined(name) in self.bound and not self._is_set(name.rpartition(".")[2])

    def is_set_later(self, owner: str, name: str) -> bool:
        """Tell whether a class has an attribute not from its body, but from code of the file."""
        return owner in self.members and name not in self.members[owner] and self._is_set(name)

    def _is_set(self, name: str) -> bool:
        return name in self.attributes


#: What was read of modules, beside the specs that it belongs to: to load one anew makes another.
#: A file that is edited later does not change what its module holds.
_read: dict[str, tuple[object, Literals]] = {}


def literals_of(module: types.ModuleType) -> Literals:
    """Return what the file of a module said when this was first asked since it was loaded."""
    spec = module.__spec__
    known = _read.get(module.__name__)
    if known is None or known[0] is not spec:
        known = _read[module.__name__] = (spec, _read_literals(module))
    return known[1]


def is_constant(value: object) -> bool:
    """Tell whether `value` may stand as a constant: scalars, tuples and dicts of them."""
    if type(value) is tuple:
        return all(is_constant(item) for item in value)
    if type(value) is dict:
        return all(is_constant(item) for item in value.values())
    return type(value) in _SCALARS


def constants_in(value: object) -> Iterator[tuple[str, object]]:
    """Return what of a function or class may be a constant of its file, by dotted name."""
    if (wrapped := _wrapped(value)) is not None:  # what decorates it is defined elsewhere
        yield from ((f"{_WRAPPED}.{part}", held) for part, held in constants_in(wrapped))
    elif isinstance(value, types.FunctionType):
        held = ((name, getattr(value, name)) for name in _DEFAULTS)
        yield from ((name, some) for name, some in held if some and is_constant(some))
    elif isinstance(value, type):
        for name, attribute in vars(value).items():
            function = getattr(attribute, "__func__", attribute)  # of static and class methods
            if isinstance(function, types.FunctionType) or _wrapped(function) is not None:
                yield from ((f"{name}.{part}", held) for part, held in constants_in(function))
            elif _may_be_bound(name, attribute):
                yield name, attribute


def _wrapped(value: object) -> types.FunctionType | None:
    try:
        own = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return None
    found = own.get(_WRAPPED) if type(own) is dict else None
    return found if isinstance(found, types.FunctionType) and found is not value else None


def _as_defined(name: str) -> str:
    """Return the name under which the file defines what a decorator has wrapped."""
    return name.replace(f".{_WRAPPED}", "")


def _may_be_bound(name: str, value: object) -> bool:
    return not name.startswith("__") and type(value) is not dict and is_constant(value)


def digest_of(value: object) -> str:
    """Return the digest of a constant, exact in its type."""
    return node("constant", Walk((), installed_versions).digest(value, "")).hex()[:24]


def _read_literals(module: types.ModuleType) -> Literals:
    literals = Literals()
    loader: Any = getattr(module.__spec__, "loader", None)
    try:
        code = _imported_code(module, loader)
    except Exception:  # the file is gone, or is being written
        return literals
    for body in codes_in(code):
        if not body.co_flags & inspect.CO_OPTIMIZED:  # the module's own, or that of a class
            prefix = "" if body is code else f"{body.co_qualname}."
            _add(literals, body, prefix)
            _add_defaults(literals, body)
        literals.attributes.update(_names_in(body, "STORE_ATTR"))
    for name in _set_by_functions(code):
        literals.bound.pop(name, None)
    return literals


def _imported_code(module: types.ModuleType, loader: Any) -> Any:
    """Return the code of the file that was imported, as far as Python kept it."""
    spec = module.__spec__
    written = isinstance(loader, SourceFileLoader) and not sys.dont_write_bytecode
    if written and spec is not None and _kept(spec) is False:
        old = SourcelessFileLoader(module.__name__, spec.cached or "").get_code(module.__name__)
        if old is not None:
            return old
    return loader.get_code(module.__name__)


def _kept(spec: ModuleSpec) -> bool | None:
    """Tell whether what Python kept of a file is of the file as it is now; None if it kept none.

    Where a file was edited, what is kept is of the one that was imported: nobody has compiled
    the other yet.
    """
    try:
        with open(spec.cached or "", "rb") as file:
            header = file.read(16)
        now = os.stat(spec.origin or "")
    except OSError:
        return None
    if len(header) < 16 or any(header[4:8]):  # it goes by a hash
        return None
    numbers = (int(now.st_mtime), now.st_size)
    return header[8:] == b"".join((n & 0xFFFFFFFF).to_bytes(4, "little") for n in numbers)


def _add(literals: Literals, body: types.CodeType, prefix: str) -> None:
    times: Counter[str] = Counter()
    bound: dict[str, object] = {}
    before: dis.Instruction | None = None
    for instruction in dis.get_instructions(body):
        if instruction.opname in ("STORE_NAME", "STORE_GLOBAL", "DELETE_NAME"):
            times[instruction.argval] += 1
            if before is not None and before.opname in _CONSTANTS:
                bound[instruction.argval] = before.argval
        before = instruction
    for name, value in bound.items():
        if times[name] == 1 and is_constant(value):
            literals.bound[prefix + name] = digest_of(value)
    if prefix:
        literals.members.setdefault(body.co_qualname, set()).update(times)


def _add_defaults(literals: Literals, body: types.CodeType) -> None:
    """Note the defaults of functions that are constants where these are defined, once."""
    inner = (code for code in body.co_consts if isinstance(code, types.CodeType))
    times = Counter(code.co_qualname for code in inner)
    for code, part, value in _definitions(body):
        if times[code.co_qualname] == 1 and is_constant(value):
            literals.bound[f"{code.co_qualname}.{part}"] = digest_of(value)


def _definitions(body: types.CodeType) -> Iterator[tuple[types.CodeType, str, object]]:
    """Return the functions that `body` defines, with the defaults that it gives to each.

    Follows what is on the stack as far as that takes; what is not certain is unknown.
    """
    stack: list[Any] = []
    for step in dis.get_instructions(body):
        if step.is_jump_target and stack:  # as after "3 if gpu else 4"
            stack[-1] = _UNKNOWN
        if step.opname in _CONSTANTS:
            stack.append(step.argval)
        elif step.opname == "MAKE_FUNCTION":
            code = _taken(stack, 1)[0]
            flags = step.arg or 0  # since Python 3.13 there are none
            _taken(stack, bool(flags & 8) + bool(flags & 4))
            for flag, part in ((2, "__kwdefaults__"), (1, "__defaults__")):
                if flags & flag and isinstance(code, types.CodeType):
                    yield code, part, _taken(stack, 1)[0]
            stack.append(code)
        elif step.opname == "SET_FUNCTION_ATTRIBUTE":
            value, code = _taken(stack, 2)
            if step.arg in (1, 2) and isinstance(code, types.CodeType):
                yield code, _DEFAULTS[step.arg - 1], value
            stack.append(code)
        else:
            _step(stack, step)


def _step(stack: list[Any], step: dis.Instruction) -> None:
    """Change `stack` as an instruction does that makes no function."""
    count = step.arg or 0
    if step.opname == "BUILD_CONST_KEY_MAP":
        *values, names = _taken(stack, count + 1)
        stack.append(_mapped(names, values))
    elif step.opname == "BUILD_MAP":
        parts = _taken(stack, 2 * count)
        stack.append(_mapped(parts[::2], parts[1::2]))
    elif step.opname not in _NOTHING:
        change = dis.stack_effect(step.opcode, step.arg, jump=False)
        _taken(stack, -min(change, 0))
        if stack and step.opname not in _PUSHES:
            stack[-1] = _UNKNOWN
        stack += [_UNKNOWN] * max(change, 0)


def _mapped(names: Any, values: list[Any]) -> Any:
    """Return a dict of constants, if it is one."""
    if names is _UNKNOWN or not all(map(is_constant, (*names, *values))):
        return _UNKNOWN
    return dict(zip(names, values, strict=True))


def _taken(stack: list[Any], count: int) -> list[Any]:
    """Take `count` off `stack`, of which it may not have all."""
    taken = stack[len(stack) - count :] if 0 < count <= len(stack) else stack[:] if count else []
    del stack[len(stack) - len(taken) :]
    return [_UNKNOWN] * (count - len(taken)) + taken


def _names_in(code: types.CodeType, operation: str) -> Iterator[str]:
    if dis.opmap[operation] in code.co_code[::2]:
        yield from (i.argval for i in dis.get_instructions(code) if i.opname == operation)


def _set_by_functions(code: types.CodeType) -> Mapping[str, None]:
    return {
        name: None
        for body in codes_in(code)
        if body.co_flags & inspect.CO_OPTIMIZED
        for name in _names_in(body, "STORE_GLOBAL")
    }
