"""Parts on local disk."""

import os
import stat
import subprocess
import sys

import numpy as np
import pytest

from optomatic.errors import BundleDamaged
from optomatic.planning.parts import dump
from optomatic.worker.cache import Cache


@pytest.fixture
def root(tmp_path):
    return tmp_path / "home" / "cache"


@pytest.fixture
def part():
    return dump(np.arange(1000.0))


def content(part):
    return b"".join(part.buffers)


def never(*_):
    raise AssertionError("fetched although it is here")


def writing(part, log=None):
    def fetch(sha, path):
        assert sha == part.sha
        path.write_bytes(content(part))
        if log is not None:
            log.append(sha)
        return part.kind

    return fetch


def test_a_part_is_fetched_once_also_for_other_processes(root, part):
    fetched = []
    kind, path = Cache(root).get(part.sha, writing(part, fetched))
    assert (kind, path.read_bytes()) == (part.kind, content(part))
    assert fetched == [part.sha]
    assert Cache(root).get(part.sha, never) == (kind, path)


def test_what_the_caller_has_in_memory_is_not_fetched(root, part):
    cache = Cache(root)
    cache.keep(part)
    assert cache.get(part.sha, never)[1].read_bytes() == content(part)


def test_only_the_owner_may_look(root):
    root.mkdir(parents=True, mode=0o755)
    Cache(root)
    assert stat.S_IMODE(root.stat().st_mode) == 0o700


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
def test_a_directory_of_someone_else_is_not_used(root):
    root.mkdir(parents=True)
    os.chown(root, 12345, 12345)
    with pytest.raises(PermissionError, match="--cache-dir"):
        Cache(root)


def test_damage_on_the_way_is_noticed_and_nothing_is_kept(root, part):
    other = dump(np.arange(999.0))

    def damaged(_, path):
        path.write_bytes(content(other))
        return part.kind

    with pytest.raises(BundleDamaged):
        Cache(root).get(part.sha, damaged)
    assert parts_in(root) == []


def test_damage_on_disk_is_mended_by_fetching_again(root, part):
    _, path = Cache(root).keep(part)
    path.write_bytes(b"x" + content(part)[1:])
    fetched = []
    Cache(root).get(part.sha, writing(part, fetched))
    assert fetched == [part.sha]
    assert path.read_bytes() == content(part)


def test_a_part_that_somebody_removed_is_fetched_again(root, part):
    cache = Cache(root)
    cache.keep(part)[1].unlink()
    fetched = []
    cache.get(part.sha, writing(part, fetched))
    assert fetched == [part.sha]


def test_the_least_recently_used_go_first_but_nothing_in_use(root):
    now = [1e9]
    parts = [dump(np.full(1000, float(n))) for n in range(5)]

    def open_cache():
        return Cache(root, largest=2 * parts[0].size, clock=lambda: now[0])

    cache, other = open_cache(), open_cache()
    for part in parts[:3]:
        cache.keep(part)
        now[0] += 1
    assert len(parts_in(root)) == 3  # all are in use
    other.get(parts[1].sha, never)
    cache.let_go([])
    now[0] += 1
    cache.get(parts[0].sha, never)
    cache.keep(parts[3])
    # The second is used by another, the third was used before the first and the fourth.
    assert set(parts_in(root)) == {parts[0].sha, parts[1].sha, parts[3].sha}
    other.let_go([])
    cache.keep(parts[4])
    assert parts[1].sha not in parts_in(root)


def parts_in(root):
    """Return the hashes of the parts in a cache."""
    return [path.stem for path in root.iterdir() if not path.name.startswith(".")]


FETCHER = """
import sys, time
from pathlib import Path
from optomatic.worker.cache import Cache
root, sha, source, log = sys.argv[1:]
def fetch(sha, path):
    with open(log, "a") as file:
        file.write("fetched\\n")
    time.sleep(0.5)
    path.write_bytes(Path(source).read_bytes())
    return "npy"
Cache(Path(root)).get(sha, fetch)
"""


def test_of_many_processes_one_fetches(root, part, tmp_path):
    source, log = tmp_path / "source", tmp_path / "log"
    source.write_bytes(content(part))
    command = [sys.executable, "-c", FETCHER, root, part.sha, source, log]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    processes = [subprocess.Popen(command, env=environ) for _ in range(4)]
    assert [process.wait(60) for process in processes] == [0] * 4
    assert log.read_text() == "fetched\n"
    # Who fetches and is killed leaves no lock behind.
    assert Cache(root).get(part.sha, never)


@pytest.mark.parametrize("sha", ["../../etc/passwd", "a/b", "", "a.b", "*"])
def test_a_name_from_the_database_cannot_leave_the_directory(root, sha):
    with pytest.raises(BundleDamaged):
        Cache(root).get(sha, never)
