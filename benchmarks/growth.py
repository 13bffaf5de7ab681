"""What equal fits add to the database: bytes of the first one, and of each after it.

All units of the later ones are stored, so they score nothing.  Bytes are BSON sizes: MongoDB
compresses them on disk.  At the end the searches are removed.

Run it with ``python benchmarks/growth.py [--units N] [--fits F] [--db URI]``; the database is
one of its own, and is dropped.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from pymongo import MongoClient
from sklearn.base import BaseEstimator, ClassifierMixin

from optomatic import MongoSearchCV, remove
from optomatic.embedded.server import serve

N_SPLITS = 5
#: Workers of this process come and go.
NOT_COUNTED = ("workers",)


class Dummy(ClassifierMixin, BaseEstimator):
    """Learns nothing; its score is its parameter."""

    def __init__(self, value: int = 0) -> None:
        self.value = value

    def fit(self, X, y):
        return self

    def score(self, X, y):
        return float(self.value % 7)


def sizes(database) -> dict[str, int]:
    """Return the bytes of documents by collection."""
    total = [{"$group": {"_id": None, "bytes": {"$sum": {"$bsonSize": "$$ROOT"}}}}]
    names = sorted(set(database.list_collection_names()).difference(NOT_COUNTED))
    return {name: sum(d["bytes"] for d in database[name].aggregate(total)) for name in names}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--units", type=int, default=1000, help="units (default 1,000)")
    parser.add_argument("--fits", type=int, default=500, help="equal fits (default 500)")
    parser.add_argument("--db", help="server (default: the private one)")
    chosen = parser.parse_args()
    with MongoClient(chosen.db or serve()) as client:
        name = f"growth{time.time_ns()}"
        base = client.get_default_database("optomatic").name
        uri = (chosen.db or serve()).replace(f"/{base}", f"/{name}")
        database = client[name]
        X, y = np.random.default_rng(0).random((50, 2)), np.arange(50) % 2
        grid = {"value": list(range(chosen.units // N_SPLITS))}
        seen = [{}]
        for n in range(chosen.fits):
            MongoSearchCV(Dummy(), grid, cv=N_SPLITS, refit=False, db=uri).fit(X, y)
            if n in (0, chosen.fits - 1):
                seen.append(sizes(database))
        _, first, last = seen
        print(f"{chosen.units:,} units, {chosen.fits} equal fits")
        print(f"after the first: {sum(first.values()):,} bytes")
        print(f"after the last: {sum(last.values()):,} bytes")
        more = {n: last[n] - first.get(n, 0) for n in last if last[n] != first.get(n, 0)}
        each = ", ".join(f"{size / (chosen.fits - 1):,.0f} in {n}" for n, size in more.items())
        print(f"each after the first: {each}")
        began = time.perf_counter()
        print(remove(older_than=0, db=uri), f"in {time.perf_counter() - began:.2f} s")
        print(f"left: {sum(sizes(database).values()):,} bytes")
        client.drop_database(name)


if __name__ == "__main__":
    main()
