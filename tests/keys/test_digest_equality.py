"""Equal work has an equal digest, and different work never has."""

import functools
import os
import pickle
import sys
import weakref
from types import SimpleNamespace

import cloudpickle
import numpy as np
import pandas as pd
import pytest
from keys.different import DIFFERENT, FUNCTIONS, HANDED_ON, IMPORTS
from keys.elsewhere import answer, modules
from keys.equal import EQUAL
from keys.equality import Own, all_differ, all_equal, effective, key
from keys.sources import first, libraries, variants, written_elsewhere
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from optomatic.keys.digest import deep, digest_of
from optomatic.keys.estimators import Effective

TEXTS = {**DIFFERENT, **EQUAL}
assert len(TEXTS) == len(DIFFERENT) + len(EQUAL)


def sources_of(texts):
    """Return the sources of all alternatives, where the libraries that they need are there."""
    for name in libraries(texts):
        pytest.importorskip(name, reason=f"{name} is optional")
    if "StringDType(" in str(texts) and not hasattr(np.dtypes, "StringDType"):
        pytest.skip("this numpy has no such strings")
    return variants(texts)


@functools.cache
def hexes(name):
    found = [answer("described", sources) for sources in sources_of(TEXTS[name])]
    assert not [each["doubts"] for each in found if each["doubts"]]
    return [each["hex"] for each in found]


# Kinds, each in all its alternatives


@pytest.mark.parametrize("name", DIFFERENT)
def test_different_work_has_different_digests(name):
    by_digest = {}
    for n, digest in enumerate(hexes(name)):
        by_digest.setdefault(digest, []).append(n)
    shared = [numbers for numbers in by_digest.values() if len(numbers) > 1]
    sources = variants(TEXTS[name])
    assert not shared, "\nshares a digest with\n".join(
        "\n".join(sources[n].values()).replace(IMPORTS, "") for n in shared[0]
    )


@pytest.mark.parametrize("name", EQUAL)
def test_equal_work_has_one_digest(name):
    all_equal(*hexes(name))


@pytest.mark.parametrize("name", TEXTS)
def test_a_second_construction_has_the_same_digest(name):
    again = [answer("described", sources)["hex"] for sources in variants(TEXTS[name])]
    assert again == hexes(name)


@pytest.mark.parametrize("name", TEXTS)
def test_the_hash_seed_does_not_count(name, elsewhere):
    found = hexes(name)
    for sources, digest in zip(variants(TEXTS[name]), found, strict=True):
        there = elsewhere.answer("described", sources)
        assert (there["hex"], there["doubts"]) == (digest, [])


@pytest.mark.parametrize("name", TEXTS)
def test_other_lines_and_unrelated_code_do_not_count(name):
    whole = name in HANDED_ON or name == "docstrings of modules"
    found = hexes(name)
    moved = [written_elsewhere(sources, beside=not whole) for sources in variants(TEXTS[name])]
    assert [answer("described", sources)["hex"] for sources in moved] == found


@pytest.mark.parametrize("name", [name for name in TEXTS if "distribution" not in name])
def test_a_pickled_copy_has_the_same_digest(name):
    """Where pickle itself can carry it: by name, so only what is no code is another object.

    Copies of distributions that pickle alone makes draw from a random state of their own.
    """
    hexes(name)
    for sources in variants(TEXTS[name]):
        with modules(sources) as module:
            try:
                made = pickle.loads(pickle.dumps(module.made))
            except (pickle.PicklingError, TypeError, AttributeError):
                continue  # code that has no name
            if like(made) == like(module.made):
                assert key(made) == key(module.made)


def like(value):
    """Return what pickle does not carry of numpy's objects."""
    return type(value), getattr(value, "dtype", None), getattr(value, "hardmask", None)


# What cannot be told by texts with alternatives


def test_sets_of_recursive_functions_do_not_depend_on_addresses():
    found, junk = set(), []
    for n in range(30):
        junk.append([object() for _ in range(7 * n)])
        found.add(answer("described", first(FUNCTIONS["sets of functions"]))["hex"])
    assert len(found) == 1


def test_many_functions_that_call_each_other_are_walked_once():
    """Paths through them are beyond number, so this would never end if each were followed."""

    def each_calls_all(changed=None):
        calls = ", ".join(f"f{n}()" for n in range(20))
        lines = [f"def f{n}(): return {n * 100 + (n == changed)}, {calls}" for n in range(20)]
        return answer("described", {"own_code": "\n".join([*lines, "made = f0"])})["hex"]

    all_equal(each_calls_all(), each_calls_all())
    all_differ(*[each_calls_all(changed) for changed in (None, 0, 7, 19)])


def test_long_chains_of_functions_have_a_digest():
    def chain(last):
        lines = [f"def f{n}(x): return f{n + 1}(x)" for n in range(400)]
        source = "\n".join([*lines, f"def f400(x): return {last}", "made = f0"])
        with deep():
            return answer("described", {"own_code": source})["hex"]

    all_equal(chain(1), chain(1))
    all_differ(chain(1), chain(2))


def test_a_list_that_contains_itself_has_a_digest():
    one, other = [1], [1]
    one.append(one)
    other.append(other)
    all_equal(key(one), key(other))
    all_differ(key(one), key([1, [1]]))


