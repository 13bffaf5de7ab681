"""Pickle the objects that all units of a search share, and load them again.

::

    objects --digests--> equal?  <--digests-- objects
       |                                        ^
       `--pickle--> payload + parts --unpickle--'

Estimator, scorers, params of fit and the opaque values of candidates go in one pickle, so that
what is one object here is one object there.  Values that come later go in further payloads.  They
refer to objects of the first one by their place in the pickle's memo.  Large arrays, and data
without user code, are parts of their own, stored once by content.

A payload is one line of JSON and a pickle.  The line says what the objects are to be like::

    {"schema": 1, "digests": {"estimator": ..., ...} or null, "values": [...],
     "code": {"helpers.FACTOR": short digest, ...},
     "by_reference": {package with compiled extensions, which goes by name: digest of its files}}

The loading process computes the digests of the objects, and scores nothing if they differ.
"""

from __future__ import annotations

import io
import json
import pickle
import sys
import types
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import cloudpickle
import numpy as np

from optomatic import _sklearn
from optomatic.errors import NotShippable, warn
from optomatic.keys.digest import Digest, Doubt, deep, digest_of, first_difference, marks_of
from optomatic.keys.environment import (
    as_sent,
    files_digest,
    is_taken_apart,
    is_user_code,
    sending,
    travels,
)
from optomatic.keys.estimators import digest_of_estimator
from optomatic.keys.user_code import Reduced, Reducer
from optomatic.planning.serialization import dump, dump_raw, part_of
from optomatic.records import SCHEMA, Part

#: Arrays of so many bytes are parts of their own, so many at most: each is named in every unit.
_LARGE, _MOST = 65_536, 16
#: Roles of data, which are parts of their own unless user code is in them.
_DATA = ("X", "y")
#: Hashes of payloads that were loaded in this process, and found equal to what was sent.
_compared: OrderedDict[str, None] = OrderedDict()
_MOST_COMPARED = 256
#: So many names of user code stand in a payload.
_MARKS = 500
#: A pickle is larger only if globals of user code make it so, which is then said.
LARGEST_CODE = 50_000_000


def digest_of_role(role: str, value: Any) -> Digest:
    """Return the digest of one thing that units share."""
    if role == "estimator":
        return digest_of_estimator(value)
    if role == "scorer" and _sklearn.uses_own_score(value):
        # The estimator's own score, whichever estimator this object happens to hold.
        return digest_of(getattr(value, "_metadata_request", None))
    if role in ("scorer", "fit_params", "score_params", "data") and isinstance(value, dict):
        return digest_of(dict(sorted(value.items())), role)  # they go by name
    return digest_of(value, role, rows=role in _DATA)


