"""Work goes only to workers that can load it, and fit says what it waits for."""

import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from estimators import Sleeper
from servers import database, units
from waiting import wait_for

from optomatic import MongoSearchCV
from optomatic.errors import NoWorkers
from optomatic.keys.environment import required_versions
from optomatic.records import Process, Queue, WorkerRecord
from optomatic.worker.missing_workers import missing_in

ROOT = Path(__file__).parents[2]
X, Y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2


@pytest.fixture
def fit(monkeypatch):
    """Fit in a thread; return the thread and a list to which what it warns of is added."""
    monkeypatch.setattr("optomatic.worker.missing_workers.LONELY_SECONDS", 1.0)
    said = []

    def warn(text, category=UserWarning, **_):
        if category is NoWorkers:
            said.append(text)

    monkeypatch.setattr("optomatic.worker.missing_workers.warn", warn)

    def fit(uri, **options):
        thread = threading.Thread(target=searched(uri, **options).fit, args=(X, Y), daemon=True)
        thread.start()
        return thread, said

    return fit


def searched(uri, **options):
    return MongoSearchCV(Sleeper(), {"value": [1, 2]}, cv=2, db=uri, refit=False, **options)


def ready(worker):
    """Wait until `worker` can score."""
    assert "ready" in worker.stdout.readline()


def ends(thread):
    thread.join(120)
    assert not thread.is_alive()


def states(uri):
    return {(unit["state"], unit["attempt"]) for unit in units(uri).find()}


def test_units_with_tags_wait_for_workers_with_them_and_fit_says_so(uri, start_worker, fit):
    """Also where n_jobs would score it here."""
    ready(start_worker(uri, "--tag", "big"))
    thread, said = fit(uri, requires={"gpu", "big"})
    wait_for(lambda: said)
    assert "the one that is there cannot score them: needed is --tag gpu." in said[0]
    assert states(uri) == {("queued", 0)}
    ready(start_worker(uri, "--tag", "gpu", "--tag", "big"))
    ends(thread)
    assert states(uri) == {("completed", 1)}
    assert len(said) == 1


def test_a_machine_that_says_it_has_a_tag_scores_for_its_own_fits(uri, monkeypatch):
    monkeypatch.setenv("OPTOMATIC_TAG", "gpu")
    searched(uri, requires={"gpu"}).fit(X, Y)
    assert states(uri) == {("completed", 1)}


@pytest.mark.parametrize("tags", ["gpu", 5, {"a b"}, {""}, {3}])
def test_wrong_tags_are_refused(uri, tags):
    with pytest.raises((TypeError, ValueError), match="tag"):
        MongoSearchCV(Sleeper(), {"value": [1]}, db=uri, requires=tags).fit(X, Y)


def worker(tags=(), **env):
    process = Process("host", "boot", "namespace", 1, "1")
    return WorkerRecord("w", "standalone", process, 1, {**required_versions({}), **env}, tags)


def queue(*requires, **env):
    return Queue("queue", {**required_versions({}), **env}, requires)


def refusing(refused):
    return replace(worker(), refused=refused)


@pytest.mark.parametrize(
    ("workers", "queues", "why"),
    [
        ([worker()], [queue()], None),
        ([], [queue()], "none has been seen"),
        ([], [], None),
        ([worker(python="3.9")], [], None),
        ([worker(python="3.9"), worker()], [queue()], None),
        ([worker()], [queue(xgboost="2.0")], None),  # whether it has that is not known
        ([worker(numpy="1.0")], [queue(numpy="2.0")], "numpy 2.0 (it has 1.0)"),
        ([worker(cloudpickle="2")], [queue(cloudpickle="3")], "cloudpickle 3 (it has 2)"),
        ([worker(), worker(("big",))], [queue("gpu")], "the 2 that are there"),
        ([refusing({"queue": "m.f differs"})], [queue()], "w on host: m.f differs"),
        ([refusing({"queue": "m.f differs"}), worker()], [queue()], None),
        ([refusing({"another": "m.f differs"})], [queue()], None),
        ([worker(python="3.9")], [queue("gpu", python="3.8")], "3.8 (it has 3.9) and --tag gpu"),
    ],
)
def test_missing_packages_and_tags_are_named(workers, queues, why):
    said = missing_in(workers, queues)
    assert said == why or (why and why in said)


@pytest.fixture(scope="session")
def other_python(request):
    """An interpreter of another minor version that has this package and what it needs."""
    here = sys.version_info[:2]
    minors = [minor for minor in (12, 13, 11) if (3, minor) != here]
    homes = Path.home() / ".pyenv" / "versions"
    for minor in minors:
        for base in sorted(homes.glob(f"3.{minor}.*/bin/python")):
            home = Path(request.config.cache.mkdir(f"venv-3.{minor}"))
            python = home / "bin" / "python"
            install = [python, "-m", "pip", "install", "-q", "-e", str(ROOT)]
            if _works([python, "-c", "import optomatic.search.grid_search"]) or (
                _works([base, "-m", "venv", home]) and _works(install)
            ):
                return python
    pytest.skip("no other Python from 3.11 on in ~/.pyenv/versions, or no packages for it")


def _works(command):
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.timeout(400)
def test_a_worker_of_another_python_leaves_work_alone_and_fit_says_so(
    uri, start_worker, fit, other_python
):
    ready(start_worker(uri, python=other_python))
    thread, said = fit(uri, n_jobs=0)
    wait_for(lambda: units(uri).count_documents({"state": "queued"}) == 4)
    here = ".".join(map(str, sys.version_info[:2]))
    workers = database(uri)["workers"]
    other = workers.find_one({"kind": "standalone"})["env"]["python"]
    assert other != here
    wait_for(lambda: said)
    assert states(uri) == {("queued", 0)}
    ready(start_worker(uri))
    ends(thread)
    assert states(uri) == {("completed", 1)}
    assert f"python {here} (it has {other})" in said[0]
