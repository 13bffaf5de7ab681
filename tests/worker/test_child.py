"""The process that scores: what it is given, what it survives, and when it ends."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
from estimators import Misbehaver, Sleeper, Unloadable, own_score
from waiting import wait_for

from optomatic.planning.payload import Sender
from optomatic.planning.planner import pack
from optomatic.planning.serialization import dump
from optomatic.planning.workload import pack_splits
from optomatic.worker.forkserver import THREAD_VARIABLES, Setup, child_environment
from optomatic.worker.pool import current_path, start_child, threads_each
from optomatic.worker.protocol import result_from_wire

TESTS = Path(__file__).parents[1]
X, Y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2
SPLITS = [(np.arange(10), np.arange(10, 20)), (np.arange(10, 20), np.arange(10))]


@pytest.fixture(params=["forked", "fresh"])
def start(request):
    """Start children, from a template or as interpreters of their own."""
    started = []

    def start(**setup):
        child = start_child(Setup(current_path(), fresh=request.param == "fresh", **setup))
        started.append(child)
        return child

    yield start
    for child in started:
        child.kill("the test is over")
        child.reap()


@pytest.fixture
def store_parts(tmp_path):
    """Write the parts of a bundle to disk; return the message that has `units` of it scored."""

    def message(estimator, units, *, X=X, **options):
        sender = Sender({"estimator": estimator, "X": X, "y": Y, "scorer": own_score})
        encoded, _, refusal = pack(units, sender)
        assert refusal is None
        splits = dump(pack_splits(SPLITS))
        spec, parts = {**sender.spec, "splits": splits.sha}, {}
        for part in (splits, *sender.parts.values()):
            path = tmp_path / f"{part.sha}.{part.kind}"
            path.write_bytes(b"".join(part.buffers))
            parts[part.sha] = [part.kind, str(path)]
        texts = [candidate.text for candidate in encoded]
        return {
            "do": "score",
            "units": [[f"unit {n}", n % 2, text, 0] for n, text in enumerate(texts)],
            "bundles": [
                {
                    "key": "k",
                    "kind": "score",
                    "spec": spec,
                    "options": {"return_train_score": True, **options},
                }
            ],
            "parts": parts,
            "folder": str(tmp_path),
            "cache_size": 10**9,
            "warnings": None,
        }

    return message


def answers(child, n):
    """Return the next `n` things that `child` says."""
    return [child.channel.next(60.0) for _ in range(n)]


def results(child, n):
    """Return the results of the next `n` units, from [null, null] on."""
    said = answers(child, n + 2)
    assert said[0] == [None, None]
    assert said[1][0] is None
    assert [begun for _, begun in said[1:]] == [f"unit {i}" for i in range(n)] + [None]
    assert [done[0] for done, _ in said[2:]] == [f"unit {i}" for i in range(n)]
    return [result_from_wire(done[1]) for done, _ in said[2:]]


def test_units_are_scored_in_order_each_announced_before_it_runs(start, store_parts):
    child = start()
    child.send(store_parts(Sleeper(), [{"value": 1}, {"value": 0.1}, {"value": float("nan")}]))
    found = results(child, 3)
    assert [found[0].test, found[1].test] == [1.0, 0.1]
    assert np.isnan(found[2].test)
    assert (found[0].train, found[0].n_test, found[0].failures) == (1.0, 10, ())


def test_it_gets_neither_addresses_nor_keys(start, store_parts, monkeypatch, tmp_path):
    monkeypatch.setenv("OPTOMATIC_DB", "mongodb://ann:secret@host/db")
    monkeypatch.setenv("OPTOMATIC_KEY_FILE", "/somewhere")
    monkeypatch.setenv("PYTHONPATH", "/mine")
    child = start()
    note = tmp_path / "said"
    child.send(store_parts(Misbehaver(how="tell", note=str(note)), [{"value": 13}]))
    assert results(child, 1)[0].test == 13.0
    said = json.loads(note.read_text())
    assert not [name for name in said["environment"] if name.startswith("OPTOMATIC_")]
    assert "secret" not in json.dumps(said["environment"])
    assert "secret" not in " ".join(psutil.Process(child.pid).cmdline())
    assert said["environment"]["PYTHONPATH"] == "/mine"
    assert "pymongo" not in said["modules"]
    assert said["path"] == list(current_path())
    assert said["interrupt"] == "1"  # SIG_IGN


def test_output_and_closed_descriptors_of_user_code_do_not_disturb(start, store_parts):
    child = start()
    child.send(store_parts(Misbehaver(how="print"), [{"value": 13}, {"value": 2}]))
    assert [result.test for result in results(child, 2)] == [13.0, 2.0]


def test_an_exit_of_the_estimator_is_a_failure_not_an_end(start, store_parts):
    child = start()
    child.send(store_parts(Misbehaver(how="exit"), [{"value": 13}, {"value": 2}]))
    first, second = results(child, 2)
    assert first.failures[0].type == "builtins.SystemExit"
    assert second.test == 2.0


def test_a_payload_that_cannot_be_loaded_fails_its_units(start, store_parts):
    child = start()
    child.send(store_parts(Unloadable(), [{"value": 1}]))
    (failure,) = results(child, 1)[0].failures
    assert (failure.stage, failure.type) == ("load", "builtins.ImportError")
    assert "a module that is not here" in failure.text
    assert "_refuse" in failure.traceback


def test_a_damaged_part_is_not_loaded(start, store_parts):
    child = start()
    message = store_parts(Sleeper(), [{"value": 1}])
    path = Path(message["parts"][message["bundles"][0]["spec"]["X"]][1])
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    child.send(message)
    (failure,) = results(child, 1)[0].failures
    assert (failure.stage, failure.type) == ("load", "optomatic.errors.BundleDamaged")


@pytest.mark.parametrize(
    ("how", "end"), [("crash", "SIGSEGV"), ("die", "SIGKILL"), ("quit", "exit code 7")]
)
def test_its_end_is_told_apart_and_names_the_unit_that_ran(start, store_parts, how, end):
    child = start()
    child.send(store_parts(Misbehaver(how=how), [{"value": 1}, {"value": 13}, {"value": 2}]))
    said = answers(child, 3)
    assert said[2][0][0] == "unit 0"
    assert said[2][1] == "unit 1"
    with pytest.raises(EOFError):
        child.channel.next(60.0)
    assert child.reap() == end
    assert child.stopped is None


def test_it_ignores_interrupts_and_ends_when_asked(start, store_parts):
    child = start()
    assert answers(child, 1) == [[None, None]]
    os.kill(child.pid, signal.SIGINT)
    child.send(store_parts(Sleeper(), [{"value": 1}]))
    assert len(answers(child, 2)) == 2
    child.send({"do": "end"})
    child.wait(120)
    assert child.reap() == "exit code 0"


def test_without_work_it_ends_by_itself(start):
    child = start(idle=0.1)
    child.wait(120)
    assert child.reap() == "exit code 0"


def test_it_ends_when_its_parent_closes_the_channel(start, store_parts):
    child = start()
    child.send(store_parts(Misbehaver(how="hang"), [{"value": 13}]))
    assert len(answers(child, 2)) == 2
    child.channel.close()
    child.wait(120)
    assert not child.alive()


PARENT = """
import json, sys, time
from optomatic.worker.pool import current_path, start_child
from optomatic.worker.forkserver import Setup
child = start_child(Setup(current_path()))
child.send(json.load(sys.stdin))
while child.channel.next(60.0)[1] is None:
    pass
