"""The queue: every operation on units, each in a file of its own concern.

=============================  ====================================================
:mod:`~.submitting`            stored, submit, waits, outcomes   (a search)
:mod:`~.claiming`              claim, start, renew, release      (a worker)
:mod:`~.finishing`             complete                          (a worker)
:mod:`~.recovering`            reap, crash, cancel, retry        (anybody)
:mod:`~.reading`               described                         (anybody)
=============================  ====================================================

::

    submit --> queued --claim--> running --good result--> completed   (from any state)
      ^          ^  ^               |--failures (fenced)--> failed
    cancelled <--+  |               |--release (fenced)--> queued, nobody charged
     (unwanted)     +--lease over or process died, losses < 3
                     losses >= 3 --> dead --retry--> queued

Every operation is written with majority and journal, may be repeated, and is decided by the
server's clock alone.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from pymongo.database import Database

from optomatic.records import Timing
from optomatic.store.claiming import Claiming
from optomatic.store.faults import Outage, patiently
from optomatic.store.finishing import Finishing
from optomatic.store.patient import Patient
from optomatic.store.reading import Reading
from optomatic.store.recovering import Recovering
from optomatic.store.submitting import Submitting


class Jobs(Submitting, Claiming, Finishing, Recovering, Reading):
    """The units of a store.  Safe to share among threads, not across a fork."""

    def __init__(
        self,
        database: Database[dict[str, Any]],
        timing: Timing,
        *,
        prepare: Callable[[], None] = lambda: None,
        outage: Outage | None = None,
        rng: random.Random | None = None,
    ) -> None:
        units = Patient(database["units"], outage)
        Submitting.__init__(self, units, prepare, self.retry)
        Claiming.__init__(self, units, timing, rng or random.Random())
        Finishing.__init__(self, units)
        Recovering.__init__(self, units, timing)
        Reading.__init__(self, units)
        self._database = database

    def server_time(self) -> datetime:
        """Return the server's clock."""
        hello = patiently(
            lambda: self._database.client.admin.command("hello"), Outage(patience=5.0)
        )
        moment: datetime = hello["localTime"]
        return moment.replace(tzinfo=UTC)
