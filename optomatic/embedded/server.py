"""The private mongod behind ``db=None``: one for each user, started when asked for.

:func:`serve` returns the URI of a mongod that listens on one unix socket in a folder of mode
0700, and on no TCP port.  However many processes ask, at the same time or later, they
share one; it is stopped some time after the last of them has ended
(:mod:`optomatic.embedded.watcher` says how that is agreed), and its data stay.

Data live in ``server/`` in the first of

- ``$OPTOMATIC_HOME``
- ``~/Library/Application Support/optomatic`` (macOS)
- ``$XDG_DATA_HOME/optomatic``
- ``~/.local/share/optomatic``

which has to be a disk of this machine: a folder that several machines share is served by
one of them only, and the others are refused.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from optomatic import _config
from optomatic.embedded.mongod import LOG, SOCKET, answers, find_mongod
from optomatic.embedded.watcher import START, USERS, WATCHER, lock, open_lock
from optomatic.errors import FolderRefused, OptomaticError, ServerFailed, ServerMissing, StoreFull
from optomatic.private_folder import no_room, own_folder, room_in

#: Bytes of a unix socket's path that every system takes (Linux 107, macOS 103).
PATH_BYTES = 103


#: The folder of our own in whatever folder is named.
FOLDER = "server"
#: Seconds that are taken to learn why a server that was there is away.
_PATIENCE = 6.0
_WATCHER_LOG = "watcher.log"
_SCHEME = "mongodb://"


# The shared locks that this process holds, by server folder.  They are held until it ends:
# nobody can say sooner that no object in it will use the server any more.
_held: dict[str, int] = {}


def default_home(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of this user's embedded server, caches and keys (not created).

    Raises
    ------
    ServerFailed
        No variable names one, and this user has no home directory.
    """
    try:
        named = _config.setting(_config.HOME, environ)
        if named:
            return Path(named).expanduser()
        user = Path.home()
    except RuntimeError as error:
        raise ServerFailed(
            f"There is no home directory ({error}), so there is no place for the embedded "
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
    """Return the URI of the private mongod of `home`, which is ready for writes.

    It may be called from any number of threads and processes at the same time; one mongod
    comes of it.  From the call on this process counts as a client until it ends; so does a
    child that was forked from it (it shares the open lock file), but not one that was spawned:
    that one calls :func:`revive` with the URI it is given.

    Parameters
    ----------
    home : path, optional
        Default :func:`default_home`.
    idle : float, optional
        Seconds without a client after which mongod is stopped, default
        ``$OPTOMATIC_IDLE_SECONDS``, else 60.  It holds if this call starts the watcher; one that
        runs keeps its own.
    patience : float
        Seconds to wait for a server that is being started, here or by others.

    Returns
    -------
    str
        ``mongodb://<percent-encoded path of the socket>/optomatic?directConnection=true``.
        The same URI serves after mongod was started again.

    Raises
    ------
    ServerMissing
        There is no mongod to start.
    StoreFull
        There is no space left for it.
    ServerFailed
        The folder cannot be used, or mongod ended or did not answer in time.
    """
    folder = _server_folder(default_home() if home is None else Path(home))
    address = _address(folder)
    _hold(folder)
    if not (_watched(folder) and answers(address)):
        _bring_up(folder, address, idle, time.monotonic() + patience)
    return f"{_SCHEME}{quote(address, safe='')}/optomatic?directConnection=true"


def runs() -> bool:
    """Return whether the private server of this user runs; start nothing, and make no folder."""
    try:
        folder = default_home() / FOLDER
    except ServerFailed:
        return False
    return (folder / WATCHER).exists() and _watched(folder)


def revive(uri: str) -> bool:
    """See to it that the embedded server at `uri` runs; False if `uri` is not of one.

    For a process that was given the URI of :func:`serve` (it is a client from here on), and
    after a refused connection: the watcher starts a mongod that ended by itself, so this is for
    the day when the watcher is gone as well, or gave up.

    Raises
    ------
    ServerMissing, StoreFull, ServerFailed
        As :func:`serve`: why it does not run.
    """
    folder = folder_of(uri)
    if folder is None:
        return False
    serve(folder.parent)
    return True


def look_after(folder: Path) -> str:
    """Start the server in `folder` if nobody does, or wait for it, some seconds at most.

    Returns
    -------
    str
        Why it does not run, empty if it does.

    Raises
    ------
    StoreFull
        Its disk is full, so that nobody needs to wait for it.
    """
    try:
        serve(folder.parent, patience=_PATIENCE)
    except (ServerFailed, ServerMissing) as error:
        return str(error)
    return ""


def folder_of(uri: str) -> Path | None:
    """Return the folder of the embedded server at `uri`, None if `uri` is not of one."""
    path = Path(unquote(uri.removeprefix(_SCHEME).partition("/")[0]))
    if not uri.startswith(_SCHEME) or path.name != SOCKET:
        return None
    folder = path.parent.resolve()  # the way to it may be a short link
    return folder if folder.name == FOLDER and os.path.exists(folder / USERS) else None


def _server_folder(home: Path) -> Path:
    """Make the private folder of the server in `home`, and return its real path."""
    try:
        # Its locks tell one that was made before there were markers.
        folder = own_folder(home, FOLDER, older=(USERS, WATCHER))
        os.close(open_lock(folder / USERS))
    except FolderRefused as error:
        raise ServerFailed(f"No embedded server was started. {error} {_elsewhere()}") from error
    except OSError as error:
        raise _cannot_write(home, error) from error
    return folder


def _cannot_write(home: Path, error: OSError) -> OptomaticError:
    kind = StoreFull if no_room(error) else ServerFailed
    return kind(
        f"The embedded server cannot write to its folder in {home} "
        f"({error.strerror or error}; {room_in(home)}), so nothing was stored. {_elsewhere()}"
    )


def _address(folder: Path) -> str:
    """Return a path of the server's socket that every program can connect to.

    A socket's path is limited to about a hundred bytes; one that is longer (or that a
    URI could not carry) is reached through a link in a short folder.
    """
    path = str(folder / SOCKET)
    if len(os.fsencode(path)) <= PATH_BYTES and path.isascii() and path.isprintable():
        return path
    return f"{_link(folder)}/{SOCKET}"


def _link(folder: Path, environ: Mapping[str, str] = os.environ) -> str:
    """Return a short link to `folder` which nobody but this user can have made.

    In a folder that all may write to, like /tmp, another user may have put a link of this name
    that leads to a server of his.  One that we own cannot be replaced there by others.
    """
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    link = f"{_short_folder(environ)}/optomatic-{os.geteuid()}-{digest}"
    try:
        if not os.path.lexists(link):
            os.symlink(folder, link)
    except FileExistsError:
        pass  # another process of ours was faster, or somebody else: looked at now
    if os.lstat(link).st_uid != os.geteuid() or os.readlink(link) != str(folder):
        raise ServerFailed(
            f"The path of the embedded server's socket in {folder} is too long for the system, "
            f"and {link}, by which it would be reached, belongs to another user or leads "
            f"elsewhere, so it was not used. Remove it, or set OPTOMATIC_HOME to a shorter path."
        )
    return link


def _short_folder(environ: Mapping[str, str]) -> str:
    own = environ.get("XDG_RUNTIME_DIR", "")
    usable = len(own) < 40 and os.path.isabs(own) and os.access(own, os.W_OK)
    return own if usable else "/tmp"


def _hold(folder: Path) -> None:
    """Be a client of the server in `folder` until this process ends."""
    known = _held.get(str(folder))
    # Not so if the folder was made anew, or a daemonizing program closed all its files.
    if known is not None and _names(folder / USERS, known):
        return
    descriptor = open_lock(folder / USERS)
    # Waits, for a second or so, while a watcher stops an unused server.
    _wait_for_lock(descriptor, fcntl.LOCK_SH, folder / USERS, time.monotonic() + 30)
    _held[str(folder)] = descriptor  # of two threads one holds it once too often: no harm


def _names(path: Path, descriptor: int) -> bool:
    """Whether `descriptor` is open still, and on the file that is at `path` now."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def _wait_for_lock(descriptor: int, how: int, path: Path, deadline: float) -> None:
    while not lock(descriptor, how):
        if time.monotonic() > deadline:
            os.close(descriptor)
            raise ServerFailed(
                f"Another process holds {path} for longer than it should, so the embedded server "
                f"was not reached; what is stored is untouched. Look for a stopped or hanging "
                f"process that uses it (fuser {shlex.quote(str(path))}), end it, and try again."
            )
        time.sleep(0.005)


def _watched(folder: Path) -> bool:
    """Whether a watcher lives (it holds its lock)."""
    descriptor = open_lock(folder / WATCHER)
    try:
        return not lock(descriptor, fcntl.LOCK_SH)
    finally:
        _drop(descriptor)


def _drop(descriptor: int) -> None:
    """Give a lock back, also if another thread has just forked a child that shares the file."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


def _bring_up(folder: Path, address: str, idle: float | None, deadline: float) -> None:
    """Wait for the server, or start it, as the only one at a time to do so."""
    descriptor = open_lock(folder / START)
    _wait_for_lock(descriptor, fcntl.LOCK_EX, folder / START, deadline + 5)
    try:
        while not (_watched(folder) and answers(address)):
            watched = _watched(folder)
            if time.monotonic() > deadline or (watched and _is_elsewhere(folder)):
                raise ServerFailed(_silent(folder))
            if not watched:
                _start(folder, idle, deadline)
            else:
                time.sleep(0.01)  # it starts mongod again, or recovers what a crash left
    finally:
        _drop(descriptor)


def _is_elsewhere(folder: Path) -> bool:
    """Whether another machine's watcher has this folder: it cannot be reached, ever."""
    return _watching_host(folder) not in ("", socket.gethostname())


def _watching_host(folder: Path) -> str:
    return (folder / WATCHER).read_text().partition(" ")[0]


def _start(folder: Path, idle: float | None, deadline: float) -> None:
    """Start a watcher (which starts or adopts a mongod), and wait for what it reports.

    It is no error if others started one meanwhile (then this one does nothing), nor if
    somebody killed it: the caller looks again.
    """
    command = _command(folder, idle)
    with open(folder / _WATCHER_LOG, "wb") as log:
        launched = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": _import_path()},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
    with launched:  # it forks the watcher and ends at once
        try:
            report = launched.communicate(timeout=max(1.0, deadline - time.monotonic()))[0]
        except subprocess.TimeoutExpired:
            raise ServerFailed(_silent(folder)) from None
    if report:
        _raise_failure(folder, json.loads(report))
    elif launched.returncode > 0:
        text = (folder / _WATCHER_LOG).read_text(errors="replace")[-1500:]
        raise ServerFailed(
            "The process that watches over the embedded server failed, so nothing was stored; "
            f"what was stored before is untouched. It said: {text} {_elsewhere()}"
        )


def _command(folder: Path, idle: float | None) -> list[str]:
    if idle is None:
        idle = _idle_seconds(os.environ)
    options = [f"--folder={folder}", f"--mongod={find_mongod().absolute()}", f"--idle={idle}"]
    # -P: what lies in the current directory is not to be taken for a module.
    return [sys.executable, "-P", "-m", "optomatic.embedded.watcher", *options]


def _idle_seconds(environ: Mapping[str, str]) -> float:
    text = _config.setting(_config.IDLE_SECONDS, environ) or str(_config.DEFAULT_IDLE)
    try:
        return float(text)
    except ValueError:
        raise ServerFailed(
            f"OPTOMATIC_IDLE_SECONDS is {text!r}, which is no number of seconds, so the embedded "
            f"server was not started and nothing was stored. Correct it, or unset it."
        ) from None


def _import_path() -> str:
    """Return a PYTHONPATH with which the watcher is of the very optomatic that runs here."""
    root = str(Path(__file__).absolute().parents[2])
    return os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))