print(child.pid, flush=True)
time.sleep(1000)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux's kernel ends children")
@pytest.mark.parametrize("how", ["hold", "hang", "close_all"])
def test_it_dies_with_its_parent_whatever_it_does(store_parts, how):
    message = store_parts(Misbehaver(how=how), [{"value": 13}])
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(current_path())},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with parent:
        parent.stdin.write(json.dumps(message).encode())
        parent.stdin.close()
        pid = int(parent.stdout.readline())
        assert psutil.pid_exists(pid)
        parent.kill()
    wait_for(lambda: not _runs(pid))


def _runs(pid):
    """Tell whether `pid` runs; what died but was not waited for does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_processes_of_a_unit_are_killed_with_it(start, store_parts, tmp_path):
    child = start()
    note = tmp_path / "pid"
    estimator = Misbehaver(how="start_another", note=str(note))
    child.send(store_parts(estimator, [{"value": 13}]))
    wait_for(lambda: note.exists() and note.read_text().strip())
    pid = int(note.read_text())
    assert _runs(pid)
    child.kill("the test says so")
    child.reap()
    wait_for(lambda: not _runs(pid))


def test_threads_are_shared_out_unless_the_user_has_said_so():
    assert threads_each(1, cores=8) is None
    assert threads_each(3, cores=8) == 2
    assert threads_each(8, cores=2) == 1
    asked = child_environment({"OMP_NUM_THREADS": "5"}, Setup((), threads=2))
    assert asked.pop("OMP_NUM_THREADS") == "5"
    assert {asked[name] for name in THREAD_VARIABLES if name in asked} == {"2"}
    assert not set(THREAD_VARIABLES) & set(child_environment({}, Setup(())))


def test_children_run_asserts_only_if_their_parent_does():
    script = (
        "import sys; from optomatic.worker.forkserver import python_command;"
        "print([a for a in python_command('module', 3) if a.startswith('-O')])"
    )
    for flags in ([], ["-O"], ["-OO"]):
        command = [sys.executable, *flags, "-c", script]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert said.strip() == str(flags)
