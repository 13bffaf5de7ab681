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
from keys.sources import first, libraries, variants, written_elsewhere
from sklearn.base import BaseEstimator, TransformerMixin, clone, config_context
from sklearn.ensemble import RandomForestClassifier, VotingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import f1_score, make_scorer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
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


def key(value):
    found = digest_of(value)
    assert not found.doubts
    return found.hex


def effective(base, params=None, varied=None):
    params = params or {}
    found = Effective(base, varied=tuple(params) if varied is None else varied).of(params)
    assert not found.doubts
    return found.hex


def all_differ(*keys):
    assert len(set(keys)) == len(keys)


def all_equal(*keys):
    assert len(set(keys)) == 1


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


class Own(TransformerMixin, BaseEstimator):
    def __init__(self, a=None, b=None, n_jobs=None):
        self.a = a
        self.b = b
        self.n_jobs = n_jobs

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return X


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


# Estimators


def test_estimators_count_by_class_and_effective_params():
    all_equal(effective(SVC(C=2)), effective(clone(SVC(C=2))), effective(SVC(), {"C": 2}))
    all_differ(
        *map(effective, (SVC(C=2), SVC(C=2.0), SVC(C=np.float64(2)), SVC(C=2, gamma="auto"))),
        *map(effective, (make_pipeline(SVC()), Pipeline([("a", SVC())]), Own(), Ridge())),
    )


def test_only_the_effective_estimator_counts():
    model = make_pipeline(StandardScaler(), SVC())
    all_equal(
        effective(SVC(C=5), {"C": 2, "kernel": "rbf"}),
        effective(SVC(C=9, kernel="linear"), {"kernel": "rbf", "C": 2}),
        effective(SVC(C=2)),
    )
    all_equal(
        effective(model, {"svc__C": 3}),
        effective(model, {"svc": SVC(C=3)}),
        effective(model, {"steps": [("standardscaler", StandardScaler()), ("svc", SVC(C=3))]}),
        effective(make_pipeline(StandardScaler(), SVC(C=3))),
    )


def test_fitted_attributes_do_not_count_unless_clone_keeps_them():
    X, y = np.eye(4), [0, 1, 0, 1]
    fitted = LogisticRegression().fit(X, y)
    other = LogisticRegression().fit(X + 1, [1, 0, 0, 1])
    all_equal(effective(LogisticRegression()), effective(fitted))
    for contain in (lambda e: [("a", e)], lambda e: {"a": e}):
        all_equal(effective(Own(contain(SVC()))), effective(Own(contain(SVC().fit(X, y)))))
    all_differ(
        *[effective(FrozenEstimator(model)) for model in (fitted, other, LogisticRegression())]
    )


@pytest.mark.parametrize(
    "holding",
    [
        lambda model: lambda estimator, X, y: (estimator.predict(X) == model.predict(X)).mean(),
        lambda model: model.predict_proba,
        lambda model: make_scorer(f1_score, reference=model),
        lambda model: functools.partial(f1_score, reference=model),
        lambda model: {"init_model": model},
    ],
    ids=["closure", "bound method", "scorer", "partial", "fit params"],
)
def test_fitted_attributes_count_in_objects_that_are_not_cloned(holding):
    X, y = np.eye(4), [0, 1, 0, 1]
    one, other = LogisticRegression().fit(X, y), LogisticRegression().fit(X, [1, 0, 0, 1])
    all_differ(*[key(holding(model)) for model in (one, other, LogisticRegression())])
    all_equal(key(holding(one)), key(holding(pickle.loads(pickle.dumps(one)))))


