"""Data, splits, payloads and calls of joblib <-> content-addressed bytes.

===========  ====================================================  =========================
kind         content                                               read
===========  ====================================================  =========================
``npy``      a ``.npy`` file: arrays of numbers, C or F order      memory-mapped, no pickle
``sparse``   ``scipy.sparse.save_npz``, uncompressed               no pickle
``pickle``   pickle, protocol 5, of installed classes alone        only after :func:`verify`
``payload``  a line of JSON and a pickle (planning/payload.py)     only after :func:`verify`
===========  ====================================================  =========================

Data frames are pickled.  A frame's blocks of columns lie in C or F order.  That decides how
the rows of a split are laid out, and with that the last bits of some estimators' scores.
Table formats that could hold a frame without pickle do not keep it.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import secrets
import sys
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np

from optomatic.errors import BundleDamaged, NotShippable, StoreError, StoreIncompatible
from optomatic.keys.environment import required_versions
from optomatic.planning.constraints import constraints_of, hash_of, threads_of
from optomatic.records import SCHEMA, Call, Part, Unit, Work

_READ_BYTES = 1 << 20
_SPARSE_FORMATS = ("csr", "csc", "coo", "bsr", "dia")
#: The attributes of sparse formats that hold indices.
_INDICES = ("indices", "indptr", "row", "col", "offsets")


def dump(value: object) -> Part:
    """Return `value` as bytes that a worker can load; raise whatever pickling raises.

    Large arrays are not copied: the part refers to their memory.
    """
    return dump_raw(value) or part_of("pickle", pickle.dumps(value, protocol=5))


def dump_raw(value: Any) -> Part | None:
    """Return arrays and sparse matrices of numbers as bytes, None for all else."""
    if type(value) in (np.ndarray, np.memmap) and not value.dtype.hasobject:
        return _part("npy", _npy_buffers(np.asarray(value)))
    if _is_plain_sparse(value):
        import scipy.sparse

        buffer = io.BytesIO()
        scipy.sparse.save_npz(buffer, value, compressed=False)
        return _part("sparse", [buffer.getvalue()])
    return None


def part_of(kind: str, *buffers: bytes | memoryview) -> Part:
    """Return buffers, in order, as a part of some kind."""
    return _part(kind, buffers)


def load(kind: str, source: Path | bytes) -> Any:
    """Return the value in `source`, whose hash has been verified.

    An array in a file is memory-mapped, read-only, and comes as a plain ndarray.  Raise
    StoreIncompatible for an unknown `kind`, and what unpickling raises.
    """
    if kind == "npy":
        return _load_npy(source)
    if kind == "sparse":
        import scipy.sparse

        return scipy.sparse.load_npz(io.BytesIO(source) if isinstance(source, bytes) else source)
    if kind == "pickle":
        return pickle.loads(source if isinstance(source, bytes) else source.read_bytes())
    if kind == "payload":  # it is loaded together with the parts that it names
        return source if isinstance(source, bytes) else source.read_bytes()
    raise StoreIncompatible(
        f"A stored part is of kind {kind!r}, which this version of optomatic does not know. It "
        "was left alone. Use the version that wrote it, or a newer one, for this search."
    )


def verify(sha: str, kind: str, source: Path | bytes) -> None:
    """Raise BundleDamaged unless `source` is the content that `sha` names."""
    digest = _digest(kind)
    for data in _blocks(source):
        digest.update(data)
    if digest.hexdigest() != sha:
        raise BundleDamaged(
            f"A part of a bundle ({kind}, {sha[:12]}) does not match its hash: bytes were lost or "
            "changed on the way. It was not loaded, and no score comes of it."
        )


def _digest(kind: str) -> Any:
    return hashlib.sha256(kind.encode("ascii") + b"\0")


def _part(kind: str, buffers: Sequence[bytes | memoryview]) -> Part:
    digest = _digest(kind)
    for buffer in buffers:
        digest.update(buffer)
    size = sum(memoryview(buffer).nbytes for buffer in buffers)
    return Part(digest.hexdigest(), kind, size, tuple(buffers))


def _blocks(source: Path | bytes) -> Iterator[bytes]:
    if isinstance(source, bytes):
        yield source
        return
    with open(source, "rb") as file:
        while data := file.read(_READ_BYTES):
            yield data


def _npy_buffers(array: Any) -> list[bytes | memoryview]:
    """Return the header of a ``.npy`` file and the array's own memory."""
    if not (array.flags.c_contiguous or array.flags.f_contiguous):
        array = np.ascontiguousarray(array)
    header = io.BytesIO()
    np.lib.format.write_array_header_2_0(header, np.lib.format.header_data_from_array_1_0(array))
    flat = array.T if not array.flags.c_contiguous else array
    content = flat.reshape(-1).view(np.uint8) if array.nbytes else np.empty(0, np.uint8)
    return [header.getvalue(), content.data]


