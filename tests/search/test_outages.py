"""The server is killed in the middle of a fit: the fit goes on by itself, and nothing is lost."""

import secrets
import threading

import numpy as np
import pytest
import servers
from estimators import Sleeper
from pymongo import MongoClient
from waiting import wait_for

from optomatic import MongoSearchCV

X, Y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2
N_CANDIDATES = 20


def fit_while(uri, disturb, n_jobs):
    """Fit, and call `disturb` once some units are stored; return the search and the documents."""
    with MongoClient(uri) as client:
        units = client.get_default_database()["units"]

        def in_the_middle():
            wait_for(lambda: units.count_documents({"state": "completed"}) >= 8)
            disturb()

        disturber = threading.Thread(target=in_the_middle)
        disturber.start()
        grid = {"value": list(range(N_CANDIDATES))}
        search = MongoSearchCV(Sleeper(seconds=0.1), grid, cv=2, n_jobs=n_jobs, db=uri).fit(X, Y)
        disturber.join()
        return search, list(units.find())


def assert_whole(search, documents):
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], np.arange(N_CANDIDATES))
    assert {unit["state"] for unit in documents} == {"completed"}
    assert {unit["losses"] for unit in documents} == {0}
    assert sum(unit["runs"] for unit in documents) == 2 * N_CANDIDATES


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_the_primary_is_killed_in_mid_fit(three_nodes, n_jobs):
    victims = []

    def kill_the_primary():
        victims.append(three_nodes.primary())
        victims[0].kill()

    try:
        uri = three_nodes.uri(f"killed{secrets.token_hex(4)}")
        assert_whole(*fit_while(uri, kill_the_primary, n_jobs))
    finally:
        for victim in victims:
            victim.start()
        three_nodes.primary()
    assert victims


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_a_single_server_is_killed_and_started_again(mongod, n_jobs):
    server = servers.standalone()

    def restart():
        server.members[0].kill()
        server.members[0].start()

    try:
        assert_whole(*fit_while(server.uri("restarted"), restart, n_jobs))
    finally:
        server.remove()
