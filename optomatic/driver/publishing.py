"""What workers need besides the units is stored before these are queued."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from optomatic.records import Part, Work
from optomatic.results.progress import upload_lines
from optomatic.store.holding import SEARCHES
from optomatic.store.opening import Store

Say = Callable[[str], None]


def say_nothing(_: str) -> None:
    """Take a line that nobody wants to read."""


def publish(
    store: Store, parts: Iterable[Part], work: Work, listing: str, say: Say = say_nothing
) -> None:
    """Store those of `parts` that are not stored yet, and say what the lane of `work` stands for.

    Parameters
    ----------
    listing : str
        Name of the list of the units that need them: they stay as long as it does.
    say : callable
        Is told in a line now and then how far the upload of large data has come.
    """
    upload(store, parts, listing, say)
    store.workers.publish(work)


def upload(store: Store, parts: Iterable[Part], listing: str, say: Say = say_nothing) -> None:
    """Store those of `parts` that are not stored yet."""
    by_sha = {part.sha: part for part in parts}
    if not by_sha:
        return
    store.searches.need(listing, list(by_sha))
    for sha in store.bundles.missing(list(by_sha), SEARCHES):
        part = by_sha[sha]
        store.bundles.put(part, upload_lines(part.size, say), holder=SEARCHES)


def mend(store: Store, parts: Iterable[Part]) -> None:
    """Store those of `parts` anew that were damaged or lost in the store."""
    for part in parts:
        store.bundles.mend(part, SEARCHES)
