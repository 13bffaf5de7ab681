"""The digest of an estimator with a candidate applied, at the cost of its changes.

The params of an estimator and of those in it form a Merkle tree.  Each value has its own digest,
so identity counts inside one value and not between two.  A candidate that only replaces plain
params (``svc__C``) changes leaves.  Any other candidate is applied to a clone, which is digested
as a whole: whole steps, unknown names, estimators with their own ``set_params``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from sklearn.base import BaseEstimator, clone

from optomatic.keys import not_counted
from optomatic.keys.digest import LEAVES, Digest, digest_of, met_in

_PLAIN = frozenset({int, float, bool, str, type(None)})


@dataclass(slots=True)
class _Branch:
    """A node of the tree: an estimator, or a list or tuple that holds some."""

    kind: str
    head: bytes
    names: list[str]
    #: Digests of values, and the nodes below.
    children: list[bytes | _Branch]
    #: Nested estimators by param name or by their name among steps.
    inner: dict[str, _Branch] = field(default_factory=dict)

    def digest(self, leaves: Mapping[int, Mapping[int, bytes]] = MappingProxyType({})) -> bytes:
        """Return the hash of this node with other `leaves`, by the id of a node and their place."""
        own = leaves.get(id(self), {})
        parts = [self.head]
        for place, child in enumerate(self.children):
            if self.names:
                parts.append(self.names[place].encode())
            child = own.get(place, child)
            parts.append(child if isinstance(child, bytes) else child.digest(leaves))
        head = f"{self.kind}:{','.join(str(len(part)) for part in parts)};"
        return hashlib.sha256(head.encode() + b"".join(parts)).digest()


def digest_of_estimator(estimator: Any, path: str = "") -> Digest:
    """Return the digest of a clone of `estimator`."""
    return Effective(estimator, path=path).of({})


class Effective:
    """Digests of `base` with candidates applied.

    `base` is not changed, and everything that its clones keep counts.  `varied` are the names
    of all params that the space varies, `path` is the name of `base` in doubts.
    """

    def __init__(self, base: Any, *, varied: Collection[str] = (), path: str = "") -> None:
        self._base = clone(base)
        self._path = path
        self._tree = _Tree(varied, {})
        self._root = self._tree.root(self._base, path)
        self._found = self._tree.result(self._root)
        self._checked: dict[frozenset[str], bool] = {}

    def of(self, params: Mapping[str, Any]) -> Digest:
        """Return the digest of ``clone(base).set_params(**params)``.

        Raises scikit-learn's ValueError for a name that the estimator does not have.
        """
        if not params:
            return self._found
        names = frozenset(params)
        if not self._checked.get(names, True) or not self._is_plain(params):
            return self._applied(params)
        fast = self._replaced(params)
        if fast is None:
            self._checked[names] = False
            return self._applied(params)
        if names not in self._checked:  # check the shortcut once for each set of names
            slow = self._applied(params)
            self._checked[names] = slow.hex == fast.hex
            return slow
        return fast

    def params(self) -> dict[str, str]:
        """Return the digest (hex) of each value in `base`, by its param's name."""
        return dict(self._tree.values(self._root, ""))

    def _is_plain(self, params: Mapping[str, Any]) -> bool:
        return not self._found.doubts and all(type(value) in _PLAIN for value in params.values())

    def _applied(self, params: Mapping[str, Any]) -> Digest:
        given = clone(dict(params), safe=False)
        estimator = clone(self._base).set_params(**given)
        tree = _Tree(self._tree.varied, self._tree.classes)
        root = tree.root(estimator, self._path)
        if not _reports(estimator, given):
            extra = tree.leaf(dict(sorted(given.items())), self._path)
            root = _Branch("not reported", b"", [], [root, extra])
        return tree.result(root)

    def _replaced(self, params: Mapping[str, Any]) -> Digest | None:
        """Return the digest with leaves replaced, None if `params` change more."""
        leaves: dict[int, dict[int, bytes]] = {}
        for name, value in params.items():
            found = self._place(name)
            if found is None:
                return None
            branch, index = found
            leaves.setdefault(id(branch), {})[index] = LEAVES[type(value)](value)
        digest = self._root.digest(leaves).hex()
        return Digest(digest, (), self._found.modules, self._found.python)

    def _place(self, name: str) -> tuple[_Branch, int] | None:
        """Return the branch and the position of a plain param, else None."""
        branch: _Branch | None = self._root
        *path, last = name.split("__")
        for step in path:
            branch = branch.inner.get(step) if branch is not None else None
        if branch is None or last in branch.inner or last not in branch.names:
            return None
        return branch, branch.names.index(last)


