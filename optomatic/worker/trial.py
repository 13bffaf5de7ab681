"""Loading what is about to be queued in another process first: what is missing there shows here.

Without it every worker would find out by itself, unit after unit.  The process has the
``sys.path`` of this one, so what it cannot load no worker can; a worker on another machine may
lack more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from optomatic.errors import NotShippable
from optomatic.records import Part
from optomatic.worker.cache import Cache
from optomatic.worker.children import Child, start_child
from optomatic.worker.local import setup_of
from optomatic.worker.machine import cache_home

#: What is larger is data, which takes long to load and has no code in it.
_LARGEST = 10_000_000
#: A process that takes so many seconds is not waited for.
_PATIENCE = 60.0

#: Parts that were loaded by another process once, by hash.
_loaded: set[str] = set()


def trial_for(workers: int | None) -> Callable[[Iterable[Part]], None]:
    """Return what tries whether others can load parts; nothing is tried where this process scores.

    Parameters
    ----------
    workers : int or None
        None for this process, 0 for standalone workers only, k for k local workers.
    """
    if workers is None:
        return lambda _: None
    return lambda parts: try_loading(parts, workers)


def try_loading(parts: Iterable[Part], workers: int) -> None:
    """Have another process load `parts`, each once in the life of this process.

    Parameters
    ----------
    workers : int
        How many local workers there are going to be: theirs is the process that is used.

    Raises
    ------
    NotShippable
        If one cannot be loaded, with the reason.
    """
    new = [p for p in parts if p.kind == "pickle" and p.size <= _LARGEST and p.sha not in _loaded]
    if not new:
        return
    cache = Cache(cache_home())
    where = {part.sha: [part.kind, str(cache.keep(part)[1])] for part in new}
    child = start_child(setup_of(max(1, workers)))
    try:
        problem = _ask(child, where)
    finally:
        child.kill("it has tried")
        child.bury()
        cache.let_go(())
    if problem is not None:
        raise _not_loadable(problem)
    _loaded.update(where)


def _ask(child: Child, where: dict[str, list[str]]) -> str | None:
    """Return what goes wrong when `child` loads the parts, None if nothing does."""
    child.channel.next(_PATIENCE)  # that it is ready
    child.send({"do": "load", "parts": where})
    try:
        answer = child.channel.next(_PATIENCE)
    except EOFError:
        return "the process that loads them ends"
    return None if answer is None else answer["problem"]


def _not_loadable(problem: str) -> NotShippable:
    return NotShippable(
        f"What the search is made of can be pickled, but not loaded by another process: {problem}. "
        "Nothing was queued. Install the module that is missing there, name it in "
        "ship_modules=[...] so that its code travels along, or use n_jobs=None, which scores in "
        "this process."
    )
