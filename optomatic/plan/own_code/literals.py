"""Values that stand as constants in the file of a module: ``FACTOR = 2.0``, ``def f(x, k=3)``.

An edited constant is other code as much as an edited function is.  But what a global, a class
attribute or a default holds in a running program says nothing of the file: it may have been set
since, or come from the environment.  So a value counts as a literal only while it still is what
the file binds to its name, once and as a constant.
"""

from __future__ import annotations

import dis
import inspect
import types
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from optomatic.plan.keys.code_identity import codes_in
from optomatic.plan.keys.fingerprint import Walk
from optomatic.plan.keys.nodes import node
from optomatic.plan.keys.versions import installed_versions

_SCALARS = frozenset({type(None), bool, int, float, complex, str, bytes})
_DEFAULTS = ("__defaults__", "__kwdefaults__")
_STORE_GLOBAL = dis.opmap["STORE_GLOBAL"]


@dataclass(slots=True)
class Literals:
    """What the file of a module binds as constants.

    Attributes
    ----------
    bound : dict of str to str
        Digests of values by name, dotted in classes.
    constants : set of str
        Digests of all constants outside of functions: defaults are among them.
    """

    bound: dict[str, str] = field(default_factory=dict)
    constants: set[str] = field(default_factory=set)

    def has(self, name: str, value: object) -> bool:
        """Tell whether the file says that `name` is `value`."""
        if not name.endswith(_DEFAULTS):
            return self.bound.get(name) == digest_of(value)
        if isinstance(value, tuple):
            return digest_of(value) in self.constants
        return isinstance(value, dict) and all(
            digest_of(held) in self.constants for held in value.values()
        )


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
    if isinstance(value, types.FunctionType):
        held = ((name, getattr(value, name)) for name in _DEFAULTS)
        yield from ((name, some) for name, some in held if some and is_constant(some))
    elif isinstance(value, type):
        for name, attribute in vars(value).items():
            function = getattr(attribute, "__func__", attribute)  # of static and class methods
            if isinstance(function, types.FunctionType):
                yield from ((f"{name}.{part}", held) for part, held in constants_in(function))
            elif _may_be_bound(name, attribute):
                yield name, attribute


def _may_be_bound(name: str, value: object) -> bool:
    return not name.startswith("__") and type(value) is not dict and is_constant(value)


def digest_of(value: object) -> str:
    """Return the digest of a constant, exact in its type."""
    return node("constant", Walk((), installed_versions).digest(value, "")).hex()[:24]


def _read_literals(module: types.ModuleType) -> Literals:
    literals = Literals()
    loader: Any = getattr(module.__spec__, "loader", None)
    try:
        code = loader.get_code(module.__name__)
    except Exception:  # the file is gone, or is being written
        return literals
    for body in codes_in(code):
        if not body.co_flags & inspect.CO_OPTIMIZED:  # the module's own, or that of a class
            prefix = "" if body is code else f"{body.co_qualname}."
            _add(literals, body, prefix)
    for name in _set_by_functions(code):
        literals.bound.pop(name, None)
    return literals


def _add(literals: Literals, body: types.CodeType, prefix: str) -> None:
    times: Counter[str] = Counter()
    bound: dict[str, object] = {}
    before: dis.Instruction | None = None
    for instruction in dis.get_instructions(body):
        if instruction.opname in ("STORE_NAME", "STORE_GLOBAL", "DELETE_NAME"):
            times[instruction.argval] += 1
            if before is not None and before.opname in ("LOAD_CONST", "LOAD_SMALL_INT"):
                bound[instruction.argval] = before.argval
        before = instruction
    for name, value in bound.items():
        if times[name] == 1 and is_constant(value):
            literals.bound[prefix + name] = digest_of(value)
    literals.constants.update(digest_of(c) for c in body.co_consts if is_constant(c))


def _set_by_functions(code: types.CodeType) -> Mapping[str, None]:
    return {
        instruction.argval: None
        for body in codes_in(code)
        if body.co_flags & inspect.CO_OPTIMIZED and _STORE_GLOBAL in body.co_code[::2]
        for instruction in dis.get_instructions(body)
        if instruction.opname == "STORE_GLOBAL"
    }
