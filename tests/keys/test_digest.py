"""Rules of digests, and doubts, that need no texts with alternatives."""

import abc
import collections
import copy
import dataclasses
import functools
import os
import struct
import sys
import threading
import types

import numpy as np
import pytest
import scipy.sparse as sp
import sklearn.base
from keys.elsewhere import modules
from scipy.stats import loguniform
from sklearn.base import BaseEstimator, clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics.cluster import expected_mutual_information
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from optomatic.keys.digest import Digest, Doubt, combined, digest_of, first_difference
from optomatic.keys.estimators import Effective, digest_of_estimator
from optomatic.planning.workload import digest_of_split


def key(value, **options):
    found = digest_of(value, **options)
    assert not found.doubts
    return found.hex


def all_differ(*values):
    keys = [key(value) for value in values]
    assert len(set(keys)) == len(keys)


def all_equal(*values):
    assert len({key(value) for value in values}) == 1


def from_source(source, name="f"):
    space = {"__name__": "not_installed_anywhere"}
    exec(source, space)
    return space[name]


# Values


def test_bits_of_nan_count():
    def not_a_number(bits):
        return struct.unpack(">d", bits.to_bytes(8, "big"))[0]

    plain, negative, other = 0x7FF8 << 48, 0xFFF8 << 48, (0x7FF8 << 48) + 1
    all_equal(float("nan"), not_a_number(plain))
    all_differ(*map(not_a_number, (plain, negative, other)))
    all_differ(*[np.float64(not_a_number(bits)) for bits in (plain, negative, other)])


class Slotted(dict):
    __slots__ = ("default",)

    def __init__(self, default):
        self.default = default


def test_attributes_of_containers_count():
    for make in (Slotted, lambda default: collections.defaultdict(lambda: default)):
        all_equal(make(1), make(1))
        all_differ(make(1), make(2), {})


def test_named_and_positional_params_of_a_distribution_differ():
    all_differ(loguniform(1, 10), loguniform(a=1, b=10), loguniform(a=1, b=11))
    all_equal(loguniform(1, 10), loguniform(1, 10))


def test_functions_of_cython_count_by_their_name():
    all_equal(expected_mutual_information, expected_mutual_information)
    all_differ(expected_mutual_information, np.random.SeedSequence(1))
    assert "sklearn" in {
        module.partition(".")[0] for module in digest_of(expected_mutual_information).modules
    }


def test_user_classes_named_like_a_librarys_count_as_user_code():
    own = from_source("import scipy.sparse as sp\nclass csr_matrix(sp.csr_matrix): pass",
                      "csr_matrix")  # fmt: skip
    all_differ(sp.csr_matrix(np.eye(2)), own(np.eye(2)))


def test_classes_with_a_wrong_module_count_as_user_code():
    def new(a):  # says that it stands in types
        return types.new_class("Made", (), {}, lambda held: held.update(a=a))

    def bare(a):  # exec knows no module, so the class says that it is builtin
        space = {}
        exec(f"class Made:\n    a = {a}\ndef f():\n    return Made.a", space)
        return space["f"]

    for make in (new, bare):
        all_equal(make(1), make(1))
        all_differ(make(1), make(2))


def test_dataclasses_with_union_types_have_a_digest():
    def settings(kind):
        fields = {"__annotations__": {"size": kind}, "size": None, "__module__": "not_installed"}
        return dataclasses.dataclass(type("Settings", (), fields))

    all_equal(settings(int | None), settings(int | None))
    all_differ(settings(int | None), settings(float | None))


def test_unpickled_attributes_count_in_user_classes():
    """A score in this process may come of them."""
    for how in (
        "def __getstate__(self): return {'a': 1}",
        "def __reduce__(self): return type(self), ()",
        "def __reduce_ex__(self, protocol): return type(self), ()",
    ):
        kind = from_source(f"class f:\n    {how}")
        made = [kind() for _ in range(3)]
        made[2].cache = 1
        all_equal(*made[:2])
        all_differ(*made[1:])


