"""What a digest is made of: tokens, each with its length, so that no two sequences run together."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from optomatic.errors import shown


@dataclass(frozen=True, slots=True)
class Doubt:
    """Where in an object something cannot be followed for certain, and why.

    ``module`` is the user module in whose globals it stands, None elsewhere.
    """

    path: str
    reason: str
    module: str | None = None

    def __str__(self) -> str:
        return f"`{self.path}` holds {self.reason}" if self.path else f"it is {self.reason}"


class Stream:
    """Tokens that were written; :class:`~optomatic.keys.digest.Walk` writes objects.

    Attributes
    ----------
    out : list of bytes
    rows : bool
        Whether rows of what is walked are selected before anything reads it, as of X and y.
    cloned : bool
        Whether it was deep-copied by ``clone``, as params of estimators are.
    """

    def __init__(self) -> None:
        self.out: list[bytes] = []
        self.rows = False
        self.cloned = False
        self._doubts: list[Doubt] = []
        self._modules: set[str] = set()
        self._module: list[str] = []

    def put(self, *texts: str | bytes | int) -> None:
        """Write texts."""
        for text in texts:
            part = text if isinstance(text, bytes) else str(text).encode("utf-8", "surrogatepass")
            self.out.append(b"%d:" % len(part) + part)

    def content(self, buffer: Any) -> None:
        """Write the digest of a buffer."""
        self.out.append(b"#" + hashlib.sha256(buffer).digest())

    def name(self, module: str, name: str) -> None:
        """Write the name of what is found in a module that does not travel."""
        self._modules.add(module)
        self.put(b"name", module, name)

    def doubt(self, path: str, reason: str) -> None:
        """Note that what stands at `path` cannot be followed; nobody has this digest again."""
        module = self._module[-1] if self._module else None
        self._doubts.append(Doubt(path, reason, module))
        self.out.append(secrets.token_bytes(32))

    def visit(self, value: Any, path: str = "") -> None:
        """Write an object, which stands at `path`."""
        raise NotImplementedError

    def forget(self, value: Any) -> None:
        """Let `value` be equal to others or not, but never the same object."""
        raise NotImplementedError

    def instance(self, value: Any, path: str) -> None:
        """Write an object as it would be rebuilt."""
        raise NotImplementedError

    def items(
        self, pairs: Iterable[tuple[Any, Any]], path: str, *, attributes: bool = False
    ) -> None:
        """Write keys and values, in order."""
        for key, value in pairs:
            where = f"{path}.{key}" if attributes else f"{path}[{shown(key):.40}]"
            self.visit(key, where)
            self.visit(value, where)

    def members(self, values: Iterable[Any], path: str) -> None:
        """Write the items of a sequence."""
        for index, value in enumerate(values):
            self.visit(value, f"{path}[{index}]")

    def unordered(self, values: Collection[Any], path: str) -> None:
        """Write the elements of a set."""
        raise NotImplementedError
