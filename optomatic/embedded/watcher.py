"""Start the private mongod, restart it after a crash, and stop it when nobody uses it.

:mod:`optomatic.embedded.server` runs this file by its path, in the server's folder, as ``python -I
-S watcher.py MONGOD IDLE``.  It needs the standard library alone, and never imports optomatic.
It has a session of its own, and the system's first process as parent: neither a Ctrl-C nor the
end of a client reaches it or its mongod.

The processes agree by four locks; the system releases a ``flock`` however its holder ends:

``users.lock``
    Shared: every client, from before it looks for the server until it ends.  Exclusive: no client
    is there, and none can come; only then the watcher stops mongod.
``start.lock``
    A client that starts a watcher and waits for the server.
``watcher.lock``
    The watcher; only it starts or stops a mongod in this folder.
``mongod.lock``
    mongod, from its first moment; it holds its process id.

If a watcher is killed, mongod runs on, and the next client starts a watcher that adopts it.
SIGTERM, as at a shutdown of the machine, has it stop mongod in good order.  The folder may be
moved, as every path is relative to it; if it is deleted, the watcher kills mongod and ends.

mongod listens at ``starting.sock``, which is also its address in the replica set.  Once it takes
writes, the socket is renamed to ``mongod.sock``: a client never meets a server that refuses writes.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
import traceback
from pathlib import Path

SOCKET, LOG = "mongod.sock", "mongod.log"
USERS, START, WATCHER, MONGOD = "users.lock", "start.lock", "watcher.lock", "mongod.lock"
#: A set of one member, as change streams need one.
REPLICA_SET = "optomatic"
#: Seconds between two looks.
TICK = 0.2
#: mongod is started again so often within so many seconds; once if less space than this is free.
RESTARTS, WINDOW, FREE_BYTES = 5, 60.0, 32_000_000
#: The log is cut at this size; one old piece is kept.
LOG_BYTES = 4_000_000
#: Seconds for a start once mongod answers, and for a stop in good order.
_READY_SECONDS, _STOP_SECONDS = 30.0, 20.0
_STARTING = "./starting.sock"  # the slash tells mongod that it is no host name
_OPTIONS = """
    --dbpath data --replSet optomatic --bind_ip ./starting.sock --nounixsocket --quiet
    --wiredTigerEngineConfigString log=(file_max=8MB,prealloc=false) --oplogSize 64
    --wiredTigerCacheSizeGB 0.5 --setParameter diagnosticDataCollectionEnabled=false
    --setParameter shutdownTimeoutMillisForSignaledShutdown=0
    --setParameter minSnapshotHistoryWindowInSeconds=0
"""
# --nounixsocket: else it also opens /tmp/mongodb-27017.sock, in everybody's reach.
# log and oplogSize: 9 MB on disk for an empty database in place of 300.  The default cache takes
# half of the memory, the diagnostic data 200 MB of disk.  A signalled primary waits up to 15 s for
# secondaries, and there are none.  What was removed in the last 300 s stays in the indexes, for
# reads of the past that nobody makes here: each look at an empty queue goes past all of it.
_ERROR = re.compile('"s":"[EF]"')
#: Two commands in BSON: hello, and replSetInitiate with the member at `_STARTING`.
_HELLO = b"\x1f\0\0\0\x10hello\0\1\0\0\0\2$db\0\6\0\0\0admin\0\0"
_INITIATE = (
    b"v\0\0\0\3replSetInitiate\0Q\0\0\0\2_id\0\n\0\0\0optomatic\0\4members\x000\0\0\0\3"
    b"0\0(\0\0\0\x10_id\0\0\0\0\0\2host\0\x10\0\0\0./starting.sock\0\0\0\0\2$db\0\6\0\0\0admin\0\0"
)


def open_lock(path: str | Path) -> int:
    """Open a lock file, made if missing."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def lock(descriptor: int, how: int) -> bool:
    """Take a ``flock`` without waiting; return whether it was free."""
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def locked(path: str | Path) -> bool:
    """Return whether a process holds the lock exclusive."""
    descriptor = open_lock(path)
    try:
        return not lock(descriptor, fcntl.LOCK_SH)
    finally:
        release(descriptor)


def release(descriptor: int) -> None:
    """Release a lock, also if a thread has just forked a child that shares the file."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


def names(path: str | Path, descriptor: int) -> bool:
    """Return whether the descriptor is open, on the file that is at `path` now."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except OSError:
        return False


