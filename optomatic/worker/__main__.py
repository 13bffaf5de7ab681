"""``python -m optomatic.worker``: a standalone worker."""

from __future__ import annotations

import argparse
import logging
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Generic, TypeVar

from optomatic.errors import FolderRefused, OptomaticError, StoreURIError, masked
from optomatic.keys.environment import constraints
from optomatic.plan.units.tags import tags_of
from optomatic.records import Timing, WorkerRecord
from optomatic.store.opening import Store, open_store
from optomatic.store.workers import this_process
from optomatic.worker.assignment import Assignment, Names, assignment_of
from optomatic.worker.cache import Cache
from optomatic.worker.children import Crew, current_path, threads_each
from optomatic.worker.machine import (
    Installed,
    cache_home,
    cores,
    timing_of,
)
from optomatic.worker.options import one_line, parser
from optomatic.worker.processes import Setup
from optomatic.worker.supervisor import Supervisor

log = logging.getLogger("optomatic.worker")

T = TypeVar("T")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a worker; return its exit code."""
    options = parser(os.environ).parse_args(arguments)
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    logging.getLogger("pymongo").setLevel(logging.WARNING)
    try:
        timing = timing_of(options.lease)
        place = options.cache_dir or cache_home()
        cache = Cache(place, largest=options.cache_size, in_memory=True)
        assignment = assignment_of(options.db, options.search, options.definition)
        with open_store(assignment.db, timing=timing, app="optomatic worker") as store:
            _work(store, cache, assignment, options, timing)
    except OptomaticError as error:
        sys.stderr.write(one_line(str(error)))
        return 2 if isinstance(error, FolderRefused | StoreURIError) else 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0


def _work(
    store: Store,
    cache: Cache,
    assignment: Assignment,
    options: argparse.Namespace,
    timing: Timing,
) -> None:
    """Work in `store` until told to end."""
    number = cores() if options.processes == "auto" else options.processes
    crew = Crew(number, Setup(current_path(), threads_each(number, cores()), captured=True))
    tags = tags_of(options.tag)
    record = WorkerRecord(
        secrets.token_hex(8), "standalone", this_process(), number, constraints({}), tags
    )
    supervisor = Supervisor(
        store,
        crew,
        cache,
        record,
        timing,
        search=_searches(store, assignment.names),
        lanes=_lanes(store, tags),
        most=options.max_units,
        max_idle=options.max_idle,
        lasting=True,
        on_ready=lambda: _say_ready(record, assignment.db),
    )
    _obey_signals(supervisor, crew, options.grace)
    if options.deadline is not None:
        supervisor.end_in(options.deadline, options.grace)
    try:
        summary = supervisor.run(lambda: options.until_empty and supervisor.idle_for() is not None)
    finally:
        crew.close()
    log.info(
        "worker %s ends: %d units scored, %d of them with failures, %d crashes",
        *(record.id[:4], summary.scored, summary.failed, summary.crashed),
    )


def _say_ready(record: WorkerRecord, uri: str | None) -> None:
    number = f"{record.processes} process{'es' * (record.processes != 1)}"
    where = masked(uri) if uri else "the embedded server"
    print(f"optomatic worker {record.id[:4]}: {number}, {where}, ready", flush=True)


class _Fresh(Generic[T]):
    """What `read` returned last, at most a second old."""

    def __init__(
        self, read: Callable[[], Sequence[T]], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._read = read
        self._clock = clock
        self._found: Sequence[T] = ()
        self._read_at = float("-inf")

    def __call__(self) -> Sequence[T]:
        if self._clock() >= self._read_at + 1.0:
            self._found = self._read()
            self._read_at = self._clock()
        return self._found


def _lanes(store: Store, tags: Sequence[str]) -> _Fresh[str]:
    """Return the lanes that this machine can serve."""
    installed = Installed()
    return _Fresh(lambda: store.workers.lanes_for(installed, tags))


def _searches(store: Store, names: Names | None) -> _Fresh[Sequence[str]] | None:
    """Return the ids under which units of each name may wait, also of searches that begin later.

    Of several names only those for which something is queued: an empty one would cost a look
    at each claim.
    """
    if names is None:
        return None

    def groups() -> Sequence[Sequence[str]]:
        found = store.searches.that_may_wait(names())
        return [ids for ids in found if ids and (len(found) == 1 or store.jobs.queued_for(ids))]

    return _Fresh(groups)


def _obey_signals(supervisor: Supervisor, crew: Crew, grace: float) -> None:
    """End well at the first SIGTERM or SIGINT, and at once at the second."""
    seen: list[int] = []

    def obey(number: int, _: FrameType | None) -> None:
        if seen:
            for child in crew.children:
                child.kill("a second signal came")
            os._exit(128 + number)
        seen.append(number)
        supervisor.stop(grace)
        os.write(2, f"optomatic worker: {signal.Signals(number).name}, ending\n".encode())

    signal.signal(signal.SIGTERM, obey)
    signal.signal(signal.SIGINT, obey)


if __name__ == "__main__":
    sys.exit(main())
