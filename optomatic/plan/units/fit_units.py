"""Candidates x splits -> units, in the order of ``cv_results_``.

The key of a unit says *what* is computed; it is a hash over the fingerprints of the
effective estimator, the data, the split, the scorer, the params of fit and score, the
configuration and the versions of what they are made of.  Its terms say how it may be
run: which versions must load it, which tags a worker needs, whether train scores are
wanted.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from optomatic import _sklearn
from optomatic.errors import NotShippable
from optomatic.plan.keys.effective import Effective
from optomatic.plan.keys.fingerprint import KEY_VERSION, Fingerprint, fingerprint
from optomatic.plan.keys.fingerprint import fingerprint_split as split_fingerprint
from optomatic.plan.keys.versions import installed_versions
from optomatic.plan.own_code.survey import Named, code_text
from optomatic.plan.packing import bundle, params
from optomatic.plan.packing.bundle import Bundle
from optomatic.plan.units.environment import environment
from optomatic.plan.units.splits import pack_splits
from optomatic.records import SCHEMA, Part, Recipe, Subject, Unit, Work

#: Modules whose versions count whatever the estimator is.
_ALWAYS = ("sklearn", "numpy", "scipy")
#: Options that say how a unit may be run, not what is computed.
_TERMS = ("inner_max_num_threads", "limits")
#: A search with more splits has no subject: its record would be large.
_MOST_SPLITS = 2000


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
    """

    units: list[Unit]
    ids: list[str]
    places: dict[str, tuple[int, int]]
    parts: dict[str, Part] = field(repr=False)
    doubts: tuple[str, ...]
    refusal: NotShippable | None
    subject: Subject | None = None
    asked: Recipe | None = None


def plan_units(
    shared: Bundle,
    candidates: Sequence[Mapping[str, Any]],
    *,
    requires: tuple[str, ...] = (),
    callbacks: Fingerprint | None = None,
) -> Plan:
    """Make the units of `candidates` and the splits of `shared`.

    Parameters
    ----------
    shared : Bundle
        All that a score depends on but the candidate.
    requires : tuple of str
        Tags that a worker must carry.
    callbacks : Fingerprint or None
        Stands for those that are called inside of the fits: they may end one early, so a
        score depends on them, and they live in the process of the caller alone.

    Raises
    ------
    ValueError
        scikit-learn's own, for a parameter name that the estimator does not have.
    """
    return UnitPlanner(shared, requires=requires, callbacks=callbacks).plan(candidates)


class UnitPlanner:
    """Makes units as :func:`plan_units` does, for some candidates after others.

    What all of them share is keyed and dumped once.
    """

    def __init__(
        self,
        shared: Bundle,
        *,
        requires: tuple[str, ...] = (),
        callbacks: Fingerprint | None = None,
    ) -> None:
        self._shared = shared
        self._requires = requires
        self._callbacks = callbacks
        self._common = _common(shared, callbacks)
        self._named = Named()
        self._parts, self._spec, self._refusal = _parts_of(shared, self._named)
        self._splits = [bytes.fromhex(split_fingerprint(*split)) for split in shared.splits]
        self._effective: dict[frozenset[str], Effective] = {}
        #: What scores are about; None if there are too many splits to say it.
        self.subject = _subject(shared, self._common, self._splits)

    def plan(self, candidates: Sequence[Mapping[str, Any]]) -> Plan:
        """Return the units of `candidates`.

        Raises
        ------
        ValueError
            As :func:`plan_units`.
        """
        keys, doubts, versions = self._keys(candidates)
        parts = dict(self._parts)
        named = self._named.copy()
        texts, readables, refused = _encode(candidates, parts, named)
        refusal = self._refusal or refused
        private = refusal is not None or self._callbacks is not None
        spec = {**self._spec, **spec_of_code(named, versions, parts)}
        work = _work(self._shared, spec, versions, self._requires, private=private)
        units: dict[str, Unit] = {}
        ids: list[str] = []
        places: dict[str, tuple[int, int]] = {}
        for c, key in enumerate(keys):
            for s, split_digest in enumerate(self._splits):
                unit_key = hashlib.sha256(key + split_digest).hexdigest()
                unit_id = f"u{SCHEMA}:{unit_key}:{work.terms}"
                ids.append(unit_id)
                if unit_id not in units:
                    units[unit_id] = Unit(unit_id, unit_key, s, readables[c], texts[c], work)
                    places[unit_id] = (c, s)
        if private:
            parts = {}
        return Plan(list(units.values()), ids, places, parts, doubts, refusal, self.subject)

    def keys_on(self, candidate: Mapping[str, Any], splits: Sequence[str]) -> list[str]:
        """Return the keys of the units of a candidate on splits of another search.

        Parameters
        ----------
        candidate : mapping
        splits : sequence of str
            Their hashes.

        Returns
        -------
        list of str
            Empty if the estimator does not take the params.
        """
        try:
            ((key,), _, _) = self._keys([candidate])
        except Exception:  # whatever a set_params of the user's raises for params of another search
            return []
        return [hashlib.sha256(key + bytes.fromhex(split)).hexdigest() for split in splits]

    def _keys(
        self, candidates: Sequence[Mapping[str, Any]]
    ) -> tuple[list[bytes], tuple[str, ...], dict[str, str]]:
        """Return a digest for each candidate (its splits apart), the doubts and the versions."""
        common, callbacks = self._common, self._callbacks
        doubts = {str(doubt): None for doubt in common.doubts}
        if callbacks is not None:
            doubts.update((str(doubt), None) for doubt in callbacks.doubts)
        versions = dict(common.versions)
        effective = self._effective_of(frozenset(n for c in candidates for n in c))
        keys = []
        for candidate in candidates:
            own = effective.of(candidate)
            if own.doubts:
                doubts.update((str(doubt), None) for doubt in own.doubts)
            versions.update(own.versions)
            text = f"{KEY_VERSION}:{common.digest}:{own.digest}"
            keys.append(hashlib.sha256(text.encode()).digest())
        return keys, tuple(doubts), versions

    def _effective_of(self, varied: frozenset[str]) -> Effective:
        if varied not in self._effective:
            self._effective[varied] = Effective(self._shared.estimator, varied=varied)
        return self._effective[varied]


