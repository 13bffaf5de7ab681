"""A database with a standalone worker, and all that is said or raised while a trial runs."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import logging
import os
import re
import signal
import sys
import tempfile
import threading
import traceback
import uuid
import warnings
from pathlib import Path
from typing import Any

import workers
from pymongo import MongoClient
from waiting import wait_for

from optomatic.joblib_backend.client import close_clients

COLLECTIONS = (
    *("units", "queues", "searches", "search_units"),
    *("bundles", "chunks", "workers", "environments"),
)
#: Seconds after which what is lost is taken back.
LEASE = "2"
#: In a log, or as an error: somebody met what he could not read.
_RAW = re.compile(r"Traceback|could not do what it was asked|^\w*(Error|Exception):", re.MULTILINE)


class Arena:
    """One database, one worker that lives through all trials, and files that are gates."""

    def __init__(self, topology: Any, folder: Path | None = None) -> None:
        self.uri = topology.uri(f"t{uuid.uuid4().hex[:12]}")
        self.folder = folder or Path(tempfile.mkdtemp(prefix="mutating-"))
        self.client: MongoClient[dict[str, Any]] = MongoClient(self.uri)
        self.database = self.client.get_default_database()
        self.number = itertools.count(1)
        self._log = self.folder / "worker.log"
        self._log_read = 0
        self._environ = os.environ.get("OPTOMATIC_LEASE")
        os.environ["OPTOMATIC_LEASE"] = LEASE
        #: Documents that trials share, so that the worker need not look for new queues each time.
        self._shared: dict[str, dict[Any, Any]] = {"queues": {}, "environments": {}, "workers": {}}
        self.start_worker()

    def start_worker(self) -> None:
        with self._log.open("ab") as log:
            at = log.tell()
            self.worker = workers.start(
                *(sys.executable, "-m", "optomatic.worker", "--db", self.uri),
                OPTOMATIC_CACHE_DIR=str(self.folder / "cache"),
                stdout=log,
                stderr=log,
            )
        wait_for(lambda: b"ready" in self._log.read_bytes()[at:], self.worker, seconds=120)
        standalone = {"kind": "standalone", "process.pid": self.worker.pid}
        self._shared["workers"] = {}
        self.share(workers=standalone)
        assert self._shared["workers"]

    def share(self, **queries: Any) -> None:
        """Remember documents that are as they should be."""
        for name, query in queries.items():
            self._shared[name] |= {d["_id"]: d for d in self.database[name].find(query)}

    def said_by_worker(self) -> str:
        """Return what the worker has said since this was asked."""
        with self._log.open() as file:
            file.seek(self._log_read)
            said = file.read()
            self._log_read = file.tell()
        return said

    @contextlib.contextmanager
    def paused(self) -> Any:
        """Have the worker claim nothing meanwhile."""
        self.worker.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.worker.send_signal(signal.SIGCONT)

    def clean(self) -> None:
        """Leave nothing but the worker as it was."""
        for _ in range(2):  # what callers leave as they end comes after what could harm them
            for name in COLLECTIONS:
                shared = self._shared.get(name, {})
                self.database[name].delete_many({"_id": {"$nin": list(shared)}})
                for document in shared.values():
                    self.database[name].replace_one({"_id": document["_id"]}, document, upsert=True)
            close_clients()

    def close(self) -> None:
        close_clients()
        self.worker.kill()
        self.worker.wait()
        self.client.drop_database(self.database.name)
        self.client.close()
        if self._environ is None:
            os.environ.pop("OPTOMATIC_LEASE")
        else:
            os.environ["OPTOMATIC_LEASE"] = self._environ


class Task(threading.Thread):
    """Runs something beside the trial; it can be ended from without."""

    def __init__(self, function: Any) -> None:
        super().__init__(daemon=True)
        self._function = function
        self.value: Any = None
        self.error: BaseException | None = None
        self.interrupted = False
        self.start()

    def run(self) -> None:
        try:
            self.value = self._function()
        except BaseException as error:
            self.error = error

    def ends_in(self, seconds: float) -> bool:
        self.join(seconds)
        return not self.is_alive()

    def interrupt(self) -> None:
        """Raise KeyboardInterrupt in it."""
        self.interrupted = True
        if self.ident is not None and self.is_alive():
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(self.ident), ctypes.py_object(KeyboardInterrupt)
            )


class Heard(logging.Handler):
    """What was warned, logged and raised in threads of this process."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.warned: list[Any] = []
        self.raw: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.exc_info:
            text += "\n" + "".join(traceback.format_exception(*record.exc_info))
        if record.exc_info or record.levelno >= logging.ERROR or _RAW.search(text):
            self.raw.append(f"log of this process: {text}")

    def texts(self, *categories: type[Warning]) -> list[str]:
        return [str(w.message) for w in self.warned if issubclass(w.category, categories)]


@contextlib.contextmanager
def listening() -> Any:
    """Hear whatever is said in this process meanwhile."""
    heard, logger, before = Heard(), logging.getLogger("optomatic"), threading.excepthook
    logger.addHandler(heard)

    def note(args: Any) -> None:
        shown = "".join(traceback.format_exception(args.exc_value))
        heard.raw.append(f"a thread of this process: {shown}")

    threading.excepthook = note
    try:
        with warnings.catch_warnings(record=True) as heard.warned:
            warnings.simplefilter("always")
            yield heard
    finally:
        threading.excepthook = before
        logger.removeHandler(heard)


def raw_in(said: str) -> list[str]:
    """Return what of a worker's log tells of something that it could not read."""
    return [f"log of the worker: {said}"] if _RAW.search(said) else []
