"""The identity of data: what they are, not where in memory they lie.

Rows that a split selects from an array come out in C order whatever its own order, so that
dense layout does not matter: scores were bit-equal for 14 of 14 estimators.  Rows of a data
frame come out in the order of its blocks, and scores then differ in their last bits (for 8
of 14 estimators), so for frames it does.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from optomatic.plan.keys.nodes import node

if TYPE_CHECKING:
    from optomatic.plan.keys.fingerprint import Walk

_SPARSE_ARRAYS = ("data", "indices", "indptr", "row", "col", "offsets", "rows", "coords")


def scalar(walk: Walk, value: Any, path: str) -> bytes:
    """A numpy scalar: dtype and bits (one NaN is like another)."""
    if value.dtype.hasobject:
        return walk.doubt(path, "a numpy scalar that holds objects")
    if value.dtype.kind in "fc" and np.isnan(value):
        return node("scalar", value.dtype.str.encode(), b"nan", repr(value).encode())
    name = type(value).__name__.encode()
    return node("scalar", name, value.dtype.str.encode(), value.tobytes())


def dtype(walk: Walk, value: Any, path: str) -> bytes:
    """A numpy dtype."""
    return node("dtype", repr(value).encode())


def array(walk: Walk, value: Any, path: str) -> bytes:
    """Dtype, shape and values in C order."""
    head = (str(value.dtype.descr).encode(), str(value.shape).encode())
    if value.dtype.hasobject:
        items = (walk.digest(item, f"{path}[...]") for item in value.reshape(-1).tolist())
        return node("object array", *head, *items)
    flat = np.ascontiguousarray(value).reshape(-1)
    return node("array", *head, flat.view(np.uint8).data if flat.nbytes else b"")


def masked_array(walk: Walk, value: Any, path: str) -> bytes:
    """Values, mask and what masked ones are filled with."""
    if value is np.ma.masked:  # lets nobody look at its parts
        return node("masked")
    parts = (np.asarray(value), np.ma.getmaskarray(value), np.asarray(value.fill_value))
    return node("masked array", *(array(walk, part, path) for part in parts))


def is_sparse(value: Any) -> bool:
    """Tell whether `value` is a scipy sparse matrix or array."""
    scipy_sparse = sys.modules.get("scipy.sparse")
    return scipy_sparse is not None and scipy_sparse.issparse(value)


def sparse(walk: Walk, value: Any, path: str) -> bytes:
    """Class, shape and the raw arrays as they are stored."""
    return _of_class(walk, value, _stored(walk, value, path), path, "scipy")


def _stored(walk: Walk, value: Any, path: str) -> bytes:
    if value.format == "dok":
        value_items = sorted((tuple(map(int, k)), v) for k, v in value.items())
        parts = [walk.digest(value_items, path), str(value.dtype).encode()]
    else:
        held = ((name, getattr(value, name, None)) for name in _SPARSE_ARRAYS)
        parts = [
            part
            for name, raw in held
            if raw is not None
            for part in (name.encode(), walk.digest(raw, f"{path}.{name}"))
        ]
    return node("sparse", type(value).__name__.encode(), str(value.shape).encode(), *parts)


def is_pandas(value: Any) -> bool:
    """Tell whether `value` is pandas' frame, series, index, array or dtype."""
    pandas_module = sys.modules.get("pandas")
    if pandas_module is None:
        return False
    kinds = (
        pandas_module.DataFrame,
        pandas_module.Series,
        pandas_module.Index,
        pandas_module.api.extensions.ExtensionArray,
        pandas_module.api.extensions.ExtensionDtype,
    )
    return isinstance(value, kinds) or value is pandas_module.NA


def pandas(walk: Walk, value: Any, path: str) -> bytes:
    """A frame by its columns; anything else by dtype and values."""
    return _of_class(walk, value, _by_values(walk, value, path), path, "pandas")


