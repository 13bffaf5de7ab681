"""What a short unit costs, counted in commands, documents and bytes; benchmarks/ measure time."""

from collections import Counter

import bson
import numpy as np
import pytest
from estimators import Sleeper
from pymongo import monitoring

from optomatic import MongoSearchCV
from optomatic.worker import batching, inprocess, reservations

UNITS = 2000
X, Y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2


class Costs(monitoring.CommandListener):
    """Counts what any client of this process sends."""

    def __init__(self):
        self.forget()

    def forget(self):
        self.commands, self.written, self.bytes = Counter(), Counter(), 0

    def started(self, event):
        name, command = event.command_name, event.command
        collection = str(command.get(name))
        self.commands[name] += 1
        self.bytes += len(bson.encode(command))
        for of, field in (("insert", "documents"), ("update", "updates"), ("delete", "deletes")):
            if name == of:
                self.written[collection, of] += len(command[field])

    def succeeded(self, event):
        pass

    def failed(self, event):
        pass


COSTS = Costs()
monitoring.register(COSTS)


@pytest.fixture(autouse=True)
def no_clock(monkeypatch):
    """Nothing depends on how fast this machine is."""
    for module, names in (
        (batching, ("BATCH_SECONDS", "CHUNK_SECONDS")),
        (inprocess, ("HAND_IN_SECONDS",)),
        (reservations, ("OLD",)),
    ):
        for name in names:
            monkeypatch.setattr(module, name, 1e6)
    monkeypatch.setattr(batching.BatchSizing.__init__, "__defaults__", (1e6,))


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_a_short_unit_costs_a_fifteenth_of_a_command_and_one_document(uri, n_jobs):
    fixed = {"cv": 2, "refit": False, "db": uri, "n_jobs": n_jobs}
    MongoSearchCV(Sleeper(), {"value": [-1]}, **fixed).fit(X, Y)  # children are ready
    search = MongoSearchCV(Sleeper(), {"value": list(range(UNITS // 2))}, **fixed)
    COSTS.forget()
    search.fit(X, Y)
    assert search.summary_.scored == UNITS
    # How often it looks for more depends on how long the last units take.
    looks = COSTS.commands.pop("find")
    assert n_jobs or looks <= UNITS / 20
    assert COSTS.commands.total() <= UNITS / 15
    # A document for each result; units wait in batches, some of the first by themselves.
    assert UNITS <= COSTS.written["units", "insert"] <= 1.05 * UNITS
    assert COSTS.written["units", "update"] <= UNITS / 40
    assert COSTS.bytes <= 3000 * UNITS


def test_objects_are_pickled_once_however_many_units_there_are(uri):
    sizes = []
    for units in (200, UNITS):
        COSTS.forget()
        MongoSearchCV(
            Sleeper(seconds=1e-9 * units),
            {"value": list(range(units // 2))},
            cv=2,
            refit=False,
            db=uri,
        ).fit(X, Y)
        sizes.append(COSTS.written["bundles", "insert"] + COSTS.written["bundle_chunks", "insert"])
    assert sizes[0] == sizes[1]
