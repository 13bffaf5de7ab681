"""Keys differ if any bit of a score of GridSearchCV does; copies have the same key.

OPTOMATIC_EXAMPLES says how many examples are tried, 200 without it.
"""

import difflib
import os
import pickle
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st
from keys import recipes
from keys.elsewhere import keys_and_truth, modules, truth, unit_keys
from sklearn.base import clone
from threadpoolctl import threadpool_limits

from optomatic.planning.payload import Sender, load_payload

EXAMPLES = int(os.environ.get("OPTOMATIC_EXAMPLES", "200"))
pytestmark = pytest.mark.timeout(120 + EXAMPLES)
NUMBERS = st.integers(0, 2**16 - 1)


class Pair:
    """The texts of two recipes that differ at one place, and the pool of that."""

    def __init__(self, first, second, pool):
        self.first = first
        self.second = second
        self.pool = pool

    def __repr__(self):
        lines = [recipes.shown(texts) for texts in (self.first, self.second)]
        return "\n".join(difflib.unified_diff(*lines, lineterm="", n=1000))


@st.composite
def pairs(draw):
    """Draw a pair."""
    texts = recipes.skeleton(
        draw(st.lists(st.sampled_from(sorted(recipes.STEPS)), min_size=1, max_size=2)),
        draw(st.sampled_from(sorted(recipes.DATA))),
        draw(st.sampled_from(sorted(recipes.MODELS))),
    )
    pools = recipes.places(texts)
    size = recipes.NUMBERS_OF_A_RECIPE
    first = recipes.choices(pools, draw(st.lists(NUMBERS, min_size=size, max_size=size)))
    at = draw(NUMBERS) % len(pools)
    count = len(recipes.POOLS[pools[at]])
    second = list(first)
    second[at] = (first[at] + 1 + draw(NUMBERS) % (count - 1)) % count
    return Pair(recipes.filled(texts, first), recipes.filled(texts, second), pools[at])


def of_a_copy(module):
    """Return the keys of a copy by pickle, or the module's own where pickle carries less."""
    held = (module.estimator, module.params, module.X, module.y, module.scoring)
    try:
        copied = pickle.loads(pickle.dumps(held))
    except (pickle.PicklingError, AttributeError, TypeError):
        return unit_keys(module)  # code that has no name
    if getattr(copied[2], "dtype", None) != getattr(module.X, "dtype", None):
        return unit_keys(module)  # the order of its bytes is lost
    return unit_keys(SimpleNamespace(**dict(zip(HELD, copied, strict=True))))


def of_what_is_sent(module):
    """Return the keys of what a worker loads."""
    roles = {"estimator": module.estimator, "scorer": module.scoring, "X": module.X, "y": module.y}
    sender = Sender(roles)
    sent = sender.send(list(module.params.values()))
    assert sent.doubts == ()
    loaded = load_payload(sender.payload(sent.part.sha), sender.large().__getitem__)
    params = dict(zip(module.params, loaded.values, strict=True))
    have = loaded.roles
    held = (have["estimator"], params, have["X"], have["y"], have["scorer"])
    with loaded.installed():
        return unit_keys(SimpleNamespace(**dict(zip(HELD, held, strict=True))))


def of_a_clone(module):
    cloned = {"estimator": clone(module.estimator), "params": clone(module.params, safe=False)}
    return unit_keys(SimpleNamespace(**{**vars(module), **cloned}))


HELD = ("estimator", "params", "X", "y", "scoring")
#: What must have the key of the first of a pair; each example tries one of them.
COPIES = {
    "a copy by pickle": of_a_copy,
    "a clone": of_a_clone,
    "what is sent": of_what_is_sent,
    "what was scored": unit_keys,
}


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Tiny matrices are the slower for each thread."""
    with threadpool_limits(1):
        yield


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="OPTOMATIC_EXAMPLES" not in os.environ,
    database=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)
@given(pair=pairs())
def test_where_scores_differ_keys_differ(elsewhere, pair):
    """The process with another hash seed makes both, one after the other by the same names."""
    tag = recipes.tag_of(pair.first)
    sources = recipes.sources(*pair.first, tag)
    elsewhere.send("unit_keys", sources)
    elsewhere.send("keys_and_truth", recipes.sources(*pair.second, tag))
    try:
        with modules(sources) as module:
            keys, scores = keys_and_truth(module)
            copy = sorted(COPIES)[int(tag, 16) % len(COPIES)]
            assert COPIES[copy](module) == keys, f"{copy} has another key"
    finally:
        there, other = elsewhere.receive_all(2)
    assert there == keys, "a process with another hash seed finds another key"
    other_keys, other_scores = other
    event(f"{'failed' if scores.startswith('failed') else 'scored'}, "
          f"{'equal' if scores == other_scores else 'other'} scores")  # fmt: skip
    if pair.pool.startswith("="):
        assert scores == other_scores, "the test itself is wrong: this counts"
        assert keys == other_keys, "equal work has two keys"
    elif scores != other_scores:
        assert keys != other_keys, "other work has the same key"


@pytest.mark.parametrize("data", recipes.DATA)
@pytest.mark.parametrize("model", recipes.MODELS)
def test_recipes_can_be_scored(data, model):
    """Else the other test would hold nothing."""
    texts = recipes.skeleton(sorted(recipes.STEPS)[:1], data, model)
    filled = recipes.filled(texts, [0] * len(recipes.places(texts)))
    with modules(recipes.sources(*filled, "x")) as module:
        assert not truth(module).startswith("failed")
