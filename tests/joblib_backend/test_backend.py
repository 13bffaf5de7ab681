"""What people rely on of a backend of joblib: order, errors, timeouts, nesting, sizes."""

import os
import subprocess
import sys
import threading
import time
from multiprocessing import TimeoutError
from pathlib import Path
from pickle import PicklingError

import joblib
import numpy as np
import psutil
import pytest
from functions import (
    fail,
    look_at,
    nest,
    note_and_hang,
    pid,
    raise_not_readable,
    return_not_picklable,
    square,
    wait,
    zeros,
)
from joblib import Parallel, delayed, parallel_config
from waiting import wait_for

import optomatic  # noqa: F401
from optomatic.errors import CallFailed, RemoteTraceback


def test_values_come_in_order_and_from_the_workers(workers):
    assert Parallel()(delayed(square)(i) for i in range(50)) == [i * i for i in range(50)]
    pids = set(Parallel(batch_size=1)(delayed(pid)() for _ in range(8)))
    starters = {worker.pid for worker in workers.processes}
    assert all(starters & {p.pid for p in psutil.Process(one).parents()} for one in pids)


def test_functions_of_tests_and_notebooks_travel_by_value(workers):
    def local(x):
        return x + offset

    offset = 10
    assert Parallel()(delayed(local)(i) for i in range(3)) == [10, 11, 12]
    assert Parallel()(delayed(lambda x: x)(i) for i in range(3)) == [0, 1, 2]


def test_n_jobs_are_the_processes_of_the_workers_alive(workers):
    assert joblib.effective_n_jobs(-1) == 2
    assert joblib.effective_n_jobs(None) == 2
    assert joblib.effective_n_jobs(7) == 7
    assert Parallel(n_jobs=1)(delayed(pid)() for _ in range(2)) == [os.getpid()] * 2


@pytest.mark.parametrize("return_as", ["generator", "generator_unordered"])
def test_generators(workers, return_as):
    values = Parallel(return_as=return_as)(delayed(square)(i) for i in range(20))
    assert next(values) in {i * i for i in range(20)}
    assert len(list(values)) == 19


def test_unordered_ones_come_as_they_are_ready(workers):
    seconds = [600, *[0] * 5]
    values = Parallel(return_as="generator_unordered", batch_size=1)(
        delayed(wait)(s, n) for n, s in enumerate(seconds)
    )
    assert sorted(next(values) for _ in range(5)) == [1, 2, 3, 4, 5]
    with pytest.warns(UserWarning, match="cancelled"):
        values.close()


def test_an_exception_has_the_traceback_of_the_worker_as_its_cause(workers):
    with pytest.raises(LookupError, match="no 3 here") as caught:
        Parallel()(delayed(fail)(i, at=3) for i in range(10))
    assert type(caught.value) is LookupError
    assert isinstance(caught.value.__cause__, RemoteTraceback)
    assert 'raise LookupError(f"no {value} here")' in str(caught.value.__cause__)


def test_exceptions_that_cannot_be_brought_here_are_told_in_words(workers):
    with pytest.raises(CallFailed, match=r"functions\.NotReadable: this and that") as caught:
        Parallel()(delayed(raise_not_readable)() for _ in range(2))
    assert "raise_not_readable" in str(caught.value.__cause__)


def test_an_exception_of_the_machine_is_not_tried_elsewhere(workers, tmp_path):
    def once():
        with (tmp_path / "tries").open("a") as file:
            file.write("x")
        raise FileNotFoundError("not here")

    with pytest.raises(FileNotFoundError):
        Parallel(pre_dispatch=1)([delayed(once)(), delayed(square)(1)])
    assert (tmp_path / "tries").read_text() == "x"


def test_an_object_that_cannot_be_pickled_is_named(workers):
    with pytest.raises(PicklingError, match=r"A call of functions\.square cannot be pickled"):
        Parallel()(delayed(square)(threading.Lock()) for _ in range(2))
    with pytest.raises(TypeError, match="generator") as caught:
        Parallel()(delayed(return_not_picklable)() for _ in range(2))
    assert "what it returned cannot be pickled" in str(caught.value.__cause__)


def test_running_and_queued_calls_end_after_an_error(workers, tmp_path):
    tasks = [delayed(note_and_hang)(tmp_path, 0), delayed(_fail_after)(tmp_path)]
    tasks += [delayed(_hang_after_that)(tmp_path, n) for n in range(1, 20)]
    with pytest.raises(LookupError):
        Parallel(batch_size=1, pre_dispatch="all")(tasks)
    wait_for(lambda: not workers.calls())
    noted = [path for path in tmp_path.iterdir() if path.name != "began"]
    # The worker whose call raised may have begun the next one.
    assert len(noted) <= 2
    hung = [int(path.read_text()) for path in noted]
    wait_for(lambda: not any(psutil.pid_exists(one) for one in hung))


def _fail_after(folder):
    while not (folder / "0").exists():
        time.sleep(0.01)
    (folder / "began").touch()
    raise LookupError


def _hang_after_that(folder, n):
    # Workers that get into each other's way take calls out of their order.
    if (folder / "began").exists():
        note_and_hang(folder, n)


