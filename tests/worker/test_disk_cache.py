"""Parts on local disk."""

import errno
import os
import resource
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from optomatic.errors import BundleDamaged, CacheFull, FolderRefused, StoreUnavailable
from optomatic.folder_checks import MARKER
from optomatic.planning.serialization import dump
from optomatic.worker.disk_cache import Cache


def keep(cache, part):
    """Have `cache` get a part that is in memory."""

    def fetch(_, path):
        path.write_bytes(b"".join(part.buffers))
        return part.kind

    return cache.get(part.sha, fetch)


@pytest.fixture
def root(tmp_path):
    """Return what a user names; the cache is a folder in it."""
    return tmp_path / "home"


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


def test_parts_in_the_callers_memory_are_not_fetched(root, part):
    cache = Cache(root)
    keep(cache, part)
    assert cache.get(part.sha, never)[1].read_bytes() == content(part)


def test_only_the_owner_may_look(root):
    root.mkdir(mode=0o755)
    own = Cache(root).root
    own.chmod(0o755)
    Cache(root)
    assert stat.S_IMODE(own.stat().st_mode) == 0o700
    assert stat.S_IMODE(root.stat().st_mode) == 0o755


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
def test_a_directory_of_someone_else_is_not_used(root):
    for theirs in (Cache(root).root, root):
        os.chown(theirs, 12345, 12345)
        with pytest.raises(FolderRefused, match=r"another user \(id 12345.*--cache-dir"):
            Cache(root)
        os.chown(theirs, 0, 0)
    link = root / "link"
    link.symlink_to(root)
    os.lchown(link, 12345, 12345)
    with pytest.raises(FolderRefused, match="another user"):
        Cache(link)


def test_damage_on_the_way_is_noticed_and_nothing_is_kept(root, part):
    other = dump(np.arange(999.0))

    def damaged(_, path):
        path.write_bytes(content(other))
        return part.kind

    with pytest.raises(BundleDamaged):
        Cache(root).get(part.sha, damaged)
    assert parts_in(root) == []


def test_damage_on_disk_is_mended_by_fetching_again(root, part):
    _, path = keep(Cache(root), part)
    path.write_bytes(b"x" + content(part)[1:])
    fetched = []
    Cache(root).get(part.sha, writing(part, fetched))
    assert fetched == [part.sha]
    assert path.read_bytes() == content(part)


def test_a_removed_part_is_fetched_again(root, part):
    cache = Cache(root)
    keep(cache, part)[1].unlink()
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
        keep(cache, part)
        now[0] += 1
    assert len(parts_in(root)) == 3  # all are in use
    other.get(parts[1].sha, never)
    cache.let_go([])
    now[0] += 1
    cache.get(parts[0].sha, never)
    keep(cache, parts[3])
    # The second is used by another, the third was used before the first and the fourth.
    assert set(parts_in(root)) == {parts[0].sha, parts[1].sha, parts[3].sha}
    other.let_go([])
    keep(cache, parts[4])
    assert parts[1].sha not in parts_in(root)


def parts_in(root):
    """Return the hashes of the parts in a cache."""
    own = root / "optomatic-cache"
    return [path.stem for path in own.iterdir() if not path.name.startswith(".")]