def _raise_failure(folder: Path, report: Mapping[str, Any]) -> None:
    """Raise what a watcher reported, if it is a failure."""
    if "up" in report or "busy" in report:
        return
    words = " | ".join(report["words"]) or "nothing"
    said = f"It said: {words} (all of it: {folder / LOG})"
    if report["full"]:
        raise StoreFull(
            f"The embedded mongod ended ({_status(report['code'])}), as {_lack(report)}: "
            f"{report['free'] / 1e6:.1f} MB are free in {folder}. Scores that were stored are "
            f"safe; nothing new is. Free some space and fit again. {_elsewhere()} {said}"
        )
    raise ServerFailed(
        f"The embedded mongod ended ({_status(report['code'])}){_hint(report)}, so nothing was "
        f"stored; what was stored before is untouched in {folder}. {said}. "
        f"{report['free'] / 1e6:.0f} MB are free there. {_elsewhere()}"
    )


def _status(code: int | None) -> str:
    if code is None:
        return "its exit status is not known"
    return f"signal {-code}" if code < 0 else f"exit status {code}"


def _lack(report: Mapping[str, Any]) -> str:
    limited = report["code"] == -signal.SIGXFSZ
    return "its files may not get larger (ulimit -f)" if limited else "its disk is full"


def _hint(report: Mapping[str, Any]) -> str:
    if report["code"] == 62:
        return ", as another version of MongoDB wrote its data: use that one ($OPTOMATIC_MONGOD)"
    if report["code"] == 127:
        return ", as it does not fit this system: name another one in $OPTOMATIC_MONGOD"
    if report["code"] == -9:
        return ", killed by somebody, or by the system for want of memory"
    return ""


def _silent(folder: Path) -> str:
    if _watched(folder) and _is_elsewhere(folder):
        return (
            f"The embedded server of {folder} runs on another machine ({_watching_host(folder)}), "
            f"where its socket cannot be reached from here; nothing was stored. For work on "
            f'several machines run a MongoDB and give db="mongodb://host/name"; or set '
            f"OPTOMATIC_HOME to a local disk."
        )
    free = shutil.disk_usage(folder).free
    return (
        f"The embedded server of {folder} did not answer in time, so nothing was stored; what was "
        f"stored before is untouched. After a crash it may need longer to recover: fit again. If "
        f"that does not help look at {folder / LOG} ({free / 1e6:.0f} MB are free there)."
    )


def _elsewhere() -> str:
    return (
        "For another place set OPTOMATIC_HOME to a folder of yours on a local disk, or give db= or "
        "$OPTOMATIC_DB the address of a running MongoDB."
    )
