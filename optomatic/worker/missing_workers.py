"""Tags and versions that workers lack, warnings for clients that wait, and the start command."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_address

from optomatic import _config
from optomatic._uri import WITHHELD, hosts_and_database
from optomatic.errors import NoProgress, NoWorkers, WorkersRefuse, warn
from optomatic.keys.environment import requirement
from optomatic.records import Queue, WorkerRecord
from optomatic.store.connection import Store, private_home

#: Why a worker without room for the data leaves a queue alone.
NO_ROOM = "the disk of its cache is full"


def missing_in(workers: Sequence[WorkerRecord], queues: Sequence[Queue]) -> str | None:
    """Return why none of `workers`, which are alive, can serve one of `queues`; None if one can.

    In `queues` something is queued.  A worker counts as able while nothing else is known: it
    registers the versions that every unit depends on, and those that queues asked for while it was
    idle.
    """
    if not queues:  # nothing is queued: somebody works on all of it
        return None
    if not workers:
        return "none has been seen"
    lacks = [lack for worker in workers for queue in queues if (lack := lacking(worker, queue))]
    if len(lacks) < len(workers) * len(queues):
        return None
    count = f"the {len(workers)} that are there" if len(workers) > 1 else "the one that is there"
    return f"{count} cannot score them: needed is {', or '.join(dict.fromkeys(lacks))}"


def lacking(worker: WorkerRecord, queue: Queue) -> str:
    """Return what `worker` lacks for `queue`, empty if nothing is known."""
    versions = [
        f"{name} {wanted} (it has {has or 'none'})"
        for name, wanted, has in _other_versions(worker.env, queue)
    ]
    tags = [f"--tag {tag}" for tag in queue.requires if tag not in worker.tags]
    code = []
    if refusals := refusing([worker], [queue]):
        room = worker.refused[queue.id] == NO_ROOM
        what = "room for its data" if room else "the code that the search was made with"
        code = [f"{what} ({refusals[0]})"]
    return " and ".join([*versions, *tags, *code])


def needs(env: Mapping[str, str], tags: Collection[str], queue: Queue) -> str:
    """Return what a worker lacks for `queue`, in its own words; empty if nothing is known.

    >>> needs({"numpy": "2.3"}, (), Queue("", {"numpy": "2.4"}, ("gpu",)))
    'needs numpy 2.4, this is 2.3, and --tag gpu'
    """
    lacks = [
        f"{name} {wanted}, {f'this is {has}' if has else 'which is not installed here'}"
        for name, wanted, has in _other_versions(env, queue)
    ]
    lacks += [f"--tag {tag}" for tag in queue.requires if tag not in tags]
    return f"needs {', and '.join(lacks)}" if lacks else ""


def installs(workers: Sequence[WorkerRecord], queues: Sequence[Queue]) -> str:
    """Return what would give `workers` the versions that `queues` need, empty if nothing would."""
    other = {
        (name, wanted): requirement(name, wanted)
        for worker in workers
        for queue in queues
        for name, wanted, _ in _other_versions(worker.env, queue)
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


def _other_versions(env: Mapping[str, str], queue: Queue) -> Iterator[tuple[str, str, str]]:
    """Yield name, what `queue` needs and what is there instead, of what is known to differ."""
    for name, wanted in sorted(queue.env.items()):
        if name in env and env[name] != wanted:
            yield name, wanted, env[name]


def refusing(workers: Sequence[WorkerRecord], queues: Sequence[Queue]) -> list[str]:
    """Return which of `workers` leave `queues` alone, and why."""
    return [
        f"worker {worker.id[:4]} on {worker.process.host}: {worker.refused[queue.id]}"
        for worker in workers
        for queue in queues
        if queue.id in worker.refused
    ]


def start_command(
    uri: str, requires: Iterable[str] = (), environ: Mapping[str, str] = os.environ
) -> str:
    """Return the command that starts a worker on a store, for bash and zsh.

    `uri` has no credentials, `requires` are tags, `environ` is that of the waiting process.
    """
    tags = [
        f"--tag{'=' if tag.startswith('-') else ' '}{shlex.quote(tag)}"
        for tag in sorted(set(requires))
    ]
    words = [*_home(uri, environ), "optomatic worker", *_db(uri, environ), *tags]
    return " ".join(words)


def start_advice(
    uri: str, requires: Iterable[str] = (), environ: Mapping[str, str] = os.environ
) -> str:
    """Return where a worker can be started, and the command on its own line."""
    command = start_command(uri, requires, environ)
    said = f"{_where(uri)} with:\n\n    {command}\n\n"
    if WITHHELD in uri:
        said += f"where {_config.DB} holds the whole address ({uri}). "
    return said


def _home(uri: str, environ: Mapping[str, str]) -> list[str]:
    """Return the assignment that leads to the private server, if it is not the default one."""
    home = private_home(uri)
    if home is None or _config.setting(_config.DB, environ) is not None:
        return []
    from optomatic.embedded.server import default_home

    # Neither variable of this process is known to be set where the command is pasted.
    default = os.path.realpath(default_home({}))
    return [] if str(home) == default else [f"{_config.HOME}={shlex.quote(str(home))}"]


def _db(uri: str, environ: Mapping[str, str]) -> list[str]:
    if WITHHELD in uri:
        return [f'--db "${_config.DB}"']
    # Where the variable names another database, a worker without --db would go there.
    if private_home(uri) is not None and _config.setting(_config.DB, environ) is None:
        return []
    return [f"--db {shlex.quote(uri)}"]


def _where(uri: str) -> str:
    if private_home(uri) is not None:
        return "as this user on this machine, as nobody else can reach the private server,"
    hosts, _ = hosts_and_database(uri)
    if all(_is_here(host) for host in hosts):
        return "on this machine"
    return "on any machine that reaches the database"


def _is_here(host: str) -> bool:
    """Return whether a host is this machine for every client: a loopback address or a socket."""
    name = host.rpartition(":")[0].strip("[]") or host
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return name == "localhost" or "%2F" in host


#: A warning comes after so many seconds in which no worker held a lease of the search.
LONELY_SECONDS = 10.0
#: Seconds between two looks at leases.
_LOOK_SECONDS = 1.0


_UPDATE = (
    "Update the code there, install what cannot be imported, or free its disk: the worker looks "
    "again every minute."
)


class Availability:
    """Looks now and then whether workers score the units of `searches`; warns of each fact once.

    `standalone` says that all units are left to standalone workers.  While ``silent()`` there
    are no warnings.  ``restore()`` is called now and then to store again what workers need.
    """

    def __init__(
        self,
        store: Store,
        searches: Sequence[str],
        clock: Callable[[], float],
        *,
        standalone: bool = True,
        silent: Callable[[], bool] = lambda: False,
        restore: Callable[[], None] = lambda: None,
    ) -> None:
        self._store, self._searches = store, searches
        self._clock, self._standalone = clock, standalone
        self._silent, self._restore = silent, restore
        self._since = self._ask_at = self._restore_at = clock()
        self._look_at = self._since + _LOOK_SECONDS
        self._pulse: object = None
        self._said: set[str] = set()
        #: Units that wait for another version of this program, beside those that are queued.
        self.foreign: Iterable[str] = ()

    def look(self) -> None:
        """Warn of news since the last look; costs nothing when called again soon.

        NoWorkers: no worker that could score the units is there.  WorkersRefuse: some workers leave
        them alone, as they have other code, or no room for the data.  NoProgress: no worker has
        scored any for 10 s, for another reason.  Records that cannot be read are set aside.
        """
        now = self._clock()
        if now < self._look_at:
            return
        self._look_at = now + _LOOK_SECONDS
        if now >= self._restore_at + LONELY_SECONDS:
            self._restore_at = now
            self._restore()
            if self._standalone and not self._silent():
                # Of workers that leave units alone which others work on.
                queues, alive = self._queues_and_workers(self._queued())
                refusals = refusing(alive, queues)
                if refusals and missing_in(alive, queues) is None:
                    self._some_refuse(refusals)
        pulse = self._store.jobs.pulse(self._searches)
        if pulse is None or pulse != self._pulse:
            self._since = now if pulse is None or self._pulse is not None else self._since
            self._pulse = pulse
            return
        if now < max(self._since, self._ask_at) + LONELY_SECONDS or self._silent():
            return
        self._ask_at = now
        self._ask(now - self._since)

    def _queued(self) -> list[str]:
        """Return the queues in which something is queued."""
        queues = (queue for one in self._searches for queue in self._store.jobs.queues_of(one))
        return list(dict.fromkeys(queues))

    def _queues_and_workers(self, queued: Sequence[str]) -> tuple[list[Queue], list[WorkerRecord]]:
        """Return the records of these queues, and the workers that are alive."""
        # One that lives and has nothing to do is seen each half a lease.
        alive = self._store.workers.alive(self._store.timing.lease)
        return self._store.workers.queues(queued), alive

    def _ask(self, waited: float) -> None:
        """Find out why no worker scores the units, and warn."""
        jobs = self._store.jobs
        jobs.check(self._searches)
        jobs.notify(self._searches)
        foreign = {*jobs.foreign([*self.foreign]), *jobs.foreign_for(self._searches)}
        if foreign:
            self._say(
                "foreign",
                f"For {waited:.0f} s this search has waited for {len(foreign)} of its units that "
                "another version of optomatic has queued, in a form which this one does not know. "
                "They were left as they are. Wait for workers of that version, or use another "
                "database (db=).",
                NoProgress,
            )
        if queued := self._queued():
            self._ask_workers(waited, queued)

    def _ask_workers(self, waited: float, queued: Sequence[str]) -> None:
        queues, alive = self._queues_and_workers(queued)
        refusals = refusing(alive, queues)
        why = missing_in(alive, queues) if self._standalone else None
        if why is not None:
            self._nobody_can(waited, why, refusals, queues, alive)
        elif refusals:
            self._some_refuse(refusals)
        elif len(queues) < len(queued):
            self._say(
                "lost",
                f"Units have been queued for {waited:.0f} s, and what they ask of workers is not "
                "in the database, so none can take them. Fit again where their data are: that is "
                "then stored anew, and stored scores are reused.",
                NoProgress,
            )
        else:
            able = [w for w in alive if not all(lacking(w, queue) for queue in queues)]
            count = f"{len(able)} worker{'s' if len(able) != 1 else ''}"
            who = count if self._standalone else "the workers of this process"
            self._say(
                "slow",
                f"Nobody has worked on the units of this search for {waited:.0f} s. They are "
                f"queued, and {who} can take them, but may be busy with others, still be starting, "
                "or have ended. Look at their logs; more workers can be started at any time.",
                NoProgress,
            )

    def _nobody_can(
        self,
        waited: float,
        why: str,
        refusals: Sequence[str],
        queues: Sequence[Queue],
        alive: Sequence[WorkerRecord],
    ) -> None:
        start = f"{_UPDATE} Or start" if refusals else "Start"
        tags = {tag for queue in queues for tag in queue.requires}
        versions = installs(alive, queues)
        self._say(
            "nobody",
            f"This search leaves all units to standalone workers, and for {waited:.0f} s {why}. "
            f"The units stay queued. {start} one {start_advice(self._store.shown_uri, tags)}"
            + (f"For a worker that can score them {versions} first." if versions else ""),
            NoWorkers,
        )

    def _some_refuse(self, refusals: Sequence[str]) -> None:
        self._say(
            "refusals",
            "Some workers have other code than this search was made with, or no room for its data: "
            f"{'; '.join(refusals)}. They score nothing for it, and others go on. {_UPDATE}",
            WorkersRefuse,
        )

    def _say(self, what: str, text: str, category: type[Warning]) -> None:
        if what not in self._said:
            self._said.add(what)
            warn(text.rstrip(), category)
