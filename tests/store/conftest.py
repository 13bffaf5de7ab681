"""A store on each kind of server, and a look at the documents behind it."""

import pytest
from pymongo import MongoClient
from store.units import SHORT

from optomatic.store.connection import open_store


class Bench:
    """An open store with short leases, and its database."""

    def __init__(self, uri):
        self.uri = uri
        self.store = open_store(uri, timing=SHORT)
        self.jobs, self.claims = self.store.jobs, self.store.claims
        self.client = MongoClient(uri)
        self.database = self.client.get_default_database()
        self.units = self.database["units"]

    def document(self, unit):
        return self.units.find_one({"_id": unit.id})

    def states(self):
        return {document["_id"]: document["state"] for document in self.units.find()}

    def close(self):
        self.store.close()
        self.client.close()


def _opened(uri):
    bench = Bench(uri)
    yield bench
    bench.close()


@pytest.fixture
def bench(any_uri):
    """A store on a standalone server, a replica set of one and one of three, in turn."""
    yield from _opened(any_uri)


@pytest.fixture
def one_bench(uri):
    """A store on a replica set of one, whose client looks at once when it is said to be gone.

    A server that really goes says so; one whose commands fail by a fail point is believed in
    again with its next heartbeat, which takes ten seconds otherwise.
    """
    yield from _opened(f"{uri}&serverMonitoringMode=poll&heartbeatFrequencyMS=500")
