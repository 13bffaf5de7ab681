"""What a newcomer waits for: the first fit on a machine, beside GridSearchCV's.

Each is a fresh Python process that imports what it needs and searches five candidates of an SVC
on iris, with three splits: 15 units, without workers.  MongoSearchCV is run with a folder of its
own, where the private server has to be made, and with one whose server runs and where other data
were searched before.  In each round all run in turn; the table shows medians, and the time beyond
GridSearchCV's in the same round.

Run it with ``python benchmarks/first_fit.py [--rounds R]``.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

SEARCH = """
import time
began = time.perf_counter()
from sklearn.datasets import load_iris
from sklearn.svm import SVC
{imported}
X, y = load_iris(return_X_y=True)
X = X + {noise}
imports = time.perf_counter() - began
{name}(SVC(), {{"C": [0.1, 0.3, 1.0, 3.0, 10.0]}}, cv=3).fit(X, y)
print(imports, time.perf_counter() - began - imports)
"""
IMPORTS = {
    "GridSearchCV": "from sklearn.model_selection import GridSearchCV",
    "MongoSearchCV": "from optomatic import MongoSearchCV",
}


def run(name: str, home: str, number: int) -> tuple[float, float, float]:
    """Return the seconds of a fresh process: in all, of its imports, of its fit."""
    code = SEARCH.format(imported=IMPORTS[name], name=name, noise=1e-9 * number)
    environment = {**os.environ, "OPTOMATIC_HOME": home, "OPTOMATIC_IDLE_SECONDS": "60"}
    environment.pop("OPTOMATIC_DB", None)  # another server
    began = time.perf_counter()
    answer = subprocess.check_output([sys.executable, "-c", code], env=environment, text=True)
    imports, fit = map(float, answer.split()[-2:])
    return time.perf_counter() - began, imports, fit


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="default 5")
    chosen = parser.parse_args()
    found: dict[str, list[tuple[float, float, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="first-", ignore_cleanup_errors=True) as folder:
        run("MongoSearchCV", f"{folder}/up", -1)
        for number in range(chosen.rounds):
            run("MongoSearchCV", f"{folder}/up", 1000 + number)  # so that the server stays
            for label, name, home in (
                ("GridSearchCV", "GridSearchCV", "none"),
                ("MongoSearchCV, server down", "MongoSearchCV", f"down{number}"),
                ("MongoSearchCV, server up", "MongoSearchCV", "up"),
            ):
                taken = run(name, f"{folder}/{home}", number)
                found.setdefault(label, []).append(taken)
    print(f"seconds of a process, medians of {chosen.rounds}:\n")
    print("| | in all | more than GridSearchCV | of that imports | the whole fit |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for label, rounds in found.items():
        pairs = zip(rounds, found["GridSearchCV"], strict=True)
        more = [(one[0] - base[0], one[1] - base[1]) for one, base in pairs]
        columns = [one[0] for one in rounds], *zip(*more, strict=True), [one[2] for one in rounds]
        print(f"| {label} | {' | '.join(f'{statistics.median(c):.2f}' for c in columns)} |")


if __name__ == "__main__":
    main()
