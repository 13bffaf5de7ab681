"""Data, splits and payloads <-> content-addressed bytes.

===========  ====================================================  =========================
kind         content                                               read
===========  ====================================================  =========================
``npy``      a ``.npy`` file: arrays of numbers, C or F order      memory-mapped, no pickle
``sparse``   ``scipy.sparse.save_npz``, uncompressed               no pickle
``pickle``   pickle, protocol 5, of installed classes alone        only after :func:`verify`
``payload``  a line of JSON and a pickle (planning/payload.py)     only after :func:`verify`
===========  ====================================================  =========================

Data frames are pickled.  A frame's blocks of columns lie in C or F order, which decides how
the rows that a split selects are laid out, and with that the last bits of some estimators'
scores; the table formats that could hold a frame without pickle do not keep it.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from optomatic.errors import BundleDamaged, StoreIncompatible
from optomatic.records import Part

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

    An array in a file is memory-mapped, read-only, and comes as a plain ndarray.

    Raises
    ------
    StoreIncompatible
        If this version does not know `kind`.
    Exception
        Whatever unpickling raises, where classes or modules are missing here.
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
