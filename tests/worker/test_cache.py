"""Parts on local disk."""

import os
import stat

import numpy as np
import pytest

from optomatic.errors import BundleDamaged
from optomatic.plan import bundle
from optomatic.worker.cache import IN_USE, Cache


@pytest.fixture
def root(tmp_path):
    return tmp_path / "home" / "cache"


@pytest.fixture
def part():
    return bundle.dump(np.arange(1000.0))


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
    other = bundle.dump(np.arange(999.0))

    def damaged(_, path):
        path.write_bytes(content(other))
        return part.kind

    with pytest.raises(BundleDamaged):
        Cache(root).get(part.sha, damaged)
    assert list(root.iterdir()) == []


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
    parts = [bundle.dump(np.full(1000, float(n))) for n in range(4)]
    cache = Cache(root, largest=2 * parts[0].size, clock=lambda: now[0])
    for part in parts[:3]:
        cache.keep(part)
        now[0] += 1
    assert len(list(root.iterdir())) == 3  # all were used a moment ago
    now[0] += IN_USE
    cache.get(parts[0].sha, never)
    cache.keep(parts[3])
    left = {path.stem for path in root.iterdir()}
    assert left == {parts[0].sha, parts[3].sha}


@pytest.mark.parametrize("sha", ["../../etc/passwd", "a/b", "", "a.b", "*"])
def test_a_name_from_the_database_cannot_leave_the_directory(root, sha):
    with pytest.raises(BundleDamaged):
        Cache(root).get(sha, never)
