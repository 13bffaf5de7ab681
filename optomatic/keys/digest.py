"""The canonical digest of an object: everything that its pickle carries.

A digest is the SHA-256 of a stream of tokens, written by one walk through the object::

    leaf        exact type and value: 1, 1.0, True and np.float64(1) all differ
    name        of what is found in an installed module: its version counts (keys/environment.py)
    user code   taken apart as the payload does (keys/reducers.py)
    data        container, whole dtypes, shape, content (keys/data.py)
    set         its elements, sorted by their digests; dicts and lists in order
    object      as ``__reduce_ex__`` says
    again       an object that was met before, by the number of its visit: identity counts

What does not count stands in keys/not_counted.py, each with the reason.  What cannot be followed
for certain is a :class:`Doubt` with its path, and gets a digest that nobody has again.

To change what is written here, raise ``KEY_VERSION``: older scores are then not found any more,
but never taken for what they are not.
"""

from __future__ import annotations

import collections
import datetime
import decimal
import enum
import fractions
import hashlib
import pathlib
import re
import struct
import sys
import types
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import cloudpickle
import numpy as np

from optomatic.keys import data, libraries, not_counted
from optomatic.keys.bytecode import has_docstring, reads_docstrings
from optomatic.keys.reducers import CannotTravel, Namespace, Reduced, Reducer
from optomatic.keys.stream import Doubt, Stream
from optomatic.keys.travelling import is_taken_apart

KEY_VERSION = 3


#: Python's own limit ends a chain of some 200 helpers that call each other.
_DEPTH = 20_000
#: Characters of a digest that tells people where two objects part.
_SHORT = 8
#: Longer texts and bytes are written as their own digest.
_LONG = 4096
_READ_DOCSTRINGS = frozenset({("inspect", "getdoc"), ("inspect", "getsource")})
_OWN = ("optomatic.keys.reducers", "optomatic.keys.libraries")


@dataclass(frozen=True, slots=True)
class Digest:
    """A digest and what was met on the way.

    Attributes
    ----------
    hex : str
        64 hex characters.
    doubts : tuple of Doubt
    modules : frozenset of str
        What went by name comes from these, so their versions count.
    python : bool
        Whether the Python minor counts: byte code, enums and paths are its own in each.
    """

    hex: str
    doubts: tuple[Doubt, ...] = ()
    modules: frozenset[str] = frozenset()
    python: bool = False


def digest_of(
    value: object,
    path: str = "",
    *,
    varied: Collection[str] = (),
    rows: bool = False,
    cloned: bool = False,
) -> Digest:
    """Return the digest of any object.

    Parameters
    ----------
    value : object
    path : str
        How `value` is called in doubts.
    varied : collection of str
        Names of the params that the space varies: they count wherever they stand.
    rows : bool
        Whether nothing reads `value` but rows that are selected from it (X and y).
    cloned : bool
        Whether `value` was copied by ``clone``: a distribution of scipy then holds a copy of
        numpy's global random state, which is of this moment.
    """
    walk = Walk(varied)
    walk.rows, walk.cloned = rows, cloned
    with deep():
        walk.visit(value, path)
    return walk.result()


def combined(parts: Mapping[str, Digest]) -> Digest:
    """Return the digest of several objects by name, in order of their names."""
    text = "".join(f"{name}={parts[name].hex};" for name in sorted(parts))
    return Digest(
        hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest(),
        tuple(dict.fromkeys(doubt for part in parts.values() for doubt in part.doubts)),
        frozenset().union(*(part.modules for part in parts.values())),
        any(part.python for part in parts.values()),
    )


def marks_of(values: Iterable[object]) -> dict[str, str]:
    """Return short digests of user code that is reached, by its name, the innermost first."""
    walk = Walk()
    walk.marks = {}
    with deep():
        for value in values:
            walk.visit(value)
    return walk.marks


def first_difference(one: object, other: object, path: str = "") -> str | None:
    """Return the path at which two objects part, None if they are equal."""
    walks = [Walk(trace=[]), Walk(trace=[])]
    for walk, value in zip(walks, (one, other), strict=True):
        walk.visit(value, path)
    first = walks[0]
    a, b = (walk.out for walk in walks)
    if a == b:
        return None
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))
    assert first.trace is not None
    return [where for start, where in first.trace if start <= same][-1]