class Sender:
    """Makes the payloads of a search: one of all that is shared, then one for each round.

    Attributes
    ----------
    digests : dict of str to Digest
        By role.
    parts : dict of str to Part
        Everything that workers need, by hash.
    spec : dict of str to str
        Hash by role, as of :class:`~optomatic.records.Work`.
    holds_user_code : bool
        Whether workers have something to compare that versions do not tell.
    """

    def __init__(self, roles: Mapping[str, Any], *, apart: bool = False) -> None:
        self._apart = apart
        self._roles = {role: value for role, value in roles.items() if value is not None}
        with deep(), sending():
            self.digests = {role: digest_of_role(role, own) for role, own in self._roles.items()}
        self.holds_user_code = any(map(_holds_user_code, self.digests.values()))
        self.parts: dict[str, Part] = {}
        self.spec: dict[str, str | None] = {}
        self._reducer = Reducer(self._travels)
        self._large: dict[int, tuple[object, tuple[Any, ...]]] = {}
        self._memo: dict[int, int] = {}
        self._pickler: _Pickler | None = None  # keeps alive what the memo names by id
        self._first: str | None = None
        self._unsendable: set[str] = set()

    def _travels(self, module: str) -> bool:
        return travels(module) and module.partition(".")[0] not in self._unsendable

    @property
    def has_sent(self) -> bool:
        """Return whether the shared objects were pickled."""
        return self._first is not None

    def payload(self, sha: str) -> bytes:
        """Return a payload that was made here."""
        return bytes_of(self.parts[sha])

    def large(self) -> dict[tuple[Any, ...], Any]:
        """Return what payloads name instead of holding it."""
        return {name: value for value, name in self._large.values()}

    def moved(self) -> str | None:
        """Return the path of state that is another one since it was pickled, None if none is.

        Nothing is told of data, nor where the digests were not certain.
        """
        names = [role for role in ("estimator", "scorer", "function") if role in self._roles]
        with deep(), sending():
            for role in names:
                before, now = self.digests[role], digest_of_role(role, self._roles[role])
                if not before.doubts and before.hex != now.hex:
                    return self._moved_at(role)
        return None

    def _moved_at(self, role: str) -> str:
        loaded = self._copy()
        if loaded is None:
            return role
        with loaded.installed():
            where = first_difference(loaded.roles[role], self._roles[role], role)
        return where or role

    def send(self, values: Sequence[Any], names: Sequence[str] | None = None) -> Sent:
        """Pickle `values`, with all that is shared if that was not pickled yet.

        Raise NotShippable if something cannot be pickled or loaded again, with its place.
        """
        with deep(), sending():
            said = names or ["candidates"] * len(values)
            found = [digest_of(value, name) for value, name in zip(values, said, strict=True)]
            self.holds_user_code |= any(map(_holds_user_code, found))
            doubts = [d for own in (*self.digests.values(), *found) for d in own.doubts]
            self._unsendable |= _unsendable(doubts)
            return self._send(values, found, list(dict.fromkeys(doubts)))

    def _send(self, values: Sequence[Any], found: list[Digest], doubts: list[Doubt]) -> Sent:
        is_first = self._first is None
        if is_first:
            self._set_data_apart()
        objects: dict[str, Any] = {"values": list(values)}
        if is_first:
            objects["roles"] = self._roles
        head = self._head(values, found, certain=not doubts)
        part = self._pickled(objects, head, doubts)
        if not doubts and (parted := self._compared(part, objects)) is not None:
            doubts.append(parted)
            part = self._pickled(objects, self._head(values, found, certain=False), doubts)
        self.parts[part.sha] = part
        if is_first:
            self._say_if_large(part)
            self._first = self.spec["payload"] = part.sha
            self.spec.update((f"large{n}", own) for n, own in enumerate(self._large_shas()))
        prefix = "" if is_first and not self._apart else f"{part.sha}:"
        return Sent(part, [f"{prefix}{n}" for n in range(len(values))], tuple(doubts))

    # -- parts of their own ---------------------------------------------------------------------

    def _set_data_apart(self) -> None:
        for role, value in self._roles.items():
            if role in _DATA or role.startswith("data:"):
                part = _data_part(value)
                if part is not None:
                    self.parts[part.sha] = part
                    self.spec[role] = part.sha
                    self._large[id(value)] = (value, ("part", part.sha, len(self._large)))

    def _large_shas(self) -> list[str]:
        known = set(self.spec.values())
        shas = (name[1] for _, name in self._large.values())
        return [sha for sha in dict.fromkeys(shas) if sha not in known]

    def _name_of(self, value: Any) -> tuple[Any, ...] | None:
        """Return the name that stands for `value` in a pickle; None if it is pickled itself."""
        known = self._large.get(id(value))
        if known is not None:
            return known[1]
        if self._first is not None:
            place = self._memo.get(id(value))
            return None if place is None or type(value) in (str, bytes) else ("memo", place)
        if type(value) not in (np.ndarray, np.memmap) or value.nbytes < _LARGE:
            return None
        if value.dtype.hasobject or len(self._large) >= _MOST:
            return None
        part = dump(value)
        self.parts[part.sha] = part
        self._large[id(value)] = (value, ("part", part.sha, len(self._large)))
        return self._large[id(value)][1]

    def _say_if_large(self, part: Part) -> None:
        """Warn of globals of user code that make much of what is sent."""
        data = {sha for role, sha in self.spec.items() if role != "payload"}
        whole = part.size + sum(own.size for sha, own in self.parts.items() if sha not in data)
        if whole < LARGEST_CODE:
            return
        sizes = {name: _size_of(value) for name, value in self._reducer.reached.items()}
        if sum(sizes.values()) < whole / 2:
            return
        largest = sorted(sizes, key=lambda name: -sizes[name])[:3]
        said = ", ".join(f"{name} ({sizes[name] / 1e6:,.0f} MB)" for name in largest if sizes[name])
        warn(
            f"User code brings {whole / 1e6:,.0f} MB along, which each worker loads: {said}. Load "
            "large data where they are used, or give them to fit or MongoSearch as data.",
            UserWarning,
        )

    # -- pickling and comparing -------------------------------------------------------------------

    def _marks(self, values: Sequence[Any]) -> dict[str, str]:
        roles = {} if self.has_sent else self._roles  # a later payload holds values alone
        marks = marks_of(_marked(roles, self.spec, values))
        return dict(list(marks.items())[:_MARKS])

    def _head(self, values: Sequence[Any], found: Sequence[Digest], *, certain: bool) -> bytes:
        digests = {role: own.hex for role, own in self.digests.items() if role not in self.spec}
        met = frozenset().union(*(own.modules for own in (*self.digests.values(), *found)))
        names = {module.partition(".")[0] for module in met}
        head = {
            "schema": SCHEMA,
            "digests": digests if certain else None,
            "values": [own.hex for own in found] if certain else None,
            "by_reference": {n: files_digest(n) for n in sorted(names) if is_user_code(n)},
            "code": self._marks(values) if certain and self.holds_user_code else {},
        }
        return json.dumps(head).encode() + b"\n"

    def _pickled(self, objects: dict[str, Any], head: bytes, doubts: Sequence[Doubt]) -> Part:
        file = io.BytesIO()
        pickler = _Pickler(file, self._reducer, self._name_of)
        try:
            pickler.dump(objects)
            # What imports find while units are scored; known only when all is pickled.
            pickler.dump(dict(self._reducer.modules))
        except Exception as error:  # whatever a __reduce__ of the user's raises
            raise _not_shippable(error, doubts) from error
        if self._first is None:
            self._pickler = pickler
            self._memo = {key: place for key, (place, _) in pickler.memo.copy().items()}
        return part_of("payload", head, file.getvalue())

    def _compared(self, part: Part, objects: dict[str, Any]) -> Doubt | None:
        """Load what was pickled; return where it is not what it was, if it is not."""
        if part.sha in _compared:
            return None
        try:
            loaded = load_payload(bytes_of(part), self._original, self._copy())
            parted = loaded.parted()
        except Exception as error:  # whatever user code raises as it is loaded
            said = f"The pickled search cannot be loaded again ({type(error).__name__}: {error})"
            raise _refused(said, error) from error
        if parted is None:
            _compared[part.sha] = None
            while len(_compared) > _MOST_COMPARED:
                _compared.popitem(last=False)
            return None
        return self._doubt_at(parted, loaded, objects)

    def _copy(self) -> Loaded | None:
        """Return a copy of the payload of the search, as it was sent; None if none was."""
        if self._first is None:
            return None
        return load_payload(self.payload(self._first), self._original)

    def _original(self, name: tuple[Any, ...]) -> Any:
        """Return what was set apart from the pickle under a name."""
        return next(value for value, own in self._large.values() if own == name)

    def _doubt_at(self, parted: str, loaded: Loaded, objects: dict[str, Any]) -> Doubt:
        role, _, number = parted.partition(":")
        if role == "values":
            ours, theirs = objects["values"][int(number)], loaded.values[int(number)]
        else:
            ours, theirs = self._roles[role], loaded.roles[role]
        path = "" if role == "estimator" else role
        where = first_difference(ours, theirs, path) or path
        return Doubt(where, "what is not the same after it was pickled")


