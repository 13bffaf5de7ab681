"""Data count by container, dtypes, shape and content: equal digests for equal data only."""

import datetime
import pickle
import types

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from optomatic.keys.data import handler_of
from optomatic.keys.digest import digest_of

pa = pytest.importorskip("pyarrow")
pl = pytest.importorskip("polars")

X = np.arange(12.0).reshape(4, 3)
CUBE = np.arange(24.0).reshape(2, 3, 4)


def key(value):
    found = digest_of(value, rows=True)
    assert not found.doubts
    return found.hex


class OwnArray(np.ndarray):
    def __reduce__(self):
        made, args, state = super().__reduce__()
        return made, args, (state, vars(self))

    def __setstate__(self, state):
        super().__setstate__(state[0])
        vars(self).update(state[1])


class OwnMasked(np.ma.MaskedArray):
    pass


class OwnFrame(pd.DataFrame):
    _metadata = ["unit"]

    @property
    def _constructor(self):
        return OwnFrame


class OwnSeries(pd.Series):
    _metadata = ["_name", "unit"]

    @property
    def _constructor(self):
        return OwnSeries


class OwnSparse(sp.csr_array):
    pass


class OwnPolars(pl.DataFrame):
    pass


class OwnFloat(np.float64):
    def __repr__(self):
        return "own"


class OwnText(np.str_):
    def __repr__(self):
        return "own"

    __str__ = __repr__


def with_attributes(value, **attributes):
    for name, held in attributes.items():
        object.__setattr__(value, name, held)
    return value


def own_array(**attributes):
    return with_attributes(X.view(OwnArray), **attributes)


def flagged(**flags):
    return pd.DataFrame({"a": [1]}).set_flags(**flags)


def structured(*fields, **more):
    return np.zeros(2, np.dtype(list(fields), **more))


def block(order, *, beside=True):
    frame = pd.DataFrame(np.asarray(X, order=order), copy=False)
    if beside:
        frame["c"] = pd.Categorical(list("uvuv"))
        frame["i"] = [1, 2, 3, 4]
    return frame


def blocks(*widths):
    return pd.concat(
        [pd.DataFrame(np.ones((4, width)), copy=False) for width in widths], axis=1
    ).set_axis(range(sum(widths)), axis=1)


def indexed(index):
    return pd.Series([1, 2], index=index)


def arrow(values, kind):
    return pd.array(values, dtype=pd.ArrowDtype(kind))


def sparse_of(values, indices, indptr, kind="i4"):
    made = sp.csr_array((values, indices, indptr), shape=(1, 3))
    made.indices, made.indptr = made.indices.astype(kind), made.indptr.astype(kind)
    return made


DAYS = pd.date_range("2020-01-01", periods=3, unit="ns")
CODES = [0, 1, -1]
STRINGS = ["a", None, "b"]
STRING_DTYPES = [pd.StringDtype(storage) for storage in ("python", "pyarrow")]
if int(pd.__version__.partition(".")[0]) >= 3:
    STRING_DTYPES += [pd.StringDtype(s, na_value=np.nan) for s in ("python", "pyarrow")]

