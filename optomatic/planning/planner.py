"""Candidates -> units, in the order of ``cv_results_``: one for each different (candidate, split).

The key of a unit says what is computed, and by which versions::

    6c0f...9e (48 characters)   digests of all that a score depends on: the effective estimator,
                                data, split, scorer, params of fit and score, configuration; or
                                the code of a function, its data and its params
    41aa...07 (16 characters)   versions of the libraries that these come from

Units that differ in versions only share the first part, so a search can say why a score was not
reused.  The constraints of a unit say how it may be run: which versions load it, which tags a
worker needs, under which limits, whether train scores are wanted.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Generic, TypeVar

from optomatic.errors import NotShippable
from optomatic.garbage import without_collector
from optomatic.keys.digest import KEY_VERSION, Digest
from optomatic.keys.environment import python_minor, required_versions, shipping, versions
from optomatic.planning.constraints import work_of
from optomatic.planning.params import encode, readable
from optomatic.planning.payload import Sender
from optomatic.planning.workload import (
    CALL_PREFIX,
    FunctionWorkload,
    Workload,
    constraints_of_call,
    digest_of_params,
)
from optomatic.records import CONTENT, SCHEMA, Candidate, JobSpec, Part, Unit, Work

_SHORT = _ENVIRONMENT = 16


@dataclass(frozen=True, slots=True)
class Plan:
    """The units of a search, and what workers need to score them.

    Attributes
    ----------
    units : list of Unit
        Each once, in the order of ``cv_results_``.
    candidates : list of Candidate
        With the ids of their units; duplicate candidates share units.
    parts : dict of str to Part
        Stored before a worker can score; empty where no other process may.
    doubts : tuple of str
        Where something cannot be keyed for certain, so that no other search shares it.
    refusal : NotShippable or None
        Why no other process can score these units.
    asked : JobSpec or None
        For more units without the objects themselves; of a function only.
    environments : mapping
        The versions that stand behind the ends of keys.
    order : list of str
        The ids in the order in which to score them; empty if any will do.
    """

    units: list[Unit]
    candidates: list[Candidate]
    parts: Mapping[str, Part] = field(default_factory=dict, repr=False)
    doubts: tuple[str, ...] = ()
    refusal: NotShippable | None = None
    asked: JobSpec | None = None
    environments: Mapping[str, Mapping[str, str]] = field(default_factory=dict, repr=False)
    order: list[str] = field(default_factory=list, repr=False)

    @property
    def ids(self) -> list[str]:
        """The ids of the units of all candidates, candidate-major."""
        return [unit_id for candidate in self.candidates for unit_id in candidate.units]


W = TypeVar("W", bound=Workload)


class Planner(Generic[W]):
    """Makes units of candidates, of some after others.

    What all of them share is digested once, and pickled once, with the first of them; `sender` does
    that.  By `signature` later searches find what they can learn from.
    """

    def __init__(
        self, workload: W, *, requires: tuple[str, ...] = (), ship_modules: Any = None
    ) -> None:
        self.workload = workload
        self._requires = requires
        #: Names the queue of units that no other process may score.
        self._secret = secrets.token_hex(16)
        #: Makes keys unique where workers may have something else.
        self._salt = ""
        self._apart = workload.apart()
        self._ship_modules = ship_modules
        with shipping(ship_modules):
            self.sender = Sender(workload.roles())
        self._common = workload.common(self.sender.digests)
        self._environments = Environments(self._common, workload.always)
        env = self._environments.hash_of(Digest(""))
        workload.know_data(self.sender.digests, env)
        self.signature = workload.signature(self._common, self.sender.digests, env)

    @without_collector()
    def plan(self, candidates: Sequence[Mapping[str, Any]], *, whole: bool = False) -> Plan:
        """Return the units of `candidates`, which are those of the `whole` search or some.

        Raise scikit-learn's own error for a parameter name that the estimator does not have, and
        TypeError if a function does not take a param.
        """
        if not candidates:
            return Plan([], [])
        order = self.workload.know_candidates(candidates) if whole else []
        with shipping(self._ship_modules):
            found = self.workload.digests(candidates)
            written, uncompared, refusal = pack(candidates, self.sender)
        if uncompared:
            self._salt = self._salt or secrets.token_hex(16)
        private = refusal is not None or self.workload.is_private
        work = self._work(found, private=private)
        units, planned = units_of(written, map(self._keys, found), work)
        doubts = _doubts([self._common, *found], uncompared)
        if doubts:  # an ingredient says why no other search shares keys
            self.ingredients["uncertain"] = doubts[0][:500]
        ids = [unit_id for own in planned for unit_id in own.units]
        parts = {**{part.sha: part for part in self._apart.values()}, **self.sender.parts}
        return Plan(
            units=units,
            candidates=planned,
            parts={} if private else parts,
            doubts=doubts,
            refusal=refusal,
            asked=None if private else self._job_spec(work),
            environments=self._environments.known,
            order=[ids[number] for number in order],
        )

    def keys_on(self, candidate: Mapping[str, Any], splits: Sequence[str]) -> list[str]:
        """Return the keys of a candidate's units on splits of another search, by their hashes.

        The list is empty if the estimator or function does not take the params.
        """
        workload = self.workload.anew()
        try:
            with shipping(self._ship_modules):
                (own,) = workload.digests([candidate])
        except Exception:  # whatever a set_params of the user's raises for params of another search
            return []
        return self._keys(own, workload, map(bytes.fromhex, splits))

    @cached_property
    def ingredients(self) -> dict[str, Any]:
        """Short digests of all that keys are made of, and the versions that count."""
        return {
            "key_version": KEY_VERSION,
            **{role: own.hex[:_SHORT] for role, own in self.sender.digests.items()},
            **self.workload.ingredients(),
            "environment": self._environments.of(self.workload.base()),
        }

    def _keys(
        self, own: Digest, workload: Workload | None = None, splits: Iterable[bytes] | None = None
    ) -> list[str]:
        environment = self._environments.hash_of(own)
        common = self._common.hex + self._salt
        contents = (workload or self.workload).contents(common, own, splits)
        return [key_of(content, environment) for content in contents]

    def _work(self, found: Sequence[Digest], *, private: bool) -> Work:
        """Say how the units may be run.  Private work has a queue that no other process serves."""
        workload = self.workload
        modules = self._common.modules.union(*(own.modules for own in found))
        return work_of(
            workload.kind,
            {**self.sender.spec, **{role: part.sha for role, part in self._apart.items()}},
            workload.options,
            env=required_versions(versions([*workload.always, *modules])),
            requires=self._requires,
            asked=workload.constraints(),
            secret=self._secret if private else None,
            payload=self.sender.holds_user_code,
        )

    def _job_spec(self, work: Work) -> JobSpec | None:
        if not isinstance(self.workload, FunctionWorkload):
            return None
        common = self.workload.prefix(self._common.hex + self._salt)
        return JobSpec(common, work, self._environments.of(Digest("")))


def plan_more(asked: JobSpec, candidates: Sequence[Mapping[str, Any]]) -> Plan:
    """Return units of more candidates of a search whose function and data need not be here.

    They have the keys that :class:`Planner` gives them where both are.  Raise ValueError if the
    version that wrote `asked` makes other keys, or if its workers run another Python and values
    would have to be pickled here.
    """
    if not asked.key.startswith(CALL_PREFIX):
        raise ValueError(
            "This search was made by a version of optomatic that knows units by other keys, so "
            "candidates that were added here would share no scores with it. Nothing was queued. "
            "Use that version, or run the search again with the wider space."
        )
    own = [digest_of_params(candidate) for candidate in candidates]
    sender = Sender({}, apart=True)
    written, uncompared, refusal = pack(candidates, sender)
    _check_python(asked.work.env, sender.parts)
    work = _wider(asked.work, [name for each in own for name in each.modules])
    keys = (
        [key_of(f"{asked.key}:{each.hex}".encode(), _environment_of(asked, each))] for each in own
    )
    units, planned = units_of(written, keys, work)
    return Plan(
        units=units,
        candidates=planned,
        parts=sender.parts,
        doubts=_doubts(own, uncompared),
        refusal=refusal,
        asked=asked,
    )


def _environment_of(asked: JobSpec, own: Digest) -> str:
    environment = {**versions(own.modules), **asked.environment}
    if own.python:
        environment["python"] = python_minor()
    return hash_of_environment(environment)


def _wider(work: Work, modules: Sequence[str]) -> Work:
    """Return `work` for candidates that need the versions of some modules besides."""

    def wide(env: Mapping[str, str], *, payload: bool = False) -> Work:
        return work_of(
            work.kind,
            work.spec,
            work.options,
            env=env,
            requires=work.requires,
            asked=constraints_of_call(work.options),
            secret=None,
            payload=payload,
        )

    # Work with user code has a queue of its own.
    own_queue = wide(work.env).queue != work.queue
    return wide({**required_versions(versions(modules)), **work.env}, payload=own_queue)


def _check_python(env: Mapping[str, str], parts: Mapping[str, Part]) -> None:
    here = python_minor()
    if parts and env["python"] != here:
        raise ValueError(
            f"The workers of this search run Python {env['python']}, this is {here}, and some of "
            "the candidates hold objects, which must not be pickled by another one. Nothing was "
            "queued. Use that Python, or plain values (numbers, texts, lists of them)."
        )


def _doubts(met: Iterable[Digest], uncompared: Sequence[str]) -> tuple[str, ...]:
    certain = (str(doubt) for own in met for doubt in own.doubts)
    return tuple(dict.fromkeys([*certain, *uncompared]))


def units_of(
    written: Sequence[Candidate], keys: Iterable[Sequence[str]], work: Work
) -> tuple[list[Unit], list[Candidate]]:
    """Return the units of candidates, of their keys on each split, and the candidates with ids."""
    units: dict[str, Unit] = {}
    planned = []
    for candidate, own in zip(written, keys, strict=True):
        ids = tuple(f"u{SCHEMA}:{key}:{work.constraints}" for key in own)
        planned.append(replace(candidate, units=ids))
        text, shown = candidate.text or "", readable(candidate.params)
        for split, (unit_id, key) in enumerate(zip(ids, own, strict=True)):
            units.setdefault(unit_id, Unit(unit_id, key, split, shown, text, work))
    return list(units.values()), planned


def pack(
    candidates: Sequence[Mapping[str, Any]], sender: Sender
) -> tuple[list[Candidate], tuple[str, ...], NotShippable | None]:
    """Write candidates down; values without an exact text go into a payload of `sender`.

    Return also why workers cannot compare what they load, where they cannot, and why no other
    process can have it.  That is not raised: this process may score it all the same.
    """
    found: dict[int, Any] = {}
    numbers: dict[int, int] = {}

    def number_of(value: Any) -> str:
        found[id(value)] = value  # kept alive, as an id is only good that long
        return str(numbers.setdefault(id(value), len(numbers)))

    written = [_written(params, number_of) for params in candidates]
    if not found and sender.has_sent:
        return written, (), None
    named = {id(value): name for own in candidates for name, value in own.items()}
    try:
        names = [named.get(key, "candidates") for key in found]
        sent = sender.send(list(found.values()), names)
    except NotShippable as refusal:
        return written, (), refusal
    if sent.references and sent.references[0] != "0":
        name_of = dict(zip(found, sent.references, strict=True))
        written = [_written(params, lambda v: name_of[id(v)]) for params in candidates]
    return written, tuple(map(str, sent.doubts)), None


def _written(
    params: Mapping[str, Any], name_of: Callable[[Any], str], reason: str | None = None
) -> Candidate:
    text, shown = encode(params, name_of)
    return Candidate(text, shown=shown, reason=reason, params=params)


def with_left_out(
    candidates: Sequence[Mapping[str, Any]], reasons: Sequence[str | None], kept: Plan
) -> list[Candidate]:
    """Return all candidates in order: those with a reason were left out, `kept` has the others."""
    planned = iter(kept.candidates)
    return [
        next(planned) if reason is None else _written(params, lambda _: "", reason)
        for params, reason in zip(candidates, reasons, strict=True)
    ]


# -- keys ------------------------------------------------------------------------------------------


def key_of(content: bytes, environment: str) -> str:
    """Return the key of what computes `content` by versions with this hash."""
    return hashlib.sha256(content).hexdigest()[:CONTENT] + environment


def hash_of_environment(environment: Mapping[str, str]) -> str:
    """Return the part of a key that stands for versions."""
    text = json.dumps(sorted(environment.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:_ENVIRONMENT]


class Environments:
    """The versions that count for candidates, beside those of what they share."""

    def __init__(self, common: Digest, always: tuple[str, ...]) -> None:
        self._common = common
        self._always = always
        self._known: dict[tuple[frozenset[str], bool], tuple[dict[str, str], str]] = {}

    @property
    def known(self) -> dict[str, dict[str, str]]:
        """The versions that were asked for so far, by the part of keys that stands for them."""
        return {end: environment for environment, end in self._known.values()}

    def of(self, own: Digest) -> dict[str, str]:
        """Return the versions that count for a candidate, by distribution."""
        return self._found(own)[0]

    def hash_of(self, own: Digest) -> str:
        """Return the part of the keys of a candidate that stands for versions."""
        return self._found(own)[1]

    def _found(self, own: Digest) -> tuple[dict[str, str], str]:
        # A key never depends on other candidates, so each has the versions of its own modules.
        asked = own.modules, own.python
        if asked not in self._known:
            environment = versions([*self._always, *self._common.modules, *own.modules])
            if own.python or self._common.python:
                environment["python"] = python_minor()
            self._known[asked] = environment, hash_of_environment(environment)
        return self._known[asked]
