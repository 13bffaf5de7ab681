"""A database host that lasts for all tests, and hosts for workers and a client."""

import contextlib
import json
import os
import secrets
import shutil
import sys
import tempfile
from pathlib import Path
from urllib.parse import quote

import pytest
from hosts import namespaces
from pymongo import MongoClient
from waiting import wait_for

TESTS = Path(__file__).parents[2]
#: A host that is cut off must not wait for long for each call that gets no answer.
TIMEOUTS = "timeoutMS=1500&connectTimeoutMS=500"


@pytest.fixture(scope="session")
def network():
    """The bridge; tests that need one are skipped where there can be none."""
    folder = Path(tempfile.mkdtemp(prefix="hosts-"))
    try:
        with namespaces.network(folder) as network:
            yield network
    except namespaces.NotAllowed as reason:
        pytest.skip(str(reason))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Database:
    """A replica set of one, with the address of its host as that of its member.

    The tests themselves look at it through a socket in a file, which no cut link closes.
    """

    def __init__(self, host, binary, folder):
        self.host = host
        socket = folder / "mongod.sock"
        self._process = host.start(
            *(str(binary), "--replSet=rs", f"--bind_ip={host.address},{socket}"),
            *(f"--dbpath={folder}", f"--logpath={folder}/log", "--oplogSize=64"),
            *("--wiredTigerCacheSizeGB=0.25", "--setParameter=diagnosticDataCollectionEnabled=0"),
        )
        wait_for(socket.exists, self._process)
        self.client = MongoClient(
            f"mongodb://{quote(str(socket), safe='')}/?directConnection=true", tz_aware=True
        )
        member = {"_id": 0, "host": f"{host.address}:27017"}
        self.client.admin.command("replSetInitiate", {"_id": "rs", "members": [member]})
        wait_for(lambda: self.client.admin.command("hello")["isWritablePrimary"], self._process)

    def uri(self, name):
        return f"mongodb://{self.host.address}/{name}?replicaSet=rs&{TIMEOUTS}"


@pytest.fixture(scope="session")
def database(network, mongod):
    folder = Path(tempfile.mkdtemp(prefix="mongod-"))
    try:
        with network.host("db") as host:
            database = Database(host, mongod, folder)
            yield database
            database.client.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Lab:
    """Two hosts for workers, one for a client, and what is in the database of this test."""

    def __init__(self, database, left, right, client, folder):
        self.database = database
        self.left, self.right, self.client = left, right, client
        self.lease = 3.0
        self._folder = folder
        self._name = f"t{secrets.token_hex(6)}"
        self.units = database.client[self._name]["units"]

    def start(self, host, *arguments, **options):
        """Start Python on `host`, in the environment of a machine of its own."""
        environ = {
            "OPTOMATIC_DB": self.database.uri(self._name),
            "OPTOMATIC_LEASE": str(self.lease),
            "OPTOMATIC_HOME": str(self._folder / host.name),
            "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)]),
        }
        command = (sys.executable, *arguments)
        return host.start(*command, env={**os.environ, **environ}, **options)

    def fit(self, candidates, seconds):
        """Start a fit on the client's host."""
        script = str(Path(__file__).with_name("client.py"))
        return self.start(self.client, script, str(candidates), str(seconds), stdout=-1)

    def worker(self, host):
        """Start a worker on `host`."""
        with self.log_of(host).open("w") as log:
            return self.start(host, "-m", "optomatic.worker", stderr=log)

    def log_of(self, host):
        return self._folder / f"{host.name}.log"

    def count(self, **condition):
        return self.units.count_documents(condition)

    def running_on(self, host):
        return self.count(host=host.name, state="running", started=True)

    def ends(self):
        """Return what must never change: how each completed unit ended."""
        fields = ("completed_by", "completed_at", "result")
        return {
            unit["_id"]: [unit[name] for name in fields]
            for unit in self.units.find({"state": "completed"})
        }

    def scores(self, fit):
        """Return what a fit printed at its end."""
        out, _ = fit.communicate(timeout=120)
        assert fit.returncode == 0
        return json.loads(out)


@pytest.fixture
def lab(network, database, tmp_path):
    with contextlib.ExitStack() as stack:
        hosts = [stack.enter_context(network.host(name)) for name in ("left", "right", "client")]
        lab = Lab(database, *hosts, tmp_path)
        yield lab
        lab.units.database.client.drop_database(lab.units.database)
