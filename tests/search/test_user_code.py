"""Code of the user's own goes wherever it is scored, and counts as far as it is reached."""

import json
import shutil
import subprocess
import sysconfig
import uuid

import pytest
from pymongo import MongoClient
from search.user_code import UNITS, User, end, standalone_worker
from waiting import wait_for

# What one test has run is there for many.
pytestmark = pytest.mark.timeout(600)

#: What every estimator here is: it scores the sum of the data by what its value() says.
HEAD = """
import numpy as np
from sklearn.base import BaseEstimator

GRID = {"k": [1, 2]}
KINDS = {}

class Scored(BaseEstimator):
    def __init__(self, k=1):
        self.k = k
    def fit(self, X, y=None):
        self.rows_ = len(X)
        return self
    def score(self, X, y=None):
        return float(np.sum(X)) * self.value()
"""
RUN = """
if __name__ == "__main__":
    from search.user_code import report
    report(KINDS)
"""

#: Code as users write it, in a script as well as in modules.
CODE = {
    "a function": """
FACTOR = 3

def times_factor(k):
    return FACTOR * k

class OfAFunction(Scored):
    def value(self):
        return times_factor(self.k)

kind = OfAFunction(), GRID
""",
    "functions that call each other": """
def is_even(n):
    return n == 0 or is_odd(n - 1)

def is_odd(n):
    return n != 0 and is_even(n - 1)

class OfRecursion(Scored):
    def value(self):
        return 2 + is_even(self.k)

kind = OfRecursion(), GRID
""",
    "a lambda": """
LAMBDAS = {"cube": lambda k: k**3 + 1}

class OfALambda(Scored):
    def value(self):
        return LAMBDAS["cube"](self.k)

kind = OfALambda(), GRID
""",
    "a closure": """
def adder(n):
    def add(k):
        return k + n
    return add

add_seven = adder(7)

class OfAClosure(Scored):
    def value(self):
        return add_seven(self.k)

kind = OfAClosure(), GRID
""",
    "a class of a closure": """
def class_of(n):
    class Local(Scored):
        def value(self):
            return self.k + n
    return Local

kind = class_of(8)(), GRID
""",
    "a decorated function": """
import functools

def ten_times(function):
    @functools.wraps(function)
    def inner(*args, **kwargs):
        return 10 * function(*args, **kwargs)
    return inner

@ten_times
def one_more(k):
    return k + 1

class OfADecorator(Scored):
    def value(self):
        return one_more(self.k)

kind = OfADecorator(), GRID
""",
    "a function behind lru_cache": """
import functools

@functools.lru_cache(maxsize=None)
def remembered(k):
    return k**4

remembered(1)

class OfACache(Scored):
    def value(self):
        return remembered(self.k)

kind = OfACache(), GRID
""",
    "a partial": """
import functools

def ratio(k, by):
    return k / by

half = functools.partial(ratio, by=2)

class OfAPartial(Scored):
    def value(self):
        return half(self.k)

kind = OfAPartial(), GRID
""",
    "a scorer that is a partial": """
import functools

def scaled(model, X, y, by):
    return model.score(X, y) * by

kind = OfAFunction(), GRID, {"scoring": functools.partial(scaled, by=0.25)}
""",
    "a metaclass": """
class Counting(type):
    def __new__(mcs, name, bases, space):
        return super().__new__(mcs, name, bases, {**space, "bonus": len(name)})
    def plus_bonus(cls, k):
        return k + cls.bonus

class OfAMetaclass(Scored, metaclass=Counting):
    def value(self):
        return type(self).plus_bonus(self.k)

kind = OfAMetaclass(), GRID
""",
    "an abstract class": """
import abc

class Abstract(Scored, abc.ABC):
    @abc.abstractmethod
    def value(self):
        return self.k * 6

class Concrete(Abstract):
    def value(self):
        return super().value() + 1

kind = Concrete(), GRID
""",
    "classes that register themselves": """
class Plugin:
    known = {}
    def __init_subclass__(cls, **options):
        super().__init_subclass__(**options)
        Plugin.known[cls.__name__] = cls

class Once(Plugin):
    by = 1

class Twice(Plugin):
    by = 2

class OfARegister(Scored):
    def value(self):
        return Plugin.known["Twice"].by * self.k + len(Plugin.known)

kind = OfARegister(), GRID
""",
    "an enum": """
import enum

class Size(enum.Enum):
    SMALL = 1
    LARGE = 5
    def of(self, k):
        return self.value * k

class OfAnEnum(Scored):
    def __init__(self, k=1, size=Size.SMALL):
        self.k = k
        self.size = size
    def value(self):
        return self.size.of(self.k) + (self.size is Size.LARGE)

kind = OfAnEnum(), {"size": [Size.SMALL, Size.LARGE]}
""",
    "a dataclass": """
from dataclasses import dataclass, field

@dataclass
class Settings:
    by: int = 2
    more: list = field(default_factory=lambda: [1, 2])

class OfADataclass(Scored):
    def __init__(self, k=1, settings=None):
        self.k = k
        self.settings = settings
    def value(self):
        settings = self.settings or Settings()
        return settings.by * self.k + len(settings.more) + (settings == Settings())

kind = OfADataclass(), {"settings": [None, Settings(7)]}
""",
    "an estimator that is a dataclass": """
from dataclasses import dataclass

@dataclass
class OfFields(Scored):
    k: int = 1
    by: int = 4
    def value(self):
        return self.k * self.by

kind = OfFields(), GRID
""",
    "a dataclass with slots": """
from dataclasses import dataclass

@dataclass(slots=True, frozen=True)
class Slotted:
    by: int = 2
    def times(self, k):
        return self.by * k

class OfSlots(Scored):
    def __init__(self, k=1, slotted=Slotted()):
        self.k = k
        self.slotted = slotted
    def value(self):
        return self.slotted.times(self.k) + Slotted(5).by

kind = OfSlots(), {"slotted": [Slotted(3), Slotted(4)]}
""",
    "a named tuple": """
from typing import NamedTuple

class Pair(NamedTuple):
    left: int
    right: int = 4
    def both(self):
        return self.left + self.right

class OfATuple(Scored):
    def __init__(self, k=1, pair=Pair(1)):
        self.k = k
        self.pair = pair
    def value(self):
        return self.pair.both() * Pair(self.k).right

kind = OfATuple(), {"pair": [Pair(1), Pair(2, 3.5)]}
""",
    "a class with __slots__": """
class Tight:
    __slots__ = ("by", "__hidden")
    def __init__(self, by):
        self.by = by
        self.__hidden = 1
    def times(self, k):
        return self.by * k + self.__hidden

TIGHT = Tight(7)

class OfTightOnes(Scored):
    def __init__(self, k=1, tight=None):
        self.k = k
        self.tight = tight
    def value(self):
        return (self.tight or TIGHT).times(self.k) + Tight(1).times(1)

kind = OfTightOnes(), {"tight": [None, Tight(9)]}
""",
    "properties": """
import functools

class Propertied:
    by = 3
    def __init__(self, k):
        self._k = k
    @property
    def k(self):
        return self._k
    @k.setter
    def k(self, k):
        self._k = k + 1
    @functools.cached_property
    def square(self):
        return self._k**2
    @classmethod
    def made(cls, k):
        return cls(k * cls.by)
    @staticmethod
    def two():
        return 2

class OfProperties(Scored):
    def value(self):
        made = Propertied.made(self.k)
        made.k = self.k
        return made.k + made.square + made.two()

kind = OfProperties(), GRID
""",
    "a pipeline with a function": """
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

def doubled(X):
    return X * 2

def halved(X):
    return X / 2

kind = (
    make_pipeline(FunctionTransformer(doubled), OfAFunction()),
    {"functiontransformer__func": [doubled, halved]},
)
""",
    "a dict that is filled": """
TABLE = {"a": 1}

def entry(name):
    def add(function):
        TABLE[name] = function
        return function
    return add

@entry("b")
def b_of(k):
    return k * 11

class OfATable(Scored):
    def value(self):
        return TABLE["b"](self.k) + TABLE["a"]

kind = OfATable(), GRID
""",
    "a lock": """
import threading

LOCK, AGAIN = threading.Lock(), threading.RLock()

def guarded(k):
    with LOCK, AGAIN:
        return k * 12

class OfALock(Scored):
    def value(self):
        return guarded(self.k)

kind = OfALock(), GRID
""",
    "a logger": """
import logging

LOG = logging.getLogger(__name__)

def logged(k):
    LOG.debug("of %s", k)
    return k * 13

class OfALogger(Scored):
    def value(self):
        return logged(self.k)

kind = OfALogger(), GRID
""",
    "a megabyte of globals": """
NUMBERS = np.arange(65_536.0)
BYTES = bytes(range(256)) * 2048

class OfMuch(Scored):
    def value(self):
        return NUMBERS[-self.k] + 3 * BYTES[self.k] + len(BYTES)

kind = OfMuch(), GRID
""",
    "an import of a module as the function runs": """
def helped(k):
    import late_helpers
    return late_helpers.times(k)

class OfALateModule(Scored):
    def value(self):
        return helped(self.k)

kind = OfALateModule(), GRID
""",
    "an import from a package as the function runs": """
class OfALatePackage(Scored):
    def value(self):
        from late.inner import plus
        import late.inner.constants
        return plus(self.k) * late.inner.constants.K

kind = OfALatePackage(), GRID
""",
}
#: What `CODE` imports as it runs.
LATE = {
    "late_helpers.py": "K = 4\ndef times(k):\n    return k * K\n",
    "late/__init__.py": "",
    "late/inner/__init__.py": "OFFSET = 5\ndef plus(k):\n    return k + OFFSET\n",
    "late/inner/constants.py": "K = 6\n",
}


