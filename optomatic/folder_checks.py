"""Checks before files are removed: folders of our own, inside of those that users name.

A user may name any folder, such as ``--cache-dir mydata`` or ``$OPTOMATIC_HOME``.  In it one of our
own is made, with a file in it that says so (:data:`MARKER`).  Only what lies in there is
removed, renamed or made private; a folder of that name that we did not make is refused.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from pathlib import Path

from optomatic.errors import FolderRefused

#: The file that tells our folders from all others.
MARKER = ".made-by-optomatic"
_TEXT = b"optomatic made this folder and removes files in it: keep nothing of your own here.\n"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: No block left, none left for this user, and a file as large as files may get (ulimit -f).
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NO_ROOM_TEXTS = ("No space left on device", "Disk quota exceeded", "File too large")


def own_folder(place: Path, name: str) -> Path:
    """Return the real path of our folder `name` in `place`; make missing folders.

    Only its owner can enter it.  Any number of processes may ask for it at the same time.
    `place` is as the user names it, and may be a link.

    Raise :class:`FolderRefused` if `place` is no folder, is another user's, or cannot be written
    to.  Raise it, too, if something of that name is there that optomatic did not make.  Raise
    `OSError` if there is no room for it (:func:`no_room`).
    """
    folder = place
    try:
        folder = _place(place) / name
        made = _made(folder)
        descriptor = os.open(folder, _FOLDER)
        try:
            if not made:
                _make_sure_of(descriptor, folder)
            _keep_to_ourselves(descriptor, folder)
        finally:
            os.close(descriptor)
    except (OSError, RuntimeError, ValueError) as error:  # no home directory; a NUL
        if isinstance(error, FolderRefused) or (isinstance(error, OSError) and no_room(error)):
            raise
        raise _refused(folder, _reason(error)) from error
    return folder


def no_room(error: OSError) -> bool:
    """Return whether a file could not be written for want of space."""
    return error.errno in _NO_ROOM


def says_no_room(text: str) -> bool:
    """Return whether the message of another program, in English, says so."""
    return any(reason in text for reason in _NO_ROOM_TEXTS)


def room_in(folder: Path) -> str:
    """Return how much space is left where `folder` is, or would be, in words."""
    while not folder.exists():
        folder = folder.parent
    return f"{shutil.disk_usage(folder).free / 1e6:.1f} MB are free in {folder}"


def _place(place: Path) -> Path:
    """Return the real path of a folder that a user has named, made if it is missing."""
    place = place.expanduser()
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    # The owner of the folder, or of the link to it, may exchange ours for one of theirs.
    for found in (place.lstat(), place.stat()):
        if found.st_uid not in (0, os.geteuid()):
            raise _refused(place, f"it belongs to another user ({_ids(found)})")
    return place.resolve(strict=True)


def _made(folder: Path) -> bool:
    """Make a folder; return whether it was missing."""
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        return False
    return True


def _make_sure_of(descriptor: int, folder: Path) -> None:
    """Refuse an open folder that is not ours."""
    found = os.fstat(descriptor)
    if found.st_uid != os.geteuid():
        raise _refused(folder, f"it belongs to another user ({_ids(found)})")
    there = os.listdir(descriptor)
    # An empty one that nobody else can enter is one that some process of ours has just made.
    suspicious = there or found.st_mode & 0o077
    # Looked at afterwards, as another process may just have marked it.
    if not _is_marked(descriptor) and suspicious:
        raise _refused(folder, "it is there already, and optomatic did not make it")


def _keep_to_ourselves(descriptor: int, folder: Path) -> None:
    """Mark an open folder of ours, and keep others out of it."""
    if not _is_marked(descriptor):
        _mark(descriptor)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise _refused(folder, "it cannot be written to")
    if os.fstat(descriptor).st_mode & 0o077:
        os.fchmod(descriptor, 0o700)


def _is_marked(descriptor: int) -> bool:
    try:
        found = os.stat(MARKER, dir_fd=descriptor, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid()


def _mark(descriptor: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    marker = os.open(MARKER, flags, 0o600, dir_fd=descriptor)
    try:
        os.write(marker, _TEXT)
    except OSError as error:
        if not no_room(error):  # its name says enough
            raise
    finally:
        os.close(marker)


def _ids(found: os.stat_result) -> str:
    return f"id {found.st_uid}; this process runs as {os.geteuid()}"


def _reason(error: Exception) -> str:
    if isinstance(error, FileExistsError | NotADirectoryError):
        return "there is a link or a file of that name, and no folder"
    return str(error.strerror) if isinstance(error, OSError) else str(error)


def _refused(folder: Path, why: str) -> FolderRefused:
    return FolderRefused(
        f"The folder {str(folder)!r} cannot be used: {why}. Nothing in it was changed, and nothing "
        "was stored."
    )
