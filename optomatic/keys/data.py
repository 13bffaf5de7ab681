"""Write data: container, dtypes, shape and content.

Tables list the parts of each class of numpy, scipy, pandas, polars, pyarrow and torch.  They name
classes by library and name, as modules inside a library move, and import nothing.

The identity of parts of a library's container does not count: two columns may share their
categories or not.  Nor does that of scalars and dtypes.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import numpy as np


class Walk(Protocol):
    """The part of :class:`optomatic.keys.digest.Walk` that writing data needs."""

    out: list[bytes]
    rows: bool

    def put(self, *texts: str | bytes | int) -> None: ...
    def content(self, buffer: Any) -> None: ...
    def name(self, module: str, name: str) -> None: ...
    def doubt(self, path: str, reason: str) -> None: ...
    def visit(self, value: Any, path: str = "") -> None: ...
    def forget(self, value: Any) -> None: ...
    def instance(self, value: Any, path: str) -> None: ...
    def items(
        self, pairs: Iterable[tuple[Any, Any]], path: str, *, attributes: bool = False
    ) -> None: ...


Handler = Callable[[Walk, Any, str], None]
#: The parts of a value, by their names in paths.
Parts = Callable[[Any], Mapping[str, Any]]


#: Bytes that count: x87 puts 10 into 16, and the rest is padding.
_LONG_DOUBLE = 10 if np.finfo(np.longdouble).nmant == 63 else np.dtype(np.longdouble).itemsize
#: Attributes of the libraries' own: parts that are read below, and caches.
_MADE = {
    "MaskedArray": frozenset(vars(np.ma.array(0))),
    "_spbase": frozenset({"maxprint", "_has_sorted_indices", "_has_canonical_format"}),
    "Index": frozenset({"_data", "_name", "_cache", "_id", "_references", "_range", "_names"}),
    "ExtensionArray": frozenset({"_dtype", "_ndarray", "_freq", "_mask", "_data"}),
    **{kind: frozenset({"_df", "_s", "_ldf"}) for kind in ("DataFrame", "Series")},
}


@functools.lru_cache(maxsize=1024)
def handler_of(kind: type) -> Handler | None:
    """Return the function that writes instances of `kind`, None if it is no data."""
    for base in kind.__mro__:
        name = f"{_library(base)}.{base.__name__}"
        if name in _HANDLERS:
            return _HANDLERS[name]
        if name in _VALUES:
            return functools.partial(_value, _VALUES[name])
        if name in _HOLDERS:
            return functools.partial(_holder, _HOLDERS[name])
    return None


def _tensor(walk: Walk, value: Any, path: str) -> None:
    """Write a tensor of torch, whose pickle contains an address."""
    torch = sys.modules["torch"]
    walk.put(b"tensor", str(value.dtype), repr(tuple(value.shape)), repr(value.requires_grad))
    walk.put(str(value.device), str(value.layout))
    walk.visit(type(value), path)
    held = value.detach().cpu()
    flat = (held if held.layout is torch.strided else held.to_dense()).contiguous()
    walk.content(flat.view(-1).view(torch.uint8).numpy().data if flat.numel() else b"")
    walk.visit(dict(vars(value)), path)


def _library(kind: type) -> str:
    return str(kind.__module__).partition(".")[0]


def _value(parts: Parts, walk: Walk, value: Any, path: str) -> None:
    """Write a value whose identity does not count."""
    walk.forget(value)
    _holder(parts, walk, value, path)


def _holder(parts: Parts, walk: Walk, value: Any, path: str) -> None:
    """Write class, parts, and attributes that a user's subclass adds."""
    _class(walk, value, path)
    try:
        held = parts(value)
    except RecursionError:
        raise
    except Exception as error:  # raised by a user's subclass
        walk.doubt(path, f"{type(value).__name__}, which says {type(error).__name__}: {error}")
        return
    walk.put(len(held))
    for name, part in held.items():
        _inside(walk, part, path + name)


