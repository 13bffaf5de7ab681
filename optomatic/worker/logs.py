"""The log of a standalone worker: lines for people, or JSON objects for programs."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

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
