"""A search as arrays: params, scores, what is sampled, what is said about it."""

import subprocess
import sys
from math import nan

import numpy as np
import pytest
from plots.synthetic import search

from optomatic import attach
from optomatic.plots import arrays
from optomatic.plots.importance import importances, most_important
from optomatic.plots.search_data import MOST_CATEGORIES, OTHERS, is_spread, param_of, search_data

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("values", "is_log"),
    [
        ([1, 10, 100], True),
        ([0.001, 0.01, 0.1, 1.0], True),
        ((10 ** RANDOM.uniform(-3, 3, 500)).tolist(), True),
        (RANDOM.uniform(0.01, 100, 500).tolist(), False),
        ([1, 2, 3, 4], False),
        ([0, 1, 10, 100], False),
        ([-1, 10, 100], False),
        ([5], False),
    ],
)
def test_values_that_are_spread_so_get_a_log_scale(values, is_log):
    assert is_spread(np.array(values, dtype=float)) == is_log
    assert param_of("x", values).is_log == is_log


def test_numbers_are_places_and_a_candidate_may_lack_a_param():
    param = param_of("x", [3, nan, 1.5])
    assert param.at.tolist()[::2] == [3, 1.5]
    assert np.isnan(param.at[1])
    assert param.distinct.tolist() == [1.5, 3]


def test_categories_have_names_numbers_first():
    param = param_of("x", ["rbf", None, 8, 2, True, (1, 2), "rbf", nan])
    assert param.categories == ["2", "8", "rbf", "None", "True", "(1, 2)"]
    assert param.at.tolist()[:7] == [2, 3, 1, 0, 4, 5, 2]
    assert np.isnan(param.at[7])


@pytest.mark.parametrize("odd", [float("inf"), 10**400, True, "7"])
def test_what_is_no_finite_number_makes_categories(odd):
    assert param_of("x", [1, 2, odd]).categories[:2] == ["1", "2"]


def test_the_rarest_of_many_categories_share_a_name():
    values = [f"c{n}" for n in range(60)] + [f"c{n}" for n in range(40, 60)]
    param = param_of("x", values)
    assert len(param.categories) == MOST_CATEGORIES
    assert param.categories[-1] == OTHERS
    assert {"c40", "c58"} <= set(param.categories)
    assert param.text(param.at[0]) == OTHERS


def test_long_and_odd_names_can_be_written():
    param = param_of("x", ["a" * 90, "line\nbreak", "\ud800"])
    assert [len(name) for name in param.categories] == [24, 10, 6]
    assert all(name.isprintable() for name in param.categories)


def test_arrays_are_those_of_the_frames(filled):
    for name in ("done", "ill", "raced", "halved", "function", "running", "left"):
        found = attach(name, db=filled)
        data = search_data(found)
        frame, units = found.to_frame(), found.to_frame("split")
        np.testing.assert_array_equal(data.scores, frame["score"])
        assert data.states.tolist() == frame["state"].tolist() or name == "running"
        assert data.split_scores.shape == (len(frame), found.n_splits_)
        own = units["score"].unstack().to_numpy()
        np.testing.assert_array_equal(data.split_scores, own)


def test_kinds_of_candidates(filled):
    ill, raced = (search_data(attach(name, db=filled)) for name in ("ill", "raced"))
    assert ill.kinds.tolist() == ["complete", "failed", "failed"]
    assert set(raced.kinds) == {"complete", "partial"}
    left = search_data(attach("left", db=filled))
    assert left.kinds.tolist() == ["", ""]
    assert "0 of 2 units" in left.progress()


def test_a_metric_or_param_that_is_not_there_is_named(filled):
    done = attach("done", db=filled)
    with pytest.raises(ValueError, match=r"no metric 'loss'.*It has 'score'"):
        search_data(done, "loss")
    with pytest.raises(ValueError, match=r"no param 'gamma'.*It has 'C'"):
        search_data(done).param("gamma")


def test_reading_needs_no_matplotlib():
    code = "import sys, optomatic.plots, optomatic.plots.study; print('matplotlib' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.stdout == "False\n", found.stderr


def surface(n, noise=0.0):
    """Return a search whose score depends on `a` much, on `b` little, and on `c` not at all."""
    draw = np.random.default_rng(1)
    a, b = draw.uniform(0, 1, n), draw.choice(["x", "y", "z"], n)
    scores = 3 * (a - 0.3) ** 2 + 0.5 * (b == "y") + noise * draw.normal(size=n)
    params = {"c": draw.uniform(0, 1, n).tolist(), "b": b.tolist(), "a": a.tolist()}
    return search(params, scores)


