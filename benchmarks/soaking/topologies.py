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

from optomatic.store import embedded

#: Seconds until all servers answer again, after any kill.
PATIENCE = 90.0
#: Returns at the moment at which a server is to be killed.
Moment = Callable[[], None]


class Topology:
    """Servers that can be killed and frozen.

    Attributes
    ----------
    uri : str
    environ : dict of str to str
        What tells clients and workers of it.
    """

    uri: str
    environ: dict[str, str]

    def kill(self, away: float, moment: Moment) -> None:
        """Kill the server that takes writes at `moment`; start it again `away` seconds later."""
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
    """The private server; its watcher starts it again, five times a minute at most."""

    def __init__(self, home: Path) -> None:
        self._lock = home / "server" / "mongod.lock"
        self.uri = embedded.serve(home)
        self.environ = {}

    def pid(self) -> int:
        return int(self._lock.read_text())

    def kill(self, away: float, moment: Moment) -> None:
        pid = self.pid()
        moment()
        os.kill(pid, signal.SIGKILL)

    def steady(self) -> None:
        _await(lambda: _is_primary(self.uri))


class Own(Topology):
    """mongods that the soak starts, as tests do.

    Parameters
    ----------
    lagging : bool
        Whether secondaries stand still just before the primary is killed.  Only what needs no
        majority is acknowledged then.
    """

    def __init__(self, topology: servers.Topology, *, lagging: bool) -> None:
        self._topology, self._lagging = topology, lagging
        self.uri = topology.uri("soak")
        self.environ = {"OPTOMATIC_DB": self.uri}

    def pid(self) -> int:
        process = self._topology.primary().process
        assert process is not None
        return process.pid

    def kill(self, away: float, moment: Moment) -> None:
        member = self._topology.primary()
        others = [other for other in self._topology.members if other is not member]
        moment()
        if self._lagging:
            self._signal(others, signal.SIGSTOP)
            moment()
        member.kill()
        if self._lagging:
            self._signal(others, signal.SIGCONT)
        time.sleep(away)
        member.start()

    def _signal(self, members: list[servers.Mongod], number: int) -> None:
        for member in members:
            member.signal(number)

    def steady(self) -> None:
        _await(lambda: all(_answers(member) for member in self._topology.members))
        self._topology.primary()


def start(name: str, home: Path, *, lagging: bool) -> Topology:
    """Start the servers of the topology `name`."""
    if name == "embedded":
        return Embedded(home)
    own = servers.standalone() if name == "standalone" else servers.replica_set(3)
    return Own(own, lagging=lagging)


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