class Walk(Stream):
    """One walk through an object: what it has written, met and doubts."""

    def __init__(
        self, varied: Collection[str] = (), trace: list[tuple[int, str]] | None = None
    ) -> None:
        super().__init__()
        self.trace = trace
        self.marks: dict[str, str] | None = None
        self.left_out = not_counted.params(varied)
        self._reducer = Reducer(is_taken_apart)
        self._docs: list[bytes] = []
        self._reads_docs = False
        self._seen: dict[int, int] = {}
        self._kept: list[object] = []  # an id is only good as long as its object
        self._python = False
        self._drawn_from = 0

    def result(self) -> Digest:
        """Return what was written, as a digest."""
        docs = self._docs if self._reads_docs or LEAVES[str]("__doc__") in self.out else []
        return Digest(
            hashlib.sha256(b"".join(self.out + docs)).hexdigest(),
            tuple(dict.fromkeys(self._doubts)),
            frozenset(self._modules),
            self._python,
        )

    def name(self, module: str, name: str) -> None:
        """Write the name of what is found in a module that does not travel."""
        super().name(module, name)
        self._reads_docs |= (module, name) in _READ_DOCSTRINGS

    # -- visiting ------------------------------------------------------------------------------

    def visit(self, value: Any, path: str = "") -> None:
        """Write `value`, which stands at `path`."""
        if self.trace is not None:
            self.trace.append((len(self.out), path))
        kind = type(value)
        leaf = LEAVES.get(kind)
        if leaf is not None:
            self.out.append(leaf(value))
        elif kind in _ALIKE or (kind is tuple and all(type(item) in LEAVES for item in value)):
            self._kept.append(value)
            _handler_of(kind)(self, value, path)
        elif (before := self._seen.get(id(value))) is not None:
            self.out.append(b"again%d;" % before)
        else:
            self._enter(value, path)

    def _enter(self, value: Any, path: str) -> None:
        is_code = isinstance(value, (type, types.FunctionType))
        if is_code and self._reducer.goes_by_name(value):
            self.name(value.__module__, value.__qualname__)
            return
        self._seen[id(value)] = len(self._seen)
        self._kept.append(value)
        _handler_of(type(value))(self, value, path)

    def forget(self, value: Any) -> None:
        """Let `value` be equal to others or not, but never the same object."""
        self._seen.pop(id(value), None)

    def unordered(self, values: Collection[Any], path: str) -> None:
        """Write the elements of a set, sorted by their digests."""
        self.put(len(values))
        if all(type(item) in LEAVES for item in values):
            self.out += sorted(LEAVES[type(item)](item) for item in values)
            return
        for item in sorted(values, key=self._digest_apart):
            self.visit(item, f"{path}{{...}}")

    def _digest_apart(self, value: Any) -> bytes:
        """Return the digest that `value` would have if it came next."""
        fork = Walk()
        fork.left_out, fork._seen, fork._kept = self.left_out, dict(self._seen), self._kept
        fork.cloned = self.cloned
        fork._reducer = self._reducer
        fork.visit(value)
        return hashlib.sha256(b"".join(fork.out)).digest()

    # -- objects -------------------------------------------------------------------------------

    def instance(self, value: Any, path: str) -> None:
        """Write any other object as it would be rebuilt."""
        if self.cloned and self._drawn_from and isinstance(value, np.random.RandomState):
            self.put(b"drawn from")
            return
        drawn_from = self._drawn_from
        try:
            reduced = self._reducer.reduce(value) or self._by_protocol(value)
            if isinstance(reduced, str):
                self._by_home(value, reduced, path)
                return
            is_distribution = libraries.is_distribution(value)
            self._python |= is_distribution or isinstance(value, (enum.Enum, pathlib.PurePath))
            self._drawn_from += is_distribution
            self._reduced(value, reduced, path)
            self._hidden_state(value, path)
        except RecursionError:
            raise
        except Exception as error:  # files, sockets, generators, what a __reduce__ raises
            self.doubt(path, _reason(error, value))
        finally:
            self._drawn_from = drawn_from

    def _by_protocol(self, value: Any) -> Reduced | str:
        registered = cloudpickle.Pickler.dispatch_table.get(type(value))
        return registered(value) if registered else value.__reduce_ex__(4)  # type: ignore[no-any-return]

    def _by_home(self, value: Any, name: str, path: str) -> None:
        """Write what says that it is a global, by the module in which it is found."""
        home = self._reducer.home_of(value, name)
        if home is None:
            self.doubt(path, f"{name}, which is found in no installed module")
        else:
            self.name(home, name)

    def _reduced(self, value: Any, reduced: Reduced, path: str) -> None:
        rest: list[Any] = [None] * (6 - len(reduced))
        call, args, state, items, pairs, setter = [*reduced, *rest]
        if getattr(call, "__module__", None) in _OWN:
            self.put(b"made", call.__name__)
        else:
            self.put(b"call", len(args))
            self.visit(call, path)
        self._kept.append(reduced)
        for argument in args:
            self.visit(argument, path)
        self._state(value, state, path)
        for kind, held in ((b"items", items), (b"pairs", pairs)):
            if held is not None:
                self.put(kind)
                held = list(held)
                self._kept.append(held)
                (self.members if kind == b"items" else self.items)(held, path)
        if setter is not None and getattr(setter, "__module__", None) not in _OWN:
            self.visit(setter, path)

    def _state(self, value: Any, state: Any, path: str) -> None:
        if isinstance(value, (types.FunctionType, type)) and isinstance(state, dict):
            self._code_state(value, state, path)
        elif type(state) is dict:
            left_out = not_counted.state_of(value, self.left_out) | libraries.made_by(value)
            pairs = [(name, held) for name, held in state.items() if name not in left_out]
            self.put(b"state", len(pairs))
            self.items(pairs, path, attributes=True)
        elif type(state) is tuple and len(state) == 2 and type(state[0]) in (dict, type(None)):
            self.put(b"slots")
            self._state(value, state[0], path)
            self._state(value, state[1], path)
        else:
            self.visit(state, path)

    def _code_state(self, value: Any, state: Mapping[str, Any], path: str) -> None:
        """Write what a function or a class of the user's is made of."""
        self._python = True
        module = value.__module__ if isinstance(value.__module__, str) else "?"
        own = f"{module.replace('__main__', '')}.{value.__qualname__}".lstrip(".")
        for name, held in state.items():
            if name == "doc":
                self._document(held)
            elif name == "cells":
                for variable, (cell, content) in held.items():
                    self.visit(cell)
                    self.members(content, f"{own}.{variable}")
            elif name in ("globals", "body"):
                left_out = libraries.made_by(value) if name == "body" else ()
                held = {own: part for own, part in held.items() if own not in left_out}
                self.put(name, len(held))
                with self._inside(module):
                    self._named(held, module if name == "globals" else own)
            else:
                self.put(name)
                self.visit(held, own or path)

    def _named(self, held: Mapping[str, Any], owner: str) -> None:
        """Write globals or the body of a class; mark each, where somebody wants to compare."""
        for name, value in held.items():
            start, where = len(self.out), f"{owner}.{name}"
            self.items([(name, value)], owner, attributes=True)
            if self.marks is not None:
                short = hashlib.sha256(b"".join(self.out[start:])).hexdigest()[:_SHORT]
                self.marks.setdefault(where, short)

    def _document(self, text: Any) -> None:
        out, self.out, trace, self.trace = self.out, self._docs, self.trace, None
        try:
            self.visit(text)
        finally:
            self.out, self.trace = out, trace

    @contextmanager
    def _inside(self, module: str) -> Iterator[None]:
        self._module.append(module)
        try:
            yield
        finally:
            self._module.pop()

    def _hidden_state(self, value: Any, path: str) -> None:
        """Write attributes that a pickle of a user class may leave out: they are here."""
        kind = type(value)
        if not self._reducer.travels(kind.__module__) or not _pickles_in_its_own_way(kind):
            return
        if isinstance(value, enum.Enum):  # its class holds its attributes
            return
        held = {n: v for n, v in getattr(value, "__dict__", {}).items() if not callable(v)}
        self.put(b"hidden")
        self._state(value, held, path)

    def code(self, value: types.CodeType, path: str) -> None:
        """Write byte code and constants; neither file name nor lines."""
        self._python = True
        self._reads_docs = self._reads_docs or reads_docstrings(value)
        self.put(b"code", value.co_code, value.co_exceptiontable, value.co_name)
        counts = (value.co_argcount, value.co_posonlyargcount, value.co_kwonlyargcount)
        self.put(repr((counts, value.co_flags & ~not_counted.CODE_FLAGS)))
        names = (value.co_names, value.co_varnames, value.co_freevars, value.co_cellvars)
        self.put(repr(names), len(value.co_consts))
        for index, constant in enumerate(value.co_consts):
            if index == 0 and has_docstring(value):
                self._document(constant)
                self._constant(None, path)  # as stands there without one, before Python 3.13
            else:
                self._constant(constant, path)

    def _constant(self, value: Any, path: str) -> None:
        """Write a constant of code, of which several functions may share one or not."""
        if isinstance(value, tuple):
            self.put(b"constants", len(value))
            for item in value:
                self._constant(item, path)
        elif isinstance(value, frozenset):
            self.put(b"frozenset")
            self.unordered(value, path)
        else:
            self.visit(value, path)


