"""Clients and workers: how they are started, and whether each ended as it was made to."""

from __future__ import annotations

import itertools
import math
import signal
import subprocess
import sys
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import psutil

from . import notes

#: So many last lines are shown of a process that ended by itself.
_LINES = 200
#: Seconds for which a worker may go on after SIGTERM, with those that it takes to notice.
_FAREWELL = 60.0
_FORKS = "optomatic.worker.forkserver"


class Actor:
    """A client or a worker.

    Attributes
    ----------
    kind : {"client", "worker"}
    end : int or None
        The exit code with which it has to end, as it was made to; None while it has not been.
    """

    def __init__(self, kind: str, name: str, command: list[str], noted: Path, number: int) -> None:
        self.kind, self.name, self._noted = kind, name, noted
        self.end: int | None = None
        self._printed = noted.with_name(f"{number}.out")
        with self._printed.open("ab") as printed:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *command],
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=printed,
                process_group=0,  # Ctrl-C at a terminal is for the soak alone
            )

    def signal(self, number: int, end: int) -> None:
        """Make it end, with the exit code `end`."""
        self.end = end
        self.process.send_signal(number)

    def template(self) -> psutil.Process | None:
        """Return the process that its children are forked from, if there is one."""
        return next(_forks_of(self.process.pid), None)

    def children(self) -> list[psutil.Process]:
        """Return the processes that score for it."""
        template = self.template()
        return [] if template is None else list(_forks_of(template.pid))

    def quiet_for(self) -> float:
        """Return for how many seconds it has written nothing down, 0 if it is not ready."""
        if not self.ready():
            return 0.0
        files = [path for path in (self._noted, self._printed) if path.exists()]
        return time.time() - max(path.stat().st_mtime for path in files)

    def ready(self) -> bool:
        """Tell whether it is at work, and knows its signals."""
        return "ready" in self._printed.read_text(errors="replace")

    def printed(self, lines: int = _LINES) -> str:
        """Return what it printed last."""
        return "\n".join(self._printed.read_text(errors="replace").splitlines()[-lines:])


def _forks_of(pid: int) -> Iterable[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        for process in psutil.Process(pid).children():
            with suppress(psutil.NoSuchProcess):
                if _FORKS in process.cmdline():
                    yield process


class Actors:
    """All clients and workers; who ends is replaced.

    Parameters
    ----------
    asked : Namespace
        ``seed``, ``clients``, ``workers``; ``hang``: a client that has ended nothing for so many
        seconds hangs.
    describe : callable
        Tells, where one hangs, what it waits for.

    Attributes
    ----------
    counts : Counter
        ``workers ended otherwise``, ``clients ended otherwise``, ``hangs``.
    """

    def __init__(self, folder: Path, asked: Namespace, describe: Callable[[], str]) -> None:
        self._folder, self._seed, self._clients = folder, asked.seed, asked.clients
        self._hang, self._describe = asked.hang, describe
        self._numbers = itertools.count()
        self.counts: Counter[str] = Counter()
        self.all = [self._client(slot) for slot in range(asked.clients)]
        self.all += [self._worker() for _ in range(asked.workers)]

    def _client(self, slot: int) -> Actor:
        arguments = [str(self._seed), str(self._clients), str(slot), str(self._folder)]
        command = ["soaking.client", *arguments]
        noted = self._folder / f"client{slot}"
        return Actor("client", str(slot), command, noted, next(self._numbers))

    def _worker(self) -> Actor:
        number = next(self._numbers)
        noted = self._folder / f"acknowledged.worker{number}"
        return Actor("worker", str(number), ["soaking.worker", str(noted)], noted, number)

    def of(self, kind: str) -> list[Actor]:
        """Return those of a kind that have begun to work and were not made to end."""
        return [a for a in self.all if a.kind == kind and a.end is None and a.ready()]

    def all_ready(self) -> bool:
        """Tell whether nobody has just been started."""
        return all(actor.ready() for actor in self.all)

    def look(self, *, replace: bool = True) -> None:
        """See who has ended, and who hangs; replace them."""
        for actor in list(self.all):
            hangs = actor.kind == "client" and actor.quiet_for() > self._hang
            if hangs and actor.end != -signal.SIGKILL:
                self._end_hanging(actor)
            code = actor.process.poll()
            if code is None:
                continue
            if code != actor.end:
                self._count(f"{actor.kind}s ended otherwise", actor, f"exit code {code}")
            self.all.remove(actor)
            if replace:
                fresh = self._client(int(actor.name)) if actor.kind == "client" else self._worker()
                self.all.append(fresh)

    def until_acknowledged(self, seconds: float) -> None:
        """Return just after a result was acknowledged to anybody, or after `seconds`."""

        def size() -> int:
            return sum(path.stat().st_size for path in self._folder.glob("acknowledged.*"))

        before, deadline = size(), time.monotonic() + seconds
        while size() == before and time.monotonic() < deadline:
            time.sleep(0.002)

    def _count(self, what: str, actor: Actor, how: str) -> None:
        self.counts[what] += 1
        print(f"-- {what}: {actor.kind} {actor.name}, {how}", file=sys.stderr)
        print(actor.printed(), file=sys.stderr, flush=True)

    def _end_hanging(self, actor: Actor) -> None:
        """Show the stacks of `actor` and of all workers, and kill it."""
        those = {actor, *(worker for worker in self.all if worker.kind == "worker")}
        for one in those:
            if one.ready():
                one.process.send_signal(notes.STACKS)
        time.sleep(1.0)
        what = "hangs" if actor.kind == "client" else "workers ended otherwise"
        self._count(what, actor, "does nothing any more")
        for one in those - {actor}:
            print(f"-- meanwhile {one.kind} {one.name}\n{one.printed()}", file=sys.stderr)
        print(f"-- {self._describe()}", file=sys.stderr, flush=True)
        actor.signal(signal.SIGKILL, -signal.SIGKILL)
        actor.process.wait()

    def finish(self) -> None:
        """Have clients end what they are at, then workers."""
        while any(actor.end is not None for actor in self.all):
            self.look()  # who was killed a moment ago is replaced, as units wait for its search
            time.sleep(0.05)
        for kind, seconds in (("client", math.inf), ("worker", _FAREWELL)):
            leaving = [actor for actor in self.all if actor.kind == kind]
            deadline = time.monotonic() + seconds
            while any(actor in self.all for actor in leaving):
                for actor in leaving:
                    if actor.end is None and actor.ready() and actor.process.poll() is None:
                        actor.signal(signal.SIGTERM, 0)
                    if time.monotonic() > deadline and actor in self.all:
                        self._end_hanging(actor)
                self.look(replace=False)
                time.sleep(0.05)
