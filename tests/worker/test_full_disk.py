"""What workers do where there is no room for the data that they load."""

import os
import subprocess
import sys

import pytest
from estimators import Sleeper
from waiting import wait_for

from optomatic.worker.missing_workers import missing_in

#: A full disk for whoever runs in it, in a namespace of its own: not a page more than the marker.
SMALL = 'mount -t tmpfs -o size=4k tmpfs "$OPTOMATIC_CACHE_DIR" && exec "$@"'
#: No room in files, be they on disk or in memory; no rights are needed for that.
NO_FILES = 'ulimit -f 0; exec "$@"'


@pytest.fixture
def start(queue, start_process, tmp_path):
    """Start a program whose cache has a folder of its own; kill it at the end."""
    cache = tmp_path / "small"
    cache.mkdir()
    settings = {
        "OPTOMATIC_CACHE_DIR": str(cache),
        "XDG_CACHE_HOME": str(cache),
        "OPTOMATIC_DB": queue.uri,
        "OPTOMATIC_LEASE": "1",
    }
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return lambda *command, **environ: start_process(*command, **{**pipes, **settings, **environ})


WORKER = (sys.executable, "-m", "optomatic.worker")


def values(*numbers):
    return [{"value": number} for number in numbers]


@pytest.fixture
def small_disk(tmp_path):
    """Return the beginning of a command that runs where the cache's disk is full."""
    small = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", SMALL, "sh"]
    environ = {**os.environ, "OPTOMATIC_CACHE_DIR": str(tmp_path)}
    try:
        subprocess.run([*small, "true"], env=environ, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"this machine does not let us mount a small disk: {error}")
    return small


def test_a_worker_with_a_full_disk_says_so_once_and_scores(queue, start, small_disk):
    queue.submit(Sleeper(), values(*range(10)))
    queue.submit(Sleeper(seconds=0.01), values(*range(10)))
    process = start(*small_disk, *WORKER, "--processes", "2", "--until-empty")
    _, log = process.communicate(timeout=120)
    assert process.returncode == 0, log
    assert queue.states() == {"completed": 40}
    assert set(queue.field("losses")) == {0}
    (said,) = [line for line in log.splitlines() if "the cache takes no more data" in line]
    assert "No space left on device; 0.0 MB are free in" in said
    assert "small/optomatic-cache" in said
    assert "Traceback" not in log


def test_units_without_room_are_left_to_other_workers(queue, start):
    queue.submit(Sleeper(), values(*range(10)))
    full = start("sh", "-c", NO_FILES, "sh", *WORKER)
    workers = queue.client.get_default_database("optomatic")["workers"]
    wait_for(lambda: workers.find_one({"refused": {"$gt": {}}}), full)
    wait_for(lambda: queue.states() == {"queued": 20}, full)
    assert set(queue.field("losses")) == set(queue.field("runs")) == {0}
    alive, queues = (
        queue.store.workers.alive(60.0),
        queue.store.workers.queues(queue.units.distinct("queue")),
    )
    assert "needed is room for its data (worker" in missing_in(alive, queues)
    healthy = start(*WORKER, "--until-empty", OPTOMATIC_CACHE_DIR="", OPTOMATIC_MAX_IDLE="1")
    assert healthy.wait(120) == 0
    assert queue.states() == {"completed": 20}
    full.terminate()
    _, log = full.communicate(timeout=120)
    assert full.returncode == 0, log
    (said,) = [line for line in log.splitlines() if "leaves alone" in line]
    assert "MB are free in" in said
    assert "Traceback" not in log


CALLS = """
import joblib
import numpy as np
import optomatic
def add(array, number):
    return array + number
array = np.arange(100_000.0)
with joblib.parallel_config(backend="optomatic"):
    found = joblib.Parallel(n_jobs=2)(joblib.delayed(add)(array, n) for n in range(3))
print(all((array + n == one).all() for n, one in enumerate(found)))
"""


def test_calls_take_and_return_large_values_where_the_disk_is_full(start, small_disk):
    worker = start(*small_disk, *WORKER)
    out, log = start(sys.executable, "-c", CALLS).communicate(timeout=100)
    assert out == "True\n", log
    worker.terminate()
    _, log = worker.communicate(timeout=120)
    assert "ends: 3 units scored, 0 of them with failures, 0 crashes" in log


LOCAL = """
import numpy as np
from estimators import Sleeper
from optomatic import MongoSearchCV
from optomatic.errors import OptomaticError
search = MongoSearchCV(Sleeper(), {"value": [1, 2]}, cv=2, n_jobs=2, refit=False)
try:
    search.fit(np.zeros((1000, 9)), np.arange(1000) % 2)
except OSError as error:
    print(isinstance(error, OptomaticError), type(error).__name__, error)
"""


def test_local_workers_raise_where_there_is_no_room_and_the_next_fit_goes_on(queue, start):
    small_files = NO_FILES.replace("0", "32")  # joblib needs one for its locks
    told = start("sh", "-c", small_files, "sh", sys.executable, "-c", LOCAL).communicate(
        timeout=100
    )
    assert told[0].startswith("True CacheFull There is no room for the data that workers load ("), (
        told
    )
    assert "MB are free in" in told[0]
    assert "optomatic-cache" in told[0]
    assert set(queue.field("losses", state="completed")) == set()
    again = start(sys.executable, "-c", LOCAL).communicate(timeout=100)
    assert "Full" not in again[0], again
    assert queue.states() == {"completed": 4}


def test_a_cache_that_is_no_folder_is_one_line_and_exit_code_2(start, tmp_path):
    (tmp_path / "file").write_text("precious")
    os.mkfifo(tmp_path / "fifo")
    for name in ("file", "fifo", "~nobody-here/x"):
        process = start(*WORKER, "--cache-dir", str(tmp_path / name) if name[0] == "f" else name)
        out, log = process.communicate(timeout=120)
        assert process.returncode == 2
        (line,) = log.splitlines()
        assert "cannot be used" in line or "a folder, not" in line
        assert "--cache-dir" in line
        assert out == ""
    assert (tmp_path / "file").read_text() == "precious"


def test_a_definition_that_is_a_pipe_is_one_line_and_not_waited_for(start, tmp_path):
    os.mkfifo(tmp_path / "sweep.optomatic.toml")
    process = start(*WORKER, "--definition", str(tmp_path / "sweep"))
    _, log = process.communicate(timeout=120)
    assert process.returncode == 1
    (line,) = log.splitlines()
    assert "it is no regular file" in line
