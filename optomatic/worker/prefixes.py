"""The first steps of pipelines, fitted once for all units that share them.

A pipeline asks its ``memory`` for each fitted step but the last.  Where a search leaves it at
None, a unit's pipeline gets one of ours, which knows what each step is fitted on without looking
at the data: the rows of the split, and the digest of the steps so far.

::

    rows of the split --step--> output --step--> output      each with a key
          |                        |
          +--columns--> steps of a branch of a ColumnTransformer

A step is kept where it takes longer to fit than to keep and to load, as measured, and where other
candidates share it.  Nothing is kept of a step

- whose digest is not certain, or that draws random numbers without a seed,
- that says that it is not deterministic (the tag ``non_deterministic``),
- that gets fit parameters, as these are not part of a key,
- that changed its input when it was fitted,

and of no step after it.  The fitted steps of a unit remember how they transform the rows that are
scored, too, so that equal steps transform these once.

Source of the idea: ``dask_ml.model_selection``, which shares equal steps of one search's graph.
"""

from __future__ import annotations

import hashlib
import math
import numbers
import pickle
import time
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
from sklearn.utils import get_tags

from optomatic._sklearn import pipelines
from optomatic.keys.digest import digest_of
from optomatic.keys.environment import python_minor, versions
from optomatic.keys.estimators import digest_of_estimator
from optomatic.worker.prefix_files import PrefixFiles

#: What takes fewer seconds than this is never kept.
_SHORTEST = 0.05
#: What is kept takes so many times longer than to keep it, and than to load it.
_TIMES = 2.0


class Prefixes:
    """What a process knows of the steps of one search.

    `known` is what the search says of them: ``data``, the digest of all that fits have in common,
    and where all candidates were known, their number and the number of values of each param.
    """

    def __init__(self, files: PrefixFiles, known: Mapping[str, Any]) -> None:
        self.files = files
        self._data = str(known["data"])
        self._candidates: int | None = known.get("candidates")
        self._values: Mapping[str, int] = known.get("values", {})
        #: Seconds of fitting, or transforming, and of keeping or loading, by place.
        self._takes: dict[tuple[Any, ...], float] = {}
        self._costs: dict[tuple[Any, ...], float] = {}
        #: Kinds of steps that changed their input.
        self.writing: set[type] = set()

    def unit(self, estimator: Any, train: Any, test: Any) -> UnitPrefixes | None:
        """Give the pipelines in `estimator` a memory, for a fit on the rows `train`.

        Return None if there is no pipeline at the top whose memory is free.
        """
        if not pipelines.is_pipeline(estimator) or estimator.memory is not None:
            return None
        unit = UnitPrefixes(self, self._rows("train", train), self._rows("test", test))
        unit.enter(estimator, first=unit.train)
        return unit

    def _rows(self, role: str, rows: Any) -> Callable[[], bytes]:
        return lambda: _hash(self._data.encode(), role.encode(), np.asarray(rows).tobytes())

    def pays(self, place: tuple[Any, ...]) -> bool:
        """Return whether to look for what is kept of a place: not where it is known to be cheap."""
        takes = self._takes.get(place, math.inf)
        return takes >= max(_SHORTEST, _TIMES * self._costs.get(place, 0.0))

    def took(self, place: tuple[Any, ...], seconds: float) -> bool:
        """Note how long a place took without us; return whether keeping it may pay."""
        self._takes[place] = seconds
        return self.pays(place)

    def matters(self) -> bool:
        """Return whether any place takes long enough to be kept, as far as it is known."""
        return not self._takes or max(self._takes.values()) >= _SHORTEST

    def cost(self, place: tuple[Any, ...], seconds: float) -> None:
        """Note how long it took to keep or to load what is kept of a place.

        The shortest time counts: others are longer for what else the machine does.
        """
        self._costs[place] = min(seconds, self._costs.get(place, seconds))

    def is_shared(self, steps: Sequence[str]) -> bool:
        """Return whether candidates have equal params of these steps, as far as it is known."""
        if self._candidates is None:
            return True
        distinct = 1
        for name, count in self._values.items():
            if any(_is_of(name, step) for step in steps):
                distinct *= count
        return distinct < self._candidates


