"""Equal work, equal key, on every machine; different work never.

A fingerprint is a SHA-256 over a canonical walk through an object::

    estimator   its class, its params by name (each a fingerprint), metadata requests, output
                configuration
    class,      installed: distribution, version, module, name
    function    anything else: what its code does (plan/keys/code_identity.py)
    data        container, dtypes, shape, values, not where in memory they lie
                (plan/keys/data_identity.py)
    scalar      exact type and value: 1, 1.0, True and np.float64(1) all differ
    set         by content; a dict and a list in order

Every node is hashed with its kind and with the length of each of its children, so that no two
trees run together.  What cannot be followed for certain gets a random digest, which nobody will
ever have again, and a :class:`Doubt` that says where it stands.

Never used: source text (two lambdas on one line are equal) and pickled bytes (they differ with
the hash seed and with sharing inside the object).

To change anything here that changes digests, raise ``KEY_VERSION``: stored scores of the old
version are then not found any more, but never taken for what they are not.
"""

from __future__ import annotations

import collections
import datetime
import decimal
import enum
import fractions
import functools
import pathlib
import re
import secrets
import sys
import types
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from optomatic import _sklearn
from optomatic.plan.keys import code_identity, data_identity
from optomatic.plan.keys.nodes import node
from optomatic.plan.keys.versions import Versions, installed_versions

KEY_VERSION = 2

#: Params of scikit-learn's own classes that say how to compute, not what.
_HOW = frozenset({"n_jobs", "verbose", "memory"})
#: The same of our own search, inside of which another one may search.
_HOW_OF_A_SEARCH = frozenset({"db", "name", "pre_dispatch", "retry_failed"})


@dataclass(frozen=True, slots=True)
class Doubt:
    """Where in an object something cannot be keyed, and why."""

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path} ({self.reason})"


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """A digest (64 hex characters), what is doubtful in it, and the distributions met.

    The digest depends on the versions already; ``versions`` is for telling workers.
    """

    digest: str
    doubts: tuple[Doubt, ...]
    versions: Mapping[str, str]


def fingerprint(
    value: object, *, varied: Collection[str] = (), versions: Versions = installed_versions
) -> Fingerprint:
    """Return the fingerprint of any object.

    Parameters
    ----------
    value : object
    varied : collection of str
        Names of the params that the space varies.  Where ``n_jobs``, ``verbose`` or
        ``memory`` is among them, it counts.
    versions : callable
        Module name -> (distribution, version), or None if it is not installed.

    Notes
    -----
    An estimator stands for its clone.  Of one inside of anything else (a closure, a bound
    method, an object, params of ``fit``) what it was fitted to counts, as nothing clones it.
    """
    walk = Walk(varied, versions)
    walk.whole = not _is_cloned(value)
    digest = walk.digest(value, "")
    return walk.result(digest)


def fingerprint_split(train: Any, test: Any) -> str:
    """Return the digest (hex) of a pair of index arrays, in order."""
    rows = (np.ascontiguousarray(part, dtype=np.int64) for part in (train, test))
    return node("split", *(part.tobytes() for part in rows)).hex()


#: What cycles run through; its identity counts, unlike that of values.
_CODE = (types.FunctionType, type)


