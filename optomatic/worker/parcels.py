"""What a child is sent: units, and where on this machine the parts are that they need."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from optomatic.store.bundles import Bundles
from optomatic.worker.cache import Cache
from optomatic.worker.intake import Held
from optomatic.worker.warning_filters import Filter


class Parcels:
    """Gets parts onto this machine and writes the messages that name them.

    Parameters
    ----------
    cache : Cache
        Where they are kept.
    bundles : Bundles
        Where they come from.
    filters : sequence of Filter, optional
        Which warnings units are to show; what the child has otherwise, if not given.
    """

    def __init__(
        self, cache: Cache, bundles: Bundles, filters: Sequence[Filter] | None = None
    ) -> None:
        self._cache = cache
        self._bundles = bundles
        self._filters = filters

    def fetch(self, shas: Iterable[str], here: set[str]) -> None:
        """Get these parts, but not those that are `here`; add them to these, one after another.

        Raises
        ------
        BundleDamaged
            If one is not in the store as it should be.
        StoreError
            If the store does not answer.
        CacheFull
            If there is no room for one on this machine.
        """
        for sha in set(shas) - here:
            self._get(sha)
            here.add(sha)

    def keep_only(self, units: Iterable[Held]) -> None:
        """Let all parts be removed, should room be needed, but those of `units`."""
        self._cache.let_go({sha for held in units for sha in held.parts})

    def message(self, chunk: Sequence[Held]) -> dict[str, Any]:
        """Return what a child is sent to run `chunk`, whose parts are here."""
        job = chunk[0].job
        if job.kind == "call":  # it comes alone, as calls are never measured
            call = {"id": job.id, "text": job.params_text}
            common = {"spec": dict(job.spec), "options": dict(job.options)}
            folder = str(self._cache.root)
            return {"do": "call", **call, **common, "parts": self._parts(chunk), "folder": folder}
        works = list({held.work: held.job for held in chunk}.items())
        number = {work: n for n, (work, _) in enumerate(works)}
        bundles = [
            {"key": work, "spec": dict(job.spec), "options": dict(job.options)}
            for work, job in works
        ]
        units = [
            [held.job.id, held.job.split, held.job.params_text, number[held.work]] for held in chunk
        ]
        return {
            "do": "score",
            "units": units,
            "bundles": bundles,
            "parts": self._parts(chunk),
            "warnings": self._filters,
        }

    def _parts(self, chunk: Sequence[Held]) -> dict[str, list[str]]:
        """Return kind and path of all that `chunk` needs, by hash."""
        parts = {}
        for sha in {sha for held in chunk for sha in held.parts}:
            kind, path = self._get(sha)
            parts[sha] = [kind, str(path)]
        return parts

    def _get(self, sha: str) -> tuple[str, Path]:
        return self._cache.get(sha, self._bundles.fetch)
