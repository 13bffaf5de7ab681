"""The fingerprint of an estimator after a candidate is applied to it, at what it changes.

The params of an estimator and of those in it form a tree of digests.  A candidate that only
puts other values where plain params stand (``svc__C``) changes one leaf and the nodes above
it, so only those are hashed anew; any other one (whole steps, unknown names, estimators
with a ``set_params`` of their own) is applied to a clone, and all of it is walked.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from sklearn.base import clone

from optomatic.plan.keys.fingerprint import (
    Fingerprint,
    Walk,
    estimator_children,
    estimator_head,
    estimator_node,
    has_own_clone,
    is_estimator,
)
from optomatic.plan.keys.nodes import node
from optomatic.plan.keys.versions import Versions, installed_versions

_PLAIN = frozenset({int, float, bool, str, type(None)})


@dataclass(slots=True)
class _Branch:
    """A node of the tree: an estimator, or a list or tuple that holds some."""

    kind: str
    head: bytes
    names: list[str]
    children: list[bytes]
    parent: _Branch | None
    place: int
    #: Nested estimators by param name or by their name among steps.
    inner: dict[str, _Branch] = field(default_factory=dict)

    def digest(self) -> bytes:
        if self.kind == "estimator":
            return estimator_node(self.head, zip(self.names, self.children, strict=True))
        return node(self.kind, *self.children)


class Effective:
    """Fingerprints of `base` with candidates applied.

    Parameters
    ----------
    base : estimator
        Not changed.
    varied : collection of str
        Names of all params that the space varies.
    versions : callable
        As for :func:`~optomatic.plan.keys.fingerprint.fingerprint`.

    Notes
    -----
    A candidate of scalars costs some ten microseconds a level of nesting; one that is
    applied to a clone, what the clone costs and a walk.
    """

    def __init__(
        self,
        base: Any,
        *,
        varied: Collection[str] = (),
        versions: Versions = installed_versions,
    ) -> None:
        self._base = base
        self._varied = varied
        self._versions = versions
        self._walk = Walk(varied, versions)
        self._root = self._tree(base)
        self._checked: dict[frozenset[str], bool] = {}

    def of(self, params: Mapping[str, Any]) -> Fingerprint:
        """Return the fingerprint of ``clone(base).set_params(**params)``.

        Raises
        ------
        ValueError
            scikit-learn's own, for a name that the estimator does not have.
        """
        names = frozenset(params)
        if not self._checked.get(names, True) or not self._is_plain(params):
            return self._applied(params)
        fast = self._replaced(params)
        if fast is None:
            self._checked[names] = False
            return self._applied(params)
        if names not in self._checked:  # once for each set of names: the shortcut is right
            slow = self._applied(params)
            self._checked[names] = slow.digest == fast.digest
            return slow
        return fast

    def _is_plain(self, params: Mapping[str, Any]) -> bool:
        return self._root is not None and all(type(v) in _PLAIN for v in params.values())

    def _applied(self, params: Mapping[str, Any]) -> Fingerprint:
        given = clone(dict(params), safe=False)
        estimator = clone(self._base).set_params(**given)
        walk = Walk(self._varied, self._versions)
        digest = walk.digest(estimator, "")
        if not _reports(estimator, given):
            digest = node("not reported", digest, walk.digest(dict(sorted(given.items())), ""))
        return walk.result(digest)

    def _replaced(self, params: Mapping[str, Any]) -> Fingerprint | None:
        """Return the fingerprint with leaves replaced, or None where that is not all."""
        changes = []
        for name, value in params.items():
            place = self._place(name)
            if place is None:
                return None
            changes.append((*place, self._walk.digest(value, name)))
        undo: list[tuple[_Branch, int, bytes]] = []
        for branch, index, digest in changes:
            undo.append((branch, index, branch.children[index]))
            branch.children[index] = digest
        try:
            return Fingerprint(self._digest_up(changes, undo).hex(), (), self._walk.versions)
        finally:
            for branch, index, digest in reversed(undo):
                branch.children[index] = digest

    def _digest_up(self, changes: list[Any], undo: list[Any]) -> bytes:
        """Hash the changed branches and all above them, the deepest first."""
        assert self._root is not None
        stale = {id(branch): branch for branch, _, _ in changes}
        for branch in list(stale.values()):
            above = branch.parent
            while above is not None:
                stale[id(above)] = above
                above = above.parent
        for branch in sorted(stale.values(), key=_depth, reverse=True):
            if branch.parent is not None:
                undo.append((branch.parent, branch.place, branch.parent.children[branch.place]))
                branch.parent.children[branch.place] = branch.digest()
        return self._root.digest()

    def _place(self, name: str) -> tuple[_Branch, int] | None:
        """Return the branch and the position of a param, or None if it is no plain one."""
        branch = self._root
        *path, last = name.split("__")
        for step in path:
            branch = branch.inner.get(step) if branch is not None else None
        if branch is None or last in branch.inner or last not in branch.names:
            return None
        return branch, branch.names.index(last)

    # -- the tree --------------------------------------------------------------------------

    def _tree(self, base: Any) -> _Branch | None:
        """Walk `base` once; None if something in it cannot be keyed, or is not standard."""
        root = self._branch(base, None, 0, "") if _is_standard(base) else None
        if root is None or self._walk.doubts:
            return None
        return root

    def _branch(self, value: Any, parent: _Branch | None, place: int, path: str) -> _Branch:
        pairs = estimator_children(self._walk, value, path)
        head = estimator_head(self._walk, value, path)
        branch = _Branch("estimator", head, [n for n, _ in pairs], [], parent, place)
        for index, (name, held) in enumerate(pairs):
            branch.children.append(b"")
            self._grow(branch, index, name, held, f"{path}.{name}" if path else name, branch)
        return branch

    def _grow(
        self, branch: _Branch, index: int, name: str, held: Any, path: str, owner: _Branch
    ) -> None:
        """Put `held` at `index` of `branch`: as a branch if params may be set inside it."""
        if _is_standard(held):
            inner = self._branch(held, branch, index, path)
            branch.children[index] = inner.digest()
            owner.inner[name] = inner
        elif type(held) in (list, tuple) and any(_holds_estimator(item) for item in held):
            part = _Branch(type(held).__name__, b"", [], [b""] * len(held), branch, index)
            label = next((item for item in held if type(item) is str), name)
            for n, item in enumerate(held):
                self._grow(part, n, label, item, f"{path}[{n}]", owner)
            branch.children[index] = part.digest()
        else:
            branch.children[index] = self._walk.digest(held, path)


def _reports(estimator: Any, given: Mapping[str, Any]) -> bool:
    """Tell whether `estimator` says that it has the params that were set.

    One with a ``get_params`` of its own may not, and would look the same for all of them.
    """
    reported = estimator.get_params(deep=True)
    return all(name in reported and reported[name] is value for name, value in given.items())


def _depth(branch: _Branch) -> int:
    depth = 0
    above = branch.parent
    while above is not None:
        depth, above = depth + 1, above.parent
    return depth


def _holds_estimator(value: Any) -> bool:
    if type(value) in (list, tuple):
        return any(_holds_estimator(item) for item in value)
    return _is_standard(value)


def _is_standard(value: Any) -> bool:
    """Tell whether scikit-learn's own code reads and sets the params of an estimator."""
    if not is_estimator(value) or isinstance(value, type) or has_own_clone(value):
        return False
    kind = type(value)
    return all(
        getattr(getattr(kind, name), "__module__", "").startswith("sklearn.")
        for name in ("get_params", "set_params")
    ) and not _acts_when_set(kind, value.get_params(deep=False))


def _acts_when_set(kind: type, names: Collection[str]) -> bool:
    """Tell whether code of the class runs when one of its params is set: it may set others."""
    return any("__setattr__" in vars(base) for base in kind.__mro__[:-1]) or any(
        hasattr(getattr(kind, name, None), "__set__") for name in names
    )
