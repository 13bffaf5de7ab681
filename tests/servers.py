"""Real mongods for tests: standalone, replica sets of one and three, with passwords.

They listen on 127.0.0.1 only, keep their data in memory where there is room, else in a temporary
folder, and end with the process that started them, even if that is killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import OperationFailure, PyMongoError

from optomatic.embedded.server import find_mongod

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)
#: Each test has a database of its own, whose files a disk takes half a second to sync.
_MEMORY, _ROOM = Path("/dev/shm"), 6 << 30
#: A child that dies with its parent dies with the *thread* that started it, so this one lasts.
_STARTER = ThreadPoolExecutor(1, "starter of servers")


def free_port() -> int:
    """Return a port that nobody listens on, outside of the range given to clients."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _folder() -> Path:
    """Return an empty folder, and remove those of processes that were killed."""
    for other in _MEMORY.glob("mongod-*-*"):
        if not psutil.pid_exists(int(other.name.split("-")[1])):
            shutil.rmtree(other, ignore_errors=True)
    roomy = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _ROOM
    return Path(tempfile.mkdtemp(prefix=f"mongod-{os.getpid()}-", dir=_MEMORY if roomy else None))


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Mongod:
    """One mongod; it can be killed, frozen and started again on its port."""

    def __init__(self, *options: str) -> None:
        self.folder = _folder()
        self.options = options
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it; returns when it answers."""
        command = [
            str(find_mongod()),
            f"--dbpath={self.folder}",
            f"--logpath={self.folder}/log",
            "--bind_ip=127.0.0.1",
            f"--port={self.port}",
            "--nounixsocket",
            "--wiredTigerCacheSizeGB=0.25",
            "--wiredTigerEngineConfigString=log=(file_max=8MB,prealloc=false)",
            # To create an index or drop a database it waits for this, 100 ms if nothing is said.
            "--journalCommitInterval=10",
            "--setParameter=enableTestCommands=1",
            "--setParameter=diagnosticDataCollectionEnabled=false",
            *self.options,
        ]
        self.process = _STARTER.submit(
            subprocess.Popen, command, stdout=subprocess.DEVNULL, preexec_fn=_die_with_parent
        ).result()
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(PyMongoError), self.client(500) as client:
                client.admin.command("hello")
                return
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"mongod did not start: {self.log()[-2000:]}")

    def client(self, patience: int = 10_000) -> MongoClient:
        return MongoClient(
            f"mongodb://{self.address}/?directConnection=true",
            serverSelectionTimeoutMS=patience,
        )

    def log(self) -> str:
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """End it without a chance to tidy up."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGKILL)
        assert self.process is not None
        self.process.wait()

    def remove(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


class Topology:
    """One or more mongods that are a MongoDB together."""

    def __init__(self, members: list[Mongod], replica_set: str | None = None) -> None:
        self.members = members
        self.replica_set = replica_set

    def uri(self, database: str, user: str = "", password: str = "") -> str:
        hosts = ",".join(member.address for member in self.members)
        options = f"?replicaSet={self.replica_set}" if self.replica_set else ""
        if user:
            return f"mongodb://{user}:{password}@{hosts}/{database}?authSource=admin"
        return f"mongodb://{hosts}/{database}{options}"

    def primary(self) -> Mongod:
        """Return the member that takes writes; waits for an election."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            for member in self.members:
                if member.process is None or member.process.poll() is not None:
                    continue
                with contextlib.suppress(PyMongoError), member.client(500) as client:
                    if client.admin.command("hello").get("isWritablePrimary"):
                        return member
            time.sleep(0.05)
        raise RuntimeError("no primary was elected")

    def remove(self) -> None:
        for member in self.members:
            member.remove()


@functools.lru_cache(maxsize=8)
def database(uri: str) -> Database:
    """Return the database behind `uri`, by a client that all who ask share."""
    return MongoClient(uri).get_default_database()


def units(uri: str) -> Collection:
    """Return the units behind `uri`."""
    return database(uri)["units"]


def standalone(*options: str) -> Topology:
    """Start a single server that is no replica set."""
    return Topology([Mongod(*options)])


def replica_set(size: int) -> Topology:
    """Start a replica set that elects a new primary about two seconds after a loss."""
    name = f"rs{os.getpid()}"
    members = [Mongod(f"--replSet={name}", "--oplogSize=64") for _ in range(size)]
    config = {
        "_id": name,
        "members": [
            {"_id": n, "host": member.address, "priority": 2 if n == 0 else 1}
            for n, member in enumerate(members)
        ],
        "settings": {"electionTimeoutMillis": 2000, "heartbeatIntervalMillis": 500},
    }
    with members[0].client() as client:
        client.admin.command("replSetInitiate", config)
    topology = Topology(members, name)
    topology.primary()
    return topology


def with_passwords(user: str, password: str) -> Topology:
    """Start a single server that lets in `user` only."""
    server = standalone("--auth")
    with server.members[0].client() as client, contextlib.suppress(OperationFailure):
        client.admin.command("createUser", user, pwd=password, roles=["root"])
    return server
