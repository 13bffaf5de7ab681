"""We and our peers on the same work: times, ratios within rounds, and two pictures.

MongoSearchCV runs beside GridSearchCV (sequential, loky, threading, a dask cluster, Ray), dask-ml,
Optuna (a journal file, SQLite) and hyperopt's MongoTrials, as far as they are installed.  All have
`--jobs` workers, which are started before; a small search warms each up again before each run.
In each round all run in turn, in an order that rotates; each search has data of its own, so that
nothing is stored yet.  A ratio is the time of a peer by ours in the same round: GridSearchCV
alone is compared with ``MongoSearchCV()``, all others with ``MongoSearchCV(n_jobs=JOBS)``.

A trial of Optuna and hyperopt is a candidate, whose objective is the mean of ``cross_val_score``.
Optuna's GridSampler goes through the same grid in `--jobs` processes; hyperopt draws as many
candidates at random.  Hyperopt needs an older pymongo, so an environment of its own (``pip
install hyperopt 'pymongo<4' scikit-learn setuptools``), whose Python `--hyperopt` names.

"first-fit" is the first search of a fresh process, without imports: loky's and ours, with our
server running, and with a new server to start.  Nothing else has a start in its time.

Optuna's files are in a temporary folder: TMPDIR and OPTOMATIC_HOME are to be on one disk.  The
server of hyperopt keeps its data in memory.  Peers that would take more than two minutes for a
search are left out of the pictures' larger sizes.

Run it with ``python benchmarks/compare.py [--work NAME ...] [--peers NAME ...] [--jobs N]
[--rounds R] [--units N] [--json FILE] [--pictures FOLDER] [--most-units N] [--hyperopt PYTHON]``.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).parent
sys.path.insert(0, str(BENCHMARKS))

from comparing import pictures
from comparing.peers import OURS, PEERS, VARIANTS, Run, Setup
from comparing.work import CV, WORKS, Case

SCHEMA = 1
LIBRARIES = (
    *("optomatic", "scikit-learn", "numpy", "joblib", "pymongo", "distributed", "dask-ml"),
    *("optuna", "ray"),
)
#: First fits: what runs in a fresh process, and whether its server has to start too.
FIRST = {
    "loky": ("loky", False),
    "mongo": ("mongo", False),
    "mongo-parallel": ("mongo-parallel", False),
    "mongo-parallel, new server": ("mongo-parallel", True),
}
FIRST_UNITS = 100
#: Sizes of the searches in pictures; seconds that a larger one may take.
SIZES, MOST_SECONDS = (500, 2_000, 10_000, 50_000), 120.0
Times = dict[str, list[float]]
_SEEDS = itertools.count(time.time_ns())


def timed(run: Run, work: str, units: int) -> float:
    """Return the seconds of one search, before which a small one has warmed up."""
    run(Case(work, 2 * CV, next(_SEEDS)))
    case = Case(work, units, next(_SEEDS))
    began = time.perf_counter()
    done = run(case)
    seconds = time.perf_counter() - began
    if done < case.candidates:
        raise SystemExit(f"{done} of {case.candidates} candidates were scored")
    return seconds


def in_turn(timers: dict[str, Callable[[], float]], rounds: int) -> Times:
    """Return the seconds of each variant, by round; each round begins with another variant."""
    seconds: Times = {name: [] for name in timers}
    names = list(timers)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            seconds[name].append(timers[name]())
    return seconds


def opened(names: list[str], setup: Setup) -> dict[str, Run]:
    """Set up all variants that can be run; say which cannot."""
    runs = {}
    for name in [*OURS, *names]:
        reason = VARIANTS[name].missing(setup)
        if not reason:
            try:
                run = VARIANTS[name].open(setup)
                run(Case("nothing", 2 * CV, next(_SEEDS)))
                runs[name] = run
            except Exception as error:  # whatever a peer raises with these versions
                if name in OURS:
                    raise
                reason = f"it raised {type(error).__name__}: {str(error).splitlines()[:1]}"
        if reason:
            print(f"left out: {VARIANTS[name].label} ({reason})", flush=True)
    return runs


def first_fit(name: str, jobs: int, units: int) -> float:
    """Return the seconds of the first fit of a fresh process."""
    variant, is_new = FIRST[name]
    command = [sys.executable, __file__, "--first", variant]
    command += ["--jobs", str(jobs), "--units", str(units)]
    with tempfile.TemporaryDirectory(prefix="first-", ignore_cleanup_errors=True) as home:
        own = {"OPTOMATIC_HOME": home, "OPTOMATIC_IDLE_SECONDS": "1"} if is_new else {}
        answer = subprocess.check_output(command, env={**os.environ, **own}, text=True)
        if is_new:
            time.sleep(4)  # until that server has stopped
    return float(answer)


def be_first(name: str, jobs: int, units: int) -> None:
    """Be the fresh process of `first_fit`."""
    with contextlib.ExitStack() as stack:
        run = VARIANTS[name].open(Setup(jobs, stack))
        case = Case("nothing", units, next(_SEEDS))
        began = time.perf_counter()
        run(case)
        print(time.perf_counter() - began)


def planned(asked: argparse.Namespace) -> list[tuple[str, int]]:
    """Return which work is measured with how many units: what is asked for, and the pictures'."""
    sizes = {name: whole(asked.units or work.units) for name, work in WORKS.items()}
    first = whole(asked.units or FIRST_UNITS)
    plan = [(name, sizes.get(name, first)) for name in asked.work]
    if asked.pictures:
        plan += [(name, picture_size(asked)) for name in pictures.LENGTHS]
        plan += [("nothing", size) for size in SIZES if size <= asked.most_units]
    return list(dict.fromkeys(plan))


