"""Processes that score: forked by a fork server, or started afresh.

Where the kernel can tell of the end of any process (pidfd, Linux), children are forked from a
process of this module; elsewhere each is a fresh interpreter.  Neither has anything of the
parent's memory or threads in it, and the user's ``__main__`` is never run again.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optomatic import _config
from optomatic.errors import OptomaticError
from optomatic.worker.child import die_with, ignore_terminal, run, take_over
from optomatic.worker.protocol import Channel, readable

#: Numeric libraries read these when they are loaded.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


#: So many fork servers are kept, for different paths and numbers of threads.
_SERVERS = 3
CAN_FORK = hasattr(os, "pidfd_open") and sys.platform == "linux"


@dataclass(frozen=True, slots=True)
class Setup:
    """How a child is to be started."""

    #: Its ``sys.path``: modules of the user's script must be found as in the parent.
    path: tuple[str, ...]
    #: Threads of numeric libraries, unless the environment says so; None leaves it to them.
    threads: int | None = None
    #: It ends by itself after so many seconds without work.
    idle: float | None = None
    #: Its output goes through its parent, which bounds it.
    captured: bool = False
    #: A fresh interpreter, also where it could be forked.
    fresh: bool = not CAN_FORK


def child_environment(environ: Mapping[str, str], setup: Setup) -> dict[str, str]:
    """Return the environment of a child: without addresses and keys, with bounded threads."""
    kept = {k: v for k, v in environ.items() if not k.startswith(_config.PREFIX)}
    kept["PYTHONPATH"] = os.pathsep.join(setup.path)
    if setup.threads is not None:
        for variable in THREAD_VARIABLES:
            kept.setdefault(variable, str(setup.threads))
    return kept


def own_environment(setup: Setup) -> dict[str, str]:
    """Return the environment that user code sees in a child: PYTHONPATH is the user's."""
    shown = child_environment(os.environ, setup)
    del shown["PYTHONPATH"]
    own = os.environ.get("PYTHONPATH")
    return shown if own is None else {**shown, "PYTHONPATH": own}


def first_message(setup: Setup) -> dict[str, Any]:
    """Return the first message to a fresh interpreter."""
    own = os.environ.get("PYTHONPATH")
    return {"path": setup.path, "python_path": own, "idle": setup.idle}


class StartFailed(Exception):
    """A child could not be started now; a later try may go well.  The text says how it ended."""


class _Process:
    """A process, and a descriptor that becomes readable when it ends, if there is such a thing."""

    def __init__(self, pid: int, death: int | None) -> None:
        self.pid, self.death = pid, death

    def close(self) -> None:
        """Free the descriptor."""
        if self.death is not None:
            os.close(self.death)
            self.death = None


