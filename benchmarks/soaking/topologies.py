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

    def kill(self, away: float) -> None:
        """Kill the server that takes writes; it is started again `away` seconds later."""
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

    def kill(self, away: float) -> None:
        os.kill(self.pid(), signal.SIGKILL)

    def steady(self) -> None:
        _await(lambda: _is_primary(self.uri))


class Own(Topology):
    """mongods that the soak starts, as tests do."""

    def __init__(self, topology: servers.Topology) -> None:
        self._topology = topology
        self.uri = topology.uri("soak")
        self.environ = {"OPTOMATIC_DB": self.uri}

    def pid(self) -> int:
        process = self._topology.primary().process
        assert process is not None
        return process.pid

    def kill(self, away: float) -> None:
        member = self._topology.primary()
        member.kill()
        time.sleep(away)
        member.start()

    def steady(self) -> None:
        _await(lambda: all(_answers(member) for member in self._topology.members))
        self._topology.primary()


def start(name: str, home: Path) -> Topology:
    """Start the servers of the topology `name`."""
    if name == "embedded":
        return Embedded(home)
    return Own(servers.standalone() if name == "standalone" else servers.replica_set(3))


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
