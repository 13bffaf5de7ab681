"""How units may be run: which lane they wait in, and under which terms a score is theirs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from optomatic.records import SCHEMA, Work


def work_of(
    kind: str,
    spec: Mapping[str, str | None],
    options: Mapping[str, Any],
    *,
    env: Mapping[str, str],
    requires: tuple[str, ...],
    asked: Sequence[object],
    secret: str | None,
    payload: bool = False,
) -> Work:
    """Say how units may be run.

    Parameters
    ----------
    kind, spec, options, env, requires
        As of :class:`~optomatic.records.Work`.
    asked : sequence of plain values
        What besides makes other terms: outputs, limits.
    secret : str or None
        Makes the work private: its lane is one that no other process serves.
    payload : bool
        Whether user code is in its payload, so that a worker may have to leave it alone.
    """
    able = [kind, SCHEMA, sorted(env.items()), sorted(requires), secret]
    return Work(
        kind=kind,
        spec=spec,
        options=options,
        env=env,
        requires=requires,
        # Equal keys have equal code, so that says nothing new of the terms.
        lane=hash_of([*able, spec["payload"]] if payload and not secret else able),
        terms=terms_of([able, *asked]),
    )


def terms_of(values: Sequence[object]) -> str:
    """Return terms: the beginning of a hash is enough to tell those of one key apart."""
    return hash_of(values)[:16]


def hash_of(values: Sequence[object]) -> str:
    """Return the hash of plain values, equal in every process."""
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()