def whole(units: int) -> int:
    """Return the units of whole candidates, of one at least."""
    return max(1, units // CV) * CV


def picture_size(asked: argparse.Namespace) -> int:
    """Return how many units a search of the first picture has, whatever their length."""
    return whole(min(asked.units or SIZES[0], asked.most_units))


def short(runs: dict[str, Run], found: dict[str, Any], work: str, units: int) -> dict[str, Run]:
    """Return ours, and peers that should take at most `MOST_SECONDS`, as smaller searches tell."""
    smaller = [one for one in found["records"] if one["work"] == work and one["units"] < units]
    if not smaller:
        return runs
    largest = max(smaller, key=lambda one: one["units"])
    most = MOST_SECONDS * largest["units"] / units
    medians = {name: statistics.median(taken) for name, taken in largest["seconds"].items()}
    kept = {name for name, median in medians.items() if name in OURS or median <= most}
    for name in runs.keys() - kept:
        print(f"left out: {name} with {units:,} units (more than {MOST_SECONDS:.0f} s)")
    return {name: run for name, run in runs.items() if name in kept}


def measure(runs: dict[str, Run], work: str, units: int, asked: argparse.Namespace) -> Times:
    """Return the seconds of each variant, by round."""
    if work == "first-fit":
        timers = {name: partial(first_fit, name, asked.jobs, units) for name in FIRST}
    else:
        timers = {name: partial(timed, run, work, units) for name, run in runs.items()}
    return in_turn(timers, asked.rounds)


def print_table(record: dict[str, Any], jobs: int) -> None:
    """Print a Markdown table of one work."""
    units, seconds = record["units"], record["seconds"]
    rounds = len(next(iter(seconds.values())))
    heading = f"{record['work']}: {units:,} units, {jobs} workers, medians of {rounds} (min to max)"
    print(f"\n{heading}\n\n| | units a second | its time / ours |\n| --- | ---: | ---: |")
    for name, values in seconds.items():
        key, *more = name.split(", ")
        label = ", ".join([VARIANTS[key].label.format(jobs=jobs), *more])
        rate = spread([units / value for value in values], ",.0f")
        print(f"| {label} | {rate} | {ratio(seconds, name)} |", flush=True)


def ratio(seconds: Times, name: str) -> str:
    """Return the ratios of a peer to us within rounds, as text."""
    if name not in PEERS:
        return ""
    ours = "mongo-parallel" if VARIANTS[name].is_parallel else "mongo"
    pairs = zip(seconds[name], seconds[ours], strict=True)
    return spread([theirs / own for theirs, own in pairs], ".2f")


def spread(values: list[float], form: str) -> str:
    """Return median, least and most as text."""
    median, least, most = (f(values) for f in (statistics.median, min, max))
    return f"{median:{form}} ({least:{form}} to {most:{form}})"


def versions(hyperopt: str | None) -> dict[str, str]:
    """Return the versions of Python and the libraries that are installed."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    if hyperopt:
        code = "from importlib.metadata import version; print(version('hyperopt'))"
        found["hyperopt"] = subprocess.check_output([hyperopt, "-c", code], text=True).strip()
    return found


def arguments() -> argparse.Namespace:
    """Return what is asked for."""
    work = [*WORKS, "first-fit"]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", nargs="+", choices=work, default=work, metavar="NAME", help="of "
                        + ", ".join(work))  # fmt: skip
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS), metavar="NAME",
                        help="of " + ", ".join(PEERS))  # fmt: skip
    parser.add_argument("--rounds", type=int, default=5, help="runs a variant (default 5)")
    parser.add_argument("--jobs", type=int, default=2, help="workers (default 2)")
    parser.add_argument("--units", type=int, help="units a search (default: by work)")
    parser.add_argument("--json", type=Path, help="file for all times")
    parser.add_argument("--pictures", type=Path, help="folder for pictures")
    parser.add_argument(
        "--most-units", type=int, default=SIZES[-1], help="a search in pictures (default 50,000)"
    )
    parser.add_argument("--hyperopt", metavar="PYTHON", help="of the environment with hyperopt")
    parser.add_argument("--first", choices=VARIANTS, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Measure, print tables, write times and pictures."""
    asked = arguments()
    warnings.simplefilter("ignore")
    if asked.first:
        return be_first(asked.first, asked.jobs, asked.units)
    found: dict[str, Any] = {
        "schema": SCHEMA, "versions": versions(asked.hyperopt), "cores": os.cpu_count(),
        "jobs": asked.jobs, "rounds": asked.rounds, "records": [],
    }  # fmt: skip
    with contextlib.ExitStack() as stack:
        runs = opened(asked.peers, Setup(asked.jobs, stack, asked.hyperopt))
        for work, units in planned(asked):
            seconds = measure(short(runs, found, work, units), work, units, asked)
            found["records"].append({"work": work, "units": units, "seconds": seconds})
            print_table(found["records"][-1], asked.jobs)
            if asked.json:
                asked.json.write_text(json.dumps(found, indent=1) + "\n")
    if asked.pictures:
        pictures.draw(asked.pictures, found, picture_size(asked))
    return None


if __name__ == "__main__":
    main()
