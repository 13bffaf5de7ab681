"""The parent of the children that score: claims, hands out, watches, hands in.

One thread runs everything here but the heart.  It never runs user code and never unpickles
what user code made, so nothing that a unit does can stop it.

::

    store --claim--> waiting --start--> a child's queue --begun--> running --done--> store
                        |                    |                       |
                        +------release-------+   taken away: killed  +-- the child died: crash

A unit is charged to its worker only once it is started, so only little is started ahead
(:mod:`optomatic.worker.pace`).  A unit that has ended its worker before runs while nothing
else is started, so that nothing else can be blamed for it.
"""

from __future__ import annotations

import logging
import os
import queue
import random
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Any

from optomatic.errors import BundleDamaged, StoreError
from optomatic.records import Failure, Result, Returned, Timing, WorkerRecord
from optomatic.store.opening import Store
from optomatic.worker.cache import Cache
from optomatic.worker.children import Child, Crew
from optomatic.worker.heart import Heart
from optomatic.worker.intake import POLL_ALARMED, POLL_LONG, Held, Intake, Lanes, Searches, any_lane
from optomatic.worker.messages import result_from_wire
from optomatic.worker.outbox import Outbox
from optomatic.worker.pace import Pace
from optomatic.worker.patience import Patience
from optomatic.worker.processes import cannot_start
from optomatic.worker.refusal import Choice, Refusal, other_code, refusal_from_wire
from optomatic.worker.returns import returned_from_wire
from optomatic.worker.turns import NO_TURNS, Turns
from optomatic.worker.warden import Warden

log = logging.getLogger(__name__)

#: A unit that was taken away may go on for so many seconds: most are over by then, and a
#: new child takes longer to start.
_MERCY = 0.25
#: So many children in a row that end before they can be used are a fault of the machine.
_FALSE_STARTS = 3
#: Seconds without work after which a worker says that it is idle.
_IDLE = 1.0
#: The search that is worked for has its turn at least so often, in seconds, if it wants any.
_TURN = 0.2
#: A store that is away when the grace is over is waited for so much longer, in seconds: what
#: cannot be handed in or given back is charged, or scored again.
_LATE = 5.0
#: The loop looks around at least so often, in seconds.
_LONGEST_WAIT = 10.0


@dataclass(frozen=True, slots=True)
class WorkSummary:
    """What a supervisor did: units scored, those of them with failures, children that crashed."""

    worker: str
    scored: int
    failed: int
    crashed: int


