"""Tables as pages of rows."""

import numpy as np
import pandas as pd
import pytest
from plots import synthetic

from optomatic.dashboard.drawing import draw
from optomatic.dashboard.tables import Wanted, candidate_frame, cells_of, page_of, unit_frame
from optomatic.progress.tally import Cell

FRAME = pd.DataFrame(
    {
        "n": np.arange(6),
        "score": [0.3, np.nan, 0.9, 0.1, 0.5, 0.7],
        "C": pd.Series([10, "auto", 2.0, None, "Scale", 1], dtype=object),
        "state": ["completed", "failed", "completed", "completed", "running", "completed"],
        "text": ["a", "b", "ab", "c", "B", "d"],
    }
)


def numbers(rows):
    return [int(row["n"]) for row in rows]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Wanted(), [0, 1, 2, 3, 4, 5]),
        (Wanted(first=2, count=3), [2, 3, 4]),
        (Wanted(sort="score"), [3, 0, 4, 5, 2, 1]),
        (Wanted(sort="score", descending=True), [2, 5, 4, 0, 3, 1]),
        (Wanted(sort="C"), [5, 2, 0, 1, 4, 3]),
        (Wanted(contains="B"), [1, 2, 4]),
        (Wanted(state="running"), [4]),
        (Wanted(sort="gone"), [0, 1, 2, 3, 4, 5]),
    ],
)
def test_rows_are_sorted_filtered_and_cut(wanted, expected):
    rows, _ = page_of(FRAME, wanted)
    assert numbers(rows) == expected


def test_what_is_searched_is_text_not_a_pattern():
    assert page_of(FRAME, Wanted(contains="(")) == ([], 0)


def test_candidates_come_best_first_and_those_that_failed_last():
    data = synthetic.search(
        {"x": [1, 2, 3]}, [0.1, np.nan, 0.9], states=np.array(["completed", "failed", "completed"])
    )
    frame = candidate_frame(data)
    assert list(frame["candidate"]) == [2, 0, 1]
    assert list(frame["x"]) == [3, 1, 2]
    assert list(frame["text"]) == ["x=3", "x=1", "x=2"]


def test_losses_come_smallest_first():
    data = synthetic.search({"x": [1, 2, 3]}, [3.0, 1.0, 2.0], minimize=True)
    assert list(candidate_frame(data)["candidate"]) == [1, 2, 0]


def test_a_param_that_is_named_as_a_column_has_one_of_its_own():
    data = synthetic.search({"score": [1, 2], "text": ["a", "b"]}, [0.5, 0.6])
    frame = candidate_frame(data)
    assert list(frame["score"]) == [0.6, 0.5]
    assert list(frame["score (param)"]) == [2, 1]
    rows, _ = page_of(frame, Wanted(contains="text=b"))
    assert [row["text (param)"] for row in rows] == ["b"]


def test_units_have_a_row_each():
    frame = unit_frame(synthetic.search({"x": [1, 2]}, [0.5, 0.6]))
    assert list(frame["unit"]) == [0, 1]
    assert list(frame["score"]) == [0.5, 0.6]
    assert set(frame["worker"]) == {"vm 1a2b3c"}


def test_scores_of_earlier_searches_are_stored_cells():
    data = synthetic.search({"x": [1, 2]}, [0.5, 0.6], ended=np.array([[-1.0], [1.0]]))
    assert cells_of(data).tolist() == [[int(Cell.STORED)], [int(Cell.SCORED)]]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_pictures_of_many_points_are_dots(theme):
    few = synthetic.search({"x": list(range(20))}, np.linspace(0, 1, 20))
    many = synthetic.search({"x": list(range(2_000))}, np.linspace(0, 1, 2_000))
    assert draw(few, "history", theme).content.startswith(b"<?xml")
    assert draw(many, "history", theme).content.startswith(b"\x89PNG")
