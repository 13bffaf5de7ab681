"""What is sent is what was asked for: its objects, who is who among them, and their code."""

import functools
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import cloudpickle
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from keys.elsewhere import modules
from sklearn.base import BaseEstimator, clone
from sklearn.metrics._scorer import _PassthroughScorer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from optomatic.errors import NotShippable
from optomatic.keys.digest import digest_of
from optomatic.keys.environment import shipping
from optomatic.planning import serialization
from optomatic.planning.payload import Sender, digest_of_role, head_of, load_payload

ROOT = Path(__file__).parents[2]
LARGE = np.random.default_rng(0).random(10_000)


class Own(BaseEstimator):
    def __init__(self, a=None, b=None):
        self.a = a
        self.b = b


def content(part):
    return b"".join(map(bytes, part.buffers))


def loader(sender):
    """Return what loads what `sender` has sent: one object for each name of a part."""
    known = {}

    def load_part(name):
        if name not in known:
            part = sender.parts[name[1]]
            known[name] = serialization.load(part.kind, content(part))
        return known[name]

    return lambda sent, first=None: load_payload(content(sent.part), load_part, first)


def opened(sender, sent):
    return loader(sender)(sent)


def sent(values=(), **roles):
    """Send roles and values, and return them loaded; nothing about them is doubted."""
    sender = Sender(roles)
    found = sender.send(list(values))
    assert not found.doubts
    loaded = opened(sender, found)
    assert loaded.parted() is None
    return loaded


# Roles and values


def test_objects_come_back_with_the_digests_that_they_had():
    model = make_pipeline(StandardScaler(), SVC(C=2))
    loaded = sent([SVC, [1, "a"]], estimator=model, scorer=len, fit_params={"a": 1})
    assert repr(loaded.roles["estimator"]) == repr(model)
    assert loaded.roles["scorer"] is len
    assert loaded.roles["fit_params"] == {"a": 1}
    assert loaded.values == [SVC, [1, "a"]]


def test_the_head_says_what_is_to_be_found_before_anything_is_loaded():
    sender = Sender({"estimator": SVC(), "X": np.zeros((2, 2)), "y": None})
    found = sender.send([3, SVC(C=2)])
    head = head_of(content(found.part))
    assert head["digests"] == {"estimator": sender.digests["estimator"].hex}
    assert head["values"] == [digest_of(value).hex for value in (3, SVC(C=2))]
    assert head["by_reference"] == {}
    assert head["code"] == {}
    assert sender.spec["payload"] == found.part.sha
    assert found.references == ["0", "1"]
    assert sender.has_sent
    assert sender.payload(found.part.sha) == content(found.part)


def test_a_loaded_copy_that_is_not_equal_is_named():
    sender = Sender({"estimator": Own([1]), "scorer": max})
    loaded = opened(sender, sender.send([[1], {"a": 2}]))
    loaded.values[1]["a"] = 3
    assert loaded.parted() == "values:1"
    loaded.roles["estimator"].a.append(2)
    assert loaded.parted() == "estimator"


def test_the_same_is_sent_as_the_same_bytes():
    def part(model):
        sender = Sender({"estimator": model, "scorer": len})
        return sender.send([]).part.sha

    assert part(SVC(C=2)) == part(SVC(C=2)) != part(SVC(C=3))


def test_the_estimators_own_score_is_not_the_estimator():
    one, other = (digest_of_role("scorer", _PassthroughScorer(SVC(C=C))) for C in (1, 5))
    assert one == other
    assert one.hex != digest_of_role("scorer", len).hex


def test_metrics_and_keywords_go_by_name():
    for role in ("scorer", "fit_params", "score_params"):
        one, other = {"a": len, "b": max}, {"b": max, "a": len}
        assert digest_of_role(role, one).hex == digest_of_role(role, other).hex
        assert digest_of_role(role, one).hex != digest_of_role(role, {"a": max, "b": len}).hex


# Who is who


def test_shared_objects_stay_shared():
    shared = [1, 2]
    loaded = sent([shared, {"in": shared}], estimator=Own(shared), scorer=functools.partial(
        max, shared))  # fmt: skip
    there = loaded.roles["estimator"].a
    assert there == [1, 2]
    assert loaded.roles["scorer"].args[0] is there
    assert loaded.values[0] is there
    assert loaded.values[1]["in"] is there


