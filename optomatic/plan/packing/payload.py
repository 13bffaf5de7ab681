"""Whether what is being pickled goes to workers by way of the store: no address is in it then."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_in_payload: ContextVar[bool] = ContextVar("in_payload", default=False)


@contextmanager
def payload() -> Iterator[None]:
    """What is pickled in this context goes to workers: no address is in it."""
    before = _in_payload.set(True)
    try:
        yield
    finally:
        _in_payload.reset(before)


def in_payload() -> bool:
    """Tell whether a payload is being pickled."""
    return _in_payload.get()
