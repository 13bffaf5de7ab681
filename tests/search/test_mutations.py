"""Stored documents that were changed at random are served right, scored again, or told of.

Each mutation has a number, which decides who reads the document and when it is changed, and is
one test.  OPTOMATIC_EXAMPLES says how many there are, 60 without it, OPTOMATIC_SEED what is drawn.
A table follows where they are given: ``OPTOMATIC_EXAMPLES=1500 OPTOMATIC_SEED=7 pytest -n 0
tests/search/test_mutations.py``.  One of them alone, number 123: the same with ``-k 0123``.
"""

import logging
import math
import os
import random
import time

import pytest
from mutating.arena import Arena
from mutating.mutator import KINDS, draw
from mutating.scenarios import SCENARIOS, run, scenario_of
from mutating.table import table_of
from pymongo import MongoClient

EXAMPLES = int(os.environ.get("OPTOMATIC_EXAMPLES", "60"))
SEED = int(os.environ.get("OPTOMATIC_SEED", "1"))
#: Read before the environment of tests is cleaned.
TABLE = "OPTOMATIC_EXAMPLES" in os.environ


@pytest.fixture(scope="module")
def arena(one_node, tmp_path_factory):
    """One database and one standalone worker that outlive all mutations."""
    arena = Arena(one_node, tmp_path_factory.mktemp("arena"))
    with pytest.MonkeyPatch.context() as patch:
        if not TABLE:  # here what waits says why, and mends what it can, sooner than for users
            patch.setattr("optomatic.worker.missing_workers.LONELY_SECONDS", 2.0)
            patch.setattr("optomatic.joblib_backend.client.LONELY_SECONDS", 2.0)
        yield arena
    arena.close()


@pytest.fixture(scope="module")
def reports(request):
    reports = []
    yield reports
    if TABLE:
        with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
            print(f"\n{table_of(reports)}")


@pytest.mark.parametrize(
    "number", range(EXAMPLES), ids=lambda n: f"{n:04}-{scenario_of(n)}".replace(" ", "_")
)
def test_a_changed_document_ends_no_search_and_no_worker(arena, reports, number):
    report = run(arena, SEED, number)
    reports.append(report)
    if report.faults:
        pytest.fail(str(report), pytrace=False)


# The mutations themselves


def _sample():
    return {
        "_id": "u1:00:11",
        "v": 1,
        "state": "completed",
        "wanted_by": ["a search", "another"],
        "result": {"test": [["loss", 0.5], ["gain", 1.5]], "train": None, "fit_time": 0.1},
        "data": b"some bytes",
    }


def _shown(documents):
    """Show them with NaN equal to itself, whatever their order."""
    return sorted(repr(sorted(document.items())) for document in documents)


def test_mutations_depend_on_the_seed_alone():
    def drawn():
        return [str(draw(random.Random(n), "units", [_sample()], "s")) for n in range(300)]

    assert drawn() == drawn()
    assert len(set(drawn())) > 100


def test_every_kind_of_mutation_is_written_and_put_right(uri):
    with MongoClient(uri) as client:
        database = client.get_default_database()
        kinds = set()
        for n in range(300):
            mutation = draw(random.Random(n), "units", [_sample()], "s")
            database["units"].replace_one({"_id": _sample()["_id"]}, _sample(), upsert=True)
            mutation.apply(database)
            expected = mutation.after if mutation.before else [_sample(), *mutation.after]
            assert _shown(database["units"].find()) == _shown(expected), str(mutation)
            mutation.undo(database)
            assert list(database["units"].find()) == [_sample()], str(mutation)
            kinds.add(mutation.kind)
        assert kinds == set(KINDS)


@pytest.mark.parametrize(
    ("comes", "fault"),
    [
        (lambda: {"one": 1.0}, None),
        (lambda: {"one": 2.0}, "wrong"),
        (lambda: {"one": math.nan}, "wrong"),
        (dict, "wrong"),
        (lambda: {}["one"], "raw"),
        (lambda: float("one"), "raw"),
        (lambda: time.sleep(3.0) or {"one": 1.0}, "hang"),
        (lambda: logging.getLogger("optomatic.x").error("a fault") or {"one": 1.0}, "raw"),
    ],
)
def test_the_verdict(arena, monkeypatch, comes, fault):
    monkeypatch.setattr("mutating.trial.LIMIT", 1.0)

    def scenario(trial):
        trial.fit([1.0])
        trial.mutate()
        trial.start_beside = lambda: None
        trial.expect({"one": 1.0}, comes)

    monkeypatch.setitem(SCENARIOS, scenario_of(0), scenario)
    report = run(arena, 1, 0)
    assert [kind for kind, _ in report.faults] == ([fault] if fault else [])