def test_classes_of_ones_own_are_one_class_in_estimator_scorer_and_candidates():
    loaded = sent([Own(), Own], estimator=Own(), scorer=functools.partial(isinstance, Own()))
    kind = type(loaded.roles["estimator"])
    assert kind is not Own
    assert kind is type(loaded.values[0]) is loaded.values[1]
    assert kind is type(loaded.roles["scorer"].args[0])


def test_large_arrays_are_parts_of_their_own_and_one_object_there():
    sender = Sender({"estimator": Own(LARGE, [LARGE]), "scorer": functools.partial(max, LARGE)})
    found = sender.send([LARGE, LARGE.copy()])
    assert not found.doubts
    assert found.part.size < LARGE.nbytes
    sha = serialization.dump(LARGE).sha
    assert sha in sender.parts
    assert sender.spec["large0"] == sha  # so that workers fetch it, once for both
    loaded = opened(sender, found)
    assert loaded.parted() is None
    there = loaded.roles["estimator"].a
    np.testing.assert_array_equal(there, LARGE)
    assert loaded.roles["estimator"].b[0] is there
    assert loaded.roles["scorer"].args[0] is there
    assert loaded.values[0] is there
    assert loaded.values[1] is not there


def test_the_order_in_memory_of_large_arrays_is_kept():
    array = np.asfortranarray(LARGE.reshape(100, 100))
    (there,) = sent([array], estimator=Own()).values
    assert there.flags.f_contiguous
    assert not there.flags.c_contiguous


def test_at_most_so_many_arrays_are_parts_of_their_own():
    arrays = [np.full(10_000, float(n)) for n in range(30)]
    sender = Sender({"estimator": Own(arrays)})
    found = sender.send([])
    assert len(sender.parts) == 17
    there = opened(sender, found).roles["estimator"].a
    assert [array[0] for array in there] == list(range(30))


@pytest.mark.parametrize(
    ("X", "kind"),
    [
        (np.zeros((3, 2)), "npy"),
        (sp.eye(3, format="csr"), "sparse"),
        (pd.DataFrame({"a": [1.0]}), "pickle"),
        ([[1.0], [2.0]], "pickle"),
    ],
    ids=["array", "sparse matrix", "frame", "list"],
)
def test_data_are_parts_of_their_own_and_the_same_object_in_the_payload(X, kind):
    sender = Sender({"estimator": Own(X), "X": X, "y": X})
    found = sender.send([X])
    assert not found.doubts
    assert sender.parts[sender.spec["X"]].kind == kind
    loaded = opened(sender, found)
    assert loaded.parted() is None
    assert type(loaded.roles["X"]) is type(X)
    assert loaded.roles["X"] is loaded.roles["y"] is loaded.values[0]
    assert loaded.roles["estimator"].a is loaded.roles["X"]


class OwnFrame(pd.DataFrame):
    factor = 2

    @property
    def _constructor(self):
        return OwnFrame


def test_data_of_ones_own_kind_travel_in_the_payload():
    sender = Sender({"estimator": SVC(), "X": OwnFrame({"a": [1.0, 2.0]})})
    found = sender.send([])
    assert not found.doubts
    assert set(sender.spec) == {"payload"}
    there = opened(sender, found).roles["X"]
    assert type(there) is not OwnFrame
    assert type(there).factor == 2
    assert type(there.iloc[:1]) is type(there)
    pd.testing.assert_frame_equal(pd.DataFrame(there), pd.DataFrame({"a": [1.0, 2.0]}))


# Later payloads


def test_later_values_are_who_they_are_in_the_first_payload():
    shared, step = [1, 2], Own("step")
    sender = Sender({"estimator": Own(shared, step), "scorer": len})
    first = sender.send([step])
    later = sender.send([shared, [shared, step], Own(step)])
    last = sender.send([step])
    assert first.references == ["0"]
    assert later.references == [f"{later.part.sha}:{n}" for n in range(3)]
    load = loader(sender)
    loaded = load(first)
    there = loaded.roles["estimator"]
    more = load(later, loaded)
    assert more.parted() is None
    assert more.roles == {}
    assert more.values[0] is there.a
    assert more.values[1][0] is there.a
    assert more.values[1][1] is there.b
    assert type(more.values[2]) is type(there)
    assert load(last, loaded).values[0] is there.b