def _subject(shared: Bundle, common: Fingerprint, splits: Sequence[bytes]) -> Subject | None:
    if len(splits) > _MOST_SPLITS:
        return None
    kind = type(shared.estimator)
    text = f"{KEY_VERSION}:{common.digest}:{kind.__module__}.{kind.__qualname__}"
    return Subject(
        hashlib.sha256(text.encode()).hexdigest(),
        tuple(split.hex() for split in splits),
        min((len(train) for train, _ in shared.splits), default=0),
    )


def _common(shared: Bundle, callbacks: Fingerprint | None) -> Fingerprint:
    """Key all that the candidates share."""
    return fingerprint(
        {
            **({} if callbacks is None else {"callbacks": callbacks.digest}),
            "X": shared.X,
            "y": shared.y,
            "scorer": None if _sklearn.uses_own_score(shared.scorer) else shared.scorer,
            "fit_params": dict(shared.fit_params or {}),
            "score_params": dict(shared.score_params or {}),
            "config": dict(shared.options.get("config", {})),
            "versions": {name: installed_versions(name) for name in _ALWAYS},
        }
    )


def _parts_of(
    shared: Bundle, named: Named
) -> tuple[dict[str, Part], dict[str, str | None], NotShippable | None]:
    """Dump what workers need; say instead of raising what cannot be dumped."""
    roles: dict[str, Any] = {
        "estimator": shared.estimator,
        "X": shared.X,
        "y": shared.y,
        "scorer": shared.scorer,
        "fit_params": dict(shared.fit_params or {}) or None,
        "score_params": dict(shared.score_params or {}) or None,
    }
    parts: dict[str, Part] = {}
    spec: dict[str, str | None] = {}
    try:
        spec["splits"] = _keep(bundle.dump(pack_splits(list(shared.splits)), named), parts)
        for role, value in roles.items():
            spec[role] = None if value is None else _keep(bundle.dump(value, named), parts)
    except NotShippable as refusal:
        return {}, {}, refusal
    return parts, spec, None


def _keep(part: Part, parts: dict[str, Part]) -> str:
    parts[part.sha] = part
    return part.sha


def spec_of_code(
    named: Named, versions: Mapping[str, str], parts: dict[str, Part]
) -> dict[str, str]:
    """Return what the spec of units says of the code that workers need; add its part to `parts`.

    Empty if all of it is installed.
    """
    text = code_text(named, versions)
    return {} if text is None else {"code": _keep(bundle.dump(text), parts)}


def _encode(
    candidates: Sequence[Mapping[str, Any]], parts: dict[str, Part], named: Named
) -> tuple[list[str], list[Mapping[str, Any]], NotShippable | None]:
    """Encode each candidate, collecting the parts of what is opaque."""
    dump = _remembering(lambda value: bundle.dump(value, named))
    refusal = None
    texts: list[str] = []
    readables: list[Mapping[str, Any]] = []
    for candidate in candidates:
        try:
            encoded = params.encode(candidate, dump)
        except NotShippable as error:
            refusal = refusal or error
            encoded = params.encode({}, dump)
        texts.append(encoded.text)
        readables.append(encoded.readable)
        parts.update(encoded.parts)
    return texts, readables, refusal


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


def _work(
    shared: Bundle,
    spec: Mapping[str, str | None],
    versions: Mapping[str, str],
    requires: tuple[str, ...],
    *,
    private: bool,
) -> Work:
    """Say how the units may be run.  Private work has a lane that no other process serves."""
    env = environment(versions)
    secret = secrets.token_hex(16) if private else None
    able = ["score", SCHEMA, sorted(env.items()), sorted(requires), secret]
    code = [spec["code"]] if "code" in spec else []
    wanted = [able, bool(shared.options["return_train_score"])]
    wanted += [[name, shared.options[name]] for name in _TERMS if shared.options.get(name)]
    return Work(
        kind="score",
        spec=spec,
        options=shared.options,
        env=env,
        requires=requires,
        # Equal keys have equal code, so that says nothing new of the terms.
        lane=_hash([*able, *code]),
        terms=_hash(wanted)[:16],
    )


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
