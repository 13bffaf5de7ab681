"""Pictures of searches of all kinds: the data of what is drawn, never its pixels."""

import runpy
import subprocess
import sys
import warnings
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from commands import many_searches
from matplotlib import pyplot as plt
from matplotlib.collections import LineCollection, PolyCollection, QuadMesh
from plots.synthetic import search
from sklearn.svm import SVC

from optomatic import MongoSearch, MongoSearchCV, attach, plots
from optomatic.plots import arrays
from optomatic.plots.arrays import Picture
from optomatic.plots.displays import DISPLAYS

X, Y = many_searches.X, many_searches.Y
#: A grid of 12 candidates, a few of which fail: a log scale, and categories.
GRID = {"C": [0.01, 1.0, 100.0], "kernel": ["linear", "rbf", "sigmoid", "no such"]}


@pytest.fixture(scope="module")
def grid(module_uri):
    """Return a fitted search whose fits fail with one of the kernels."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = MongoSearchCV(SVC(), GRID, cv=3, db=module_uri, name="grid", refit=False)
        return found.fit(X, Y)


def loss(x, y=1.0, kind="a"):
    return abs(np.log10(x)) + y * (kind == "b")


@pytest.fixture(scope="module")
def minimized(module_uri):
    """Return a search of a function whose lowest score is the best, with a conditional param."""
    space = [{"x": [0.01, 0.1, 1.0, 10.0], "kind": ["a", "b"]}, {"x": [1.0], "y": [2.0, 3.0]}]
    found = MongoSearch(loss, space, direction="minimize", db=module_uri, name="minimized")
    return found.run()


def labelled(ax, label):
    """Return the artist that the legend calls so."""
    artists = [*ax.collections, *ax.lines]
    (found,) = [artist for artist in artists if artist.get_label() == label]
    return found


def tick_names(axis):
    return [text.get_text() for text in axis.get_ticklabels()]


def inside(figure):
    """Tell whether all that is drawn lies inside of the figure."""
    figure.draw_without_rendering()
    box = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    return box.x0 > -0.05 and box.y0 > -0.05 and box.x1 < width + 0.05 and box.y1 < height + 0.05


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("kind", DISPLAYS)
@pytest.mark.parametrize("name", many_searches.NAMES)
def test_each_picture_of_each_kind_of_search(filled, name, kind, theme):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = DISPLAYS[kind].from_search(attach(name, db=filled), theme=theme)
        assert inside(drawn.figure_)
    title = drawn.ax_.get_title(loc="left")
    assert title.startswith(f"{name}: ")
    assert drawn.ax_.get_xlabel() or drawn.picture.message or kind == "parallel"


@pytest.mark.parametrize("kind", ["heatmap", "timeline"])
def test_the_gallery_draws_equal_pictures_as_equal_files(filled, tmp_path, kind):
    draw = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "gallery.py"))["draw"]
    drawn = []
    for _ in range(2):
        draw(attach("raced", db=filled), kind, tmp_path)
        drawn.append([path.read_bytes() for path in sorted(tmp_path.iterdir())])
    assert drawn[0] == drawn[1]
    assert len(set(drawn[0])) == 2


@pytest.mark.parametrize("kind", DISPLAYS)
def test_an_empty_search_says_so(kind):
    draw = DISPLAYS[kind]
    drawn = draw(draw._picture(search({"x": []}, []))).plot()
    (text,) = drawn.ax_.texts
    assert "no candidates yet" in text.get_text() or kind == "rungs"
    assert inside(drawn.figure_)


@pytest.mark.parametrize("kind", DISPLAYS)
def test_a_search_of_one_candidate(kind):
    draw = DISPLAYS[kind]
    drawn = draw(draw._picture(search({"x": [1]}, [0.5]))).plot()
    says = {"slice": "candidates differ", "heatmap": "2 params", "parallel": "candidates differ",
            "importance": "10 candidates", "rungs": "no rungs"}  # fmt: skip
    assert (kind in says) == bool(drawn.picture.message)
    drawn.figure_.draw_without_rendering()
    axis = drawn.ax_.yaxis if kind == "splits" else drawn.ax_.xaxis
    if kind in ("splits", "history"):
        assert [tick for tick in axis.get_ticklocs() if tick % 1] == []
    assert says.get(kind, "") in drawn.picture.message


def test_history_has_the_best_of_the_complete_candidates(grid):
    drawn = plots.HistoryDisplay.from_search(grid)
    frame = grid.to_frame()
    complete = frame.loc[frame["state"] == "completed", "score"]
    x, y = labelled(drawn.ax_, "best so far").get_data()
    assert y[-1] == complete.max()
    assert all(np.diff(y) >= 0)
    assert x[-1] <= 36
    points = labelled(drawn.ax_, "candidate").get_offsets()
    assert sorted(points[:, 1]) == sorted(complete)
    assert len(labelled(drawn.ax_, "failed").get_offsets()) == 3
    assert drawn.ax_.get_ylabel() == "score (higher is better)"


def test_history_over_time(grid):
    drawn = plots.HistoryDisplay.from_search(grid, by="time")
    assert drawn.ax_.get_xlabel() == "seconds since the search began"
    assert (labelled(drawn.ax_, "candidate").get_offsets()[:, 0] >= 0).all()
    with pytest.raises(ValueError, match="by is 'units' or 'time'"):
        plots.HistoryDisplay.from_search(grid, by="days")


def test_the_lowest_is_the_best_of_a_loss(minimized):
    drawn = plots.HistoryDisplay.from_search(minimized)
    _, y = labelled(drawn.ax_, "best so far").get_data()
    assert y[-1] == minimized.results_["score"].min()
    assert all(np.diff(y) <= 0)
    assert "lower is better" in drawn.ax_.get_ylabel()


def test_a_race_counts_complete_candidates_only(filled):
    raced = attach("raced", db=filled)
    drawn = plots.HistoryDisplay.from_search(raced)
    hollow = labelled(drawn.ax_, "on some splits only")
    assert len(hollow.get_offsets()) == (raced.to_frame()["state"] == "stopped").sum()
    assert hollow.get_facecolor().size == 0
    _, y = labelled(drawn.ax_, "best so far").get_data()
    assert y[-1] == raced.best_score_


def test_slice_has_a_log_scale_and_deviations(grid):
    drawn = plots.SliceDisplay.from_search(grid, param="C")
    assert (drawn.ax_.get_xscale(), drawn.ax_.get_xlabel()) == ("log", "C")
    frame = grid.to_frame()
    own = frame[frame["state"] == "completed"]
    points = labelled(drawn.ax_, "candidate, ± deviation over splits").get_offsets()
    np.testing.assert_allclose(points, own[["param_C", "score"]])
    (bars,) = [c for c in drawn.ax_.collections if isinstance(c, LineCollection)]
    ends = np.array([segment[:, 1] for segment in bars.get_segments()])
    expected = np.column_stack([own["score"] - own["std"], own["score"] + own["std"]])
    np.testing.assert_allclose(ends, expected)
    failed = labelled(drawn.ax_, "failed").get_offsets()
    assert failed[:, 0].tolist() == [0.01, 1.0, 100.0]


def test_slice_of_categories_by_name(grid):
    drawn = plots.SliceDisplay.from_search(grid, param="kernel")
    assert tick_names(drawn.ax_.xaxis) == GRID["kernel"]
    points = labelled(drawn.ax_, "candidate, ± deviation over splits").get_offsets()
    assert set(np.round(points[:, 0])) == {0, 1, 2}


def test_slice_leaves_out_what_lacks_the_param(minimized):
    drawn = plots.SliceDisplay.from_search(minimized, param="y")
    assert len(labelled(drawn.ax_, "candidate").get_offsets()) == 2
    assert "left out, as they lack y: 8" in drawn.picture.notes


def test_heatmap_has_the_best_score_of_each_cell(grid):
    drawn = plots.HeatmapDisplay.from_search(grid, params=["C", "kernel"])
    (mesh,) = [c for c in drawn.ax_.collections if isinstance(c, QuadMesh)]
    frame = grid.to_frame()
    best = frame[frame["state"] == "completed"].groupby(["param_kernel", "param_C"])["score"].max()
    values = mesh.get_array()
    for up, kernel in enumerate(tick_names(drawn.ax_.yaxis)):
        for across, C in enumerate(GRID["C"]):
            expected = best.get((kernel, C))
            assert values[up, across] == expected if expected else values.mask[up, across]
    assert tick_names(drawn.ax_.xaxis) == ["0.01", "1", "100"]
    crosses = labelled(drawn.ax_, "all failed").get_offsets()
    assert len(crosses) == 3


def test_the_best_stand_out_in_the_colours(grid, minimized):
    params = [("C", "kernel"), ("x", "kind")]
    for theme, best in (("light", "viridis_r"), ("dark", "viridis")):
        for found, own in zip((grid, minimized), params, strict=True):
            drawn = plots.HeatmapDisplay.from_search(found, params=own, theme=theme)
            (mesh,) = [c for c in drawn.ax_.collections if isinstance(c, QuadMesh)]
            turned = {"viridis": "viridis_r", "viridis_r": "viridis"}[best]
            assert mesh.get_cmap().name == (best if found is grid else turned)


def test_heatmap_of_many_numbers_has_bins():
    draw = np.random.default_rng(0)
    a, b = 10 ** draw.uniform(-3, 0, 500), draw.uniform(0, 5, 500)
    data = search({"a": a.tolist(), "b": b.tolist()}, a + b, minimize=True)
    drawn = arrays.heatmap(data, params=["a", "b"]).arrays
    assert drawn["scores"].shape == (10, 10)
    assert drawn["x_cells"].edges[[0, -1]] == pytest.approx(np.log10([a.min(), a.max()]))
    assert np.nanmin(drawn["scores"]) == (a + b).min()


def test_parallel_has_a_line_a_candidate(grid):
    drawn = plots.ParallelDisplay.from_search(grid)
    assert sorted(tick_names(drawn.ax_.xaxis)) == ["C", "kernel", "score"]
    assert tick_names(drawn.ax_.xaxis)[-1] == "score"
    lines, failed = [c for c in drawn.ax_.collections if isinstance(c, LineCollection)]
    scores = lines.get_array()
    assert all(np.diff(scores) >= 0), "the best are in front"
    assert len(scores) == 9
    assert [len(segment) for segment in failed.get_segments()] == [2, 2, 2]
    written = {text.get_text() for text in drawn.ax_.texts}
    assert {"0.01", "1", "100", *GRID["kernel"]} <= written


def test_parallel_of_a_loss_and_of_absent_params(minimized):
    drawn = plots.ParallelDisplay.from_search(minimized, params=["y", "x"])
    assert tick_names(drawn.ax_.xaxis) == ["y", "x", "score"]
    (lines,) = [c for c in drawn.ax_.collections if isinstance(c, LineCollection)]
    assert all(np.diff(lines.get_array()) <= 0)
    below = sum(segment[0, 1] < 0 for segment in lines.get_segments())
    assert below == 8
    assert "(absent)" in {text.get_text() for text in drawn.ax_.texts}


def test_lines_of_a_category_lie_side_by_side(grid):
    drawn = plots.ParallelDisplay.from_search(grid, params=["kernel", "C"])
    drawn_lines, _ = [c for c in drawn.ax_.collections if isinstance(c, LineCollection)]
    lines = drawn_lines.get_segments()
    heights = np.array([segment[:2, 1] for segment in lines])
    assert len(np.unique(heights[:, 0])) == len(lines) == 9
    assert set(np.round(heights[:, 0] * 3)) == {0, 1, 2}
    assert len(np.unique(heights[:, 1])) == 3, "numbers stay where they are"


def test_importance_has_a_bar_a_param():
    draw = np.random.default_rng(0)
    a, b = draw.uniform(0, 1, 100), draw.uniform(0, 1, 100)
    picture = arrays.importance(search({"b": b.tolist(), "a": a.tolist()}, a + 0.1 * b))
    drawn = plots.ImportanceDisplay(picture).plot()
    assert tick_names(drawn.ax_.yaxis) == ["a", "b"]
    assert [bar.get_width() for bar in drawn.ax_.patches] == list(picture.arrays["means"])
    assert "R²" in drawn.ax_.get_xlabel()
    assert "a forest explains" in picture.notes[0]


def test_timeline_has_a_bar_a_unit(filled):
    ill = attach("ill", db=filled)
    drawn = plots.TimelineDisplay.from_search(ill)
    attempts = ill.to_frame("attempt")
    counts = {c.get_label(): len(c.get_paths()) for c in drawn.ax_.collections
              if isinstance(c, PolyCollection)}  # fmt: skip
    assert counts["completed"] == (attempts["state"] == "completed").sum()
    assert counts["lost"] == (attempts["state"] == "lost").sum() > 0
    assert len(tick_names(drawn.ax_.yaxis)) == attempts["worker"].nunique()


def test_timeline_of_many_units_is_a_map():
    n = 4_000
    began = np.arange(n).reshape(-1, 1) / 10
    data = search({"x": list(range(n))}, np.arange(n), began=began, ended=began + 1.0)
    drawn = plots.TimelineDisplay(arrays.timeline(data)).plot()
    (mesh,) = [c for c in drawn.ax_.collections if isinstance(c, QuadMesh)]
    assert mesh.get_array().max() == pytest.approx(10)
    assert "4,000 units in 300 bins of time" in drawn.picture.notes
    assert inside(drawn.figure_)


def test_timeline_of_a_search_that_runs(filled):
    drawn = plots.TimelineDisplay.from_search(attach("running", db=filled))
    running = labelled(drawn.ax_, "running")
    assert running.get_hatch()
    right = max(path.vertices[:, 0].max() for path in running.get_paths())
    assert drawn.ax_.get_xlim()[1] == pytest.approx(right * 1.01)
    assert "running, " in drawn.picture.notes[0]


def test_rungs_have_a_line_a_candidate(filled):
    halved = attach("halved", db=filled)
    drawn = plots.RungsDisplay.from_search(halved)
    frame = halved.to_frame()
    last = frame[frame["iter"] == frame["iter"].max()]
    best = labelled(drawn.ax_, "the best on the last rung")
    assert best.get_ydata()[-1] == last["score"].max()
    (lines,) = [c for c in drawn.ax_.collections
                if isinstance(c, LineCollection) and c.get_alpha() == 0.35]  # fmt: skip
    assert len(lines.get_segments()) == 4
    counts = frame.groupby("n_resources").size()
    expected = [f"{resources}\n({count})" for resources, count in counts.items()]
    assert tick_names(drawn.ax_.xaxis) == expected


def test_rungs_of_halving_over_a_param_have_lines():
    params = {"x": [1, 2, 3, 1], "n": [1, 1, 1, 3]}
    rungs = {"rung": np.array([0, 0, 0, 1]), "resources": np.array([1, 1, 1, 3])}
    data = search(params, [0.1, 0.5, 0.4, 0.6], **rungs)
    drawn = arrays.rungs(data).arrays
    np.testing.assert_array_equal(drawn["scores"], [[0.1, 0.6], [0.5, np.nan], [0.4, np.nan]])
    assert data.latest.tolist() == [False, True, True, True]
    without = search({"x": params["x"]}, data.scores, **rungs)
    assert arrays.rungs(without).arrays["counts"].tolist() == [3, 1]


def test_rungs_over_a_param():
    params = {"x": [1, 2, 3, 1, 2, 1], "n": [1, 1, 1, 3, 3, 9]}
    data = search(params, [0.1, 0.5, 0.4, 0.6, 0.9, 0.7])
    drawn = arrays.rungs(data, resource="n").arrays
    assert drawn["resources"] == ["1", "3", "9"]
    assert drawn["counts"].tolist() == [3, 2, 1]
    np.testing.assert_array_equal(
        drawn["scores"], [[0.1, 0.6, 0.7], [0.5, 0.9, np.nan], [0.4, np.nan, np.nan]]
    )


def test_splits_have_the_best_candidate_first(filled):
    raced = attach("raced", db=filled)
    drawn = plots.SplitsDisplay.from_search(raced)
    scores, stopped = (image.get_array() for image in drawn.ax_.images)
    units = raced.to_frame("split")
    best = units.loc[raced.best_index_, "score"]
    np.testing.assert_array_equal(scores[0], best)
    assert (~stopped.mask).sum() == (units["state"] == "stopped").sum()
    assert not scores.mask[0].any()


def test_own_axes_keep_their_colours(grid):
    with plt.style.context("dark_background"):
        figure, (left, right) = plt.subplots(1, 2)
        drawn = plots.HistoryDisplay.from_search(grid, ax=left)
        again = drawn.plot(ax=right)
    assert again is drawn
    assert drawn.ax_ is right
    assert drawn.figure_ is figure
    assert labelled(left, "best so far").get_data()[1][-1] == grid.to_frame()["score"].max()
    face = labelled(left, "candidate").get_facecolor()[0]
    assert matplotlib.colors.to_hex(face) == "#56b4e9"


def test_themes(grid):
    drawn = plots.HistoryDisplay.from_search(grid, theme="dark")
    assert matplotlib.colors.to_hex(drawn.figure_.get_facecolor()) == "#16181d"
    assert matplotlib.colors.to_hex(drawn.plot(theme="light").figure_.get_facecolor()) == "#ffffff"
    with pytest.raises(ValueError, match="theme is 'light' or 'dark', not 'blue'"):
        drawn.plot(theme="blue")
    assert matplotlib.rcParams["figure.facecolor"] == "white"


def test_names_are_no_formulas():
    data = search({"a$b": ["$x", "_y^$", "z"], "c_{d}": [1, 2, 3]}, [1, 2, 3], name="$s_$")
    for kind in ("slice", "heatmap", "parallel", "history"):
        draw = DISPLAYS[kind]
        assert inside(draw(draw._picture(data)).plot().figure_)


def test_unknown_names_and_options(grid):
    with pytest.raises(ValueError, match="no param 'gamma'"):
        plots.HeatmapDisplay.from_search(grid, params=["gamma"])
    with pytest.raises(ValueError, match="no metric 'loss'"):
        plots.SplitsDisplay.from_search(grid, metric="loss")
    with pytest.raises(TypeError, match="param"):
        plots.HistoryDisplay.from_search(grid, param="C")


def test_a_message_is_drawn_in_place_of_a_picture():
    picture = Picture("a: title", (), "There is nothing.", "score", False, {})
    drawn = plots.SplitsDisplay(picture).plot()
    assert [text.get_text() for text in drawn.ax_.texts] == ["There is nothing."]
    assert drawn.ax_.get_title(loc="left") == "a: title"


def test_the_extra_is_named_where_matplotlib_is_missing():
    code = """
import sys
sys.modules["matplotlib"] = None
from optomatic.plots import SplitsDisplay
from optomatic.plots.arrays import Picture
SplitsDisplay(Picture("t", (), "m", "score", False, {})).plot()
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert 'pip install "optomatic[plot]"' in found.stderr.splitlines()[-1]
