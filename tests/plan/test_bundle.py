"""Parts come back exactly, and damage is found before anything is loaded."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.svm import SVC

from optomatic.errors import BundleDamaged, NotShippable, StoreIncompatible
from optomatic.plan.packing import bundle

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
    part = bundle.dump(array)
    assert part.kind == "npy"
    assert part.size == len(content(part))
    source = content(part)
    if mapped:
        source = tmp_path / "part"
        source.write_bytes(content(part))
    bundle.verify(part.sha, part.kind, source)
    got = bundle.load(part.kind, source)
    assert type(got) is np.ndarray
    assert (got.dtype, got.shape) == (array.dtype, array.shape)
    assert got.tobytes() == array.tobytes()
    assert got.flags.f_contiguous == array.flags.f_contiguous or name == "strided"
    if mapped and array.size:
        assert not got.flags.writeable


def test_large_arrays_are_not_copied():
    array = np.zeros((1000, 1000))
    assert np.shares_memory(np.frombuffer(bundle.dump(array).buffers[1], dtype="u1"), array)


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "bsr", "dia", "lil", "dok"])
@pytest.mark.parametrize("kind", ["matrix", "array"])
def test_sparse(form, kind):
    dense = sp.random(6, 4, density=0.5, random_state=0, format="coo")
    value = getattr(sp, f"{form}_{kind}")(dense)
    part = bundle.dump(value)
    assert part.kind == ("pickle" if form in ("lil", "dok") else "sparse")
    got = bundle.load(part.kind, content(part))
    assert type(got) is type(value)
    np.testing.assert_array_equal(got.toarray(), value.toarray())
    for name in ("indices", "indptr", "offsets"):
        if hasattr(value, name):
            assert getattr(got, name).dtype == getattr(value, name).dtype


def test_64_bit_indices_stay():
    value = sp.csr_array(np.eye(3))
    value.indices, value.indptr = value.indices.astype("i8"), value.indptr.astype("i8")
    part = bundle.dump(value)
    assert bundle.load(part.kind, content(part)).indices.dtype == np.int64


def test_frames_keep_the_order_that_their_rows_are_selected_in():
    """Which is why they are pickled: it differs between frames that compare equal."""
    orders = set()
    for frame in (
        pd.DataFrame(np.ones((6, 3)), copy=False),
        pd.DataFrame({c: np.ones(6) for c in "abc"}),
    ):
        part = bundle.dump(frame)
        got = bundle.load(part.kind, content(part))
        pd.testing.assert_frame_equal(got, frame)
        order = frame.iloc[[1, 3, 5]].to_numpy().flags.c_contiguous
        assert got.iloc[[1, 3, 5]].to_numpy().flags.c_contiguous == order
        orders.add(order)
    assert len(orders) == 2


@pytest.mark.parametrize("value", [np.arange(50.0), sp.eye(5, format="csr"), SVC()], ids=type)
def test_a_flipped_bit_is_found(value):
    part = bundle.dump(value)
    good = content(part)
    bundle.verify(part.sha, part.kind, good)
    for position in range(0, len(good), 7):
        bad = bytearray(good)
        bad[position] ^= 1 << (position % 8)
        with pytest.raises(BundleDamaged, match="does not match its hash"):
            bundle.verify(part.sha, part.kind, bytes(bad))
    for bad in (good[:-1], good + b"\0", b""):
        with pytest.raises(BundleDamaged):
            bundle.verify(part.sha, part.kind, bad)
    with pytest.raises(BundleDamaged):
        bundle.verify(part.sha, "other", good)


def test_an_object_array_in_npy_clothing_is_not_unpickled(tmp_path):
    path = tmp_path / "evil.npy"
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="pickle"):
        bundle.load("npy", path)


def iter_once():
    yield 1


def test_what_cannot_be_pickled_is_named():
    model = SVC(C=1)
    model.kernel = {"inner": iter_once()}
    with pytest.raises(NotShippable, match=r"SVC\.kernel\['inner'\] cannot be pickled"):
        bundle.dump(model)


def test_an_unknown_kind_is_refused():
    with pytest.raises(StoreIncompatible, match="'parquet'"):
        bundle.load("parquet", b"")
