"""The work of a search: fits of an estimator, or calls of a function.

A workload holds all that its units share, as objects.  Its two forms say what of it workers are
sent, what counts in keys, and in which constraints its scores differ.
"""

from __future__ import annotations

import hashlib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from optomatic import _sklearn
from optomatic.errors import shown
from optomatic.keys.digest import KEY_VERSION, Digest, combined, digest_of
from optomatic.keys.environment import OF_FITS, OF_FUNCTIONS
from optomatic.keys.estimators import Effective
from optomatic.planning.prefixes import counts_of, order_of
from optomatic.planning.serialization import dump
from optomatic.records import Part, TaskSignature

Indices = npt.NDArray[Any]
Split = tuple[Indices, Indices]


def fix_splits(pairs: Iterable[tuple[Any, Any]], n_splits: int) -> list[Split]:
    """Return `pairs` as index arrays; masks are turned into the indices that they select.

    Raise scikit-learn's ValueError if there are not `n_splits` pairs.
    """
    splits = [(_as_indices(train), _as_indices(test)) for train, test in pairs]
    if len(splits) != n_splits:
        raise ValueError(_sklearn.inconsistent_splits(n_splits, len(splits)))
    return splits


def draws_anew(cv: Any) -> bool:
    """Return whether the splitter `cv` gives other splits at each call, for want of a seed.

    A RandomState given as its seed also moves on, but that was the user's choice.
    """
    if not hasattr(cv, "random_state") or not getattr(cv, "shuffle", True):
        return False
    return cv.random_state is None or cv.random_state is np.random


def _as_indices(rows: Any) -> Indices:
    indices = np.asarray(rows)
    if indices.dtype == bool:
        return np.flatnonzero(indices)
    return indices


def pack_splits(splits: list[Split]) -> npt.NDArray[np.int64]:
    """Pack `splits` into one array of int64, so that they travel without pickle.

    The first ``1 + 2 * n_splits`` entries are the number of splits and the lengths of
    train and test of each; the indices follow in the same order.
    """
    parts = [rows for pair in splits for rows in pair]
    head = [len(splits), *(len(rows) for rows in parts)]
    return np.concatenate([np.asarray(p, dtype=np.int64).reshape(-1) for p in (head, *parts)])


def unpack_splits(packed: npt.NDArray[np.int64]) -> list[Split]:
    """Return the pairs that :func:`pack_splits` packed, as views."""
    n_parts = 2 * int(packed[0])
    bounds = np.cumsum(packed[: 1 + n_parts])
    # The head counts itself with 1 + n_parts entries instead of with its first number.
    offsets = bounds - packed[0] + 1 + n_parts
    parts = [packed[offsets[i] : offsets[i + 1]] for i in range(n_parts)]
    return list(zip(parts[::2], parts[1::2], strict=True))


#: How a function takes a candidate: as one dict, or as keyword arguments.
Style = Literal["params", "keywords"]

#: Options that say how a unit may be run, not what is computed.
_CONSTRAINTS = ("inner_max_num_threads", "limits")
#: A search with more splits has no signature: its record would be large.
_MOST_SPLITS = 2000
_SHORT = 16
#: Roles of a function's data begin so.
_DATA = "data:"
#: The text of which the key of a call is the hash begins so.
CALL_PREFIX = f"function:{KEY_VERSION}:"