def _load_npy(source: Path | bytes) -> Any:
    if isinstance(source, bytes):
        return np.load(io.BytesIO(source), allow_pickle=False)
    try:
        return np.asarray(np.load(source, mmap_mode="r", allow_pickle=False))
    except ValueError:  # nothing can be mapped of an empty array
        return np.load(source, allow_pickle=False)


def _is_plain_sparse(value: Any) -> bool:
    """Return whether scipy's own format returns the very matrix: it narrows 64-bit indices."""
    # A worker that only hands parts on to its children need not import scipy.
    sparse = sys.modules.get("scipy.sparse")
    if sparse is None or not sparse.issparse(value) or value.format not in _SPARSE_FORMATS:
        return False
    if not type(value).__module__.startswith("scipy.sparse") or value.ndim != 2:
        return False
    held = (getattr(value, name, None) for name in _INDICES)
    indices = [part for part in held if part is not None]
    return not value.dtype.hasobject and all(part.dtype == np.int32 for part in indices)


# Calls of joblib <-> their stored form.
#
# A call is a batch of ``(function, args, kwargs)``, pickled by value where it comes from
# ``__main__``.  Large arrays in it, however deep, are parts of their own: stored once by
# content, whatever calls use them, and mapped into memory by the workers of a machine.  The text
# of a call is its pickle in base64; if that is large it is a part, too.  ``spec`` names the parts.
#
# A call is never reused, so its key is random: two calls with equal arguments may well be
# meant to give two results.
#
# Short calls are joined: the pickles of several stand one after the other in one text.

#: A pickle of so many bytes is a part, not text in the record of its call.
LARGE_PICKLE = 256_000
#: Large arrays stand in the spec of a call by this name and a number.
_ARRAY = "large"
#: A function with its args and kwargs.
Task = tuple[Callable[..., Any], Sequence[Any], Mapping[str, Any]]


@cache
def call_work(
    level: int, threads: int | None, mmap_mode: str | None, initializer: str | None
) -> Work:
    """Return what the calls of one ``Parallel`` have in common.

    `level` is their depth in nested calls of ``Parallel``, `threads` bounds numeric libraries in
    a call.  `mmap_mode` says how large arrays are mapped: "r" for reading, "c" to be changed by
    one call alone, None not at all.  `initializer` is the hash of a pickled ``(function, args)``
    that a process runs before its first such call.
    """
    env = required_versions({})
    able = ["call", SCHEMA, sorted(env.items())]
    return Work(
        kind="call",
        spec={"initializer": initializer},
        options={
            "level": level,
            "inner_max_num_threads": threads_of(threads),
            "mmap_mode": mmap_mode,
        },
        env=env,
        requires=(),
        queue=hash_of(able),
        constraints=constraints_of(able),
    )


def pack_call(
    tasks: Sequence[Task], work: Work, keep: Callable[[Any], str], smallest: int | None
) -> Call:
    """Write down one call.

    ``keep(array)`` stores an array as a part, unless it has done so before, and returns the
    hash.  Arrays of `smallest` bytes and more are parts of their own; None: no array is.  Raise
    NotShippable if something in it cannot be pickled.
    """
    data, large = _pickled(list(tasks), keep, smallest)
    shown = {"call": _name(tasks[0][0]) if tasks else "", "tasks": len(tasks)}
    return _call(data, replace(work, spec={**work.spec, **_named(large)}), shown)


def join_calls(calls: Sequence[Call]) -> Call:
    """Return one call that makes all of `calls`, in turn; none has a part with its pickle."""
    if len(calls) == 1:
        return calls[0]
    first = calls[0].unit
    specs = [call.unit.work.spec for call in calls]
    shas = dict.fromkeys(sha for spec in specs for n, sha in spec.items() if n.startswith(_ARRAY))
    own = {name: sha for name, sha in specs[0].items() if not name.startswith(_ARRAY)}
    data = b"".join(b64decode(call.unit.params_text) for call in calls)
    shown = {**first.params, "tasks": sum(call.unit.params["tasks"] for call in calls)}
    return _call(data, replace(first.work, spec={**own, **_named(shas)}), shown)


