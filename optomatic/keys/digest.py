"""The canonical digest of an object: everything that its pickle carries.

A digest is the SHA-256 of tokens that one walk through the object writes::

    leaf        exact type and value: 1, 1.0, True and np.float64(1) all differ
    name        of an object in an installed module, whose version counts (keys/environment.py)
    user code   taken apart as the payload does (keys/user_code.py)
    data        container, dtypes, shape, content (keys/data.py)
    set         its elements, sorted by their digests; dicts and lists in order
    object      as ``__reduce_ex__`` says
    again       an object that the walk met before, by the number of its visit: identity counts

keys/not_counted.py lists the exceptions, with reasons.  An object that cannot be followed for
certain gives a :class:`Doubt` with its path.  Its digest never occurs again.

A change of these tokens needs a higher ``KEY_VERSION``: older scores are then not found,
and never taken for others.
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
import secrets
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

from optomatic.errors import shown
from optomatic.keys import data, not_counted
from optomatic.keys.environment import is_taken_apart
from optomatic.keys.user_code import (
    CannotTravel,
    Namespace,
    Reduced,
    Reducer,
    has_docstring,
    is_distribution,
    reads_docstrings,
)

KEY_VERSION = 3


#: Python's own limit ends a chain of some 200 helpers that call each other.
_DEPTH = 20_000
#: Characters of a digest that people read.
_SHORT = 8
#: Longer texts and bytes are written as their own digest.
_LONG = 4096
_READ_DOCSTRINGS = frozenset({("inspect", "getdoc"), ("inspect", "getsource")})
_OWN = Reducer.__module__


@dataclass(frozen=True, slots=True)
class Doubt:
    """A place in an object that cannot be followed for certain, and the reason.

    ``module`` is the user module whose globals hold it, None elsewhere.
    """

    path: str
    reason: str
    module: str | None = None

    def __str__(self) -> str:
        return f"`{self.path}` holds {self.reason}" if self.path else f"it is {self.reason}"


@dataclass(frozen=True, slots=True)
class Digest:
    """A digest (64 hex characters), with the results of the walk.

    Versions of `modules` count, as objects went by name from them.  `python` says that the
    minor version of Python counts, in which byte code, enums and paths differ.
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
    """Return the digest of any object, whose name in doubts is `path`.

    `varied` names the params that the space varies: they count everywhere.  `rows` stands for X
    or y, of which nothing but selected rows is read.  If ``clone`` has made `value` (`cloned`), a
    distribution of scipy holds a copy of numpy's global random state, which is of this moment.
    """
    walk = Walk(varied)
    walk.rows, walk.cloned = rows, cloned
    with deep():
        walk.visit(value, path)
    return walk.result()


def combined(parts: Mapping[str, Digest]) -> Digest:
    """Return the digest of several objects by name, in order of their names."""
    text = "".join(f"{name}={parts[name].hex};" for name in sorted(parts))
    return met_in(parts.values(), hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest())


def met_in(parts: Collection[Digest], hex: str) -> Digest:
    """Return the digest `hex` with doubts and modules of its parts."""
    return Digest(
        hex,
        tuple(dict.fromkeys(doubt for part in parts for doubt in part.doubts)),
        frozenset().union(*(part.modules for part in parts)),
        any(part.python for part in parts),
    )


def marks_of(values: Iterable[object]) -> dict[str, str]:
    """Return short digests of the user code in `values` by its name, the innermost first."""
    walk = Walk()
    walk.marks = {}
    with deep():
        for value in values:
            walk.visit(value)
    return walk.marks


def first_difference(one: object, other: object, path: str = "") -> str | None:
    """Return the path of the first difference between two objects, None if they are equal."""
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