class Walk:
    """One walk through an object: what it has met, and where it stands."""

    def __init__(self, varied: Collection[str], versions: Versions) -> None:
        self.versions_of = versions
        self.versions: dict[str, str] = {}
        self.doubts: list[Doubt] = []
        varied_names = {name.rpartition("__")[2] for name in varied}
        self.left_out = _HOW - varied_names
        # Objects that are being walked, and code in cycles that are (Tarjan's stack), by id with
        # their depth; all of them, kept alive; and the least depth that the current object
        # refers back to.
        self._open: dict[int, int] = {}
        self._stack: list[object] = []
        self._lowest = 0
        #: Whether fitted state counts: inside of something that cloning does not take apart.
        self.whole = False
        # Digests of functions and classes, kept alive beside them: an id is only good so long.
        self._known: dict[int, tuple[object, bytes]] = {}

    def result(self, digest: bytes) -> Fingerprint:
        """Return what was found, under `digest`."""
        return Fingerprint(digest.hex(), tuple(self.doubts), dict(self.versions))

    # -- the walk --------------------------------------------------------------------------

    def digest(self, value: object, path: str) -> bytes:
        """Return the digest of `value`, which stands at `path`."""
        leaf = _LEAVES.get(type(value))
        if leaf is not None:
            return leaf(value)
        known = self._known.get(id(value))
        if known is not None:
            return known[1]
        depth = self._open.get(id(value))
        if depth is not None:  # a cycle: how far back it goes says what it means
            self._lowest = min(self._lowest, depth)
            return b"back:%d" % (len(self._stack) - depth)
        with self._entered(value) as finished:
            digest = self._inner(value, path)
            if finished() and isinstance(value, _CODE):
                self._known[id(value)] = (value, digest)
        return digest

    @contextmanager
    def _entered(self, value: object) -> Iterator[Callable[[], bool]]:
        """Note `value` as being walked; what is yielded tells whether nothing in it points out.

        Code that points out stays noted until what it points to is done, and is not walked
        again meanwhile: the paths through functions that call each other are beyond number.
        """
        depth = len(self._stack)
        outer, self._lowest = self._lowest, depth
        self._open[id(value)] = depth
        self._stack.append(value)
        try:
            yield lambda: self._lowest >= depth
        finally:
            if self._lowest >= depth:
                for left in self._stack[depth:]:
                    self._open.pop(id(left), None)
                del self._stack[depth:]
            elif not isinstance(value, _CODE):
                del self._open[id(value)]
            self._lowest = min(outer, self._lowest)

    @contextmanager
    def keeping_state(self, keeps: bool) -> Iterator[None]:
        """Let fitted state count meanwhile, if `keeps`."""
        outer, self.whole = self.whole, self.whole or keeps
        try:
            yield
        finally:
            self.whole = outer

    def _inner(self, value: object, path: str) -> bytes:
        with self.keeping_state(not (_is_cloned(value) or type(value) in _CLONED_CONTAINERS)):
            return self._by_kind(value, path)

    def _by_kind(self, value: object, path: str) -> bytes:
        for kind in type(value).__mro__:
            walker = _WALKERS.get(kind)
            if walker is not None:
                if kind is type(value) or kind in _WHOLE:
                    return walker(self, value, path)
                # A subclass of list, dict, str...: its class and attributes matter too.
                return node(
                    "subclass",
                    self.digest(type(value), path),
                    walker(self, value, path),
                    self.attributes(value, path),
                    *self.named(_in_slots(value), path),
                )
        for test, walker in _TESTS:
            if test(value):
                return walker(self, value, path)
        return self._instance(value, path)

    def items(self, pairs: Iterable[tuple[object, object]], path: str) -> list[bytes]:
        """Return the digests of keys and values, one after the other."""
        return [
            part
            for key, value in pairs
            for part in (self.digest(key, path), self.digest(value, f"{path}[{key!r:.40}]"))
        ]

    def named(self, pairs: Iterable[tuple[str, object]], path: str) -> list[bytes]:
        """Return names and digests of attributes or params, in order of their names."""
        return [
            part
            for name, value in sorted(pairs, key=lambda pair: pair[0])
            for part in (name.encode(), self.digest(value, f"{path}.{name}" if path else name))
        ]

    def attributes(self, value: object, path: str) -> bytes:
        """Return the digest of an instance's own attributes."""
        return node("attributes", *self.named(getattr(value, "__dict__", {}).items(), path))

    def doubt(self, path: str, reason: str) -> bytes:
        """Note that what stands at `path` cannot be keyed; return a digest nobody has again."""
        self.doubts.append(Doubt(path or "(the object itself)", reason))
        return secrets.token_bytes(32)

    # -- instances -------------------------------------------------------------------------

    def _instance(self, value: object, path: str) -> bytes:
        """Any other object, by its class and what it would be rebuilt from."""
        kind = type(value)
        if not _is_rebuilt_from_state(kind):
            return self._rebuilt(value, path)
        own = getattr(value, "__getstate__", None)
        if own is not None and not isinstance(own, types.BuiltinFunctionType):
            try:
                state = own()
            except Exception as error:  # of the user's; such an object cannot be pickled
                return self.doubt(path, f"{kind.__name__}: {error}")
            return node("state", self.digest(kind, path), self.digest(state, path))
        try:
            value.__reduce_ex__(4)  # refuses classes of C that hold more than attributes
        except Exception as error:  # locks, what pybind11 wraps
            return self.doubt(path, f"{kind.__name__}: {error}")
        return node(
            "instance",
            self.digest(kind, path),
            self.attributes(value, path),
            *self.named(_in_slots(value), path),
        )

    def _rebuilt(self, value: object, path: str) -> bytes:
        """An object of C, or one with its own ``__reduce__``: by what that says."""
        kind = type(value)
        try:
            reduced = value.__reduce_ex__(4)
        except Exception as error:  # files, locks, generators, connections
            return self.doubt(path, f"{type(value).__name__}: {error}")
        if isinstance(reduced, str):
            if "cython_function" in kind.__name__:  # each module of Cython has such a class
                return code_identity.compiled_digest(self, value, path)
            return node("global", self.digest(kind, path), reduced.encode())
        if len(reduced) > 3 and any(part is not None for part in reduced[3:]):
            reduced = (*reduced[:3], *(part and list(part) for part in reduced[3:5]))
        return node("reduced", *(self.digest(part, path) for part in reduced))