def test_timeouts(workers):
    with pytest.raises(TimeoutError):
        Parallel(timeout=0.2)(delayed(wait)(600) for _ in range(3))
    wait_for(lambda: not workers.calls())
    # The workers are free again at once, not when 600 s are over.
    assert Parallel(timeout=60)(delayed(square)(i) for i in range(3)) == [0, 1, 4]


def test_a_managed_parallel_goes_on_after_an_error(workers):
    with Parallel() as parallel:
        for _ in range(2):
            with pytest.raises(LookupError):
                parallel(delayed(fail)(i, at=1) for i in range(4))
            assert parallel(delayed(square)(i) for i in range(4)) == [0, 1, 4, 9]


def test_nested_calls_run_in_threads_of_the_worker(workers):
    # More calls than workers, each waiting for its own: on workers again they would deadlock.
    found = Parallel(batch_size=1)(delayed(nest)(2) for _ in range(6))
    assert found == [["ThreadingBackend", "SequentialBackend", "SequentialBackend"]] * 6
    found = Parallel(batch_size=1)(delayed(nest)(1, "optomatic") for _ in range(6))
    assert found == [["OptomaticBackend"] * 2] * 6


def test_cheap_calls_are_sent_in_batches_and_dear_ones_alone(workers, executed):
    Parallel()(delayed(square)(i) for i in range(1000))
    executed.note("cheap")
    Parallel()(delayed(wait)(0.3) for _ in range(6))
    executed.note("dear")
    assert executed.by_test["cheap"] < 300
    assert executed.by_test["dear"] == 6


def test_large_arguments_are_stored_once_by_content(workers):
    X = np.arange(300_000.0)
    same = X.copy()
    expected = [("memmap", False, X.sum() + n) for n in range(10)]
    kinds = {"kind": "npy"}
    before = workers.database["bundles"].count_documents(kinds)
    for array in (X, same):
        assert Parallel()(delayed(look_at)(array, n) for n in range(10)) == expected
    assert workers.database["bundles"].count_documents(kinds) == before + 1
    # In whatever they stand; what changes in place between two calls is seen.
    X[0] = 1e6
    assert Parallel()(delayed(lambda d, n: d["X"][0])({"X": X}, n) for n in range(2)) == [1e6] * 2
    assert workers.database["bundles"].count_documents(kinds) == before + 2


def test_large_arguments_may_be_passed_as_joblib_is_told(workers):
    X = np.arange(300_000.0)
    kind, writeable, _ = Parallel(max_nbytes=None)(delayed(look_at)(X, n) for n in range(2))[0]
    assert (kind, writeable) == ("ndarray", True)
    kind, writeable, _ = Parallel(mmap_mode="c")(delayed(look_at)(X, n) for n in range(2))[0]
    assert (kind, writeable) == ("memmap", True)


def test_documents_of_calls_are_removed(workers):
    large = Parallel()(delayed(zeros)(20) for _ in range(2))
    assert [len(value) for value in large] == [20 << 20] * 2
    # An argument of 3 MB that is no array is a part of its own, and removed too.
    assert Parallel()(delayed(len)(bytes(3 << 20)) for _ in range(2)) == [3 << 20] * 2
    wait_for(lambda: not workers.calls())
    kinds = {part["kind"] for part in workers.database["bundles"].find()}
    assert kinds <= {"npy"}
    chunks = workers.database["chunks"].count_documents({})
    parts = list(workers.database["bundles"].find())
    assert chunks == sum(part["chunks"] for part in parts)


def test_several_threads_call_at_the_same_time(workers):
    def several(n):
        with parallel_config(backend="optomatic", db=workers.uri):
            return Parallel()(delayed(square)(i) for i in range(n))

    found = Parallel(n_jobs=4, backend="threading")(delayed(several)(n) for n in (5, 6, 7, 8))
    assert found == [[i * i for i in range(n)] for n in (5, 6, 7, 8)]


def test_threads_of_numeric_libraries_are_limited_as_asked(workers):
    def threads():
        import threadpoolctl

        return {pool["num_threads"] for pool in threadpoolctl.threadpool_info()}

    with parallel_config(backend="optomatic", db=workers.uri, inner_max_num_threads=1):
        assert Parallel()(delayed(threads)() for _ in range(2)) == [{1}] * 2


SCRIPT = """
import {first}
import {second}
import joblib
assert callable(joblib.parallel.BACKENDS["optomatic"])
assert "optomatic.joblib_backend.backend" not in __import__("sys").modules
def double(x):
    return 2 * x
if __name__ == "__main__":
    found = joblib.Parallel(n_jobs=2, backend="optomatic")(
        joblib.delayed(double)(i) for i in range(3)
    )
    assert found == [0, 2, 4], found
"""


@pytest.mark.parametrize("first", ["optomatic", "joblib"])
def test_a_script_has_it_by_importing_optomatic(shared, first, tmp_path):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT.format(first=first, second="optomatic"))
    environ = {**os.environ, "OPTOMATIC_DB": shared.uri}
    subprocess.run([sys.executable, path], env=environ, check=True, timeout=120)
    wait_for(lambda: not shared.calls())


def test_importing_optomatic_imports_neither_pymongo_nor_sklearn():
    script = "import sys, optomatic; assert not {'pymongo', 'sklearn', 'pandas'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).parents[2])
