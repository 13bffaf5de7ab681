"""What workers need to score units, as bytes: objects by their role, and candidates.

What cannot be dumped is said, not raised: this process may score it all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from optomatic.errors import NotShippable
from optomatic.plan.own_code.survey import Named, code_text
from optomatic.plan.packing import bundle, params
from optomatic.records import Part

#: Hash of the part by role, as of :class:`~optomatic.records.Work`.
Spec = dict[str, str | None]


def dump_roles(
    roles: Mapping[str, Any], named: Named, *, absent: Collection[str] = ()
) -> tuple[dict[str, Part], Spec, NotShippable | None]:
    """Dump what all units share.

    Parameters
    ----------
    roles : mapping of str to object
    named : Named
        Takes note of what the bytes name instead of holding it.
    absent : collection of str
        Roles for which there is nothing.

    Returns
    -------
    parts : dict of str to Part
    spec : dict
    refusal : NotShippable or None
        Of the first that cannot be dumped; nothing is, then.
    """
    parts: dict[str, Part] = {}
    spec: Spec = {}
    try:
        for role, value in roles.items():
            spec[role] = None if role in absent else _keep(bundle.dump(value, named), parts)
    except NotShippable as refusal:
        return {}, {}, refusal
    return parts, spec, None


class CodeNeeded:
    """Says what code workers need, for some candidates after others.

    Most name the same code as those before, and then it is not followed again.
    """

    def __init__(self) -> None:
        self._named: Named | None = None
        self._known: frozenset[str] = frozenset()
        self._part: Part | None = None

    def spec(
        self, named: Named, versions: Mapping[str, str], parts: dict[str, Part]
    ) -> dict[str, str]:
        """Return what the spec of units says of their code; add its part to `parts`.

        Empty if all of it is installed.
        """
        known = frozenset(versions)
        if not self._is_of(named, known):
            text = code_text(named, known)
            self._part = None if text is None else bundle.dump(text)
            self._named, self._known = named.copy(), known
        return {} if self._part is None else {"code": _keep(self._part, parts)}

    def _is_of(self, named: Named, known: frozenset[str]) -> bool:
        # By their ids: what is remembered is kept alive, so an id is that of the same object.
        last = self._named
        return (
            last is not None
            and known == self._known
            and named.named.keys() == last.named.keys()
            and named.held.keys() == last.held.keys()
        )


def _keep(part: Part, parts: dict[str, Part]) -> str:
    parts[part.sha] = part
    return part.sha


def encode_all(
    candidates: Iterable[Mapping[str, Any]], named: Named
) -> tuple[list[params.Encoded], NotShippable | None]:
    """Write candidates down; return why one cannot be, too.

    `named` takes note of what their bytes name instead of holding it.
    """
    dump = _remembering(lambda value: bundle.dump(value, named))
    refusal = None
    encoded = []
    for candidate in candidates:
        try:
            encoded.append(params.encode(candidate, dump))
        except NotShippable as error:
            refusal = refusal or error
            encoded.append(params.encode({}, dump))
    return encoded, refusal


def parts_in(encoded: Sequence[params.Encoded]) -> dict[str, Part]:
    """Return what candidates refer to by its hash."""
    return {sha: part for own in encoded for sha, part in own.parts.items()}


def _remembering(dump: Callable[[object], Part]) -> Callable[[object], Part]:
    """Dump an object that stands in many candidates once.

    The objects are kept alive beside their parts, as an id is only good that long.
    """
    seen: dict[int, tuple[object, Part]] = {}

    def dump_once(value: object) -> Part:
        if id(value) not in seen:
            seen[id(value)] = (value, dump(value))
        return seen[id(value)][1]

    return dump_once