class Workload(ABC):
    """All that the units of a search share; see :class:`FitWorkload`, :class:`FunctionWorkload`.

    The versions of `always` count whatever is scored; workers get `options`.
    """

    kind: ClassVar[str]
    always: ClassVar[tuple[str, ...]]
    options: Mapping[str, Any]

    @abstractmethod
    def roles(self) -> dict[str, Any]:
        """Return the objects that workers are sent, by role."""

    def apart(self) -> dict[str, Part]:
        """Return what workers load without unpickling, by role."""
        return {}

    @property
    def is_private(self) -> bool:
        """Return whether units can be scored in this process alone."""
        return False

    @abstractmethod
    def common(self, digests: Mapping[str, Digest]) -> Digest:
        """Return the digest of all that candidates share, of those of the roles."""

    @abstractmethod
    def digests(self, candidates: Sequence[Mapping[str, Any]]) -> list[Digest]:
        """Return what counts of each candidate; raise TypeError or ValueError for a bad one."""

    @abstractmethod
    def contents(
        self, common: str, own: Digest, splits: Iterable[bytes] | None = None
    ) -> list[bytes]:
        """Return what a candidate computes on each split, as bytes, of which keys are hashes.

        `splits` are the hashes of those of another search.
        """

    @abstractmethod
    def signature(
        self, common: Digest, digests: Mapping[str, Digest], env: str
    ) -> TaskSignature | None:
        """Return what scores are about, for searches that begin with them."""

    @abstractmethod
    def constraints(self) -> list[object]:
        """Return the options that make scores other ones, as plain values."""

    def know_data(self, digests: Mapping[str, Digest], env: str) -> None:  # noqa: B027  # optional
        """Note the digests of the roles, and the hash of the versions that count for all."""

    def know_candidates(self, candidates: Sequence[Mapping[str, Any]]) -> list[int]:
        """Note all candidates; return their units by number in the order in which to score them.

        The list is empty where any order will do.
        """
        return []

    def base(self) -> Digest:
        """Return what counts of a candidate without params."""
        return Digest("")

    def ingredients(self) -> dict[str, Any]:
        """Return short digests of what keys are made of beside the roles."""
        return {}

    def anew(self) -> Workload:
        """Return the workload as it is before its first candidate."""
        return self


@dataclass(frozen=True, slots=True, eq=False)
class FitWorkload(Workload):
    """Fits of one estimator with other params, each scored on one split of the data.

    Attributes
    ----------
    estimator : estimator
        Never fitted: each unit works on a clone.
    splits : sequence of (train, test)
        Pairs of row indices, ndarrays of int.
    fit_params, score_params : mapping or None
        Given to ``fit`` and to the scorer; values with a row per sample are split too.
    options : mapping
        ``return_train_score`` (bool), ``config`` (scikit-learn's global configuration of the
        client, as far as it may change a score), limits and threads; ``prefixes``, where first
        steps of pipelines are reused: a dict that this object fills with what is known of them.
    callbacks : Digest or None
        Of those that are called inside of the fits.  They may end a fit early, so a score depends
        on them, and they live in the process of the caller alone.
    """

    kind: ClassVar[str] = "score"
    always: ClassVar[tuple[str, ...]] = OF_FITS

    estimator: Any
    X: Any
    y: Any
    splits: Sequence[tuple[Any, Any]]
    scorer: Any
    fit_params: Mapping[str, Any] | None
    score_params: Mapping[str, Any] | None
    options: Mapping[str, Any]
    callbacks: Digest | None = None
    _hashes: list[bytes] = field(default_factory=list, repr=False)
    _effective: dict[frozenset[str], Effective] = field(default_factory=dict, repr=False)

    def roles(self) -> dict[str, Any]:
        return {
            "estimator": self.estimator,
            "X": self.X,
            "y": self.y,
            "scorer": self.scorer,
            "fit_params": dict(self.fit_params or {}) or None,
            "score_params": dict(self.score_params or {}) or None,
        }

    def apart(self) -> dict[str, Part]:
        """Return the splits."""
        return {"splits": dump(pack_splits(list(self.splits)))}

    @property
    def is_private(self) -> bool:
        return self.callbacks is not None

    def common(self, digests: Mapping[str, Digest]) -> Digest:
        parts = {role: own for role, own in digests.items() if role != "estimator"}
        parts["config"] = self._config()
        if self.callbacks is not None:
            parts["callbacks"] = self.callbacks
        return combined(parts)

    def digests(self, candidates: Sequence[Mapping[str, Any]]) -> list[Digest]:
        """Return the digest of the effective estimator of each candidate."""
        if not all(isinstance(name, str) for candidate in candidates for name in candidate):
            raise TypeError("keywords must be strings")  # as set_params(**candidate) says it
        effective = self._effective_of(frozenset(n for c in candidates for n in c))
        return [effective.of(candidate) for candidate in candidates]

    def contents(
        self, common: str, own: Digest, splits: Iterable[bytes] | None = None
    ) -> list[bytes]:
        start = hashlib.sha256(f"{KEY_VERSION}:{common}:{own.hex}".encode()).digest()
        return [start + split for split in (self._split_hashes() if splits is None else splits)]

    def signature(
        self, common: Digest, digests: Mapping[str, Digest], env: str
    ) -> TaskSignature | None:
        """Return what scores are about; None if there are too many splits to say it."""
        if len(self.splits) > _MOST_SPLITS:
            return None
        text = f"{KEY_VERSION}:{common.hex}:{env}:{self._class()}"
        return TaskSignature(
            hashlib.sha256(text.encode()).hexdigest(),
            tuple(split.hex() for split in self._split_hashes()),
            min((len(train) for train, _ in self.splits), default=0),
        )

    def constraints(self) -> list[object]:
        """Return whether there are train scores, and the limits."""
        limits = [[name, self.options[name]] for name in _CONSTRAINTS if self.options.get(name)]
        return [bool(self.options["return_train_score"]), *limits]

    def know_data(self, digests: Mapping[str, Digest], env: str) -> None:
        """Note what fits have in common, if it is certain, for first steps that are reused."""
        prefixes = self.options.get("prefixes")
        if prefixes is None:
            return
        known = {role: own for role, own in digests.items() if role in ("X", "y")}  # y may be None
        data = combined({**known, "config": self._config()})
        if not data.doubts:
            prefixes["data"] = f"{KEY_VERSION}:{data.hex}:{env}"

    def know_candidates(self, candidates: Sequence[Mapping[str, Any]]) -> list[int]:
        """Note how many candidates share first steps; put such units near to each other."""
        prefixes = self.options.get("prefixes")
        if not prefixes:
            return []
        prefixes.update(counts_of(candidates))
        n_splits = len(self.splits)
        order = order_of(self.estimator, candidates, n_splits)
        return [number * n_splits + split for number, split in order]

    def base(self) -> Digest:
        return self._effective_of(frozenset()).of({})

    def ingredients(self) -> dict[str, Any]:
        params = self._effective_of(frozenset()).params()
        return {
            "class": self._class(),
            "config": self._config().hex[:_SHORT],
            **({} if self.callbacks is None else {"callbacks": self.callbacks.hex[:_SHORT]}),
            "splits": hashlib.sha256(b"".join(self._split_hashes())).hexdigest()[:_SHORT],
            "train_scores": bool(self.options["return_train_score"]),
            "params": {name: digest[:_SHORT] for name, digest in params.items()},
        }

    def _class(self) -> str:
        return f"{type(self.estimator).__module__}.{type(self.estimator).__qualname__}"

    def _config(self) -> Digest:
        return digest_of(dict(self.options.get("config", {})))

    def _split_hashes(self) -> list[bytes]:
        if not self._hashes:
            self._hashes.extend(digest_of_split(*split) for split in self.splits)
        return self._hashes

    def _effective_of(self, varied: frozenset[str]) -> Effective:
        if varied not in self._effective:
            self._effective[varied] = Effective(self.estimator, varied=varied)
        return self._effective[varied]


