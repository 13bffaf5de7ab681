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
from typing import Any, Literal

from optomatic.plan.keys.fingerprint import KEY_VERSION, Fingerprint, fingerprint
from optomatic.plan.keys.versions import installed_versions
from optomatic.plan.own_code.survey import Named
from optomatic.plan.units.environment import environment
from optomatic.plan.units.needed import CodeNeeded, dump_roles, encode_all, parts_in
from optomatic.plan.units.plan import Plan, units_of
from optomatic.plan.units.work import work_of
from optomatic.records import Recipe, Subject, Work

#: How a function takes a candidate: as one dict, or as keyword arguments.
Style = Literal["params", "keywords"]
#: Roles of data in the spec of a unit begin so.
_DATA = "data:"
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

    What all of them share is keyed and dumped once, with the first of them.

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
        self._begun = False
        self._secret = secrets.token_hex(16)
        self._commons: dict[Style, Fingerprint] = {}
        #: What scores are about.  The data are not in it: they are keyed once it is known how
        #: the function takes a candidate, and then tell scores on other ones apart.
        self.subject: Subject | None = Subject(
            _digest_of(KEY_VERSION, fingerprint(function).digest), ("",), 0
        )

    def _begin(self, first: Mapping[str, Any]) -> None:
        style = style_of(self._function, self._data, first)
        self.question = question = FunctionQuestion(self._function, self._data, style)
        self._common = self._common_of(style)
        self._named = Named()
        self._code = CodeNeeded()
        self._parts, self._spec, self._refusal = dump_roles(_roles_of(question), self._named)
        self._begun = True

    def _common_of(self, style: Style) -> Fingerprint:
        if style not in self._commons:
            self._commons[style] = fingerprint(
                {
                    "function": self._function,
                    "data": dict(self._data),
                    "style": style,
                    "versions": {"numpy": installed_versions("numpy")},
                }
            )
        return self._commons[style]

    def keys_on(self, candidate: Mapping[str, Any], splits: Sequence[str]) -> list[str]:
        """Return the key of the unit of a candidate of another search, in a list.

        It is empty if the function does not take its params.
        """
        try:
            style = style_of(self._function, self._data, candidate)
        except TypeError:
            return []
        own = fingerprint(dict(sorted(candidate.items())))
        return [key_of(_common_key(self._common_of(style)), own)]

    def plan(self, candidates: Sequence[Mapping[str, Any]]) -> Plan:
        """Return the units of `candidates`, in their order; equal candidates share one.

        Raises
        ------
        TypeError
            If the function does not take a param that a candidate has.
        """
        if not candidates:
            return Plan([], [], {}, {}, (), None)
        if not self._begun:
            self._begin(candidates[0])
        doubts = {str(doubt): None for doubt in self._common.doubts}
        versions = dict(self._common.versions)
        keys = []
        for candidate in candidates:
            check_takes(self.question, candidate)
            own = fingerprint(dict(sorted(candidate.items())))
            doubts.update((str(doubt), None) for doubt in own.doubts)
            versions.update(own.versions)
            keys.append(key_of(_common_key(self._common), own))
        return self._planned(candidates, keys, versions, tuple(doubts))

    def _planned(
        self,
        candidates: Sequence[Mapping[str, Any]],
        keys: Sequence[str],
        versions: Mapping[str, str],
        doubts: tuple[str, ...],
    ) -> Plan:
        named = self._named.copy()
        encoded, refused = encode_all(candidates, named)
        refusal = self._refusal or refused
        parts = {**self._parts, **parts_in(encoded)}
        spec = {**self._spec, **self._code.spec(named, versions, parts)}
        work = self._work(spec, versions, private=refusal is not None)
        units, ids, places = units_of(([key] for key in keys), encoded, work)
        if refusal is not None:
            return Plan(units, ids, places, {}, doubts, refusal, self.subject)
        asked = Recipe(_common_key(self._common), work)
        return Plan(units, ids, places, parts, doubts, None, self.subject, asked)

    def _work(
        self, spec: Mapping[str, str | None], versions: Mapping[str, str], *, private: bool
    ) -> Work:
        """Say how the units may be run.  Private work has a lane that nobody else serves."""
        secret = self._secret if private else None
        options = {"style": self.question.style, **self._how}
        return function_work(spec, options, environment(versions), self._requires, secret)


def function_work(
    spec: Mapping[str, str | None],
    options: Mapping[str, Any],
    env: Mapping[str, str],
    requires: tuple[str, ...],
    secret: str | None = None,
) -> Work:
    """Say how units of a function may be run; `options` besides ``style`` are part of the terms."""
    how = sorted(item for item in options.items() if item[0] != "style")
    return work_of(
        *("function", spec, options), env=env, requires=requires, asked=[how], secret=secret
    )


def key_of(common: str, own: Fingerprint) -> str:
    """Return the key of a candidate: `common` is equal for all of one function and its data."""
    return hashlib.sha256(f"{common}:{own.digest}".encode()).hexdigest()


def _common_key(common: Fingerprint) -> str:
    return f"{KEY_PREFIX}{common.digest}"


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


def _roles_of(question: FunctionQuestion) -> dict[str, Any]:
    data = {_DATA + name: value for name, value in question.data.items()}
    return {"function": question.function, **data}


def data_in(have: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a function is given besides, of values by their role in a unit's spec."""
    return {
        role.removeprefix(_DATA): value for role, value in have.items() if role.startswith(_DATA)
    }