def test_params_by_importance():
    found = importances(surface(200))
    assert found.names == ["a", "b", "c"]
    assert found.means[0] > found.means[1] > 5 * abs(found.means[2])
    assert found.r2 > 0.8
    assert most_important(surface(200)) == ["a", "b", "c"]


@pytest.mark.parametrize("n", [0, 1, 9])
def test_importance_needs_candidates(n):
    picture = arrays.importance(surface(n))
    assert ("needs 10 candidates" in picture.message) == (n > 0)
    assert most_important(surface(9)) == ["c", "b", "a"]


def test_a_forest_that_predicts_nothing_is_said():
    notes = " ".join(arrays.importance(surface(60, noise=50.0)).notes)
    assert "the bars say nothing" in notes


def test_large_searches_are_sampled_and_that_is_said():
    data = surface(20_000)
    history = arrays.history(data)
    assert len(history.arrays["x"]) == arrays.MOST_POINTS
    assert history.arrays["best_y"][-1] == data.scores.max()
    assert "2,000 of 20,000 candidates: the best 200" in history.notes[0]
    assert data.scores.max() in arrays.score_slice(data, param="a").arrays["y"]
    parallel = arrays.parallel(data)
    assert len(parallel.arrays["scores"]) == arrays.MOST_LINES
    assert data.scores.max() in parallel.arrays["scores"]
    splits = arrays.splits(data)
    assert splits.arrays["scores"].shape == (arrays.MOST_ROWS, 1)
    assert "evenly by rank" in splits.notes[0]


def test_a_timeline_of_many_units_is_binned():
    n = 4_000
    began = np.arange(n).reshape(-1, 1) / 10
    data = search({"x": list(range(n))}, np.arange(n), began=began, ended=began + 1.0)
    drawn = arrays.timeline(data).arrays
    assert drawn["worker"].size == 0
    seconds = drawn["busy"] * np.diff(drawn["edges"])
    assert seconds.sum() == pytest.approx(n)
    assert drawn["busy"][0, 100] == pytest.approx(10)  # ten begin each second, for a second


def test_a_timeline_without_lost_attempts_has_numbers():
    picture = arrays.timeline(search({"x": [1, 2]}, [1, 2]))
    assert all(picture.arrays[name].dtype == float for name in ("began", "ended"))


def test_units_told_of_at_once_are_drawn_one_after_another():
    began, ended = np.zeros((3, 1)), np.full((3, 1), 3.5)
    data = search({"x": [1, 2, 3]}, [1, 2, 3], began=began, ended=ended)
    drawn = arrays.timeline(data).arrays
    assert drawn["track"].tolist() == [0, 0, 0]
    assert drawn["began"].tolist() == [0, 1, 2]
    at_once = arrays.timeline(search({"x": [1, 2]}, [1, 2], began=began[:2], ended=began[:2] + 1))
    assert at_once.arrays["track"].tolist() == [0, 1]


def test_units_of_earlier_searches():
    began = np.array([[-9.0], [0.0], [1.0]])
    data = search({"x": [1, 2, 3]}, [5, 1, 7], began=began, ended=began + 1)
    timeline, history = arrays.timeline(data), arrays.history(data, by="time")
    assert timeline.arrays["began"].tolist() == [0, 1]
    assert timeline.notes == ["units scored for earlier searches: 1"]
    assert history.arrays["best_x"].tolist() == [0, 2]
    assert history.arrays["best_y"].tolist() == [5, 7]


def test_lost_attempts_and_running_units():
    states = np.array([["running"], ["completed"]], dtype=object)
    ended = np.array([[nan], [2.0]])
    lost = [("vm ffffff", 0.0, 0.5)]
    more = {"split_states": states, "ended": ended, "took": ended - 1, "lost": lost, "now": 9.0}
    drawn = arrays.timeline(search({"x": [1, 2]}, [nan, 1], **more)).arrays
    ends = dict(zip(drawn["kind"], drawn["ended"], strict=True))
    assert ends == {"running": 9.0, "lost": 0.5, "completed": 2.0}
    assert drawn["workers"] == ["vm 1a2b3c", "vm ffffff"]
