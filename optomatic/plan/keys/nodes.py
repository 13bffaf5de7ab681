"""The one way in which parts are hashed into a whole."""

from __future__ import annotations

import hashlib


def node(kind: str | bytes, *children: bytes | memoryview) -> bytes:
    """Hash a node: its kind, and its children with their lengths.

    No two different trees give the same bytes to hash.
    """
    lengths = (memoryview(child).nbytes for child in children)
    head = f"{kind if isinstance(kind, str) else kind.decode()}:{','.join(map(str, lengths))};"
    digest = hashlib.sha256(head.encode())
    for child in children:
        digest.update(child)
    return digest.digest()
