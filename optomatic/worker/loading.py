"""In the child: parts on disk -> objects -> results.  Here user code is loaded and run."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from optomatic import _sklearn
from optomatic.plan.packing import bundle as parts
from optomatic.plan.packing import params
from optomatic.plan.packing.bundle import Bundle
from optomatic.plan.units.splits import unpack_splits
from optomatic.records import Result
from optomatic.worker.functions import FunctionBundle
from optomatic.worker.same_code import Files, Refused, check_code, check_loaded, missing
from optomatic.worker.score import failed, score_unit

#: So many bundles stay loaded, and so many objects that stand in candidates.
_BUNDLES, _VALUES = 4, 64


class Loader:
    """Scores units from the parts that it has been told of, keeping the last few loaded."""

    def __init__(self) -> None:
        self._where: dict[str, tuple[str, str]] = {}
        self._bundles: OrderedDict[str, Bundle | FunctionBundle] = OrderedDict()
        self._values: OrderedDict[str, object] = OrderedDict()
        #: Nothing of the user's was loaded yet, so what is imported is what the files say now.
        self.fresh = True
        self._files = Files()
        #: Code of modules that were not loaded when it was to be compared, by bundle.
        self._later: dict[str, dict[str, str]] = {}

    def know(self, where: Mapping[str, tuple[str, str]]) -> None:
        """Remember kind and path of parts, by hash."""
        self._where.update(where)

    def score(
        self,
        work: Mapping[str, Any],
        text: str,
        split: int,
        *,
        loaded: Callable[[], None] = lambda: None,
    ) -> tuple[Result, float]:
        """Score one unit; return its result and the seconds of it that went into loading.

        `work` has ``spec`` and ``options``, and a ``key`` that is equal for equal ones;
        `loaded` is called between loading and scoring.

        Never raises for what the user's code does, ``SystemExit`` included: whatever keeps
        the objects from being loaded is a failure of stage ``load``.

        Raises
        ------
        Refused
            If the code is not that of the process which asks, or is not here.
        """
        scored = self._score(work, text, split, loaded)
        if later := self._later.get(work["key"]):
            check_loaded(later, self._files)
        return scored

    def _score(
        self, work: Mapping[str, Any], text: str, split: int, loaded: Callable[[], None]
    ) -> tuple[Result, float]:
        began = time.perf_counter()
        loading = 0.0
        try:
            try:
                bundle = self._bundle(work)
                candidate = params.decode(text, self._value)
            except Refused:
                raise
            except Exception as error:
                if isinstance(error, ImportError) and work["spec"].get("code"):
                    raise Refused(missing(error), error) from error
                self.fresh = False
                return failed(_sklearn.failure_of(error, "load")), 0.0
            self.fresh = False
            loading = time.perf_counter() - began
            loaded()
            return score_unit(bundle, candidate, split), loading
        except (SystemExit, KeyboardInterrupt, GeneratorExit) as error:
            return failed(_sklearn.failure_of(error, "raise")), loading

    def try_all(self, where: Mapping[str, tuple[str, str]]) -> str | None:
        """Load parts for nothing; return what goes wrong with the first that cannot be loaded."""
        self.know(where)
        for sha in where:
            try:
                self._load(sha)
            except (Exception, SystemExit) as error:
                return f"{type(error).__name__}: {error}"
        return None

    def _bundle(self, work: Mapping[str, Any]) -> Bundle | FunctionBundle:
        key = work["key"]
        if key not in self._bundles:
            _keep(
                self._bundles, key, self._load_bundle(key, work["spec"], work["options"]), _BUNDLES
            )
            self._later = {k: v for k, v in self._later.items() if k in self._bundles}
        self._bundles.move_to_end(key)
        return self._bundles[key]

    def _load_bundle(
        self, key: str, spec: Mapping[str, str | None], options: Mapping[str, Any]
    ) -> Bundle | FunctionBundle:
        code = spec.get("code")
        if code is not None:  # before anything is unpickled: other code may fail at that
            self._later[key] = check_code(self._load(code), self._files)
        have = {
            role: self._load(sha)
            for role, sha in spec.items()
            if sha is not None and role != "code"
        }
        if "function" in have:
            return FunctionBundle.of_roles(have, options)
        return Bundle(
            estimator=have["estimator"],
            X=have.get("X"),
            y=have.get("y"),
            splits=unpack_splits(have["splits"]),
            scorer=have.get("scorer"),
            fit_params=have.get("fit_params"),
            score_params=have.get("score_params"),
            options=options,
        )

    def _value(self, sha: str) -> object:
        """Return an object that stands in a candidate.  Each unit works on its own clone."""
        if sha not in self._values:
            _keep(self._values, sha, self._load(sha), _VALUES)
        return self._values[sha]

    def argument(self, sha: str, mmap_mode: Literal["r", "c"] | None) -> object:
        """Return what a call names by its hash; arrays are mapped anew at each look.

        Bytes are verified at the first look: after that the file is held by a map.
        """
        value = self._value(sha)
        self._values.move_to_end(sha)
        kind, path = self._where[sha]
        return np.load(path, mmap_mode=mmap_mode, allow_pickle=False) if kind == "npy" else value

    def _load(self, sha: str) -> Any:
        kind, path = self._where[sha]
        parts.verify(sha, kind, Path(path))
        return parts.load(kind, Path(path))


def _keep(kept: OrderedDict[str, Any], key: str, value: object, most: int) -> None:
    kept[key] = value
    while len(kept) > most:
        kept.popitem(last=False)