def prefixes_of(options: Mapping[str, Any], files: PrefixFiles | None) -> Prefixes | None:
    """Return what a process knows of the steps of a search with these options, so far nothing.

    Return None if the search reuses none, or there is no place for files.
    """
    known = options.get("prefixes") or {}
    return Prefixes(files, known) if files is not None and "data" in known else None


def _is_of(name: str, step: str) -> bool:
    """Return whether a param is one of a step, or replaces it, or what it is in."""
    return f"{name}__".startswith(f"{step}__") or step.startswith(f"{name}__")


class UnitPrefixes:
    """The steps of one unit.

    ``saved`` are the seconds that it took before to fit what was not fitted again, and to transform
    rows that were not transformed again.
    """

    def __init__(
        self, known: Prefixes, train: Callable[[], bytes], test: Callable[[], bytes]
    ) -> None:
        self.known, self.saved = known, 0.0
        self._rows = {"train": Origin(train), "test": Origin(test)}
        #: The objects whose origin is known, by id, with that; they are held, so ids stay theirs.
        self._origins: dict[int, tuple[Any, Origin]] = {}
        #: The origin of what a step is being fitted on, by its path.
        self.inputs: dict[str, Origin] = {}
        self._scored: list[str] = ["test", "train"]
        self.is_fitting = True

    def enter(
        self,
        estimator: Any,
        path: str = "",
        before: tuple[str, ...] = (),
        first: Callable[[], Origin | None] = lambda: None,
        source: str | None = None,
    ) -> None:
        """Give all pipelines in `estimator` a memory.

        `before` are the paths of the steps before it.  `first` returns the origin of the data that
        it is fitted on, where the object tells nothing; `source` is the step that gets the same.
        """
        if pipelines.is_pipeline(estimator) and estimator.memory is None:
            estimator.memory = StepMemory(self, estimator, path, before, first)
            source = None
        for name, step, columns in pipelines.steps_of(estimator):
            own = f"{path}__{name}" if path else name
            if pipelines.is_pipeline(estimator):
                self.enter(step, own, before, source=own)
                before = (*before, own)
            elif pipelines.is_column_transformer(estimator):
                self.enter(step, own, before, partial(self._columns, source, columns))
            else:
                self.enter(step, own, before, source=source)

    def _columns(self, source: str | None, columns: Any) -> Origin | None:
        """Return the origin of columns of what a ColumnTransformer is being fitted on."""
        whole = None if source is None else self.inputs.get(source)
        return None if whole is None else whole.then("columns", lambda: certain(digest_of(columns)))

    def scores(self, X: Any) -> None:
        """Note that the scorer gets `X`: first the rows of the test, then those of the training."""
        self.is_fitting = False
        if self._scored:
            role = self._scored.pop(0)
            if self.origin_of(X) is None:  # else a step has changed it since
                self.comes_of(X, self._rows[role])

    def train(self) -> Origin:
        """Return the origin of the rows that the unit is fitted on."""
        return self._rows["train"]

    def comes_of(self, data: Any, origin: Origin | None) -> None:
        """Note the origin of an object."""
        if origin is None:
            self._origins.pop(id(data), None)
        else:
            self._origins[id(data)] = (data, origin)

    def origin_of(self, data: Any) -> Origin | None:
        """Return the origin of an object, None if it is not known."""
        found = self._origins.get(id(data))
        return None if found is None else found[1]

    def reuse(
        self,
        place: tuple[Any, ...],
        origin: Origin,
        is_shared: Callable[[], bool],
        run: Callable[[], Any],
        inputs: Any,
        step: Any = None,
    ) -> tuple[Any, bool]:
        """Return what is kept of `origin`, else what `run` returns; keep that if it pays.

        A fitted `step` of the user's has the classes and functions of this one.  Return also
        whether the origin stands for it: not if `run` has changed its `inputs`.
        """
        known = self.known
        if not known.pays(place) or (key := origin.key()) is None:
            began = time.perf_counter()
            made = run()
            known.took(place, time.perf_counter() - began)
            return made, True
        began = time.perf_counter()
        named = {} if step is None else _of_the_user(step)
        kept = known.files.load(key.hex(), named)
        if kept is not None:
            known.cost(place, time.perf_counter() - began)
            self.saved += kept[1]
            return kept[0], True
        # What no other candidate needs is not kept: what becomes of its input does not matter.
        keeps = is_shared()
        before = _fingerprint(inputs) if keeps else None
        looked = time.perf_counter()
        made = run()
        ended = time.perf_counter()
        is_worth_it = known.took(place, ended - looked)
        if not keeps:
            return made, True
        if before is None or _fingerprint(inputs) != before:
            return made, False
        if is_worth_it:
            known.files.keep(key.hex(), (made, ended - looked), named)
            known.cost(place, time.perf_counter() - ended + looked - began)
        return made, True


