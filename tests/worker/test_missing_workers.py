"""The command that warnings print starts a worker when it is pasted into a shell."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import uuid
from pathlib import Path

import numpy as np
import pytest
from estimators import Sleeper
from pymongo import MongoClient

from optomatic import MongoSearchCV
from optomatic.embedded.server import serve
from optomatic.errors import NoWorkers
from optomatic.worker.missing_workers import start_advice, start_command

TESTS = Path(__file__).parents[1]
X, Y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2
SHELLS = [
    "bash",
    pytest.param(
        "zsh",
        marks=pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed"),
    ),
]


@pytest.mark.parametrize(
    ("uri", "requires", "command"),
    [
        ("mongodb://host/iris", (), "optomatic worker --db mongodb://host/iris"),
        (
            "mongodb://host/iris?w=1&appName=a$b!c",
            (),
            "optomatic worker --db 'mongodb://host/iris?w=1&appName=a$b!c'",
        ),
        (
            "mongodb://***@host/iris",
            ("gpu", "big", "-odd"),
            'optomatic worker --db "$OPTOMATIC_DB" --tag=-odd --tag big --tag gpu',
        ),
        (
            "mongodb://host/iris?proxyPassword=***",
            (),
            'optomatic worker --db "$OPTOMATIC_DB"',
        ),
    ],
)
def test_the_command(uri, requires, command):
    assert start_command(uri, requires, {}) == command


@pytest.mark.parametrize(
    ("uri", "where"),
    [
        ("mongodb://host/iris", "on any machine that reaches the database with:"),
        ("mongodb://localhost,host/iris", "on any machine that reaches the database with:"),
        ("mongodb+srv://host/iris", "on any machine that reaches the database with:"),
        ("mongodb://localhost/iris", "on this machine with:"),
        ("mongodb://127.0.0.1:27018,[::1]:27019/iris", "on this machine with:"),
        ("mongodb://%2Ftmp%2Fmongod.sock/iris", "on this machine with:"),
    ],
)
def test_where_it_can_be_run(uri, where):
    assert start_advice(uri, (), {}).startswith(where)


def test_the_variable_that_has_to_hold_the_address_is_said_without_the_password():
    said = start_advice("mongodb://***@host/iris", (), {})
    assert said.endswith("where OPTOMATIC_DB holds the whole address (mongodb://***@host/iris). ")


def test_the_private_server_is_that_of_this_user_on_this_machine(mongod, tmp_path, monkeypatch):
    home = tmp_path / "my home"
    uri = serve(home, idle=0.0)
    said = start_advice(uri, (), {})
    assert said.startswith("as this user on this machine, as nobody else can reach the private")
    assert start_command(uri, (), {}) == (f"OPTOMATIC_HOME='{home.resolve()}' optomatic worker")
    # In a shell that has the variable, a worker without --db would go where that leads.
    assert "--db 'mongodb://%2F" in start_command(uri, (), {"OPTOMATIC_DB": "mongodb://host"})
    monkeypatch.setattr("optomatic.embedded.server.default_home", lambda _: home)
    assert start_command(uri, (), {}) == "optomatic worker"


@pytest.fixture
def pasted(tmp_path):
    """Run a command in a shell as a user pastes it, until the test ends."""
    started = []

    def paste(shell, command, **environ):
        # python is that of the environment in which the user has activated.
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        modules = os.pathsep.join([str(TESTS), str(TESTS.parent)])
        cache = str(tmp_path / "cache")
        own = {"PATH": path, "PYTHONPATH": modules, "OPTOMATIC_CACHE_DIR": cache}
        environ = {k: v for k, v in {**os.environ, **own, **environ}.items() if v is not None}
        process = subprocess.Popen(
            [shell, "-c", command],
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield paste
    for process in started:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def command_in(text):
    """Return the line of a warning that is to be pasted."""
    (line,) = [line for line in text.splitlines() if line.startswith("    ")]
    return line.strip()


@pytest.fixture
def warned(monkeypatch):
    """Begin a search that waits for workers; return the thread, and what it warned of."""
    monkeypatch.setattr("optomatic.worker.missing_workers.LONELY_SECONDS", 0.5)
    said, news = [], threading.Event()

    def warn(text, category):
        if category is NoWorkers:
            said.append(text)
            news.set()

    monkeypatch.setattr("optomatic.worker.missing_workers.warn", warn)

    def begin(uri, **options):
        search = MongoSearchCV(
            *(Sleeper(), {"value": [1, 2]}), cv=2, n_jobs=0, db=uri, refit=False, **options
        )
        thread = threading.Thread(target=search.fit, args=(X, Y), daemon=True)
        thread.start()
        assert news.wait(120)
        return search, thread, said[0]

    return begin


def assert_scored(search, thread, process):
    thread.join(120)
    assert not thread.is_alive(), process.poll()
    assert list(search.cv_results_["mean_test_score"]) == [1, 2]
    assert search.summary_.workers == 1


@pytest.mark.parametrize("shell", SHELLS)
def test_pasted_it_scores_a_search_with_tags_at_an_address_with_ampersands(
    shell, uri, warned, pasted
):
    """Tags in the command, and characters in the address that shells would take for theirs."""
    join = "&" if "?" in uri else "?"
    uri = f"{uri}{join}appName=a$HOME&retryWrites=true"
    search, thread, text = warned(uri, requires={"gpu", "big"})
    command = command_in(text)
    assert f"--db '{uri}'" in command
    assert_scored(search, thread, pasted(shell, command))


@pytest.mark.parametrize("shell", SHELLS)
def test_pasted_it_scores_a_search_whose_address_has_a_password(
    shell, auth_server, warned, pasted, tmp_path
):
    name = f"t{uuid.uuid4().hex[:12]}"
    uri = auth_server.uri(name, "ann", "the%20right%20one") + "&retryWrites=true"
    try:
        search, thread, text = warned(uri)
        assert "right" not in text
        assert "where OPTOMATIC_DB holds the whole address" in text
        process = pasted(shell, command_in(text), OPTOMATIC_DB=uri)
        assert_scored(search, thread, process)
        assert "right" not in process.stdout.readline()
    finally:
        with MongoClient(uri) as client:
            client.drop_database(name)


@pytest.mark.parametrize("shell", SHELLS)
def test_pasted_it_scores_a_search_on_a_private_server_in_another_folder(
    shell, mongod, warned, pasted, tmp_path, monkeypatch
):
    monkeypatch.setenv("OPTOMATIC_HOME", str(tmp_path / "my $home"))
    monkeypatch.setenv("OPTOMATIC_IDLE_SECONDS", "0")
    search, thread, text = warned(None)
    assert "as this user on this machine" in text
    process = pasted(shell, command_in(text), OPTOMATIC_HOME=None)
    assert_scored(search, thread, process)
    place = str((tmp_path / "my $home").resolve())
    assert f"1 process, ready, private server in {place}" in process.stdout.readline()
