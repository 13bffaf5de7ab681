"""More candidates of a function -> units, from what was written down: it need not be here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from optomatic.plan.keys.fingerprint import fingerprint
from optomatic.plan.own_code.survey import Named
from optomatic.plan.units.environment import environment
from optomatic.plan.units.function_units import KEY_PREFIX, function_work, key_of
from optomatic.plan.units.needed import encode_all, parts_in
from optomatic.plan.units.plan import Plan, units_of
from optomatic.records import Part, Recipe, Work


def plan_more(asked: Recipe, candidates: Sequence[Mapping[str, Any]]) -> Plan:
    """Return units of more candidates of a search whose function and data need not be here.

    They have the keys that :class:`~optomatic.plan.units.function_units.FunctionPlanner` gives them
    where both are.

    Raises
    ------
    ValueError
        If this version makes other keys than the one that wrote `asked` down, or if values
        would have to be pickled here for workers of another Python.
    """
    if not asked.key.startswith(KEY_PREFIX):
        raise ValueError(
            "This search was made by a version of optomatic that knows units by other keys, so "
            "candidates that were added here would share no scores with it. Nothing was queued. "
            "Use that version, or run the search again with the wider space."
        )
    own = [fingerprint(dict(sorted(candidate.items()))) for candidate in candidates]
    # The code that was written down is that of the function; what stands in these is not.
    encoded, refusal = encode_all(candidates, Named())
    parts = parts_in(encoded)
    _check_python(asked.work.env, parts)
    work = _wider(asked.work, [name for each in own for name in each.versions])
    units, ids, places = units_of(([key_of(asked.key, each)] for each in own), encoded, work)
    doubts = dict.fromkeys(str(doubt) for each in own for doubt in each.doubts)
    return Plan(units, ids, places, parts, tuple(doubts), refusal, asked=asked)


def _wider(work: Work, distributions: Sequence[str]) -> Work:
    """Return `work` for candidates that need the versions of some distributions besides."""
    env = {**environment(dict.fromkeys(distributions, "")), **work.env}
    return function_work(work.spec, work.options, env, work.requires)


def _check_python(env: Mapping[str, str], parts: Mapping[str, Part]) -> None:
    here = environment()["python"]
    if parts and env["python"] != here:
        raise ValueError(
            f"The workers of this search run Python {env['python']}, this is {here}, and some of "
            "the candidates hold objects, which must not be pickled by another one. Nothing was "
            "queued. Use that Python, or plain values (numbers, texts, lists of them)."
        )
