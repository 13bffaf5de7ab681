"""A growing history equals one that is made at once."""

import functions
import numpy as np
import pandas as pd
import pytest
from servers import database

from optomatic import MongoSearch
from optomatic.candidates.async_halving import Rung
from optomatic.filters import NearFilter, SeenFilter
from optomatic.records import Evaluation
from optomatic.results.frames import History, frame_of
from optomatic.store.connection import open_store


def some_candidate(rng):
    candidate = {"x": int(rng.integers(9)), "kind": ["a", (1, 2), [3], None][rng.integers(4)]}
    if rng.random() < 0.3:
        candidate["more"] = float(rng.normal())
    return candidate


@pytest.mark.parametrize("metrics", [["score"], ["b", "a"]])
def test_a_growing_history_equals_the_frame_of_its_rows(metrics):
    rng = np.random.default_rng(len(metrics))
    history, rows = History(), {}
    for step in range(200):
        number = step - 5 if step < 150 else int(rng.integers(-5, 145))
        params = rows[number].params if number in rows else some_candidate(rng)
        state = ["pending", "completed", "failed"][rng.integers(3)]
        scores = {name: float(rng.normal()) for name in metrics if state == "completed"}
        error = "ValueError: no" if state == "failed" else None
        rows[number] = Evaluation(number, params, state, scores, float(rng.random()), None, error)
        history.put(rows[number])
        if step % 20 in (0, 7):
            expected = frame_of(rows.values())
            frame = history.frame()
            assert frame.pop("earlier").tolist() == [number < 0 for number in rows]
            pd.testing.assert_frame_equal(frame[expected.columns], expected)
            assert set(frame) == set(expected)


def test_frames_are_copies():
    history = History()
    history.put(Evaluation(0, {"x": 1}, "pending", {}))
    first = history.frame()
    history.put(Evaluation(0, {"x": 1}, "completed", {"score": 3.0}))
    assert first["state"].tolist() == ["pending"]
    second = history.frame()
    second.loc[:, "score"] = 5.0
    assert history.frame()["score"].tolist() == [3.0]


@pytest.mark.parametrize("make", [SeenFilter, lambda: NearFilter(0.2, log=["more"])])
def test_filters_answer_the_same_on_a_growing_history(make):
    rng = np.random.default_rng(3)
    growing, rows = make(), [Evaluation(-1, {"x": 1, "kind": "a"}, "completed", {"score": 1.0})]
    said = set()
    for _ in range(60):
        candidates = [some_candidate(rng) for _ in range(rng.integers(1, 4))]
        for candidate in candidates:
            if "more" in candidate:
                candidate["more"] = abs(candidate["more"])
            if rng.random() < 0.02:
                candidate["x"] = "odd"
        reasons = growing(candidates, frame_of(rows))
        assert reasons == make()(candidates, frame_of(rows))
        said.update(reasons)
        new = [c for c, reason in zip(candidates, reasons, strict=True) if reason is None]
        rows += [Evaluation(len(rows) - 1 + n, c, "pending", {}) for n, c in enumerate(new)]
    assert len(said) == 2


def test_rungs_promote_by_the_rule():
    rng = np.random.default_rng(0)
    rung, ended = Rung(1), []
    for number in range(300):
        score = float(rng.integers(20)) if rng.random() < 0.9 else -np.inf
        ended.append((score, number))
        rung.end(score, number, {"n": number})
        best = sorted(ended, key=lambda one: (-one[0], one[1]))[: len(ended) // 3]
        expected = next((n for _, n in best if n not in rung.promoted), None)
        found = rung.promotable(3)
        assert (found and found[0]) == expected
        if found and rng.random() < 0.8:
            assert found[1] == {"n": found[0]}
            rung.promoted.add(found[0])
    assert len(rung.promoted) > 50


def test_a_long_search_stores_its_events_in_pages(uri, monkeypatch):
    """Where all is stored too, though nothing is queued then."""
    monkeypatch.setattr("optomatic.store.searches.IDS", 4)
    space = {"x": list(range(11))}
    for _ in range(2):
        search = MongoSearch(functions.parabola, space, db=uri, time_budget=3600.0).run()
        pages = database(uri)["search_units"]
        own = pages.find({"_id": {"$regex": f"^{search.search_id_}:"}})
        sizes = [len(page["ids"]) for page in own]
        assert sorted(size for size in sizes if size) == [3, 4, 4]
        with open_store(uri) as store:
            assert len(set(store.searches.unit_ids(search.search_id_))) == 11
            assert store.searches.events(search.search_id_)[0] == ["ask", 2000]
    assert search.summary_.stored == 11
