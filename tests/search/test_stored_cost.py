"""What reading stored units costs, in commands; time is measured in benchmarks/."""

import numpy as np
import pytest
from estimators import Sleeper
from pymongo import monitoring
from servers import units

from optomatic import MongoSearchCV

N_CANDIDATES, N_SPLITS = 1000, 5
X, Y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2


class Counter(monitoring.CommandListener):
    """Counts what any client of this process sends."""

    def __init__(self):
        self.names = []

    def started(self, event):
        self.names.append(event.command_name)

    def succeeded(self, event):
        pass

    def failed(self, event):
        pass


COUNTER = Counter()
monitoring.register(COUNTER)


@pytest.fixture
def stored(uri):
    """5,000 units with a score, put there without fitting so many estimators."""
    search = MongoSearchCV(
        Sleeper(), {"value": list(range(N_CANDIDATES))}, cv=N_SPLITS, refit=False, db=uri
    )
    search.fit(X, Y)
    return search


def test_5000_stored_units_cost_few_commands(uri, stored):
    assert units(uri).count_documents({}) == 5000
    COUNTER.names.clear()
    again = MongoSearchCV(
        Sleeper(), {"value": list(range(N_CANDIDATES))}, cv=N_SPLITS, refit=False, db=uri
    ).fit(X, Y)
    assert len(COUNTER.names) <= 40 + 3 * 5
    assert (again.summary_.stored, again.summary_.scored) == (5000, 0)
    np.testing.assert_array_equal(
        again.cv_results_["mean_test_score"], np.arange(N_CANDIDATES, dtype=float)
    )
