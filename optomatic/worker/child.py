"""The process that scores: forked by :mod:`optomatic.worker.forkserver`, or, where there is none,
``python -m optomatic.worker.child FD PARENT``.

It runs user code, so it may crash, hang, print, or hold the interpreter for hours.  It knows no
store and no credentials; it talks through one socket with its parent, and it ends with it:

- the kernel kills it (Linux), which works while user code holds the interpreter lock in C;
- a thread waits for the other end of the socket to close, which works everywhere.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optomatic._config import enter_worker
from optomatic.worker.protocol import Channel, Refusal, refusal_to_wire

if TYPE_CHECKING:
    from optomatic.worker.loading import Loader


_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Score what comes through the socket, until it says ``end`` or closes."""
    ignore_terminal()
    channel = Channel(socket.socket(fileno=int(arguments[0])))
    die_with(int(arguments[1]))
    setup = channel.next(None)
    take_over(setup)
    run(channel, setup["idle"])


def ignore_terminal() -> None:
    """Leave signals of a terminal to the parent."""
    # Ctrl-C at a terminal may reach every process there; the parent alone decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # In a process group of its own, printing to a terminal could stop it.
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)


def run(channel: Channel, idle: float | None) -> None:
    """Score what comes through `channel`, until it says ``end`` or closes."""
    ending = threading.Event()
    threading.Thread(
        target=_end_with_peer, args=(channel.fileno(), ending), name="lifeline", daemon=True
    ).start()
    os.register_at_fork(after_in_child=channel.close)  # what it forks is no child of ours
    # Only now: scikit-learn is to be found where the parent finds it.
    from optomatic.worker.loading import Loader

    enter_worker()
    channel.send([None, None])
    serve(channel, Loader(), idle=idle)
    ending.set()


def die_with(parent: int) -> None:
    """Have the kernel kill this process as soon as `parent` is gone.

    The signal comes when the *thread* that started this process ends, so that thread has to
    live as long as its process.
    """
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # It may have died before the line above took effect.
    if os.getppid() != parent:
        os._exit(1)


def _end_with_peer(descriptor: int, ending: threading.Event) -> None:
    """End this process, whatever it is doing, once the other end of the socket is closed."""
    poll = select.poll()
    poll.register(descriptor, getattr(select, "POLLRDHUP", 0))  # hang-ups are always reported
    while not poll.poll():
        pass
    if not ending.wait(0.5):  # a child that was told to end does so in its own way
        os._exit(1)


def take_over(setup: dict[str, Any]) -> None:
    """Find modules where the parent does; leave PYTHONPATH as the user set it."""
    sys.path[:] = setup["path"]
    if setup["python_path"] is None:
        os.environ.pop("PYTHONPATH", None)
    else:
        os.environ["PYTHONPATH"] = setup["python_path"]


def serve(channel: Channel, loader: Loader, *, idle: float | None) -> None:
    """Score chunk after chunk; return when told to, or after `idle` seconds without one."""
    from optomatic.worker.score import filtered

    while True:
        try:
            message = channel.next(idle)
        except EOFError:
            return
        if message is None or message["do"] == "end":
            return
        with filtered(message["warnings"]):
            if not _score_chunk(channel, loader, message):
                return


def _score_chunk(channel: Channel, loader: Loader, message: dict[str, Any]) -> bool:
    """Score the units of one message; return False after a refusal, which ends this process.

    What is done and what begins next go in one message, as a system call costs about as much
    as all the rest of the bookkeeping for a small unit.
    """
    from optomatic import _sklearn
    from optomatic.worker.loading import Refused

    loader.know(message["parts"], Path(message["folder"]), message["cache_size"])
    done = None
    own = os.getpid()
    for unit_id, split, text, number in message["units"]:
        channel.send([done, unit_id])
        began = time.perf_counter()
        try:
            wire, loading = loader.run(
                message["bundles"][number],
                text,
                split,
                begins_anew=partial(channel.send, [None, unit_id]),
            )
        except Refused as refused:
            state = "behind" if refused.behind else "fresh" if loader.fresh else "used"
            error = refused.error
            failure = None if error is None else _sklearn.failure_of(error, "load")
            refusal = refusal_to_wire(Refusal(refused.why, state, failure))
            channel.send([[unit_id, None, refusal], None])
            return False
        if os.getpid() != own:  # a copy that user code forked, and let come back
            os._exit(0)
        done = [unit_id, wire, time.perf_counter() - began - loading]
    channel.send([done, None])
    return True


if __name__ == "__main__":
    # Not this module's copy that is called __main__: that name belongs to the user.
    from optomatic.worker import child

    child.main(sys.argv[1:])