def test_unpickled_methods_on_instances_do_not_count():
    kind = from_source("class f:\n    def __reduce__(self): return type(self), ()")
    one, other = kind(), kind()
    other.bound = other.__reduce__
    all_equal(one, other)


def test_the_order_of_attributes_counts():
    kind = from_source("class f: pass")
    one, other = kind(), kind()
    one.a, one.b = 1, 2
    other.b, other.a = 2, 1
    all_differ(one, other)


def test_registered_subclasses_of_an_abstract_class_count():
    def base(*registered):
        made = abc.ABCMeta("Base", (), {"__module__": "not_installed"})
        for kind in registered:
            made.register(kind)
        return made

    all_equal(base(int, str), base(str, int))
    all_differ(base(), base(int), base(str))


def test_free_locks_are_equal_and_a_held_lock_is_doubted():
    all_equal(threading.Lock(), threading.Lock())
    all_differ(threading.Lock(), threading.RLock())
    with (held := threading.Lock()):
        (doubt,) = digest_of({"a": held}).doubts
    assert (doubt.path, doubt.reason) == ("['a']", "a lock that is held")


def test_the_version_in_scikit_learns_pickles_does_not_count(monkeypatch):
    """It counts among the versions already."""
    fitted = LogisticRegression().fit(np.eye(4), [0, 1, 0, 1])
    holding = functools.partial(print, fitted)
    before = key(holding)
    monkeypatch.setattr(sklearn.base, "__version__", "0.1")
    assert fitted.__getstate__()["_sklearn_version"] == "0.1"
    assert key(holding) == before


def test_standard_streams_are_equal_and_files_are_doubted():
    all_equal(sys.__stderr__, sys.__stderr__)
    all_differ(sys.__stdout__, sys.__stderr__)
    with open(os.devnull) as file:
        (doubt,) = digest_of([file]).doubts
    assert (doubt.path, doubt.reason) == ("[0]", "an open file")


def test_long_texts_count_by_their_digest():
    all_differ("a" * 5000, "a" * 4999 + "b", b"a" * 5000, "A" * 5000)
    all_equal("a" * 5000, "".join(["a" * 2500] * 2))


# Doubts


def test_doubts_have_the_path_of_the_object():
    generator = (n for n in range(3))
    (doubt,) = digest_of({"a": [1, generator]}).doubts
    assert doubt.path == "['a'][1]"
    assert str(doubt) == f"`['a'][1]` holds {doubt.reason}"
    assert "generator" in doubt.reason
    assert [own.path for own in digest_of([generator], "scorer").doubts] == ["scorer[0]"]
    assert [own.path for own in digest_of_estimator(SVC(kernel=Holding(generator))).doubts] == [
        "kernel.held"
    ]
    assert str(Doubt("", "a generator")) == "it is a generator"


class Holding:
    def __init__(self, held):
        self.held = held

    def __deepcopy__(self, memo):
        return self


def test_each_doubt_is_named_once_and_makes_the_digest_random():
    generator = (n for n in range(3))
    found = digest_of([generator, generator, {"b": iter([]), "c": generator}])
    assert len(found.doubts) == len({doubt.path for doubt in found.doubts})
    assert digest_of(generator).hex != digest_of(generator).hex


def test_doubts_of_globals_name_the_module():
    sources = {
        "own_streams": "import os\nSINK = open(os.devnull)\ndef note(): return SINK",
        "own_code": "import own_streams\ndef made(): return own_streams.note()",
    }
    with modules(sources) as module:
        (doubt,) = digest_of(module.made).doubts
        sys.modules["own_streams"].SINK.close()
    assert doubt.path == "own_streams.SINK"
    assert doubt.module == "own_streams"
    assert digest_of({"a": (n for n in "a")}).doubts[0].module is None


def test_doubts_name_attributes_of_classes_and_cells():
    def numbering(numbers):
        return lambda: next(numbers)

    found = digest_of(numbering(n for n in range(3)))
    assert "numbering" in found.doubts[0].path
    source = "class f:\n    numbers = (n for n in range(3))"
    assert [doubt.path for doubt in digest_of(from_source(source)).doubts] == [
        "not_installed_anywhere.f.numbers"
    ]