class _Tree:
    """Makes trees, and collects the digests in them."""

    def __init__(self, varied: Collection[str], classes: dict[type, Digest]) -> None:
        self.varied = varied
        #: Heads by class, which many candidates share.
        self.classes = classes
        self._left_out = not_counted.params(varied)
        self._digests: list[Digest] = []

    def result(self, root: _Branch) -> Digest:
        """Return the digest of a tree, with doubts and modules of its values."""
        return met_in(self._digests, root.digest().hex())

    def values(self, branch: _Branch, prefix: str) -> Iterator[tuple[str, str]]:
        """Yield the values below `branch`, by their names."""
        for name, child in zip(branch.names, branch.children, strict=False):
            if isinstance(child, bytes):
                yield f"{prefix}{name}", hashlib.sha256(child).hexdigest()
        for name, own in branch.inner.items():
            yield from self.values(own, f"{prefix}{name}__")

    def root(self, value: Any, path: str) -> _Branch:
        """Return the tree of an estimator."""
        if is_standard(value):
            return self._branch(value, path)
        return _Branch("other", b"", [], [self.leaf(value, path)])

    def leaf(self, value: Any, path: str) -> bytes:
        """Return the digest of a value without settable params."""
        plain = LEAVES.get(type(value))
        if plain is not None:
            return plain(value)
        found = digest_of(value, path, varied=self.varied, cloned=True)
        self._digests.append(found)
        return bytes.fromhex(found.hex)

    def _branch(self, value: Any, path: str) -> _Branch:
        params = value.get_params(deep=False)
        left_out = not_counted.params_of(value, self._left_out)
        names = sorted(name for name in params if name not in left_out)
        head = self._class(type(value)) + self._rest(value, params, path)
        branch = _Branch("estimator", head, names, [b""] * len(names))
        for index, name in enumerate(names):
            where = f"{path}.{name}" if path else name
            self._grow(branch, index, name, params[name], where, branch)
        return branch

    def _class(self, kind: type) -> bytes:
        if kind not in self.classes:
            self.classes[kind] = digest_of(kind)
        found = self.classes[kind]
        self._digests.append(found)
        return bytes.fromhex(found.hex)

    def _rest(self, value: Any, params: Mapping[str, Any], path: str) -> bytes:
        """Return the digest of attributes besides params that clones keep, as routing."""
        if not _has_plain_state(type(value)):
            return self.leaf(value, path)
        left_out = not_counted.state_of(value, self._left_out)
        rest = {
            name: held
            for name, held in vars(value).items()
            if name not in left_out and (name not in params or params[name] is not held)
        }
        return self.leaf(rest, path) if rest else b""

    def _grow(
        self, branch: _Branch, index: int, name: str, held: Any, path: str, owner: _Branch
    ) -> None:
        """Put `held` at `index` of `branch`, as a branch if it has settable params."""
        if is_standard(held):
            branch.children[index] = owner.inner[name] = self._branch(held, path)
        elif type(held) in (list, tuple) and any(_holds_estimator(item) for item in held):
            part = _Branch(type(held).__name__, b"", [], [b""] * len(held))
            branch.children[index] = part
            label = next((item for item in held if type(item) is str), name)
            above = path.rpartition(".")[0]  # doubts name steps
            named = f"{above}.{label}" if above else label
            for n, item in enumerate(held):
                where = named if is_standard(item) else f"{path}[{n}]"
                self._grow(part, n, label, item, where, owner)
        else:
            branch.children[index] = self.leaf(held, path)


def is_standard(value: Any) -> bool:
    """Return whether scikit-learn's own code gets and sets the params of an estimator."""
    if not hasattr(value, "get_params") or not hasattr(value, "set_params"):
        return False
    if isinstance(value, type) or _has_own_clone(value):
        return False
    kind = type(value)
    return all(
        getattr(getattr(kind, name), "__module__", "").startswith("sklearn.")
        for name in ("get_params", "set_params")
    ) and not _acts_when_set(kind, value.get_params(deep=False))


def _has_own_clone(value: object) -> bool:
    own = getattr(type(value), "__sklearn_clone__", None)
    return own is not None and not getattr(own, "__module__", "").startswith("sklearn.base")


def _has_plain_state(kind: type) -> bool:
    """Return whether pickles of `kind` hold exactly its attributes."""
    plain = (object, BaseEstimator)
    return all(
        any(getattr(kind, name, None) is getattr(base, name, None) for base in plain)
        for name in ("__reduce_ex__", "__reduce__", "__getstate__")
    )


def _acts_when_set(kind: type, names: Iterable[str]) -> bool:
    """Return whether setting a param runs code of the class, which may set others."""
    return any("__setattr__" in vars(base) for base in kind.__mro__[:-1]) or any(
        hasattr(getattr(kind, name, None), "__set__") for name in names
    )


def _holds_estimator(value: Any) -> bool:
    if type(value) in (list, tuple):
        return any(_holds_estimator(item) for item in value)
    return is_standard(value)


def _reports(estimator: Any, given: Mapping[str, Any]) -> bool:
    """Return whether `estimator` reports the params that were set.

    An estimator with its own ``get_params`` may not, and would look the same for all candidates.
    """
    reported = estimator.get_params(deep=True)
    return all(name in reported and reported[name] is value for name, value in given.items())