def answers(path: str | Path) -> bool:
    """Return whether a process listens on a unix socket."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1.0)
        try:
            connection.connect(os.fspath(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except (BlockingIOError, TimeoutError):  # its queue is full: it lives, and is busy
            return True
    return True


class _GaveUp(Exception):
    """mongod does not stay up; `args` holds the report."""


class _Watcher:
    """The mongod of the current directory: a child, or one that was found running."""

    def __init__(self, binary: str, idle: float) -> None:
        self.binary, self.idle = binary, idle
        self.child: subprocess.Popen[bytes] | None = None
        self.log_start = 0
        self.served = self.asked_to_stop = False
        self.deaths: list[float] = []

    def run(self, watching: int) -> None:
        """Serve until nobody uses the server; `watching` is the locked ``watcher.lock``."""
        if not locked(MONGOD):
            self.start()
        if not self.await_primary():
            self.restart()
        self.served = True
        _report({})
        users, used_at = open_lock(USERS), time.monotonic()
        while not self.asked_to_stop:
            time.sleep(TICK)
            if not names(WATCHER, watching):
                # By force: in good order mongod would remove the name of its socket.  In a folder
                # that was made anew, another server's socket has that name.
                self.end(signal.SIGKILL)
                return
            _cut_log()
            if not lock(users, fcntl.LOCK_EX):
                used_at = time.monotonic()
            elif time.monotonic() - used_at >= self.idle or not locked(MONGOD):
                break  # with the lock in hand, so that no client comes meanwhile
            fcntl.flock(users, fcntl.LOCK_UN)
            if not locked(MONGOD) or not os.path.exists(SOCKET):
                self.restart()
        self.stop()

    def start(self) -> None:
        """Start mongod in a session of its own; :meth:`await_primary` tells when it is ready."""
        os.makedirs("data", mode=0o700, exist_ok=True)
        # mongod inherits the locked file: a second one on the same data would take away the
        # first one's socket before it fails.
        alive = open_lock(MONGOD)
        try:
            fcntl.flock(alive, fcntl.LOCK_EX)
            os.pwrite(alive, b" " * 16, 0)  # a full disk shows here, with an error of its own
            # Opened here and not by mongod: so it can be cut while mongod writes, and holds
            # the errors of the dynamic linker.
            with open(LOG, "ab") as log:
                self.log_start = log.tell()
                self.child = subprocess.Popen(
                    [self.binary, *_OPTIONS.split()],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    pass_fds=(alive,),
                    preexec_fn=lambda: os.pwrite(alive, str(os.getpid()).encode(), 0),
                )
        finally:
            os.close(alive)

    def await_primary(self) -> bool:
        """Wait until mongod takes writes and answers at ``mongod.sock``; False if it ended.

        A child may take its time to recover after a crash.  Once it answers, it has
        :data:`_READY_SECONDS`, and so has one that was found running; then it is killed.
        """
        deadline = None if self.child else time.monotonic() + _READY_SECONDS
        while locked(MONGOD):
            if answers(SOCKET):  # found running, and ready long since
                return True
            reply = _hello()
            if b"\x08isWritablePrimary\0\1" in reply:
                os.rename(_STARTING, SOCKET)
                return True
            if reply:
                deadline = deadline or time.monotonic() + _READY_SECONDS
            if deadline and time.monotonic() > deadline:
                self.end(signal.SIGKILL)
            time.sleep(0.005)
        return False

    def restart(self) -> None:
        """Start mongod until it stays up, or there is no sense in it any more."""
        while True:
            now = time.monotonic()
            self.deaths = [at for at in self.deaths if at > now - WINDOW] + [now]
            full = shutil.disk_usage(".").free < FREE_BYTES
            code = self.child.wait() if self.child and not locked(MONGOD) else None
            _say(f"mongod ended (status {code}), {len(self.deaths)} times lately")
            failed = code not in (None, 0, -signal.SIGKILL, -signal.SIGTERM)
            if (failed and not self.served) or len(self.deaths) > (1 if full else RESTARTS):
                raise _GaveUp({"code": code, "words": self.last_words(), "failed": failed})
            self.stop()  # it lives on if only the name of its socket was removed
            time.sleep(0.025 * 2 ** len(self.deaths) if len(self.deaths) > 1 else 0)
            self.start()
            if self.await_primary():
                return

    def stop(self) -> None:
        """Stop mongod in good order; after some seconds by force, which loses nothing.

        First its socket gets its first name again, so that no client comes any more.  If this
        watcher is killed just here, the next one adopts mongod and makes it ready again.
        """
        with contextlib.suppress(FileNotFoundError):  # not ready yet, or somebody removed it
            os.rename(SOCKET, _STARTING)
        self.end(signal.SIGTERM, _STOP_SECONDS)
        self.end(signal.SIGKILL)

    def end(self, number: int, seconds: float = float("inf")) -> None:
        """Send a signal until mongod has ended, for so long at most."""
        deadline = time.monotonic() + seconds
        while locked(MONGOD) and time.monotonic() < deadline:
            with contextlib.suppress(ValueError, ProcessLookupError):  # its id is not there yet
                os.kill(int(Path(MONGOD).read_text()), number)
            time.sleep(0.01)

    def last_words(self, count: int = 4) -> list[str]:
        """Return the errors that mongod logged since its start, or else its last lines."""
        with open(LOG, errors="replace") as log:
            if os.fstat(log.fileno()).st_size > self.log_start:  # not if it was cut since
                log.seek(self.log_start)
            lines = [line for line in log.read().splitlines() if line.strip()]
        # Lines of another form come from the dynamic linker or the option parser.
        errors = [line for line in lines if not line.startswith("{") or _ERROR.search(line)]
        texts = [line.partition('"msg":')[2] or line for line in errors or lines]
        return [" ".join(text.split())[:300] for text in texts[-count:]]


def _hello() -> bytes:
    """Return the starting mongod's reply to hello, empty if none; initiate a new set."""
    try:
        reply = _command(_HELLO)
        if b"\2setName\0" not in reply:
            _command(_INITIATE)  # refused where a set exists, but is not read yet
    except OSError:
        return b""
    return reply


