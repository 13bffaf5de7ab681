"""What goes into the parameter text comes out of it: value, type and bits."""

import datetime as dt
import enum
import json
import math
from collections import namedtuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import loguniform
from sklearn.svm import SVC

from optomatic.errors import StoreIncompatible
from optomatic.planning.params import decode, encode, parts_of, readable


def there_and_back(value):
    named = []

    def name_of(opaque):
        named.append(opaque)
        return str(len(named) - 1)

    text = encode({"x": value}, name_of)[0]
    return decode(text, lambda name: named[int(name)])["x"]


def nameless(opaque):
    return "0"


def assert_same(got, expected):
    assert type(got) is type(expected)
    if isinstance(expected, np.ndarray):
        assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
        assert got.tobytes() == expected.tobytes()
        assert got.flags.f_contiguous == expected.flags.f_contiguous
    elif isinstance(expected, float | np.floating):
        assert got == expected or (math.isnan(got) and math.isnan(expected))
        assert math.copysign(1, got) == math.copysign(1, expected) or math.isnan(got)
    elif isinstance(expected, dict):
        assert len(got) == len(expected)
        for (k, v), (ek, ev) in zip(got.items(), expected.items(), strict=True):
            assert_same(k, ek)
            assert_same(v, ev)
    elif isinstance(expected, list | tuple):
        assert len(got) == len(expected)
        for item, wanted in zip(got, expected, strict=True):
            assert_same(item, wanted)
    else:
        assert got == expected


keys = st.one_of(st.integers(), st.text(), st.booleans(), st.none(), st.tuples(st.integers()))
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(st.characters()),
    st.binary(),
    st.datetimes(),
    st.timedeltas(),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner), st.tuples(inner, inner), st.dictionaries(keys, inner)),
    max_leaves=8,
)


@given(values)
def test_round_trip(value):
    assert_same(there_and_back(value), value)


POINT = namedtuple("POINT", "x y")
POINT.__module__ = __name__


class Colour(enum.IntEnum):
    RED = 1


@pytest.mark.parametrize(
    "value",
    [
        np.float64(0.1),
        np.float32(0.1),
        np.int64(1),
        np.uint8(255),
        np.bool_(True),
        np.complex64(1 + 2j),
        np.datetime64("2020-01-01T00:00:00.123456789"),
        np.float16("nan"),
        np.array([[1.0, 2.0], [3.0, 4.0]]),
        np.asfortranarray([[1, 2, 3], [4, 5, 6]]),
        np.zeros((0, 3)),
        np.array(5),
        np.zeros(10_000),
        {0: 1, 1: 2.5},
        {1, 2, 3},
        frozenset({"a", None}),
        complex(1, -0.0),
        range(3),
        slice(None, 3),
        dt.date(2020, 1, 1),
        dt.datetime(2020, 1, 1, 1, 2, 3, 456789, tzinfo=dt.UTC),
        2**70,
        -(10**5000),
        "\ud800 lone",
        "nul \0",
    ],
    ids=lambda v: type(v).__name__,
)
def test_kinds(value):
    assert_same(there_and_back(value), value)


def test_1_and_1_0_and_true_stay_apart():
    same = [1, 1.0, True, np.int64(1), np.float64(1), np.float32(1), np.bool_(True)]
    texts = {encode({"x": value}, nameless)[0] for value in same}
    assert len(texts) == len(same)
    for value in same:
        assert type(there_and_back(value)) is type(value)


@pytest.mark.parametrize("value", [POINT(1, 2), Colour.RED, np.str_("a")], ids=repr)
def test_subclasses_are_never_turned_into_their_base(value):
    got = there_and_back(value)
    assert (type(got).__qualname__, got) == (type(value).__qualname__, value)


def test_estimators_functions_and_distributions_are_opaque():
    assert there_and_back(SVC(C=3)).C == 3
    assert there_and_back(math.sqrt)(4) == 2
    assert there_and_back(loguniform(1, 2)).args == (1, 2)


def test_the_text_of_a_set_does_not_depend_on_its_order():
    one, other = {"a", "b", "c", "d"}, {"d", "c", "b", "a"}
    assert encode({"x": one}, nameless)[0] == encode({"x": other}, nameless)[0]


def test_payloads_that_came_later_are_named_in_the_text():
    later = "ab" * 32
    names = iter(["3", f"{later}:0", f"{later}:1"])
    text = encode({"x": len, "y": [max, {"a": min}]}, lambda _: next(names))[0]
    assert parts_of(text) == {later}


def test_params_of_a_newer_version_are_refused():
    with pytest.raises(StoreIncompatible, match="schema 99"):
        decode(json.dumps([99, []]), None)
    with pytest.raises(StoreIncompatible, match="'quaternion'"):
        decode(json.dumps([1, [["x", {"quaternion": []}]]]), None)


class Rude:
    def __repr__(self):
        raise RuntimeError("no")


def test_the_readable_form_is_one_that_bson_has():
    import bson

    params = {
        "a": np.float64(1.5),
        "b": 2**80,
        "c": (1, [np.int8(2)]),
        "d": "\ud800",
        "e": SVC(),
        "f": {1: 2},
        "g": "x" * 1000,
        "h": np.nan,
        "i": np.zeros(3),
        "j": True,
    }
    shown = readable(params)
    bson.encode(shown)
    assert shown["a"] == 1.5
    assert shown["c"] == [1, [2]]
    assert shown["j"] is True
    from optomatic.planning.params import _readable

    assert "RuntimeError" in _readable(Rude())
