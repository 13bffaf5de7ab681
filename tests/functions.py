"""Functions to score with, and to call by joblib; importable by workers."""

import ctypes
import os
import resource
import signal
import time
from pathlib import Path

import joblib
import numpy as np
from waiting import wait_for

# To call by joblib


def square(x):
    return x * x


def pid(_=None):
    return os.getpid()


def wait(seconds, value=None):
    time.sleep(seconds)
    return value


def fail(value, at):
    if value == at:
        raise LookupError(f"no {value} here")
    return value


def note_and_hang(folder, value):
    """Leave a file that names this process, and never return."""
    (Path(folder) / str(value)).write_text(str(os.getpid()))
    time.sleep(1000)


def hang_first_time(note):
    """Never return, but for those who come when `note` is there."""
    path = Path(note)
    if path.exists():
        return "the second time"
    path.write_text(str(os.getpid()))
    time.sleep(1000)
    return None


def crash(note):
    """End this process, and say that it was tried."""
    with Path(note).open("a") as file:
        file.write("x")
    ctypes.string_at(0)


def crash_at(value, at, note):
    if value == at:
        crash(note)
    return value


def count(note, value):
    """Add a byte to `note`."""
    with Path(note).open("ab") as file:
        file.write(b"x")
    return float(np.sum(value))


def wait_and_tell(seconds):
    time.sleep(seconds)
    return os.getpid()


def note_and_fork(value, forks, note):
    """Say that it runs; the copy of this process, if it `forks`, comes back, too."""
    with Path(note).open("a") as file:
        file.write(f"{value}\n")
    if forks:
        os.fork()
    return value


def die(_):
    os.kill(os.getpid(), signal.SIGKILL)


def nest(levels, backend=None):
    """Call Parallel in Parallel; return the kinds of backends, outermost first."""
    parallel = joblib.Parallel(n_jobs=2, backend=backend)
    kind = type(parallel._backend).__name__
    if not levels:
        return [kind]
    return [kind, *parallel([joblib.delayed(nest)(levels - 1, backend)] * 2)[0]]


def look_at(array, number):
    """Return what can be seen of an argument."""
    return type(array).__name__, bool(array.flags.writeable), float(array.sum()) + number


def zeros(megabytes):
    return bytes(megabytes << 20)


class NotReadable(Exception):
    """Can be pickled, but not unpickled."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


def raise_not_readable():
    raise NotReadable("this", "that")


def return_not_picklable():
    return (number for number in range(3))


def large_without_room():
    """Return more than the process may write to one file from now on."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
    return b"x" * 1_000_000


def echo(number, value):
    """Return what was sent, as it arrived."""
    return number, value


def refuse(number, value):
    raise LookupError(number, value)


# To score with


def parabola(x, y=0):
    """Best at x = 3, y = 0."""
    return -((x - 3) ** 2) - y


def with_extra(params):
    return params["x"] ** 2, {"path": (params["x"], "é", None), "pid": os.getpid()}


def metrics(x):
    return {"loss": float(x), "gain": -2.0 * x}


def of_data(params, X, y):
    return float(X.sum() * params["weight"] + len(y))


def fails_at_two(x):
    if x == 2:
        raise KeyError("two is too much")
    return x


def crashes_at_two(x):
    if x == 2:
        ctypes.string_at(0)
    return x


def slow(x, seconds=0.1):
    time.sleep(seconds)
    return x


def metrics_of_kind(kind, x):
    return len(kind) + x


def of_kind(kind, x):
    return len(kind) + (x if isinstance(x, float) else 0)


def two_goals(x):
    return {"cost": x**2, "gain": (x - 2) ** 2}


def of_a_search_inside(top, uri, **options):
    """Search in what is scored: there is no store of ones own there."""
    from optomatic import MongoSearch

    return MongoSearch(parabola, {"x": range(top)}, db=uri, **options).run().best_score_


def noisy_parabola(x, r):
    """More resources, less of an error."""
    return parabola(x) + (x % 2) * 0.5 / r


def gated(x, gate):
    """Wait, where `x` is 4 or more, for a file to appear."""
    if x >= 4:
        wait_for(lambda: Path(gate).exists(), seconds=60)
    return x
