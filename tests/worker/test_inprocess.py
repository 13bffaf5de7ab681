"""Scoring in the calling process: what it holds, and what it is said to have lost."""

import logging

import numpy as np
import pytest
from estimators import Sleeper

from optomatic import MongoSearchCV
from optomatic.records import Timing
from optomatic.store import connection

X, Y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2


@pytest.fixture
def busy_heart(monkeypatch):
    """A heart that beats every 20 ms, so that beats and results cross all the time."""
    timing = Timing(lease=0.06, unstarted=3.0)
    monkeypatch.setattr(connection, "timing_here", lambda: timing)


def test_results_handed_in_during_a_heartbeat_are_not_lost(uri, busy_heart, caplog):
    grid = {"value": list(range(300))}
    with caplog.at_level(logging.INFO, logger="optomatic"):
        search = MongoSearchCV(Sleeper(), grid, cv=2, refit=False, db=uri).fit(X, Y)
    assert search.summary_.scored == 600
    assert [record.getMessage() for record in caplog.records] == []