@dataclass(frozen=True, slots=True)
class Sent:
    """A payload that was made, and what in it cannot be compared by those who load it.

    A reference stands for a value in the text of a candidate: its number, and before that the hash
    of the payload unless that is the one of the search.
    """

    part: Part
    references: list[str]
    doubts: tuple[Doubt, ...]


def bytes_of(part: Part) -> bytes:
    """Return the content of a part in one piece."""
    return b"".join(map(bytes, part.buffers))


def _size_of(value: Any, depth: int = 3) -> int:
    """Return about how many bytes `value` takes in a pickle, 0 for what is small or is code."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, str | bytes | bytearray):
        return len(value)
    if type(value) in (list, tuple, set, dict) and depth:
        items = value.values() if isinstance(value, dict) else value
        return sum(_size_of(item, depth - 1) for item in items)
    return 8


def _marked(roles: Mapping[str, Any], apart: Collection[str], values: Sequence[Any]) -> list[Any]:
    """Return what is compared by name where a payload is not what it was."""
    return [*(roles[role] for role in sorted(roles) if role not in apart), *values]


def _holds_user_code(digest: Digest) -> bool:
    """Return whether workers have something to compare that versions do not tell."""
    return digest.python or any(map(is_user_code, digest.modules))


def _unsendable(doubts: Sequence[Doubt]) -> set[str]:
    """Return user modules whose globals hold what cannot be pickled: they go by name."""
    names = {doubt.module.partition(".")[0] for doubt in doubts if doubt.module}
    return {name for name in names if name not in ("__main__", "__mp_main__")}


def _data_part(value: Any) -> Part | None:
    """Return data as a part of their own, or None if user code is in them, or they are small."""
    file = io.BytesIO()
    try:
        if (raw := dump_raw(value)) is not None:
            return raw
        _PlainPickler(file, protocol=5).dump(value)
    except Exception:  # pickled with the rest, where it is said what is wrong
        return None
    return part_of("pickle", file.getvalue())


class _PlainPickler(pickle.Pickler):
    """Pickles what holds no user code."""

    def reducer_override(self, value: Any) -> Any:
        """Refuse code that would have to travel."""
        is_code = isinstance(value, (type, types.FunctionType, types.ModuleType))
        if is_code and Reducer(is_taken_apart).reduce(value) is not None:
            raise pickle.PicklingError("user code")
        return NotImplemented


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # it has no types
    """Pickles as cloudpickle does, but for what :class:`Reducer` takes apart."""

    def __init__(
        self, file: io.BytesIO, reducer: Reducer, name_of: Callable[[Any], tuple[Any, ...] | None]
    ) -> None:
        super().__init__(file, protocol=5)
        self._reducer = reducer
        self._name_of = name_of

    def persistent_id(self, value: Any) -> tuple[Any, ...] | None:
        """Return what stands for a value that the pickle does not hold."""
        return self._name_of(value)

    def reducer_override(self, value: Any) -> Reduced | Any:
        """Return how to rebuild `value`."""
        reduced = self._reducer.reduce(value)
        return super().reducer_override(value) if reduced is None else reduced


def _not_shippable(error: Exception, doubts: Sequence[Doubt]) -> NotShippable:
    where = f"{doubts[0]}, which" if doubts and doubts[0].path else "An object of this search"
    return _refused(f"{where} cannot be pickled ({type(error).__name__}: {error})", error)


def _refused(said: str, error: Exception) -> NotShippable:
    return NotShippable(
        f"{said}, so no worker can have it. Nothing was queued. With n_jobs=None it is "
        "scored in this process, without being shared; otherwise make it picklable, for "
        "instance by opening files and connections in fit.",
        said,
    )


@dataclass(slots=True)
class Loaded:
    """A payload that was loaded: its first line, objects by role, and the values of candidates.

    `modules` are user modules, for imports in the bodies of functions; later payloads refer to
    `memo`.
    """

    head: dict[str, Any]
    roles: dict[str, Any]
    values: list[Any]
    modules: dict[str, types.ModuleType]
    memo: dict[int, Any] = field(repr=False)

    @property
    def apart(self) -> set[str]:
        """Roles that are parts of their own."""
        return self.roles.keys() - (self.head["digests"] or {}).keys()

    def parted(self) -> str | None:
        """Return the role (``values:3``) that is not what the sender had, None if all are.

        Nothing is compared where the sender was not certain.
        """
        digests, values = self.head["digests"], self.head["values"]
        if digests is None:
            return None
        with deep(), sending(), as_sent(self.head["by_reference"]), self.installed():
            for role, wanted in digests.items():
                if role in self.roles and digest_of_role(role, self.roles[role]).hex != wanted:
                    return str(role)
            for number, wanted in enumerate(values):
                if digest_of(self.values[number], "candidates").hex != wanted:
                    return f"values:{number}"
        return None

    def parted_at(self) -> str:
        """Return the name of user code that is not what the sender had, for people."""
        with sending(), as_sent(self.head["by_reference"]), self.installed():
            here = marks_of(_marked(self.roles, self.apart, self.values))
        there = self.head["code"]
        return next((name for name, own in here.items() if there.get(name, own) != own), "")

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Have imports find the user modules that came with the payload."""
        before: dict[str, types.ModuleType | None] = {n: sys.modules.get(n) for n in self.modules}
        sys.modules.update(self.modules)
        known = cloudpickle.list_registry_pickle_by_value()
        new = [module for name, module in self.modules.items() if name not in known]
        with ExitStack() as stack:
            for module in new:  # what is pickled meanwhile, for processes of joblib, travels too
                cloudpickle.register_pickle_by_value(module)
                stack.callback(cloudpickle.unregister_pickle_by_value, module)
            try:
                yield
            finally:
                for name, old in before.items():
                    if old is None:
                        sys.modules.pop(name, None)
                    else:
                        sys.modules[name] = old


