"""The process that starts the embedded mongod, starts it again, and stops it when idle.

Run by :mod:`optomatic.embedded.server` as ``python -m optomatic.embedded.watcher``.  It is a
daemon: a session of its own, and a child of the system's first process, so that neither
Ctrl-C in a terminal nor the end of the client that started it reaches it or its mongod.

Three files in the server folder, each locked with ``flock``, are all that the processes
agree by.  The system drops a lock when its holder ends in whatever way, so
there is nothing to clean up after a kill -9.

================  ===========================================================================
``users.lock``    held shared by every client for as long as it lives, from before it looks
                  for the server.  Who holds it exclusive knows that there is no client, and
                  that none can come: only then mongod is stopped.
``watcher.lock``  held exclusive by the watcher for as long as it lives.  Only its holder
                  starts or stops a mongod in this folder.
``start.lock``    held exclusive by a client while it starts a watcher and waits for it.
================  ===========================================================================

What dies, and who notices:

- a client: its share of ``users.lock`` goes; the watcher sees nobody there, and stops
  mongod after the idle time.
- mongod: the watcher starts it again while there are clients, up to :data:`RESTARTS` times
  in :data:`WINDOW` seconds (once if the disk is full), and leaves otherwise.
- the watcher: mongod goes on.  The next client starts a watcher, which adopts it.  (SIGTERM,
  as at the machine's shutdown, makes a watcher stop mongod in good order, clients or not.)
- the folder (moved: all goes on, as every path is relative to it; deleted: the watcher
  kills mongod and leaves).

This module imports neither pymongo nor numpy: a watcher takes 14 MB and starts in 50 ms.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optomatic.embedded.mongod import LOG, SOCKET, Mongod
from optomatic.private_folder import no_room, says_no_room

USERS = "users.lock"
WATCHER = "watcher.lock"
START = "start.lock"


#: Seconds between two looks.
TICK = 0.2
#: So often within so many seconds mongod is started again.
RESTARTS = 5
WINDOW = 60.0
#: With less free space than this a mongod that ended by itself is said to have run out of it.
FREE_BYTES = 32_000_000
#: The log is cut at this size; one old piece is kept.
LOG_BYTES = 4_000_000


def lock(descriptor: int, how: int) -> bool:
    """Take a ``flock`` without waiting; whether it was had."""
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def open_lock(path: str | Path) -> int:
    """Open (and make) a file to be locked.  The caller closes it, and so drops the lock."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


class _GaveUp(Exception):
    """mongod does not stay up; `args` holds what there is to report."""


@dataclass
class _Watcher:
    """The life of one server, in the current directory."""

    binary: str
    idle: float
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], object] = time.sleep
    asked_to_stop: bool = False
    served: bool = False
    deaths: list[float] = field(default_factory=list)

    def run(self, watching: int, report: Callable[[dict[str, Any]], None]) -> None:
        """Serve until nobody is there; `watching` is the locked file of :data:`WATCHER`."""
        server = Mongod.found() or Mongod.start(self.binary)
        if not server.await_primary():
            server = self._again(server)
        self.served = True
        report({"up": server.pid})
        users = open_lock(USERS)
        unused_since = None
        while self._here(watching, server):
            self.sleep(TICK)
            _cut_log()
            with _nobody(users) as unused:
                if not unused:
                    unused_since = None
                elif self._over(unused_since := unused_since or self.clock(), server):
                    server.stop()
                    return
            if not server.alive() or not os.path.exists(SOCKET):
                server = self._again(server)

    def _over(self, unused_since: float, server: Mongod) -> bool:
        waited = self.clock() - unused_since
        return waited >= self.idle or not server.alive()

    def _here(self, watching: int, server: Mongod) -> bool:
        """Whether to go on: nobody asked us to stop, and the folder is still there."""
        if self.asked_to_stop:
            server.stop()
            return False
        if not _same(watching, WATCHER):
            # By force: in good order it would remove its socket's name, and where the folder
            # was made anew, that is the name of another server's socket by now.
            server.kill()
            return False
        return True

    def _again(self, server: Mongod) -> Mongod:
        """Start mongod again, until it stays up or there is no sense in it any more."""
        while True:
            self.deaths = [at for at in self.deaths if at > self.clock() - WINDOW]
            self.deaths.append(self.clock())
            _say(f"mongod ended (status {server.code}), {len(self.deaths)} times lately")
            if self._hopeless(server):
                raise _GaveUp(_report(server))
            server.stop()  # lives on if only the name of its socket was removed
            self.sleep(0.025 * 2 ** len(self.deaths) if len(self.deaths) > 1 else 0)
            server = Mongod.start(self.binary)
            if server.await_primary():
                return server

    def _hopeless(self, server: Mongod) -> bool:
        """Whether to give up: it never worked, has ended too often, or the disk is full."""
        if not self.served and server.failed:
            return True
        full = shutil.disk_usage(".").free < FREE_BYTES
        return len(self.deaths) > (1 if full else RESTARTS)


