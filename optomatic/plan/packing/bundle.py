"""Estimator, data, splits, scorer <-> content-addressed bytes.

=========  ====================================================  =========================
kind       content                                               read
=========  ====================================================  =========================
``npy``    a ``.npy`` file: arrays of numbers, C or F order      memory-mapped, no pickle
``sparse`` ``scipy.sparse.save_npz``, uncompressed               no pickle
``pickle`` cloudpickle, protocol 5                               only after :func:`verify`
=========  ====================================================  =========================

Data frames are pickled.  A frame's blocks of columns lie in C or F order, which decides how
the rows that a split selects are laid out, and with that the last bits of some estimators'
scores; the table formats that could hold a frame without pickle do not keep it.
"""

from __future__ import annotations

import functools
import hashlib
import io
import pickle
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import scipy.sparse

from optomatic.errors import BundleDamaged, NotShippable, StoreIncompatible
from optomatic.plan.own_code.survey import Named
from optomatic.plan.packing.payload import payload
from optomatic.records import Part

_READ_BYTES = 1 << 20
_SPARSE_FORMATS = ("csr", "csc", "coo", "bsr", "dia")
#: The attributes of sparse formats that hold indices.
_INDICES = ("indices", "indptr", "row", "col", "offsets")


@dataclass(frozen=True, slots=True)
class Bundle:
    """All that the units of a search share, as objects.

    Attributes
    ----------
    estimator : estimator
        Never fitted: each unit works on a clone.
    X : array-like of shape (n_samples, n_features)
    y : array-like of shape (n_samples,) or (n_samples, n_outputs), or None
    splits : sequence of (train, test)
        Pairs of row indices, ndarrays of int.
    scorer : callable or dict of str to callable
    fit_params, score_params : mapping or None
        Given to ``fit`` and to the scorer; what has a row per sample is split too.
    options : mapping
        ``return_train_score`` (bool) and ``config`` (scikit-learn's global
        configuration at the client, as far as it may change a score).
    """

    estimator: Any
    X: Any
    y: Any
    splits: Sequence[tuple[Any, Any]]
    scorer: Any
    fit_params: Mapping[str, Any] | None
    score_params: Mapping[str, Any] | None
    options: Mapping[str, Any]


def dump(value: object, named: Named | None = None) -> Part:
    """Return `value` as bytes that a worker can load.

    Large arrays are not copied: the part refers to their memory.

    Parameters
    ----------
    value : object
    named : Named, optional
        Takes note of what the bytes name instead of holding it.

    Raises
    ------
    NotShippable
        If it cannot be pickled, saying where in it the trouble is.
    """
    if type(value) in (np.ndarray, np.memmap) and not value.dtype.hasobject:  # type: ignore[attr-defined]
        return _part("npy", _npy_buffers(np.asarray(value)))
    if _is_plain_sparse(value):
        buffer = io.BytesIO()
        scipy.sparse.save_npz(buffer, value, compressed=False)
        return _part("sparse", [buffer.getbuffer()])
    return _part("pickle", [_pickled(value, named or Named())])


def load(kind: str, source: Path | bytes) -> Any:
    """Return the value in `source`, whose hash has been verified.

    Parameters
    ----------
    kind : {"npy", "sparse", "pickle"}
    source : Path or bytes
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
        return scipy.sparse.load_npz(io.BytesIO(source) if isinstance(source, bytes) else source)
    if kind == "pickle":
        return pickle.loads(source if isinstance(source, bytes) else source.read_bytes())
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


# Arrays


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
    """Tell whether scipy's own format returns the very matrix: it narrows 64-bit indices."""
    if not scipy.sparse.issparse(value) or value.format not in _SPARSE_FORMATS:
        return False
    if not type(value).__module__.startswith("scipy.sparse") or value.ndim != 2:
        return False
    held = (getattr(value, name, None) for name in _INDICES)
    indices = [part for part in held if part is not None]
    return not value.dtype.hasobject and all(part.dtype == np.int32 for part in indices)


# Everything else


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # it has no types
    """Pickles as cloudpickle does, and notes what goes by its name."""

    def __init__(self, file: io.BytesIO, named: Named) -> None:
        super().__init__(file, protocol=5)
        self._named = named

    def reducer_override(self, value: Any) -> Any:
        """Return how to pickle `value`, as cloudpickle says."""
        reduced = super().reducer_override(value)
        if reduced is NotImplemented:
            if isinstance(value, _NAMED) or "cython_function" in type(value).__name__:
                self._named.named[id(value)] = value
        elif isinstance(value, types.FunctionType):
            self._named.held[id(value)] = value
        return reduced


#: What is pickled by its name, or, where cloudpickle says so, with its code.
_NAMED = (
    *(type, types.FunctionType, types.BuiltinFunctionType, types.ModuleType),
    type(functools.lru_cache(len)),
)


def _pickled(value: object, named: Named) -> bytes:
    file = io.BytesIO()
    try:
        with payload():
            _Pickler(file, named).dump(value)
        return file.getvalue()
    except Exception as error:  # whatever a __reduce__ of the user's raises
        where, cause = _culprit(value, type(value).__name__, error)
        said = f"{where} cannot be pickled ({type(cause).__name__}: {cause})"
        raise NotShippable(
            f"{said}, so no worker can have it. Nothing was queued. With n_jobs=None it is "
            "scored in this process, without being shared; otherwise make it picklable, for "
            "instance by opening files and connections in fit.",
            said,
        ) from cause


def _culprit(value: object, path: str, error: Exception, depth: int = 8) -> tuple[str, Exception]:
    """Follow attributes and items down to the one that cannot be pickled, `depth` deep."""
    for name, inner in _members(value) if depth else ():
        try:
            cloudpickle.dumps(inner)
        except Exception as inner_error:  # as above
            return _culprit(inner, f"{path}{name}", inner_error, depth - 1)
    return path, error


def _members(value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        yield from ((f"[{key!r}]", item) for key, item in value.items())
    elif isinstance(value, list | tuple):
        yield from ((f"[{n}]", item) for n, item in enumerate(value))
    else:
        state = getattr(value, "__dict__", None)
        yield from ((f".{name}", item) for name, item in (dict(state) if state else {}).items())
