"""Searches are removed, beside others that run."""

import contextlib
import itertools
import multiprocessing
import threading
import time
from dataclasses import replace
from datetime import timedelta

import functions
import numpy as np
import pytest
from estimators import Sleeper
from search.comparing import assert_same_search
from servers import database, units
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV
from sklearn.tree import DecisionTreeClassifier
from waiting import wait_for
from workers import work_off

from optomatic import MongoSearch, MongoSearchCV, attach, remove
from optomatic.errors import SearchCancelled, SearchRunning, StoreIncompatible
from optomatic.store.removal import Removed

X, Y = load_iris(return_X_y=True)
DATA = {"X": np.arange(6.0), "y": np.arange(3)}


def search_of(uri, weights, **options):
    return MongoSearch(functions.of_data, {"weight": weights}, data=DATA, db=uri, **options)


def test_removed_units_are_scored_again(uri):
    search_of(uri, [1, 2], name="a").run()
    would = remove("a", db=uri, dry_run=True)
    assert search_of(uri, [1, 2], name="a").run().summary_.stored == 2
    done = remove("a", db=uri)
    assert (done.searches, done.units) == (2, 2)
    assert done.parts == would.parts > 0
    assert done.bytes > would.bytes - 2000 > 0
    assert search_of(uri, [1, 2]).run().summary_.scored == 2
    with pytest.raises(ValueError, match="no search with the name or id 'a'"):
        attach("a", db=uri)


def test_attach_removes_one_of_several(uri):
    for weights in ([1, 2], [1, 2], [2, 3]):
        search_of(uri, weights, name="a").run()
    latest = attach("a", db=uri)
    would = latest.remove(dry_run=True)
    done = latest.remove()
    assert done == replace(would, dry_run=False)
    assert (done.searches, done.units) == (1, 1)
    with pytest.raises(ValueError, match="nothing was removed"):
        latest.remove()
    assert (latest.counts(), len(latest.to_frame()), latest.wait(timeout=0)) == ({}, 0, True)
    assert attach("a", db=uri).to_frame()["score"].tolist() == [18.0, 33.0]


def test_sets_of_versions_go_with_their_last_score(uri):
    search_of(uri, [1], name="a").run()
    search_of(uri, [2], name="b").run()
    remove("a", db=uri)
    assert remove(db=uri) == Removed()
    assert database(uri)["environments"].count_documents({}) == 1
    remove(older_than=0, db=uri)
    assert {n: database(uri)[n].count_documents({}) for n in ("environments", "chunks")} == {
        "environments": 0,
        "chunks": 0,
    }


def test_an_equal_fit_adds_a_record_and_nothing_else(uri):
    def size(name):
        found = database(uri)[name].aggregate(
            [{"$group": {"_id": None, "bytes": {"$sum": {"$bsonSize": "$$ROOT"}}}}]
        )
        return sum(one["bytes"] for one in found)

    names = ("search_units", "units", "bundles", "chunks", "environments", "queues", "workers")
    sizes, records = [], []
    for _ in range(4):
        grid = {"value": list(range(200))}
        MongoSearchCV(Sleeper(), grid, cv=3, refit=False, db=uri).fit(X, Y)
        sizes.append([size(name) for name in names])
        records.append(size("searches"))
    assert sizes[1:] == sizes[:1] * 3
    assert np.ptp(np.diff(records)) < 20
    assert max(np.diff(records)) < 4000


def test_adding_to_one_of_two_equal_searches_leaves_the_other(uri):
    for name in ("a", "b"):
        search_of(uri, [1, 2], name=name).run()
    assert attach("a", db=uri).extend({"weight": [3]}) == 1
    work_off(uri)
    assert attach("a", db=uri).wait(timeout=60)
    assert attach("a", db=uri).counts() == {"completed": 3}
    assert attach("b", db=uri).counts() == {"completed": 2}
    assert attach("a", db=uri).remove().units == 1
    assert attach("b", db=uri).to_frame()["score"].tolist() == [18.0, 33.0]
    assert attach("b", db=uri).extend({"weight": [3]}) == 1  # all that it takes is there still
    work_off(uri)
    assert attach("b", db=uri).counts() == {"completed": 3}


def test_many_equal_searches_can_be_learned_from_and_replayed(uri):
    space = {"x": [1, 2, 3]}
    for _ in range(2):
        MongoSearch(functions.parabola, space, db=uri, direction="maximize").run()
    seen = []

    def filtered(candidates, history):
        seen.append(history["score"].tolist())
        return [None] * len(candidates)

    search = MongoSearch(
        functions.parabola,
        {"x": [3, 4]},
        db=uri,
        filters=[filtered],
        warm_start=True,
        direction="maximize",
        name="filtered",
    ).run()
    assert sorted(seen[0]) == [-4.0, -1.0, 0.0]
    assert attach("filtered", db=uri).counts() == {"completed": 2}
    again = MongoSearch(
        functions.parabola, {"x": [3, 4]}, db=uri, replay=search.search_id_, direction="maximize"
    ).run()
    assert again.results_["score"].tolist() == search.results_["score"].tolist()


def test_a_search_that_runs_is_cancelled_before_it_is_removed(uri):
    raised = []

    def run():
        try:
            search_of_sleepers(uri, name="long")
        except SearchCancelled as error:
            raised.append(str(error))

    client = threading.Thread(target=run)
    client.start()
    wait_for(lambda: units(uri).count_documents({"state": "completed"}) >= 2)
    with pytest.raises(SearchRunning, match="Cancel it first"):
        remove("long", db=uri)
    assert remove(older_than=0, db=uri).searches == 0
    attach("long", db=uri).cancel()
    assert remove("long", db=uri).searches == 1
    client.join(120)
    assert len(raised) == 1
    assert "cancelled, or removed" in raised[0]
    remove(db=uri)
    assert units(uri).count_documents({}) == 0