def _slots(kind: type) -> list[str]:
    slots = kind.__dict__.get("__slots__", ())
    names = [slots] if isinstance(slots, str) else list(slots)
    return [_mangled(kind, name) for name in names if name not in ("__dict__", "__weakref__")]


def _mangled(kind: type, name: str) -> str:
    """Return the attribute that a name in a class stands for: private ones bear its name too."""
    if not name.startswith("__") or name.endswith("__") or not kind.__name__.strip("_"):
        return name
    return f"_{kind.__name__.lstrip('_')}{name}"


def _in_slots(value: object) -> list[tuple[str, object]]:
    return [
        (name, getattr(value, name))
        for base in type(value).__mro__
        for name in _slots(base)
        if hasattr(value, name)
    ]


def _is_rebuilt_from_state(kind: type) -> bool:
    """Tell whether `kind` is a plain Python class: ``object``'s own ``__reduce__``."""
    return (
        getattr(kind, "__reduce_ex__", None) is object.__reduce_ex__
        and getattr(kind, "__reduce__", None) is object.__reduce__
        and bool(kind.__flags__ & code_identity.HEAP_TYPE)
    )


# Leaves: written as they are, as they are short and stand everywhere


def _text(value: Any) -> bytes:
    return b"str:" + bytes(value.encode("utf-8", "surrogatepass"))


_LEAVES: dict[type, Callable[[Any], bytes]] = {
    type(None): lambda v: b"None",
    bool: lambda v: b"bool:1" if v else b"bool:0",
    int: lambda v: b"int:%x" % v,
    float: lambda v: b"float:" + v.hex().encode(),
    str: _text,
    bytes: lambda v: b"bytes:" + v,
    type(Ellipsis): lambda v: b"Ellipsis",
    type(NotImplemented): lambda v: b"NotImplemented",
}


# Estimators


def is_estimator(value: object) -> bool:
    """Tell whether `value` has params as estimators have."""
    return hasattr(value, "get_params") and hasattr(value, "set_params")


#: Containers through which ``sklearn.base.clone`` goes; all else it copies with what is in it.
_CLONED_CONTAINERS = frozenset({list, tuple, set, frozenset, dict})


def _is_cloned(value: object) -> bool:
    """Tell whether ``sklearn.base.clone`` makes an unfitted one of `value`."""
    return is_estimator(value) and not isinstance(value, type)


def has_own_clone(value: object) -> bool:
    """Tell whether cloning keeps fitted state (FrozenEstimator), so that all of it counts."""
    own = getattr(type(value), "__sklearn_clone__", None)
    return own is not None and not getattr(own, "__module__", "").startswith("sklearn.base")


def estimator_children(walk: Walk, value: Any, path: str) -> list[tuple[str, object]]:
    """Return the params of an estimator that count, by name."""
    params = value.get_params(deep=False)
    library = type(value).__module__.partition(".")[0]
    left_out = walk.left_out if library in ("sklearn", "optomatic") else frozenset()
    if library == "optomatic":
        left_out |= _HOW_OF_A_SEARCH
    return sorted((name, held) for name, held in params.items() if name not in left_out)


def estimator_head(walk: Walk, value: Any, path: str) -> bytes:
    """Return the digest of what an estimator is besides its params."""
    return node(
        "head",
        walk.digest(type(value), path),
        walk.digest(getattr(value, "_metadata_request", None), path),
        walk.digest(getattr(value, "_sklearn_output_config", None), path),
        _state(walk, value, path),
    )