def kinds_of(code):
    """Return the text of a module with these kinds."""
    return HEAD + "".join(f"{text}\nKINDS[{name!r}] = kind\n" for name, text in code.items())


ALL = kinds_of(CODE)
#: Enough to see that it makes no difference where code stands.
FEW_CODE = {
    name: CODE[name]
    for name in (
        "a function",
        "a closure",
        "a decorated function",
        "classes that register themselves",
        "an enum",
        "a dataclass with slots",
        "a dict that is filled",
        "an import of a module as the function runs",
        "an import from a package as the function runs",
    )
}
FEW = kinds_of(FEW_CODE)
EDITABLE = {
    "src/mytools/__init__.py": "",
    "src/mytools/kinds.py": FEW,
    "site/mytools-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: mytools\nVersion: 1.0\n",
    "site/mytools-1.0.dist-info/top_level.txt": "mytools\n",
    "site/mytools-1.0.dist-info/INSTALLER": "pip\n",
    "site/mytools-1.0.dist-info/RECORD": (
        "__editable__.mytools-1.0.pth,,\nmytools-1.0.dist-info/METADATA,,\n"
        "mytools-1.0.dist-info/direct_url.json,,\nmytools-1.0.dist-info/RECORD,,\n"
    ),
    "site/mytools-1.0.dist-info/direct_url.json": json.dumps(
        {"url": "file://CODE/src", "dir_info": {"editable": True}}
    ),
    "site/__editable__.mytools-1.0.pth": "CODE/src\n",
}
#: Runs cells as a notebook does: in a module __main__ that has no file.
NOTEBOOK = """
import code
import json
import os
import sys
import types

cells = json.load(open("notebook.json"))
main = types.ModuleType("__main__")
sys.modules["__main__"] = main
shell = code.InteractiveInterpreter(main.__dict__)
for number, cell in enumerate(cells):
    shell.runcode(compile(cell, f"/tmp/ipykernel_{os.getpid()}/{number}.py", "exec"))
"""
CELLS = [HEAD, *(f"{text}\nKINDS[{name!r}] = kind\n" for name, text in FEW_CODE.items()), RUN]

