"""``python -m optomatic.worker``: a standalone worker."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Generic, TypeVar

from optomatic.errors import FolderRefused, OptomaticError, StoreURIError
from optomatic.planning.constraints import tags_of
from optomatic.records import Timing, WorkerRecord
from optomatic.store.connection import Store, open_store, place_of
from optomatic.worker.cache import Cache
from optomatic.worker.cli import PROGRAM, Assignment, Names, assignment_of, one_line, parser
from optomatic.worker.forkserver import Setup
from optomatic.worker.heartbeat import new_record
from optomatic.worker.host import Installed, cache_home, cores, timing_of
from optomatic.worker.idle import IdleReasons
from optomatic.worker.pool import Pool, current_path, threads_each
from optomatic.worker.report import JsonLines, fields, set_up
from optomatic.worker.worker import Supervisor

log = logging.getLogger("optomatic.worker")


T = TypeVar("T")


def main(arguments: Sequence[str] | None = None, program: str = PROGRAM) -> int:
    """Run a worker; return its exit code.

    Parameters
    ----------
    arguments : sequence of str, optional
        Of the command line, which is read if they are not given.
    program : str
        How the worker was called, for the help.
    """
    options = parser(os.environ, program).parse_args(arguments)
    lines = set_up(options.log_format)
    try:
        timing = timing_of(options.lease)
        place = options.cache_dir or cache_home()
        cache = Cache(place, largest=options.cache_size, in_memory=True)
        assignment = assignment_of(options.db, options.search, options.definition)
        with open_store(assignment.db, timing=timing, app="optomatic worker") as store:
            _work(store, cache, assignment, options, timing, lines)
    except OptomaticError as error:
        _say_failed(str(error), lines)
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
    lines: JsonLines | None,
) -> None:
    """Work in `store` until told to end."""
    number = cores() if options.processes == "auto" else options.processes
    pool = Pool(number, Setup(current_path(), threads_each(number, cores()), captured=True))
    tags = tags_of(options.tag)
    record = new_record("standalone", number, tags)
    if lines is not None:
        lines.worker = record.id
    installed = Installed()
    supervisor = Supervisor(
        store,
        pool,
        cache,
        record,
        timing,
        search=_searches(store, assignment.names),
        queues=_Fresh(lambda: store.workers.queues_for(installed, tags)),
        most=options.max_units,
        max_idle=options.max_idle,
        lasting=True,
        why_idle=IdleReasons(store, record, installed, assignment.names),
        on_ready=lambda: _say_ready(record, place_of(store.shown_uri), lines),
    )
    _obey_signals(supervisor, pool, options.grace, lines)
    if options.deadline is not None:
        supervisor.end_in(options.deadline, options.grace)
    try:
        summary = supervisor.run(lambda: options.until_empty and supervisor.idle_for() is not None)
    finally:
        pool.close()
    log.info(
        "worker %s ends: %d units scored, %d of them with failures, %d crashes",
        *(record.id[:4], summary.scored, summary.failed, summary.crashed),
        extra=fields(scored=summary.scored, failed=summary.failed, crashes=summary.crashed),
    )


def _say_ready(record: WorkerRecord, place: str, lines: JsonLines | None) -> None:
    number = f"{record.processes} process{'es' * (record.processes != 1)}"
    said = f"optomatic worker {record.id[:4]}: {number}, ready, {place}"
    if lines is not None:
        said = lines.line("INFO", said, processes=record.processes, tags=record.tags, store=place)
    print(said, flush=True)


def _say_failed(why: str, lines: JsonLines | None) -> None:
    sys.stderr.write(one_line(why) if lines is None else f"{lines.line('ERROR', why)}\n")


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


def _obey_signals(
    supervisor: Supervisor, pool: Pool, grace: float, lines: JsonLines | None
) -> None:
    """End well at the first SIGTERM or SIGINT, and at once at the second."""
    seen: list[int] = []

    def obey(number: int, _: FrameType | None) -> None:
        if seen:
            for child in pool.children:
                child.kill("a second signal came")
            os._exit(128 + number)
        seen.append(number)
        supervisor.stop(grace)
        said = f"optomatic worker: {signal.Signals(number).name}, ending"
        said = said if lines is None else lines.line("INFO", said)
        os.write(2, f"{said}\n".encode())  # a logger might be at work below this

    signal.signal(signal.SIGTERM, obey)
    signal.signal(signal.SIGINT, obey)


if __name__ == "__main__":
    sys.exit(main())