def _class(walk: Walk, value: Any, path: str) -> None:
    kind = np.ndarray if type(value) is np.memmap else type(value)
    library = _library(kind)
    if library in _LIBRARIES:
        walk.name(library, kind.__name__)
        return
    walk.visit(kind, path)
    own = _own(value, {base.__name__ for base in kind.__mro__ if _library(base) in _LIBRARIES})
    walk.put(b"own", len(own))
    walk.items(own.items(), path, attributes=True)


def _own(value: Any, bases: set[str]) -> dict[str, Any]:
    """Return attributes that a user's subclass adds, pickled or not."""
    if "NDFrame" in bases:  # selected rows and pickles keep only these
        names = dict.fromkeys(name for name in value._metadata if name != "_name")
        return {name: getattr(value, name, None) for name in names}
    made = frozenset().union(*(_MADE.get(base, ()) for base in bases))
    held = getattr(value, "__dict__", {})
    return {name: own for name, own in held.items() if name not in made}


def _inside(walk: Walk, value: Any, path: str) -> None:
    """Write a part; the identity of data in it does not count."""
    kind: type = type(value)
    handler = handler_of(kind)
    if handler is not None:
        handler(walk, value, path)
    elif _is_extension(value):
        walk.instance(value, path)
    else:
        walk.visit(value, path)


def _is_extension(value: Any) -> bool:
    """Return whether `value` is an array or a dtype of a third party for pandas."""
    names = ("ExtensionArray", "ExtensionDtype")
    return any(base.__name__ in names for base in type(value).__mro__)


def _array(walk: Walk, value: Any, path: str) -> None:
    is_root = walk.rows and not walk.out
    _class(walk, value, path)
    _content(walk, np.asarray(value), path, is_root)


def _masked(walk: Walk, value: Any, path: str) -> None:
    is_root = walk.rows and not walk.out
    _class(walk, value, path)
    if value is not np.ma.masked:  # its parts cannot be read
        _content(walk, np.ma.getdata(value, subok=False), path, is_root)
        _content(walk, np.ma.getmaskarray(value), path, is_root)
        walk.put(str(value.hardmask))
        walk.visit(value.fill_value, f"{path}.fill_value")


def _content(walk: Walk, array: Any, path: str, is_root: bool = False) -> None:
    _dtype(walk, array.dtype, path)
    walk.put(repr(array.shape), repr(_order(array, is_root)))
    _items(walk, array, path)


def _order(array: Any, is_root: bool) -> list[int]:
    """Return axes by their strides: sums follow memory, which changes last bits.

    Of X and y only selected rows are read; those of two dimensions are in C order.
    """
    if array.ndim < 2 or not array.size:
        return []
    seen = array[[0, 0]] if is_root else array[(slice(2),) * array.ndim]
    axes = [axis for axis, length in enumerate(array.shape) if length > 1]
    strides = np.empty_like(seen, subok=False).strides  # as those of a copy
    return sorted(axes, key=lambda axis: -int(strides[axis]))


