"""What client and worker processes write down of the results that the store acknowledges.

Both call :func:`begin` first.  It wraps ``Claims.complete_all``, the one call by which a worker
hands results in: local, standalone, or the client itself with n_jobs=None.  Each result that this
call returned as taken is one line ``{"unit", "worker", "test", "train"}``, synced to disk before
anybody else hears of it.
So a process that is killed between the acknowledgement and the note leaves a line out, and never
has one too many.  Results of joblib calls are for their caller only, who compares them.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pymongo import WriteConcern
from pymongo.read_concern import ReadConcern

from optomatic.records import Result
from optomatic.store.claims import Claims
from optomatic.store.jobs import Jobs

#: Where this stands in the environment, writes to the queue are acknowledged before they are safe.
CONTROL = "SOAK_CONTROL"
#: Prints the stacks of all threads to stderr.
STACKS = signal.SIGUSR1
_UNSAFE: dict[str, Any] = {
    "write_concern": WriteConcern(w=1, j=False),
    "read_concern": ReadConcern("local"),
}


def begin(path: Path) -> None:
    """Write acknowledged results to `path` from now on, and show stacks when asked."""
    faulthandler.register(STACKS, all_threads=True)
    notes = Notes(path)
    complete = Claims.complete_all
    if os.environ.get(CONTROL):
        write_unsafely()

    def noting(
        self: Claims, worker: str, owed: Mapping[str, Mapping[str, Any]], **more: Any
    ) -> frozenset[str]:
        late = complete(self, worker, owed, **more)
        notes.add(
            {"unit": unit, "worker": worker, **outcome(result)}
            for results in owed.values()
            for unit, result in results.items()
            if unit not in late and isinstance(result, Result) and not result.failures
        )
        return late

    Claims.complete_all = noting  # type: ignore[method-assign]


def write_unsafely() -> None:
    """Have all writes to the queue acknowledged before they are in the journal and elsewhere."""
    for kind in (Jobs, Claims):
        kind.__init__ = _unsafe(kind.__init__)  # type: ignore[misc]


def _unsafe(initialize: Any) -> Any:
    def unsafe(self: Any, database: Any, *arguments: Any, **more: Any) -> None:
        # A read by majority would not see a write that did not wait for one.
        initialize(self, database.with_options(**_UNSAFE), *arguments, **more)

    return unsafe


def outcome(result: Result) -> dict[str, Any]:
    """Return what must never change of a result."""
    return {"test": result.test, "train": result.train}


class Notes:
    """Lines of JSON in a file, on disk when :meth:`add` returns."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def add(self, entries: Any) -> None:
        """Add some."""
        lines = "".join(json.dumps(entry) + "\n" for entry in entries)
        if lines:
            os.write(self._file, lines.encode())
            os.fsync(self._file)


def read(path: Path) -> list[dict[str, Any]]:
    """Return what stands in `path`; a last line that was cut off by a kill is left out."""
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines]
