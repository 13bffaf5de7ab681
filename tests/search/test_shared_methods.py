"""What users can look at of a search in the database, whoever made it, and however it ended."""

import ctypes
import os
import pickle
import signal
import subprocess
import sys
import time
import uuid
import warnings
from pathlib import Path

import functions
import numpy as np
import pandas as pd
import pytest
import servers
from pymongo import MongoClient
from scipy.stats import loguniform
from sklearn import set_config
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from waiting import wait_for

from optomatic import MongoHalvingGridSearchCV, MongoSearch, MongoSearchCV, attach
from optomatic.store.connection import open_store

ROOT = Path(__file__).parents[2]
X, Y = load_iris(return_X_y=True)
MODEL = make_pipeline(StandardScaler(), SVC())
GRID = {"svc__C": [1, 10, -1], "svc__gamma": [0.1, "scale"]}
LEVELS = ("candidate", "split", "attempt")


def troubled(x):
    """Raise with a number in the text, or end the process."""
    if x == 13:
        ctypes.string_at(0)
    if x > 2:
        raise ValueError(f"{x} is too much at 0x{id(x):x}")
    return float(x), {"x": x}


VANISHES = """
import sys
from sklearn.dummy import DummyClassifier
from optomatic import MongoSearchCV
X, y = [[n] for n in range(20)], [0, 1] * 10
MongoSearchCV(DummyClassifier(), {"strategy": ["prior", "uniform"]}, cv=2, n_jobs=0,
              db=sys.argv[1], name="abandoned").fit(X, y)
"""


@pytest.fixture(scope="module")
def uri(one_node):
    name = f"t{uuid.uuid4().hex[:12]}"
    yield one_node.uri(name)
    with MongoClient(one_node.uri(name)) as client:
        client.drop_database(name)


@pytest.fixture(scope="module")
def database(uri):
    with MongoClient(uri) as client:
        yield client.get_default_database()


@pytest.fixture(scope="module")
def searches(uri, database):
    """Searches of all kinds in one database, by name; None of those that nobody holds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = {
            "done": search(
                uri,
                name="done",
                return_train_score=True,
                scoring=["accuracy", "f1_macro"],
                refit="accuracy",
            ),
            "raced": MongoSearchCV(
                KNeighborsClassifier(),
                {"n_neighbors": [1, 5, 120]},
                cv=10,
                racing=True,
                db=uri,
                name="raced",
            ).fit(X, Y),
            "halved": MongoHalvingGridSearchCV(
                KNeighborsClassifier(), {"n_neighbors": [1, 3, 5]}, cv=2, db=uri, name="halved"
            ).fit(X, Y),
            "function": MongoSearch(
                troubled, {"x": [1, 2, 3, 4, 13]}, n_jobs=1, fit_timeout=60, db=uri, name="function"
            ).run(),
        }
    abandon(uri, database)
    MongoSearch(functions.parabola, {"x": [1, 2, 3]}, db=uri, name="runs").submit()
    with open_store(uri) as store:
        lease = store.claims.claim("a worker", 1, search=attach("runs", db=uri).search_id)
        store.claims.start(lease.token, [lease.jobs[0].id], 600)
    gone = MongoSearch(functions.parabola, {"x": [7]}, db=uri, name="gone").run()
    attach("gone", db=uri).remove()
    return {**made, "abandoned": None, "runs": None, "gone": gone}


def search(uri, **options):
    return MongoSearchCV(MODEL, GRID, cv=3, db=uri, **options).fit(X, Y)


def abandon(uri, database):
    """Kill a client that waits, and have it be seen two minutes ago."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    client = subprocess.Popen([sys.executable, "-c", VANISHES, uri], env=environment)
    wait_for(lambda: database["units"].count_documents({"state": "queued"}) == 4, client)
    client.send_signal(signal.SIGKILL)
    client.wait()
    change = [{"$set": {"seen_at": {"$subtract": ["$$NOW", 120_000]}}}]
    database["searches"].update_one({"name": "abandoned"}, change)


def seen(uri, searches, name):
    held = searches[name]
    return attach(name, db=uri) if name != "gone" else held


# Tables


