"""Many workers at one queue: units claimed a second by 1, 4, 16 and 64 of them.

Each worker is a light process: one open store in a loop of claim, start and complete, which is
what a worker asks of the database, without anything to score.  So the rate is that of the
database and of what the workers do to each other.  Rounds go through all numbers of workers in
turn, on one server (a replica set of one, as the embedded one is); the table shows medians, the
share of units that were claimed by two workers (none), and the server's connections a worker.
With ``--stored`` so many completed units are there besides, in databases that are measured in turn.

Run it with ``python benchmarks/claimers.py [--batch K] [--seconds S] [--rounds R] [--claim-only]
[--workers N ...] [--stored N ...]``.
"""

from __future__ import annotations

import argparse
import itertools
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
from optomatic.store.retry import slices

WORKERS = [1, 4, 16, 64]
#: The queue of units that are stored already.
OLD = "an old queue"
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


def fill(uri: str, stored: int) -> None:
    """Have so many completed units in a database: copies of one that a worker completed."""
    with open_store(uri) as store, MongoClient(uri) as client:
        store.jobs.submit(some_units(1, queue=OLD), "s")
        lease = store.claims.claim("w", 1, queues=[OLD])
        store.claims.start(lease.token, ids(lease.jobs))
        store.claims.complete("w", lease.token, {i: good() for i in ids(lease.jobs)})
        units = client.get_default_database()["units"]
        one = units.find_one({"queue": OLD})
        for some in slices(some_units(stored - 1, queue=OLD), 10_000):
            units.insert_many([{**one, "_id": unit.id, "key": unit.key} for unit in some])


def measure(
    server: servers.Topology, workers: int, stored: int, asked: argparse.Namespace
) -> dict[str, Any]:
    """Let so many workers loose on a fresh queue; return what they did."""
    uri = server.uri(f"claimers{stored}")
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
        if stored:
            client.get_default_database()["units"].delete_many({"queue": {"$ne": OLD}})
        else:
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
    parser.add_argument("--workers", type=int, nargs="+", default=WORKERS, help="default 1 4 16 64")
    parser.add_argument("--stored", type=int, nargs="+", default=[0], help="completed units")
    asked = parser.parse_args()
    multiprocessing.set_start_method("fork")
    server = servers.replica_set(1)
    cases = list(itertools.product(asked.workers, asked.stored))
    found: dict[tuple[int, int], list[dict[str, Any]]] = {case: [] for case in cases}
    try:
        for stored in filter(None, asked.stored):
            fill(server.uri(f"claimers{stored}"), stored)
        for _ in range(asked.rounds):
            for case in cases:
                found[case].append(measure(server, *case, asked))
    finally:
        server.remove()
    rates = {case: statistics.median(one["rate"] for one in found[case]) for case in cases}
    print(f"claims of {asked.batch} units, medians of {asked.rounds}:\n")
    print(
        "| workers | stored | units a second | of the best | claimed twice | connections a worker |"
    )
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    for (workers, stored), rate in rates.items():
        share, own = rate / max(rates.values()), found[workers, stored]
        twice = sum(one["twice"] for one in own)
        most = max(one["connections"] for one in own)
        print(f"| {workers} | {stored:,} | {rate:,.0f} | {share:.2f} | {twice} | {most:.1f} |")


if __name__ == "__main__":
    main()