def _state(walk: Walk, value: Any, path: str) -> bytes:
    """Return the digest of attributes besides params where cloning keeps them, and all in them."""
    if not (walk.whole or has_own_clone(value)):
        return b""
    params = value.get_params(deep=False)
    fitted = [
        (name, held)
        for name, held in getattr(value, "__dict__", {}).items()
        if name not in params or params[name] is not held
    ]
    with walk.keeping_state(True):
        return node("attributes", *walk.named(fitted, path)) if fitted else b""


def estimator_node(head: bytes, children: Iterable[tuple[str, bytes]]) -> bytes:
    """Hash an estimator of its head and the digests of its params."""
    return node("estimator", head, *(part for n, d in children for part in (n.encode(), d)))


def _estimator(walk: Walk, value: Any, path: str) -> bytes:
    children = estimator_children(walk, value, path)
    head = estimator_head(walk, value, path)
    with walk.keeping_state(has_own_clone(value)):
        digests = [(n, walk.digest(held, f"{path}.{n}" if path else n)) for n, held in children]
    return estimator_node(head, digests)


# Containers and values


def _sequence(kind: str) -> Callable[[Walk, Any, str], bytes]:
    def walked(walk: Walk, value: Any, path: str) -> bytes:
        return node(kind, *(walk.digest(item, f"{path}[{n}]") for n, item in enumerate(value)))

    return walked


def _set(kind: str) -> Callable[[Walk, Any, str], bytes]:
    def walked(walk: Walk, value: Any, path: str) -> bytes:
        return node(kind, *sorted(walk.digest(item, f"{path}{{...}}") for item in value))

    return walked


def _fields(kind: str, *names: str) -> Callable[[Walk, Any, str], bytes]:
    def walked(walk: Walk, value: Any, path: str) -> bytes:
        return node(kind, *(walk.digest(getattr(value, name), path) for name in names))

    return walked


def _written(kind: str) -> Callable[[Walk, Any, str], bytes]:
    def walked(walk: Walk, value: Any, path: str) -> bytes:
        return node(kind, repr(value).encode("utf-8", "surrogatepass"))

    return walked


def _random_state(walk: Walk, value: Any, path: str) -> bytes:
    state = value.get_state(legacy=False)
    if state["bit_generator"] == "MT19937":  # all others have no tuple
        state = value.get_state(legacy=True)
    return node("RandomState", walk.digest(state, path))


def _generator(walk: Walk, value: Any, path: str) -> bytes:
    bits = value.bit_generator
    # What it spawns comes of its seed, and of how many it has spawned.
    return node("Generator", walk.digest(bits.state, path), walk.digest(bits.seed_seq, path))


def _enum(walk: Walk, value: Any, path: str) -> bytes:
    name, held = walk.digest(value.name, path), walk.digest(value.value, path)
    return node("enum", walk.digest(type(value), path), name, held)


def _partial(walk: Walk, value: Any, path: str) -> bytes:
    return node(
        "partial",
        walk.digest(type(value), path),
        walk.digest(value.func, f"{path}.func"),
        walk.digest(value.args, f"{path}.args"),
        walk.digest(value.keywords, f"{path}.keywords"),
    )


def _method(walk: Walk, value: Any, path: str) -> bytes:
    owner = walk.digest(value.__self__, f"{path}.__self__")
    return node("method", owner, walk.digest(value.__func__, path))


def _is_frozen_distribution(value: object) -> bool:
    return all(hasattr(value, name) for name in ("dist", "args", "kwds", "rvs"))


_MADE_OF = ("xk", "pk", "_histogram")


def _frozen_distribution(walk: Walk, value: Any, path: str) -> bytes:
    # Its other attributes change with every draw.
    return node(
        "distribution",
        walk.digest(type(value), path),
        walk.digest(type(value.dist), path),
        walk.digest(tuple(value.args), path),
        walk.digest(dict(value.kwds), path),
        # Of those that are made of data (rv_discrete, rv_histogram).
        *(walk.digest(getattr(value.dist, n), path) for n in _MADE_OF if hasattr(value.dist, n)),
    )


def _is_distribution(value: object) -> bool:
    stats = sys.modules.get("scipy.stats")
    return stats is not None and isinstance(value, stats.rv_continuous | stats.rv_discrete)


#: What a distribution is told when it is made, besides what its class is.
_TOLD = ("name", "a", "b", "badvalue", "xtol", "momtype", "shapes", "inc", "moment_tol")


