"""Candidates as text, and what they name as payloads.

What cannot be pickled is said, not raised: this process may score it all the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optomatic.errors import NotShippable
from optomatic.plan.packing import params
from optomatic.planning.payload import Sender


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
