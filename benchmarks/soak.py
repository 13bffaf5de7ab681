"""Real workers on a real MongoDB while both are killed at random: what is lost, what runs twice.

Fits follow each other and leave all units to standalone workers.  Meanwhile, at random moments,
a worker is killed (and another started), told to end, or stopped for longer than its lease, or
the server is killed and started again.  Each worker writes down, outside of the database,
which results the server has acknowledged to it.  At the end the database must have each of
them as it was acknowledged, each unit must have been recorded once, and every fit must have
got the right scores.

Run it with ``python benchmarks/soak.py [--minutes M] [--workers N] [--seed S]``; exit code 1 if
anything was lost or recorded twice.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from pymongo import MongoClient, monitoring

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import servers
from estimators import Sleeper

from optomatic import MongoSearchCV
from optomatic.worker.__main__ import main as worker_main

LEASE = 2.0
#: What happens in each round, in random order, after a random time each.
EVENTS = ("kill", "kill", "end", "stop", "server")
PAUSE = (0.2, 1.2)
CANDIDATES, SPLITS = 10, 5
X, Y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2


# -- in a worker ---------------------------------------------------------------------------


class Acknowledged(monitoring.CommandListener):
    """Appends to a file which results the server has taken from this process, for good."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._sent: dict[int, list[str]] = {}

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        """Remember which results are sent, by whom."""
        if event.command_name == "update":
            sent = [_completion(one) for one in event.command["updates"]]
            if all(sent):
                self._sent[event.request_id] = [one for one in sent if one]

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Write down what was taken: all, or it is not known which."""
        sent = self._sent.pop(event.request_id, [])
        if event.reply.get("n") == len(sent) and "writeConcernError" not in event.reply:
            os.write(self._file, "".join(sent).encode())

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Forget: nothing was acknowledged."""
        self._sent.pop(event.request_id, None)


def _completion(update: Any) -> str | None:
    """Return the line "unit worker" if `update` completes a unit."""
    change = update["u"][0]["$set"] if isinstance(update["u"], list) else {}
    if change.get("state") != "completed":
        return None
    return f"{update['q']['_id']} {change['completed_by']['$literal']}\n"


# -- beside them ---------------------------------------------------------------------------


class Workers:
    """Real workers, and what is done to them."""

    def __init__(self, uri: str, folder: Path, count: int, rng: random.Random) -> None:
        self._uri = uri
        self._folder = folder
        self._rng = rng
        self._number = itertools.count()
        self._running: dict[subprocess.Popen[bytes], Path] = {}
        for _ in range(count):
            self.start()

    def start(self) -> None:
        """Start one more."""
        notes = self._folder / f"acknowledged.{next(self._number)}"
        process = subprocess.Popen(
            [sys.executable, __file__, "--be-a-worker", str(notes)],
            env={
                **os.environ,
                "OPTOMATIC_DB": self._uri,
                "OPTOMATIC_LEASE": str(LEASE),
                "OPTOMATIC_GRACE": "0.5",
                "OPTOMATIC_HOME": str(self._folder),
                "PYTHONPATH": os.pathsep.join(sys.path),
            },
            stdout=subprocess.DEVNULL,
            stderr=(self._folder / "log").open("ab"),
        )
        self._running[process] = notes

    def victim(self) -> subprocess.Popen[bytes]:
        """Return one that has handed in something; waits until there is one."""
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            ready = [p for p, notes in self._running.items() if _has_something(notes)]
            if ready:
                return self._rng.choice(ready)
            time.sleep(0.05)
        raise RuntimeError(f"no worker does anything: {(self._folder / 'log').read_text()[-4000:]}")

    def kill(self, victim: subprocess.Popen[bytes]) -> None:
        """End it without a chance to tidy up."""
        self._replace(victim, signal.SIGKILL)

    def end(self, victim: subprocess.Popen[bytes]) -> None:
        """End it in good order."""
        self._replace(victim, signal.SIGTERM)

    def _replace(self, victim: subprocess.Popen[bytes], number: int) -> None:
        del self._running[victim]
        victim.send_signal(number)
        self.start()
        victim.wait()

    def stop(self, victim: subprocess.Popen[bytes]) -> None:
        """Let it stand still, with its children or alone, for longer than its lease."""
        supervisor = psutil.Process(victim.pid)
        children = supervisor.children(recursive=True)
        stopped = [supervisor, *(children if self._rng.random() < 0.5 else ())]
        for number in (signal.SIGSTOP, signal.SIGCONT):
            for process in stopped:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(number)
            if number == signal.SIGSTOP:
                time.sleep(1.5 * LEASE)

    def close(self) -> None:
        """End all."""
        for process in self._running:
            process.terminate()
        for process in self._running:
            process.wait()


