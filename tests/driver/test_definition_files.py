"""Searches enter their definition file, or say why they cannot, before anything is queued."""

import functions
import numpy as np
import pytest
import servers
from estimators import Sleeper
from sklearn.base import clone

from optomatic import MongoSearch, MongoSearchCV
from optomatic.definition import Definition, path_of, read
from optomatic.errors import DefinitionError, StoreError

X, Y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def documents(uri):
    database = servers.database(uri)
    return sum(database[name].count_documents({}) for name in database.list_collection_names())


def parabola(uri, **options):
    return MongoSearch(functions.parabola, {"x": [1, 2]}, db=uri, **options)


def test_both_searches_enter_it_however_they_are_scored(uri, here, monkeypatch):
    parabola(uri, name="run", definition="sweep").run()
    parabola(uri, name="left", definition=here / "sweep").submit()
    generator = ({"x": x} for x in range(2))
    MongoSearch(functions.parabola, generator, db=uri, name="open", definition="sweep").run()
    fitted = MongoSearchCV(
        Sleeper(), {"value": [1]}, cv=2, db=uri, name="cv", definition="sweep"
    ).fit(X, Y)
    clone(fitted).fit(X, Y)
    assert read(path_of("sweep")) == Definition(uri, ("run", "left", "open", "cv"))
    monkeypatch.setenv("OPTOMATIC_DB", uri)
    parabola(None, name="from the environment", definition="sweep").run()
    assert read(path_of("sweep")).searches[-1] == "from the environment"


@pytest.mark.parametrize("name", [None, ""])
def test_a_search_without_a_name_is_told_to_have_one(uri, here, name):
    with pytest.raises(DefinitionError, match="needs a name"):
        parabola(uri, name=name, definition="sweep").submit()
    with pytest.raises(DefinitionError, match="needs a name"):
        parabola(uri, name=name, definition="sweep").run()
    assert documents(uri) == 0
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "why"),
    [("schema = 1\ndb = 'mongodb://other/iris'", "is of another database"), ("x", "is no TOML")],
)
def test_a_file_that_is_no_use_ends_it_before_anything_is_queued(uri, content, why):
    path_of("sweep").write_text(content)
    search = MongoSearchCV(Sleeper(), {"value": [1]}, db=uri, name="cv", definition="sweep")
    for go in (
        parabola(uri, name="a", definition="sweep").submit,
        parabola(uri, name="a", definition="sweep").run,
        lambda: search.fit(X, Y),
    ):
        with pytest.raises(DefinitionError, match=why):
            go()
    assert documents(uri) == 0
    assert path_of("sweep").read_text() == content


def run_one(**options):
    MongoSearch(**{"function": functions.parabola, "space": {"x": [1]}, **options}).run()


def submit_one(**options):
    MongoSearch(**{"function": functions.parabola, "space": {"x": [1]}, **options}).submit()


def fit_one(**options):
    MongoSearchCV(**{"estimator": Sleeper(), "param_grid": {"value": [1]}, **options}).fit(X, Y)


@pytest.mark.parametrize("go", [run_one, submit_one])
@pytest.mark.parametrize(
    "bad",
    [
        {"space": []},
        {"space": {"x": 3}},
        {"space": {"unknown": [1], "y": [2]}},
        {"space": {"x": [1]}, "warm_start": "unknown"},
        {"time_budget": -1.0},
    ],
    ids=["nothing", "no list", "unknown param", "unknown search", "no budget"],
)
def test_a_function_search_that_is_refused_leaves_no_entry(uri, here, go, bad):
    with pytest.raises((TypeError, ValueError)):
        go(db=uri, name="a", definition="sweep", **bad)
    assert documents(uri) == 0
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    "bad",
    [
        {"param_grid": {"value": 3}},
        {"param_grid": {"unknown": [1]}},
        {"param_grid": {"value": [1]}, "param_distributions": {"value": [1]}},
        {"cv": 1},
        {"cv": 30},
        {"cv": 30, "time_budget": 9.0},
        {"n_no_improve": 0},
        {"warm_start": "unknown"},
        {"warm_start": "unknown", "racing": True},
        {"replay": "unknown"},
        {"param_grid": 3},
    ],
    ids=str,
)
def test_a_fit_that_is_refused_leaves_no_entry(uri, here, bad):
    with pytest.raises((TypeError, ValueError)):
        fit_one(db=uri, name="a", definition="sweep", **bad)
    assert documents(uri) == 0
    assert list(here.iterdir()) == []


def test_an_address_with_a_slip_is_not_written_down(here):
    with pytest.raises(StoreError):
        parabola("mongodb:/host/iris", name="a", definition="sweep").submit()
    assert list(here.iterdir()) == []
