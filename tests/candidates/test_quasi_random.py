"""Low-discrepancy candidates."""

from itertools import islice

import functions
import pytest
from scipy.stats import loguniform, qmc, randint, uniform

from optomatic import MongoSearch
from optomatic.generators import QuasiRandom

SPACE = {"x": uniform(0, 6), "y": [0, 1]}


@pytest.mark.parametrize(("method", "engine"), [("sobol", qmc.Sobol), ("halton", qmc.Halton)])
def test_points_are_those_of_scipy(method, engine):
    points = engine(2, seed=4).random(64)
    found = list(islice(QuasiRandom(SPACE, method=method, seed=4), 64))
    assert [c["x"] for c in found] == pytest.approx((6 * points[:, 0]).tolist())
    assert [c["y"] for c in found] == [int(v >= 0.5) for v in points[:, 1]]


def test_a_search_remembers_them(uri):
    def run(n):
        return MongoSearch(functions.parabola, QuasiRandom(SPACE, seed=1), n_iter=n, db=uri).run()

    assert run(8).summary_.scored == 8
    assert (run(16).summary_.stored, run(16).summary_.stored) == (8, 16)


def test_conditional_spaces_and_integers():
    space = [{"a": randint(2, 5)}, {"a": [9], "b": loguniform(1, 10)}]
    found = list(islice(QuasiRandom(space, seed=0), 128))
    assert {c["a"] for c in found} == {2, 3, 4, 9}
    assert all(type(c["a"]) is int for c in found)
    assert all(1 <= c["b"] <= 10 for c in found if c["a"] == 9)
    assert 50 <= sum("b" in c for c in found) <= 78


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ("C", "a dict or a list of dicts, not 'C'"),
        ([], "not \\[\\]"),
        ({"C": "abc"}, "the values of 'C' are a list or a distribution"),
        ({"C": 3}, "not 3"),
        ({"C": []}, "the list of values of 'C' is empty"),
    ],
)
def test_what_is_no_space(space, message):
    with pytest.raises((TypeError, ValueError), match=message):
        QuasiRandom(space)
