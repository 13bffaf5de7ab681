"""More candidates of a function -> units, from what was written down: it need not be here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from optomatic.keys.digest import Digest
from optomatic.keys.environment import constraints, python_minor, versions
from optomatic.plan.units.function_units import (
    KEY_PREFIX,
    digest_of_params,
    function_work,
    unit_key,
)
from optomatic.plan.units.needed import pack
from optomatic.plan.units.plan import Plan, units_of
from optomatic.planning.keys import hash_of_environment
from optomatic.planning.payload import Sender
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
    own = [digest_of_params(candidate) for candidate in candidates]
    sender = Sender({}, apart=True)
    packed = pack(candidates, sender)
    _check_python(asked.work.env, sender.parts)
    work = _wider(asked.work, [name for each in own for name in each.modules])
    keys = ([unit_key(asked.key, each, _environment_of(asked, each))] for each in own)
    units, ids, places = units_of(keys, packed.encoded, work)
    certain = dict.fromkeys(str(doubt) for each in own for doubt in each.doubts)
    doubts = tuple(dict.fromkeys([*certain, *packed.doubts]))
    return Plan(
        *(units, ids, places, dict(sender.parts), doubts, packed.refusal),
        asked=asked,
        encoded=packed.encoded,
    )


def _environment_of(asked: Recipe, own: Digest) -> str:
    environment = {**versions(own.modules), **asked.environment}
    if own.python:
        environment["python"] = python_minor()
    return hash_of_environment(environment)


def _wider(work: Work, modules: Sequence[str]) -> Work:
    """Return `work` for candidates that need the versions of some modules besides."""
    same = work.spec, work.options
    # Work with user code has a lane of its own.
    own_lane = function_work(*same, work.env, work.requires).lane != work.lane
    env = {**constraints(versions(modules)), **work.env}
    return function_work(*same, env, work.requires, payload=own_lane)


def _check_python(env: Mapping[str, str], parts: Mapping[str, Part]) -> None:
    here = python_minor()
    if parts and env["python"] != here:
        raise ValueError(
            f"The workers of this search run Python {env['python']}, this is {here}, and some of "
            "the candidates hold objects, which must not be pickled by another one. Nothing was "
            "queued. Use that Python, or plain values (numbers, texts, lists of them)."
        )