#: Values that all differ, by kind; pickled copies of each are like it.
DIFFERENT = {
    "shapes": [np.zeros(s) for s in [(), 0, 1, (1, 1), (0, 3), (3, 0), (2, 3), (3, 2), 6]],
    "dtypes": [
        *[np.ones(2, t) for t in ("f8", "f4", ">f8", "i8", "u8", "i4", "?", "c16", "g", "G")],
        *[np.ones(2, t) for t in ("U1", "U2", "S1", "M8[ns]", "M8[s]", "M8[2s]", "m8[s]", object)],
    ],
    "values": [X, X + 1, -X, np.where(X == 0, -0.0, X), np.where(X == 1, np.nan, X)],
    "bits of nan": [np.array([0x7FF8000000000000 + n], "u8").view("f8") for n in (0, 1)],
    "fields": [
        structured(("a", "i8"), ("b", "i8")),
        structured(("b", "i8"), ("a", "i8")),
        structured(("a", "i8"), ("b", "f8")),
        structured(("a", "i8"), ("b", "i8", 2)),
        structured((("title", "a"), "i8"), ("b", "i8")),
        structured(("a", "i1"), ("b", "i8")),
        structured(("a", "i1"), ("b", "i8"), align=True),
        structured(("a", "i8"), ("b", object)),
        structured(("a", "i8"), ("b", "i8")).view(np.recarray),
        np.zeros(2, {"names": ["a", "b"], "formats": ["i8", "i8"], "offsets": [0, 16]}),
    ],
    "values of fields": [
        np.array([(1, 2.0)], [("a", "i8"), ("b", "f8")]),
        np.array([(2, 1.0)], [("a", "i8"), ("b", "f8")]),
        np.array([(1, 3.0)], [("a", "i8"), ("b", "f8")]),
    ],
    "objects in fields": [
        np.array([(1, held)], [("a", "i8"), ("b", object)]) for held in ("x", "y", [1], [1.0])
    ],
    "metadata of dtypes": [
        np.dtype("f8"),
        np.dtype("f8", metadata={"a": 1}),
        np.dtype("f8", metadata={"a": 2}),
    ],
    "kinds of arrays": [X, np.matrix(X), np.ma.array(X), X.view(OwnArray), X.tolist()],
    "attributes of own arrays": [own_array(), own_array(a=1), own_array(a=2), own_array(rows=1)],
    "masks": [
        np.ma.array([1, 2], mask=[0, 1]),
        np.ma.array([1, 3], mask=[0, 1]),
        np.ma.array([1, 2], mask=[1, 0]),
        np.ma.array([1, 2]),
        np.ma.array([1, 2], mask=[0, 1], fill_value=7),
        np.ma.array([1, 2], mask=[0, 1]).view(OwnMasked),
        np.ma.masked,
        np.ma.array([(1, 2)], [("a", int), ("b", int)], mask=[(0, 1)]),
        np.ma.array([(1, 2)], [("a", int), ("b", int)], mask=[(1, 0)]),
    ],
    "objects": [
        np.array([held, 2], object)
        for held in (1, 1.0, True, "1", None, [1], np.float64(1), pd.NA, pd.NaT, np.nan)
    ],
    "texts": [np.array(t, object) for t in (["ab", "c"], ["a", "bc"], ["abc", ""], ["ab", None])],
    "texts that cannot be encoded": [
        np.array([text], object) for text in ("\ud800\udc00", "\U00010000", "\ud800")
    ],
    "layout of three dimensions": [CUBE, np.asfortranarray(CUBE)],
    "layout in a container": [{"a": X}, {"a": np.asfortranarray(X)}],
    "scalars": [
        *[np.dtype(t).type(1) for t in ("f8", "f4", "i8", "i4", "?", "c16", "g", "U1")],
        *(
            np.bytes_(b"1"),
            np.datetime64(1, "s"),
            np.datetime64(1, "ns"),
            np.timedelta64(1, "s"),
            1,
            1.0,
        ),
        *(structured(("a", "i8"))[0], structured(("a", "i4"))[0], np.array(1.0), np.float64(-0.0)),
        *(structured(("a", object))[0]),
    ],
    "sparse kinds": [
        getattr(sp, f"{kind}_{base}")(np.diag([1.0, 2.0]))
        for kind in ("csr", "csc", "coo", "lil", "dok", "bsr", "dia")
        for base in ("matrix", "array")
    ],
    "sparse values": [
        sparse_of([1.0], [0], [0, 1]),
        sparse_of([1.0], [1], [0, 1]),
        sparse_of([2.0], [0], [0, 1]),
        sparse_of([1.0, 0.0], [0, 1], [0, 2]),
        sparse_of([0.0, 1.0], [1, 0], [0, 2]),
        sparse_of([1.0], [0], [0, 1], kind="i8"),
        sparse_of(np.array([1.0], "f4"), [0], [0, 1]),
        sp.csr_array(([1.0], [0], [0, 1]), shape=(1, 4)),
        OwnSparse(sparse_of([1.0], [0], [0, 1])),
        with_attributes(OwnSparse(sparse_of([1.0], [0], [0, 1])), rows=1),
    ],
    "items of dok and lil": [
        getattr(sp, f"{kind}_array")(np.diag([1.0, n]))
        for kind in ("dok", "lil")
        for n in (2, 3, 0)
    ],
    "columns": [
        pd.DataFrame({"a": [1, 2], "b": [3, 4]}),
        pd.DataFrame({"b": [3, 4], "a": [1, 2]}),
        pd.DataFrame({"a": [1, 2], "b": [3.0, 4.0]}),
        pd.DataFrame({"a": [1, 2], "b": [3, 5]}),
        pd.DataFrame({"a": [1, 2]}),
        pd.DataFrame({0: [1, 2]}),
        pd.DataFrame([[1, 3], [2, 4]], columns=["a", "a"]),
        pd.DataFrame(),
    ],
    "frames": [
        pd.DataFrame({"a": [1]}),
        flagged(allows_duplicate_labels=False),
        with_attributes(pd.DataFrame({"a": [1]}), attrs={"unit": "m"}),
        with_attributes(pd.DataFrame({"a": [1]}), attrs={"unit": "km"}),
        pd.DataFrame({"a": [1]}, index=[1]),
        pd.DataFrame({"a": [1]}).rename_axis("x"),
        pd.DataFrame({"a": [1]}).rename_axis("x", axis=1),
        pd.Series([1], name="a"),
        pd.Series([1], name="b"),
        OwnFrame({"a": [1]}),
        with_attributes(OwnFrame({"a": [1]}), unit="m"),
        with_attributes(OwnFrame({"a": [1]}), unit="km"),
        with_attributes(OwnSeries([1]), unit="m"),
        with_attributes(OwnSeries([1]), unit="km"),
    ],
    "layout of frames": [block("C", beside=False), block("F", beside=False)],
    "layout of a block beside others": [block("C"), block("F")],
    "indexes": [
        *[indexed([0, 2]), indexed([0.0, 2.0]), indexed(["a", "b"]), indexed(pd.RangeIndex(2))],
        *[indexed(pd.Index([0, 1])), indexed(pd.RangeIndex(0, 4, 2)), indexed(DAYS[:2])],
        indexed(pd.DatetimeIndex(DAYS[:2], freq=None)),
        indexed(DAYS[:2].tz_localize("UTC")),
        indexed(DAYS[:2].as_unit("s")),
        indexed(pd.PeriodIndex(DAYS[:2], freq="D")),
        indexed(pd.PeriodIndex(DAYS[:2], freq="M")),
        indexed(pd.CategoricalIndex(["a", "b"])),
        indexed(pd.IntervalIndex.from_breaks([0, 1, 2])),
        indexed(pd.MultiIndex.from_tuples([(0, 1), (0, 2)])),
        indexed(pd.MultiIndex.from_tuples([(0, 1), (1, 2)])),
        indexed(pd.MultiIndex.from_tuples([(0, 1), (0, 2)], names=["u", "v"])),
        pd.Index([1, 2]),
        pd.Index([1, 2], name="x"),
    ],
    "categories": [
        pd.Series(pd.Categorical(["a", "b"], **how))
        for how in (
            {"categories": ["a", "b"]},
            {"categories": ["b", "a"]},
            {"categories": ["a", "b", "c"]},
            {"categories": ["a", "b"], "ordered": True},
            {"categories": ["a"]},
            {"categories": pd.Index(["a", "b"], dtype="string[pyarrow]")},
            {"categories": pd.Index(["a", "b"], dtype="string[python]")},
        )
    ],
    "moments": [
        *[pd.Series(DAYS), pd.Series(DAYS.as_unit("s")), pd.Series(DAYS + pd.Timedelta(1, "ns"))],
        *[pd.Series(DAYS.tz_localize(zone)) for zone in ("UTC", "Europe/Paris")],
        *[pd.Series(DAYS.as_unit(unit).tz_localize("UTC")) for unit in ("s", "us")],
        pd.Series(DAYS - DAYS[0]),
        pd.Series([DAYS[0], pd.NaT, DAYS[2]]),
    ],
    "masked columns": [
        pd.array([1, held, 3], dtype=kind)
        for held in (None, 2, 1, 0)
        for kind in ("Int64", "Int32", "Float64")
    ],
    "masked booleans": [pd.array([True, held], dtype="boolean") for held in (None, True, False)],
    "strings": [
        pd.array(values, dtype=kind)
        for values in (STRINGS, ["a", "", "b"], ["a", "b", None])
        for kind in (
            *STRING_DTYPES,
            pd.ArrowDtype(pa.string()),
        )
    ],
    "sparse columns": [
        pd.arrays.SparseArray([0.0, 1.0, np.nan]),
        pd.arrays.SparseArray([0.0, 1.0, np.nan], fill_value=0.0),
        pd.arrays.SparseArray([0.0, 2.0, np.nan], fill_value=0.0),
        pd.arrays.SparseArray([1.0, 0.0, np.nan], fill_value=0.0),
        pd.arrays.SparseArray([0.0, 1.0, np.nan, 0.0], fill_value=0.0),
        pd.arrays.SparseArray([0.0, 1.0, np.nan], fill_value=0.0, kind="block"),
    ],
    "intervals": [
        pd.arrays.IntervalArray.from_breaks(breaks, closed=closed)
        for breaks in ([0, 1, 2], [0, 1, 3], [0.0, 1.0, 2.0])
        for closed in ("left", "right")
    ],
    "periods": [pd.array(DAYS, dtype=f"period[{f}]") for f in ("D", "M", "2D")],
    "columns of Arrow": [
        *[arrow([1, held], pa.int64()) for held in (None, 0, 2)],
        *[arrow([1, 2], kind) for kind in (pa.int32(), pa.float64(), pa.decimal128(9, 2))],
        *[arrow([1, 2], pa.timestamp(*how)) for how in (("ns",), ("us",), ("us", "UTC"))],
        *[arrow(["a", "b"], kind) for kind in (pa.string(), pa.large_string())],
        arrow(["a", "b"], pa.dictionary(pa.int32(), pa.string())),
        arrow([True, None], pa.bool_()),
        arrow([True, False], pa.bool_()),
        *[arrow([[1], held], pa.list_(pa.int64())) for held in (None, [], [1], [None], [2])],
        *[arrow([{"a": 1}, held], pa.struct([("a", pa.int64())])) for held in (None, {"a": None})],
    ],
    "pandas's scalars": [
        *[pd.Timestamp("2020").as_unit(unit) for unit in ("s", "ns")],
        pd.Timestamp("2020", tz="UTC"),
        pd.Timestamp("2020-01-01 00:00:00.000000001"),
        datetime.datetime(2020, 1, 1),
        *[pd.Timedelta(1, "s").as_unit(unit) for unit in ("s", "ns")],
        *[pd.Period("2020", freq) for freq in ("D", "M")],
        *[pd.Interval(0, 1), pd.Interval(0, 1, "left"), pd.Interval(0.0, 1.0), pd.NA, pd.NaT, None],
    ],
    "pandas's dtypes": [
        pd.CategoricalDtype(),
        *[pd.CategoricalDtype(c, o) for c in (["a", "b"], ["b", "a"]) for o in (True, False)],
        *[pd.DatetimeTZDtype(u, z) for u in ("s", "ns") for z in ("UTC", "Europe/Paris")],
        *[pd.PeriodDtype(f) for f in ("D", "M", "2D")],
        *[pd.IntervalDtype(t, c) for t in ("i8", "f8") for c in ("left", "right")],
        *[pd.SparseDtype(t, f) for t in ("f8", "f4") for f in (0.0, 1.0, np.nan)],
        *STRING_DTYPES,
        *[pd.ArrowDtype(t) for t in (pa.int64(), pa.timestamp("us"), pa.timestamp("ns"))],
        *(pd.Int64Dtype(), pd.Int32Dtype(), pd.Float64Dtype(), pd.BooleanDtype()),
    ],
    "columns of polars": [
        pl.DataFrame({"a": [1, 2], "b": [3, 4]}),
        pl.DataFrame({"b": [3, 4], "a": [1, 2]}),
        pl.DataFrame({"a": [1, 2], "b": [3, 5]}),
        pl.DataFrame({"a": [1, 2]}),
        pl.DataFrame({"a": [1, None]}),
        pl.DataFrame({"a": [1.0, 2.0]}),
        pl.DataFrame({"a": [1, 2]}, schema={"a": pl.Int32}),
        pl.DataFrame({"a": [1, 2]}, schema={"a": pl.Int128}),
        pl.Series("a", [1, 2]),
        pl.Series("b", [1, 2]),
        pl.DataFrame(),
    ],
    "numbers of polars": [pl.Series([1.0, held]) for held in (None, float("nan"), 0.0, -0.0)],
    "texts of polars": [
        *[pl.Series(t) for t in (["ab", "c"], ["a", "bc"], ["ab", None], [b"ab", b"c"])],
        *[pl.Series(["a", b], dtype=pl.Categorical) for b in ("a", "b")],
        *[pl.Series(["a", b], dtype=pl.Enum(["a", "b"])) for b in ("a", "b")],
        pl.Series(["a", "a"], dtype=pl.Enum(["b", "a"])),
        *[pl.Series([1, held]).cast(pl.Decimal(9, s)) for held in (1, 2) for s in (2, 3)],
        *[pl.Series([True, held]) for held in (None, True, False)],
    ],
    "moments of polars": [
        pl.Series([1000, 1000 + more]).cast(kind)
        for more in (1, 900)
        for kind in (
            *(pl.Datetime("ns"), pl.Datetime("us"), pl.Datetime("ns", "UTC")),
            *(pl.Duration("ns"), pl.Duration("us"), pl.Time, pl.Date),
        )
    ],
    "nested values of polars": [
        *[pl.Series([[1], held], dtype=pl.List(pl.Int64)) for held in (None, [], [None], [1], [2])],
        *[pl.Series([[1, 2], held], dtype=pl.Array(pl.Int64, 2)) for held in (None, [1, 2])],
        *[pl.Series([{"a": 1}, {"a": held}]) for held in (None, 1, 2)],
        pl.Series([{"b": 1}, {"b": 1}]),
        *[pl.Series([["a"], ["b"]], dtype=pl.List(pl.Enum(c))) for c in (["a", "b"], ["b", "a"])],
    ],
    "pyarrow": [
        *[pa.array([1, held]) for held in (None, 0, 2)],
        pa.chunked_array([[1, 2]]),
        *[pa.table({name: [1, 2]}) for name in ("a", "b")],
        pa.table({"a": [1, 3]}),
        pa.table({"a": [1, 2]}).replace_schema_metadata({"x": "y"}),
    ],
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_different_data_have_different_digests(name):
    found = [key(value) for value in DIFFERENT[name]]
    shared = [n for n, own in enumerate(found) if found.index(own) != n]
    assert not shared, [
        (DIFFERENT[name][found.index(found[n])], DIFFERENT[name][n]) for n in shared
    ]


@pytest.mark.parametrize("name", DIFFERENT)
def test_a_pickled_copy_has_the_same_digest(name):
    """By the protocol of payloads; older ones lose the order of bytes."""
    for value in DIFFERENT[name]:
        assert key(pickle.loads(pickle.dumps(value, protocol=5))) == key(value), repr(value)


def padded(byte, dtype, values):
    made = np.frombuffer(byte * (np.dtype(dtype).itemsize * len(values)), dtype).copy()
    if made.dtype.names:
        for name in made.dtype.names:
            made[name] = values
    else:
        made[...] = values
    return made


def used(value, *uses):
    for use in uses:
        use(value)
    return value


def in_file(tmp_path):
    np.save(tmp_path / "array.npy", X)
    return np.load(tmp_path / "array.npy", mmap_mode="r")


def below_mask(under):
    return pd.arrays.IntegerArray(np.array([1, under]), np.array([False, True]))


def blocks_of_texts(length):
    return pa.chunked_array([STRINGS[:length], STRINGS[length:]], type=pa.string())


def below_null(under):
    valid = pa.py_buffer(b"\x01")
    return pa.Array.from_buffers(pa.int64(), 2, [valid, pa.py_buffer(np.array([1, under]))])


#: Values that are all the same.
EQUAL = {
    "layout of two dimensions": [
        X,
        np.asfortranarray(X),
        np.repeat(X, 2, 0)[::2],
        X[:, ::-1][:, ::-1],
    ],
    "layout of axes of one item": [CUBE[:1, :, :1], np.asfortranarray(CUBE[:1, :, :1])],
    "layout of one dimension": [{"a": X[:, 0]}, {"a": X[:, 0].copy()}],
    "layout of nothing": [np.zeros((0, 3, 4)), np.zeros((0, 3, 4), order="F")],
    "padding": [padded(b, "g", [1, 2.5, -0.0, np.inf]) for b in (b"\0", b"\xff")],
    "padding of complex numbers": [padded(b, "G", [1 + 2j, 2.5]) for b in (b"\0", b"\xff")],
    "padding in fields": [
        padded(b, np.dtype([("a", "i1"), ("b", "g"), ("c", "f8")], align=True), [1, 2])
        for b in (b"\0", b"\xff")
    ],
    "padding of scalars": [padded(b, "g", [1])[0] for b in (b"\0", b"\xff")],
    "padding of scalars with fields": [
        padded(b, np.dtype([("a", "i1"), ("b", "f8")], align=True), [1])[0]
        for b in (b"\0", b"\xff")
    ],
    "names of dtypes": [np.dtype("f8"), np.dtype(float), np.dtype("<f8"), np.dtype("=f8")],
    "dtypes that are one object or two": [
        [np.dtype([("a", "f8")])] * 2,
        [np.dtype([("a", "f8")]), np.dtype([("a", "f8")])],
    ],
    "scalars that are one object or two": [[np.float64(1)] * 2, [np.float64(1), np.float64(1)]],
    "categories that are one object or two": [
        pd.DataFrame({"a": one, "b": pd.Series(["a"], dtype=other)})
        for one, other in [
            (pd.Series(["a"], dtype=dtype), dtype if same else pd.CategoricalDtype(["a"]))
            for dtype in [pd.CategoricalDtype(["a"])]
            for same in (True, False)
        ]
    ],
    "masks that are not there": [np.ma.array([1, 2]), np.ma.array([1, 2], mask=[0, 0])],
    "fill values": [
        np.ma.array([1.0], mask=[1]),
        used(np.ma.array([1.0], mask=[1]), lambda m: m.fill_value),
    ],
    "texts": [np.array(["ab", "c"], object), np.array(["".join(["a", "b"]), "c"], object)],
    "flags of sparse matrices": [
        sparse_of([1.0], [0], [0, 1]),
        used(sparse_of([1.0], [0], [0, 1]), lambda m: m.has_sorted_indices, lambda m: m @ m.T),
    ],
    "below masks": [below_mask(2), below_mask(3)],
    "chunks of texts": [
        pd.array(blocks_of_texts(n), dtype=kind) for n in (1, 2) for kind in ["string[pyarrow]"]
    ],
    "chunks and parts of Arrow": [
        blocks_of_texts(1),
        blocks_of_texts(2),
        pa.chunked_array([["x", *STRINGS]])[1:],
    ],
    "numbers that are missing in Arrow": [below_null(2), below_null(3)],
    "parts of Arrow": [pa.array([1, None, 3]), pa.array([0, 1, None, 3, 4])[1:4]],
    "parts of lists of Arrow": [pa.array([[1], None]), pa.array([[5, 6], [1], None, [2]])[1:3]],
    "chunks of polars": [
        pl.DataFrame({"a": [1.0, None, 3.0], "s": ["u", None, "w"]}),
        pl.concat(
            [
                pl.DataFrame({"a": [1.0, None], "s": ["u", None]}),
                pl.DataFrame({"a": [3.0], "s": ["w"]}),
            ],
            rechunk=False,
        ),
        pl.DataFrame({"a": [0.0, 1.0, None, 3.0], "s": ["t", "u", None, "w"]})[1:],
    ],
    "order that polars knows": [pl.Series([1, 2]), pl.Series([1, 2]).set_sorted()],
    "frames that were used": [
        pd.DataFrame({"a": [1, 2], "b": [1.0, 2.0]}),
        used(pd.DataFrame({"a": [1, 2], "b": [1.0, 2.0]}), lambda f: f["a"], repr, lambda f: f + f),
        pd.DataFrame({"a": [1, 2], "b": [1.0, 2.0]}).copy(),
    ],
    "frames of one block or of many": [
        pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]}),
        pd.DataFrame({"a": [1.0, 2.0]}).assign(b=[3.0, 4.0]),
    ],
}