def _long(tag: bytes, content: bytes) -> bytes:
    if len(content) > _LONG:
        tag, content = tag.upper(), hashlib.sha256(content).digest()
    return b"%s%d:%s" % (tag, len(content), content)


LEAVES: dict[type, Callable[[Any], bytes]] = {
    type(None): lambda v: b"none;",
    bool: lambda v: b"true;" if v else b"false;",
    int: lambda v: b"i%x;" % v,
    float: lambda v: b"f" + struct.pack(">d", v),
    complex: lambda v: b"c" + struct.pack(">dd", v.real, v.imag),
    str: lambda v: _long(b"s", v.encode("utf-8", "surrogatepass")),
    bytes: lambda v: _long(b"b", v),
    type(Ellipsis): lambda v: b"ellipsis;",
    type(NotImplemented): lambda v: b"notimplemented;",
}
#: Values of these kinds are equal or not, but never the same object or another one.
_ALIKE = frozenset(
    {
        *(datetime.datetime, datetime.date, datetime.time, datetime.timedelta, datetime.timezone),
        *(decimal.Decimal, fractions.Fraction, re.Pattern, range, slice, types.CodeType),
        *(pathlib.PurePosixPath, pathlib.PosixPath, types.BuiltinFunctionType, types.MethodType),
        *(types.GenericAlias, types.UnionType),
    }
)


