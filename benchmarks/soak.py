"""A soak: searches and joblib calls on real workers and real servers, while all are killed.

Clients make searches (n_jobs None, 2 and 0) and calls of joblib, one after another; standalone
workers help.  Meanwhile, at random moments, workers, the processes that they fork, the templates
of these, clients and servers are killed (SIGKILL), and workers and servers are frozen for longer
than a lease.  At the end

- each result that was acknowledged must be stored as it was acknowledged, by whom it was: whoever
  scores writes it down outside of the database at that moment (:mod:`soaking.notes`), and so does
  a client with each score that it got;
- no score that a reader has ever seen may have changed, gone, or been recorded a second time;
- each table must be GridSearchCV's, times apart; each call must have returned its value;
- no client may hang, and no worker may have ended by anything else than the soak.

``--control`` has the same processes write to the queue without waiting for journal and majority,
while servers are killed: then the soak must find losses, or it could not find any.

Run it with ``python benchmarks/soak.py --minutes 10 --topology all``.  The exit code is 1 if
anything was not as it must be (with ``--control``: if nothing was lost).
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import sys
import tempfile
from pathlib import Path

BENCHMARKS = Path(__file__).parent
sys.path.insert(0, str(BENCHMARKS))

from soaking import disturbing, notes, topologies, verdict
from soaking.actors import Actors
from soaking.janitor import cleaned_up
from soaking.reading import Reader

TOPOLOGIES = ("embedded", "standalone", "set")
#: What is done in a control: nothing else loses what was acknowledged.
CONTROL = ("servers killed",)
#: Each of these has to be 0.
BAD = (
    "acknowledged and lost",
    "acknowledged and changed",
    "seen and lost",
    "seen and changed",
    "returned and lost",
    "returned and changed",
    "recorded twice",
    "units without a score",
    "tables unlike GridSearchCV's",
    "joblib calls with a wrong value",
    "searches and calls that raised",
    "hangs",
    "workers ended otherwise",
    "clients ended otherwise",
)
Counts = dict[str, float]


def soak(name: str, asked: argparse.Namespace) -> Counts:
    """Run it on one topology."""
    tempfile.tempdir = None
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    with cleaned_up(folder):
        prepare(folder, control=asked.control)
        topology = topologies.start(name, folder / "home", unsafe=asked.control)
        os.environ.update(topology.environ)
        reader = Reader(topology.uri)
        reader.start()
        actors = Actors(folder, asked, reader.describe)
        disturber = disturbing.Disturber(topology, actors, random.Random(asked.seed))
        disturber.go_on(60 * asked.minutes, CONTROL if asked.control else disturbing.ROUND)
        actors.finish()
        units = {unit["_id"]: unit for unit in reader.finish()}
        return counted(folder, units, reader, actors, disturber)


def prepare(folder: Path, *, control: bool) -> None:
    """Set what servers, clients and workers find in their environment."""
    for variable in [v for v in os.environ if v.startswith("OPTOMATIC_")]:
        if variable != "OPTOMATIC_MONGOD":
            del os.environ[variable]
    os.environ.update(
        OPTOMATIC_HOME=str(folder / "home"),
        OPTOMATIC_LEASE=str(disturbing.LEASE),
        OPTOMATIC_GRACE="0.5",
        OPTOMATIC_PROCESSES="2",
        PYTHONPATH=os.pathsep.join(map(str, (BENCHMARKS, BENCHMARKS.parent))),
    )
    os.environ.pop(notes.CONTROL, None)
    if control:
        os.environ[notes.CONTROL] = "1"
    tempfile.tempdir = str(folder)  # the servers' folders lie in it


def counted(
    folder: Path,
    units: dict[str, dict],
    reader: Reader,
    actors: Actors,
    disturber: disturbing.Disturber,
) -> Counts:
    """Return all counts by name, in the order in which they are shown."""
    workers, clients = verdict.of_workers(folder, units), verdict.of_clients(folder, units)
    runs = verdict.of_units(units)
    return {
        "searches": clients["searches"],
        "rounds of joblib calls": clients["calls"],
        "units": runs["units"],
        "scores acknowledged to workers": workers["acknowledged"],
        "scores returned to clients": clients.get("scores", 0),
        "looks of the reader": reader.looks,
        "tries while no server answered": clients.get("tries", 0),
        **disturber.counts,
        "repeated executions, %": runs["again"],
        "repeated, and nothing was lost, %": runs["again without a loss"],
        "acknowledged and lost": workers.get("lost", 0),
        "acknowledged and changed": workers.get("changed", 0),
        "seen and lost": reader.counts["lost"],
        "seen and changed": reader.counts["changed"],
        "returned and lost": clients.get("lost", 0),
        "returned and changed": clients.get("changed", 0),
        "recorded twice": workers["recorded twice"] + reader.counts["recorded twice"],
        "units without a score": runs["without a score"],
        "tables unlike GridSearchCV's": clients.get("wrong tables", 0),
        "joblib calls with a wrong value": clients.get("wrong calls", 0),
        "searches and calls that raised": clients.get("errors", 0),
        "hangs": actors.counts["hangs"],
        "workers ended otherwise": actors.counts["workers ended otherwise"],
        "clients ended otherwise": actors.counts["clients ended otherwise"],
    }


def show(found: dict[str, Counts]) -> None:
    """Print a table of all counts, a column a topology."""
    names = next(iter(found.values()))
    print(f"\n{'':36}" + "".join(f"{topology:>12}" for topology in found))
    for name in names:
        values = [
            f"{counts[name]:.2f}" if "%" in name else f"{counts[name]:,}"
            for counts in found.values()
        ]
        print(f"{name:36}" + "".join(f"{value:>12}" for value in values), flush=True)


def bad(counts: Counts, *, control: bool) -> bool:
    """Tell whether anything is not as it must be."""
    if control:
        return not counts["acknowledged and lost"]
    return any(counts[name] for name in BAD) or not counts["scores acknowledged to workers"]


def main() -> int:
    """Soak, and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="a topology (default 10)")
    parser.add_argument("--topology", choices=[*TOPOLOGIES, "all"], default="all")
    parser.add_argument("--seed", type=int, default=random.randrange(1000), help="of all chance")
    parser.add_argument("--control", action="store_true", help="write unsafely: must find losses")
    parser.add_argument("--clients", type=int, default=2, help="at the same time (default 2)")
    parser.add_argument("--workers", type=int, default=2, help="at the same time (default 2)")
    parser.add_argument("--hang", type=float, default=90.0, help="seconds after which one hangs")
    parser.add_argument("--verbose", action="store_true", help="tell what is done when")
    asked = parser.parse_args()
    if asked.verbose:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    print(f"seed {asked.seed}", flush=True)
    found: dict[str, Counts] = {}
    for name in TOPOLOGIES if asked.topology == "all" else (asked.topology,):
        found[name] = soak(name, asked)
        show(found)
    return int(any(bad(counts, control=asked.control) for counts in found.values()))


if __name__ == "__main__":
    sys.exit(main())