FETCHER = """
import sys, time
from pathlib import Path
from optomatic.worker.disk_cache import Cache
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
    assert [process.wait(120) for process in processes] == [0] * 4
    assert log.read_text() == "fetched\n"
    # Who fetches and is killed leaves no lock behind.
    assert Cache(root).get(part.sha, never)


@pytest.mark.parametrize("sha", ["../../etc/passwd", "a/b", "", "a.b", "*"])
def test_a_name_from_the_database_cannot_leave_the_directory(root, sha):
    with pytest.raises(BundleDamaged):
        Cache(root).get(sha, never)


# --- nothing but its own ---------------------------------------------------------------------


def look(folder):
    """Return what is in `folder`, but for our own in it: names, kinds, modes and contents."""
    found = {".": folder.stat().st_mode}
    for path in sorted(folder.rglob("*")):
        if "optomatic-cache" not in path.parts:
            content = path.read_bytes() if path.is_file() else None
            found[str(path.relative_to(folder))] = path.lstat().st_mode, content
    return found


def old(path, content=b"precious"):
    path.write_bytes(content)
    os.utime(path, (1, 1))
    return path


@pytest.mark.parametrize("through_a_link", [False, True])
def test_files_of_the_user_stay_as_they_are(root, part, tmp_path, through_a_link):
    root.mkdir(mode=0o755)
    for name in ("thesis.txt", f"{part.sha}.npy", f".{part.sha}.{'0' * 16}", ".lock-00"):
        old(root / name)
    before = look(root)
    place = root
    if through_a_link:
        place = tmp_path / "link"
        place.symlink_to(root)
    cache = Cache(place, largest=0)
    assert cache.get(part.sha, writing(part))[1].read_bytes() == content(part)
    cache.let_go([])
    cache.trim()
    assert parts_in(root) == []
    assert look(root) == before


def test_of_its_own_folder_too_it_removes_only_what_it_writes(root, part, tmp_path):
    cache = Cache(root, largest=0)
    kept = [
        old(cache.root / name)
        for name in (
            "notes",
            f"{part.sha}",
            f"{part.sha}.npy.bak",
            "x" * 64 + ".npy",
            ".returned.x",
        )
    ]
    outside = old(tmp_path / "outside")
    link = cache.root / ("0" * 64 + ".npy")
    link.symlink_to(outside)
    gone = [
        old(cache.root / name)
        for name in ("1" * 64 + ".npy", f".{'1' * 64}.{'0' * 16}", f".returned.{'0' * 32}")
    ]
    being_written = cache.root / f".{'2' * 64}.{'0' * 16}"
    being_written.write_bytes(b"by another process, now")
    cache.trim()
    assert all(path.read_bytes() == b"precious" for path in [*kept, outside, link])
    assert not any(path.exists() for path in gone)
    assert being_written.exists()
    assert cache.find("0" * 64) is None  # what a link leads to is no part
    assert link.is_symlink()
    assert (cache.root / MARKER).is_file()


@pytest.mark.parametrize("kind", ["file", "folder", "link", "empty folder"])
def test_a_folder_of_its_name_that_it_did_not_make_is_refused(root, kind, tmp_path):
    own = root / "optomatic-cache"
    own.parent.mkdir()
    other = tmp_path / "other"
    other.mkdir(mode=0o755)
    (other / "precious").touch()
    if kind == "file":
        own.touch()
    elif kind == "link":
        own.symlink_to(other)
    else:
        own.mkdir(mode=0o755)
        if kind == "folder":
            (own / "precious").touch()
    before = look(tmp_path)
    mode = own.stat().st_mode
    why = "is a link or a file" if kind in ("file", "link") else "did not make it"
    with pytest.raises(FolderRefused, match=why):
        Cache(root)
    assert look(tmp_path) == before
    assert own.stat().st_mode == mode


def test_a_folder_whose_maker_was_killed_before_it_was_marked_is_used(root):
    (root / "optomatic-cache").mkdir(parents=True, mode=0o700)
    assert (Cache(root).root / MARKER).is_file()


@pytest.mark.parametrize("place", ["file", "dangling", "a\0b", "~nobody-here/x", "x" * 300])
def test_a_place_that_cannot_be_one_is_refused_with_the_reason(tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    with pytest.raises(FolderRefused, match=r"cannot be used: .*--cache-dir"):
        Cache(Path(place))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dangling", "file"]


def test_a_place_that_cannot_be_written_to_is_refused(part):
    with pytest.raises(FolderRefused, match="cannot be used: "):
        Cache(Path("/proc/self"))


# --- no room ---------------------------------------------------------------------------------


def full_on_disk(part, tried):
    """Return a fetch that meets a full disk, of the kernel's own, but in memory."""

    def fetch(sha, path):
        tried.append(path)
        if not str(path).startswith("/proc/"):
            path.symlink_to("/dev/full")
        with path.open("wb") as file:
            file.write(content(part))
        return part.kind

    return fetch


@pytest.mark.skipif(sys.platform != "linux", reason="files in memory are Linux's")
def test_parts_without_room_stay_in_memory_while_in_use(root, part, caplog):
    cache = Cache(root, in_memory=True)
    tried = []
    kind, path = cache.get(part.sha, full_on_disk(part, tried))
    assert (kind, path.read_bytes()) == (part.kind, content(part))
    assert len(tried) == 2
    assert cache.get(part.sha, never) == (kind, path)
    script = "import numpy, sys; print(numpy.load(sys.argv[1], mmap_mode='r').sum())"
    other = subprocess.run([sys.executable, "-c", script, path], capture_output=True, check=True)
    assert float(other.stdout) == np.arange(1000.0).sum()
    cache.let_go([part.sha])
    assert path.exists()
    cache.let_go([])
    assert not path.exists()
    cache.get(part.sha, full_on_disk(part, tried))
    (said,) = caplog.messages
    assert "No space left on device" in said
    assert f"MB are free in {cache.root}" in said
    assert parts_in(root) == []
    assert not list(cache.root.glob(".*.*"))


@pytest.mark.skipif(sys.platform != "linux", reason="files in memory are Linux's")
def test_damage_on_the_way_into_memory_is_noticed(root, part):
    cache = Cache(root, in_memory=True)
    tried = []
    with pytest.raises(BundleDamaged):
        cache.get(dump(np.arange(9.0)).sha, full_on_disk(part, tried))
    assert len(tried) == 2


def test_an_outage_of_the_store_is_not_taken_for_a_full_disk(root, part):
    def away(*_):
        raise StoreUnavailable("away")

    with pytest.raises(StoreUnavailable):
        Cache(root, in_memory=True).get(part.sha, away)


def test_unused_parts_make_room(root, part):
    """Of a disk on which a file of so many bytes and no more has room."""
    unused, used = dump(np.arange(10.0)), dump(np.arange(20.0))
    cache, other = Cache(root), Cache(root)
    keep(cache, unused)
    keep(other, used)
    cache.let_go([])

    def fetch(sha, path):
        if unused.sha in parts_in(root):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return writing(part)(sha, path)

    assert cache.get(part.sha, fetch)
    assert set(parts_in(root)) == {used.sha, part.sha}


def test_local_workers_are_told_where_there_is_no_room(root, part):
    cache = Cache(root)
    for add in (lambda: cache.get(part.sha, full_on_disk(part, [])), lambda: limited(cache, part)):
        with pytest.raises(CacheFull, match=r"no room.*MB are free in .*optomatic-cache") as full:
            add()
        assert isinstance(full.value, OSError)
    assert parts_in(root) == []


def limited(cache, part):
    """Keep a part where files may not be as large."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (part.size // 2, limits[1]))
    try:
        keep(cache, part)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