def _has_something(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


class Fits(threading.Thread):
    """Fits one search after another until `over`; `wrong` are those with a wrong score."""

    def __init__(self, uri: str) -> None:
        super().__init__(name="fits")
        self._uri = uri
        self.over = threading.Event()
        self.done = self.wrong = 0
        self.error: BaseException | None = None

    def run(self) -> None:
        """Fit, each time with values that were not there before."""
        warnings.simplefilter("ignore")
        try:
            while not self.over.is_set():
                self._fit(range(self.done * CANDIDATES, (self.done + 1) * CANDIDATES))
                self.done += 1
        except Exception as error:
            self.error = error

    def _fit(self, values: range) -> None:
        fixed: dict[str, Any] = {"cv": SPLITS, "n_jobs": 0, "refit": False, "db": self._uri}
        search = MongoSearchCV(Sleeper(seconds=0.05), {"value": list(values)}, **fixed).fit(X, Y)
        scores = search.cv_results_["mean_test_score"]
        self.wrong += not all(np.isnan(scores) | (scores == np.array(values)))


def disturb(
    workers: Workers, server: servers.Topology, seconds: float, rng: random.Random
) -> Counter[str]:
    """Kill this and that for so long, in whole rounds; return how often what was done."""
    done: Counter[str] = Counter()
    end = time.monotonic() + seconds
    while not done or time.monotonic() < end:
        for event in rng.sample(EVENTS, len(EVENTS)):
            time.sleep(rng.uniform(*PAUSE))
            if event == "server":
                server.members[0].kill()
                time.sleep(rng.uniform(0, 1))
                server.members[0].start()
            else:
                getattr(workers, event)(workers.victim())
            done[event] += 1
    return done


# -- the end -------------------------------------------------------------------------------


def judge(uri: str, folder: Path) -> dict[str, float]:
    """Compare what was acknowledged with what is stored."""
    notes = [path.read_text().splitlines() for path in folder.glob("acknowledged.*")]
    told = [line.split() for lines in notes for line in lines]
    times = Counter(unit_id for unit_id, _ in told)
    with MongoClient(uri) as client:
        units = {unit["_id"]: unit for unit in client.get_default_database()["units"].find()}
    kept = {(unit["_id"], unit["completed_by"]) for unit in units.values() if unit["result"]}
    runs = sum(unit["runs"] for unit in units.values())
    states = Counter(unit["state"] for unit in units.values())
    return {
        "units": len(units),
        "completed": states["completed"],
        "given up": states["dead"],
        "without an end": len(units) - states["completed"] - states["dead"],
        "acknowledged": len(told),
        "acknowledged and lost": sum(tuple(one) not in kept for one in told),
        "recorded twice": sum(count > 1 for count in times.values()),
        "repeated executions": runs - len(units),
    }


def soak(asked: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Run it all; return the counts."""
    rng = random.Random(asked.seed)
    server = servers.replica_set(1)
    uri = server.uri("soak")
    try:
        workers, fits = Workers(uri, folder, asked.workers, rng), Fits(uri)
        fits.start()
        done = disturb(workers, server, 60 * asked.minutes, rng)
        fits.over.set()
        fits.join()
        workers.close()
        counts = judge(uri, folder)
    finally:
        server.remove()
    if fits.error is not None:
        raise fits.error
    return {
        "workers killed": done["kill"],
        "workers told to end": done["end"],
        "workers stopped beyond their leases": done["stop"],
        "servers killed": done["server"],
        "fits": fits.done,
        "fits with a wrong score": fits.wrong,
        **counts,
    }


def main() -> int:
    """Soak, and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=5.0, help="0: one round (default 5)")
    parser.add_argument("--workers", type=int, default=3, help="at the same time (default 3)")
    parser.add_argument("--seed", type=int, default=None, help="of the random moments")
    parser.add_argument("--be-a-worker", metavar="NOTES", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.be_a_worker:
        monitoring.register(Acknowledged(asked.be_a_worker))
        return worker_main([])
    os.environ["OPTOMATIC_LEASE"] = str(LEASE)
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        counts = soak(asked, Path(folder))
    for name, count in counts.items():
        print(f"{name}: {count:,}")
    bad = ("fits with a wrong score", "without an end", "acknowledged and lost", "recorded twice")
    return int(any(counts[name] for name in bad))


if __name__ == "__main__":
    sys.exit(main())