@pytest.mark.parametrize("name", EQUAL)
def test_equal_data_have_one_digest(name):
    first, *others = [key(value) for value in EQUAL[name]]
    assert [first] * len(others) == others


def test_a_memory_map_has_the_digest_of_its_array(tmp_path):
    assert key(in_file(tmp_path)) == key(X)


def test_the_order_of_a_2d_array_does_not_count_in_rows():
    """Selected rows come first, so only the order of the other axes can matter."""
    moved = np.ascontiguousarray(CUBE.transpose(1, 0, 2)).transpose(1, 0, 2)
    turned = np.ascontiguousarray(CUBE.transpose(0, 2, 1)).transpose(0, 2, 1)
    assert key(moved) == key(CUBE)
    assert key(turned) == key(np.asfortranarray(CUBE)) != key(CUBE)
    assert len({key([array]) for array in (CUBE, moved, turned, np.asfortranarray(CUBE))}) == 4


def test_the_blocks_of_a_frame_count():
    together, apart = block("C", beside=False), block("C", beside=False)
    apart[2] = apart[2] + 0  # now a block of its own
    assert not together.compare(apart).size
    assert key(together) != key(apart)


def test_hard_masks_count():
    one, other = (np.ma.array([1, 2], mask=[0, 1], hard_mask=hard) for hard in (True, False))
    assert key(one) != key(other)