def _command(body: bytes) -> bytes:
    """Send one message of MongoDB's wire protocol (OP_MSG), and return the reply's."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10.0)
        connection.connect(_STARTING)
        # length, request id, response to, OP_MSG; flags; one section of kind 0
        connection.sendall(struct.pack("<iiiiIB", 21 + len(body), 1, 0, 2013, 0, 0) + body)
        with connection.makefile("rb") as stream:
            head = stream.read(21)
            if len(head) < 21:
                raise ConnectionResetError("mongod closed the connection")
            return stream.read(struct.unpack_from("<i", head)[0] - 21)


def _cut_log() -> None:
    """Cut a large log; without its old piece where that cannot be kept (full disk)."""
    try:
        if os.path.getsize(LOG) > LOG_BYTES:
            shutil.copyfile(LOG, LOG + ".1")
            os.truncate(LOG, 0)  # mongod appends, so it goes on at the new end
    except OSError as error:
        _say(f"the log was not cut: {error}")


def _say(text: str) -> None:
    """Write to the watcher's own log; a full disk is no reason to end."""
    with contextlib.suppress(OSError):
        print(time.strftime("%F %T"), os.getpid(), text, file=sys.stderr, flush=True)


def _report(message: dict[str, object]) -> None:
    """Send a report to the client that waits, if it still does; empty if mongod serves."""
    with contextlib.suppress(BrokenPipeError):
        os.write(1, json.dumps(message).encode())
    with open(os.devnull, "wb") as null:
        os.dup2(null.fileno(), 1)


def main(binary: str, idle: str) -> None:
    """Watch over the server in the current folder until nobody uses it."""
    if os.fork():  # the client waits for this process only: the child belongs to nobody
        os._exit(0)
    os.umask(0o077)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # the client may have blocked some
    watcher, watching = _Watcher(binary, float(idle)), open_lock(WATCHER)
    try:
        for _ in range(100):  # a client that looks for a watcher holds the lock for a moment
            if taken := lock(watching, fcntl.LOCK_EX):
                break
            time.sleep(0.005)
        if not taken:
            _report({})  # another watcher was faster: the client looks again
            return
        os.ftruncate(watching, 0)
        os.pwrite(watching, f"{socket.gethostname()} {os.getpid()}\n".encode(), 0)
        signal.signal(signal.SIGTERM, lambda *_: setattr(watcher, "asked_to_stop", True))
        watcher.run(watching)
    except Exception as error:  # as where the binary cannot be executed
        _say(traceback.format_exc())
        gave_up = isinstance(error, _GaveUp)
        _report(
            error.args[0] if gave_up else {"code": None, "words": [str(error)], "failed": False}
        )
        _say("gave up")


if __name__ == "__main__":
    main(*sys.argv[1:])
