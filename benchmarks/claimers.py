"""Many workers at one queue: units claimed a second by 1, 4, 16 and 64 of them.

Each worker is a light process: one open store in a loop of claim, start and complete, which is
what a worker asks of the database, without anything to score.  So the rate is that of the
database and of what the workers do to each other.  Rounds go through all numbers of workers in
turn, on one server (a replica set of one, as the embedded one is); the table shows medians, the
share of units that were claimed by two workers (none), and the connections that the server had.

Run it with ``python benchmarks/claimers.py [--batch K] [--seconds S] [--rounds R] [--claim-only]``.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import time
from collections import Counter
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from pymongo import MongoClient

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import servers
from store.units import good, ids, some_units

from optomatic.records import Timing
from optomatic.store.connection import open_store

WORKERS = (1, 4, 16, 64)
TIMING = Timing(lease=300.0, unstarted=300.0)


def work(uri: str, number: int, asked: argparse.Namespace, ready: Barrier, answers: Any) -> None:
    """Be a worker for some seconds, then say what was claimed."""
    claimed: list[str] = []
    with open_store(uri, timing=TIMING) as store:
        claims, worker = store.claims, f"w{number}"
        claims.claim(worker, 1, queues=["nobody's"])  # connected
        ready.wait()
        end = time.perf_counter() + asked.seconds
        while time.perf_counter() < end:
            lease = claims.claim(worker, asked.batch, queues=["a queue"])
            claimed += ids(lease.jobs)
            if lease.jobs and not asked.claim_only:
                claims.start(lease.token, ids(lease.jobs))
                claims.complete(worker, lease.token, {i: good() for i in ids(lease.jobs)})
    answers.put(claimed)


def measure(server: servers.Topology, workers: int, asked: argparse.Namespace) -> dict[str, Any]:
    """Let so many workers loose on a fresh queue; return what they did."""
    uri = server.uri(f"claimers{workers}")
    with open_store(uri) as store, MongoClient(uri) as client:
        store.jobs.submit(some_units(asked.units), "s")
        ready, answers = multiprocessing.Barrier(workers + 1), multiprocessing.Queue()
        processes = [
            multiprocessing.Process(target=work, args=(uri, n, asked, ready, answers))
            for n in range(workers)
        ]
        before = connections(client)
        for process in processes:
            process.start()
        ready.wait()
        time.sleep(asked.seconds / 2)
        during = connections(client)
        claimed = Counter(unit_id for _ in processes for unit_id in answers.get())
        for process in processes:
            process.join()
        client.drop_database(client.get_default_database().name)
    if len(claimed) == asked.units:
        raise SystemExit("the queue ran empty: give it more --units")
    return {
        "rate": len(claimed) / asked.seconds,
        "twice": sum(count > 1 for count in claimed.values()),
        "connections": (during - before) / workers,
    }


def connections(client: MongoClient[Any]) -> int:
    """Return how many connections the server has."""
    found: int = client.admin.command("serverStatus")["connections"]["current"]
    return found


def main() -> None:
    """Measure, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=8, help="units a claim (default 8)")
    parser.add_argument("--seconds", type=float, default=5.0, help="a measurement (default 5)")
    parser.add_argument("--rounds", type=int, default=3, help="default 3")
    parser.add_argument("--units", type=int, default=60_000, help="in the queue (default 60,000)")
    parser.add_argument("--claim-only", action="store_true", help="neither start nor complete")
    asked = parser.parse_args()
    multiprocessing.set_start_method("fork")
    server = servers.replica_set(1)
    found: dict[int, list[dict[str, Any]]] = {workers: [] for workers in WORKERS}
    try:
        for _ in range(asked.rounds):
            for workers in WORKERS:
                found[workers].append(measure(server, workers, asked))
    finally:
        server.remove()
    rates = {n: statistics.median(one["rate"] for one in found[n]) for n in WORKERS}
    print(f"claims of {asked.batch} units, medians of {asked.rounds}:\n")
    print("| workers | units a second | of the best | claimed twice | connections a worker |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    for n, rate in rates.items():
        share = rate / max(rates.values())
        twice = sum(one["twice"] for one in found[n])
        most = max(one["connections"] for one in found[n])
        print(f"| {n} | {rate:,.0f} | {share:.2f} | {twice} | {most:.1f} |")


if __name__ == "__main__":
    main()
