"""A soak: the server is away for ten minutes while a standalone worker has units to score.

Prints what the worker logged, and whether anything was lost, charged or run twice.

Run it with ``python benchmarks/outage.py [--minutes 10]``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

TESTS = Path(__file__).parents[1] / "tests"
sys.path.insert(0, str(TESTS))
import servers
from estimators import Sleeper
from pymongo import MongoClient
from waiting import wait_for

from optomatic import MongoSearchCV


def main() -> None:
    """Run it and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="of the outage (10)")
    minutes = parser.parse_args().minutes
    server = servers.replica_set(1)
    with tempfile.TemporaryFile("w+") as log:
        try:
            soak(server, minutes, log)
        finally:
            server.remove()
            log.seek(0)
            print(log.read())


def soak(server, minutes, log) -> None:
    """Have 200 units scored by a worker that loses its server in the middle."""
    uri = server.uri("outage")
    path = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    command = [sys.executable, "-m", "optomatic.worker", "--db", uri, "--processes", "2"]
    worker = subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": path}, stdout=log, stderr=log
    )
    try:
        client = threading.Thread(target=submit, args=(uri,), daemon=True)
        client.start()
        with MongoClient(uri) as database:
            units = database.get_default_database()["units"]
            wait_for(lambda: units.count_documents({"state": "completed"}) >= 40, worker, 120.0)
        server.members[0].kill()
        print(f"the server is away for {minutes:g} minutes", flush=True)
        time.sleep(60 * minutes)
        server.members[0].start()
        with MongoClient(uri) as database:
            units = database.get_default_database()["units"]
            back = time.monotonic()
            done = units.count_documents({"state": "completed"})
            wait_for(lambda: units.count_documents({"state": "completed"}) > done, worker, 120.0)
            print(f"the next score came {time.monotonic() - back:.1f} s after it was back")
            wait_for(lambda: units.count_documents({"state": "completed"}) == 200, worker, 120.0)
            found = list(units.find())
        print(f"units: {len(found)}, lost: {sum(u['losses'] for u in found)}", end=", ")
        print(f"run twice: {sum(u['runs'] > 1 for u in found)}")
    finally:
        worker.terminate()
        worker.wait()


def submit(uri: str) -> None:
    """Fit; the client gives up after a minute, its units stay queued for workers."""
    X, y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2
    grid = {"value": list(range(100))}
    try:
        MongoSearchCV(Sleeper(seconds=0.2), grid, cv=2, n_jobs=0, db=uri, refit=False).fit(X, y)
    except Exception as error:
        print(f"the client says: {type(error).__name__}: {str(error)[:200]}")


if __name__ == "__main__":
    main()
