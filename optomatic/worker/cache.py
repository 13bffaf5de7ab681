"""Parts of bundles on local disk: content-addressed, verified, shared by all workers of a user.

The parent fills the cache and never decodes what is in it; children map the files into
memory.  Any number of processes may use one directory: files appear whole, by a rename, and
a removed file stays readable for those that have it open.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import time
from collections.abc import Callable
from pathlib import Path

from optomatic.errors import BundleDamaged
from optomatic.plan import bundle
from optomatic.records import Part

#: The cache is cut down to so many bytes, when something is added.
LARGEST = 10 * 1024**3
#: Nothing that was used so many seconds ago or later is removed: a child may be opening it.
IN_USE = 3600.0


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
        self._root = root
        self._largest = largest
        self._clock = clock
        self._verified: dict[str, tuple[str, Path]] = {}
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        _claim_for_owner(root)

    def get(self, sha: str, fetch: Callable[[str, Path], str]) -> tuple[str, Path]:
        """Return kind and path of a part; ``fetch(sha, path)`` gets it if it is not here."""
        return self.find(sha) or self.add(sha, lambda path: fetch(sha, path))

    def find(self, sha: str) -> tuple[str, Path] | None:
        """Return kind and path of a part, or None if it is not here.

        It is verified on the first look of this object; what is damaged is removed.
        """
        known = self._verified.get(sha) or self._look(_plain(sha))
        if known is None or not _touch(known[1], self._clock()):
            self._verified.pop(sha, None)
            return None
        self._verified[sha] = known
        return known

    def add(self, sha: str, write: Callable[[Path], str]) -> tuple[str, Path]:
        """Add a part: ``write(path)`` writes its content to a new file and returns its kind.

        Raises
        ------
        BundleDamaged
            If what was written does not match `sha`.  Nothing is kept.
        """
        temporary = self._root / f".{_plain(sha)}.{secrets.token_hex(8)}"
        try:
            kind = write(temporary)
            bundle.verify(sha, kind, temporary)
            path = self._root / f"{sha}.{_plain(kind)}"
            temporary.rename(path)
            _touch(path, self._clock())
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
        """Remove the least recently used files until the rest fits."""
        files = sorted(_files(self._root), key=lambda found: found[0], reverse=True)
        total = 0
        for used_at, size, path in files:
            total += size
            if total > self._largest and used_at < self._clock() - IN_USE:
                path.unlink(missing_ok=True)
                total -= size

    def _look(self, sha: str) -> tuple[str, Path] | None:
        for path in self._root.glob(f"{sha}.*"):
            kind = path.suffix[1:]
            try:
                bundle.verify(sha, kind, path)
            except (BundleDamaged, FileNotFoundError):
                path.unlink(missing_ok=True)
            else:
                return kind, path
        return None


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
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            found.append((status.st_mtime, status.st_size, path))
    return found
