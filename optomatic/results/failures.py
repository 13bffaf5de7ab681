"""What went wrong in a search -> DataFrame, with what belongs together in one row."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from optomatic.plain_values import plain
from optomatic.records import Inspected, SetAside
from optomatic.results.frames import CandidateRow
from optomatic.results.table import death_of

#: Stages of what is no exception: the unit was given up, or its record cannot be read.
GIVEN_UP, SET_ASIDE = "given up", "set aside"
#: So many candidates are named in a row.
_SHOWN = 5
_COLUMNS = (
    *("count", "stage", "type", "text", "traceback"),
    *("params", "splits", "hosts", "workers"),
)
#: Numbers and addresses: what differs in texts of the same kind.
_VARYING = re.compile(r"0x[0-9a-fA-F]+|[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")


#: A candidate, and one of its splits.
Place = tuple[CandidateRow, int]


@dataclass(slots=True)
class _Group:
    """Failures of one kind; the first of them stands for all."""

    stage: str
    type: str | None
    text: str
    traceback: str
    units: set[tuple[int, int]] = field(default_factory=set)
    params: dict[int, Any] = field(default_factory=dict)
    hosts: set[str] = field(default_factory=set)
    workers: set[str] = field(default_factory=set)

    def add(self, row: CandidateRow, split: int, unit: Inspected | None) -> None:
        self.units.add((row.number, split))
        if len(self.params) < _SHOWN:
            self.params[row.number] = plain(dict(row.params))
        if unit is not None:
            lost = [attempt for attempt in unit.lost if unit.outcome.state == "dead"]
            self.hosts.update(filter(None, [unit.host, *(one.host for one in lost)]))
            self.workers.update(filter(None, [unit.worker, *(one.worker for one in lost)]))

    def values(self) -> tuple[Any, ...]:
        return (
            *(len(self.units), self.stage, self.type, self.text, self.traceback),
            *(list(self.params.values()), sorted({split for _, split in self.units})),
            *(sorted(self.hosts), sorted(self.workers)),
        )


def errors_table(
    rows: Sequence[CandidateRow],
    set_aside: Sequence[tuple[SetAside, Sequence[Place]]] = (),
) -> pd.DataFrame:
    """Return one row a kind of failure, the most frequent first.

    Parameters
    ----------
    rows : sequence of CandidateRow
    set_aside : sequence of (SetAside, places)
        Records that could not be read, each with the candidates and splits that it is of.
    """
    groups: dict[tuple[Any, ...], _Group] = {}
    for row in rows:
        for split, unit in enumerate(row.units):
            for stage, kind, text, traceback in _failures(unit):
                group = groups.setdefault(
                    (stage, kind, _alike(text)), _Group(stage, kind, text, traceback)
                )
                group.add(row, split, unit)
    for record, places in set_aside:
        key = SET_ASIDE, None, _alike(record.why)
        group = groups.setdefault(key, _Group(SET_ASIDE, None, record.why, ""))
        for row, split in places:
            group.add(row, split, None)
    return _framed(sorted(groups.values(), key=lambda group: -len(group.units)))


def _failures(unit: Inspected | None) -> Iterator[tuple[str, str | None, str, str]]:
    """Yield stage, type, text and traceback of what went wrong with a unit."""
    if unit is None:
        return
    if unit.outcome.state == "dead":
        yield GIVEN_UP, None, death_of(unit.outcome).strip(), ""
    result = unit.outcome.result
    for failure in result.failures if result else ():
        yield failure.stage, failure.type, failure.text, failure.traceback


def _alike(text: str) -> str:
    """Return the last line of a text, without what differs among failures of one kind."""
    lines = text.strip().splitlines() or [""]
    return _VARYING.sub("#", lines[-1])


def _framed(groups: Iterable[_Group]) -> pd.DataFrame:
    values: Mapping[str, Any] = dict(
        zip(_COLUMNS, zip(*(group.values() for group in groups), strict=True), strict=False)
    )
    columns = {
        name: pd.Series(list(values.get(name, ())), dtype="int64" if name == "count" else object)
        for name in _COLUMNS
    }
    return pd.DataFrame(columns)