@pytest.mark.parametrize(("own", "one", "other"), [(OwnText, "a", "b"), (OwnFloat, 1, 2)])
def test_scalars_of_user_classes_count_by_class_and_value(own, one, other):
    assert key(own(one)) == key(own(one)) != key(own(other))
    assert key(own(one)) != key(own.__mro__[1](one))
    assert key(with_attributes(own(one), note=1)) != key(with_attributes(own(one), note=2))


def test_unpickled_attributes_of_user_classes_count():
    one, like, other = (with_attributes(OwnPolars({"a": [1]}), note=n) for n in (1, 1, 2))
    assert key(one) == key(like) != key(other)


def test_identity_of_containers_counts_between_values_and_in_object_arrays():
    for make in (lambda: X.copy(), lambda: pd.DataFrame({"a": [1]}), lambda: pl.Series([1])):
        one, other = make(), make()
        assert key([one, one]) != key([one, other])
    one, other = [1], [1]
    twice, apart = np.empty(2, object), np.empty(2, object)
    twice[:], apart[:] = [one, one], [one, other]
    assert key(twice) != key(apart)


def test_arrays_of_variable_length_texts_count_by_content():
    kinds = pytest.importorskip("numpy.dtypes")
    if not hasattr(kinds, "StringDType"):
        pytest.skip("this numpy has no such strings")
    made = [np.array(["a", b], kinds.StringDType()) for b in ("b", "c" * 40)]
    made += [np.array(["a", "b"], kinds.StringDType(na_object=na)) for na in (None, np.nan)]
    assert len({key(own) for own in made}) == 4
    assert [key(pickle.loads(pickle.dumps(own))) for own in made] == [key(own) for own in made]


