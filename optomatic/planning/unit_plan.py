"""What a search asks for: units, one for each different (candidate, split)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from optomatic.errors import NotShippable
from optomatic.planning import params
from optomatic.planning.params import Encoded, encode
from optomatic.planning.payload import Sender
from optomatic.records import SCHEMA, Candidate, Part, Recipe, Subject, Unit, Work


@dataclass(frozen=True, slots=True)
class Plan:
    """The units of a search, and what workers need to score them.

    Attributes
    ----------
    units : list of Unit
        Each once, in the order of ``cv_results_``.
    ids : list of str
        Of all (candidate, split) pairs, candidate-major; duplicate candidates share units.
    places : dict of str to (int, int)
        Unit id -> a candidate and a split that it stands for.
    parts : dict of str to Part
        What must be stored before a worker can score; empty where no other process may.
    doubts : tuple of str
        Where something cannot be keyed for certain, so that no other search shares it.
    refusal : NotShippable or None
        Why no other process can score these units.
    subject : Subject or None
        By which later searches find what they can learn from.
    asked : Recipe or None
        What more units can be made of without the objects themselves; of a function only.
    ingredients : mapping
        Short digests of all that keys are made of, and the versions that count.
    environments : mapping
        The versions that stand behind the ends of keys.
    encoded : list of Encoded
        The candidates as text.
    """

    units: list[Unit]
    ids: list[str]
    places: dict[str, tuple[int, int]]
    parts: dict[str, Part] = field(repr=False)
    doubts: tuple[str, ...]
    refusal: NotShippable | None
    subject: Subject | None = None
    asked: Recipe | None = None
    ingredients: Mapping[str, Any] = field(default_factory=dict, repr=False)
    environments: Mapping[str, Mapping[str, str]] = field(default_factory=dict, repr=False)
    encoded: Sequence[Encoded] = field(default=(), repr=False)

    @property
    def candidates(self) -> list[Candidate]:
        """The candidates, as they are listed with the search."""
        n_splits = len(self.ids) // len(self.encoded) if self.encoded else 0
        return [
            Candidate(own.text, tuple(self.ids[n * n_splits : (n + 1) * n_splits]), own.opaque)
            for n, own in enumerate(self.encoded)
        ]


def listed(
    candidates: Sequence[Mapping[str, Any]], reasons: Sequence[str | None], kept: Plan
) -> list[Candidate]:
    """Return candidates as they are listed with their search, those left out included.

    Parameters
    ----------
    reasons : sequence of str or None
        Why a candidate was left out; None for those that `kept` is of.
    """
    planned = iter(kept.candidates)
    return [
        next(planned) if reason is None else _left_out(params, reason)
        for params, reason in zip(candidates, reasons, strict=True)
    ]


def _left_out(params: Mapping[str, Any], reason: str) -> Candidate:
    encoded = encode(params, lambda _: "")
    return Candidate(encoded.text, (), encoded.opaque, reason)


def uncertain(doubts: Sequence[str]) -> dict[str, str]:
    """Return the ingredient that says why no other search shares keys, if that is so."""
    return {"uncertain": doubts[0][:500]} if doubts else {}


def units_of(
    keys: Iterable[Sequence[str]], encoded: Sequence[Encoded], work: Work
) -> tuple[list[Unit], list[str], dict[str, tuple[int, int]]]:
    """Return units, ids and places of a :class:`Plan`.

    Parameters
    ----------
    keys : iterable of sequence of str
        For each candidate the keys of its units, one a split; equal keys are one unit.
    encoded : sequence of Encoded
        The candidates.
    work : Work
    """
    units: dict[str, Unit] = {}
    ids: list[str] = []
    places: dict[str, tuple[int, int]] = {}
    for candidate, (own_keys, own) in enumerate(zip(keys, encoded, strict=True)):
        for split, key in enumerate(own_keys):
            unit_id = f"u{SCHEMA}:{key}:{work.constraints}"
            ids.append(unit_id)
            if unit_id not in units:
                units[unit_id] = Unit(unit_id, key, split, own.readable, own.text, work)
                places[unit_id] = (candidate, split)
    return list(units.values()), ids, places


# Candidates as text, and what they name as payloads.
#
# What cannot be pickled is said, not raised: this process may score it all the same.


@dataclass(frozen=True, slots=True)
class Packed:
    """Candidates, written down.

    Attributes
    ----------
    encoded : list of Encoded
    doubts : tuple of str
        Why workers cannot compare what they load, where they cannot; keys are nobody else's then.
    refusal : NotShippable or None
        Why no other process can have it.
    """

    encoded: list[params.Encoded]
    doubts: tuple[str, ...]
    refusal: NotShippable | None


def pack(candidates: Sequence[Mapping[str, Any]], sender: Sender) -> Packed:
    """Write candidates down; what has no exact text goes into a payload of `sender`."""
    found: dict[int, Any] = {}
    numbers: dict[int, int] = {}

    def number_of(value: Any) -> str:
        found[id(value)] = value  # kept alive, as an id is only good that long
        return str(numbers.setdefault(id(value), len(numbers)))

    encoded = [params.encode(candidate, number_of) for candidate in candidates]
    if not found and sender.has_sent:
        return Packed(encoded, (), None)
    named = {id(value): name for own in candidates for name, value in own.items()}
    try:
        names = [named.get(key, "candidates") for key in found]
        sent = sender.send(list(found.values()), names)
    except NotShippable as refusal:
        return Packed(encoded, (), refusal)
    if sent.references and sent.references[0] != "0":
        name_of = dict(zip(found, sent.references, strict=True))
        encoded = [params.encode(own, lambda v: name_of[id(v)]) for own in candidates]
    return Packed(encoded, tuple(map(str, sent.doubts)), None)