def _list(walk: Walk, value: Any, path: str) -> None:
    walk.put(b"list", len(value))
    walk.members(value, path)


def _tuple(walk: Walk, value: Any, path: str) -> None:
    walk.put(b"tuple", len(value))
    walk.members(value, path)


def _dict(walk: Walk, value: Any, path: str) -> None:
    walk.put(b"dict", len(value))
    walk.items(value.items(), path)


def _set(walk: Walk, value: Any, path: str) -> None:
    walk.put(b"set")
    walk.unordered(value, path)


def _frozenset(walk: Walk, value: Any, path: str) -> None:
    walk.put(b"frozenset")
    walk.unordered(value, path)


def _bytearray(walk: Walk, value: Any, path: str) -> None:
    walk.put(b"bytearray")
    walk.content(value)


def _fraction(walk: Walk, value: Any, path: str) -> None:
    walk.put(b"fraction")
    walk.visit(value.numerator)
    walk.visit(value.denominator)


def _fraction_subclass(walk: Walk, value: Any, path: str) -> None:
    _fraction(walk, value, path)  # its pickle is made of its str()
    walk.visit(type(value), path)
    walk.visit(dict(getattr(value, "__dict__", {})), path)


def _module(walk: Walk, value: types.ModuleType, path: str) -> None:
    name = value.__name__
    if not is_taken_apart(name) and sys.modules.get(name) is value:
        walk.name(name, "")
    else:
        walk.instance(value, path)


def _namespace(walk: Walk, value: Namespace, path: str) -> None:
    name = "__main__" if value.name == "__mp_main__" else value.name
    walk.put(b"namespace", str(name), str(value.package))


def _property(walk: Walk, value: Any, path: str) -> None:
    walk.put(b"property")
    walk.visit(type(value), path)
    for part in (value.fget, value.fset, value.fdel):
        walk.visit(part, path)
    walk._document(value.__doc__)


_HANDLERS: dict[type, Callable[[Walk, Any, str], None]] = {
    list: _list,
    tuple: _tuple,
    dict: _dict,
    set: _set,
    frozenset: _frozenset,
    bytearray: _bytearray,
    fractions.Fraction: _fraction,
    collections.OrderedDict: Walk.instance,
    types.CodeType: Walk.code,
    Namespace: _namespace,
    property: _property,
}


def _handler_of(kind: Any) -> Callable[[Walk, Any, str], None]:
    """Return what writes instances of `kind`."""
    handler = _HANDLERS.get(kind)
    if handler is None:
        if issubclass(kind, fractions.Fraction):
            return _fraction_subclass
        if issubclass(kind, types.ModuleType):
            return _module
        return data.handler_of(kind) or libraries.handler_of(kind) or Walk.instance
    return handler


def _reason(error: Exception, value: object) -> str:
    if isinstance(error, CannotTravel):
        return str(error)
    kind = type(value).__name__
    known = str(error) in (f"cannot pickle '{kind}' object", "")
    return f"a {kind}" if known else f"a {kind} ({type(error).__name__}: {error})"


def _pickles_in_its_own_way(kind: type) -> bool:
    """Tell whether a class says itself what of its instances a pickle holds."""
    for base in kind.__mro__:
        if not {"__getstate__", "__reduce__", "__reduce_ex__"}.isdisjoint(vars(base)):
            return base is not object and not base.__module__.startswith("sklearn.")
    return False


@contextmanager
def deep() -> Iterator[None]:
    """Let walks and pickles go as deep as chains of user functions do."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, _DEPTH))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)
