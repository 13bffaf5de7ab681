"""Standalone workers, and other processes that can import the modules of tests."""

import os
import subprocess
import sys
from pathlib import Path

from pymongo import MongoClient

TESTS = Path(__file__).parent


def environment(**own):
    """Return the environment of a process that can import the package and the modules of tests."""
    path = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    return {**os.environ, "PYTHONPATH": path, **own}


def start(*command, env=None, **options):
    """Start a process; `options` are variables of its environment, in capitals, and Popen's."""
    own = {name: options.pop(name) for name in list(options) if name.isupper()}
    env = {**(environment() if env is None else env), **own}
    return subprocess.Popen(list(map(str, command)), env=env, text=True, **options)


def work_off(uri):
    """Have a standalone worker score all that is queued."""
    worker = [sys.executable, "-m", "optomatic.worker", "--db", uri, "--until-empty"]
    subprocess.run(worker, env=environment(), check=True, timeout=120)


class Executed:
    """Counts the calls that workers finished, from the change stream of the database."""

    def __init__(self, uri):
        self._client = MongoClient(uri)
        self._database = self._client.get_default_database()
        finished = {
            "operationType": "update",
            "updateDescription.updatedFields.completed_by": {"$type": "string"},
        }
        marks = {"operationType": "insert", "fullDocument.mark": True}
        self._stream = self._database["units"].watch([{"$match": {"$or": [finished, marks]}}])
        self.by_test = {}

    def note(self, test):
        """Count what was finished since the last look as done by `test`."""
        workers = {w["_id"] for w in self._database["workers"].find({"kind": "standalone"})}
        # What happened before this moment is in the stream before this mark.
        mark = self._database["units"].insert_one({"mark": True}).inserted_id
        self._database["units"].delete_one({"_id": mark})
        while (change := self._stream.next())["operationType"] == "update":
            worker = change["updateDescription"]["updatedFields"]["completed_by"]
            if worker in workers:
                self.by_test[test] = self.by_test.get(test, 0) + 1

    def close(self):
        self._stream.close()
        self._client.close()
