"""What is killed and frozen, at random moments."""

from __future__ import annotations

import logging
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import psutil
from pymongo import MongoClient

from .actors import Actor, Actors
from .topologies import Topology

log = logging.getLogger(__name__)

#: Seconds without a sign of life after which others take over.
LEASE = 2.0
#: Seconds between two of what follows, at random.
PAUSE = (0.2, 8.0)
#: Seconds for which a killed server is away: more or less than an election takes.
AWAY = (0.0, 4.0)
#: A round, in random order.
ROUND = (
    "workers killed",
    "workers told to end",
    "workers frozen",
    "children killed",
    "children killed",
    "templates killed",
    "clients killed",
    "servers killed",
    "servers frozen",
)
#: Seconds until there is something to kill, on a machine that is full.
_WAIT = 300.0
#: Seconds for which a unit that was lost twice is waited for.
_CALM = 30.0


class Disturber:
    """Kills and freezes; `counts` says what and how often."""

    def __init__(self, topology: Topology, actors: Actors, rng: random.Random) -> None:
        self._topology, self._actors, self._rng = topology, actors, rng
        self.counts: Counter[str] = Counter(dict.fromkeys(ROUND, 0))
        self._does: dict[str, Callable[[], Any]] = {
            "workers killed": lambda: self._end("worker", signal.SIGKILL, -signal.SIGKILL),
            "workers told to end": lambda: self._end("worker", signal.SIGTERM, 0),
            "workers frozen": self._freeze_worker,
            "children killed": lambda: self._kill_one(lambda a: a.children()),
            "templates killed": lambda: self._kill_one(lambda a: filter(None, [a.template()])),
            "clients killed": lambda: self._end("client", signal.SIGKILL, -signal.SIGKILL),
            "servers killed": lambda: topology.kill(rng.uniform(*AWAY), actors.until_acknowledged),
            "servers frozen": lambda: topology.freeze(1.5 * LEASE, self.wait),
        }

    def go_on(self, seconds: float, round_: Sequence[str] = ROUND) -> None:
        """Do what stands in `round_` for so many seconds, and at least once."""
        self._until(self._actors.all_ready)
        deadline = time.monotonic() + seconds
        while not sum(self.counts.values()) or time.monotonic() < deadline:
            for what in self._rng.sample(round_, len(round_)):
                self.wait(self._rng.uniform(*PAUSE))
                log.info("wait for a moment for: %s", what)
                self._until_calm()
                if what.startswith("servers"):  # who has just begun does not wait for one
                    self._until(self._actors.all_ready)
                log.info("now: %s", what)
                self._does[what]()
                self.counts[what] += 1
                log.info("wait until all servers answer")
                self._topology.steady()
                if time.monotonic() > deadline and all(self.counts[w] for w in round_):
                    return

    def wait(self, seconds: float) -> None:
        """Wait, with an eye on clients and workers."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._actors.look()
            time.sleep(0.05)

    def _until_calm(self) -> None:
        """Wait while a unit would be given up if its worker were killed once more.

        That is right if it happens three times by itself, and leaves NaN in a table.
        """
        query = {"state": {"$in": ["queued", "running"]}, "losses": {"$gte": 2}}
        deadline = time.monotonic() + _CALM
        with MongoClient(self._topology.uri) as client:
            units = client.get_default_database()["units"]
            while units.find_one(query) is not None and time.monotonic() < deadline:
                self.wait(0.1)

    def _until(self, condition: Callable[[], Any]) -> Any:
        """Return what `condition` returns once that is true."""
        deadline = time.monotonic() + _WAIT
        while not (found := condition()):
            if time.monotonic() > deadline:
                raise RuntimeError(f"clients or workers do not begin to work in {_WAIT:.0f} s")
            self.wait(0.1)
        return found

    def _some(self, kind: str) -> Actor:
        return self._rng.choice(self._until(lambda: self._actors.of(kind)))

    def _end(self, kind: str, number: int, code: int) -> None:
        self._some(kind).signal(number, code)

    def _kill_one(self, of: Callable[[Actor], Any]) -> None:
        """Kill a process of a worker, or of a client that has local workers."""

        def those() -> list[psutil.Process]:
            actors = [*self._actors.of("worker"), *self._actors.of("client")]
            return [process for actor in actors for process in of(actor)]

        with suppress(psutil.NoSuchProcess):
            self._rng.choice(self._until(those)).kill()

    def _freeze_worker(self) -> None:
        """Let a worker stand still, with its children or alone, for longer than its lease."""
        worker = self._some("worker")
        children = worker.children() if self._rng.random() < 0.5 else []
        those = [psutil.Process(worker.process.pid), *children]
        self._signal_all(those, signal.SIGSTOP)
        self.wait(1.5 * LEASE)
        self._signal_all(those, signal.SIGCONT)

    def _signal_all(self, processes: list[psutil.Process], number: signal.Signals) -> None:
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)
