"""Parts of bundles on local disk: content-addressed, verified, shared by all workers of a user.

The parent fills the cache and never decodes what is in it; children map the files into
memory.  Any number of processes may use one directory: files appear whole, by a rename; who
fetches a part holds a lock, so that others wait for it instead of fetching it too; and who
uses one holds a shared lock on its file, so that it is not removed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import stat
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from optomatic.errors import BundleDamaged
from optomatic.planning import parts
from optomatic.records import Part

#: The cache is cut down to so many bytes, when something is added.
LARGEST = 10 * 1024**3
_LOCK = ".lock-"


class Cache:
    """A directory of parts.

    Parameters
    ----------
    root : Path
        Made if it is missing, with access for its owner only.
    largest : int
        Bytes.  The least recently used parts are removed beyond it.

    Raises
    ------
    PermissionError
        If the directory belongs to someone else, who could put code of theirs into it.
    """

    def __init__(
        self, root: Path, *, largest: int = LARGEST, clock: Callable[[], float] = time.time
    ) -> None:
        self.root = root
        self._largest = largest
        self._clock = clock
        self._verified: dict[str, tuple[str, Path]] = {}
        self._pins: dict[str, int] = {}
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        _claim_for_owner(root)

    def get(self, sha: str, fetch: Callable[[str, Path], str]) -> tuple[str, Path]:
        """Return kind and path of a part; ``fetch(sha, path)`` gets it if it is not here.

        Of several processes that want it at the same time one fetches it.  It is in use, and
        not removed, until :meth:`let_go` or the end of this process.
        """
        found = self.find(sha)
        if found is None:
            with self._alone(_plain(sha)):
                found = self.find(sha) or self.add(sha, lambda path: fetch(sha, path))
        return found

    def find(self, sha: str) -> tuple[str, Path] | None:
        """Return kind and path of a part, or None if it is not here.

        It is verified on the first look of this object; what is damaged is removed.
        """
        known = self._verified.get(sha) or self._look(_plain(sha))
        if known is None or not self._pin(sha, known[1]) or not _touch(known[1], self._clock()):
            self._verified.pop(sha, None)
            self._unpin(sha)
            return None
        self._verified[sha] = known
        return known

    def let_go(self, in_use: Collection[str]) -> None:
        """Let all parts but these be removed when there is no room for them."""
        for sha in [sha for sha in self._pins if sha not in in_use]:
            self._unpin(sha)

    def _pin(self, sha: str, path: Path) -> bool:
        """Keep a file from being removed; tell whether it was still there."""
        if sha not in self._pins:
            try:
                self._pins[sha] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return False
            fcntl.flock(self._pins[sha], fcntl.LOCK_SH)
        return os.fstat(self._pins[sha]).st_nlink > 0

    def _unpin(self, sha: str) -> None:
        descriptor = self._pins.pop(sha, None)
        if descriptor is not None:
            os.close(descriptor)

    @contextlib.contextmanager
    def _alone(self, sha: str) -> Iterator[None]:
        """Be the only process that fetches this part (or one of the few that share its lock)."""
        descriptor = os.open(self.root / f"{_LOCK}{sha[:2]}", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def add(self, sha: str, write: Callable[[Path], str]) -> tuple[str, Path]:
        """Add a part: ``write(path)`` writes its content to a new file and returns its kind.

        Raises
        ------
        BundleDamaged
            If what was written does not match `sha`.  Nothing is kept.
        """
        temporary = self.root / f".{_plain(sha)}.{secrets.token_hex(8)}"
        try:
            kind = write(temporary)
            parts.verify(sha, kind, temporary)
            path = self.root / f"{sha}.{_plain(kind)}"
            temporary.rename(path)
            _touch(path, self._clock())
            self._unpin(sha)
            self._pin(sha, path)
        finally:
            temporary.unlink(missing_ok=True)
        self._verified[sha] = (kind, path)
        self.trim()
        return kind, path

    def keep(self, part: Part) -> tuple[str, Path]:
        """Add a part that is in memory, unless it is here."""

        def write(path: Path) -> str:
            with path.open("wb") as file:
                for buffer in part.buffers:
                    file.write(buffer)
            return part.kind

        return self.find(part.sha) or self.add(part.sha, write)

    def trim(self) -> None:
        """Remove the least recently used files that nobody uses, until the rest fits."""
        files = sorted(_files(self.root), key=lambda found: found[0])
        total = sum(size for _, size, _ in files)
        for _, size, path in files:
            if total <= self._largest:
                return
            if _remove_unused(path):
                total -= size

    def _look(self, sha: str) -> tuple[str, Path] | None:
        for path in self.root.glob(f"{sha}.*"):
            kind = path.suffix[1:]
            try:
                parts.verify(sha, kind, path)
            except (BundleDamaged, FileNotFoundError):
                path.unlink(missing_ok=True)
            else:
                return kind, path
        return None


def _remove_unused(path: Path) -> bool:
    """Remove a file unless some process uses it; tell whether it is gone."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink(missing_ok=True)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def _plain(name: str) -> str:
    """Return `name`, which comes from the database, if it is no path to somewhere else."""
    if not (name.isascii() and name.isalnum()):
        raise BundleDamaged(
            f"{name!r} cannot name a part of a bundle, so nothing was read or written. The "
            "stored unit that names it is damaged, or not written by optomatic."
        )
    return name


def _claim_for_owner(root: Path) -> None:
    found = root.stat()
    if found.st_uid != os.getuid():
        raise PermissionError(
            f"The cache directory {str(root)!r} belongs to another user, who could change what "
            "workers load from it, so it is not used. Name another one with --cache-dir or "
            "$OPTOMATIC_HOME."
        )
    if stat.S_IMODE(found.st_mode) & 0o077:
        root.chmod(0o700)


def _touch(path: Path, now: float) -> bool:
    """Note that `path` is used now; tell whether it is still there."""
    try:
        os.utime(path, (now, now))
    except FileNotFoundError:
        return False
    return True


def _files(root: Path) -> list[tuple[float, int, Path]]:
    """Return (last use, bytes, path) of all files, unfinished ones of ended processes included."""
    found = []
    for path in root.iterdir():
        if path.name.startswith(_LOCK):
            continue
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            found.append((status.st_mtime, status.st_size, path))
    return found