@contextmanager
def deep() -> Iterator[None]:
    """Let walks and pickles go as deep as chains of user functions do."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, _DEPTH))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


class Walk:
    """One walk through an object: its tokens, doubts and modules.

    ``rows`` and ``cloned`` are the options of :func:`digest_of`.
    """

    def __init__(
        self, varied: Collection[str] = (), trace: list[tuple[int, str]] | None = None
    ) -> None:
        #: Tokens, each with its length: no two sequences run together.
        self.out: list[bytes] = []
        self.rows = self.cloned = False
        #: Where each visit began in `out`, and its path.
        self.trace = trace
        self.marks: dict[str, str] | None = None
        self.left_out = not_counted.params(varied)
        self._reducer = Reducer(is_taken_apart)
        self._doubts: list[Doubt] = []
        self._modules: set[str] = set()
        #: User modules in whose globals the walk is, the innermost last.
        self._module: list[str] = []
        #: Docstrings, which count only if code reads them.
        self._docs: list[bytes] = []
        self._reads_docs = False
        self._seen: dict[int, int] = {}
        self._kept: list[object] = []  # an id is only good as long as its object
        self._python = False
        self._drawn_from = 0

    def result(self) -> Digest:
        """Return the digest of the tokens."""
        docs = self._docs if self._reads_docs or LEAVES[str]("__doc__") in self.out else []
        return Digest(
            hashlib.sha256(b"".join(self.out + docs)).hexdigest(),
            tuple(dict.fromkeys(self._doubts)),
            frozenset(self._modules),
            self._python,
        )

    # -- tokens --------------------------------------------------------------------------------

    def put(self, *texts: str | bytes | int) -> None:
        """Write texts."""
        for text in texts:
            part = text if isinstance(text, bytes) else str(text).encode("utf-8", "surrogatepass")
            self.out.append(b"%d:" % len(part) + part)

    def content(self, buffer: Any) -> None:
        """Write the digest of a buffer."""
        self.out.append(b"#" + hashlib.sha256(buffer).digest())

    def name(self, module: str, name: str) -> None:
        """Write the name of an object in a module that does not travel."""
        self._modules.add(module)
        self.put(b"name", module, name)
        self._reads_docs |= (module, name) in _READ_DOCSTRINGS

    def doubt(self, path: str, reason: str) -> None:
        """Note that the object at `path` cannot be followed; this digest never occurs again."""
        module = self._module[-1] if self._module else None
        self._doubts.append(Doubt(path, reason, module))
        self.out.append(secrets.token_bytes(32))

    # -- visiting ------------------------------------------------------------------------------

    def visit(self, value: Any, path: str = "") -> None:
        """Write the object at `path`."""
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
        """Let the identity of `value` not count."""
        self._seen.pop(id(value), None)

    def items(
        self, pairs: Iterable[tuple[Any, Any]], path: str, *, attributes: bool = False
    ) -> None:
        """Write keys and values, in order."""
        for key, value in pairs:
            where = f"{path}.{key}" if attributes else f"{path}[{shown(key):.40}]"
            self.visit(key, where)
            self.visit(value, where)

    def members(self, values: Iterable[Any], path: str) -> None:
        """Write the items of a sequence."""
        for index, value in enumerate(values):
            self.visit(value, f"{path}[{index}]")

    def unordered(self, values: Collection[Any], path: str) -> None:
        """Write the elements of a set, sorted by their digests."""
        self.put(len(values))
        if all(type(item) in LEAVES for item in values):
            self.out += sorted(LEAVES[type(item)](item) for item in values)
            return
        for item in sorted(values, key=self._digest_apart):
            self.visit(item, f"{path}{{...}}")

    def _digest_apart(self, value: Any) -> bytes:
        """Return the digest of `value` as if it came next."""
        fork = Walk()
        fork.left_out, fork._seen, fork._kept = self.left_out, dict(self._seen), self._kept
        fork.cloned = self.cloned
        fork._reducer = self._reducer
        fork.visit(value)
        return hashlib.sha256(b"".join(fork.out)).digest()

    def document(self, text: Any) -> None:
        """Write a docstring, which counts only if code reads docstrings."""
        out, self.out, trace, self.trace = self.out, self._docs, self.trace, None
        try:
            self.visit(text)
        finally:
            self.out, self.trace = out, trace

    # -- objects -------------------------------------------------------------------------------

    def instance(self, value: Any, path: str) -> None:
        """Write an object as its pickle would rebuild it."""
        if self.cloned and self._drawn_from and isinstance(value, np.random.RandomState):
            self.put(b"drawn from")
            return
        drawn_from = self._drawn_from
        try:
            reduced = self._reducer.reduce(value) or self._by_protocol(value)
            if isinstance(reduced, str):
                self._by_home(value, reduced, path)
                return
            is_drawn_from = is_distribution(value)
            self._python |= is_drawn_from or isinstance(value, (enum.Enum, pathlib.PurePath))
            self._drawn_from += is_drawn_from
            self._reduced(value, reduced, path)
            self._hidden_state(value, path)
        except RecursionError:
            raise
        except Exception as error:  # of files, sockets, generators, user code
            self.doubt(path, _reason(error, value))
        finally:
            self._drawn_from = drawn_from

    def _by_protocol(self, value: Any) -> Reduced | str:
        registered = cloudpickle.Pickler.dispatch_table.get(type(value))
        return registered(value) if registered else value.__reduce_ex__(4)  # type: ignore[no-any-return]

    def _by_home(self, value: Any, name: str, path: str) -> None:
        """Write an object that pickles as a global, by the module that has it."""
        home = self._reducer.home_of(value, name)
        if home is None:
            self.doubt(path, f"{name}, which no installed module has")
        else:
            self.name(home, name)

    def _reduced(self, value: Any, reduced: Reduced, path: str) -> None:
        rest: list[Any] = [None] * (6 - len(reduced))
        call, args, state, items, pairs, setter = [*reduced, *rest]
        if getattr(call, "__module__", None) == _OWN:
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
        if setter is not None and getattr(setter, "__module__", None) != _OWN:
            self.visit(setter, path)

    def _state(self, value: Any, state: Any, path: str) -> None:
        if isinstance(value, (types.FunctionType, type)) and isinstance(state, dict):
            self._code_state(value, state, path)
        elif type(state) is dict:
            left_out = not_counted.state_of(value, self.left_out) | not_counted.made_by(value)
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
        """Write the parts of a function or a class of user code."""
        self._python = True
        module = value.__module__ if isinstance(value.__module__, str) else "?"
        own = f"{module.replace('__main__', '')}.{value.__qualname__}".lstrip(".")
        for name, held in state.items():
            if name == "doc":
                self.document(held)
            elif name == "cells":
                for variable, (cell, content) in held.items():
                    self.visit(cell)
                    self.members(content, f"{own}.{variable}")
            elif name in ("globals", "body"):
                left_out = not_counted.made_by(value) if name == "body" else ()
                held = {own: part for own, part in held.items() if own not in left_out}
                self.put(name, len(held))
                with self._inside(module):
                    self._named(held, module if name == "globals" else own)
            else:
                self.put(name)
                self.visit(held, own or path)

    def _named(self, held: Mapping[str, Any], owner: str) -> None:
        """Write globals or the body of a class, and note the digest of each if asked for."""
        for name, value in held.items():
            start, where = len(self.out), f"{owner}.{name}"
            self.items([(name, value)], owner, attributes=True)
            if self.marks is not None:
                short = hashlib.sha256(b"".join(self.out[start:])).hexdigest()[:_SHORT]
                self.marks.setdefault(where, short)

    @contextmanager
    def _inside(self, module: str) -> Iterator[None]:
        self._module.append(module)
        try:
            yield
        finally:
            self._module.pop()

    def _hidden_state(self, value: Any, path: str) -> None:
        """Write attributes that the pickle of a user class may leave out."""
        kind = type(value)
        if not self._reducer.travels(kind.__module__) or not _pickles_in_its_own_way(kind):
            return
        if isinstance(value, enum.Enum):  # written with its class
            return
        held = {n: v for n, v in getattr(value, "__dict__", {}).items() if not callable(v)}
        self.put(b"hidden")
        self._state(value, held, path)

    def code(self, value: types.CodeType, path: str) -> None:
        """Write byte code and constants, without file name and lines."""
        self._python = True
        self._reads_docs = self._reads_docs or reads_docstrings(value)
        self.put(b"code", value.co_code, value.co_exceptiontable, value.co_name)
        counts = (value.co_argcount, value.co_posonlyargcount, value.co_kwonlyargcount)
        self.put(repr((counts, value.co_flags & ~not_counted.CODE_FLAGS)))
        names = (value.co_names, value.co_varnames, value.co_freevars, value.co_cellvars)
        self.put(repr(names), len(value.co_consts))
        for index, constant in enumerate(value.co_consts):
            if index == 0 and has_docstring(value):
                self.document(constant)
                self._constant(None, path)  # as without a docstring before Python 3.13
            else:
                self._constant(constant, path)

    def _constant(self, value: Any, path: str) -> None:
        """Write a constant of code, whose identity does not count."""
        if isinstance(value, tuple):
            self.put(b"constants", len(value))
            for item in value:
                self._constant(item, path)
        elif isinstance(value, frozenset):
            _set(self, value, path)
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
#: Kinds of values whose identity does not count.
_ALIKE = frozenset({
    datetime.datetime, datetime.date, datetime.time, datetime.timedelta, datetime.timezone,
    decimal.Decimal, fractions.Fraction, re.Pattern, range, slice, types.CodeType,
    pathlib.PurePosixPath, pathlib.PosixPath, types.BuiltinFunctionType, types.MethodType,
    types.GenericAlias, types.UnionType,
})  # fmt: skip


def _sequence(walk: Walk, value: Any, path: str) -> None:
    walk.put(type(value).__name__, len(value))
    walk.members(value, path)


def _dict(walk: Walk, value: Any, path: str) -> None:
    walk.put(b"dict", len(value))
    walk.items(value.items(), path)


def _set(walk: Walk, value: Any, path: str) -> None:
    walk.put(type(value).__name__)
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
    walk.document(value.__doc__)


_HANDLERS: dict[type, Callable[[Walk, Any, str], None]] = {
    list: _sequence,
    tuple: _sequence,
    dict: _dict,
    set: _set,
    frozenset: _set,
    bytearray: _bytearray,
    fractions.Fraction: _fraction,
    collections.OrderedDict: Walk.instance,
    types.CodeType: Walk.code,
    Namespace: _namespace,
    property: _property,
}


def _handler_of(kind: Any) -> Callable[[Walk, Any, str], None]:
    """Return the function that writes instances of `kind`."""
    handler = _HANDLERS.get(kind)
    if handler is None:
        if issubclass(kind, fractions.Fraction):
            return _fraction_subclass
        if issubclass(kind, types.ModuleType):
            return _module
        return data.handler_of(kind) or Walk.instance
    return handler


def _reason(error: Exception, value: object) -> str:
    if isinstance(error, CannotTravel):
        return str(error)
    kind = type(value).__name__
    known = str(error) in (f"cannot pickle '{kind}' object", "")
    return f"a {kind}" if known else f"a {kind} ({type(error).__name__}: {error})"


def _pickles_in_its_own_way(kind: type) -> bool:
    """Return whether a class defines the pickles of its instances."""
    for base in kind.__mro__:
        if not {"__getstate__", "__reduce__", "__reduce_ex__"}.isdisjoint(vars(base)):
            return base is not object and not base.__module__.startswith("sklearn.")
    return False
