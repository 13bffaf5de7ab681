"""The process that children are forked from: ``python -m optomatic.worker.template FD PARENT``.

It has imported what every child needs, and does nothing else, so a child is there after
some ten milliseconds instead of a second or two, and shares with its siblings the memory of
numpy and scikit-learn.  It never runs user code, has no thread of Python's, and calls no
numeric routine, so nothing is held or half done when it forks.

=====================  ================================================================
asked on its socket    answer
=====================  ================================================================
setup                  none (first message)
``fork`` + fds         ``{"pid": n}``; the fds are the child's channel and, maybe, its output;
                       ``{"pid": null, "why": text}`` if it cannot fork now
``wait``, pid          ``{"code": n}`` once it has ended; its number is its own until then
=====================  ================================================================

It ends with its parent, and all children end with it.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import random
import signal
import socket
import sys
from typing import Any

from optomatic.worker.channel import Channel, readable
from optomatic.worker.child import die_with, ignore_terminal, run, take_over

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
    import optomatic.worker.limits
    import optomatic.worker.loading  # noqa: F401

    gc.collect()
    gc.freeze()  # the collector of a child would write to what is shared
    channel = _serve(asked, setup["idle"])
    if channel is not None:
        asked.close()
        run(channel, setup["idle"])


def _serve(asked: socket.socket, idle: float | None) -> Channel | None:
    """Do what is asked; return None at the end, and in each child its channel."""
    children = 0
    while True:
        # Without children nobody needs it, and a new one takes only a moment.
        if not readable(asked.fileno(), None if children else idle):
            return None
        data, descriptors, _, _ = socket.recv_fds(asked, LARGEST, 2)
        if not data:
            return None
        order = json.loads(data)
        if order["do"] == "wait":
            children -= 1
            _answer(asked, {"code": _wait(order["pid"])})
            continue
        parent = os.getpid()
        pid, why = _fork()
        if pid == 0:
            return _born(parent, order.get("environ"), *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        if pid is None:
            _answer(asked, {"pid": None, "why": why})
            continue
        children += 1
        with contextlib.suppress(OSError):  # the child was faster
            os.setpgid(pid, pid)
        _answer(asked, {"pid": pid})


def _fork() -> tuple[int | None, str]:
    """Fork; return the child's number, or None and why there is no child."""
    try:
        return os.fork(), ""
    except OSError as error:  # no memory, or too many processes: the children that live go on
        return None, str(error)


def _answer(asked: socket.socket, answer: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # the parent is gone, which the next look tells
        asked.send(json.dumps(answer).encode())


def _wait(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _born(
    parent: int, environ: dict[str, str] | None, channel: int, output: int | None = None
) -> Channel:
    """Become a process of one's own."""
    with contextlib.suppress(OSError):
        os.setpgid(0, 0)
    die_with(parent)
    if output is not None:
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.close(output)
    if environ is not None:  # it has changed since the template was started
        os.environ.clear()
        os.environ.update(environ)
    _draw_anew()
    return Channel(socket.socket(fileno=channel))


def _draw_anew() -> None:
    """Seed the global generators: what is not seeded must not be equal in all children."""
    import numpy as np

    random.seed()
    np.random.seed()  # noqa: NPY002


if __name__ == "__main__":
    # Not this module's copy that is called __main__: that name belongs to the user.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from optomatic.worker import template

    template.main(sys.argv[1:])
