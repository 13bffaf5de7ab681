"""The soak of benchmarks/: for one round of it, and whether it sees what it looks for."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pymongo import MongoClient
from waiting import wait_for

from benchmarks.soaking import notes, verdict
from benchmarks.soaking.janitor import marked
from benchmarks.soaking.reading import Reader

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "soak.py"
SOAK = [sys.executable, str(SCRIPT), "--topology", "standalone", "--seed", "1"]


def test_kills_and_freezes_lose_and_change_no_result(mongod):
    ended = subprocess.run([*SOAK, "--minutes", "0.1"], capture_output=True, text=True, timeout=280)
    rows = re.findall(r"^(\S.*?) +([\d,]+)$", ended.stdout, re.M)
    counts = {name: int(n.replace(",", "")) for name, n in rows}
    assert ended.returncode == 0, ended.stdout + ended.stderr
    done = [n for name, n in counts.items() if name.endswith(("killed", "frozen", "told to end"))]
    assert len(done) == 8
    assert all(done)
    assert counts["scores acknowledged to workers"] > 0
    assert counts["acknowledged and lost"] == counts["recorded twice"] == counts["hangs"] == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_of_a_soak_that_is_ended(mongod, number, tmp_path):
    environ = {**os.environ, "TMPDIR": str(tmp_path)}
    soak = subprocess.Popen([*SOAK, "--minutes", "5"], env=environ, stderr=subprocess.DEVNULL)
    wait_for(lambda: any(tmp_path.glob("soak-*/acknowledged.*")), soak, seconds=120)
    (folder,) = tmp_path.glob("soak-*")
    assert marked(folder.name)
    soak.send_signal(number)
    soak.wait(120)
    wait_for(lambda: not marked(folder.name) and not folder.exists(), seconds=60)


def _unit(worker, score):
    spec, result = {"split": 0}, {"test": [["r2", score]], "train": None}
    more = {"params": {"alpha": 1.5}, "completed_at": time.time(), "runs": 1, "losses": 0}
    state = {"kind": "score", "state": "completed", "completed_by": worker}
    return {"spec": spec, "result": result, **state, **more}


@pytest.fixture
def seen(uri):
    """A reader that has seen three units, and the collection that it reads."""
    with MongoClient(uri) as client:
        units = client.get_default_database()["units"]
        units.insert_many([{"_id": name, **_unit("ann", 0.5)} for name in "abc"])
        reader = Reader(uri)
        reader.look()
        yield reader, units
        reader.close()


def test_the_reader_counts_what_is_lost_changed_and_recorded_twice(seen):
    reader, units = seen
    units.update_one({"_id": "a"}, {"$set": {"state": "queued"}})
    units.replace_one({"_id": "b"}, _unit("ann", 0.75))
    units.replace_one({"_id": "c"}, _unit("bob", 0.5))
    reader.look()
    assert reader.counts == {"lost": 1, "changed": 1, "recorded twice": 1}


def test_the_verdict_counts_what_was_acknowledged_and_is_not_stored(tmp_path):
    units = {name: _unit("ann", 0.5) for name in "abc"}
    told = [("a", "ann", 0.5), ("b", "bob", 0.5), ("b", "ann", 0.5), ("c", "ann", 0.75)]
    told.append(("d", "ann", 0.5))
    notes.Notes(tmp_path / "acknowledged.1").add(
        {"unit": unit, "worker": worker, "test": {"r2": score}, "train": None}
        for unit, worker, score in told
    )
    counts = verdict.of_workers(tmp_path, units)
    assert counts == {"acknowledged": 5, "lost": 2, "changed": 1, "recorded twice": 1}


def test_the_verdict_counts_scores_of_clients_that_are_not_stored(tmp_path):
    scores = [[1.5, 0, {"r2": 0.5}], [1.5, 1, {"r2": 0.5}], [1.5, 0, {"r2": float("nan")}]]
    entry = {"ended": 0, "kind": "here", "differs": ["mean_test_r2"], "scores": scores}
    notes.Notes(tmp_path / "client0").add([entry, {"ended": 1, "kind": "calls", "right": False}])
    counts = verdict.of_clients(tmp_path, {"a": _unit("ann", 0.5)})
    assert (counts["lost"], counts["changed"]) == (1, 1)
    assert (counts["wrong tables"], counts["wrong calls"]) == (1, 1)