class Supervisor:
    """Has units scored by a crew of children.

    Parameters
    ----------
    store : Store
    crew : Crew
        Its children are left running at the end of :meth:`run`, unless they have work then.
    cache : Cache
    record : WorkerRecord
        Who claims.
    timing : Timing
    search : str or callable, optional
        Only units that this search waits for are claimed, or one of those whose ids it returns,
        in groups: what the first has is claimed before what the next has.
    most : int, optional
        It ends by itself once it has scored so many units.
    max_idle : float, optional
        It ends by itself after so many seconds without work.
    lanes : callable, optional
        Returns the lanes that may be claimed, asked before each claim; all if not given.
    lasting : bool
        Wait for a store that does not answer, for ever, instead of raising StoreError.
    on_ready : callable
        Called once, when the first child can score.
    on_done : callable
        Called with the ids of units whose results arrived.  What it raises ends :meth:`run`.
    turns : Turns
        What the search does meanwhile; called in the thread of :meth:`run`.
    clock, rng
        For tests.
    """

    def __init__(
        self,
        store: Store,
        crew: Crew,
        cache: Cache,
        record: WorkerRecord,
        timing: Timing,
        *,
        search: Searches = None,
        most: int | None = None,
        max_idle: float | None = None,
        lanes: Lanes = any_lane,
        lasting: bool = False,
        on_ready: Callable[[], None] = lambda: None,
        on_done: Callable[[Collection[str]], None] = lambda _: None,
        turns: Turns = NO_TURNS,
        clock: Callable[[], float] = time.monotonic,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._store = store
        self._crew = crew
        self._cache = cache
        self._record = record
        self._name = record.id[:4]
        self._on_ready: Callable[[], None] | None = on_ready
        self._on_done = on_done
        self._turns = turns
        self._turn_at = clock()
        self._arrived: list[str] = []
        self._lasting = lasting
        self._most = most
        self._max_idle = max_idle
        self._end_at: tuple[float, float] | None = None
        self._mood = ""
        self._clock = clock
        self._heart = Heart(
            *(store, record.id, timing),
            client_of=search if record.kind == "local" and isinstance(search, str) else None,
            lost=self._on_lost,
            clock=clock,
            rng=rng,
        )
        host = record.process.host
        stores = (store.jobs, store.bundles, store.workers)
        self._outbox = Outbox(*stores, record.id, host, self._heart, clock)
        self._pace = Pace()
        self._warden = Warden()
        self._choice = Choice(lanes, clock)
        self._intake = Intake(
            *(store.jobs, record.id, timing, self._pace),
            search=search,
            lanes=self._choice.lanes,
            clock=clock,
            rng=rng,
        )
        self._patience = Patience(lasting=lasting, clock=clock, rng=rng)
        self._taken: queue.SimpleQueue[frozenset[str]] = queue.SimpleQueue()
        self._lost: dict[str, float] = {}  # unit id -> when what still runs it is killed
        self._alarm = store.alarms.queued(self._ring) if lasting else None
        self._rung = False
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        self._deadline: float | None = None
        self._may_be_over = False
        self._false_starts = 0
        self._scored = self._failed = self._crashed = 0

    # -- life ------------------------------------------------------------------------------

    def run(self, until: Callable[[], bool]) -> WorkSummary:
        """Work until `until()`, which is asked whenever nothing is in hand, or until stopped.

        Raises
        ------
        StoreError
            Unless the supervisor is a lasting one.
        OptomaticError
            If children cannot be started.

        Notes
        -----
        Whatever ends it, KeyboardInterrupt included: children that run something are killed,
        results that are there are handed in, and everything else is given back uncharged.
        """
        try:
            self._store.workers.register(self._record)
            self._heart.start()
            while not self._over(until):
                self._turn()
        finally:
            try:
                self._give_back()
            finally:  # also at a second interrupt: a heart that goes on keeps units from others
                self._leave()
        return WorkSummary(self._record.id, self._scored, self._failed, self._crashed)

    def stop(self, grace: float) -> None:
        """Have :meth:`run` end: at once for what is not running, else after `grace` seconds.

        A lasting supervisor waits no longer for its store either.  May be called from a
        signal handler or another thread.
        """
        self._deadline = self._clock() + grace
        if self._lasting:
            self._store.hurry(grace + _LATE)
        self._wake()

    def end_in(self, seconds: float, grace: float) -> None:
        """Have :meth:`run` be over in `seconds`: :meth:`stop` comes `grace` seconds before."""
        grace = min(grace, max(0.0, seconds))
        self._end_at = (self._clock() + seconds - grace, grace)

    def idle_for(self) -> float | None:
        """Return for how many seconds there has been nothing to do, None if there is something."""
        since = self._intake.idle_since
        return None if since is None else self._clock() - since

    def _turn(self) -> None:
        self._heart.check()
        self._look_at_the_clock()
        self._rest_or_rise()
        if self._deadline is None:
            self._crew.fill()
            self._feed()
        self._hand_in()
        if self._turns is not NO_TURNS and self._deadline is None:
            self._take_turn()
        self._listen()
        self._stop_lost()
        self._tell()
        if self._deadline is not None:
            self._wind_down(self._deadline)

    def _take_turn(self) -> None:
        grace = self._turns.grace()
        if grace is not None:
            self.stop(grace)
        elif self._clock() >= self._turn_at and self._outbox.empty():
            self._turn_at = self._clock() + _TURN
            if self._turns.turn():
                self._intake.hurry()
            self._may_be_over = not self._intake.mine

    def _tell(self) -> None:
        """Tell of the results that arrived: not where they are read, as this may raise anything."""
        arrived, self._arrived = self._arrived, []
        if arrived:
            self._on_done(arrived)

    def _over(self, until: Callable[[], bool]) -> bool:
        if self._deadline is not None:
            return not self._busy() and not self._intake.waiting
        if self._intake.mine or not self._outbox.empty():
            return False
        if self._left() == 0:
            log.info("worker %s has scored as many units as it was to", self._name)
            return True
        if self._idle_left() == 0:
            return True
        if not self._may_be_over:
            return False
        # It may cost a round trip, so it is asked only when the answer may have changed.
        self._may_be_over = False
        try:
            return until()
        except StoreError as error:
            self._patience.failed(error)
            return False

    def _left(self) -> int | None:
        """Return how many units may still be claimed, None if there is no limit."""
        if self._most is None:
            return None
        return max(0, self._most - self._scored - len(self._intake.mine))

    def _idle_left(self) -> float | None:
        """Return the seconds for which it may still be idle, None if there is no limit."""
        idle = self.idle_for()
        return None if self._max_idle is None or idle is None else max(0.0, self._max_idle - idle)

    def _look_at_the_clock(self) -> None:
        if self._end_at is not None and self._clock() >= self._end_at[0]:
            grace = self._end_at[1]
            self._end_at = None
            log.info("worker %s is near its deadline, ending", self._name)
            self.stop(grace)

    def _ring(self) -> None:
        """Look at the queue soon, in the loop's own thread."""
        self._rung = True
        self._wake()

    def _rest_or_rise(self) -> None:
        """While nothing is to be done cost nothing, and have an alarm tell of what comes."""
        if self._alarm is None:
            return
        if self._rung:
            self._rung = False
            self._intake.hurry()
        calm = (self.idle_for() or 0.0) > _IDLE
        self._heart.calm = calm
        if calm:
            self._alarm.arm()
        else:
            self._alarm.disarm()
        # Disarmed it listens on for some seconds, but does not ring: who has a child to spare
        # beside a long unit has to look.
        rings = calm and self._alarm.listening
        self._intake.longest = POLL_ALARMED if rings else POLL_LONG

    def _is(self, mood: str) -> None:
        """Log that the worker is idle or at work now, if that is new."""
        if mood != self._mood:
            log.info("worker %s is %s, %d units scored so far", self._name, mood, self._scored)
            self._mood = mood

    def _busy(self) -> bool:
        return any(child.queue for child in self._crew.children)

    # -- store -> children -----------------------------------------------------------------

    def _feed(self) -> None:
        """Send started units to the children that have too little."""
        hungry = self._hungry()
        if not hungry or self._patience.time_left():
            return
        try:
            if not self._intake.waiting:
                self._claim(len(hungry))
            self._release(self._intake.stale())
            if self._intake.waiting:
                self._start(hungry)
        except StoreError as error:
            self._patience.failed(error)

    def _hungry(self) -> list[Child]:
        """Return the children to be fed, those with the least work first."""
        children = self._crew.children
        if any(child.queue and child.queue[0].job.losses for child in children):
            return []  # it runs alone
        if self._left() == 0 and not self._intake.waiting:
            return []
        hungry = [c for c in children if c.ready and self._pace.wants_more(len(c.queue))]
        return sorted(hungry, key=lambda child: len(child.queue))

    def _claim(self, hungry: int) -> None:
        children = len(self._crew.children)
        # What is on its way back to the store may be what is to be claimed next.
        busy = self._busy() or not self._outbox.empty()
        if self._intake.claim(children, hungry, busy=busy, most=self._left()):
            self._patience.answered()
            self._cache.let_go({sha for held in self._intake.mine.values() for sha in held.parts})
            self._may_be_over = not self._intake.waiting
            self._say_how_it_is()

    def _say_how_it_is(self) -> None:
        if any(not self._choice.is_trial(held.job.lane) for held in self._intake.waiting):
            self._is("at work")
        elif (self.idle_for() or 0.0) > _IDLE:
            self._is("idle")

    def _start(self, hungry: Sequence[Child]) -> None:
        """START what `hungry` get, in one call, and send what is still ours."""
        chunks = self._intake.deal([not child.queue for child in hungry])
        held = self._loadable([held for chunk in chunks for held in chunk])
        if not held:
            return
        began = self._clock()
        try:
            ours = self._store.jobs.start(held[0].token, [one.job.id for one in held])
        except StoreError:
            # Started or not, nobody is charged for what was not sent to a child: it is renewed,
            # in case it was started, until the store has it back.
            self._heart.hold(held[0].token, [one.job.id for one in held])
            self._release(held)
            raise
        self._pace.note_start(self._clock() - began)
        calls = any(one.job.kind == "call" for one in held)
        self._heart.hold(held[0].token, ours, brisk=calls)
        for child, chunk in zip(hungry, chunks, strict=True):
            self._send(child, [one for one in chunk if one.job.id in ours])
        for one in held:
            if one.job.id not in ours:  # its short lease ran out, and someone else has it
                self._intake.settle(one)

    def _send(self, child: Child, chunk: Sequence[Held]) -> None:
        if chunk:
            child.queue.extend(chunk)
            child.send(self._message(chunk))

    def _loadable(self, chunk: Sequence[Held]) -> list[Held]:
        """Get the parts of `chunk` onto this machine; fail the units whose parts are damaged."""
        here: set[str] = set()
        good = []
        try:
            for held in chunk:
                if self._fetch(held, here):
                    good.append(held)
        except StoreError:
            self._release(held for held in chunk if held.job.id in self._intake.mine)
            raise
        return good

    def _fetch(self, held: Held, here: set[str]) -> bool:
        try:
            for sha in set(held.parts) - here:
                self._cache.get(sha, self._store.bundles.fetch)
                here.add(sha)
        except BundleDamaged as error:
            self._done(held, _unloadable(held, error))
            return False
        return True

    def _message(self, chunk: Sequence[Held]) -> dict[str, Any]:
        job = chunk[0].job
        if job.kind == "call":  # it comes alone, as calls are never measured
            call = {"id": job.id, "text": job.params_text}
            common = {"spec": dict(job.spec), "options": dict(job.options)}
            folder = str(self._cache.root)
            return {"do": "call", **call, **common, "parts": self._parts(chunk), "folder": folder}
        works = list({held.work: held.job for held in chunk}.items())
        number = {work: n for n, (work, _) in enumerate(works)}
        bundles = [
            {"key": work, "spec": dict(job.spec), "options": dict(job.options)}
            for work, job in works
        ]
        units = [
            [held.job.id, held.job.split, held.job.params_text, number[held.work]] for held in chunk
        ]
        return {"do": "score", "units": units, "bundles": bundles, "parts": self._parts(chunk)}

    def _parts(self, chunk: Sequence[Held]) -> dict[str, list[str]]:
        """Return kind and path of all that `chunk` needs, by hash."""
        parts = {}
        for sha in {sha for held in chunk for sha in held.parts}:
            kind, path = self._cache.get(sha, self._store.bundles.fetch)
            parts[sha] = [kind, str(path)]
        return parts

    # -- children -> store -----------------------------------------------------------------

    def _listen(self) -> None:
        """Wait until a child says something or dies, or until something else is due."""
        children = self._crew.children
        time_left = self._time_left()
        calm = min(time_left, self._pace.calm([len(child.queue) for child in children]))
        if calm > 0:
            wait([*(child.death for child in children if child.death), self._wake_read], calm)
            time_left = 0.0
        owners = {item: child for child in children for item in child.waitables()}
        ready = wait([*owners, self._wake_read], time_left)
        if self._wake_read in ready:
            os.read(self._wake_read, 4096)
        for child in {owners[item] for item in ready if item in owners}:
            self._hear(child)

    def _time_left(self) -> float:
        """Return the seconds after which the loop has to look around."""
        due = [_LONGEST_WAIT]
        patience = self._patience.time_left()
        flush = self._outbox.due_in()
        if flush is not None:
            due.append(max(flush, patience))
        due.extend([] if (left := self._idle_left()) is None else [left])
        if self._end_at is not None:
            due.append(self._end_at[0] - self._clock())
        if self._deadline is not None:
            due.append(self._deadline - self._clock())
        elif self._hungry():
            due.append(max(self._intake.time_left(), patience))
        if self._may_be_over and not self._intake.mine:
            due.append(patience)
        due.extend(at - self._clock() for at in self._lost.values())
        if self._turns is not NO_TURNS and self._deadline is None and self._outbox.empty():
            due.append(self._turn_at - self._clock())
        return max(0.0, min(due))

    def _hear(self, child: Child) -> None:
        alive = child.alive()  # asked first: what a dead child said last is to be read
        try:
            for done, begun in child.channel.receive():
                self._note(child, done, begun)
        except EOFError:
            alive = False
        except (ValueError, TypeError, LookupError) as error:
            log.error("child %d sent what it should not (%r)", child.pid, error)
            alive = False
        if not alive:
            self._bury(child)

    def _note(self, child: Child, done: list[Any] | None, begun: str | None) -> None:
        if done is None and begun is None:
            self._ready(child)
        if done is not None:
            held = _expect(child, done[0])
            if done[1] is None:
                self._refuse(child, held, refusal_from_wire(done[2]))
                return
            if self._choice.take_up(held.job.lane):
                self._outbox.acceptance(held.job.lane)
            self._done(held, self._result(held, done[1], done[2]))
            child.queue.popleft()
            child.running = None
            self._warden.forget(child)
        if begun is not None:
            child.running = _expect(child, begun)
            self._warden.begins(child, child.running)

    def _refuse(self, child: Child, held: Held, refusal: Refusal) -> None:
        """Take note that `child` refuses what it has, and ends: nobody is charged for it."""
        child.stopped, child.running = refusal.why, None
        self._warden.forget(child)
        lane, children = held.job.lane, [other.pid for other in self._crew.children]
        child.expected = self._choice.is_trial(lane)
        if not self._choice.is_final(lane, refusal, child.pid, children):
            return
        if self._choice.free:
            self._intake.refused(lane)
            if self._choice.leave_alone(lane, self._name, refusal.why):
                self._outbox.refusal(lane, refusal.why)
        elif refusal.failure is None:
            raise other_code(refusal)
        else:
            child.queue.popleft()
            self._done(held, _without_scores(refusal.failure))

    def _result(self, held: Held, wire: Any, seconds: float) -> Result | Returned:
        if held.job.kind == "call":
            self._pace.note_call()
            return returned_from_wire(wire, held.job.id, self._cache.root)
        self._pace.note(held.work, seconds)
        return result_from_wire(wire)

    def _ready(self, child: Child) -> None:
        child.ready = True
        self._false_starts = 0
        if self._on_ready is not None:
            self._on_ready()
        self._on_ready = None

    def _done(self, held: Held, result: Result | Returned) -> None:
        self._outbox.result(held.token, held.job.id, result)
        self._arrived.append(held.job.id)
        self._intake.worked()
        self._scored += 1
        self._failed += bool(result.failures)
        self._settle(held)

    def _release(self, chunk: Iterable[Held], begun: Held | None = None) -> None:
        """Give back `chunk`; of it only `begun` has run, for a while."""
        ran = () if begun is None else (begun.job.id,)
        by_token: dict[str, list[str]] = {}
        for held in list(chunk):
            by_token.setdefault(held.token, []).append(held.job.id)
            self._settle(held)
        for token, ids in by_token.items():
            self._outbox.release(token, ids, ran)

    def _settle(self, held: Held) -> None:
        self._intake.settle(held)
        self._lost.pop(held.job.id, None)
        self._may_be_over = not self._intake.mine

    def _bury(self, child: Child) -> None:
        """Account for what a dead child had, and note whose fault its end was."""
        self._warden.forget(child)
        how = self._crew.remove(child)
        rest = list(child.queue)
        child.queue.clear()
        if _passed_a_limit(child):
            self._limited(child, rest.pop(0))
        elif child.stopped is not None:
            level = logging.DEBUG if child.expected else logging.INFO
            log.log(level, "child %d was killed: %s", child.pid, child.stopped)
        elif child.running is not None:
            self._crash(child, rest.pop(0), how)
        elif not child.ready:
            self._false_start(how)
        self._release(rest, child.running)

    def _limited(self, child: Child, held: Held) -> None:
        """Hand in that a unit has failed by passing a limit: nobody is charged for it."""
        assert child.passed is not None
        self._done(held, _without_scores(child.passed[1]))
        child.running = None

    def _crash(self, child: Child, held: Held, how: str) -> None:
        self._crashed += 1
        log.warning("child %d ended by %s while it ran unit %s", child.pid, how, held.job.id)
        self._outbox.crash(held.token, held.job.id, how)
        self._settle(held)

    def _false_start(self, how: str) -> None:
        self._false_starts += 1
        if self._false_starts >= _FALSE_STARTS:
            raise cannot_start(how)

    def _hand_in(self) -> None:
        """Flush the outbox when it is time, or when there is nothing else to do."""
        due = self._outbox.due_in()
        if due is None or self._patience.time_left() or (due > 0 and self._busy()):
            return
        try:
            self._outbox.flush()
            self._patience.answered()
            self._turn_at = self._clock()
        except StoreError as error:
            self._patience.failed(error)

    # -- what others took, and the end -----------------------------------------------------

    def _on_lost(self, ids: frozenset[str]) -> None:
        """Take note, in the heart's thread, of units that are not ours any more."""
        self._taken.put(ids)
        self._wake()

    def _wake(self) -> None:
        try:
            os.write(self._wake_write, b"\0")
        except OSError:  # full: it wakes up anyway; -1: it is over
            return

    def _stop_lost(self) -> None:
        """Kill the children that run what was taken away, after a moment."""
        now = self._clock()
        while not self._taken.empty():
            mine = [i for i in self._taken.get() if i in self._intake.mine]
            self._lost.update(dict.fromkeys(mine, now + _MERCY))
        for child in self._crew.children if self._lost else ():
            running = child.running.job.id if child.running else None
            if running in self._lost and self._lost[running] <= now:
                child.kill("its unit was taken away")
        # What is still queued behind another unit is looked at again a little later.
        self._lost = {i: at if at > now else now + _MERCY for i, at in self._lost.items()}

    def _wind_down(self, deadline: float) -> None:
        """Keep only what runs, and that only until `deadline`."""
        self._release(self._intake.waiting)
        self._intake.waiting.clear()
        for child in self._crew.children:
            child.last = child.last or child.running
            runs_last = child.running is not None and child.running is child.last
            if child.queue and (not runs_last or self._clock() >= deadline):
                child.kill("the worker ends")

    def _give_back(self) -> None:
        """Leave nothing in hand."""
        for child in [child for child in self._crew.children if child.queue]:
            child.kill("its work is over")
            self._hear(child)
            if child in self._crew.children:
                self._bury(child)
        self._release(self._intake.mine.values())
        self._intake.waiting.clear()
        # Also if the store is away, as it may just be back: what it does not get is lost to it.
        self._outbox.try_flush()

    def _leave(self) -> None:
        self._warden.stop()
        if self._alarm is not None:
            self._alarm.stop()
        self._heart.stop()
        # Whoever comes late must not write into what gets these numbers next.
        ends, self._wake_write = (self._wake_write, self._wake_read), -1
        for end in ends:
            os.close(end)
        if self._patience.well:
            try:
                self._store.workers.leave(self._record.id)
            except StoreError as error:
                log.info("worker %s could not sign off: %s", self._record.id, error)


def _expect(child: Child, unit_id: str) -> Held:
    """Return the first unit in the queue of `child`, which must be `unit_id`."""
    held = child.queue[0]
    if held.job.id != unit_id:
        raise ValueError(f"it speaks of {unit_id!r}, but has {held.job.id!r}")
    return held


def _passed_a_limit(child: Child) -> bool:
    """Tell whether what `child` ran when it ended is what it was killed for."""
    running = child.running.job.id if child.running else None
    return child.passed is not None and child.passed[0] == running


def _unloadable(held: Held, error: BundleDamaged) -> Result | Returned:
    kind = type(error)
    failure = Failure("load", f"{kind.__module__}.{kind.__qualname__}", str(error), "")
    return Returned(failures=(failure,)) if held.job.kind == "call" else _without_scores(failure)


def _without_scores(failure: Failure) -> Result:
    return Result(None, None, 0.0, 0.0, 0, (failure,))
