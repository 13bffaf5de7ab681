"""Parts of bundles on local disk: content-addressed, verified, shared by all workers of a user.

The parent fills the cache and never decodes its content; children map the files into memory.
Any number of processes may use one directory.  Files appear whole, by a rename.  A process that
fetches a part holds a lock, so that others wait for it.  A process that uses a part holds a
shared lock on its file, so that it is not removed.

Nothing is removed but plain files of our own folder whose names are of the forms below.  Children
keep fitted steps there, under the same cap (:mod:`optomatic.worker.prefix_files`).
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import secrets
import stat
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

from optomatic import _config
from optomatic.errors import BundleDamaged, CacheFull, FolderRefused, StoreError
from optomatic.folder_checks import no_room, own_folder, room_in
from optomatic.planning import serialization
from optomatic.planning.constraints import size_of

#: The cache is cut down to so many bytes, when something is added.
LARGEST = 10 * 1024**3
#: The folder of our own in whatever folder is named.
FOLDER = "optomatic-cache"
_LOCK = ".lock-"
_PART = re.compile(r"[0-9a-f]{64}\.[0-9a-zA-Z]+")
#: Unfinished files: a part, and the value that a call returned.
_UNFINISHED = re.compile(r"\.[0-9a-f]{64}\.[0-9a-f]{16}|\.returned\.[0-9a-f]{32}")
#: Seconds after which nobody is writing it any more.
_STALE = 3600.0
#: Seconds for which a directory that takes nothing is left alone.
_AGAIN = 60.0


log = logging.getLogger("optomatic.worker")


def cache_home(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the folder in which the cache of this machine has its own."""
    return Path(
        _config.setting(_config.HOME, environ) or environ.get("XDG_CACHE_HOME") or "~/.cache"
    )


def cache_size(environ: Mapping[str, str] = os.environ) -> int:
    """Return the size of the cache of this machine, in bytes; raise ValueError for no size."""
    try:
        return size_of(_config.setting(_config.CACHE_SIZE, environ) or _config.DEFAULT_CACHE_SIZE)
    except ValueError as error:
        raise ValueError(f"${_config.CACHE_SIZE}: {error}") from None


