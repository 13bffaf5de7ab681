"""What workers need besides the units is stored before these are queued."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from optomatic.records import Part, Work
from optomatic.results.progress import upload_lines
from optomatic.store.connection import Store
from optomatic.store.parts import SEARCHES

Say = Callable[[str], None]


#: Seconds between two notes that the client lives, while it uploads.
TOUCH_SECONDS = 10.0


def say_nothing(_: str) -> None:
    """Take a line that nobody wants to read."""


def publish(
    store: Store,
    parts: Iterable[Part],
    work: Work,
    listing: str,
    say: Say = say_nothing,
    *,
    client_of: str | None = None,
) -> None:
    """Store those of `parts` that are not stored yet, and say what the queue of `work` stands for.

    Parameters
    ----------
    listing : str
        Name of the list of the units that need them: they stay as long as it does.
    say : callable
        Is told in a line now and then how far the upload of large data has come.
    client_of : str, optional
        The search of this process: others hear now and then that its client lives.
    """
    upload(store, parts, listing, say, client_of=client_of)
    store.workers.publish(work)


def upload(
    store: Store,
    parts: Iterable[Part],
    listing: str,
    say: Say = say_nothing,
    *,
    client_of: str | None = None,
) -> None:
    """Store those of `parts` that are not stored yet; see :func:`publish`."""
    by_sha = {part.sha: part for part in parts}
    if not by_sha:
        return
    store.searches.need(listing, list(by_sha))
    note_life = _sign_of_life(store, client_of)
    for sha in store.parts.missing(list(by_sha), SEARCHES):
        part = by_sha[sha]
        lines = upload_lines(part.size, say)

        def told(done: int, lines: Callable[[int], None] = lines) -> None:
            lines(done)
            note_life()

        store.parts.put(part, told, holder=SEARCHES)


def _sign_of_life(store: Store, search: str | None) -> Callable[[], None]:
    """Return what notes that the client of `search` lives, if the last note is long ago."""
    touched_at = time.monotonic()  # the record was just opened

    def note() -> None:
        nonlocal touched_at
        if search is not None and time.monotonic() - touched_at >= TOUCH_SECONDS:
            store.searches.touch(search)
            touched_at = time.monotonic()

    return note


def mend(store: Store, parts: Iterable[Part]) -> None:
    """Store those of `parts` anew that were damaged or lost in the store."""
    for part in parts:
        store.parts.mend(part, SEARCHES)