def _distribution(walk: Walk, value: Any, path: str) -> bytes:
    # What it is pickled as holds the state that it draws from, as a rule that of this process.
    names = [n for n in (*_TOLD, *_MADE_OF) if hasattr(value, n)]
    return node(
        "unfrozen distribution",
        walk.digest(type(value), path),
        *walk.named(((n, getattr(value, n)) for n in names), path),
    )


def _own_score(walk: Walk, value: Any, path: str) -> bytes:
    # The estimator's own, whichever that is: not the one that this object happens to hold.
    return node("own score", walk.digest(getattr(value, "_metadata_request", None), path))


_WALKERS: dict[type, Callable[[Walk, Any, str], bytes]] = {
    int: _written("int"),
    float: lambda walk, v, path: node("float", float.hex(v).encode()),
    str: lambda walk, v, path: node("str", str.encode(v, "utf-8", "surrogatepass")),
    bytes: lambda walk, v, path: node("bytes", bytes(v)),
    bytearray: lambda walk, v, path: node("bytearray", bytes(v)),
    complex: lambda walk, v, path: node("complex", v.real.hex().encode(), v.imag.hex().encode()),
    list: _sequence("list"),
    tuple: _sequence("tuple"),
    dict: lambda walk, v, path: node("dict", *walk.items(v.items(), path)),
    collections.defaultdict: lambda walk, v, path: node(
        "defaultdict", walk.digest(v.default_factory, path), *walk.items(v.items(), path)
    ),
    types.MappingProxyType: lambda walk, v, path: node("dict", *walk.items(v.items(), path)),
    set: _set("set"),
    frozenset: _set("frozenset"),
    range: _fields("range", "start", "stop", "step"),
    slice: _fields("slice", "start", "stop", "step"),
    datetime.datetime: _written("datetime"),
    datetime.date: _written("date"),
    datetime.time: _written("time"),
    datetime.timedelta: _written("timedelta"),
    decimal.Decimal: _written("Decimal"),
    fractions.Fraction: _written("Fraction"),
    pathlib.PurePath: lambda walk, v, path: node("path", str(v).encode()),
    re.Pattern: _fields("pattern", "pattern", "flags"),
    enum.Enum: _enum,
    np.generic: data_identity.scalar,
    np.dtype: data_identity.dtype,
    np.ma.MaskedArray: data_identity.masked_array,
    np.ndarray: data_identity.array,
    np.random.RandomState: _random_state,
    np.random.Generator: _generator,
    functools.partial: _partial,
    types.MethodType: _method,
    type: code_identity.class_digest,
    types.FunctionType: code_identity.function_digest,
    types.CodeType: code_identity.code_digest,
    types.ModuleType: code_identity.module_digest,
    types.UnionType: _fields("union", "__args__"),
    types.BuiltinFunctionType: code_identity.builtin_digest,
    types.MethodDescriptorType: code_identity.builtin_digest,
    types.WrapperDescriptorType: code_identity.builtin_digest,
    types.ClassMethodDescriptorType: code_identity.builtin_digest,
    types.GetSetDescriptorType: code_identity.builtin_digest,
    types.MemberDescriptorType: code_identity.builtin_digest,
    np.ufunc: code_identity.builtin_digest,
    property: _fields("property", "fget", "fset", "fdel"),
    staticmethod: _fields("staticmethod", "__func__"),
    classmethod: _fields("classmethod", "__func__"),
    functools.cached_property: _fields("cached_property", "func"),
}
#: Walkers that look at the class of what they are given by themselves.
_WHOLE = frozenset(
    {
        enum.Enum,
        np.generic,
        np.dtype,
        pathlib.PurePath,
        functools.partial,
        type,
        np.ufunc,
        np.memmap,
        np.random.RandomState,
        np.random.Generator,
    }
)
_WALKERS[np.memmap] = data_identity.array

_TESTS: list[tuple[Callable[[Any], bool], Callable[[Walk, Any, str], bytes]]] = [
    (_sklearn.uses_own_score, _own_score),
    (_is_frozen_distribution, _frozen_distribution),
    (_is_distribution, _distribution),
    (is_estimator, _estimator),
    (data_identity.is_sparse, data_identity.sparse),
    (data_identity.is_pandas, data_identity.pandas),
    (data_identity.is_polars, data_identity.polars),
    (lambda v: hasattr(v, "cache_parameters") and hasattr(v, "__wrapped__"),
     code_identity.cached_function),
]  # fmt: skip
