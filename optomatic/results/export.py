"""Frames of results as files that other programs read."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd

from optomatic.errors import shown
from optomatic.results.as_json import flat, json_of, jsonable, records, utf8

#: What a sheet and one of its cells can hold.
_MOST_ROWS, _LONGEST_CELL = 1_048_575, 32_767


def export(frame: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    """Write a frame to a file, whose ending says of which kind; it is whole or not there.

    Parameters
    ----------
    frame : DataFrame
        Its index is written as the first column.
    path : path
        Ends in ``.csv``, ``.json``, ``.parquet`` or ``.xlsx``.  A file that is there is replaced.

    Raises
    ------
    ValueError
        If the ending is another one, `path` is something else than a file, or the sheet would be
        too long.
    ImportError
        If a library is missing that writes this kind.
    OSError
        If the file cannot be written.
    """
    target = Path(os.path.realpath(path))  # a link goes on to lead there
    kind = target.suffix.lower()
    if kind not in _WRITERS:
        raise ValueError(
            f"{shown(str(path))} has the ending of no kind of file that can be written. Nothing "
            "was written. Choose one of .csv, .json, .parquet, .xlsx."
        )
    needed, write = _WRITERS[kind]
    if needed and find_spec(needed) is None:
        raise ImportError(
            f"Files that end in {kind} are written by {needed}, which is not installed. Nothing "
            'was written. Install it: pip install "optomatic[export]"'
        )
    if target.exists() and not target.is_file():
        raise ValueError(f"{shown(str(path))} is no file. Nothing was written. Name another one.")
    beside = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        with open(beside, "xb"):  # made exclusively: from here on it is ours
            pass
        write(flat(frame), beside)
        os.replace(beside, target)
    finally:
        beside.unlink(missing_ok=True)


def _to_csv(frame: pd.DataFrame, path: Path) -> None:
    columns = {name: _column(frame.iloc[:, n]) for n, name in enumerate(map(str, frame.columns))}
    pd.DataFrame(columns).to_csv(path, index=False, encoding="utf-8")


def _to_json(frame: pd.DataFrame, path: Path) -> None:
    path.write_text(json_of(frame) + "\n", encoding="utf-8")


def _to_parquet(frame: pd.DataFrame, path: Path) -> None:
    columns = {utf8(str(n)): _column(frame.iloc[:, k]) for k, n in enumerate(frame.columns)}
    pd.DataFrame(columns).to_parquet(path, index=False, engine="pyarrow")


def _column(column: pd.Series) -> pd.Series:
    """Return a column that has one type: values of several are written as text."""
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
            f"A sheet has at most {_MOST_ROWS:,} rows, and these are {len(frame):,}. Nothing was "
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


#: Which library writes which kind, where pandas and Python do not, and how.
_WRITERS: dict[str, tuple[str, Callable[[pd.DataFrame, Path], None]]] = {
    ".csv": ("", _to_csv),
    ".json": ("", _to_json),
    ".parquet": ("pyarrow", _to_parquet),
    ".xlsx": ("openpyxl", _to_xlsx),
}
