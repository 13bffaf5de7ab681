"""What idle workers cost, and how soon they wake: commands a second, CPU, milliseconds.

Starts a mongod of its own (a replica set of one, as the embedded server is; or, with
``--standalone``, a server that has no change streams) and N standalone workers.  While
they idle, the server counts all commands, those of the driver's own monitoring included.
Then units are submitted now and then, and the server's clock tells when the first is claimed.

Run it with ``python benchmarks/idle.py [--workers 4] [--seconds 60] [--submits 15]``.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import psutil
from pymongo import MongoClient

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import servers
from store.units import some_units

from optomatic.keys.environment import required_versions
from optomatic.records import Work
from optomatic.store.connection import open_store


def start(uri: str, number: int) -> list[subprocess.Popen]:
    """Start workers and wait until they can score."""
    path = os.pathsep.join(
        [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "tests")]
    )
    command = [sys.executable, "-m", "optomatic.worker", "--db", uri]
    environ = {**os.environ, "PYTHONPATH": path}
    workers = [
        subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        for _ in range(number)
    ]
    for worker in workers:
        worker.stdout.readline()
    return workers


def processor(workers: list[subprocess.Popen]) -> float:
    """Return the seconds of processor time that workers and their children have used."""
    trees = [psutil.Process(worker.pid) for worker in workers]
    trees += [child for one in trees.copy() for child in one.children(recursive=True)]
    return sum(sum(one.cpu_times()[:2]) for one in trees)


def silent(address: str) -> MongoClient:
    """Return a client that does not watch its server, as its own commands would be counted."""
    return MongoClient(
        f"mongodb://{address}/?directConnection=true",
        serverMonitoringMode="poll",
        heartbeatFrequencyMS=3_600_000,
    )


def counted(client: MongoClient) -> dict[str, int]:
    """Return how often each command was run on the server so far."""
    commands = client.admin.command("serverStatus")["metrics"]["commands"]
    return {
        name: c["total"] for name, c in commands.items() if isinstance(c, dict) and "total" in c
    }


def cost(client: MongoClient, workers: list[subprocess.Popen], seconds: float) -> None:
    """Print what `workers` cost in `seconds`."""
    before, used = counted(client), processor(workers)
    time.sleep(seconds)
    after = counted(client)
    used = processor(workers) - used
    ran = {n: after[n] - before.get(n, 0) for n in after if after[n] != before.get(n, 0)}
    ran.pop("serverStatus", None)
    parts = ", ".join(f"{name} {n}" for name, n in sorted(ran.items(), key=lambda one: -one[1]))
    print(f"{len(workers)} idle workers for {seconds:.0f} s:")
    print(f"  processor: {100 * used / seconds:.2f} % of a core")
    print(f"  commands: {sum(ran.values()) / seconds:.2f}/s in all ({parts})")
    watching = ran.get("hello", 0) / seconds
    print(f"  of them hello, with which drivers watch the server: {watching:.2f}/s")


def waking(uri: str, submits: int, pause: float) -> list[tuple[float, float]]:
    """Return the milliseconds from the call of submit, and from its return, to the claim."""
    found = []
    work = Work(
        "score",
        {},
        {"return_train_score": False},
        required_versions({}),
        (),
        "queue",
        "constraints",
    )
    with open_store(uri) as store, MongoClient(uri, tz_aware=True) as client:
        units = client.get_default_database()["units"]
        store.workers.publish(work)
        for n in range(submits):
            time.sleep(pause)
            (unit,) = some_units(1, queue="queue")
            at = time.time()
            store.jobs.submit([unit], f"search {n}")
            done = time.time()
            while (document := units.find_one({"_id": unit.id, "attempt": {"$gt": 0}})) is None:
                time.sleep(0.001)
            claimed = document["claimed_at"].timestamp()
            found.append((1000 * (claimed - at), 1000 * (claimed - done)))
            while units.find_one({"state": {"$in": ["queued", "running"]}}):
                time.sleep(0.05)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--submits", type=int, default=15)
    parser.add_argument("--pause", type=float, default=5.0, help="seconds between submits")
    parser.add_argument("--standalone", action="store_true", help="without change streams")
    chosen = parser.parse_args()
    server = servers.standalone() if chosen.standalone else servers.replica_set(1)
    workers: list[subprocess.Popen] = []
    try:
        uri = server.uri("idle")
        with open_store(uri) as store:
            store.jobs.submit(some_units(1, queue="nobody's"), "none")
            store.jobs.cancel("none")
        workers = start(uri, chosen.workers)
        time.sleep(5.0)
        with silent(server.members[0].address) as client:
            cost(client, workers, chosen.seconds)
        found = waking(uri, chosen.submits, chosen.pause)
        for what, times in zip(("called", "returned"), zip(*found, strict=True), strict=True):
            median, most = statistics.median(times), max(times)
            print(f"  claimed {median:.1f} ms after submit {what} (median, at most {most:.1f})")
    finally:
        for worker in workers:
            worker.terminate()
            worker.wait()
        server.remove()


if __name__ == "__main__":
    main()