def test_later_values_share_code_and_large_arrays_with_the_first_payload():
    source = "N = []\ndef put(x): N.append(x)\ndef get(): return N\n"
    with modules({"own_code": source}) as module:
        sender = Sender({"estimator": Own(module.put, LARGE)})
        first = sender.send([])
        later = sender.send([module.get, LARGE])
        assert not first.doubts
        assert not later.doubts
    load = loader(sender)
    loaded = load(first)
    more = load(later, loaded)
    loaded.roles["estimator"].a(3)
    assert more.values[0]() == [3]
    assert more.values[1] is loaded.roles["estimator"].b
    assert later.part.size < LARGE.nbytes


def test_a_sender_of_values_alone_names_them_by_their_payload():
    """For a search whose payload another process has made."""
    found = Sender({}, apart=True).send([SVC()])
    assert found.references == [f"{found.part.sha}:0"]


# Code


HELPERS = {
    "own_helpers": "K = 2\ndef times(x): return K * x",
    "own_late": "OFFSET = 5\ndef plus(x): return x + OFFSET",
    "own_code": """
import own_helpers
class Model:
    def score(self, x):
        import own_late
        return own_late.plus(own_helpers.times(x))
made = Model()""",
}


def test_modules_of_ones_own_travel_and_imports_find_them_while_they_are_installed():
    with modules(HELPERS) as module:
        sender = Sender({"estimator": Own(module.made)})
        found = sender.send([])
        assert not found.doubts
        assert sender.holds_user_code
    loaded = opened(sender, found)
    assert set(loaded.modules) == {"own_helpers", "own_late"}
    model = loaded.roles["estimator"].a
    with pytest.raises(ImportError):
        model.score(1)
    with loaded.installed():
        assert model.score(1) == 7
        assert loaded.modules["own_late"] is sys.modules["own_late"]
        assert pickle.loads(cloudpickle.dumps(sys.modules["own_late"].plus))(1) == 6
    assert "own_late" not in sys.modules
    assert "own_late" not in cloudpickle.list_registry_pickle_by_value()


def test_modules_that_are_there_are_put_back():
    with modules(HELPERS) as module:
        sender = Sender({"estimator": Own(module.made)})
        loaded = opened(sender, sender.send([]))
        mine = sys.modules["own_late"]
        with loaded.installed():
            assert sys.modules["own_late"] is not mine
        assert sys.modules["own_late"] is mine


def test_a_module_travels_as_it_is_in_memory():
    with modules(HELPERS) as module:
        sys.modules["own_helpers"].K = 30
        sys.modules["own_late"].plus = lambda x: x + 1
        module.Model.twice = lambda self, x: 2 * self.score(x)
        sender = Sender({"estimator": Own(module.made)})
        loaded = opened(sender, sender.send([]))
    with loaded.installed():
        assert loaded.roles["estimator"].a.twice(1) == 62


CHILD = """
import sys
from optomatic.worker.loading import open_payload
loaded = open_payload(sys.stdin.buffer.read(), None)
with loaded.installed():
    print(loaded.roles["scorer"].score(1))
assert "own_late" not in sys.modules
"""


def test_another_process_with_none_of_the_code_finds_the_same_digests():
    with modules(HELPERS) as module:
        data = content(Sender({"scorer": module.made}).send([]).part)
    done = subprocess.run(
        [sys.executable, "-c", CHILD],
        input=data,
        capture_output=True,
        env={"PYTHONPATH": str(ROOT)},
    )
    assert done.stdout.strip() == b"7", done.stderr.decode()


def test_a_search_of_installed_code_holds_no_code_of_the_users():
    assert not Sender({"estimator": SVC(), "scorer": len}).holds_user_code
    sender = Sender({"estimator": SVC()})
    sender.send([lambda: 1])
    assert sender.holds_user_code