def test_params_of_how_to_compute_do_not_count_unless_varied():
    forest = RandomForestClassifier
    all_equal(
        *map(effective, (forest(), forest(n_jobs=2), forest(verbose=1))),
        effective(forest(n_jobs=4), {"max_depth": None}),
    )
    all_equal(effective(Pipeline([("a", SVC())], memory="x")), effective(Pipeline([("a", SVC())])))
    nested = VotingClassifier([("a", forest())])
    all_equal(effective(nested), effective(clone(nested).set_params(a__n_jobs=2)))
    all_differ(effective(nested, {"a__n_jobs": 1}), effective(nested, {"a__n_jobs": 2}))
    all_differ(effective(forest(), {"n_jobs": 1}), effective(forest(), {"n_jobs": 2}))


def test_params_of_how_to_compute_count_in_user_classes():
    all_differ(effective(Own(n_jobs=1)), effective(Own(n_jobs=2)))


def test_metadata_requests_and_set_output_count():
    all_differ(
        effective(StandardScaler()), effective(StandardScaler().set_output(transform="pandas"))
    )
    with config_context(enable_metadata_routing=True):
        asking = [SVC().set_fit_request(sample_weight=ask) for ask in (True, False)]
        all_differ(*map(effective, (SVC(), *asking)))
        all_differ(*map(effective, (make_pipeline(SVC()), make_pipeline(asking[0]))))


VOTING = VotingClassifier(
    [("a", make_pipeline(StandardScaler(), SVC())), ("b", RandomForestClassifier())]
)


@pytest.mark.parametrize(
    ("base", "params"),
    [
        (SVC(), {"C": 3, "gamma": 0.1}),
        (SVC(), {"kernel": len}),
        (VOTING, {"a__svc__C": 3, "b__n_estimators": 5, "voting": "soft"}),
        (VOTING, {"a__svc__C": 3, "a__standardscaler__with_mean": False}),
        (VOTING, {"b": SVC(), "a__svc__C": 2}),
        (VOTING, {"a": "drop"}),
        (VOTING, {"a__svc": SVC(C=2), "a__svc__gamma": 1}),
        (VOTING, {"a__steps": [("svc", SVC())]}),
        (VOTING, {"b__n_jobs": 2}),
        (Own(), {"n_jobs": 3}),
    ],
)
def test_a_candidate_has_the_digest_of_the_estimator_with_its_params(base, params):
    applied = clone(base).set_params(**clone(params, safe=False))
    candidates = Effective(base, varied=tuple(params))
    wanted = effective(applied, varied=tuple(params))
    assert [candidates.of(params).hex for _ in range(3)] == [wanted] * 3
    assert candidates.of({}).hex == effective(base, varied=tuple(params))


class Coupled(BaseEstimator):
    def __init__(self, a=1, b=1):
        self.a = a
        self.b = b

    @property
    def a(self):
        return self._a

    @a.setter
    def a(self, value):
        self._a = self.b = value


class Reticent(SVC):
    """Does not say what it was given."""

    def get_params(self, deep=True):
        return {**super().get_params(deep), "C": "whatever"}


def test_params_that_set_others_or_are_unreported_count():
    coupled = Effective(Coupled(), varied=["a"])
    coupled.of({"a": 1})  # the same as before: nothing to be noticed
    all_differ(coupled.of({"a": 1}).hex, coupled.of({"a": 2}).hex)
    reticent = Effective(Reticent(), varied=["C"])
    all_differ(reticent.of({"C": 1}).hex, reticent.of({"C": 2}).hex)


def test_an_unknown_param_raises_scikit_learns_error():
    with pytest.raises(ValueError, match="Invalid parameter 'D'"):
        Effective(SVC()).of({"D": 1})


def test_layout_of_arrays_counts_in_params():
    """Rows of X come out in one order, but a sum over a whole param goes through its memory."""
    W = np.array([[0.1, 0.2], [0.3, 1e3]])
    makes = [lambda w: {"w": w}, lambda w: [w], lambda w: w]
    for make in makes:
        all_differ(
            effective(FunctionTransformer(kw_args=make(W))),
            effective(FunctionTransformer(kw_args=make(np.asfortranarray(W)))),
        )


# What is known of a digest


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