@pytest.mark.parametrize("level", LEVELS)
def test_a_fitted_search_has_the_tables_of_who_attaches_to_it(uri, searches, level):
    for name in ("done", "raced", "function"):
        frame = searches[name].to_frame(level)
        pd.testing.assert_frame_equal(frame, attach(name, db=uri).to_frame(level))
        assert len(frame) > 0


def test_the_candidates_have_what_cv_results_has(searches):
    results, frame = searches["done"].cv_results_, searches["done"].to_frame()
    np.testing.assert_array_equal(frame["param_svc__C"], results["param_svc__C"])
    scored = frame["state"] == "completed"
    assert list(frame["state"]) == ["completed"] * 4 + ["failed"] * 2
    for metric in ("accuracy", "f1_macro"):
        names = {f"score_{metric}": "mean_test", f"std_{metric}": "std_test"}
        names[f"train_score_{metric}"] = "mean_train"
        for ours, theirs in names.items():
            np.testing.assert_array_equal(frame[ours], results[f"{theirs}_{metric}"], ours)
    np.testing.assert_allclose(frame["fit_time"][scored] / 3, results["mean_fit_time"][scored])
    np.testing.assert_allclose(frame["score_time"][scored] / 3, results["mean_score_time"][scored])
    assert frame["error"][4].startswith("sklearn.utils._param_validation.InvalidParameterError: ")


def test_the_splits_have_what_cv_results_has(searches):
    results, frame = searches["done"].cv_results_, searches["done"].to_frame("split")
    assert list(frame.index.names) == ["candidate", "split"]
    assert len(frame) == 18
    for split in range(3):
        own = frame.xs(split, level="split")
        for metric in ("accuracy", "f1_macro"):
            for ours, theirs in (("score", "test"), ("train_score", "train")):
                name = f"split{split}_{theirs}_{metric}"
                np.testing.assert_array_equal(own[f"{ours}_{metric}"], results[name], name)
    assert set(frame["attempts"]) == {1}
    assert set(frame["losses"]) == {0}
    assert (frame["ended"] >= frame["began"]).all()
    assert frame["worker"].notna().all()
    assert frame["host"].notna().all()


def test_a_raced_search_has_the_means_of_cv_results(searches):
    results, frame = searches["raced"].cv_results_, searches["raced"].to_frame()
    np.testing.assert_array_equal(frame["score"], results["mean_test_score"])
    np.testing.assert_array_equal(frame["std"], results["std_test_score"])
    assert list(frame["state"]) == ["completed", "completed", "stopped"]
    splits = searches["raced"].to_frame("split")
    assert (splits["state"] == "stopped").sum() == 10 - results["stopped_after"][2]


def test_iterations_of_halving_have_columns_of_their_own(uri, searches):
    results = searches["halved"].cv_results_
    for level in LEVELS:
        frame = searches["halved"].to_frame(level)
        pd.testing.assert_frame_equal(frame, attach("halved", db=uri).to_frame(level))
    for level, repeats in (("candidate", 1), ("split", 2)):
        frame = searches["halved"].to_frame(level)
        assert list(frame)[:2] == ["iter", "n_resources"]
        for name in ("iter", "n_resources"):
            assert frame[name].dtype == np.int64
            np.testing.assert_array_equal(frame[name], np.repeat(results[name], repeats))
    assert set(searches["halved"].to_frame()["iter"]) == {0, 1}
    assert "iter" not in searches["done"].to_frame()


def test_columns_have_the_types_of_their_values(searches):
    types = searches["done"].to_frame("split").dtypes
    assert types["param_svc__C"] == np.int64
    assert types["param_svc__gamma"] == np.object_
    assert types["score_accuracy"] == types["fit_time"] == np.float64
    assert types["attempts"] == types["losses"] == np.int64
    assert str(types["began"]) == str(types["ended"]) == "datetime64[ms, UTC]"
    assert searches["done"].to_frame("attempt").dtypes["attempt"] == np.int64


def test_a_function_has_its_extras_and_its_failures(searches):
    frame = searches["function"].to_frame()
    assert frame["extra"].tolist() == [{"x": 1}, {"x": 2}, None, None, None]
    assert frame["score"].tolist()[:2] == [1.0, 2.0]
    assert frame["state"].tolist() == ["completed"] * 2 + ["failed"] * 3
    assert "killed the process" in frame["error"][4]
    assert "std" not in frame


