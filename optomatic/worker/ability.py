"""Why workers that are there cannot score what waits: versions, tags, code, room; for people."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from optomatic.keys.environment import requirement
from optomatic.records import Lane, WorkerRecord

#: What is known of a worker that finds no room for the data.
NO_ROOM = "the disk of its cache is full"


def missing_in(workers: Sequence[WorkerRecord], lanes: Sequence[Lane]) -> str | None:
    """Return why none of `workers` can serve one of `lanes`, None if one can.

    Says nothing against a worker of which it is not known: it registers the versions that every
    unit depends on, and what was asked of it while it was idle.

    Parameters
    ----------
    workers : sequence of WorkerRecord
        Those that are alive.
    lanes : sequence of Lane
        What is queued.
    """
    if not lanes:  # nothing is queued: somebody works on all of it
        return None
    if not workers:
        return "none has been seen"
    lacks = [lack for worker in workers for lane in lanes if (lack := lacking(worker, lane))]
    if len(lacks) < len(workers) * len(lanes):
        return None
    count = f"the {len(workers)} that are there" if len(workers) > 1 else "the one that is there"
    return f"{count} cannot score them: needed is {_either(lacks)}"


def lacking(worker: WorkerRecord, lane: Lane) -> str:
    """Return what `worker` lacks for `lane`, empty if nothing is known."""
    versions = [
        f"{name} {wanted} (it has {has or 'none'})"
        for name, wanted, has in _other_versions(worker.env, lane)
    ]
    tags = [f"--tag {tag}" for tag in lane.requires if tag not in worker.tags]
    return " and ".join([*versions, *tags, *_lacking_code(worker, lane)])


def needs(env: Mapping[str, str], tags: Collection[str], lane: Lane) -> str:
    """Return what a worker lacks for `lane`, in its own words; empty if nothing is known.

    >>> needs({"numpy": "2.3"}, (), Lane("", {"numpy": "2.4"}, ("gpu",)))
    'needs numpy 2.4, this is 2.3, and --tag gpu'
    """
    lacks = [
        f"{name} {wanted}, {f'this is {has}' if has else 'which is not installed here'}"
        for name, wanted, has in _other_versions(env, lane)
    ]
    lacks += [f"--tag {tag}" for tag in lane.requires if tag not in tags]
    return f"needs {', and '.join(lacks)}" if lacks else ""


def installs(workers: Sequence[WorkerRecord], lanes: Sequence[Lane]) -> str:
    """Return what would give `workers` the versions that `lanes` need, empty if nothing would."""
    other = {
        (name, wanted): requirement(name, wanted)
        for worker in workers
        for lane in lanes
        for name, wanted, _ in _other_versions(worker.env, lane)
    }
    packages = [f'"{text}"' for text in dict.fromkeys(other.values()) if text]
    advice = [f"run pip install {' '.join(packages)} in its environment"] if packages else []
    advice += [
        f"use Python {wanted}"
        if name == "python"
        else f"install {name} from where the process has it that calls fit"
        for (name, wanted), text in other.items()
        if not text
    ]
    return " and ".join(dict.fromkeys(advice))


def _other_versions(env: Mapping[str, str], lane: Lane) -> Iterator[tuple[str, str, str]]:
    """Yield name, what `lane` needs and what is there instead, of what is known to differ."""
    for name, wanted in sorted(lane.env.items()):
        if name in env and env[name] != wanted:
            yield name, wanted, env[name]


def refusing(workers: Sequence[WorkerRecord], lanes: Sequence[Lane]) -> list[str]:
    """Return who of `workers` leaves `lanes` alone, and why."""
    return [
        f"worker {worker.id[:4]} on {worker.process.host}: {worker.refused[lane.id]}"
        for worker in workers
        for lane in lanes
        if lane.id in worker.refused
    ]


def _lacking_code(worker: WorkerRecord, lane: Lane) -> list[str]:
    if lane.id not in worker.refused:
        return []
    (refusal,) = refusing([worker], [lane])
    room = worker.refused[lane.id] == NO_ROOM
    what = "room for its data" if room else "the code that the search was made with"
    return [f"{what} ({refusal})"]


def _either(lacks: Sequence[str]) -> str:
    return ", or ".join(dict.fromkeys(lacks))
