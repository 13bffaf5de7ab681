"""Parts come back exactly, and damage is found before anything is loaded."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.svm import SVC

from optomatic.errors import BundleDamaged, StoreIncompatible
from optomatic.planning.serialization import dump, dump_raw, load, part_of, verify

RNG = np.random.default_rng(0)
ARRAYS = {
    "C": RNG.random((5, 3)),
    "F": np.asfortranarray(RNG.random((5, 3))),
    "strided": RNG.random((10, 6))[::2, ::2],
    "0-d": np.array(3.5),
    "empty": np.empty((0, 4)),
    "big endian": np.arange(4, dtype=">f8"),
    "structured": np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
    "text": np.array(["ab", "c"]),
    "dates": np.array(["2020-01-01"], dtype="datetime64[ns]"),
    "bool": np.array([True, False]),
}


def content(part):
    return b"".join(part.buffers)


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("mapped", [True, False])
def test_arrays(name, mapped, tmp_path):
    array = ARRAYS[name]
    part = dump(array)
    assert part.kind == "npy"
    assert part.size == len(content(part))
    source = content(part)
    if mapped:
        source = tmp_path / "part"
        source.write_bytes(content(part))
    verify(part.sha, part.kind, source)
    got = load(part.kind, source)
    assert type(got) is np.ndarray
    assert (got.dtype, got.shape) == (array.dtype, array.shape)
    assert got.tobytes() == array.tobytes()
    assert got.flags.f_contiguous == array.flags.f_contiguous or name == "strided"
    if mapped and array.size:
        assert not got.flags.writeable


def test_large_arrays_are_not_copied():
    array = np.zeros((1000, 1000))
    assert np.shares_memory(np.frombuffer(dump(array).buffers[1], dtype="u1"), array)


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "bsr", "dia", "lil", "dok"])
@pytest.mark.parametrize("kind", ["matrix", "array"])
def test_sparse(form, kind):
    dense = sp.random(6, 4, density=0.5, random_state=0, format="coo")
    value = getattr(sp, f"{form}_{kind}")(dense)
    part = dump(value)
    assert part.kind == ("pickle" if form in ("lil", "dok") else "sparse")
    got = load(part.kind, content(part))
    assert type(got) is type(value)
    np.testing.assert_array_equal(got.toarray(), value.toarray())
    for name in ("indices", "indptr", "offsets"):
        if hasattr(value, name):
            assert getattr(got, name).dtype == getattr(value, name).dtype


def test_64_bit_indices_stay():
    value = sp.csr_array(np.eye(3))
    value.indices, value.indptr = value.indices.astype("i8"), value.indptr.astype("i8")
    part = dump(value)
    assert load(part.kind, content(part)).indices.dtype == np.int64


def test_frames_keep_the_order_that_their_rows_are_selected_in():
    """Which is why they are pickled: it differs between frames that compare equal."""
    orders = set()
    for frame in (
        pd.DataFrame(np.ones((6, 3)), copy=False),
        pd.DataFrame({c: np.ones(6) for c in "abc"}),
    ):
        part = dump(frame)
        got = load(part.kind, content(part))
        pd.testing.assert_frame_equal(got, frame)
        order = frame.iloc[[1, 3, 5]].to_numpy().flags.c_contiguous
        assert got.iloc[[1, 3, 5]].to_numpy().flags.c_contiguous == order
        orders.add(order)
    assert len(orders) == 2


@pytest.mark.parametrize("value", [np.arange(50.0), sp.eye(5, format="csr"), SVC()], ids=type)
def test_a_flipped_bit_is_found(value):
    part = dump(value)
    good = content(part)
    verify(part.sha, part.kind, good)
    for position in range(0, len(good), 7):
        bad = bytearray(good)
        bad[position] ^= 1 << (position % 8)
        with pytest.raises(BundleDamaged, match="does not match its hash"):
            verify(part.sha, part.kind, bytes(bad))
    for bad in (good[:-1], good + b"\0", b""):
        with pytest.raises(BundleDamaged):
            verify(part.sha, part.kind, bad)
    with pytest.raises(BundleDamaged):
        verify(part.sha, "other", good)


def test_an_object_array_in_npy_clothing_is_not_unpickled(tmp_path):
    path = tmp_path / "evil.npy"
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="pickle"):
        load("npy", path)


class OwnArray(np.ndarray):
    pass


@pytest.mark.parametrize(
    "value",
    [
        *(np.arange(3).view(OwnArray), np.array([{}], dtype=object), np.ma.array([1.0])),
        *(pd.DataFrame({"a": [1.0]}), [1, "a"], sp.eye(3, format="lil"), None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_all_else_is_pickled(value):
    assert dump_raw(value) is None
    part = dump(value)
    assert part.kind == "pickle"
    got = load(part.kind, content(part))
    assert type(got) is type(value)
    assert np.shape(got) == np.shape(value)


def test_a_mapped_array_is_a_plain_one_where_it_is_loaded(tmp_path):
    np.save(tmp_path / "array.npy", ARRAYS["C"])
    part = dump(np.load(tmp_path / "array.npy", mmap_mode="r"))
    assert part.sha == dump(ARRAYS["C"]).sha
    assert type(load(part.kind, content(part))) is np.ndarray


def test_equal_content_has_one_name_and_the_kind_belongs_to_it():
    assert dump(np.arange(3)).sha == dump(np.arange(6)[::2] // 2).sha
    assert dump(np.arange(3)).sha != dump(np.arange(3.0)).sha
    one, other = part_of("pickle", b"ab", memoryview(b"c")), part_of("pickle", b"abc")
    assert (one.sha, one.size) == (other.sha, 3)
    assert part_of("payload", b"abc").sha != one.sha


@pytest.mark.parametrize("in_file", [True, False])
def test_payloads_are_handed_on_as_they_are(in_file, tmp_path):
    """They are loaded together with the parts that they name."""
    part = part_of("payload", b"{}\n", b"no pickle")
    (tmp_path / "part").write_bytes(content(part))
    source = tmp_path / "part" if in_file else content(part)
    verify(part.sha, part.kind, source)
    assert load(part.kind, source) == b"{}\nno pickle"


def test_an_unknown_kind_is_refused():
    with pytest.raises(StoreIncompatible, match="'parquet'"):
        load("parquet", b"")