class Cache:
    """A directory of parts, ``root``: :data:`FOLDER` in `place`, for its owner only.

    The least recently used parts are removed beyond `largest` bytes.  With `in_memory` parts
    that cannot be written to disk are kept in memory while they are in use.  Raises FolderRefused
    if others could put code of theirs into the directory, CacheFull if there is no room for it.
    """

    def __init__(
        self,
        place: Path,
        *,
        largest: int = LARGEST,
        in_memory: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        try:
            self.root = own_folder(place, FOLDER)
        except FolderRefused as error:
            text = f"{error} Name another folder with --cache-dir or $OPTOMATIC_HOME."
            raise FolderRefused(text) from error
        except OSError as error:
            raise _full(place, error) from error
        self.largest, self._in_memory, self._clock = largest, in_memory, clock
        self._verified: dict[str, tuple[str, Path]] = {}
        self._pins: dict[str, int] = {}
        #: Parts in memory: kind, path, descriptor.
        self._memory: dict[str, tuple[str, Path, int]] = {}
        self._disk_at = 0.0

    def get(self, sha: str, fetch: Callable[[str, Path], str]) -> tuple[str, Path]:
        """Return kind and path of a part; ``fetch(sha, path)`` gets it if it is not here.

        Of several processes that want it at the same time one fetches it.  It is in use, and
        not removed, until :meth:`let_go` or the end of this process.  Raise CacheFull if there is
        no room for it.
        """
        found = self.find(sha)
        if found is not None:
            return found
        if self._clock() < self._disk_at:
            return self._hold(sha, fetch)
        try:
            with self._alone(_checked(sha)):
                return self.find(sha) or self.add(sha, lambda path: fetch(sha, path))
        except StoreError:
            raise
        except OSError as error:
            if self._in_memory:
                self._avoid_disk(error)
            elif no_room(error):
                raise _full(self.root, error) from error
            else:
                raise
        return self._hold(sha, fetch)

    def find(self, sha: str) -> tuple[str, Path] | None:
        """Return kind and path of a part, or None if it is not here.

        It is verified on the first look of this object; what is damaged is removed.
        """
        if sha in self._memory:
            return self._memory[sha][:2]
        known = self._verified.get(sha) or self._look(_checked(sha))
        if known is None or not self._pin(sha, known[1]) or not _touch(known[1], self._clock()):
            self._verified.pop(sha, None)
            self._unpin(sha)
            return None
        self._verified[sha] = known
        return known

    def _avoid_disk(self, error: OSError) -> None:
        """Keep what comes in memory for a while; say so the first time."""
        if not self._disk_at:
            why = error.where if isinstance(error, CacheFull) else f"{error.strerror}, {self.root}"
            log.warning(
                "the cache takes no more data (%s): what finds no room is kept in memory while "
                "in use. Free some space there, or name another folder with --cache-dir",
                why,
            )
        self._disk_at = self._clock() + _AGAIN

    def _hold(self, sha: str, fetch: Callable[[str, Path], str]) -> tuple[str, Path]:
        """Get a part into a file in memory, which children find by its path."""
        try:
            descriptor = os.memfd_create("optomatic-part", os.MFD_CLOEXEC)
        except AttributeError:  # not on macOS
            raise _full(self.root) from None
        path = Path(f"/proc/{os.getpid()}/fd/{descriptor}")
        try:
            kind = fetch(sha, path)
            serialization.verify(sha, kind, path)
        except BaseException as error:
            os.close(descriptor)
            if isinstance(error, OSError) and no_room(error):
                raise _full(self.root, error) from error
            raise
        self._memory[sha] = (kind, path, descriptor)
        return kind, path

    def let_go(self, in_use: Collection[str]) -> None:
        """Let all parts but these be removed when there is no room for them."""
        for sha in [sha for sha in self._pins if sha not in in_use]:
            self._unpin(sha)
        for sha in [sha for sha in self._memory if sha not in in_use]:
            os.close(self._memory.pop(sha)[2])

    def _pin(self, sha: str, path: Path) -> bool:
        """Keep a file from being removed; return whether it was still there."""
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
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self.root / f"{_LOCK}{sha[:2]}", flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def add(self, sha: str, write: Callable[[Path], str]) -> tuple[str, Path]:
        """Add a part: ``write(path)`` writes its content to a new file and returns its kind.

        Where the disk is full, all that nobody uses is removed for it; then raise CacheFull.  Raise
        BundleDamaged, and keep nothing, if what was written does not match `sha`.
        """
        while True:
            try:
                found = self._add(sha, write)
            except OSError as error:
                if not no_room(error):
                    raise
                if not self.trim(0):  # else the room may be enough now
                    raise _full(self.root, error) from error
            else:
                self.trim()
                return found

    def _add(self, sha: str, write: Callable[[Path], str]) -> tuple[str, Path]:
        temporary = self.root / f".{_checked(sha)}.{secrets.token_hex(8)}"
        try:
            kind = write(temporary)
            serialization.verify(sha, kind, temporary)
            path = self.root / f"{sha}.{_checked(kind, '[0-9a-zA-Z]+')}"
            temporary.rename(path)
            _touch(path, self._clock())
            self._unpin(sha)
            self._pin(sha, path)
        finally:
            temporary.unlink(missing_ok=True)
        self._verified[sha] = (kind, path)
        return kind, path

    def trim(self, largest: int | None = None) -> bool:
        """Remove the least recently used files that nobody uses, until the rest fits.

        Return whether something was removed.
        """
        files = sorted(self._files(), key=lambda found: found[0])
        total = sum(size for _, size, _ in files)
        largest = self.largest if largest is None else largest
        removed = False
        for _, size, path in files:
            if total <= largest:
                break
            if _remove_unused(path):
                total -= size
                removed = True
        return removed

    def _files(self) -> list[tuple[float, int, Path]]:
        """Return (last use, bytes, path) of our files, unfinished ones of ended processes too."""
        found = []
        for name in os.listdir(self.root):
            is_part = _PART.fullmatch(name)
            if not is_part and not _UNFINISHED.fullmatch(name):
                continue
            path = self.root / name
            status = _status(path)
            if status and (is_part or self._clock() - status.st_mtime > _STALE):
                found.append((status.st_mtime, status.st_size, path))
        return found

    def _look(self, sha: str) -> tuple[str, Path] | None:
        names = [name for name in os.listdir(self.root) if name.startswith(f"{sha}.")]
        for path in [self.root / name for name in names if _PART.fullmatch(name)]:
            if _status(path) is None:
                continue
            kind = path.suffix[1:]
            try:
                serialization.verify(sha, kind, path)
            except (BundleDamaged, FileNotFoundError):
                path.unlink(missing_ok=True)
            else:
                return kind, path
        return None


def _remove_unused(path: Path) -> bool:
    """Remove a file unless some process uses it; return whether it is gone."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
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


def _checked(name: str, form: str = "[0-9a-f]{64}") -> str:
    """Return `name`, which comes from the database, if it names a part (or kind) and no path."""
    if not re.fullmatch(form, name):
        raise BundleDamaged(
            f"{name!r} cannot name a part of a bundle, so nothing was read or written. The "
            "stored unit that names it is damaged, or not written by optomatic."
        )
    return name


def _full(folder: Path, error: OSError | None = None) -> CacheFull:
    why = "and data cannot be kept in memory here" if error is None else error.strerror
    where = f"{why}; {room_in(folder)}"
    return CacheFull(
        f"There is no room for the data that workers load ({where}). All finished scores are "
        "stored. Free some space there, or name another folder with $OPTOMATIC_HOME, "
        "$XDG_CACHE_HOME or the worker's --cache-dir: only missing units are scored then.",
        where,
    )


def _touch(path: Path, now: float) -> bool:
    """Note that `path` is used now; return whether it is still there."""
    try:
        os.utime(path, (now, now), follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _status(path: Path) -> os.stat_result | None:
    """Return the status of a plain file, None for all else, links included."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    return found if stat.S_ISREG(found.st_mode) else None
