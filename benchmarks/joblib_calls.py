"""Calls of joblib a second: on standalone workers, beside loky, on the same machine.

Both backends have two processes and run in turn; the table shows medians, and the rate on the
workers as a part of loky's.  The store is the embedded server.

Run it with ``python benchmarks/joblib_calls.py [--rounds R]``.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

import joblib
import numpy as np

import optomatic  # noqa: F401

JOBS = 2
#: What is called: seconds of waiting, number of calls, options of Parallel.
CASES = {
    "1 ms, batches by measured time": (0.001, 10_000, {}),
    "1 ms, one by one": (0.001, 10_000, {"batch_size": 1}),
    "100 ms, one by one": (0.1, 40, {"batch_size": 1}),
    "1 ms, with an array of 8 MB": (0.001, 1_000, {"batch_size": 1}),
}


def work(seconds: float, _: object = None) -> float:
    """Wait, so that two cores do not matter."""
    time.sleep(seconds)
    return seconds


def rate(backend: str, case: str, array: np.ndarray) -> float:
    """Return calls a second of one run."""
    seconds, number, options = CASES[case]
    argument = array if "array" in case else None
    began = time.perf_counter()
    with joblib.parallel_config(backend=backend, n_jobs=JOBS):
        joblib.Parallel(**options)(joblib.delayed(work)(seconds, argument) for _ in range(number))
    return number / (time.perf_counter() - began)


def measure(rounds: int) -> dict[str, dict[str, float]]:
    """Return the median rates by case and backend."""
    array = np.zeros(1_000_000)
    found: dict[str, dict[str, float]] = {}
    for case in CASES:
        rates: dict[str, list[float]] = {"loky": [], "optomatic": []}
        for number in range(rounds + 1):
            for backend, values in rates.items():
                value = rate(backend, case, array)
                if number:  # the first is for what starts and imports
                    values.append(value)
        found[case] = {backend: statistics.median(values) for backend, values in rates.items()}
    return found


def main() -> None:
    """Measure beside a worker of two processes, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="runs a case (default 5)")
    rounds = parser.parse_args().rounds
    worker = subprocess.Popen(
        [sys.executable, "-m", "optomatic.worker", "--processes", str(JOBS)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        worker.stdout.readline()
        found = measure(rounds)
    finally:
        worker.terminate()
        worker.wait()
    print(f"Calls a second, {JOBS} processes, medians of {rounds}:\n")
    print("| calls | loky | optomatic | part |\n| --- | ---: | ---: | ---: |")
    for case, rates in found.items():
        part = rates["optomatic"] / rates["loky"]
        print(f"| {case} | {rates['loky']:,.0f} | {rates['optomatic']:,.0f} | {part:.2f} |")


if __name__ == "__main__":
    main()