def test_modules_of_data_are_in_the_digest():
    assert "numpy" in digest_of(X).modules
    assert "pandas" in digest_of(pd.DataFrame({"a": [1]})).modules
    assert "scipy" in digest_of(sp.csr_array(X)).modules
    assert "polars" in digest_of(pl.Series([1])).modules


def test_lazy_frames_are_doubted():
    found = digest_of([pl.LazyFrame({"a": [1]})])
    assert str(found.doubts[0]).startswith("`[0]` holds a LazyFrame")


def test_data_that_raise_are_doubted():
    class Odd(pd.DataFrame):
        @property
        def index(self):
            raise ValueError("odd")

    made = pd.DataFrame({"a": [1]})
    made.__class__ = Odd
    assert "odd" in str(digest_of({"x": made}).doubts[0])


def test_third_party_arrays_count_by_their_pickle():
    class Ext(pd.api.extensions.ExtensionArray):
        def __init__(self, held):
            self.held = held

    assert key(Ext([1])) == key(Ext([1]))
    assert key(Ext([1])) != key(Ext([2]))


@pytest.mark.parametrize("kind", [int, str, list, types.SimpleNamespace, np.random.RandomState])
def test_other_objects_have_no_handler(kind):
    assert handler_of(kind) is None


def test_digests_of_data_are_equal_in_all_versions():
    """Recorded on Python 3.11 with pandas 3.1 and numpy 2.4; raise ``KEY_VERSION`` to change it."""
    frame = pd.DataFrame(
        {
            "f": np.array([1.0, np.nan]),
            "i": np.array([1, 2]),
            "b": np.array([True, False]),
            "t": np.array([0, 1], "M8[ns]"),
            "s": pd.Series(["a", None], dtype=object),
            "c": pd.Categorical(["a", "b"], pd.Index(["a", "b"], dtype=object)),
        }
    )
    frame.columns = frame.columns.astype(object)
    made = [frame, X, np.float64(1), np.bool_(True), sp.csr_matrix(X), frame["s"], pd.NA]
    assert key(made) == RECORDED


RECORDED = "8b8ebd31ff2433d7ed0634109e830e84578e8090dfbed16481ef4e84ef2e1ab4"