def search_of_sleepers(uri, **options):
    grid = {"value": range(40), "seconds": [0.05]}
    return MongoSearchCV(Sleeper(), grid, cv=2, refit=False, db=uri, **options).fit(X, Y)


OPEN = {"known": {}, "asked for in rounds": {"time_budget": 600.0}}


@pytest.mark.parametrize("n_jobs", [None, 2])
@pytest.mark.parametrize("how", OPEN)
def test_units_that_vanish_from_under_a_search_are_scored_again_or_served(uri, how, n_jobs):
    """Whatever removes them: here somebody does it by hand, again and again."""
    grid = {"value": range(12), "seconds": [0.05]}
    MongoSearchCV(Sleeper(), {**grid, "value": range(5)}, cv=2, refit=False, db=uri).fit(X, Y)
    over = threading.Event()
    frames = []

    def take_away():
        while not over.is_set():
            units(uri).delete_many({"state": "completed"})
            frames.append(len(attach("robbed", db=uri).to_frame()) if frames else 0)
            time.sleep(0.3)

    robber = threading.Timer(0.3, take_away)
    robber.start()
    try:
        search = MongoSearchCV(
            Sleeper(), grid, cv=2, refit=False, db=uri, name="robbed", n_jobs=n_jobs, **OPEN[how]
        )
        stopped = threading.Timer(4.0, over.set)
        stopped.start()
        search.fit(X, Y)
    finally:
        over.set()
        robber.join()
        stopped.cancel()
    assert search.cv_results_["mean_test_score"].tolist() == list(range(12))
    assert frames


@pytest.mark.parametrize(
    ("age", "error"),
    [
        (-1, ValueError),
        (timedelta(-1), ValueError),
        (float("nan"), ValueError),
        ("1d", TypeError),
        (True, TypeError),
    ],
)
def test_an_age_that_is_none(uri, age, error):
    with pytest.raises(error, match="a timedelta, such as"):
        remove(older_than=age, db=uri)


@pytest.mark.parametrize("age", [1e300, float("inf"), timedelta.max, np.float32(3600), 3600])
def test_an_age_that_nothing_has(uri, age):
    search_of(uri, [1]).run()
    assert remove(older_than=age, db=uri) == Removed()


def test_records_of_a_newer_version_forbid_it(uri):
    search_of(uri, [1], name="a").run()
    database(uri)["searches"].insert_one({"_id": "n", "v": 99, "name": "newer"})
    with pytest.raises(StoreIncompatible, match="Nothing was removed"):
        remove("a", db=uri)
    assert units(uri).count_documents({}) == 1


# -- beside searches that run --------------------------------------------------------------


GRIDS = [{"max_depth": [1, 2]}, {"max_depth": [2, 3]}, {"max_depth": [1, 2, 3]}]
TREE = DecisionTreeClassifier(random_state=0)


def fit_again_and_again(uri, number, seconds, told):
    """Fit grids that overlap, with what searches in all ways, and compare."""
    try:
        theirs = [GridSearchCV(TREE, grid, cv=2).fit(X, Y) for grid in GRIDS]
        ways = [{}, {"n_jobs": 2}, {"time_budget": 600.0}]
        deadline = time.monotonic() + seconds
        for n in itertools.count(number):
            if time.monotonic() > deadline:
                break
            grid, expected = GRIDS[n % 3], theirs[n % 3]
            way = ways[n // 3 % 3]
            ours = MongoSearchCV(TREE, grid, cv=2, db=uri, name=f"fit {n % 3}", **way).fit(X, Y)
            assert_same_search(ours, expected, X)
            try:
                seen = attach(ours.search_id_, db=uri)
            except ValueError:
                continue  # it is removed already
            assert len(seen.to_frame()) <= len(grid["max_depth"])
        told.put((n - number, None))
    except BaseException as error:
        told.put((0, f"{type(error).__name__}: {error}"))


def remove_again_and_again(uri, number, over, told):
    removed = 0
    try:
        while not over.is_set():
            removed += remove(older_than=0, db=uri).units
            remove(db=uri)
            with contextlib.suppress(ValueError, SearchRunning):
                removed += remove(f"fit {number}", db=uri).units
        told.put((removed, None))
    except BaseException as error:
        told.put((0, f"{type(error).__name__}: {error}"))


def test_fits_and_removals_at_the_same_time(uri):
    """Each fit has the results of GridSearchCV, whatever is removed from under it."""
    context = multiprocessing.get_context("spawn")
    fits, removals, over = context.Queue(), context.Queue(), context.Event()
    removers = [
        context.Process(target=remove_again_and_again, args=(uri, n, over, removals))
        for n in range(2)
    ]
    fitters = [
        context.Process(target=fit_again_and_again, args=(uri, n, 10.0, fits)) for n in range(3)
    ]
    for process in removers + fitters:
        process.start()
    try:
        done = [fits.get(timeout=150) for _ in fitters]
        over.set()
        gone = [removals.get(timeout=60) for _ in removers]
    finally:
        for process in removers + fitters:
            process.join(120)
            process.kill()
    assert [error for _, error in done + gone if error] == []
    assert min(n for n, _ in done) >= 1, done
    assert min(n for n, _ in gone) >= 1, gone
    remove(older_than=0, db=uri)
    left = {n: database(uri)[n].count_documents({}) for n in ("searches", "units", "bundles")}
    assert left == {"searches": 0, "units": 0, "bundles": 0}
    assert database(uri)["chunks"].count_documents({}) == 0
    assert database(uri)["search_units"].count_documents({}) == 0