def head_of(data: bytes) -> dict[str, Any]:
    """Return what a payload says of itself, without loading anything."""
    return json.loads(data[: data.index(b"\n")])  # type: ignore[no-any-return]


def load_payload(
    data: bytes,
    load_part: Callable[[tuple[Any, ...]], Any],
    first: Loaded | None = None,
) -> Loaded:
    """Load a payload, whose hash has been verified; raise whatever unpickling raises.

    `load_part` returns the value of a part for its name ``("part", sha, number)``; `first` is the
    payload of the search, for one that came later.
    """
    head = head_of(data)
    file = io.BytesIO(data[data.index(b"\n") + 1 :])
    unpickler = _Unpickler(file, load_part, first)
    with deep():
        objects = unpickler.load()
        memo = unpickler.memo.copy()
        modules = unpickler.load()
    found = {} if first is None else first.modules
    return Loaded(head, objects.get("roles", {}), objects["values"], {**found, **modules}, memo)


class _Unpickler(pickle.Unpickler):
    def __init__(
        self,
        file: io.BytesIO,
        load_part: Callable[[tuple[Any, ...]], Any],
        first: Loaded | None,
    ) -> None:
        super().__init__(file)
        self._load_part = load_part
        self._first = first

    def persistent_load(self, name: tuple[Any, ...]) -> Any:
        """Return what stands for a name in the pickle."""
        if name[0] == "memo":
            assert self._first is not None
            return self._first.memo[name[1]]
        return self._load_part(name)
