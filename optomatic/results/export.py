"""Frames of results as JSON and as files.  Imports pandas where it is used: help needs none."""

from __future__ import annotations

import json
import math
import os
import secrets
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optomatic.errors import shown

if TYPE_CHECKING:
    import pandas as pd


#: What a sheet and one of its cells can hold.
_MOST_ROWS, _LONGEST_CELL = 1_048_575, 32_767


def export(frame: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    """Write a frame, with its index, to a file whose ending names the kind.

    The file replaces an older one once it is whole.  Raises as
    :meth:`~optomatic.search.shared_methods.StoredSearch.export` documents.
    """
    target = Path(os.path.realpath(path))
    kind = target.suffix.lower()
    if kind not in _WRITERS:
        raise ValueError(
            f"{shown(str(path))} has an ending that export cannot write. Nothing was written. "
            "Choose one of .csv, .json, .parquet, .xlsx."
        )
    needed, write = _WRITERS[kind]
    if needed and find_spec(needed) is None:
        raise ImportError(
            f"{needed} writes {kind} files, and is not installed. Nothing was written. "
            'Install it: pip install "optomatic[export]"'
        )
    put_in_place(target, lambda beside: write(flat(frame), beside))


def put_in_place(path: str | os.PathLike[str], write: Callable[[Path], Any]) -> None:
    """Have `write` fill a new file, and put it in place of `path` once it is whole."""
    target = Path(os.path.realpath(path))  # a link goes on to lead there
    if target.exists() and not target.is_file():
        raise ValueError(
            f"{shown(str(path))} is not a file. Nothing was written. Name another one."
        )
    beside = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        with open(beside, "xb"):  # made exclusively: from here on it is ours
            pass
        write(beside)
        os.replace(beside, target)
    finally:
        beside.unlink(missing_ok=True)


def _to_csv(frame: pd.DataFrame, path: Path) -> None:
    import pandas as pd

    columns = {name: _column(frame.iloc[:, n]) for n, name in enumerate(map(str, frame.columns))}
    pd.DataFrame(columns).to_csv(path, index=False, encoding="utf-8")


def _to_json(frame: pd.DataFrame, path: Path) -> None:
    path.write_text(json_of(frame) + "\n", encoding="utf-8")


def _to_parquet(frame: pd.DataFrame, path: Path) -> None:
    import pandas as pd

    columns = {utf8(str(n)): _column(frame.iloc[:, k]) for k, n in enumerate(frame.columns)}
    pd.DataFrame(columns).to_parquet(path, index=False, engine="pyarrow")


def _column(column: pd.Series) -> pd.Series:
    """Return a column of one type: mixed values become text."""
    import pandas as pd

    if column.dtype != object:
        return column
    values = [jsonable(value) for value in column]
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float} or (len(kinds) == 1 and not kinds & {list, dict}):
        return pd.Series(values, column.index, dtype=None if kinds else object)
    texts = [
        v if v is None or isinstance(v, str) else json.dumps(v, ensure_ascii=False) for v in values
    ]
    return pd.Series(texts, column.index, dtype=object)


def _to_xlsx(frame: pd.DataFrame, path: Path) -> None:
    # Not by pandas: what begins with "=" in a text would be calculated when it is opened.
    from openpyxl import Workbook
    from openpyxl.cell import WriteOnlyCell

    if len(frame) > _MOST_ROWS:
        raise ValueError(
            f"A sheet holds {_MOST_ROWS:,} rows, and the table has {len(frame):,}. Nothing was "
            "written. Choose .parquet or .csv."
        )
    book = Workbook(write_only=True)
    sheet = book.create_sheet("results")

    def cell(value: Any) -> Any:
        found = jsonable(value)
        if isinstance(found, list | dict):
            found = json.dumps(found, ensure_ascii=False)
        if not isinstance(found, str):
            return found
        text = "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in found)
        made = WriteOnlyCell(sheet, text[:_LONGEST_CELL])
        made.data_type = "s"
        return made

    sheet.append([cell(str(name)) for name in frame.columns])
    for row in records(frame):
        sheet.append([cell(value) for value in row.values()])
    book.save(path)


#: By kind: the library that writes it, if not pandas or Python, and how.
_WRITERS: dict[str, tuple[str, Callable[[pd.DataFrame, Path], None]]] = {
    ".csv": ("", _to_csv),
    ".json": ("", _to_json),
    ".parquet": ("pyarrow", _to_parquet),
    ".xlsx": ("openpyxl", _to_xlsx),
}


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