def test_docstrings_count_if_user_code_reads_them():
    text = 'def made(x):\n    "{}"\n    return len(made.__doc__)'
    found = [answer("described", {"own_code": text.format(doc)})["hex"] for doc in ("a", "a", "bc")]
    assert found[0] == found[1] != found[2]


def test_a_memory_map_has_the_digest_of_its_array(tmp_path):
    array = np.arange(12.0).reshape(4, 3)
    np.save(tmp_path / "array.npy", array)
    all_equal(key(array), key(np.load(tmp_path / "array.npy", mmap_mode="r")))


def test_draws_of_the_global_random_state_do_not_count():
    text = "from numpy.random import mtrand\ndef made(x): return mtrand._rand.random()"
    random = np.random.mtrand._rand

    def made():
        return answer("described", {"own_code": text})

    before = made()
    random.random()
    assert made() == before


def test_pickling_does_not_change_the_digest_of_a_class():
    with modules({"own_code": "class made: pass"}) as module:
        before = key(module.made)
        cloudpickle.dumps(module.made())
    assert key(module.made) == before


# Identity


@pytest.mark.parametrize(
    "make",
    [
        lambda: [1],
        lambda: {"a": 1},
        lambda: np.array([1.0]),
        lambda: pd.DataFrame({"a": [1]}),
        lambda: Own(1),
        lambda: np.random.RandomState(0),
    ],
    ids=["list", "dict", "array", "frame", "estimator", "random state"],
)
def test_identity_counts_inside_a_value_only(make):
    one, other = make(), make()
    once, twice = SimpleNamespace(a=one, b=[one]), SimpleNamespace(a=one, b=[other])
    all_differ(key(once), key(twice))
    all_differ(effective(Own(a=once)), effective(Own(a=twice)))
    all_equal(effective(Own(a=[one, one])), effective(Own(a=[one, other])))  # cloned one by one
    all_equal(effective(Own(a=one, b=one)), effective(Own(a=one, b=other)))
    all_equal(
        effective(Own(), {"a": one, "b": one}),
        effective(Own(), {"a": one, "b": other}),
        effective(Own(a=one, b=other), varied=("a", "b")),
    )


def test_identity_counts_between_globals_of_user_code():
    text = "A = [1]\nB = {}\ndef made(x): return A is B"
    found = [answer("described", {"own_code": text.format(b)})["hex"] for b in ("A", "[1]")]
    all_differ(*found)


def test_identity_of_equal_texts_does_not_count():
    one, two = "some text", "".join(["some", " text"])
    all_equal(key([one, one]), key([one, two]))
    all_equal(key({one: {one: 1}}), key({one: {two: 1}}))


# Doubts and modules


class Unsure:
    """Its state is behind a generator, which nobody can look into."""

    def __init__(self):
        self.values = (n for n in range(3))

    def __deepcopy__(self, memo):
        return self


def test_objects_that_cannot_be_followed_are_doubted():
    model = make_pipeline(SVC(kernel=Unsure()))
    for find in (lambda: Effective(model).of({}), lambda: digest_of(model)):
        one, other = find(), find()
        all_differ(one.hex, other.hex)
        assert "kernel" in one.doubts[0].path
        assert "kernel" in str(one.doubts[0])
        assert one.doubts[0].reason


@pytest.mark.parametrize(
    "make",
    [
        lambda: np.frompyfunc(lambda x: x, 1, 1),
        lambda: weakref.WeakKeyDictionary({Own: 1}),
        lambda: open(os.devnull),  # noqa: SIM115
        lambda: sys._getframe(),
    ],
    ids=["ufunc of ones own", "weak references", "file", "frame"],
)
def test_objects_without_a_digest_are_doubted(make):
    held = make()
    found = digest_of({"a": [1, held]})
    assert found.doubts
    assert "a" in found.doubts[0].path
    assert digest_of({"a": [1, held]}).hex != found.hex
    getattr(held, "close", int)()


def test_the_python_minor_counts_for_byte_code_and_the_like():
    def python(source):
        return answer("described", {"own_code": f"{source}"})["python"]

    assert python("def made(x): return x")
    assert python("class made: pass")
    assert python("import enum\nclass Own(enum.Enum):\n    A = 1\nmade = Own.A")
    assert python("import pathlib\nmade = pathlib.PurePosixPath('a')")
    assert python("from scipy.stats import norm\nmade = norm(0, 1)")
    for plain in (1, "a", {"a": [1.5, None]}, np.zeros(3), pd.DataFrame({"a": [1.0]}), len):
        assert not digest_of(plain).python
    assert not Effective(make_pipeline(StandardScaler(), SVC())).of({"svc__C": 3}).python


def test_modules_of_objects_are_in_the_digest():
    def met(digest):
        return {module.partition(".")[0] for module in digest.modules}

    assert "sklearn" in met(Effective(SVC()).of({}))
    assert "pandas" in met(digest_of(pd.DataFrame({"a": [1.0]})))
    assert "numpy" in met(digest_of(np.zeros(3)))
    assert {"sklearn", "scipy"} <= met(digest_of([SVC, sys.modules["scipy.sparse"].csr_array]))
    assert "pandas" in met(digest_of(lambda X: pd.concat([X, X])))
    polars = pytest.importorskip("polars", reason="polars is optional")
    assert "polars" in met(digest_of(polars.DataFrame({"a": [1.0]})))