# What is known of a digest


def test_digests_are_64_hex_characters():
    assert len(digest_of(1).hex) == 64
    assert int(digest_of(1).hex, 16)


def test_combined_digests_have_doubts_and_modules_of_all_parts():
    parts = {"a": digest_of(SVC), "b": digest_of(lambda: 1), "c": digest_of(n for n in "a")}
    both = combined(parts)
    assert both.modules == parts["a"].modules | parts["b"].modules | parts["c"].modules
    assert both.python
    assert both.doubts == parts["c"].doubts
    assert combined(dict(reversed(parts.items()))).hex == both.hex
    one, other = Digest("1" * 64), Digest("2" * 64)
    assert combined({"a": one, "b": other}).hex != combined({"a": other, "b": one}).hex
    assert combined({"a": one}).hex != combined({"b": one}).hex


def test_params_of_how_to_compute_count_if_they_are_varied():
    one, two = (functools.partial(print, SVC(verbose=verbose)) for verbose in (False, True))
    assert key(one) == key(two)
    assert key(one, varied=["svc__verbose"]) != key(two, varied=["svc__verbose"])


def test_effective_params_have_digests_by_name():
    model = make_pipeline(StandardScaler(), SVC(C=2))
    other = make_pipeline(StandardScaler(), SVC(C=3))
    one, two = (Effective(made).params() for made in (model, other))
    assert {"svc__C", "standardscaler__with_mean"} <= set(one)
    assert {name for name in one if one[name] != two[name]} == {"svc__C"}
    assert digest_of_estimator(model).hex == Effective(other).of({"svc__C": 2}).hex


def test_an_empty_candidate_has_the_digest_of_the_clone():
    model = make_pipeline(StandardScaler(), SVC(C=2))
    before = digest_of(model).hex
    effective = Effective(model)
    for value in (1, 2.5, None):
        effective.of({"svc__C": value})
    assert effective.of({}).hex == digest_of_estimator(clone(model)).hex
    assert digest_of(model).hex == before


class Own(BaseEstimator):
    def __init__(self, p=None):
        self.p = p


def test_candidates_may_have_objects_as_values():
    effective = Effective(Own(), varied=["p"])
    found = [effective.of({"p": p}).hex for p in ([1], [1.0], np.ones(1), SVC(), SVC, len, Own(1))]
    assert len(set(found)) == len(found)
    assert effective.of({"p": SVC(C=2)}).hex == Effective(Own(SVC())).of({"p__C": 2}).hex


# Where two objects part


@pytest.mark.parametrize(
    ("one", "other", "path"),
    [
        ([1, 2], [1, 2], None),
        ([1, 2], [1, 3], "x[1]"),
        ({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}, "x['a'][1]['b']"),
        (Own([1, 2]), Own([1, 3]), "x.p[1]"),
        (make_pipeline(SVC(C=1)), make_pipeline(SVC(C=2)), "x.steps[0][1].C"),
        ([[1], [1]], [[1]] * 2, "x[1]"),
        (1, "1", "x"),
    ],
)
def test_first_difference_returns_the_path_in_objects(one, other, path):
    assert first_difference(one, other, "x") == path


def test_first_difference_returns_the_path_in_functions():
    text = "K = {}\ndef helper(): return K\ndef f(x): return x + helper()"
    one, other = (from_source(text.format(value)) for value in (1, 2))
    assert first_difference(one, copy.copy(one)) is None
    assert first_difference(one, other) == "not_installed_anywhere.K"


# Splits


def test_splits_count_by_their_rows_in_order():
    one = digest_of_split([0, 1], [2])
    assert one == digest_of_split(np.array([0, 1], dtype="i4"), np.array([2]))
    assert len({one, digest_of_split([1, 0], [2]), digest_of_split([0], [1, 2])}) == 3
