"""Estimators that take time, misbehave, or say who scored them; importable by workers."""

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import psutil
import sklearn
from sklearn.base import BaseEstimator, ClassifierMixin
from threadpoolctl import threadpool_info
from waiting import wait_for

from optomatic._config import inside_worker


class Sleeper(ClassifierMixin, BaseEstimator):
    """Waits `seconds` in fit; scores `value`."""

    def __init__(self, value=0, seconds=0.0):
        self.value = value
        self.seconds = seconds

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        time.sleep(self.seconds)
        return self

    def predict(self, X):
        return np.full(len(X), self.classes_[0])

    def score(self, X, y):
        return float(self.value)


class Hurried(Sleeper):
    """Waits `seconds` in fit until there is a file, and from then on not at all."""

    def __init__(self, value=0, seconds=0.0, hurry=""):
        super().__init__(value, seconds)
        self.hurry = hurry

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        if not Path(self.hurry).exists():
            time.sleep(self.seconds)
        return self


class Crasher(Sleeper):
    """Ends its process by a segmentation fault where `value` is 13."""

    def fit(self, X, y):
        if self.value == 13:
            ctypes.string_at(0)
        return super().fit(X, y)


class ConfigReader(Sleeper):
    """Scores what scikit-learn's global configuration is where it is fitted."""

    def fit(self, X, y):
        self.seen_ = sklearn.get_config()["working_memory"]
        return super().fit(X, y)

    def score(self, X, y):
        return float(self.seen_) + sklearn.get_config()["assume_finite"] / 2


class Gated(Sleeper):
    """Waits in fit, where `value` is 4 or more, for a file to appear."""

    def __init__(self, value=0, gate=""):
        super().__init__(value)
        self.gate = gate

    def fit(self, X, y):
        if self.value >= 4:
            wait_for(lambda: Path(self.gate).exists(), seconds=60)
        return super().fit(X, y)


class Scoreless(BaseEstimator):
    """Predicts a constant, and cannot judge itself."""

    def __init__(self, value=0):
        self.value = value

    def fit(self, X, y):
        self.fitted_ = True
        return self

    def predict(self, X):
        return np.full(len(X), self.value)


class InsideAsker(Sleeper):
    """Scores 1 where it is fitted by a worker, 0 elsewhere."""

    def score(self, X, y):
        return float(inside_worker())


class Writer(Sleeper):
    """Writes into the param that its fit is given, and scores what comes of it."""

    def fit(self, X, y, start=None):
        start += 1
        self.start_ = start
        return super().fit(X, y)

    def score(self, X, y):
        return float(self.start_.sum())


class WhoIsIt(Sleeper):
    """Scores the number of its process."""

    def score(self, X, y):
        return float(os.getpid())


class Warner(BaseEstimator):
    """Warns in fit, and scores how many of its warnings would have been shown."""

    def __init__(self, category=UserWarning):
        self.category = category

    def fit(self, X, y):
        with warnings.catch_warnings(record=True) as caught:
            for text in ("loud", "louder"):
                warnings.warn(text, self.category, stacklevel=1)
        self.shown_ = len(caught)
        return self

    def score(self, X, y):
        return float(self.shown_)


class Misbehaver(Sleeper):
    """Does what `how` says in fit, if `value` is 13 or less than 0; `note` is a file for it."""

    def __init__(self, value=0, seconds=0.0, how="nothing", note=None):
        super().__init__(value, seconds)
        self.how = how
        self.note = note

    def fit(self, X, y):
        if self.note and self.how not in ("tell", "start_another"):
            with Path(self.note).open("a") as file:
                file.write(f"{os.getpid()} {self.value} {time.time():.3f}\n")
        if self.value == 13 or self.value < 0:
            getattr(self, f"_{self.how}")()
        return super().fit(X, y)

    def _nothing(self):
        pass

    def _tell(self):
        Path(self.note).write_text(
            json.dumps(
                {
                    "environment": dict(os.environ),
                    "modules": sorted(sys.modules),
                    "path": sys.path,
                    "interrupt": str(signal.getsignal(signal.SIGINT)),
                }
            )
        )

    def _start_another(self):
        other = subprocess.Popen(["sleep", "1000"])
        Path(self.note).write_text(str(other.pid))
        time.sleep(1000)

    def _speak(self):
        print("printed by a unit", flush=True)

    def _print(self):
        print("x" * 100_000)
        os.write(1, b"{}\n" * 1000)
        os.write(2, b"{}\n" * 1000)
        os.close(0)
        os.close(1)

    def _print_much(self):
        for _ in range(20):
            os.write(1, b"x" * 1_000_000)

    def _close_output(self):
        os.closerange(1, 3)

    def _close_everything(self):
        os.closerange(3, 1000)

    def _fork(self):
        os.fork()  # both go on

    def _fork_and_stay(self):
        if os.fork() == 0:
            time.sleep(1000)

    def _abort(self):
        os.abort()

    def _exit(self):
        sys.exit(3)

    def _quit(self):
        os._exit(7)

    def _die(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def _crash(self):
        ctypes.string_at(0)

    def _hold(self):
        """Sleep in C with the interpreter's lock held: no other thread of this process runs."""
        ctypes.PyDLL(None).sleep(1000)

    def _hang(self):
        time.sleep(1000)

    def _sleep_a_little(self):
        time.sleep(5.0)

    def _close_all(self):
        os.closerange(3, 1000)
        time.sleep(1000)


class Glutton(Misbehaver):
    """Takes more than a gigabyte, in one of several ways, if `value` is 13."""

    def _slowly(self):
        kept = []
        for _ in range(200):
            kept.append(np.ones(10_000_000 // 8))
            time.sleep(0.01)

    def _within(self):
        held = psutil.Process().memory_info()
        np.ones((280_000_000 - (held.rss - held.shared)) // 8)

    def _at_once(self):
        np.ones(1_200_000_000 // 8)

    def _elsewhere(self):
        script = (
            "import time\nkept = []\nwhile True: kept.append(b'x' * 10_000_000); time.sleep(0.01)"
        )
        subprocess.run([sys.executable, "-c", script], check=True)


class ThreadCounter(Misbehaver):
    """Notes how many threads numeric libraries would use in its process."""

    def fit(self, X, y):
        with Path(self.note).open("a") as file:
            found = [[pool["user_api"], pool["num_threads"]] for pool in threadpool_info()]
            file.write(json.dumps(found) + "\n")
        return self


class Unloadable(BaseEstimator):
    """Raises where it is unpickled by another process."""

    def __init__(self, value=0):
        self.value = value

    def __reduce__(self):
        return _refuse_elsewhere, (os.getpid(),)


def own_score(estimator, X, y):
    """Score as the estimator itself does."""
    return estimator.score(X, y)


def _refuse_elsewhere(pid):
    if pid != os.getpid():
        raise ImportError("this object needs a module that is not here")
    return Unloadable()
