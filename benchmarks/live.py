"""What looking costs: searches with the live line of ``verbose=1`` on a terminal, and without.

Each search runs in a process of its own whose output is a pseudo terminal, with and without in
turn, on one embedded server, with data of its own; the table shows medians and their ratio.

Run it with ``python benchmarks/live.py [--units N] [--rounds R]``.
"""

from __future__ import annotations

import argparse
import os
import pty
import re
import statistics
import subprocess
import sys
from itertools import product
from pathlib import Path

HERE = Path(__file__).parent
SEARCH = """
import sys, time
import numpy as np
from overhead import Idle, timed
from optomatic import MongoSearchCV

n_jobs, verbose, n_units = int(sys.argv[1]) or None, *map(int, sys.argv[2:4])
options = {"cv": 5, "refit": False, "n_jobs": n_jobs, "verbose": verbose}
X, y = np.random.default_rng().random((50, 2)), np.arange(50) % 2
MongoSearchCV(Idle(), {"value": [1, 2]}, **options).fit(X + 1, y)  # warm: workers and server
search = MongoSearchCV(Idle(float(sys.argv[4])), {"value": list(range(n_units // 5))}, **options)
print("seconds", timed(search, X, y))
"""


def seconds_of(jobs: int | None, verbose: int, n_units: int, seconds: float) -> float:
    """Return the seconds of one fit on a terminal; with `verbose` the live line has to be there."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", SEARCH, *map(str, (jobs or 0, verbose, n_units, seconds))],
        env={**os.environ, "PYTHONPATH": str(HERE), "TERM": "xterm", "COLUMNS": "100"},
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    came = b""
    while True:
        try:
            came += os.read(ours, 65536)
        except OSError:  # nobody has the other end any more
            break
    os.close(ours)
    if process.wait() or (b"\x1b[2K" in came) != bool(verbose):
        raise SystemExit(came.decode())
    return float(re.search(rb"seconds ([\d.]+)", came)[1])


def main() -> None:
    """Measure with and without, in turn, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--units", type=int, default=2000, help="units a fit (default 2000)")
    parser.add_argument("--rounds", type=int, default=5, help="fits a variant (default 5)")
    args = parser.parse_args()
    print("| units | without | with the live line | ratio |\n| --- | ---: | ---: | ---: |")
    for seconds, jobs in product((0, 0.002), (None, 2)):
        times: dict[int, list[float]] = {0: [], 1: []}
        for n in range(args.rounds):
            for verbose in (0, 1) if n % 2 else (1, 0):
                times[verbose].append(seconds_of(jobs, verbose, args.units, seconds))
        without, shown = (statistics.median(times[verbose]) for verbose in (0, 1))
        head = f"{1000 * seconds:.0f} ms, n_jobs={jobs}"
        print(f"| {head} | {without:.2f} s | {shown:.2f} s | {shown / without:.2f} |")
        ranges = (f"{min(t):.2f} to {max(t):.2f} s" for t in times.values())
        print(f"  from {' and from '.join(ranges)}", flush=True)


if __name__ == "__main__":
    main()