#: Modules of a package that refer to each other.
RING = {
    "ring/__init__.py": "BASE = 100\n",
    "ring/a.py": """
        from . import b
        START = 3
        def first(k):
            return b.second(k) + 1
        """,
    "ring/b.py": """
        from .c import third
        def second(k):
            return 2 * third(k)
        """,
    "ring/c.py": """
        def third(k):
            from . import a
            from . import BASE
            return a.START * k + BASE
        """,
    "ring/deep/__init__.py": "from ..c import third as deep_third\n",
    "ring/deep/d.py": """
        from . import deep_third
        def fourth(k):
            from ..a import first
            return first(k) - deep_third(k)
        """,
    "ring/absolute.py": """
        import ring.a
        import ring.deep.d
        def both(k):
            return ring.a.first(k) * ring.deep.d.fourth(k)
        """,
    "one.py": "import two\nN = 5\ndef f(k):\n    return two.g(k)\n",
    "two.py": "import one\ndef g(k):\n    return one.N * k\n",
}
RING_CODE = {
    "modules of a package in a ring": """
from ring.a import first

class OfARing(Scored):
    def value(self):
        return first(self.k)

kind = OfARing(), GRID
""",
    "relative imports from a package above": """
from ring.deep.d import fourth

class OfDepth(Scored):
    def value(self):
        return fourth(self.k)

kind = OfDepth(), GRID
""",
    "dotted names of a package": """
import ring.absolute

class OfDottedNames(Scored):
    def value(self):
        return ring.absolute.both(self.k)

kind = OfDottedNames(), GRID
""",
    "two modules that import each other": """
import one

class OfTwo(Scored):
    def value(self):
        return one.f(self.k)

kind = OfTwo(), GRID
""",
}

#: What is one object here must be one object where it is scored.
IDENTITY_CODE = {
    "a function that is candidate and global": """
def double(k):
    return 2 * k

def triple(k):
    return 3 * k

def quadruple(k):
    return 4 * k

class OfAFunction(Scored):
    def __init__(self, k=1, p=None):
        self.k = k
        self.p = p
    def value(self):
        return self.p(self.k) + 10 * (self.p is double) + 20 * (self.p is triple)

kind = OfAFunction(), {"p": [double, triple, quadruple]}
""",
    "a step of a pipeline that knows a function": """
from sklearn.pipeline import make_pipeline

class Step(BaseEstimator):
    def __init__(self, p=None):
        self.p = p
    def fit(self, X, y=None):
        return self
    def transform(self, X):
        return X * (5 if self.p is double else 7)

class Last(Scored):
    def value(self):
        return self.k

kind = make_pipeline(Step(), Last()), {"step__p": [double, triple, quadruple], "last__k": [1]}
""",
    "a dict that scorer and estimator share": """
SEEN = {}

class Telling(Scored):
    def fit(self, X, y=None):
        SEEN["k"] = self.k
        return self

def told(model, X, y):
    return float(np.sum(X)) * SEEN.pop("k")

kind = Telling(), {"k": [1, 2, 3]}, {"scoring": told}
""",
    "objects of a class in X": """
class Point:
    def __init__(self, n):
        self.n = n

class OfPoints(Scored):
    def score(self, X, y=None):
        return float(sum(one.n for one in X if isinstance(one, Point))) * self.k

kind = OfPoints(), {"k": [1, 2, 3]}, {"X": [Point(n) for n in range(8)]}
""",
    "objects of a class in parameters of fit": """
class Strength:
    def __init__(self, by):
        self.by = by

class OfStrength(Scored):
    def fit(self, X, y=None, strength=None):
        self.by_ = strength.by if isinstance(strength, Strength) else -1
        return self
    def value(self):
        return self.by_ * self.k

kind = OfStrength(), {"k": [1, 2, 3]}, {"fit": {"strength": Strength(9)}}
""",
    "objects of a class in candidates": """
class Holding(Scored):
    def __init__(self, k=1, strength=Strength(1)):
        self.k = k
        self.strength = strength
    def value(self):
        return self.strength.by if isinstance(self.strength, Strength) else -1

kind = Holding(), {"strength": [Strength(2), Strength(3), Strength(4)]}
""",
    "two closures over one variable": """
def shared():
    held = 0
    def put(value):
        nonlocal held
        held = value
    def get():
        return held
    return put, get

put, get = shared()

class OfACell(Scored):
    def fit(self, X, y=None):
        put(self.k)
        return self
    def value(self):
        found = get()
        put(0)
        return found

kind = OfACell(), {"k": [1, 2, 3]}
""",
    "two closures over one variable in parameters": """
class OfCells(Scored):
    def __init__(self, k=1, put=None, get=None):
        self.k = k
        self.put = put
        self.get = get
    def fit(self, X, y=None):
        self.put(self.k)
        return self
    def value(self):
        found = self.get()
        self.put(0)
        return found

kind = OfCells(put=put, get=get), {"k": [1, 2, 3]}
""",
    "a closure of a candidate and one of the estimator": """
class OfCandidates(Scored):
    def __init__(self, k=1, get=None):
        self.k = k
        self.get = get
    def fit(self, X, y=None):
        put(5)
        return self
    def value(self):
        found = self.get()
        put(0)
        return found

def get_more():
    return get() + 1

def get_much():
    return get() + 2

kind = OfCandidates(), {"get": [get, get_more, get_much]}
""",
}

