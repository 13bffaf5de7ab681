"""What user code does to the process that scores it: contained, named, charged to nobody else.

Each fault is injected at least ten times, among units that have nothing to do with it.
"""

import re

import psutil
import pytest
from estimators import Misbehaver

#: Units that are poisoned, on two splits; what ends its process runs three times.
FATAL, HARMLESS = [-1, -2], [-1, -2, -3, -4, -5]
NEIGHBOURS = range(100, 120)


def inject(queue, worker, tmp_path, how, poison, *options):
    """Score neighbours and poisoned units; return (pid, value) of all runs, and the log."""
    note = tmp_path / "note"
    values = [value for pair in zip(poison, NEIGHBOURS, strict=False) for value in pair]
    values += list(NEIGHBOURS)[len(poison) :]
    estimator = Misbehaver(how=how, seconds=0.005, note=str(note))
    queue.submit(estimator, [{"value": value} for value in values])
    process = worker("--processes", "2", "--until-empty", *options)
    _, log = process.communicate(timeout=90)
    assert process.returncode == 0, log
    return [tuple(map(int, line.split()[:2])) for line in note.read_text().splitlines()], log


@pytest.mark.parametrize(
    ("how", "end"),
    [
        ("crash", "SIGSEGV"),
        ("die", "SIGKILL"),  # as the kernel does when there is no memory left
        ("abort", "SIGABRT"),
        ("quit", "exit code 7"),
        ("close_everything", "exit code 1"),  # what it has to say cannot be said
    ],
)
def test_faults_that_end_their_process_fail_one_unit(queue, worker, tmp_path, how, end):
    runs, log = inject(queue, worker, tmp_path, how, FATAL)
    assert queue.states() == {"dead": 4, "completed": 40}
    assert queue.field("losses", state="completed") == [0] * 40
    assert queue.field("losses", state="dead") == [3] * 4
    faults = [pid for pid, value in runs if value < 0]
    assert len(faults) == len(set(faults)) == 12
    named = re.findall(r"WARNING child (\d+) ended by (.+) while it ran unit (\S+)", log)
    assert sorted(int(pid) for pid, _, _ in named) == sorted(faults)
    assert {how for _, how, _ in named} == {end}
    assert {unit for _, _, unit in named} == set(queue.field("_id", state="dead"))
    assert not any(psutil.pid_exists(pid) for pid, _ in runs)


@pytest.mark.parametrize("how", ["exit", "print_much", "close_output", "fork", "fork_and_stay"])
def test_faults_that_spare_their_process_fail_one_unit(queue, worker, tmp_path, how):
    runs, log = inject(queue, worker, tmp_path, how, HARMLESS)
    assert len([pid for pid, value in runs if value < 0]) == 10
    assert queue.states() == (
        {"failed": 10, "completed": 40} if how == "exit" else {"completed": 50}
    )
    assert queue.field("runs") == [1] * 50
    assert set(queue.field("losses")) == {0}
    assert len(log) < 100_000
    assert ("left out" in log) == (how == "print_much")
    # What was forked in passing is gone with its worker too.
    assert not any(psutil.pid_exists(pid) for pid, _ in runs)