@pytest.mark.parametrize("named", [[], ["own_code"], None])
def test_modules_are_compared_whether_they_travel_or_not(tmp_path, monkeypatch, named):
    (tmp_path / "own_code.py").write_text("K = 1\n\ndef f(x): return K\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        module = __import__("own_code")
        with shipping(named):
            data = content(Sender({"scorer": module.f}).send([]).part)
        head = head_of(data)
        assert head["by_reference"] == {}
        assert set(head["code"]) == {"own_code.K"}
        module.K = 2
        loaded = load_payload(data, None)
        if named == []:  # it names the function, and what that reaches is another one by now
            assert (loaded.parted(), loaded.parted_at()) == ("scorer", "own_code.K")
        else:
            assert loaded.parted() is None
    finally:
        sys.modules.pop("own_code", None)


# What cannot be pickled


@pytest.mark.parametrize(
    ("make", "path"),
    [
        (lambda held: {"estimator": Own([1, {"k": held}])}, "`a[1]['k']`"),
        (lambda held: {"estimator": make_pipeline(Own(held))}, "`own.a`"),
        (lambda held: {"estimator": SVC(), "scorer": functools.partial(max, held)}, "`scorer`"),
        (lambda held: {"estimator": SVC(), "fit_params": {"w": [held]}}, "`fit_params['w'][0]`"),
    ],
    ids=["estimator", "step", "scorer", "fit params"],
)
def test_an_object_that_cannot_be_pickled_is_named_with_its_path(make, path):
    roles = make(Uncopied())
    with pytest.raises(NotShippable, match="Nothing was queued") as caught:
        Sender(roles).send([])
    assert "a lock that is held" in str(caught.value)
    assert path[:-1] in caught.value.cause


class Uncopied:
    """Holds a lock, and is handed on by clone."""

    def __init__(self):
        self.lock = threading.Lock()
        self.lock.acquire()

    def __deepcopy__(self, memo):
        return self


def test_a_param_that_cannot_be_pickled_is_named():
    sender = Sender({"estimator": SVC()})
    with pytest.raises(NotShippable, match=r"candidates\['a'\]"):
        sender.send([{"a": (n for n in range(3))}])


def test_a_digest_changed_by_pickling_is_reported_with_its_path():
    """It is sent all the same, and nobody compares it."""
    scorer = functools.partial(max, {"in": Forgetful(3)})
    sender = Sender({"estimator": SVC(), "scorer": scorer})
    found = sender.send([1])
    (doubt,) = found.doubts
    assert doubt.path.startswith("scorer")
    assert doubt.path.endswith("['in'].value")
    assert doubt.reason == "what is not the same after it was pickled"
    head = head_of(content(found.part))
    assert head["digests"] is head["values"] is None
    loaded = opened(sender, found)
    assert loaded.parted() is None
    assert loaded.roles["scorer"].args[0]["in"].value is None


def test_attributes_that_clones_lack_are_not_compared():
    """GridSearchCV has clones, too."""
    loaded = sent(estimator=Own(Forgetful(3)))
    assert loaded.roles["estimator"].a.value is clone(Own(Forgetful(3))).a.value is None


class Forgetful:
    def __init__(self, value=None):
        self.value = value

    def __getstate__(self):
        return {"value": None}


def test_an_object_that_raises_when_loaded_is_refused_before_queueing():
    sender = Sender({"scorer": functools.partial(max, Raising())})
    with pytest.raises(NotShippable, match=r"cannot be loaded again \(ValueError: no\)"):
        sender.send([])


class Raising:
    def __setstate__(self, state):
        raise ValueError("no")

    def __getstate__(self):
        return {"a": 1}


# State that moves


def test_state_that_changes_after_it_was_pickled_is_named():
    model = Own({"in": [1, 2]})
    sender = Sender({"estimator": model, "scorer": len})
    sender.send([])
    assert sender.moved() is None
    model.a["in"].append(3)
    assert "a['in']" in sender.moved()
    model.a["in"].pop()
    assert sender.moved() is None


def test_globals_of_own_code_that_change_are_named():
    with modules({"own_code": "K = [1]\ndef score(model, X, y): return K"}) as module:
        sender = Sender({"estimator": SVC(), "scorer": module.score})
        sender.send([])
        assert sender.moved() is None
        module.K.append(2)
        assert "own_code.K" in sender.moved()


def test_data_are_not_looked_at_again():
    X = np.zeros((3, 2))
    sender = Sender({"estimator": SVC(), "X": X})
    sender.send([])
    X[0] = 1
    assert sender.moved() is None
