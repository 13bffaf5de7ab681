"""Candidates x splits -> units, in the order of ``cv_results_``.

The key of a unit says *what* is computed: the first 48 characters are a hash over the digests of
the effective estimator, the data, the split, the scorer, the params of fit and score, and the
configuration; the last 16 are a hash over the versions that these come from.  Its terms say how
it may be run: which versions must load it, which tags a worker needs, whether train scores are
wanted.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from optomatic.keys.digest import KEY_VERSION, Digest, combined, digest_of
from optomatic.keys.environment import constraints, versions
from optomatic.keys.estimators import Effective
from optomatic.plan.packing.bundle import Bundle
from optomatic.plan.units.needed import pack
from optomatic.plan.units.plan import Plan, uncertain, units_of
from optomatic.plan.units.splits import pack_splits
from optomatic.plan.units.work import work_of
from optomatic.planning.keys import SCORING, Environments, key_of
from optomatic.planning.parts import dump
from optomatic.planning.payload import Sender
from optomatic.records import Subject, Work

#: Options that say how a unit may be run, not what is computed.
_TERMS = ("inner_max_num_threads", "limits")
#: A search with more splits has no subject: its record would be large.
_MOST_SPLITS = 2000
_SHORT = 16


class UnitPlanner:
    """Makes units of candidates and splits, for some candidates after others.

    What all of them share is digested and pickled once.

    Parameters
    ----------
    shared : Bundle
        All that a score depends on but the candidate.
    requires : tuple of str
        Tags that a worker must carry.
    callbacks : Digest or None
        Stands for those that are called inside of the fits: they may end one early, so a
        score depends on them, and they live in the process of the caller alone.
    """

    def __init__(
        self,
        shared: Bundle,
        *,
        requires: tuple[str, ...] = (),
        callbacks: Digest | None = None,
    ) -> None:
        self._shared = shared
        self._requires = requires
        self._callbacks = callbacks
        #: Makes payloads, and knows the digests of what is shared.
        self.sender = Sender(_roles_of(shared))
        self._common = _common(shared, self.sender.digests, callbacks)
        self._environments = Environments(self._common)
        self._splits = [digest_of_split(*split) for split in shared.splits]
        self._splits_part = dump(pack_splits(list(shared.splits)))
        self._effective: dict[frozenset[str], Effective] = {}
        #: Makes keys that nobody has again, where workers may have something else.
        self._salt = ""
        #: What scores are about; None if there are too many splits to say it.
        self.subject = self._subject()

    def plan(self, candidates: Sequence[Mapping[str, Any]]) -> Plan:
        """Return the units of `candidates`.

        Raises
        ------
        ValueError
            scikit-learn's own, for a parameter name that the estimator does not have.
        """
        found = self._digests(candidates)
        packed = pack(candidates, self.sender)
        if packed.doubts:
            self._salt = self._salt or secrets.token_hex(16)
        met = Digest("", (), self._common.modules.union(*(own.modules for own in found)))
        private = packed.refusal is not None or self._callbacks is not None
        work = self._work(met, private=private)
        keys = (self._keys_on(own, self._splits) for own in found)
        units, ids, places = units_of(keys, packed.encoded, work)
        parts = {self._splits_part.sha: self._splits_part, **self.sender.parts}
        certain = (*self._common.doubts, *(doubt for own in found for doubt in own.doubts))
        doubts = tuple(dict.fromkeys([*map(str, certain), *packed.doubts]))
        return Plan(
            units=units,
            ids=ids,
            places=places,
            parts={} if private else parts,
            doubts=doubts,
            refusal=packed.refusal,
            subject=self.subject,
            ingredients={**self.ingredients, **uncertain(doubts)},
            environments=self._environments.known,
            encoded=packed.encoded,
        )

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
            (found,) = self._digests([candidate])
        except Exception:  # whatever a set_params of the user's raises for params of another search
            return []
        return self._keys_on(found, map(bytes.fromhex, splits))

    @cached_property
    def ingredients(self) -> dict[str, Any]:
        """Return short digests of all that keys are made of, and the versions that count."""
        base = self._effective_of(frozenset())
        kind = type(self._shared.estimator)
        return {
            "key_version": KEY_VERSION,
            "class": f"{kind.__module__}.{kind.__qualname__}",
            **{role: own.hex[:_SHORT] for role, own in self.sender.digests.items()},
            "config": digest_of(dict(self._shared.options.get("config", {}))).hex[:_SHORT],
            **({} if self._callbacks is None else {"callbacks": self._callbacks.hex[:_SHORT]}),
            "splits": hashlib.sha256(b"".join(self._splits)).hexdigest()[:_SHORT],
            "train_scores": bool(self._shared.options["return_train_score"]),
            "params": {name: digest[:_SHORT] for name, digest in base.params().items()},
            "environment": self._environments.of(base.of({})),
        }

    def _digests(self, candidates: Sequence[Mapping[str, Any]]) -> list[Digest]:
        """Return the digest of the effective estimator of each candidate."""
        if not all(isinstance(name, str) for candidate in candidates for name in candidate):
            raise TypeError("keywords must be strings")  # as set_params(**candidate) says it
        effective = self._effective_of(frozenset(n for c in candidates for n in c))
        return [effective.of(candidate) for candidate in candidates]

    def _effective_of(self, varied: frozenset[str]) -> Effective:
        if varied not in self._effective:
            self._effective[varied] = Effective(self._shared.estimator, varied=varied)
        return self._effective[varied]

    def _keys_on(self, own: Digest, splits: Iterable[bytes]) -> list[str]:
        """Return the keys of the units of a candidate on splits, by their hashes."""
        environment = self._environments.hash_of(own)
        candidate = f"{KEY_VERSION}:{self._common.hex}:{own.hex}{self._salt}".encode()
        start = hashlib.sha256(candidate).digest()
        return [key_of(start + split, environment) for split in splits]

    def _work(self, met: Digest, *, private: bool) -> Work:
        """Say how the units may be run.  Private work has a lane that no other process serves."""
        options = self._shared.options
        asked: list[object] = [bool(options["return_train_score"])]
        asked += [[name, options[name]] for name in _TERMS if options.get(name)]
        return work_of(
            "score",
            {**self.sender.spec, "splits": self._splits_part.sha},
            options,
            env=constraints(versions([*SCORING, *met.modules])),
            requires=self._requires,
            asked=asked,
            secret=secrets.token_hex(16) if private else None,
            payload=self.sender.holds_user_code,
        )

    def _subject(self) -> Subject | None:
        if len(self._splits) > _MOST_SPLITS:
            return None
        kind = type(self._shared.estimator)
        environment = self._environments.hash_of(Digest(""))
        text = f"{KEY_VERSION}:{self._common.hex}:{environment}:"
        text += f"{kind.__module__}.{kind.__qualname__}"
        return Subject(
            hashlib.sha256(text.encode()).hexdigest(),
            tuple(split.hex() for split in self._splits),
            min((len(train) for train, _ in self._shared.splits), default=0),
        )


def digest_of_split(train: Any, test: Any) -> bytes:
    """Return the hash of a pair of index arrays, in order."""
    rows = [np.ascontiguousarray(part, dtype=np.int64) for part in (train, test)]
    head = f"{len(rows[0])},{len(rows[1])};".encode()
    return hashlib.sha256(head + rows[0].tobytes() + rows[1].tobytes()).digest()


def _common(shared: Bundle, digests: Mapping[str, Digest], callbacks: Digest | None) -> Digest:
    """Return the digest of all that the candidates share."""
    parts = {role: own for role, own in digests.items() if role != "estimator"}
    parts["config"] = digest_of(dict(shared.options.get("config", {})))
    if callbacks is not None:
        parts["callbacks"] = callbacks
    return combined(parts)


def _roles_of(shared: Bundle) -> dict[str, Any]:
    return {
        "estimator": shared.estimator,
        "X": shared.X,
        "y": shared.y,
        "scorer": shared.scorer,
        "fit_params": dict(shared.fit_params or {}) or None,
        "score_params": dict(shared.score_params or {}) or None,
    }
