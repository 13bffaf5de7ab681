"""``python -m optomatic.worker``: a standalone worker."""

from __future__ import annotations

import argparse
import logging
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from optomatic.errors import OptomaticError, redact
from optomatic.plan.environment import environment
from optomatic.records import Timing, WorkerRecord
from optomatic.store.opening import Store, open_store
from optomatic.store.workers import this_process
from optomatic.worker.cache import Cache
from optomatic.worker.children import Crew, Setup, current_path, threads_each
from optomatic.worker.environment import (
    Installed,
    cache_home,
    cores,
    timing_of,
)
from optomatic.worker.supervisor import Supervisor

log = logging.getLogger("optomatic.worker")

_DESCRIPTION = """\
Score the units that searches wait for, until told to end.

A worker adds capacity to every search on its database, before, during or after the search
was started. It claims only what it can load: units of the same Python, scikit-learn and
numpy. Modules that your estimators come from must be installed, or lie in the current
directory.
"""
_EPILOG = """\
Each option has an environment variable of the same meaning: OPTOMATIC_DB,
OPTOMATIC_PROCESSES, OPTOMATIC_SEARCH, OPTOMATIC_UNTIL_EMPTY (1), OPTOMATIC_MAX_IDLE,
OPTOMATIC_LEASE, OPTOMATIC_GRACE, OPTOMATIC_CACHE_DIR. An address with a password is better
kept in OPTOMATIC_DB, as others can see command lines.

Signals: SIGTERM and Ctrl-C give back at once what is not running, let running units finish
for --grace seconds, and end; a second one ends at once.

Exit codes: 0 ended as asked; 1 the store cannot be used, or nothing can be started here;
2 wrong usage; 128 + n after a second signal n.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a worker; return its exit code."""
    options = _parser(os.environ).parse_args(arguments)
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    logging.getLogger("pymongo").setLevel(logging.WARNING)
    try:
        timing = timing_of(options.lease)
        with open_store(options.db, timing=timing, app="optomatic worker") as store:
            _work(store, options, timing)
    except OptomaticError as error:
        print(f"optomatic worker: {redact(str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0


def _work(store: Store, options: argparse.Namespace, timing: Timing) -> None:
    """Work in `store` until told to end."""
    number = cores() if options.processes == "auto" else options.processes
    crew = Crew(number, Setup(current_path(), threads_each(number, cores())))
    record = WorkerRecord(secrets.token_hex(8), "standalone", this_process(), number, environment())
    supervisor = Supervisor(
        store,
        crew,
        Cache(options.cache_dir or cache_home()),
        record,
        timing,
        search=options.search,
        lanes=_Lanes(store),
        lasting=True,
        on_ready=lambda: _say_ready(record, options.db),
    )
    _obey_signals(supervisor, crew, options.grace)
    try:
        summary = supervisor.run(lambda: _idle_enough(supervisor, options))
    finally:
        crew.close()
    log.info(
        "worker %s ends: %d units scored, %d of them with failures, %d crashes",
        *(record.id[:4], summary.scored, summary.failed, summary.crashed),
    )


def _say_ready(record: WorkerRecord, uri: str | None) -> None:
    number = f"{record.processes} process{'es' * (record.processes != 1)}"
    where = redact(uri) if uri else "the embedded server"
    print(f"optomatic worker {record.id[:4]}: {number}, {where}, ready", flush=True)


def _idle_enough(supervisor: Supervisor, options: argparse.Namespace) -> bool:
    """Tell whether the worker is to end, as there is nothing to do (for so long)."""
    idle = supervisor.idle_for()
    if idle is None:
        return False
    return options.until_empty or (options.max_idle is not None and idle >= options.max_idle)


class _Lanes:
    """The lanes that this machine can serve, read anew after a moment."""

    def __init__(self, store: Store, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._installed = Installed()
        self._lanes: Sequence[str] = ()
        self._read_at = float("-inf")

    def __call__(self) -> Sequence[str]:
        if self._clock() >= self._read_at + 1.0:
            self._lanes = self._store.workers.lanes_for(self._installed, ())
            self._read_at = self._clock()
        return self._lanes


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


# -- arguments -----------------------------------------------------------------------------


def _parser(environ: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m optomatic.worker",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )

    def add(name: str, kind: Callable[[str], Any], default: str | None, text: str) -> None:
        variable = "OPTOMATIC_" + name.upper().replace("-", "_")
        value = environ.get(variable) or default
        metavar = kind.__name__.strip("_").upper()
        parser.add_argument(f"--{name}", type=kind, default=value, metavar=metavar, help=text)

    add("db", _uri, None, "the store, such as mongodb://host/name (the embedded server)")
    add("processes", _number, "1", "processes that score, a number or 'auto': one a core (1)")
    add("search", _name, None, "score only for this search, by its name or id (for all)")
    add("max-idle", _seconds, None, "end after so long without work (never)")
    add("lease", _lease, None, "after so long without a sign of life others take over (30)")
    add("grace", _seconds, "10", "how long running units may go on after SIGTERM (10)")
    add("cache-dir", _folder, None, "where data is kept on this machine (~/.cache/optomatic)")
    parser.add_argument(
        "--until-empty",
        action="store_true",
        default=environ.get("OPTOMATIC_UNTIL_EMPTY", "") not in ("", "0"),
        help="end as soon as there is nothing to claim",
    )
    return parser


def _uri(text: str) -> str:
    return text


def _name(text: str) -> str:
    return text


def _folder(text: str) -> Path:
    return Path(text).expanduser()


def _number(text: str) -> int | str:
    if text == "auto":
        return text
    if not (text.isascii() and text.isdigit() and int(text) >= 1):
        raise argparse.ArgumentTypeError(f"a number of processes or 'auto', not {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"a number of seconds, not {text!r}")
    return seconds


def _lease(text: str) -> float:
    if _seconds(text) == 0:
        raise argparse.ArgumentTypeError("a lease lasts longer than 0 seconds")
    return _seconds(text)


if __name__ == "__main__":
    sys.exit(main())
