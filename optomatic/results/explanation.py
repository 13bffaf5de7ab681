"""Why a search does not move, or did not reuse scores: what was found, as lines."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

#: What keys are made of, in the order in which it is compared, and how it is called.
_ROLES = {
    "function": "function (its code)",
    "X": "X",
    "y": "y",
    "scorer": "scorer",
    "fit_params": "fit_params",
    "score_params": "score_params",
    "config": "config (scikit-learn's set_config)",
    "callbacks": "callbacks",
}
_DATA = "data:"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found out about a search.

    Attributes
    ----------
    kind : str
        ``state``, ``running``, ``client``, ``workers``, ``refusal``, ``other version``,
        ``losses``, ``given up``, ``failed``, ``set aside`` or ``reuse``.
    text : str
    """

    kind: str
    text: str


@dataclass(frozen=True, slots=True, repr=False)
class Explanation:
    """What was found out about a search.  It prints as lines.

    Attributes
    ----------
    findings : tuple of Finding
    """

    findings: tuple[Finding, ...]

    def __str__(self) -> str:
        return "\n".join(f"{one.kind}: {one.text}" for one in self.findings)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        lines = (f"<li><b>{escape(f.kind)}</b>: {escape(f.text)}</li>" for f in self.findings)
        return f"<ul>{''.join(lines)}</ul>"


def differences(
    own: Mapping[str, Any], other: Mapping[str, Any], varied: Collection[str] = ()
) -> list[str]:
    """Return in what the keys of two searches differ, by the ingredients that they wrote down.

    Parameters
    ----------
    own, other : mapping
        ``ingredients`` of the records of the later and the earlier one.
    varied : collection of str
        Params that the space of either varies: their value in the estimator does not count.

    Returns
    -------
    list of str
        The first of them is the first in which they differ, as in ``["y", "numpy 2.3 -> 2.4"]``.

    Examples
    --------
    >>> own = {"X": "a", "y": "b", "environment": {"numpy": "2.4"}}
    >>> differences(own, {**own, "y": "c", "environment": {"numpy": "2.3"}})
    ['y', 'numpy 2.3 -> 2.4']
    """
    return list(_differences(own, other, varied))


def _differences(
    own: Mapping[str, Any], other: Mapping[str, Any], varied: Collection[str]
) -> Iterator[str]:
    for name, called in (("key_version", "the version of keys"), ("class", "estimator class")):
        if own.get(name) != other.get(name):
            yield f"{called} {other.get(name)} -> {own.get(name)}"
    yield from _of_the_estimator(own, other, varied)
    roles = [*_ROLES, *sorted({n for n in (*own, *other) if str(n).startswith(_DATA)})]
    for name in roles:
        if own.get(name) != other.get(name):
            yield _ROLES.get(name) or f"data {name.removeprefix(_DATA)!r}"
    if own.get("splits") != other.get("splits"):
        yield "splits"
    yield from _of_versions(_mapping(own, "environment"), _mapping(other, "environment"))


def _of_the_estimator(
    own: Mapping[str, Any], other: Mapping[str, Any], varied: Collection[str]
) -> Iterator[str]:
    """Yield the params of the estimator itself that differ, or that it differs otherwise."""
    ours, theirs = _mapping(own, "params"), _mapping(other, "params")
    names = [n for n in dict.fromkeys((*ours, *theirs)) if ours.get(n) != theirs.get(n)]
    yield from (name for name in names if not _is_varied(name, varied))
    same_class = own.get("class") == other.get("class")
    if own.get("estimator") != other.get("estimator") and same_class and not names:
        yield "estimator (its code, or what it has besides params)"


def _is_varied(name: str, varied: Collection[str]) -> bool:
    parts = name.split("__")
    return any("__".join(parts[: n + 1]) in varied for n in range(len(parts)))


def _of_versions(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted({*ours, *theirs}):
        if ours.get(name) != theirs.get(name):
            yield f"{name} {theirs.get(name, 'none')} -> {ours.get(name, 'none')}"


def _mapping(ingredients: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = ingredients.get(name)
    return found if isinstance(found, Mapping) else {}
