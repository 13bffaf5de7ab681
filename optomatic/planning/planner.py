"""Candidates -> units: fits (candidates x splits) and functions (one unit a candidate)."""

from __future__ import annotations

import hashlib
import inspect
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from optomatic.errors import shown
from optomatic.keys.digest import KEY_VERSION, Digest, combined, digest_of
from optomatic.keys.environment import python_minor, required_versions, versions
from optomatic.keys.estimators import Effective
from optomatic.planning.constraints import work_of
from optomatic.planning.payload import Bundle, Sender
from optomatic.planning.serialization import dump
from optomatic.planning.splits import pack_splits
from optomatic.planning.unit_key import SCORING, Environments, hash_of_environment, key_of
from optomatic.planning.unit_plan import Packed, Plan, pack, uncertain, units_of
from optomatic.records import Part, Recipe, Subject, Work

# Candidates x splits -> units, in the order of ``cv_results_``.
#
# The key of a unit says *what* is computed: the first 48 characters are a hash over the digests of
# the effective estimator, the data, the split, the scorer, the params of fit and score, and the
# configuration; the last 16 are a hash over the versions that these come from.  Its constraints
# say how it may be run: which versions must load it, which tags a worker needs, whether train
# scores are wanted.


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
        """Say how the units may be run.  Private work has a queue that no other process serves."""
        options = self._shared.options
        asked: list[object] = [bool(options["return_train_score"])]
        asked += [[name, options[name]] for name in _TERMS if options.get(name)]
        return work_of(
            "score",
            {**self.sender.spec, "splits": self._splits_part.sha},
            options,
            env=required_versions(versions([*SCORING, *met.modules])),
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


# Candidates of a scoring function -> units, one each.
#
# The key of a unit is a hash over the identity of the function's code, the data that it is given
# and the params; so an edited function, or other data, scores anew, and equal ones never do.


#: How a function takes a candidate: as one dict, or as keyword arguments.
Style = Literal["params", "keywords"]
#: Roles of data in the spec of a unit begin so.
_DATA = "data:"
#: Modules whose versions count whatever the function is.
_ALWAYS = ("numpy",)


#: The text of which a key is the hash begins so.
KEY_PREFIX = f"function:{KEY_VERSION}:"


@dataclass(frozen=True, slots=True)
class FunctionQuestion:
    """What is scored: a function, and the data that all candidates share.

    Attributes
    ----------
    function : callable
        Called with a candidate and ``**data``.
    data : mapping of str to object
    style : {"params", "keywords"}
    """

    function: Callable[..., Any]
    data: Mapping[str, Any]
    style: Style


class FunctionPlanner:
    """Makes the units of a function, for some candidates after others.

    What all of them share is digested and pickled once, with the first of them.

    Parameters
    ----------
    function : callable
    data : mapping of str to object
    how : mapping of str to object
        How units may be run, such as ``limits``: part of their constraints, not of their keys.
    requires : tuple of str
        Tags that a worker must carry.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        data: Mapping[str, Any],
        *,
        how: Mapping[str, Any] | None = None,
        requires: tuple[str, ...] = (),
    ) -> None:
        self._function = function
        self._data = dict(data)
        self._how = dict(how or {})
        self._requires = requires
        self._secret = secrets.token_hex(16)
        self._question: FunctionQuestion | None = None
        #: Makes keys that nobody has again, where workers may have something else.
        self._salt = ""
        #: Makes payloads, and knows the digests of what is shared.
        self.sender = Sender(
            {"function": function, **{_DATA + name: held for name, held in self._data.items()}}
        )
        self._common = combined(self.sender.digests)
        self._environments = Environments(self._common, _ALWAYS)
        #: What scores are about.  The data are not in it: keys tell scores on other ones apart.
        self.subject: Subject | None = Subject(
            _digest_of(KEY_VERSION, self.sender.digests["function"].hex), ("",), 0
        )

    @property
    def question(self) -> FunctionQuestion:
        """What is scored, once there was a candidate."""
        assert self._question is not None
        return self._question

    def keys_on(self, candidate: Mapping[str, Any], splits: Sequence[str]) -> list[str]:
        """Return the key of the unit of a candidate of another search, in a list.

        It is empty if the function does not take its params.
        """
        try:
            style = style_of(self._function, self._data, candidate)
        except TypeError:
            return []
        own = digest_of_params(candidate)
        return [unit_key(self._common_key(style), own, self._environments.hash_of(own))]

    def plan(self, candidates: Sequence[Mapping[str, Any]]) -> Plan:
        """Return the units of `candidates`, in their order; equal candidates share one.

        Raises
        ------
        TypeError
            If the function does not take a param that a candidate has.
        """
        if not candidates:
            return Plan([], [], {}, {}, (), None)
        for name in dict.fromkeys(name for candidate in candidates for name in candidate):
            _check_name(name)
        if self._question is None:
            style = style_of(self._function, self._data, candidates[0])
            self._question = FunctionQuestion(self._function, self._data, style)
        for candidate in candidates:
            check_takes(self.question, candidate)
        own = [digest_of_params(candidate) for candidate in candidates]
        packed = pack(candidates, self.sender)
        if packed.doubts:
            self._salt = self._salt or secrets.token_hex(16)
        certain = (*self._common.doubts, *(doubt for each in own for doubt in each.doubts))
        doubts = tuple(dict.fromkeys([*map(str, certain), *packed.doubts]))
        return self._planned(own, packed, doubts)

    def _planned(self, own: Sequence[Digest], packed: Packed, doubts: tuple[str, ...]) -> Plan:
        common = self._common_key(self.question.style)
        work = self._work(own, private=packed.refusal is not None)
        keys = ([unit_key(common, each, self._environments.hash_of(each))] for each in own)
        units, ids, places = units_of(keys, packed.encoded, work)
        private = packed.refusal is not None
        environment = self._environments.of(Digest(""))
        return Plan(
            units=units,
            ids=ids,
            places=places,
            parts={} if private else dict(self.sender.parts),
            doubts=doubts,
            refusal=packed.refusal,
            subject=self.subject,
            asked=None if private else Recipe(common, work, environment),
            ingredients={**self.ingredients, **uncertain(doubts)},
            environments=self._environments.known,
            encoded=packed.encoded,
        )

    @cached_property
    def ingredients(self) -> dict[str, Any]:
        """Short digests of all that keys are made of, and the versions that count."""
        return {
            "key_version": KEY_VERSION,
            **{role: own.hex[:_SHORT] for role, own in self.sender.digests.items()},
            "environment": self._environments.of(Digest("")),
        }

    def _common_key(self, style: Style) -> str:
        return f"{KEY_PREFIX}{style}:{self._common.hex}{self._salt}"

    def _work(self, own: Sequence[Digest], *, private: bool) -> Work:
        """Say how the units may be run.  Private work has a queue that nobody else serves."""
        modules = self._common.modules.union(*(each.modules for each in own))
        return function_work(
            self.sender.spec,
            {"style": self.question.style, **self._how},
            required_versions(versions([*_ALWAYS, *modules])),
            self._requires,
            self._secret if private else None,
            payload=self.sender.holds_user_code,
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


def function_work(
    spec: Mapping[str, str | None],
    options: Mapping[str, Any],
    env: Mapping[str, str],
    requires: tuple[str, ...],
    secret: str | None = None,
    *,
    payload: bool = False,
) -> Work:
    """Say how units of a function may be run; `options` but ``style`` are constraints."""
    how = sorted(item for item in options.items() if item[0] != "style")
    return work_of(
        "function",
        spec,
        options,
        env=env,
        requires=requires,
        asked=[how],
        secret=secret,
        payload=payload,
    )


def unit_key(common: str, own: Digest, environment: str) -> str:
    """Return the key of a candidate: `common` is equal for all of one function and its data."""
    return key_of(f"{common}:{own.hex}".encode(), environment)


def _digest_of(version: int, function: str) -> str:
    return hashlib.sha256(f"function:{version}:{function}".encode()).hexdigest()


def style_of(
    function: Callable[..., Any], data: Mapping[str, Any], candidate: Mapping[str, Any]
) -> Style:
    """Tell how `function` takes candidates, by its signature and the first of them.

    ``function(**params)`` if it takes their names; else ``function(params)`` if one argument is
    left beside the data, or the first of several is called ``params``.

    Raises
    ------
    TypeError
        If neither fits.
    """
    signature = _signature(function)
    if signature is None:
        return "params"
    if _binds(signature, candidate, data):
        return "keywords"
    if not _takes_a_dict(signature, data):
        raise _does_not_take(function, candidate, data)
    return "params"


def check_takes(question: FunctionQuestion, candidate: Mapping[str, Any]) -> None:
    """Raise TypeError if the function does not take a candidate's params by their names."""
    if question.style == "params":
        return
    signature = _signature(question.function)
    if signature is not None and not _binds(signature, candidate, question.data):
        raise _does_not_take(question.function, candidate, question.data)


def _signature(function: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):  # some callables of C have none
        return None


def _binds(
    signature: inspect.Signature, candidate: Mapping[str, Any], data: Mapping[str, Any]
) -> bool:
    try:
        signature.bind(**{**candidate, **data})
    except TypeError:
        return False
    return not set(candidate) & set(data)


def _takes_a_dict(signature: inspect.Signature, data: Mapping[str, Any]) -> bool:
    left = [name for name in signature.parameters if name not in data]
    try:
        signature.bind({}, **data)
    except TypeError:
        return False
    return len(left) == 1 or left[:1] == ["params"]


def _does_not_take(
    function: Callable[..., Any], candidate: Mapping[str, Any], data: Mapping[str, Any]
) -> TypeError:
    name = getattr(function, "__qualname__", type(function).__name__)
    given = ", ".join(sorted(data)) or "none"
    return TypeError(
        f"{name}{_signature(function)} takes neither the params {sorted(candidate)} by their names "
        f"nor all of them as one dict (data given besides: {given}). It was not queued; "
        "what was scored is stored. Take them as function(params, ...) or "
        "function(**params, ...), and check the names in the space."
    )


def data_in(have: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a function is given besides, of values by their role in a unit's spec."""
    return {
        role.removeprefix(_DATA): value for role, value in have.items() if role.startswith(_DATA)
    }


def plan_more(asked: Recipe, candidates: Sequence[Mapping[str, Any]]) -> Plan:
    """Return units of more candidates of a search whose function and data need not be here.

    They have the keys that :class:`~optomatic.planning.planner.FunctionPlanner` gives them
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
    # Work with user code has a queue of its own.
    own_queue = function_work(*same, work.env, work.requires).queue != work.queue
    env = {**required_versions(versions(modules)), **work.env}
    return function_work(*same, env, work.requires, payload=own_queue)


def _check_python(env: Mapping[str, str], parts: Mapping[str, Part]) -> None:
    here = python_minor()
    if parts and env["python"] != here:
        raise ValueError(
            f"The workers of this search run Python {env['python']}, this is {here}, and some of "
            "the candidates hold objects, which must not be pickled by another one. Nothing was "
            "queued. Use that Python, or plain values (numbers, texts, lists of them)."
        )
