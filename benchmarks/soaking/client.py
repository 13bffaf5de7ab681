"""A process that makes searches and joblib calls: ``python -m soaking.client SEED OF SLOT FOLDER``.

It begins with what the one before it in its slot has not ended, and leaves after SIGTERM once
it has ended what it is at.  Of each task it writes down ``{"ended", "kind", ...}``.
"""

from __future__ import annotations

import signal
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any

from optomatic.errors import StoreUnavailable

from . import notes, work


def main(seed: int, clients: int, slot: int, folder: Path) -> None:
    """Do one task after another."""
    notes.begin(folder / f"acknowledged.client{slot}")
    warnings.simplefilter("ignore")  # that no worker is there for a while, say
    path = folder / f"client{slot}"
    number = len(notes.read(path))
    log = notes.Notes(path)
    leaving: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: leaving.append(number))
    print("ready", flush=True)
    while not leaving:
        task = work.task(seed, clients, slot, number)
        log.add([{"ended": number, "kind": task.kind, **_outcome(task)}])
        number += 1


def _outcome(task: work.Task) -> dict[str, Any]:
    """Do a task; again if nobody answered for 8 s when it began, as its error asks to."""
    tries = 0
    while True:
        try:
            return {"tries": tries, **_done(task)}
        except Exception as error:
            if not (isinstance(error, StoreUnavailable) and "Nothing was queued" in str(error)):
                return {"error": traceback.format_exc()}
        tries += 1


def _done(task: work.Task) -> dict[str, Any]:
    if task.kind == "calls":
        return {"right": work.calls_are_right(task)}
    table = work.search(task)
    print("compares the table", flush=True)  # which takes time: a sign that it does not hang
    return {"differs": work.differences(task, table), "scores": work.scores(task, table)}


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]), Path(sys.argv[4]))
