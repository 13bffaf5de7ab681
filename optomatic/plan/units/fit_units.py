"""Candidates x splits -> units, in the order of ``cv_results_``.

The key of a unit says *what* is computed; it is a hash over the fingerprints of the
effective estimator, the data, the split, the scorer, the params of fit and score, the
configuration and the versions of what they are made of.  Its terms say how it may be
run: which versions must load it, which tags a worker needs, whether train scores are
wanted.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from optomatic import _sklearn
from optomatic.errors import NotShippable
from optomatic.plan.keys.effective import Effective
from optomatic.plan.keys.fingerprint import KEY_VERSION, Fingerprint, fingerprint
from optomatic.plan.keys.fingerprint import fingerprint_split as split_fingerprint
from optomatic.plan.keys.versions import installed_versions
from optomatic.plan.own_code.survey import Named
from optomatic.plan.packing.bundle import Bundle
from optomatic.plan.units.environment import environment
from optomatic.plan.units.needed import CodeNeeded, dump_roles, encode_all, parts_in
from optomatic.plan.units.plan import Plan, units_of
from optomatic.plan.units.splits import pack_splits
from optomatic.plan.units.work import work_of
from optomatic.records import Part, Subject, Work

#: Modules whose versions count whatever the estimator is.
_ALWAYS = ("sklearn", "numpy", "scipy")
#: Options that say how a unit may be run, not what is computed.
_TERMS = ("inner_max_num_threads", "limits")
#: A search with more splits has no subject: its record would be large.
_MOST_SPLITS = 2000


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
        self._code = CodeNeeded()
        self._parts, self._spec, self._refusal = _dumped(shared, self._named)
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
        encoded, refused = encode_all(candidates, named)
        parts.update(parts_in(encoded))
        refusal = self._refusal or refused
        private = refusal is not None or self._callbacks is not None
        spec = {**self._spec, **self._code.spec(named, versions, parts)}
        work = _work(self._shared, spec, versions, self._requires, private=private)
        units, ids, places = units_of((_keys_on(key, self._splits) for key in keys), encoded, work)
        if private:
            parts = {}
        return Plan(units, ids, places, parts, doubts, refusal, self.subject)

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
        return _keys_on(key, map(bytes.fromhex, splits))

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


def _keys_on(candidate: bytes, splits: Iterable[bytes]) -> list[str]:
    """Return the keys of the units of a candidate, by its digest and those of splits."""
    return [hashlib.sha256(candidate + split).hexdigest() for split in splits]


def _dumped(
    shared: Bundle, named: Named
) -> tuple[dict[str, Part], dict[str, str | None], NotShippable | None]:
    roles: dict[str, Any] = {
        "splits": pack_splits(list(shared.splits)),
        "estimator": shared.estimator,
        "X": shared.X,
        "y": shared.y,
        "scorer": shared.scorer,
        "fit_params": dict(shared.fit_params or {}) or None,
        "score_params": dict(shared.score_params or {}) or None,
    }
    return dump_roles(roles, named, absent=[role for role in roles if roles[role] is None])


def _work(
    shared: Bundle,
    spec: Mapping[str, str | None],
    versions: Mapping[str, str],
    requires: tuple[str, ...],
    *,
    private: bool,
) -> Work:
    """Say how the units may be run.  Private work has a lane that no other process serves."""
    asked: list[object] = [bool(shared.options["return_train_score"])]
    asked += [[name, shared.options[name]] for name in _TERMS if shared.options.get(name)]
    return work_of(
        "score",
        spec,
        shared.options,
        env=environment(versions),
        requires=requires,
        asked=asked,
        secret=secrets.token_hex(16) if private else None,
    )