def test_attempts_that_were_lost_are_rows_with_the_reason(searches):
    lost = searches["function"].to_frame("attempt").loc[4]
    assert lost["attempt"].tolist() == [1, 2, 3]
    assert set(lost["state"]) == {"lost"}
    assert all("SIGSEGV" in why or "signal 11" in why for why in lost["why"])
    assert lost["host"].notna().all()
    assert (lost["ended"] >= lost["began"]).all()
    splits = searches["function"].to_frame("split").loc[4]
    assert splits[["attempts", "losses", "state"]].values.tolist() == [[3, 3, "dead"]]


def test_a_search_that_runs_is_pending_in_part(uri):
    runs = attach("runs", db=uri)
    assert runs.to_frame()["state"].tolist() == ["pending"] * 3
    splits = runs.to_frame("split")
    assert splits["state"].tolist() == ["running", "queued", "queued"]
    assert splits["worker"].tolist() == ["a worker", None, None]
    assert splits["began"].notna().tolist() == [True, False, False]
    attempts = runs.to_frame("attempt")
    assert attempts["state"].tolist() == ["running"]
    assert attempts["ended"].isna().all()


def test_a_removed_search_has_empty_tables(searches):
    for level in LEVELS:
        assert len(searches["gone"].to_frame(level)) == 0
    empty = searches["gone"].errors()
    assert len(empty) == 0
    assert list(empty) == list(searches["function"].errors())


def test_an_unknown_level_is_refused(searches):
    with pytest.raises(ValueError, match="one of 'candidate', 'split', 'attempt', not 'unit'"):
        searches["done"].to_frame("unit")


def test_params_are_those_that_this_search_asked_for(uri):
    """Also where another search has queued the same units in its own words."""
    first = MongoSearchCV(SVC(gamma=0.1), {"C": [1, 2]}, cv=2, db=uri, name="shorter").fit(X, Y)
    grid = {"C": [1, 2], "gamma": [0.1]}
    second = MongoSearchCV(SVC(), grid, cv=2, db=uri, name="longer").fit(X, Y)
    assert second.summary_.stored == 4
    assert [name for name in first.to_frame() if "param" in name] == ["param_C"]
    assert second.to_frame()["param_gamma"].tolist() == [0.1, 0.1]


def test_drawn_candidates_show_plain_numbers(uri):
    space = {"C": loguniform(0.1, 1), "kernel": [np.str_("rbf")], "degree": np.array([2, 3])}
    drawn = MongoSearchCV(SVC(), space, n_iter=2, random_state=0, cv=2, db=uri, name="drawn")
    drawn.fit(X, Y)
    frame = drawn.to_frame()
    assert frame["param_C"].dtype == np.float64
    assert frame["param_degree"].dtype == np.int64
    assert [type(value) for value in frame["param_kernel"]] == [str, str]
    space = attach("drawn", db=uri).record()["space"]
    assert "loguniform(0.1, 1)" in space
    assert "np." not in space
    assert "np." not in drawn._repr_html_().split("optomatic-search")[1]
    assert repr(drawn.summary_) == str(drawn.summary_)
    assert repr(drawn.summary_).startswith("4 units: ")


# Errors


def test_failures_of_one_kind_are_one_row(searches):
    errors = searches["function"].errors()
    assert errors["count"].tolist() == [2, 1]
    assert errors["stage"].tolist() == ["score", "given up"]
    failed, dead = errors.iloc[0], errors.iloc[1]
    assert failed["type"] == "builtins.ValueError"
    assert failed["text"].startswith("3 is too much at 0x")
    assert "in troubled" in failed["traceback"]
    assert failed["params"] == [{"x": 3}, {"x": 4}]
    assert (failed["splits"], len(failed["hosts"]), len(failed["workers"])) == ([0], 1, 1)
    assert "killed the process that scored it 3 times" in dead["text"]
    assert dead["params"] == [{"x": 13}]
    assert dead["hosts"]


def test_failures_of_a_fit_are_counted_by_units(searches):
    errors = searches["done"].errors()
    assert errors["count"].tolist() == [6]
    assert errors["stage"].tolist() == ["fit"]
    assert errors["splits"].tolist() == [[0, 1, 2]]
    assert [params["svc__C"] for params in errors["params"][0]] == [-1, -1]