def digest_of_split(train: Any, test: Any) -> bytes:
    """Return the hash of a pair of index arrays, in order."""
    rows = [np.ascontiguousarray(part, dtype=np.int64) for part in (train, test)]
    head = f"{len(rows[0])},{len(rows[1])};".encode()
    return hashlib.sha256(head + rows[0].tobytes() + rows[1].tobytes()).digest()


@dataclass(slots=True, eq=False)
class FunctionWorkload(Workload):
    """Calls of a scoring function, ``function(params, **data)`` or ``function(**params, **data)``.

    `options` have the ``style`` from the first candidate on, and limits and threads.
    """

    kind: ClassVar[str] = "function"
    always: ClassVar[tuple[str, ...]] = OF_FUNCTIONS

    function: Callable[..., Any]
    data: Mapping[str, Any]
    options: Mapping[str, Any]

    @property
    def style(self) -> Style:
        """How the function takes candidates; known once there was one."""
        return self.options["style"]  # type: ignore[no-any-return]

    def roles(self) -> dict[str, Any]:
        held = {_DATA + name: value for name, value in self.data.items()}
        return {"function": self.function, **held}

    def common(self, digests: Mapping[str, Digest]) -> Digest:
        return combined(dict(digests))

    def digests(self, candidates: Sequence[Mapping[str, Any]]) -> list[Digest]:
        """Return the digest of each candidate; by the first one note how the function takes it."""
        for name in dict.fromkeys(name for candidate in candidates for name in candidate):
            _check_name(name)
        if "style" not in self.options:
            self.options = {"style": self._style_for(candidates[0]), **self.options}
        for candidate in candidates:
            self._check_takes(candidate)
        return [digest_of_params(candidate) for candidate in candidates]

    def contents(
        self, common: str, own: Digest, splits: Iterable[bytes] | None = None
    ) -> list[bytes]:
        return [f"{self.prefix(common)}:{own.hex}".encode()]

    def prefix(self, common: str) -> str:
        """Return the part of that text which is equal for all candidates."""
        return f"{CALL_PREFIX}{self.style}:{common}"

    def signature(
        self, common: Digest, digests: Mapping[str, Digest], env: str
    ) -> TaskSignature | None:
        """Return the function.  The data are not in it: keys tell scores on other ones apart."""
        text = f"{CALL_PREFIX}{digests['function'].hex}"
        return TaskSignature(hashlib.sha256(text.encode()).hexdigest(), ("",), 0)

    def constraints(self) -> list[object]:
        """Return the limits."""
        return constraints_of_call(self.options)

    def anew(self) -> FunctionWorkload:
        left = {name: value for name, value in self.options.items() if name != "style"}
        return replace(self, options=left)

    # How candidates are taken: ``function(**params)`` if the signature has their names; else
    # ``function(params)`` if one argument is left beside the data, or the first is ``params``.

    def _style_for(self, candidate: Mapping[str, Any]) -> Style:
        signature = self._signature()
        if signature is None:
            return "params"
        if self._binds(signature, candidate):
            return "keywords"
        if not self._takes_a_dict(signature):
            raise self._does_not_take(candidate)
        return "params"

    def _check_takes(self, candidate: Mapping[str, Any]) -> None:
        if self.style == "keywords":
            signature = self._signature()
            if signature is not None and not self._binds(signature, candidate):
                raise self._does_not_take(candidate)

    def _signature(self) -> inspect.Signature | None:
        try:
            return inspect.signature(self.function)
        except (TypeError, ValueError):  # some callables of C have none
            return None

    def _binds(self, signature: inspect.Signature, candidate: Mapping[str, Any]) -> bool:
        try:
            signature.bind(**{**candidate, **self.data})
        except TypeError:
            return False
        return not set(candidate) & set(self.data)

    def _takes_a_dict(self, signature: inspect.Signature) -> bool:
        left = [name for name in signature.parameters if name not in self.data]
        try:
            signature.bind({}, **self.data)
        except TypeError:
            return False
        return len(left) == 1 or left[:1] == ["params"]

    def _does_not_take(self, candidate: Mapping[str, Any]) -> TypeError:
        name = getattr(self.function, "__qualname__", type(self.function).__name__)
        given = ", ".join(sorted(self.data)) or "none"
        return TypeError(
            f"{name}{self._signature()} takes neither the params {sorted(candidate)} by their "
            f"names nor all of them as one dict (data given besides: {given}). It was not queued; "
            "what was scored is stored. Take them as function(params, ...) or "
            "function(**params, ...), and check the names in the space."
        )


