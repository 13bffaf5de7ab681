"""Candidates of a scoring function -> units, one each.

The key of a unit is a hash over the identity of the function's code, the data that it is given
and the params; so an edited function, or other data, scores anew, and equal ones never do.
"""

from __future__ import annotations

import hashlib
import inspect
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from optomatic.errors import shown
from optomatic.keys.digest import KEY_VERSION, Digest, combined, digest_of
from optomatic.keys.environment import constraints, versions
from optomatic.plan.units.needed import Packed, pack
from optomatic.plan.units.plan import Plan, uncertain, units_of
from optomatic.plan.units.work import work_of
from optomatic.planning.keys import Environments, key_of
from optomatic.planning.payload import Sender
from optomatic.records import Recipe, Subject, Work

#: How a function takes a candidate: as one dict, or as keyword arguments.
Style = Literal["params", "keywords"]
#: Roles of data in the spec of a unit begin so.
_DATA = "data:"
#: Modules whose versions count whatever the function is.
_ALWAYS = ("numpy",)
_SHORT = 16
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
        How units may be run, such as ``limits``: part of their terms, not of their keys.
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
        """Say how the units may be run.  Private work has a lane that nobody else serves."""
        modules = self._common.modules.union(*(each.modules for each in own))
        return function_work(
            self.sender.spec,
            {"style": self.question.style, **self._how},
            constraints(versions([*_ALWAYS, *modules])),
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
    """Say how units of a function may be run; `options` besides ``style`` are part of the terms."""
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