def _of_class(walk: Walk, value: Any, digest: bytes, path: str, library: str) -> bytes:
    """Add the class, if it is no class of `library`, and what pandas is told to keep with rows."""
    kind = type(value)
    if kind.__module__.partition(".")[0] == library:
        return digest
    own = [(n, vars(value)[n]) for n in getattr(kind, "_metadata", ()) if n in vars(value)]
    return node("subclass", walk.digest(kind, path), digest, *walk.named(own, path))


def _by_values(walk: Walk, value: Any, path: str) -> bytes:
    pd = sys.modules["pandas"]
    kind = type(value).__name__.encode()
    if value is pd.NA:
        return b"pandas.NA"
    if isinstance(value, pd.DataFrame):
        columns = (value.iloc[:, n] for n in range(value.shape[1]))
        return node(
            kind,
            pandas(walk, value.index, f"{path}.index"),
            pandas(walk, value.columns, f"{path}.columns"),
            walk.digest(_order_of_rows(value), path),
            *(_column(walk, column, f"{path}[{column.name!r}]") for column in columns),
            *_attrs(walk, value, path),
        )
    if isinstance(value, pd.Series):
        index = pandas(walk, value.index, f"{path}.index")
        name = walk.digest(value.name, f"{path}.name")
        return node(kind, index, name, _column(walk, value, path), *_attrs(walk, value, path))
    if isinstance(value, pd.api.extensions.ExtensionDtype):
        return node("pandas dtype", _dtype_name(value))
    if isinstance(value, pd.MultiIndex):
        levels = (value.get_level_values(n) for n in range(value.nlevels))
        return node(kind, *(pandas(walk, level, path) for level in levels))
    names = walk.digest(list(getattr(value, "names", ())), path)
    extra = str(getattr(value, "freqstr", "")).encode()
    return node(kind, names, extra, _column(walk, pd.Series(value, copy=False), path))


def _attrs(walk: Walk, value: Any, path: str) -> list[bytes]:
    return [walk.digest(dict(value.attrs), f"{path}.attrs")] if value.attrs else []


def _order_of_rows(frame: Any) -> bool | None:
    """Tell how selected rows come out: C ordered, F ordered, or None where it says nothing."""
    if min(frame.shape) < 2 or not all(isinstance(t, np.dtype) for t in frame.dtypes):
        return None
    return bool(frame.iloc[[0, 1]].to_numpy().flags.c_contiguous)


def _dtype_name(kind: Any) -> bytes:
    """Name a dtype, without how strings are stored."""
    pd = sys.modules["pandas"]
    if isinstance(kind, pd.StringDtype):
        return f"string[{kind.na_value!r}]".encode()
    return (str(kind.descr) if isinstance(kind, np.dtype) else str(kind)).encode()


def _column(walk: Walk, column: Any, path: str) -> bytes:
    pd = sys.modules["pandas"]
    kind = column.dtype
    if isinstance(kind, np.dtype):
        return node("column", array(walk, column.to_numpy(), path))
    if isinstance(kind, pd.CategoricalDtype):
        return node(
            "category",
            pandas(walk, kind.categories, path),
            walk.digest(bool(kind.ordered), path),
            array(walk, column.cat.codes.to_numpy(), path),
        )
    missing = column.isna().to_numpy()
    # Nothing but the mask tells of what is missing: what lies under it is left over.
    values = np.asarray(column.to_numpy(dtype=object, na_value=None))
    return node(
        "extension", _dtype_name(kind), array(walk, missing, path), array(walk, values, path)
    )


def is_polars(value: Any) -> bool:
    """Tell whether `value` is a polars frame or series."""
    module = sys.modules.get("polars")
    return module is not None and isinstance(value, module.DataFrame | module.Series)


def polars(walk: Walk, value: Any, path: str) -> bytes:
    """Names, dtypes and values of a polars frame or series."""
    columns = [value] if not hasattr(value, "get_columns") else value.get_columns()
    return node(
        type(value).__name__,
        *(
            part
            for column in columns
            for part in (
                column.name.encode(),
                str(column.dtype).encode(),
                walk.digest(column.to_list(), f"{path}[{column.name!r}]"),
            )
        ),
    )