#: Files, kinds and what else is on the path.
SCENARIOS = {
    "a script": ({"case.py": ALL + RUN, **LATE}, CODE, ()),
    "a module": ({"kinds.py": ALL, "case.py": "from kinds import KINDS" + RUN, **LATE}, CODE, ()),
    "a package": (
        {
            "pkg/__init__.py": "",
            "pkg/deep/__init__.py": "",
            "pkg/deep/kinds.py": FEW,
            "case.py": "from pkg.deep.kinds import KINDS" + RUN,
            **LATE,
        },
        FEW_CODE,
        (),
    ),
    "an editable install": (
        {**EDITABLE, "case.py": "from mytools.kinds import KINDS" + RUN, **LATE},
        FEW_CODE,
        ("site", "src"),
    ),
    "a notebook": ({"notebook.json": json.dumps(CELLS), "case.py": NOTEBOOK, **LATE}, FEW_CODE, ()),
    "modules and identity": (
        {**RING, "case.py": kinds_of(RING_CODE | IDENTITY_CODE) + RUN},
        RING_CODE | IDENTITY_CODE,
        (),
    ),
}
EACH = [(name, kind) for name, (_, kinds, _) in SCENARIOS.items() for kind in kinds]


@pytest.fixture(scope="module")
def place(one_node):
    """Return the address of a database of this module's, by a name."""
    prefix = f"u{uuid.uuid4().hex[:10]}"
    yield lambda name: one_node.uri(f"{prefix}_{name}")
    with MongoClient(one_node.uri(prefix)) as client:
        for name in client.list_database_names():
            if name.startswith(prefix):
                client.drop_database(name)


@pytest.fixture(scope="module")
def worked(place, tmp_path_factory):
    """The address of a database with a standalone worker, which has nobody's code."""
    folder = tmp_path_factory.mktemp("worker") / "empty"
    with standalone_worker(place("worked"), folder):
        yield place("worked")


@pytest.fixture(scope="module")
def scored(place, worked, tmp_path_factory):
    """Run a scenario: first on each way to score, then where others have scored it."""
    known = {}

    def run(name):
        if name in known:
            return known[name]
        files, _, paths = SCENARIOS[name]
        user = User(tmp_path_factory.mktemp("user"), name).write(files)
        here, local = place("here"), place("local")
        # The database, n_jobs, and how many are stored by then.
        plan = [
            [(worked, 0, 0)],
            [(here, None, 0), (worked, None, UNITS)],
            [(local, 2, 0), (here, 2, UNITS)],
        ]
        runs = []
        for visits in plan:
            (report,) = user.run([visit[:2] for visit in visits], paths=paths)
            runs.append((visits, report))
        known[name] = user, runs
        return known[name]

    return run


def outcomes(runs, kind):
    """Return what a kind is scored as by GridSearchCV, and each visit with what came of it."""
    theirs = [report[kind]["theirs"].get("scores") for _, report in runs]
    assert all(one == theirs[0] for one in theirs), [report[kind]["theirs"] for _, report in runs]
    assert len({tuple(split) for split in zip(*theirs[0], strict=True)}) > 1
    ours = [pair for visits, report in runs for pair in _pairs(visits, report[kind])]
    return theirs[0], ours


def _pairs(visits, result):
    return list(zip(visits, result["visits"], strict=True))


def counts(result):
    return result["stored"], result["scored"]


@pytest.mark.parametrize(("scenario", "kind"), EACH)
def test_every_executor_scores_user_code_as_gridsearchcv(scored, scenario, kind):
    """This process, local workers, and a standalone worker that has none of it."""
    theirs, ours = outcomes(scored(scenario)[1], kind)
    for (_, n_jobs, _), result in ours:
        assert result.get("error") is None, (n_jobs, result)
        assert result["scores"] == theirs, (n_jobs, result)


@pytest.mark.parametrize(("scenario", "kind"), EACH)
def test_a_score_of_user_code_is_reused(scored, scenario, kind):
    """In other processes, whoever scored it."""
    _, ours = outcomes(scored(scenario)[1], kind)
    for (_, n_jobs, stored), result in ours:
        assert result.get("error") is None, (n_jobs, result)
        assert counts(result) == (stored, UNITS - stored), (n_jobs, result)


@pytest.fixture(scope="module")
def extended(scored, worked):
    """Ask another process for more candidates of a search that a worker has scored."""
    user, _ = scored("modules and identity")
    (report,) = user.run([(worked, 0)], FIRST="3")
    return report