def _items(walk: Walk, array: Any, path: str) -> None:
    """Write items in C order, without padding."""
    kind = array.dtype
    if kind.names is not None:
        for name in kind.names:
            _items(walk, array[name], f"{path}[{name!r}]")
    elif kind.hasobject or kind.kind == "T":
        _objects(walk, array.astype(object, copy=False).ravel().tolist(), path)
    elif not array.nbytes:
        walk.content(b"")
    elif kind.char in "gG":
        native = np.ascontiguousarray(array, kind.newbyteorder("="))
        raw = native.reshape(-1).view(np.longdouble).view(np.uint8)
        used = raw.reshape(-1, np.dtype(np.longdouble).itemsize)[:, :_LONG_DOUBLE]
        walk.content(np.ascontiguousarray(used).data)
    else:
        walk.content(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def _objects(walk: Walk, items: list[Any], path: str) -> None:
    if set(map(type, items)) == {str}:  # one by one would be slow
        walk.put(b"texts")
        walk.content(np.fromiter(map(len, items), "<i8", len(items)).data)
        walk.content("".join(items).encode("utf-8", "surrogatepass"))
        return
    walk.put(b"objects", len(items))
    for item in items:
        walk.visit(item, f"{path}[...]")


def _scalar(walk: Walk, value: Any, path: str) -> None:
    walk.forget(value)
    walk.put(b"scalar")
    if _library(type(value)) != "numpy":
        _class(walk, value, path)
    _dtype(walk, value.dtype, path)
    text = {"U": str.__str__, "S": bytes.__bytes__}.get(value.dtype.kind)
    _items(walk, np.asarray(text(value) if text else value), path)


def _dtype(walk: Walk, kind: Any, path: str) -> None:
    walk.forget(kind)
    # A pickle does not keep which of two equal names a kind of number has (long, long long).
    walk.put(b"dtype", kind.str, kind.itemsize, str(kind.isalignedstruct))
    if kind.metadata:
        walk.visit(dict(kind.metadata), f"{path}.dtype.metadata")
    if kind.subdtype is not None:
        walk.put(repr(kind.shape))
        _dtype(walk, kind.base, path)
    elif kind.kind == "T":
        walk.put(str(kind.coerce), str(hasattr(kind, "na_object")))
        walk.visit(getattr(kind, "na_object", None), path)
    elif kind.kind == "V":
        _fields(walk, kind, path)


def _fields(walk: Walk, kind: Any, path: str) -> None:
    if _library(kind.type) == "numpy":
        walk.put(kind.type.__name__)
    else:
        walk.visit(kind.type, path)
    walk.put(b"fields", repr(kind.names))
    for name in kind.names or ():
        field, offset, *title = kind.fields[name]
        walk.put(offset, len(title))
        _dtype(walk, field, path)
        for text in title:
            walk.visit(text, path)


def _sparse(value: Any) -> dict[str, Any]:
    stored = value.tocoo() if value.format == "dok" else value
    held = vars(stored)
    arrays = {f".{name}": held[name] for name in sorted(held.keys() & _SPARSE_ARRAYS)}
    if "coords" in held:
        arrays |= {f".coords[{n}]": own for n, own in enumerate(arrays.pop(".coords"))}
    return {".format": value.format, ".shape": repr(value.shape), ".dtype": value.dtype, **arrays}


_SPARSE_ARRAYS = {"data", "indices", "indptr", "row", "col", "offsets", "rows", "coords"}


def _frame(value: Any) -> dict[str, Any]:
    columns = {f"[{name!r}] ({n})": own for n, (name, own) in enumerate(value.items())}
    return {
        **_pandas(value),
        ".columns": value.columns,
        "'s layout": _rows(value),
        **{where: _values(own) for where, own in columns.items()},
    }


def _series(value: Any) -> dict[str, Any]:
    return {**_pandas(value), ".name": value.name, ".array": _values(value)}


def _pandas(value: Any) -> dict[str, Any]:
    is_unique = not value.flags.allows_duplicate_labels
    return {".index": value.index, ".attrs": dict(value.attrs), ".flags": is_unique}


def _rows(frame: Any) -> tuple[int, ...]:
    """Return the memory layout of selected rows, which decides the last bits of scores."""
    if len(frame) < 2:
        return ()
    groups: dict[Any, list[int]] = {}
    for n, kind in enumerate(frame.dtypes):
        if isinstance(kind, np.dtype):
            groups.setdefault(kind, []).append(n)
    two = frame.take([0, 1])
    orders = [two.iloc[:, own].to_numpy().flags.c_contiguous for own in groups.values()]
    # The strides say which columns are selected together.
    single = [own.to_numpy() for _, own in two.items() if isinstance(own.dtype, np.dtype)]
    return (*map(int, orders), *(own.strides[0] // (own.itemsize or 1) for own in single))


def _values(value: Any) -> Any:
    return np.asarray(value) if isinstance(value.dtype, np.dtype) else value.array


def _index(value: Any) -> dict[str, Any]:
    freq = getattr(value, "freqstr", None)
    return {".names": list(value.names), ".freq": freq, ".array": _values(value)}


def _range(value: Any) -> dict[str, Any]:
    return {".names": list(value.names), "": (value.start, value.stop, value.step)}


def _levels(value: Any) -> dict[str, Any]:
    levels = {f".levels[{n}]": level for n, level in enumerate(value.levels)}
    codes = {f".codes[{n}]": np.asarray(own) for n, own in enumerate(value.codes)}
    return {".names": list(value.names), **levels, **codes}


def _texts(value: Any) -> dict[str, Any]:
    texts = value.to_numpy(object, na_value="")
    return {".dtype": value.dtype, ".isna()": value.isna(), "": texts}


def _under_mask(value: Any) -> dict[str, Any]:
    # No operation of pandas reads values under the mask.
    values = value.to_numpy(value.dtype.numpy_dtype, na_value=value.dtype.type(0))
    return {".dtype": value.dtype, ".isna()": value.isna(), "": values}


def _stored(value: Any) -> dict[str, Any]:
    places = value.sp_index.indices
    return {**_named("dtype", "kind", "sp_values")(value), ".shape": value.shape, ".at": places}


def _named(*names: str) -> Parts:
    return lambda value: {f".{name}": getattr(value, name) for name in names}


def _moments(value: Any) -> dict[str, Any]:
    return {".dtype": value.dtype, "": value.view("i8")}


def _arrow_array(walk: Walk, value: Any, path: str) -> None:
    _class(walk, value, path)
    _arrow(walk, value, path)


def _arrow(walk: Walk, value: Any, path: str) -> None:
    pa = sys.modules["pyarrow"]
    if isinstance(value, pa.ChunkedArray):
        parts = [pa.array([], value.type), *value.chunks]
        value = pa.concat_arrays(parts)
    kind = value.type
    walk.put(b"arrow", str(kind), len(value))
    walk.content(np.packbits(value.is_valid().to_numpy(zero_copy_only=False)).data)
    value = value.drop_null()
    if isinstance(value, pa.ExtensionArray):
        _arrow(walk, value.storage, path)
    elif pa.types.is_dictionary(kind):
        _arrow(walk, value.dictionary_decode(), path)
    elif pa.types.is_struct(kind):
        for part in value.flatten():
            _arrow(walk, part, path)
    elif isinstance(value, (pa.ListArray, pa.LargeListArray, pa.FixedSizeListArray)):
        _objects(walk, value.value_lengths().to_pylist(), path)
        _arrow(walk, value.flatten(), path)
    else:
        _arrow_items(walk, value, path)


def _arrow_items(walk: Walk, value: Any, path: str) -> None:
    width, odd = _width(value.type)
    if odd or not len(value):
        _objects(walk, value.to_pylist(), path)
    else:
        raw = memoryview(value.buffers()[1])
        walk.content(raw[value.offset * width : (value.offset + len(value)) * width])


def _width(kind: Any) -> tuple[int, int]:
    try:
        return divmod(int(kind.bit_width), 8)
    except ValueError:  # texts, for instance
        return 0, 1


def _table(value: Any) -> dict[str, Any]:
    columns = {f"[{n}]": column for n, column in enumerate(value.columns)}
    return {".schema": str(value.schema.to_string(show_schema_metadata=True)), **columns}


def _polars(walk: Walk, value: Any, path: str) -> None:
    """Write a series of polars."""
    walk.put(value.name, str(value.dtype), len(value))
    walk.content(np.packbits(value.is_null().to_numpy()).data)
    value, name = value.drop_nulls(), type(value.dtype).__name__
    if name == "Struct":
        for field in value.struct.fields:
            _polars(walk, value.struct.field(field), path)
    elif name in ("List", "Array"):
        if name == "List":
            walk.content(value.list.len().to_numpy().astype("<i8").data)
        _polars(walk, value.explode(), path)
    else:
        _polars_items(walk, value, name, path)


def _polars_items(walk: Walk, value: Any, name: str, path: str) -> None:
    if name == "Enum":
        _objects(walk, value.dtype.categories.to_list(), path)
    if name in ("Enum", "Categorical", "Decimal"):  # with numbers of this process
        value = value.cast(sys.modules["polars"].String)
    is_number = value.dtype.is_numeric() or value.dtype.is_temporal() or name == "Boolean"
    if is_number and not name.endswith("128"):
        _items(walk, value.to_physical().to_numpy(), path)
    else:
        _objects(walk, value.to_list(), path)


def _polars_series(walk: Walk, value: Any, path: str) -> None:
    _class(walk, value, path)
    _polars(walk, value, path)


def _polars_frame(walk: Walk, value: Any, path: str) -> None:
    _class(walk, value, path)
    walk.put(repr(value.shape))
    for column in value.get_columns():
        _polars(walk, column, f"{path}[{column.name!r}]")


def _lazy(walk: Walk, value: Any, path: str) -> None:
    walk.doubt(path, "a LazyFrame, whose plan does not say what it will read")


_LIBRARIES = frozenset({"numpy", "scipy", "pandas", "polars", "pyarrow"})
_HANDLERS: dict[str, Handler] = {
    "numpy.MaskedArray": _masked,
    "numpy.ndarray": _array,
    "numpy.generic": _scalar,
    "numpy.dtype": _dtype,
    "pyarrow.Array": _arrow_array,
    "pyarrow.ChunkedArray": _arrow_array,
    "polars.DataFrame": _polars_frame,
    "polars.Series": _polars_series,
    "polars.LazyFrame": _lazy,
    "torch.Tensor": _tensor,
}
_VALUES: dict[str, Parts] = {
    "pandas.NAType": _named(),
    "pandas.NaTType": _named(),
    "pandas.Timestamp": _named("unit", "asm8", "tzinfo", "fold"),
    "pandas.Timedelta": _named("unit", "asm8"),
    "pandas.Period": _named("freqstr", "ordinal"),
    "pandas.Interval": _named("left", "right", "closed"),
    "pandas.CategoricalDtype": _named("ordered", "categories"),
    "pandas.DatetimeTZDtype": _named("unit", "tz"),
    "pandas.PeriodDtype": lambda value: {".freq": value.freq.freqstr},
    "pandas.IntervalDtype": _named("subtype", "closed"),
    "pandas.SparseDtype": _named("subtype", "fill_value"),
    "pandas.StringDtype": _named("storage", "na_value"),
    "pandas.ArrowDtype": lambda value: {"": str(value.pyarrow_dtype)},
    "pandas.BaseMaskedDtype": _named("name"),
    "pandas.NumpyEADtype": _named("numpy_dtype"),
}
_HOLDERS: dict[str, Parts] = {
    "scipy.spmatrix": _sparse,
    "scipy.sparray": _sparse,
    "pandas.DataFrame": _frame,
    "pandas.Series": _series,
    "pandas.RangeIndex": _range,
    "pandas.MultiIndex": _levels,
    "pandas.Index": _index,
    "pandas.Categorical": _named("dtype", "codes"),
    "pandas.DatetimeArray": _moments,
    "pandas.TimedeltaArray": _moments,
    "pandas.PeriodArray": _moments,
    "pandas.IntervalArray": _named("dtype", "left", "right"),
    "pandas.SparseArray": _stored,
    "pandas.BaseMaskedArray": _under_mask,
    "pandas.BaseStringArray": _texts,
    "pandas.StringArray": _texts,
    "pandas.ArrowStringArray": _texts,
    "pandas.ArrowExtensionArray": lambda value: {
        ".dtype": value.dtype,
        "": value.__arrow_array__(),
    },
    "pandas.NumpyExtensionArray": lambda value: {"": value.to_numpy()},
    "pyarrow.Table": _table,
    "pyarrow.RecordBatch": _table,
}