def _check_name(name: Any) -> None:
    # Its column of a DataFrame may be UTF-8.
    if not isinstance(name, str) or name.encode("utf-8", "replace").decode() != name:
        raise TypeError(
            f"A param is named by a string of UTF-8, not by {shown(name)} "
            f"({type(name).__name__}). Nothing was scored. Look at the keys of the space."
        )


def digest_of_params(candidate: Mapping[str, Any]) -> Digest:
    """Return the digest of a candidate: each value by itself, whatever their order."""
    return combined({name: digest_of(value, name) for name, value in candidate.items()})


def constraints_of_call(options: Mapping[str, Any]) -> list[object]:
    """Return the options of a call that make its score another one, as plain values."""
    return [sorted(item for item in options.items() if item[0] != "style")]


def workload_of(
    roles: Mapping[str, Any], splits: Sequence[tuple[Any, Any]], options: Mapping[str, Any]
) -> FitWorkload | FunctionWorkload:
    """Return the workload of loaded objects, by their role."""
    if "function" in roles:
        data = {r.removeprefix(_DATA): value for r, value in roles.items() if r.startswith(_DATA)}
        return FunctionWorkload(roles["function"], data, options)
    return FitWorkload(
        estimator=roles["estimator"],
        X=roles.get("X"),
        y=roles.get("y"),
        splits=splits,
        scorer=roles.get("scorer"),
        fit_params=roles.get("fit_params"),
        score_params=roles.get("score_params"),
        options=options,
    )