@pytest.mark.parametrize("kind", IDENTITY_CODE)
def test_objects_stay_the_same_when_another_process_adds_candidates(extended, kind):
    """The worker has data and estimators of the process before."""
    theirs, (ours,) = extended[kind]["theirs"], extended[kind]["visits"]
    assert ours.get("error") is None, ours
    assert ours["scores"] == theirs["scores"]
    assert counts(ours) == (UNITS, UNITS // 2)


# Edits

#: The module before, what uses it, and the edit: (text before, text after).  MODULE is its name.
REACHED = {
    "a constant that is imported by name": (
        "K = 2",
        "from MODULE import K\nfunction = lambda k: K * k",
        ("2", "5"),
    ),
    "a constant of a module": (
        "K = 2",
        "import MODULE\ndef function(k):\n    return MODULE.K * k",
        ("2", "5"),
    ),
    "the content of a dict": (
        "TABLE = {'by': [0, 2]}",
        "from MODULE import TABLE\ndef function(k):\n    return TABLE['by'][1] * k",
        ("2", "5"),
    ),
    "a default argument": (
        "def times(k, by=2):\n    return k * by",
        "from MODULE import times as function",
        ("2", "5"),
    ),
    "a default of a keyword": (
        "def times(k, *, by=2):\n    return k * by",
        "from MODULE import times as function",
        ("2", "5"),
    ),
    "a module that is passed on": (
        "K = 2",
        "import MODULE\ndef read(module):\n    return module.K\n"
        "def function(k):\n    return read(MODULE) * k",
        ("2", "5"),
    ),
    "a module that is asked with getattr": (
        "K = 2",
        "import MODULE\ndef function(k):\n    return getattr(MODULE, 'K') * k",
        ("2", "5"),
    ),
    "the body of a function": (
        "def times(k):\n    return k * 2",
        "import MODULE\ndef function(k):\n    return MODULE.times(k)",
        ("2", "5"),
    ),
    "a function that a function calls": (
        "def two():\n    return 2\ndef times(k):\n    return k * two()",
        "from MODULE import times as function",
        ("return 2", "return 5"),
    ),
    "an attribute of a class": (
        "class Rates:\n    by = 2",
        "from MODULE import Rates\ndef function(k):\n    return Rates.by * k",
        ("2", "5"),
    ),
    "a base class": (
        "class Base:\n    def by(self):\n        return 2\nclass Rates(Base):\n    pass",
        "from MODULE import Rates\ndef function(k):\n    return Rates().by() * k",
        ("2", "5"),
    ),
    "a property": (
        "class Rates:\n    @property\n    def by(self):\n        return 2",
        "from MODULE import Rates\ndef function(k):\n    return Rates().by * k",
        ("2", "5"),
    ),
    "an attribute of an object": (
        "class Rates:\n    pass\nRATES = Rates()\nRATES.by = 2",
        "from MODULE import RATES\ndef function(k):\n    return RATES.by * k",
        ("2", "5"),
    ),
    "what a closure holds": (
        "def times(by):\n    def inner(k):\n        return k * by\n    return inner\nf = times(2)",
        "from MODULE import f as function",
        ("times(2)", "times(5)"),
    ),
    "a decorator": (
        "import functools\ndef twice(f):\n    @functools.wraps(f)\n    def inner(k):\n"
        "        return 2 * f(k)\n    return inner\n@twice\ndef same(k):\n    return k",
        "from MODULE import same as function",
        ("2", "5"),
    ),
    "a function behind lru_cache": (
        "import functools\n@functools.lru_cache\ndef times(k):\n    return 2 * k",
        "from MODULE import times as function",
        ("2", "5"),
    ),
    "an argument of a partial": (
        "import functools\nfrom operator import mul\ntwice = functools.partial(mul, 2)",
        "from MODULE import twice as function",
        ("2", "5"),
    ),
    "a lambda": (
        "FUNCTIONS = {'f': lambda k: k * 2}",
        "from MODULE import FUNCTIONS\ndef function(k):\n    return FUNCTIONS['f'](k)",
        ("2", "5"),
    ),
    "a value of an enum": (
        "import enum\nclass Rate(enum.Enum):\n    BY = 2",
        "from MODULE import Rate\ndef function(k):\n    return Rate.BY.value * k",
        ("2", "5"),
    ),
    "a default of a dataclass": (
        "from dataclasses import dataclass\n@dataclass\nclass Rates:\n    by: int = 2",
        "from MODULE import Rates\ndef function(k):\n    return Rates().by * k",
        ("2", "5"),
    ),
    "a default of a named tuple": (
        "from typing import NamedTuple\nclass Rates(NamedTuple):\n    by: int = 2",
        "from MODULE import Rates\ndef function(k):\n    return Rates().by * k",
        ("2", "5"),
    ),
    "a number in an array": (
        "import numpy as np\nWEIGHTS = np.array([0.5, 2.0])",
        "from MODULE import WEIGHTS\ndef function(k):\n    return WEIGHTS[1] * k",
        ("2.0", "5.0"),
    ),
    "a module that is imported as the function runs": (
        "K = 2",
        "def function(k):\n    import MODULE\n    return MODULE.K * k",
        ("2", "5"),
    ),
    "a name that is imported as the function runs": (
        "def times(k):\n    return k * 2",
        "def function(k):\n    from MODULE import times\n    return times(k)",
        ("2", "5"),
    ),
}
_TIMES = "K = 2\nOTHER = 7\ndef times(k):\n    return K * k\n"
_USE = "import MODULE\ndef function(k):\n    return MODULE.times(k)"
HARMLESS = {
    "another function": (_TIMES, _USE, ("OTHER", "def other():\n    return K\nOTHER")),
    "another variable": (_TIMES, _USE, ("OTHER", "MORE = [1]\nOTHER")),
    "another value that nothing reaches": (_TIMES, _USE, ("7", "8")),
    "another class": (_TIMES, _USE, ("OTHER", "class New:\n    by = K\nOTHER")),
    "another import": (_TIMES, _USE, ("K =", "import json\nK =")),
    "a docstring of the module": (_TIMES, _USE, ("K =", '"""What is here."""\nK =')),
    "a docstring of the function": (
        'def times(k):\n    """Twice."""\n    return 2 * k\n',
        _USE,
        ("Twice.", "Two times."),
    ),
    "a comment": (_TIMES, _USE, ("return", "# As usual.\n    return")),
    "lines that move": (_TIMES, _USE, ("def", "\n\n\ndef")),
    "blanks": (_TIMES, _USE, ("K * k", "(K  *  k)")),
    "what a name that is not used is set to": (
        _TIMES,
        "from MODULE import times as function, OTHER",
        ("7", "8"),
    ),
}
EDITS = {**REACHED, **{f"harmless: {name}": edit for name, edit in HARMLESS.items()}}


class Editor:
    """Edits the modules of `EDITS`, each of which one kind uses."""

    def __init__(self, user):
        self.user = user
        self.modules = {name: f"edited{n}" for n, name in enumerate(EDITS)}
        files = {"base.py": HEAD, "case.py": "KINDS = {}\n"}
        for name, module in self.modules.items():
            use = EDITS[name][1].replace("MODULE", module)
            files[f"uses_{module}.py"] = (
                f"from base import GRID, Scored\n{use}\n"
                f"class {module.title()}(Scored):\n"
                f"    def value(self):\n        return function(self.k)\n"
            )
            files["case.py"] += (
                f"from uses_{module} import GRID, {module.title()}\n"
                f"KINDS[{name!r}] = {module.title()}(), GRID\n"
            )
        files["case.py"] += RUN
        user.write(files)
        self.edit(0)

    def edit(self, number):
        """Write the modules as they are after so many edits (0 or 1)."""
        files = {}
        for name, module in self.modules.items():
            text, _, (old, new) = EDITS[name]
            assert text.count(old) == 1, (name, old)
            files[f"{module}.py"] = text.replace(old, new) if number else text
        self.user.write(files)


@pytest.fixture(scope="module")
def edited(place, worked, tmp_path_factory):
    """What came of searches before edits, after them, in another folder, and as before."""
    folder = tmp_path_factory.mktemp("user")
    editor = Editor(User(folder, "edits"))
    by_worker, here = (worked, 0), (place("here"), None)
    visits = [by_worker, (place("local"), 2), here]
    found = {}
    (found["before"],) = editor.user.run(visits)
    editor.edit(1)
    (found["after"],) = editor.user.run(visits)
    elsewhere = User(folder / "another" / "folder", "edits")
    shutil.copytree(editor.user.code, elsewhere.code)
    (found["moved"],) = elsewhere.run([by_worker])
    editor.edit(0)
    (found["as before"],) = editor.user.run([by_worker, here])
    return found


def of_edits(edited, when, kind):
    """Return scores of GridSearchCV, and counts; ours are the same scores."""
    result = edited[when][kind]
    assert "scores" in result["theirs"], result["theirs"]
    for ours in result["visits"]:
        assert ours.get("error") is None, ours
        assert ours["scores"] == result["theirs"]["scores"], when
    return result["theirs"]["scores"], {counts(ours) for ours in result["visits"]}


@pytest.mark.parametrize("kind", REACHED)
def test_code_edited_between_two_runs_is_scored_again(edited, kind):
    before, counted = of_edits(edited, "before", kind)
    assert counted == {(0, UNITS)}
    after, counted = of_edits(edited, "after", kind)
    assert after != before
    assert counted == {(0, UNITS)}
    again, counted = of_edits(edited, "as before", kind)
    assert again == before
    assert counted == {(UNITS, 0)}


@pytest.mark.parametrize("kind", HARMLESS)
def test_an_edit_that_changes_nothing_finds_all_stored(edited, kind):
    before, counted = of_edits(edited, "before", f"harmless: {kind}")
    assert counted == {(0, UNITS)}
    after, counted = of_edits(edited, "after", f"harmless: {kind}")
    assert after == before
    assert counted == {(UNITS, 0)}


@pytest.mark.parametrize("kind", EDITS)
def test_code_in_another_folder_is_the_same_code(edited, kind):
    assert of_edits(edited, "moved", kind)[1] == {(UNITS, 0)}


#: Searches, changes what they use as they lie in memory, and searches again; twice.
IN_MEMORY = {
    "helpers.py": """
        import os
        K, SET, TABLE = 2, int(os.environ["SETTING"]), {"by": 2}
        def by():
            return 2
        def times_set(k):
            return SET * k
        def times_by(k):
            return by() * k
        class Rates:
            by = 2
            def times(self, k):
                return self.by * k
        class Methods:
            def times(self, k):
                return 2 * k
        """,
    "on_disk.py": "K = 2\ndef times(k):\n    return K * k\n",
    "case.py": kinds_of(
        {
            name: f"import helpers, on_disk\nclass Changed{n}(Scored):\n"
            f"    def value(self):\n        {value}\nkind = Changed{n}(), GRID\n"
            for n, (name, value) in enumerate(
                {
                    "a constant": "return helpers.K * self.k",
                    "a function": "return helpers.times_by(self.k)",
                    "an entry of a dict": "return helpers.TABLE['by'] * self.k",
                    "an attribute of a class": "return helpers.Rates().times(self.k)",
                    "a method": "return helpers.Methods().times(self.k)",
                    "a late import": "import helpers as late; return late.K * self.k * 5",
                    "the environment": "return helpers.times_set(self.k)",
                    "a file": "return on_disk.times(self.k)",
                }.items()
            )
        }
    )
    + """
import importlib
from pathlib import Path
from search.user_code import report

report(KINDS)
was = helpers.by, helpers.Methods.times
helpers.K, helpers.TABLE["by"], helpers.Rates.by = 3, 3, 3
helpers.by = lambda: 3
helpers.Methods.times = lambda self, k: 30 * k
Path("on_disk.py").write_text("K = 3\\ndef times(k):\\n    return K * k\\n")
report(KINDS)
helpers.K, helpers.TABLE["by"], helpers.Rates.by = 2, 2, 2
helpers.by, helpers.Methods.times = was
importlib.reload(on_disk)
report(KINDS)
""",
}
#: How many units are stored: before, after it was changed, and after it was changed back.
IN_MEMORY_STORED = {
    **dict.fromkeys(
        ("a constant", "a function", "an entry of a dict", "an attribute of a class"),
        (0, 0, UNITS),
    ),
    "a method": (0, 0, UNITS),
    "a late import": (0, 0, UNITS),
    "the environment": (0, UNITS, UNITS),
    "a file": (0, UNITS, 0),  # loaded anew at the end only
}


@pytest.fixture(scope="module")
def in_memory(place, worked, tmp_path_factory):
    user = User(tmp_path_factory.mktemp("user"), "in memory").write(IN_MEMORY)
    return user.run([(place("local"), 2), (worked, 0), (place("here"), None)], SETTING="4")


@pytest.mark.parametrize("kind", IN_MEMORY_STORED)
def test_code_changed_in_memory_is_scored_as_changed(in_memory, kind):
    """Whatever stands in the files of its modules."""
    for report, stored in zip(in_memory, IN_MEMORY_STORED[kind], strict=True):
        theirs = report[kind]["theirs"]["scores"]
        for ours in report[kind]["visits"]:
            assert ours.get("error") is None, ours
            assert ours["scores"] == theirs
            assert counts(ours) == (stored, UNITS - stored)
    scores = [report[kind]["theirs"]["scores"] for report in in_memory]
    assert [scores[0] == later for later in scores[1:]] == [
        stored == UNITS for stored in IN_MEMORY_STORED[kind][1:]
    ]


def test_a_cell_of_a_notebook_that_is_run_again_is_scored_again(worked, place, tmp_path):
    """In one process, by workers that stay warm."""
    constant, function = "K = 2", "def times(k):\n    return K * k"
    cells = [
        HEAD,
        constant,
        function,
        "class Celled(Scored):\n    def value(self):\n        return times(self.k)\n",
        "KINDS['it'] = (Celled(), GRID)" + RUN,
        "K = 3" + RUN,
        "def times(k):\n    return K * k + 1" + RUN,
        f"{constant}\n{function}{RUN}",
    ]
    user = User(tmp_path, "cells")
    user.write({"notebook.json": json.dumps(cells), "case.py": NOTEBOOK})
    reports = user.run([(worked, 0), (place("local"), 2), (place("here"), None)])
    theirs = [report["it"]["theirs"]["scores"] for report in reports]
    assert theirs[0] == theirs[3]
    assert len({str(scores) for scores in theirs}) == 3
    for report, stored in zip(reports, (0, 0, 0, UNITS), strict=True):
        for ours in report["it"]["visits"]:
            assert ours.get("error") is None, ours
            assert ours["scores"] == report["it"]["theirs"]["scores"]
            assert counts(ours) == (stored, UNITS - stored)


def test_a_hundred_megabytes_of_globals_travel(worked, tmp_path):
    code = """
TABLE = np.random.default_rng(0).random(13_107_200)

class Large(Scored):
    def value(self):
        return TABLE[-self.k]

kind = Large(), GRID
"""
    user = User(tmp_path, "large").write({"case.py": kinds_of({"large": code}) + RUN})
    (report,) = user.run([(worked, 0), (worked, None)])
    by_worker, again = report["large"]["visits"]
    assert by_worker.get("error") is None, by_worker
    assert by_worker["scores"] == again["scores"] == report["large"]["theirs"]["scores"]
    assert [counts(by_worker), counts(again)] == [(0, UNITS), (UNITS, 0)]


# Extension modules

_C = """
#define PY_SSIZE_T_CLEAN
#include <Python.h>
static PyObject *times(PyObject *self, PyObject *number) {
    return PyLong_FromLong(FACTOR * PyLong_AsLong(number));
}
static PyMethodDef methods[] = {{"times", times, METH_O, ""}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "NAME", "", -1, methods};
PyMODINIT_FUNC PyInit_NAME(void) { return PyModule_Create(&module); }
"""
_SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")
FAST = {
    "fastpkg/__init__.py": "",
    "fastpkg/model.py": """
        import numpy as np
        from sklearn.base import BaseEstimator
        from fastpkg import _fast
        class Model(BaseEstimator):
            def __init__(self, k=1):
                self.k = k
            def fit(self, X, y=None):
                return self
            def score(self, X, y=None):
                return float(np.sum(X)) * _fast.times(self.k)
        """,
    "case.py": kinds_of(
        {
            "a package with an extension": """
from fastpkg.model import Model

kind = Model(), GRID
""",
            "an extension beside a script": """
import _lone

class OfALoneOne(Scored):
    def value(self):
        return _lone.times(self.k)

kind = OfALoneOne(), GRID
""",
        }
    )
    + """
import os
from search.user_code import report

report({name: KINDS[name] for name in [os.environ["KIND"]]} if "KIND" in os.environ else KINDS)
""",
}
#: The name by which an extension, or what holds it, is spoken of.
EXTENSIONS = {"a package with an extension": "fastpkg", "an extension beside a script": "_lone"}


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """Compile extension modules; tests that need one are skipped where that cannot be done."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    include = sysconfig.get_path("include")
    if compiler is None:
        pytest.skip("there is no C compiler")
    folder = tmp_path_factory.mktemp("built")

    def compiled(name, factor, target):
        source, made = folder / f"{name}.c", folder / f"{name}{factor}{_SUFFIX}"
        if not made.exists():
            source.write_text(_C.replace("NAME", name))
            command = [compiler, "-shared", "-fPIC", f"-I{include}", f"-DFACTOR={factor}"]
            done = subprocess.run(
                [*command, str(source), "-o", str(made)], capture_output=True, text=True
            )
            if done.returncode and "Python.h" in done.stderr:
                pytest.skip("the headers of Python are not installed")
            assert not done.returncode, done.stderr
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(made, target / f"{name}{_SUFFIX}")

    def into(code, factor=3):
        """Put both extensions where a checkout in `code` has them."""
        compiled("_fast", factor, code / "fastpkg")
        compiled("_lone", factor, code)

    return into


@pytest.fixture
def fast(build, tmp_path):
    user = User(tmp_path / "user", "fast").write(FAST)
    build(user.code)
    return user


def test_an_extension_that_is_not_installed_is_scored_here_and_in_local_workers(fast, place):
    here, local = place("fast_here"), place("fast_local")
    (report,) = fast.run([(here, None), (local, 2), (here, 2)])
    for result in report.values():
        assert [ours.get("error") for ours in result["visits"]] == [None] * 3, result
        assert [ours["scores"] for ours in result["visits"]] == [result["theirs"]["scores"]] * 3
        assert [counts(ours)[0] for ours in result["visits"]] == [0, 0, UNITS]


def states(uri):
    with MongoClient(uri) as client:
        return [unit["state"] for unit in client.get_default_database()["units"].find()]


@pytest.mark.parametrize("kind", EXTENSIONS)
@pytest.mark.parametrize("there", ["nothing", "another build", "an edited module"])
def test_a_worker_that_lacks_an_extension_leaves_it_alone_and_fit_says_so(
    fast, build, uri, tmp_path, there, kind
):
    """Until there is one that has the same files."""
    if there == "an edited module" and kind == "an extension beside a script":
        pytest.skip("it is a single file, so this is another build")
    worse, right = tmp_path / "worse", tmp_path / "right"
    shutil.copytree(fast.code, right)
    if there == "nothing":
        worse.mkdir()
    else:
        shutil.copytree(fast.code, worse)
    if there == "another build":
        build(worse, factor=4)
    if there == "an edited module":
        model = worse / "fastpkg" / "model.py"
        model.write_text(model.read_text().replace("_fast.times(self.k)", "_fast.times(9)"))
    with standalone_worker(uri, tmp_path / "empty", worse):
        process, reports = fast.start([(uri, 0)], PATIENT="1", KIND=kind)
        try:
            log = fast.log
            wait_for(
                lambda: "NoWorkers: " in log.read_text() or process.poll() is not None, seconds=60
            )
            assert EXTENSIONS[kind] in log.read_text().partition("NoWorkers: ")[2]
            assert states(uri) == ["queued"] * UNITS
            with standalone_worker(uri, tmp_path / "no code", right):
                (report,) = reports()
        finally:
            end(process)
    (ours,) = report[kind]["visits"]
    assert ours.get("error") is None, ours
    assert ours["scores"] == report[kind]["theirs"]["scores"]
    assert counts(ours) == (0, UNITS)


# What cannot be pickled

UNPICKLABLE_FILES = {
    "databases.py": """
        import sqlite3
        CONNECTION = sqlite3.connect(":memory:")
        def times_three(k):
            return CONNECTION.execute("select 3").fetchone()[0] * k
        """,
}
UNPICKLABLE_CODE = {
    "an open file in a parameter": """
class Holder:
    def __init__(self):
        self.notes = open("notes.txt", "w")
    def __deepcopy__(self, memo):
        return self

class OfAHolder(Scored):
    def __init__(self, k=1, holder=None):
        self.k = k
        self.holder = holder
    def value(self):
        return self.k * self.holder.notes.writable()

kind = OfAHolder(holder=Holder()), GRID
""",
    "an open file in a parameter of a step": """
from sklearn.pipeline import make_pipeline

class Passing(BaseEstimator):
    def __init__(self, holder=None):
        self.holder = holder
    def fit(self, X, y=None):
        return self
    def transform(self, X):
        return X * self.holder.notes.writable()

class Plain(Scored):
    def value(self):
        return self.k

kind = make_pipeline(Passing(Holder()), Plain()), {"plain__k": [1, 2]}
""",
    "an open file in a candidate": """
kind = OfAHolder(), {"holder": [Holder()], "k": [1, 2]}
""",
    "an open file in a global": """
SINK = open("sink.txt", "w")

def noted(k):
    SINK.write("x")
    return 2 * k

class OfASink(Scored):
    def value(self):
        return noted(self.k)

kind = OfASink(), GRID
""",
    "a connection of a module": """
import databases

class OfAConnection(Scored):
    def value(self):
        return databases.times_three(self.k)

kind = OfAConnection(), GRID
""",
    "a generator in a closure": """
import itertools

def numbering():
    numbers = (4 for _ in itertools.count())
    def numbered(k):
        return next(numbers) * k
    return numbered

numbered = numbering()

class OfAGenerator(Scored):
    def value(self):
        return numbered(self.k)

kind = OfAGenerator(), GRID
""",
    "a held lock in a global": """
import threading

HELD = threading.Lock()
HELD.acquire()

class OfAHeldLock(Scored):
    def value(self):
        return self.k + HELD.locked()

kind = OfAHeldLock(), GRID
""",
}
#: The way to it, in parts, and one of the words for what it is.
NAMED = {
    "an open file in a parameter": (["holder", "notes"], ["file", "TextIOWrapper"]),
    "an open file in a parameter of a step": (["holder", "notes"], ["file", "TextIOWrapper"]),
    "an open file in a candidate": (["holder", "notes"], ["file", "TextIOWrapper"]),
    "an open file in a global": (["SINK"], ["file", "TextIOWrapper"]),
    "a connection of a module": (["databases", "CONNECTION"], ["Connection"]),
    "a generator in a closure": (["numbers"], ["generator"]),
    "a held lock in a global": (["HELD"], ["lock"]),
}


@pytest.fixture(scope="module")
def unpicklable(place, worked, tmp_path_factory):
    user = User(tmp_path_factory.mktemp("user"), "unpicklable")
    user.write({**UNPICKLABLE_FILES, "case.py": kinds_of(UNPICKLABLE_CODE) + RUN})
    here = place("here")
    (report,) = user.run([(here, None), (here, None), (place("local"), 2), (worked, 0)])
    return report


def names_it(text, kind):
    way, words = NAMED[kind]
    return all(part in text for part in way) and any(word in text for word in words)


@pytest.mark.parametrize("kind", NAMED)
def test_code_that_cannot_be_pickled_is_scored_here_for_this_search_only(unpicklable, kind):
    """And named, with the way to it."""
    result = unpicklable[kind]
    for ours in result["visits"][:2]:
        assert ours.get("error") is None, ours
        assert ours["scores"] == result["theirs"]["scores"]
        assert counts(ours) == (0, UNITS)
        assert any(names_it(said, kind) for said in ours["warnings"]), ours["warnings"]


@pytest.mark.parametrize("kind", [kind for kind in NAMED if kind != "a connection of a module"])
def test_code_that_cannot_be_pickled_is_named_before_it_is_sent(unpicklable, kind):
    for ours in unpicklable[kind]["visits"][2:]:
        assert ours.get("error", "").startswith("NotShippable: "), ours
        assert names_it(ours["error"], kind), ours["error"]