class Origin:
    """Where an object comes from; its key is made when it is asked for, and None if uncertain."""

    __slots__ = ("_key", "_make")

    def __init__(self, make: Callable[[], bytes | None]) -> None:
        self._make: Callable[[], bytes | None] | None = make
        self._key: bytes | None = None

    def key(self) -> bytes | None:
        """Return the key."""
        if self._make is not None:
            make, self._make = self._make, None
            with suppress(Exception):  # of objects of the user's: uncertain
                self._key = make()
        return self._key

    def then(self, what: str, digest: Callable[[], bytes | None]) -> Origin:
        """Return the origin of what is made of this by something with a digest."""

        def make() -> bytes | None:
            above = self.key()
            own = None if above is None else digest()
            return None if above is None or own is None else _hash(above, what.encode(), own)

        return Origin(make)


class StepMemory:
    """The ``memory`` of one pipeline of one unit.

    A clone has the same one, as a ColumnTransformer clones what it fits.  A pickle has None.
    """

    #: The pipeline belongs to one unit, so nothing of it has to be cloned.
    location = None

    def __init__(
        self,
        unit: UnitPrefixes,
        pipeline: Any,
        path: str,
        before: tuple[str, ...],
        first: Callable[[], Origin | None],
    ) -> None:
        self._unit, self._path, self._before, self._first = unit, path, before, first
        self._names = pipelines.fitted_steps(pipeline)
        self._first_was_used = False

    def __deepcopy__(self, _: object) -> StepMemory:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return type(None), ()

    def cache(self, function: Callable[..., Any], **_: object) -> Callable[..., Any]:
        """Return what fits the steps of a pipeline, one after the other, instead of `function`."""
        if not self._unit.is_fitting:
            return function
        return partial(self._fit, function, iter(self._names))

    def _fit(
        self,
        function: Callable[..., Any],
        names: Iterator[str],
        step: Any,
        X: Any,
        y: Any = None,
        **more: Any,
    ) -> tuple[Any, Any]:
        unit, name = self._unit, next(names, None)
        source = unit.origin_of(X)
        if source is None and not self._first_was_used:
            source = self._first()
            unit.comes_of(X, source)
        self._first_was_used = True

        def run() -> Any:
            return function(step, X, y, **more)

        given = any((more.get("params") or {}).values())
        if source is None or name is None or given or type(step) in unit.known.writing:
            out, fitted = run()
            unit.comes_of(out, None)
            return out, fitted
        path = f"{self._path}__{name}" if self._path else name
        before, kind = self._before, type(step)
        steps = [*before, *(f"{self._path}__{n}" if self._path else n for n in self._names)]
        steps = steps[: steps.index(path) + 1]
        origin = source.then("fit", partial(_digest_of_step, step))
        unit.inputs[path] = source
        try:
            (out, fitted), holds = unit.reuse(
                (path, kind),
                origin,
                lambda: unit.known.is_shared(steps),
                run,
                (X, y),
                step,
            )
        finally:
            unit.inputs.pop(path, None)
            if name != self._names[0]:  # made by the step before, and for this one alone
                unit.comes_of(X, None)
        if not holds:
            unit.known.writing.add(kind)
            unit.comes_of(out, None)
            return out, fitted
        unit.comes_of(out, origin)
        if not self._path and unit.known.matters():
            with suppress(Exception):  # one with slots, or an odd __setattr__
                fitted.transform = StepTransform(unit, fitted, origin, (path, kind), steps)
        return out, fitted


