"""Stored documents that were changed at random are served right, scored again, or told of.

Each mutation has a number, which decides who reads the document and when it is changed, and is
one test.  OPTOMATIC_EXAMPLES says how many there are, 60 without it, OPTOMATIC_SEED what is drawn.
A table follows where they are given: ``OPTOMATIC_EXAMPLES=1500 OPTOMATIC_SEED=7 pytest -n 0
tests/search/test_mutations.py``.  One of them alone, number 123: the same with ``-k 0123``.
"""

import os

import pytest
from mutating.arena import Arena
from mutating.scenarios import run, scenario_of
from mutating.table import table_of

EXAMPLES = int(os.environ.get("OPTOMATIC_EXAMPLES", "60"))
SEED = int(os.environ.get("OPTOMATIC_SEED", "1"))
#: Read before the environment of tests is cleaned.
TABLE = "OPTOMATIC_EXAMPLES" in os.environ


@pytest.fixture(scope="module")
def arena(one_node, tmp_path_factory):
    """One database and one standalone worker that outlive all mutations."""
    arena = Arena(one_node, tmp_path_factory.mktemp("arena"))
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
def test_a_changed_document_harms_nobody(arena, reports, number):
    report = run(arena, SEED, number)
    reports.append(report)
    if report.faults:
        pytest.fail(str(report), pytrace=False)
