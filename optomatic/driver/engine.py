"""What has units scored, as those see it who want them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Protocol

from optomatic.records import Result
from optomatic.store.opening import Store
from optomatic.worker.turns import NO_TURNS, Turns

Told = Callable[[Collection[str]], None]


class Engine(Protocol):
    """What has the units of a search scored: this process, local workers, or nobody.

    Called once per round, in the caller's thread.  ``work`` returns when ``until()`` is
    true or when the engine itself has a reason to stop, in which case ``error`` is the
    exception that the search ends with.  On KeyboardInterrupt it hands in what is
    finished, gives back the rest, and lets the interrupt pass.  ``scored`` holds the ids of
    units that were scored in this process: what they print has been printed.  ``sizes`` has the
    number of processes of each worker that the engine itself was, by id.  ``standalone`` tells
    whether it leaves all to standalone workers.
    """

    standalone: bool

    error: BaseException | None
    scored: set[str]
    sizes: dict[str, int]

    def work(
        self, store: Store, search: str, until: Callable[[], bool], turns: Turns = NO_TURNS
    ) -> None:
        """Have units that `search` waits for scored, until ``until()``."""


class Alone(Protocol):
    """An engine that also scores one unit at a time."""

    error: BaseException | None

    def score(self, unit_id: str) -> Result:
        """Score a unit in this process."""