@contextlib.contextmanager
def _nobody(users: int) -> Iterator[bool]:
    """Hold `users` exclusive if no client has it, and yield whether that is so."""
    unused = lock(users, fcntl.LOCK_EX)
    try:
        yield unused
    finally:
        if unused:
            fcntl.flock(users, fcntl.LOCK_UN)


def _same(descriptor: int, path: str) -> bool:
    """Whether `path` still names the open file."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _report(server: Mongod) -> dict[str, Any]:
    words, free = server.last_words(), shutil.disk_usage(".").free
    full = (server.failed and free < FREE_BYTES) or says_no_room("".join(words))
    full = full or server.code == -signal.SIGXFSZ
    return {"code": server.code, "words": words, "free": free, "full": full}


def _cut_log() -> None:
    """Bound mongod's log; an old piece that cannot be kept (full disk) is done without."""
    try:
        if os.path.getsize(LOG) > LOG_BYTES:
            shutil.copyfile(LOG, LOG + ".1")
            os.truncate(LOG, 0)  # mongod appends, so it goes on at the new end
    except OSError as error:
        _say(f"the log was not cut: {error}")


def _say(text: str) -> None:
    """Write to the watcher's own log; on a full disk there is nobody else to tell."""
    with contextlib.suppress(OSError):
        print(time.strftime("%F %T"), os.getpid(), text, file=sys.stderr, flush=True)


def _tell(message: dict[str, Any]) -> None:
    """Tell the client that waits for us, if it is still there."""
    with contextlib.suppress(BrokenPipeError):  # it ended, or waits no longer
        os.write(1, json.dumps(message).encode() + b"\n")
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)


def _take(watching: int, sleep: Callable[[float], object] = time.sleep) -> bool:
    """Become the watcher.  Clients that look whether there is one hold the lock for a moment."""
    for _ in range(100):
        if lock(watching, fcntl.LOCK_EX):
            os.ftruncate(watching, 0)
            os.pwrite(watching, f"{socket.gethostname()} {os.getpid()}\n".encode(), 0)
            return True
        sleep(0.005)
    return False


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "optomatic.embedded.watcher", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--folder", required=True, help="the server folder")
    parser.add_argument("--mongod", required=True, help="the binary")
    parser.add_argument("--idle", type=float, required=True, help="seconds without a client")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Watch over one server folder until nobody uses it; 0 if it was stopped in good order."""
    asked = _parsed(arguments)
    if os.fork():  # the client waits for this process only: the child belongs to nobody
        os._exit(0)
    os.chdir(asked.folder)
    os.umask(0o077)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # the client may have blocked some
    try:
        return _watch(_Watcher(asked.mongod, asked.idle))
    except _GaveUp as end:
        return _leave(end.args[0])
    except Exception as error:  # such as: the binary cannot be executed, no file can be written
        _say(traceback.format_exc())
        full = isinstance(error, OSError) and no_room(error)
        free = shutil.disk_usage(asked.folder).free
        return _leave({"code": None, "words": [str(error)], "free": free, "full": full})


def _watch(watcher: _Watcher) -> int:
    watching = open_lock(WATCHER)
    if not _take(watching):
        _tell({"busy": True})
        return 1
    signal.signal(signal.SIGTERM, lambda *_: setattr(watcher, "asked_to_stop", True))
    watcher.run(watching, _tell)
    return 0


def _leave(report: dict[str, Any]) -> int:
    _tell(report)
    _say(f"gave up: {report}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
