"""The servers of a soak: the private one of one node, a standalone one, a replica set of three."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pymongo import MongoClient
from pymongo.errors import PyMongoError

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

import servers

from optomatic.embedded import server

#: Seconds until all servers answer again, after any kill.
PATIENCE = 90.0
#: Returns at the moment at which a server is to be killed, after so many seconds at the latest.
Moment = Callable[[float], None]
_LATEST = 10.0
#: A watcher starts its server five times a minute, and then gives up.
_REST = 13.0


class Topology:
    """Servers that can be killed and frozen.

    Attributes
    ----------
    uri : str
    environ : dict of str to str
        What tells clients and workers of it.
    unsafe : bool
        Whether servers are to be killed such that they lose what is not waited for.
    """

    uri: str
    environ: dict[str, str]
    unsafe: bool

    def kill(self, away: float, moment: Moment) -> None:
        """Kill the server that takes writes at `moment`; start it again `away` seconds later."""
        if self.unsafe:  # it writes its journal as rarely as it can
            with MongoClient(self.uri) as client:
                client.admin.command("setParameter", 1, journalCommitInterval=500)
        self._kill(away, moment)

    def _kill(self, away: float, moment: Moment) -> None:
        raise NotImplementedError

    def pid(self) -> int:
        """Return the process of the server that takes writes."""
        raise NotImplementedError

    def steady(self) -> None:
        """Wait until every server answers, and one takes writes."""
        raise NotImplementedError

    def freeze(self, seconds: float, wait: Callable[[float], None]) -> None:
        """Have the server that takes writes stand still."""
        pid = self.pid()
        os.kill(pid, signal.SIGSTOP)
        try:
            wait(seconds)
        finally:
            os.kill(pid, signal.SIGCONT)


class Embedded(Topology):
    """The private server, which its watcher starts again."""

    def __init__(self, home: Path, *, unsafe: bool) -> None:
        self.unsafe = unsafe
        self._not_before = 0.0
        self._lock = home / "server" / "mongod.lock"
        self.uri = server.serve(home)
        self.environ = {}

    def pid(self) -> int:
        return int(self._lock.read_text())

    def _kill(self, away: float, moment: Moment) -> None:
        time.sleep(max(0.0, self._not_before - time.monotonic()))
        pid = self.pid()
        moment(_LATEST)
        self._not_before = time.monotonic() + _REST
        os.kill(pid, signal.SIGKILL)

    def steady(self) -> None:
        _await(lambda: _is_primary(self.uri))


class Own(Topology):
    """mongods that the soak starts, as tests do."""

    def __init__(self, topology: servers.Topology, *, unsafe: bool) -> None:
        self._topology, self.unsafe = topology, unsafe
        self.uri = topology.uri("soak")
        self.environ = {"OPTOMATIC_DB": self.uri}

    def pid(self) -> int:
        process = self._topology.primary().process
        assert process is not None
        return process.pid

    def _kill(self, away: float, moment: Moment) -> None:
        member = self._topology.primary()
        others = [other for other in self._topology.members if other is not member]
        moment(_LATEST)
        if self.unsafe:  # secondaries lag behind
            self._signal(others, signal.SIGSTOP)
            moment(1.0)
        member.kill()
        if self.unsafe:
            self._signal(others, signal.SIGCONT)
        time.sleep(away)
        member.start()

    def _signal(self, members: list[servers.Mongod], number: int) -> None:
        for member in members:
            member.signal(number)

    def steady(self) -> None:
        _await(lambda: all(_answers(member) for member in self._topology.members))
        self._topology.primary()


def start(name: str, home: Path, *, unsafe: bool) -> Topology:
    """Start the servers of the topology `name`."""
    if name == "embedded":
        return Embedded(home, unsafe=unsafe)
    own = servers.standalone() if name == "standalone" else servers.replica_set(3)
    return Own(own, unsafe=unsafe)


def _is_primary(uri: str) -> bool:
    with MongoClient(uri, serverSelectionTimeoutMS=500, timeoutMS=1000) as client:
        return bool(client.admin.command("hello")["isWritablePrimary"])


def _answers(member: servers.Mongod) -> bool:
    with member.client(500) as client:
        hello = client.admin.command("hello")
        return bool(hello.get("isWritablePrimary") or hello.get("secondary"))


def _await(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with suppress(PyMongoError):
            if condition():
                return
        time.sleep(0.1)
    raise RuntimeError("the servers do not answer again")