class Fresh(_Process):
    """A process that this one has started itself."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        death = None
        if hasattr(os, "pidfd_open"):
            with contextlib.suppress(OSError):
                death = os.pidfd_open(process.pid)
        super().__init__(process.pid, death)

    def state(self) -> str:
        """Return ``runs``, ``dead`` (its number is still its own) or ``gone``."""
        if self._process.returncode is not None:
            return "gone"
        try:
            ended = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:  # someone waits for all children of this process, or ignores them
            return "gone"
        return "runs" if ended is None else "dead"

    def wait(self) -> int | None:
        """Wait for its end; return its exit code, minus its signal, or None if nobody knows."""
        return self._process.wait()


class Forked(_Process):
    """A process that a fork server has forked."""

    def __init__(self, server: ForkServer, pid: int) -> None:
        super().__init__(pid, os.pidfd_open(pid))
        self._server = server
        self._over = False
        self._code: int | None = None

    def state(self) -> str:
        """Return ``runs``, ``dead`` (its number is still its own) or ``gone``."""
        # Its fork server keeps its number; if that is gone, the number may be another's.  It also
        # dies with its fork server, if maybe some milliseconds later.
        if self._over or self.death is None or not self._server.alive():
            return "gone"
        return "dead" if readable(self.death, 0.0) else "runs"

    def wait(self) -> int | None:
        """Wait for its end; return its exit code, minus its signal, or None if nobody knows."""
        if not self._over and self.death is not None:
            readable(self.death, None)
            self._code = self._server.wait_for(self.pid)  # once: its number is free after that
        self._over = True
        return self._code


class ForkServer:
    """The process that forks children, seen from its parent.  Safe to share among threads."""

    def __init__(self, setup: Setup) -> None:
        self._lock, self._setup = threading.Lock(), setup
        self._environ = own_environment(setup)
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = start_python("optomatic.worker.forkserver", theirs.fileno(), setup)
        with contextlib.suppress(OSError):  # that it has ended is noticed when it is to fork
            self._ours.send(json.dumps(first_message(setup)).encode())

    def alive(self) -> bool:
        """Return whether it runs."""
        return self._process.poll() is None

    def fork(self, channel: int, output: int | None) -> Forked | None:
        """Return a new child with these descriptors; None if the fork server is gone.

        If it lives and cannot fork, raise StartFailed.
        """
        descriptors = [channel] if output is None else [channel, output]
        environ = own_environment(self._setup)
        changed = {} if environ == self._environ else {"environ": environ}
        answer = self._ask({"do": "fork", **changed}, descriptors)
        if answer is None:
            return None
        if answer["pid"] is None:
            raise StartFailed(answer["why"])
        return Forked(self, answer["pid"])

    def wait_for(self, pid: int) -> int | None:
        """Return how a child ended that is dead; None if the fork server is gone."""
        answer = self._ask({"do": "wait", "pid": pid})
        return None if answer is None else answer["code"]

    def _ask(self, order: Mapping[str, Any], descriptors: list[int] | None = None) -> Any:
        data = json.dumps(order).encode()
        with self._lock:
            try:
                socket.send_fds(self._ours, [data], descriptors or [])
                answer = self._ours.recv(1 << 16)
            except OSError:
                return None
        return json.loads(answer) if answer else None

    def end(self) -> int:
        """End it, and with it all its children; return how it ended."""
        self._ours.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(1.0)
        self._process.kill()
        return self._process.wait()


def start_python(
    module: str, descriptor: int, setup: Setup, **options: Any
) -> subprocess.Popen[bytes]:
    """Start ``python -m module descriptor pid`` in the environment of a child."""
    return subprocess.Popen(
        python_command(module, descriptor),
        pass_fds=[descriptor],
        stdin=subprocess.DEVNULL,
        env=child_environment(os.environ, setup),
        process_group=0,  # Ctrl-C goes to the parent alone; all it starts can be killed
        **options,
    )


def python_command(module: str, descriptor: int) -> list[str]:
    """Return the command line of a process that talks through `descriptor`."""
    warnings = [f"-W{option}" for option in sys.warnoptions]
    # Asserts of user code count, in keys too, so they run there if they do here.
    optimized = ["-" + "O" * sys.flags.optimize] if sys.flags.optimize else []
    # -P: the current directory must not come before the parent's path.
    options = ["-P", *optimized, *warnings]
    return [sys.executable, *options, "-m", module, str(descriptor), str(os.getpid())]


class ForkServers:
    """Starts processes, by a fork server for each setup.

    Used by one thread, which lives as long as they do: Linux kills a process when the *thread*
    that started it ends.
    """

    def __init__(self) -> None:
        self._servers: OrderedDict[object, ForkServer] = OrderedDict()

    def start(self, setup: Setup, channel: int, output: int | None) -> Fresh | Forked:
        """Start a process that finds its end of the channel at the descriptor `channel`.

        Raise StartFailed if that fails now, also if the fork server was killed since its last fork.
        """
        try:
            return self._start(setup, channel, output)
        except OSError as error:  # no memory for another process, or too many are there
            raise StartFailed(str(error)) from error

    def _start(self, setup: Setup, channel: int, output: int | None) -> Fresh | Forked:
        if setup.fresh:
            printed = {} if output is None else {"stdout": output, "stderr": output}
            return Fresh(start_python("optomatic.worker.child", channel, setup, **printed))
        threads = tuple(os.environ.get(variable) for variable in THREAD_VARIABLES)
        wanted = (setup.path, setup.threads, setup.idle, threads)
        known = self._servers.get(wanted)
        child = known and self._fork(wanted, known, channel, output)
        # There was none, or it ended after a long time without work.
        child = child or self._fork(wanted, ForkServer(setup), channel, output)
        if child is None:
            raise StartFailed(manner(0))
        return child

    def _fork(
        self, wanted: object, server: ForkServer, channel: int, output: int | None
    ) -> Forked | None:
        """Fork a child, and keep its server; None if that has ended by itself.

        The children of a server keep it, too.
        """
        self._servers.pop(wanted, None)
        child = server.fork(channel, output)
        if child is None:
            if code := server.end():
                raise StartFailed(manner(code))
            return None
        self._servers[wanted] = server
        while len(self._servers) > _SERVERS:
            self._servers.popitem(last=False)
        return child


def cannot_start(how: str, times: int) -> OptomaticError:
    """Return the error of processes that end before they are of use, so many in a row."""
    hint = (
        "The system kills what takes too much memory (its log, dmesg, names it): use fewer "
        "processes, or free memory."
        if how == "SIGKILL"
        else "Check that Python and scikit-learn can be imported by a new process here; what it "
        "printed stands above."
    )
    return OptomaticError(
        f"The processes that score units end before they score any, {times} in a row (the last by "
        f"{how}), so no more are started. Stored scores are safe, and what was claimed is queued "
        f"again. {hint}"
    )


def manner(code: int) -> str:
    """Return how a process ended: ``SIGSEGV``, ``exit code 1``."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


