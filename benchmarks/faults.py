"""What user code does to its process, ten times and more each: what it costs, how soon it is told.

Each fault is injected into units of a standalone worker with two children, among units that
have nothing to do with it.  Prints how often it struck, the losses of the neighbours, the
longest time until the worker's log named child, unit and signal, and until a new child ran.

Run it with ``python benchmarks/faults.py``.
"""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from datetime import datetime
from pathlib import Path

import numpy as np

TESTS = Path(__file__).parents[1] / "tests"
sys.path.insert(0, str(TESTS))
import servers
from estimators import Glutton, Misbehaver
from pymongo import MongoClient

from optomatic import MongoSearchCV

FATAL = {
    "crash": "segmentation fault",
    "die": "SIGKILL, as for want of memory",
    "abort": "abort()",
    "quit": "os._exit",
    "close_everything": "all descriptors closed",
}
HARMLESS = {
    "print_gigabytes": "1 GB printed",
    "close_output": "stdout and stderr closed",
    "fork": "forks, and both go on",
    "fork_and_stay": "forks, and the copy stays",
}


class Printer(Misbehaver):
    """Prints a gigabyte."""

    def _print_gigabytes(self):
        for _ in range(1000):
            os.write(1, b"x" * 1_000_000)


def inject(uri: str, how: str, poison: list[int], kind: type = Printer, **options) -> str:
    """Have poisoned and other units scored by a worker; return what came of it."""
    X, y = np.random.default_rng(secrets.randbits(64)).random((20, 2)), np.arange(20) % 2
    values = [*poison, *range(100, 120)]
    with tempfile.TemporaryDirectory() as folder, open(f"{folder}/log", "w+b") as log:
        estimator = kind(how=how, seconds=0.005, note=f"{folder}/note")
        options = {"cv": 2, "db": uri, "refit": False, "error_score": -1.0, **options}
        search = MongoSearchCV(estimator, {"value": values}, n_jobs=0, **options)
        client = threading.Thread(target=search.fit, args=(X, y))
        client.start()
        path = os.pathsep.join([str(TESTS), str(TESTS.parent)])
        worker = subprocess.Popen(
            [sys.executable, "-m", "optomatic.worker", "--db", uri, "--processes", "2"],
            env={**os.environ, "PYTHONPATH": path},
            stdout=log,
            stderr=log,
        )
        client.join()
        worker.terminate()
        worker.wait()
        log.seek(0)
        return _outcome(
            uri, Path(folder, "note").read_text(), log.read().decode("ascii", "replace")
        )


def _outcome(uri: str, note: str, log: str) -> str:
    runs = [line.split() for line in note.splitlines()]
    faults = {int(pid): float(at) for pid, value, at in runs if int(value) < 0}
    count = sum(int(value) < 0 for _, value, _ in runs)
    named = re.findall(
        r"(\S+ \S+) WARNING child (\d+) (?:ended by \S+|is ended).* unit u1:\w+", log
    )
    waits = [
        datetime.strptime(at, "%Y-%m-%d %H:%M:%S,%f").timestamp() - faults[int(pid)]
        for at, pid in named
        if int(pid) in faults
    ]
    with MongoClient(uri) as client:
        units = client.get_default_database()["units"]
        others = units.find({"params.value": {"$gte": 100}})
        losses = sum(unit["losses"] for unit in others)
        units.delete_many({})
    said = f"named {len(waits)} times, after {max(waits):.2f} s at most" if waits else "no crash"
    return f"{count} times, losses of 40 neighbours {losses}, {said}, log of {len(log)} bytes"


def main() -> None:
    """Inject all and print a line each."""
    server = servers.replica_set(1)
    uri = server.uri("faults")
    try:
        for how, what in FATAL.items():
            print(f"{what}: {inject(uri, how, [-1, -2])}", flush=True)
        for how, what in HARMLESS.items():
            print(f"{what}: {inject(uri, how, [-1, -2, -3, -4, -5])}", flush=True)
        ten = [-1, -2, -3, -4, -5]
        limited = inject(uri, "slowly", ten, kind=Glutton, memory_limit="400MB")
        print(f"memory beyond memory_limit: {limited}", flush=True)
        limited = inject(uri, "hang", ten, fit_timeout=0.5)
        print(f"longer than fit_timeout of 0.5 s: {limited}", flush=True)
    finally:
        server.remove()


if __name__ == "__main__":
    began = time.monotonic()
    main()
    print(f"in {time.monotonic() - began:.0f} s")