def test_records_that_were_set_aside_are_named(uri, database):
    changed = search(uri, name="changed")
    with open_store(uri) as store:
        own = {"_id": {"$in": store.searches.unit_ids(changed.search_id_)}}
    unit = database["units"].find_one({**own, "params.svc__C": 1, "params.svc__gamma": 0.1})
    database["units"].update_one({"_id": unit["_id"]}, {"$set": {"result.test": 0.123}})
    changed.to_frame()  # whoever reads it sets it aside
    errors = changed.errors().set_index("stage")
    assert errors.loc["set aside", "count"] == 1
    assert "does not match its checksum" in errors.loc["set aside", "text"]
    assert errors.loc["set aside", "params"] == [{"svc__C": 1, "svc__gamma": 0.1}]
    assert "missing" in set(changed.to_frame("split")["state"])
    assert any(finding.kind == "set aside" for finding in changed.explain().findings)
    search(uri)  # scores it again


# HTML


@pytest.mark.parametrize("name", ["done", "raced", "halved", "function", "runs", "abandoned"])
def test_the_html_shows_state_and_units(uri, searches, name):
    html = attach(name, db=uri)._repr_html_()
    assert f">{name}<" in html
    assert "<svg" in html
    assert "<script" not in html
    state = {"runs": "left: 0 of", "abandoned": "abandoned: 0 of"}.get(name, "completed: ")
    assert state in html


def test_the_html_of_a_fitted_search_stands_below_the_diagram(searches):
    done, ours = searches["done"], "optomatic-search"
    theirs = "sk-top-container"
    for html in (done._repr_html_(), done._repr_mimebundle_()["text/html"]):
        assert html.count(ours) == 1
        assert html.index(theirs) < html.index(ours)
        assert "best: " in html
    assert ours in searches["halved"]._repr_html_()
    assert ours in searches["function"]._repr_html_()
    assert "not in the database" in searches["gone"]._repr_html_()
    set_config(display="text")
    try:
        assert not hasattr(done, "_repr_html_")
        assert "text/html" not in done._repr_mimebundle_()
    finally:
        set_config(display="diagram")


def test_the_html_of_a_search_that_is_not_fitted_is_scikit_learns():
    html = MongoSearchCV(MODEL, GRID)._repr_html_()
    assert "optomatic-search" not in html
    assert MongoSearch(functions.parabola, {"x": [1]})._repr_html_() is None


def test_the_html_of_a_large_search_is_cut(uri):
    MongoSearch(functions.parabola, {"x": range(300)}, db=uri, name="large").submit()
    html = attach("large", db=uri)._repr_html_()
    assert "100 more candidates" in html
    assert "x=199" in html
    assert "x=200" not in html


def test_the_html_says_soon_and_without_password_that_the_store_is_away(uri):
    fitted = search(uri)
    fitted.db = f"mongodb://ann:secret@127.0.0.1:{servers.free_port()}/iris"
    began = time.monotonic()
    html = fitted._repr_html_()
    assert time.monotonic() - began < 20.0  # 2 s, but on a busy machine
    assert "cannot be read now (StoreUnavailable" in html
    assert "secret" not in html


# Where the database is


def test_tables_need_a_fitted_search():
    for held in (MongoSearchCV(MODEL, GRID), MongoSearch(functions.parabola, {"x": [1]})):
        for look in (held.to_frame, held.errors, held.explain, held.remove):
            with pytest.raises(NotFittedError):
                look()


def test_a_search_that_was_unpickled_is_looked_at_by_variable_or_db(uri, searches, monkeypatch):
    done = searches["done"]
    again = pickle.loads(pickle.dumps(done))
    pd.testing.assert_frame_equal(again.to_frame(), done.to_frame())
    again.db = None
    monkeypatch.setenv("OPTOMATIC_DB", uri)
    pd.testing.assert_frame_equal(again.to_frame(), done.to_frame())
    monkeypatch.delenv("OPTOMATIC_DB")
    pd.testing.assert_frame_equal(again.set_params(db=uri).to_frame(), done.to_frame())


def test_a_fitted_search_removes_itself(uri):
    made = MongoSearch(functions.parabola, {"x": [1041, 1042]}, db=uri, name="to remove").run()
    assert made.remove(dry_run=True).units == 2
    assert made.remove().searches == 1
    assert len(made.to_frame()) == 0
