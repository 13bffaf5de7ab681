"""The log of a standalone worker: lines for people, or JSON objects for programs."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from optomatic.worker.reservations import CALLS, Account

FORMATS = ("text", "json")
_TEXT = "%(asctime)s %(levelname)s %(message)s"
#: The field of a log record in which :func:`fields` puts what programs read.
_FIELDS = "fields_of_worker"


def set_up(form: str) -> JsonLines | None:
    """Have the log of this process written to stderr as `form` says; return what writes JSON."""
    handler = logging.StreamHandler(sys.stderr)
    lines = JsonLines() if form == "json" else None
    handler.setFormatter(lines or logging.Formatter(_TEXT))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.captureWarnings(lines is not None)
    logging.getLogger("pymongo").setLevel(logging.WARNING)
    return lines


def fields(**values: Any) -> dict[str, dict[str, Any]]:
    """Return `values` as the ``extra`` of a call of a logger: what programs read of it."""
    return {_FIELDS: values}


def readable(text: str, most: int = 60) -> str:
    """Return `text` for one line of a log: at most so many characters, and all can be printed."""
    short = text if len(text) <= most else f"{text[:most]}..."
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in short)


class JsonLines(logging.Formatter):
    """Formats log records as JSON objects, one a line.

    Each has ``time`` (ISO 8601, UTC), ``level``, ``message``, ``worker`` once its id is known,
    and what :func:`fields` was given; ``traceback`` where there is one.

    Attributes
    ----------
    worker : str or None
        Id of the worker.
    """

    def __init__(self) -> None:
        super().__init__()
        self.worker: str | None = None

    def format(self, record: logging.LogRecord) -> str:
        """Return a line, without its end."""
        values = dict(getattr(record, _FIELDS, {}))
        if record.exc_info:
            values["traceback"] = self.formatException(record.exc_info)
        return self.line(record.levelname, record.getMessage(), record.created, **values)

    def line(self, level: str, message: str, at: float | None = None, **values: Any) -> str:
        """Return a line, without its end, of `at` (seconds since 1970) or now."""
        at = time.time() if at is None else at
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at)) + f".{int(at % 1 * 1000):03d}Z"
        known = {"worker": self.worker} if self.worker else {}
        what = {"time": moment, "level": level, "message": message, **known, **values}
        return json.dumps(what, default=str)


log = logging.getLogger(__name__)


#: Seconds between two reports.
REPORT_SECONDS = 60.0
#: So many searches are named.
_NAMED = 5


#: Name of a search, how many of its units this worker has scored, and how many it has; None for
#: what has no such number.
Share = tuple[str, int, int | None]
#: Returns names and numbers of units of searches, by id.
Sizes = Callable[[Sequence[str]], Mapping[str, tuple[str, int]]]


def report_text(scored: int, failed: int, seconds: float, shares: Sequence[Share] = ()) -> str:
    """Return what a worker did in `seconds`.

    >>> report_text(63, 1, 20.3, [("churn", 63, 216)])
    '63 units scored (churn 63/216), 3.1/s, 1 failed'
    """
    named = [_share_text(*share) for share in shares[:_NAMED]]
    if len(shares) > _NAMED:
        named.append(f"{len(shares) - _NAMED} more searches")
    of = f" ({', '.join(named)})" if named else ""
    bad = f", {failed:,} failed" if failed else ""
    return f"{scored:,} unit{'s' * (scored != 1)} scored{of}, {rate_text(scored, seconds)}{bad}"


def rate_text(number: int, seconds: float) -> str:
    """Return how fast something goes.

    >>> rate_text(63, 20.3), rate_text(2, 60.0), rate_text(1, 900.0)
    ('3.1/s', '2.0/min', '4.0/h')
    """
    rate = number / max(seconds, 1e-3)
    for factor, unit in ((1, "s"), (60, "min")):
        if rate * factor >= 1:
            return f"{rate * factor:,.1f}/{unit}"
    return f"{rate * 3600:,.1f}/h"


def _share_text(name: str, own: int, n_units: int | None) -> str:
    return f"{readable(name)} {own:,}" + ("" if n_units is None else f"/{n_units:,}")


class Report:
    """Looks at what became of units, and logs it once a minute if there is something.

    Parameters
    ----------
    name : str
        Of the worker, for people.
    account : Account
    sizes : callable
        Is asked once a report.
    clock : callable
        The worker's clock.
    """

    def __init__(
        self,
        name: str,
        account: Account,
        sizes: Sizes,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._account = account
        self._sizes = sizes
        self._clock = clock
        #: The last report; since when the units take that are not reported; the last result.
        self._at = self._since = self._last = clock()
        self._seen = 0
        #: What was reported.
        self._scored = self._failed = 0
        self._by_search: Counter[str] = Counter()

    def time_left(self) -> float | None:
        """Return the seconds until a report is due, None if there is nothing to report."""
        if self._account.scored == self._scored:
            return None
        return max(0.0, self._at + REPORT_SECONDS - self._clock())

    def look(self, *, busy: bool) -> None:
        """Log what was done, if it is time.

        Parameters
        ----------
        busy : bool
            Something is in hand, so the next results have begun already.

        Raises
        ------
        StoreError
            The report comes later then.
        """
        now = self._clock()
        if self._account.scored != self._seen:
            self._seen, self._last = self._account.scored, now
        if self._account.scored == self._scored:
            if not busy:
                self._at = self._since = now
        elif now >= self._at + REPORT_SECONDS:
            self._report()
            self._at, self._since = now, self._last if busy else now

    def _report(self) -> None:
        account = self._account
        recent = account.by_search - self._by_search
        shares = self._shares([search for search, _ in recent.most_common()])
        scored, failed = account.scored - self._scored, account.failed - self._failed
        seconds = self._last - self._since
        log.info(
            "worker %s: %s",
            *(self._name, report_text(scored, failed, seconds, shares)),
            extra=fields(
                scored=scored,
                failed=failed,
                seconds=round(seconds, 3),
                searches=[
                    {"name": name, "scored": own, "units": n_units} for name, own, n_units in shares
                ],
            ),
        )
        self._scored, self._failed = account.scored, account.failed
        self._by_search = account.by_search.copy()

    def _shares(self, searches: Sequence[str]) -> list[Share]:
        own = self._account.by_search
        sizes = self._sizes([search for search in searches if search != CALLS])
        shares: list[Share] = []
        for search in searches:
            if search == CALLS:
                shares.append((CALLS, own[search], None))
            elif search in sizes:  # else it was removed meanwhile
                name, n_units = sizes[search]
                shares.append((name, own[search], n_units))
        return shares