def renew_call(call: Call) -> Call:
    """Return `call` under another key, so that it can be queued once more."""
    if call.own is None:
        data = b64decode(call.unit.params_text)
    else:
        data = load(call.own.kind, b"".join(call.own.buffers))[1]
    return _call(data, call.unit.work, call.unit.params)


def _call(data: bytes, work: Work, shown: Mapping[str, Any]) -> Call:
    key = secrets.token_hex(32)
    own = None
    if len(data) >= LARGE_PICKLE:
        # With its key the pickle is nobody else's part, and may be removed with the call.
        own = dump((key, data))
        work = replace(work, spec={**work.spec, "tasks": own.sha})
    text = b64encode(data).decode("ascii") if own is None else ""
    return Call(Unit(f"u{SCHEMA}:{key}:{work.constraints}", key, 0, shown, text, work), own)


def _named(large: Iterable[str | None]) -> dict[str, str | None]:
    """Return large arrays as they stand in the spec of a call."""
    return {f"{_ARRAY}{n}": sha for n, sha in enumerate(large)}


def unpack_calls(
    text: str, spec: Mapping[str, str | None], load: Callable[[str], Any]
) -> Iterator[list[Task]]:
    """Yield the tasks of each call that is written down there; ``load(sha)`` returns a part.

    Raises what unpickling raises, where classes or modules are missing here.
    """
    own = spec.get("tasks")
    data = b64decode(text) if own is None else load(own)[1]
    file = io.BytesIO(data)
    while file.tell() < len(data):
        yield _Unpickler(file, load).load()


def write_stops(file: io.BytesIO, stops: Sequence[int], seconds: float) -> None:
    """Write at the end of `file` where the end of each call stops in it.

    `seconds` is how long all took.
    """
    file.write(b"\n" + json.dumps([seconds, list(stops)]).encode("ascii"))


def split_ends(content: bytes) -> tuple[float, list[memoryview]]:
    """Return the seconds of all calls, and the pickled end of each: its values or an exception.

    The last one is empty if its exception could not be pickled.  Raise BundleDamaged if `content`
    is nothing that :func:`write_stops` has written.
    """
    at = content.rfind(b"\n")
    try:
        seconds, stops = json.loads(content[at + 1 :])
        whole = memoryview(content)
        return float(seconds), [whole[start:stop] for start, stop in pairwise([0, *stops])]
    except (ValueError, TypeError):
        raise BundleDamaged("what it returned cannot be read.") from None


def _name(function: Any) -> str:
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return f"{getattr(function, '__module__', None) or '?'}.{name}"


def _pickled(
    tasks: list[Task], keep: Callable[[Any], str], smallest: int | None
) -> tuple[bytes, list[str]]:
    """Return the pickle of `tasks` and the hashes that stand in it for large arrays."""
    file = io.BytesIO()
    pickler = _Pickler(file, keep, float("inf") if smallest is None else smallest)
    try:
        pickler.dump(tasks)
    except StoreError:
        raise
    except Exception as error:  # whatever a __reduce__ of the user's raises
        names = ", ".join(sorted({_name(task[0]) for task in tasks})[:3])
        raise NotShippable(
            f"A call of {names} cannot be pickled, so no worker can have it "
            f"({type(error).__name__}: {error}). It was not queued. Make its arguments "
            "picklable, for instance by opening files and connections in the function."
        ) from error
    return file.getvalue(), list(pickler.large)


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # it has no types
    """Pickles by value what comes from ``__main__``, and large arrays by their hash."""

    def __init__(self, file: io.BytesIO, keep: Callable[[Any], str], smallest: float) -> None:
        super().__init__(file, protocol=5)
        self._keep = keep
        self._smallest = smallest
        self.large: dict[str, None] = {}
        self._names: dict[int, str] = {}

    def persistent_id(self, value: Any) -> str | None:
        """Return a name for a large array, its hash and a number; None for everything else.

        The same array has the same name, and one of equal content another: a function that
        writes into the one must not find that in the other.
        """
        if type(value) not in (np.ndarray, np.memmap):
            return None
        if value.nbytes < self._smallest or value.dtype.hasobject or not value.nbytes:
            return None
        if id(value) not in self._names:
            sha = self._keep(value)
            self.large[sha] = None
            self._names[id(value)] = f"{sha}:{len(self._names)}"
        return self._names[id(value)]


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, load: Callable[[str], Any]) -> None:
        super().__init__(file)
        self._load_part = load
        self._arrays: dict[str, Any] = {}

    def persistent_load(self, name: str) -> Any:
        """Return the array that was pickled by its name."""
        if name not in self._arrays:
            self._arrays[name] = self._load_part(name.partition(":")[0])
        return self._arrays[name]
