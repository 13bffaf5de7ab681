"""The log of a standalone worker, as text or JSON: what it did, and whether and why it is idle."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from optomatic.keys.environment import matched_version, required_versions
from optomatic.records import Queue, WorkerRecord
from optomatic.store.connection import Store
from optomatic.store.searches import search_of
from optomatic.worker.missing_workers import needs
from optomatic.worker.reservations import CALLS, Reservations

#: Returns the names of searches, first come first served; asked again and again.
Names = Callable[[], Sequence[str]]
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
#: Seconds between two looks why nothing of what is queued can be claimed.
EXPLAIN_SECONDS = 10.0
#: So many queues are looked at, and so many searches, names and reasons are named.
_QUEUES, _NAMED = 20, 5


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
    """Log what a worker does: each minute what it scored, and whether it is idle, if that is new.

    `sizes` is asked once a report.  `why_idle` returns why the worker is idle while something is
    queued; it is asked now and then.
    """

    def __init__(
        self,
        worker: str,
        sizes: Sizes,
        why_idle: Callable[[], Sequence[Reason]] = lambda: (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name, self._sizes, self._why_idle, self._clock = worker[:4], sizes, why_idle, clock
        #: The last report; since when the units take that are not reported; the last result.
        self._at = self._since = self._last = clock()
        self._seen = 0
        #: Reported so far.
        self._scored = self._failed = 0
        self._by_search: Counter[str] = Counter()
        self._state = ""
        self._explain_at = clock()
        self._explained: set[str] = set()

    def time_left(self, scored: int) -> float | None:
        """Return the seconds until a report is due, None if there is nothing to report."""
        if scored == self._scored:
            return None
        return max(0.0, self._at + REPORT_SECONDS - self._clock())

    def look(self, done: Reservations, *, at_work: bool, idle: bool, others_wait: bool) -> None:
        """Log news; a StoreError postpones the report.

        `at_work` says that the worker does not only try what it has in hand, `others_wait` that
        something is queued that it cannot claim.
        """
        self.look_at_counts(done, busy=bool(done.units))
        if at_work:
            self._is("at work", done)
        elif idle:
            self._is("idle", done)
            if others_wait and self._clock() >= self._explain_at:
                self._explain()

    def look_at_counts(self, done: Reservations, *, busy: bool) -> None:
        """Log what was done, if it is time; if `busy`, the next results have begun already."""
        now = self._clock()
        if done.scored != self._seen:
            self._seen, self._last = done.scored, now
        if done.scored == self._scored:
            if not busy:
                self._at = self._since = now
        elif now >= self._at + REPORT_SECONDS:
            self._report(done)
            self._at, self._since = now, self._last if busy else now

    def _report(self, done: Reservations) -> None:
        recent = done.by_search - self._by_search
        shares = self._shares([search for search, _ in recent.most_common()], done.by_search)
        scored, failed = done.scored - self._scored, done.failed - self._failed
        seconds = self._last - self._since
        log.info(
            f"worker {self._name}: {report_text(scored, failed, seconds, shares)}",
            extra=fields(
                scored=scored,
                failed=failed,
                seconds=round(seconds, 3),
                searches=[
                    {"name": name, "scored": own, "units": n_units} for name, own, n_units in shares
                ],
            ),
        )
        self._scored, self._failed = done.scored, done.failed
        self._by_search = done.by_search.copy()

    def _shares(self, searches: Sequence[str], own: Mapping[str, int]) -> list[Share]:
        sizes = {CALLS: (CALLS, None), **self._sizes([one for one in searches if one != CALLS])}
        # A search that is not there was removed meanwhile.
        return [(sizes[one][0], own[one], sizes[one][1]) for one in searches if one in sizes]

    def _explain(self) -> None:
        """Log why nothing of what is queued can be claimed here, if that is new."""
        self._explain_at = self._clock() + EXPLAIN_SECONDS
        reasons = self._why_idle()
        whats = {reason.what for reason in reasons}
        if whats and whats != self._explained:
            self._explained = whats
            texts = [reason.what + reason.more for reason in reasons]
            log.warning(
                f"worker {self._name} cannot take what is queued: {'; '.join(texts)}",
                extra=fields(reasons=texts),
            )

    def _is(self, state: str, done: Reservations) -> None:
        if state != self._state:
            self._state = state
            log.info(
                f"worker {self._name} is {state}, {done.scored} units scored so far",
                extra=fields(scored=done.scored, failed=done.failed),
            )


class Reason(NamedTuple):
    """Why a worker cannot take what is queued; ``more`` may change without being news."""

    what: str
    more: str = ""


class Installed(Mapping[str, str]):
    """The versions here, of whichever distribution a queue asks for.

    Iterating gives only those that every worker is registered with.
    """

    def __init__(self) -> None:
        self._known = required_versions({})

    def __getitem__(self, name: str) -> str:
        if name not in self._known:
            self._known[name] = matched_version(name)
        return self._known[name]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str)

    def __iter__(self) -> Iterator[str]:
        return iter(required_versions({}))

    def __len__(self) -> int:
        return len(required_versions({}))


class IdleReasons:
    """Find out, in a few queries, why a worker can claim nothing of what is queued.

    `installed` are the versions here, of whatever is asked for; `names` returns the names or ids of
    the searches that it works for, and is None for all.
    """

    def __init__(
        self,
        store: Store,
        record: WorkerRecord,
        installed: Mapping[str, str],
        names: Names | None,
    ) -> None:
        self._store, self._record = store, record
        self._installed, self._names = installed, names
        self._known = dict(record.env)

    def __call__(self) -> list[Reason]:
        """Return the reasons, none if nothing is queued.

        Versions that are missing here are noted in the store, for clients that wait.
        """
        names = None if self._names is None else list(self._names())
        if names is None:
            return self._lacking(self._store.claims.queued_queues(_QUEUES))
        groups = self._store.searches.that_may_wait(names)
        own = self._store.claims.queued_queues(_QUEUES, [i for ids in groups for i in ids])
        if not own and not self._store.claims.queued_queues(1):
            return []
        there = self._store.searches.that_are_there(names)
        unknown = [_quoted(name) for name in names if name not in there]
        known = [_quoted(name) for name in names if name in there]
        reasons = []
        if unknown:
            latest = self._store.searches.names(10 * (_NAMED + 1))
            here = list(dict.fromkeys(name for _, name in latest))[: _NAMED + 1]
            reasons = [Reason(f"no search named {_listed(unknown)}", _here(here))]
        if own:
            return reasons + self._lacking(own)
        if known:
            reasons += [Reason(f"nothing is queued for {_listed(known)}, only for others")]
        return reasons

    def _lacking(self, queued: Mapping[str, str]) -> list[Reason]:
        """Return what is lacking for queues, each with the searches that ask for it."""
        queues = self._store.workers.queues(list(queued))
        self._note(queues)
        found: dict[str, list[str]] = {}
        for queue in queues:
            if why := needs(self._installed, self._record.tags, queue):
                found.setdefault(why, []).append(search_of(queued[queue.id]))
        named = self._store.searches.sizes_of([i for ids in found.values() for i in ids])
        return [
            Reason(why, _for([readable(named[i][0]) for i in ids if i in named]))
            for why, ids in sorted(found.items())[:_NAMED]
        ]

    def _note(self, queues: Sequence[Queue]) -> None:
        """Let those who wait know which versions are here of what they need."""
        asked = {name: self._installed[name] for queue in queues for name in queue.env}
        if not asked.items() <= self._known.items():
            self._known.update(asked)
            self._store.workers.has(self._record.id, self._known)


def _quoted(name: str) -> str:
    return f"'{readable(name)}'"


def _listed(names: Iterable[str]) -> str:
    names = list(dict.fromkeys(names))
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _here(names: Sequence[str]) -> str:
    if not names:
        return ", and there is no search here at all"
    more = ", ..." if len(names) > _NAMED else ""
    return f", searches here: {', '.join(map(readable, names[:_NAMED]))}{more}"


def _for(names: Sequence[str]) -> str:
    return f" (for {_listed(names)})" if names else ""
