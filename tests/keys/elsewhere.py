"""Make objects of source text, here and in a lasting process with another hash seed."""

import contextlib
import functools
import json
import os
import subprocess
import sys
import traceback
import types
import warnings
from pathlib import Path

from sklearn import config_context
from sklearn.model_selection import GridSearchCV, KFold
from threadpoolctl import threadpool_limits

TESTS = Path(__file__).parents[1]


@functools.lru_cache(64)
def _compiled(source, file):
    return compile(source, file, "exec", dont_inherit=True)


def _empty(name, names):
    module = types.ModuleType(name)
    is_package = any(other.startswith(f"{name}.") for other in names)
    module.__package__ = name if is_package else name.rpartition(".")[0]
    if is_package:
        module.__path__ = []
    return module


@contextlib.contextmanager
def modules(sources):
    """Make a module of each source text, to be imported while this lasts, and yield the last.

    They are all there from the first on, so they may refer to each other in functions.
    """
    made = {name: _empty(name, sources) for name in sources}
    before = {name: sys.modules.get(name) for name in made}
    sys.modules.update(made)
    try:
        for name, module in made.items():
            parent, _, own = name.rpartition(".")
            if parent in made:
                setattr(made[parent], own, module)
            exec(_compiled(sources[name], f"{name}.py"), vars(module))
        yield module
    finally:
        for name, old in before.items():
            sys.modules.pop(name, None)
            if old is not None:
                sys.modules[name] = old


def described(module):
    """Return what is known of the digest of ``module.made``."""
    from optomatic.keys.digest import digest_of
    from optomatic.keys.estimators import digest_of_estimator, is_standard

    found = (digest_of_estimator if is_standard(module.made) else digest_of)(module.made)
    return {
        "hex": found.hex,
        "doubts": [str(doubt) for doubt in found.doubts],
        "modules": sorted(found.modules),
        "python": bool(found.python),
    }


def unit_keys(module):
    """Return what the keys of a module's units are made of, by ingredient."""
    from optomatic.keys.digest import digest_of
    from optomatic.keys.estimators import Effective

    params = dict(module.params)
    found = {
        "estimator": Effective(module.estimator, varied=tuple(params)).of(params),
        "X": digest_of(module.X, rows=True),
        "y": digest_of(module.y, rows=True),
        "scoring": digest_of(module.scoring),
    }
    doubts = [str(doubt) for digest in found.values() for doubt in digest.doubts]
    assert not doubts, doubts
    return {name: digest.hex for name, digest in found.items()}


def truth(module):
    """Return the scores of GridSearchCV, to the last bit."""
    grid = {name: [value] for name, value in module.params.items()}
    options = {"cv": KFold(2), "scoring": module.scoring, "refit": False}
    with warnings.catch_warnings(), config_context(skip_parameter_validation=True):
        warnings.simplefilter("ignore")
        try:
            search = GridSearchCV(module.estimator, grid, **options).fit(module.X, module.y)
        except ValueError as error:
            return f"failed: {str(error)[-200:]}"
    scores = [search.cv_results_[f"split{n}_test_score"][0] for n in range(2)]
    return " ".join(float(score).hex() for score in scores)


def keys_and_truth(module):
    """Return what a unit's keys are made of, and the scores."""
    return unit_keys(module), truth(module)


ASKED = {"described": described, "unit_keys": unit_keys, "keys_and_truth": keys_and_truth}


def answer(what, sources):
    """Return what is asked of modules that are made of `sources`."""
    with modules(sources) as module:
        return ASKED[what](module)


class Elsewhere:
    """A process with another hash seed, which answers as :func:`answer` does."""

    def __init__(self):
        seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
        paths = os.pathsep.join([str(TESTS), str(TESTS.parent)])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "keys.elsewhere"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": paths},
            text=True,
        )

    def send(self, what, sources):
        """Ask for something, to be received later; the other process works meanwhile."""
        self._process.stdin.write(json.dumps([what, sources]) + "\n")
        self._process.stdin.flush()

    def receive_all(self, count):
        """Return all that was asked for; none is left behind where one of them failed."""
        lines = [self._process.stdout.readline() for _ in range(count)]
        assert all(lines), "the other process has ended"
        found, errors = zip(*map(json.loads, lines), strict=True)
        for error in filter(None, errors):
            raise RuntimeError(f"In the process with another hash seed:\n{error}")
        return found

    def answer(self, what, sources):
        self.send(what, sources)
        return self.receive_all(1)[0]

    def close(self):
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def serve():
    """Answer each line of the standard input by one of the standard output."""
    with os.fdopen(os.dup(1), "w") as out, threadpool_limits(1):
        os.dup2(2, 1)  # what imported modules print goes elsewhere
        for line in sys.stdin:
            try:
                found, error = answer(*json.loads(line)), None
            except Exception:
                found, error = None, traceback.format_exc()
            out.write(json.dumps([found, error]) + "\n")
            out.flush()


if __name__ == "__main__":
    serve()