# The process that children are forked from: ``python -m optomatic.worker.forkserver FD PARENT``.
#
# It has imported what every child needs, and does nothing else, so a child is there after
# some ten milliseconds instead of a second or two, and shares with its siblings the memory of
# numpy and scikit-learn.  It never runs user code, has no thread of Python's, and calls no
# numeric routine, so nothing is held or half done when it forks.  It ends with its parent, and all
# children end with it.
#
# =====================  ================================================================
# asked on its socket    answer
# =====================  ================================================================
# setup                  none (first message)
# ``fork`` + fds         ``{"pid": n}``; the fds are the child's channel and, maybe, its output;
#                        ``{"pid": null, "why": text}`` if it cannot fork now
# ``wait``, pid          ``{"code": n}`` once it has ended; its number is its own until then
# =====================  ================================================================

#: Bytes of the largest message.
LARGEST = 1 << 20


def main(arguments: list[str]) -> None:
    """Fork children until the parent closes the socket; a child returns once it is over."""
    ignore_terminal()
    asked = socket.socket(fileno=int(arguments[0]))
    die_with(int(arguments[1]))
    setup = json.loads(asked.recv(LARGEST))
    take_over(setup)
    # Only now: scikit-learn is to be found where the parent finds it.
    import optomatic.worker.loading  # noqa: F401

    gc.collect()
    gc.freeze()  # the collector of a child would write to what is shared
    channel = _serve(asked, setup["idle"])
    if channel is not None:
        asked.close()
        run(channel, setup["idle"])


def _serve(asked: socket.socket, idle: float | None) -> Channel | None:
    """Answer the parent; return None at the end, and in each child its channel."""
    children = 0
    while True:
        # Without children it is of no use, and a new one starts in a moment.
        if not readable(asked.fileno(), None if children else idle):
            return None
        data, descriptors, _, _ = socket.recv_fds(asked, LARGEST, 2)
        if not data:
            return None
        order = json.loads(data)
        if order["do"] == "wait":
            children -= 1
            code = os.waitstatus_to_exitcode(os.waitpid(order["pid"], 0)[1])
            _answer(asked, {"code": code})
            continue
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:  # no memory, or too many processes: the children that live go on
            pid = None
            _answer(asked, {"pid": None, "why": str(error)})
        if pid == 0:
            return _born(parent, order.get("environ"), *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        if pid is not None:
            children += 1
            with contextlib.suppress(OSError):  # the child was faster
                os.setpgid(pid, pid)
            _answer(asked, {"pid": pid})


def _answer(asked: socket.socket, answer: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # the parent is gone, which the next look tells
        asked.send(json.dumps(answer).encode())


def _born(
    parent: int, environ: dict[str, str] | None, channel: int, output: int | None = None
) -> Channel:
    """Become a child: with its own group, output and environment; return its channel."""
    with contextlib.suppress(OSError):
        os.setpgid(0, 0)
    die_with(parent)
    if output is not None:
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.close(output)
    if environ is not None:  # it has changed since the fork server was started
        os.environ.clear()
        os.environ.update(environ)
    # Seed the global generators: unseeded numbers must not be equal in all children.
    import numpy as np

    random.seed()
    np.random.seed()  # noqa: NPY002
    return Channel(socket.socket(fileno=channel))


if __name__ == "__main__":
    # Not this module's copy that is called __main__: that name belongs to the user.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from optomatic.worker import forkserver

    forkserver.main(sys.argv[1:])
