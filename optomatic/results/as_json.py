"""Values and frames as JSON.  Imports neither numpy nor pandas, as who prints help needs none."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


def flat(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame with its index among the columns, if that has names."""
    return frame.reset_index() if any(frame.index.names) else frame


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a frame as mappings, with its index if that has a name."""
    whole = flat(frame)
    names = [str(name) for name in whole.columns]
    columns = [list(whole.iloc[:, n]) for n in range(len(names))]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def json_of(value: Any) -> str:
    """Return JSON, of a frame a list with an object a row."""
    found = records(value) if hasattr(value, "iloc") else value
    return json.dumps(jsonable(found), indent=2, ensure_ascii=False, allow_nan=False)


def jsonable(value: Any) -> Any:
    """Return what JSON can say of a value: numbers, texts, lists; else its text.

    >>> jsonable(math.nan), jsonable(math.inf), jsonable(("a", timedelta(seconds=2)))
    (None, 'inf', ['a', 2.0])
    """
    if isinstance(value, Mapping):
        return {utf8(str(name)): jsonable(own) for name, own in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(own) for own in value]
    if hasattr(value, "dtype") and hasattr(value, "tolist"):  # of numpy
        found = value.tolist()
        return repr(value) if type(found) is type(value) else jsonable(found)
    return None if is_missing(value) else _scalar(value)


def _scalar(value: Any) -> Any:
    if isinstance(value, datetime):
        return moment(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return utf8(value)
    return value.isoformat() if isinstance(value, date) else utf8(repr(value))


def utf8(text: str) -> str:
    """Return a text that UTF-8 can hold."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def is_missing(value: Any) -> bool:
    """Return whether a value of a frame is none: None, NaN, NaT or NA.

    >>> is_missing(None), is_missing(math.nan), is_missing([None])
    (True, True, False)
    """
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float) and math.isnan(value)


def moment(value: datetime) -> str:
    """Return a time in UTC, as ISO 8601.

    >>> moment(datetime(2026, 1, 31, 12, tzinfo=UTC))
    '2026-01-31T12:00:00Z'
    """
    return as_utc(value).isoformat().replace("+00:00", "Z")


def as_utc(value: datetime) -> datetime:
    """Return a time in UTC; one without a zone is in UTC."""
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
