"""The workers of a store, their machines, and the queues that each can serve.

::

    workers  {_id, v, kind, process: {host, boot, namespace, pid, started}, processes, env, tags,
              refused: {queue: why}, began_at, seen_at}
    queues    {_id: queue, v, kind, env, requires}

A process on this machine that is gone is known at once, before any lease of its ends: the
record says which boot, which pid namespace, which pid and since when.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from pymongo.database import Database

from optomatic.records import SCHEMA, Process, Queue, Work, WorkerRecord
from optomatic.store.documents import PresentForm, QueueForm, WorkerForm, storable
from optomatic.store.retry import VALID, Outage, RetryingCollection


def this_process() -> Process:
    """Return the identity of the calling process.

    Without ``/proc`` boot and namespace are empty.  Then no process ever knows that it is gone,
    and its leases run out.
    """
    return _identity(os.getpid())


@cache
def _identity(pid: int) -> Process:
    boot = namespace = ""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = os.readlink("/proc/self/ns/pid")
    return Process(socket.gethostname(), boot, namespace, pid, _started(pid) or "")


def _started(pid: int) -> str | None:
    """Return when `pid` started, in clock ticks since the boot; None if it is gone or a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The second field is the program's name in brackets, and may hold brackets and blanks.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in ("Z", "X") else fields[19]


def is_gone(process: Process) -> bool:
    """Return whether a process of this machine, boot and pid namespace is gone."""
    me = this_process()
    here = process.boot == me.boot != "" and process.namespace == me.namespace != ""
    return here and _started(process.pid) != process.started


def seen_since(seconds: float) -> dict[str, Any]:
    """Return the condition for what was seen in the last `seconds`, by the server's clock."""
    return {"$expr": {"$gt": ["$seen_at", {"$subtract": ["$$NOW", round(1000 * seconds)]}]}}


class Workers:
    """The workers of a store, and the queues that they may serve."""

    def __init__(self, database: Database[dict[str, Any]], outage: Outage | None = None) -> None:
        self._workers = RetryingCollection(database["workers"], outage)
        self._queues = RetryingCollection(database["queues"], outage)

    def register(self, record: WorkerRecord) -> None:
        """Note a worker that starts."""
        fields = {k: {"$literal": v} for k, v in asdict(record).items() if k != "id"}
        moments = {"began_at": "$$NOW", "seen_at": "$$NOW"}
        change = {**fields, "v": SCHEMA, **moments}
        self._workers.update({"_id": record.id}, [{"$set": change}, VALID], upsert=True)

    def _note(self, worker: str, fields: Mapping[str, Any]) -> None:
        self._workers.update({"_id": worker}, [{"$set": fields}])

    def seen(self, worker: str) -> None:
        """Note that a worker lives."""
        self._note(worker, {"seen_at": "$$NOW"})

    def refuses(self, worker: str, queue: str, why: str) -> None:
        """Note that a worker skips a queue that its versions and tags would allow."""
        self._note(worker, {f"refused.{queue}": {"$literal": storable(why)}})

    def accepts(self, worker: str, queue: str) -> None:
        """Note that a worker skips a queue no more."""
        self._workers.update({"_id": worker}, [{"$unset": f"refused.{queue}"}])

    def has(self, worker: str, env: Mapping[str, str]) -> None:
        """Note the versions of distributions that a worker was asked for, empty for none."""
        self._note(worker, {"env": {"$literal": dict(env)}})

    def leave(self, worker: str) -> None:
        """Forget a worker that ends by itself and holds nothing."""
        self._workers.delete({"_id": worker})

    def alive(self, seconds: float, kind: str = "standalone") -> list[WorkerRecord]:
        """Return the workers of `kind` that were seen in the last `seconds`."""
        return self._workers.read(WorkerForm, {"kind": kind, **seen_since(seconds)}, _record)

    def present(self, seconds: float) -> list[PresentForm]:
        """Return all workers that were seen in the last `seconds`, for views."""
        return self._workers.look(PresentForm, seen_since(seconds), sort=[("began_at", 1)])

    def capacity(self, seconds: float) -> int:
        """Return how many processes the standalone workers seen in the last `seconds` have."""
        return sum(worker.processes for worker in self.alive(seconds))

    def sizes(self, workers: Sequence[str]) -> dict[str, int]:
        """Return the number of processes of each of `workers` that is still there."""
        found = self._workers.read(WorkerForm, {"_id": {"$in": list(workers)}})
        return {worker.id: worker.processes for worker in found}

    def vanished(self) -> list[str]:
        """Return the workers of this machine, boot and pid namespace whose processes are gone."""
        me = this_process()
        query = {"process.boot": me.boot, "process.namespace": me.namespace}
        return [w.id for w in self._workers.read(WorkerForm, query) if is_gone(w.process)]

    def forget(self, workers: Sequence[str]) -> None:
        """Forget workers whose units were taken back."""
        if workers:
            self._workers.delete({"_id": {"$in": list(workers)}})

    def publish(self, work: Work) -> None:
        """Write what a queue needs, before units are queued in it."""
        env = [list(pair) for pair in sorted(work.env.items())]
        needs = {"env": {"$literal": env}, "requires": {"$literal": list(work.requires)}}
        change = {"$set": {"v": SCHEMA, "kind": work.kind, **needs}}
        self._queues.update({"_id": work.queue}, [change, VALID], upsert=True)

    def queues(self, ids: Sequence[str]) -> list[Queue]:
        """Return these queues, with the versions and tags that each needs."""
        return self._queues.read(QueueForm, {"_id": {"$in": list(ids)}}, _queue)

    def queues_for(self, env: Mapping[str, str], tags: Sequence[str] = ()) -> list[str]:
        """Return the queues whose versions are all in `env` and whose tags are all in `tags`."""
        return [
            queue.id
            for queue in self._queues.read(QueueForm, {})
            if all(env.get(name) == version for name, version in queue.env)
            and set(queue.requires) <= set(tags)
        ]


def _queue(queue: QueueForm) -> Queue:
    return Queue(queue.id, dict(queue.env), tuple(queue.requires))


def _record(worker: WorkerForm) -> WorkerRecord:
    about = worker.process, worker.processes, worker.env, tuple(worker.tags)
    return WorkerRecord(worker.id, worker.kind, *about, worker.refused or {})