class StepTransform:
    """``transform`` of a fitted step of a unit, which keeps the rows that are scored."""

    def __init__(
        self,
        unit: UnitPrefixes,
        fitted: Any,
        origin: Origin,
        place: tuple[Any, ...],
        steps: Sequence[str],
    ) -> None:
        self._unit, self._origin, self._steps = unit, origin, steps
        self._place = (*place, "transform")
        self._transform = fitted.transform

    def __reduce__(self) -> tuple[Any, ...]:
        # Of a copy of the fitted step that has no such attribute.
        fitted = self._transform.__self__
        bare = object.__new__(type(fitted))
        bare.__dict__.update({k: v for k, v in vars(fitted).items() if v is not self})
        return getattr, (bare, "transform")

    def __call__(self, X: Any, **more: Any) -> Any:
        """Transform rows."""
        unit, source = self._unit, self._unit.origin_of(X)
        if source is None or more:
            return self._transform(X, **more)
        origin = source.then("transform", self._origin.key)
        made, holds = unit.reuse(
            self._place,
            origin,
            lambda: unit.known.is_shared(self._steps),
            lambda: self._transform(X),
            X,
        )
        unit.comes_of(made, origin if holds else None)
        return made


def _digest_of_step(step: Any) -> bytes | None:
    """Return the digest of a step with its params, None if it is not certain what it does."""
    if not is_deterministic(step):
        return None
    return certain(digest_of_estimator(step))


def certain(digest: Any) -> bytes | None:
    """Return a digest with the versions that count for it; None if it has doubts."""
    if digest.doubts:
        return None
    found = sorted(versions(sorted(digest.modules)).items())
    python = python_minor() if digest.python else ""
    return f"{digest.hex}:{found}:{python}".encode()


def is_deterministic(step: Any) -> bool:
    """Return whether a step, as far as it says, does the same each time."""
    inner = [step]
    for name, value in step.get_params(deep=True).items():
        if name.rpartition("__")[2] == "random_state" and not isinstance(value, numbers.Integral):
            return False
        if hasattr(value, "fit") and hasattr(value, "get_params"):
            inner.append(value)
    return not any(get_tags(one).non_deterministic for one in inner)


#: Packages whose classes and functions go by their place in every process.
_PACKAGES = frozenset({"builtins", "numpy", "pandas", "scipy", "sklearn"})


def _of_the_user(step: Any) -> dict[str, Any]:
    """Return classes and functions of the user's that a step is made of, by their place in it.

    Equal steps have equal ones there, which may be other objects, and have no place to import.
    """
    found: dict[str, Any] = {}
    for name, value in (("", step), *step.get_params(deep=True).items()):
        classes = value.__mro__ if isinstance(value, type) else type(value).__mro__
        for n, own in enumerate(classes):
            found[f"{name}:{n}"] = own
        if isinstance(value, types.FunctionType):
            found[name] = value
    return {
        name: value
        for name, value in found.items()
        if (getattr(value, "__module__", None) or "").partition(".")[0] not in _PACKAGES
    }


def _fingerprint(value: Any) -> bytes | None:
    """Return a hash of all that `value` holds, None if it cannot be told."""
    digest = hashlib.sha256()
    try:
        text = pickle.dumps(value, protocol=5, buffer_callback=lambda b: digest.update(b.raw()))
    except Exception:  # of objects of the user's
        return None
    digest.update(text)
    return digest.digest()


def _hash(*parts: bytes) -> bytes:
    head = ",".join(str(len(part)) for part in parts).encode()
    return hashlib.sha256(head + b";" + b"".join(parts)).digest()
