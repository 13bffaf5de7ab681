"""What user code does to the process that scores it: contained, named, charged to nobody else.

Each fault is injected at least ten times, among units that have nothing to do with it.
"""

import re

import psutil
from misbehaving import Misbehaver

#: Units that are poisoned, on two splits; what ends its process runs three times.
FATAL, HARMLESS = [-1, -2], [-1, -2, -3, -4, -5]
NEIGHBOURS = range(100, 120)


#: What ends its process, and what is said of it.
ENDS = {
    "crash": "SIGSEGV",
    "die": "SIGKILL",  # as the kernel does when there is no memory left
    "abort": "SIGABRT",
    "quit": "exit code 7",
    "close_everything": "exit code 1",  # what it has to say cannot be said
}


def inject(queue, worker, tmp_path, ways, poison):
    """Score neighbours and poisoned units; return each way's units and runs, and the log.

    One worker meets one search of each way after another.  A run is its pid and its value.
    """
    values = [value for pair in zip(poison, NEIGHBOURS, strict=False) for value in pair]
    values += list(NEIGHBOURS)[len(poison) :]
    units = {}
    for how in ways:
        estimator = Misbehaver(how=how, seconds=0.005, note=str(tmp_path / how))
        search = queue.submit(estimator, [{"value": value} for value in values])
        units[how] = {"_id": {"$in": queue.field("_id", wanted_by=search)}}
    process = worker("--processes", "2", "--until-empty")
    _, log = process.communicate(timeout=180)
    assert process.returncode == 0, log
    runs = {how: [*map(run_of, (tmp_path / how).read_text().splitlines())] for how in ways}
    # What was forked in passing is gone with its worker too.
    assert not any(psutil.pid_exists(pid) for how in ways for pid, _ in runs[how])
    return units, runs, log


def run_of(line):
    return tuple(map(int, line.split()[:2]))


def test_what_ends_its_process_ends_nothing_else(queue, worker, tmp_path):
    units, runs, log = inject(queue, worker, tmp_path, ENDS, FATAL)
    named = re.findall(r"WARNING child (\d+) ended by (.+) while it ran unit (\S+)", log)
    for how, of_it in units.items():
        dead = set(queue.field("_id", state="dead", **of_it))
        assert queue.field("losses", state="completed", **of_it) == [0] * 40, how
        assert queue.field("losses", state="dead", **of_it) == [3] * 4, how
        faults = [pid for pid, value in runs[how] if value < 0]
        assert len(faults) == len(set(faults)) == 12, how
        said = [(int(pid), end) for pid, end, unit in named if unit in dead]
        assert sorted(said) == sorted((pid, ENDS[how]) for pid in faults)
        assert dead == {unit for pid, _, unit in named if int(pid) in faults}
    assert len(named) == 12 * len(ENDS)


def test_what_does_not_end_its_process_ends_nothing(queue, worker, tmp_path):
    ways = ["exit", "print_much", "close_output", "fork", "fork_and_stay"]
    units, runs, log = inject(queue, worker, tmp_path, ways, HARMLESS)
    for how, of_it in units.items():
        assert len([pid for pid, value in runs[how] if value < 0]) == 10, how
        failed = 10 if how == "exit" else 0
        assert queue.count(state="failed", **of_it) == failed, how
        assert queue.count(state="completed", **of_it) == 50 - failed, how
        assert queue.field("runs", **of_it) == [1] * 50, how
        assert set(queue.field("losses", **of_it)) == {0}, how
    assert len(log) < 100_000
    assert "left out" in log
