"""Ends all processes of a soak, and removes their files, as soon as the soak has ended.

``python -m soaking.janitor MARK FOLDER`` waits until its stdin closes, which the kernel does
however the soak ends.  Then it kills every process in whose environment ``SOAK=MARK`` stands.
All inherit that, also those that leave their process group and their parent, as the embedded
server does.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

VARIABLE = "SOAK"


@contextmanager
def cleaned_up(folder: Path):  # type: ignore[no-untyped-def]
    """Have all that is started inside end with this process, and `folder` with it."""
    os.environ.pop(VARIABLE, None)
    janitor = subprocess.Popen(
        [sys.executable, "-m", "soaking.janitor", folder.name, str(folder)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        stdin=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C at a terminal does not reach it
    )
    os.environ[VARIABLE] = folder.name
    try:
        yield
    finally:
        assert janitor.stdin is not None
        janitor.stdin.close()
        janitor.wait()


def marked(mark: str) -> list[int]:
    """Return the processes that were started with `mark` in their environment."""
    entry, found = f"\0{VARIABLE}={mark}\0".encode(), []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or is another user's
            if entry in b"\0" + (path / "environ").read_bytes():
                found.append(int(path.name))
    return found


def clean_up(mark: str, folder: str) -> None:
    """Kill all until none is left: one that is just being started may be missed once."""
    for _ in range(100):
        pids = marked(mark)
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if not pids:
            break
        time.sleep(0.05)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.stdin.read()
    clean_up(*sys.argv[1:])
