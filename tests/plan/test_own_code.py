"""What is written down of code, and what is told apart by it."""

import importlib
import importlib.machinery
import json
import os
import sys

import numpy as np
import pytest
from sklearn.svm import SVC

from optomatic.plan.keys import versions
from optomatic.plan.own_code.survey import Named, code_text
from optomatic.plan.packing import bundle
from optomatic.worker.same_code import Files, Refused, check_code, check_loaded

HELPERS = """
def help(x):
    return x + 1

def unused(x):
    return x + 2

class Base:
    def run(self):
        return 3
"""
MODEL = '''
import functools
import helpers
from helpers import Base, help as helped
LIMIT = 4
TABLE = {"a": 5}
NAMES = ("b", 6.0)
COUNT = 0

def decorated(function):
    @functools.wraps(function)
    def inner(*args):
        return function(*args) + 7
    return inner

@decorated
def wrapped(x):
    return x - 8

@functools.lru_cache
def cached(x):
    return x * 9

part = functools.partial(cached, 10)

def late(x):
    from helpers import help as later
    return later(x)

class Thing:
    level = 11
    class Inner:
        def go(self):
            return 12
    @property
    def size(self):
        return 13
    @staticmethod
    def still(x, by=14, *, again=15):
        return [y + 16 for y in (1, 2)]

THING = Thing()

class Model(Base):
    """A model."""
    def score(self, x):
        global COUNT
        COUNT += 1
        helpers.help(x), helped(x), wrapped(x), part(), late(x), NAMES, COUNT  # comment
        return LIMIT + TABLE["a"] + THING.size + super().run()

def other():
    return 17
'''
LONG_AGO = 1_000_000_000
FILES = {"helpers": HELPERS, "mymodel": MODEL}


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write modules as they stood there before this process, import them anew; return the first."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(**files):
        for name, text in files.items():
            (tmp_path / f"{name}.py").write_text(text)
            os.utime(tmp_path / f"{name}.py", (LONG_AGO, LONG_AGO))
        importlib.invalidate_caches()
        forget(*files)
        return next(importlib.import_module(name) for name in reversed(files))

    yield write
    forget(*FILES, "another", "viz", "deco")


def forget(*names):
    for name in names:
        sys.modules.pop(name, None)


def written(value):
    named = Named()
    bundle.dump(value, named)
    return code_text(named)


def refusal(text):
    with pytest.raises(Refused) as caught:
        check_code(text, Files())
    return caught.value.why


@pytest.mark.parametrize(
    ("module", "old", "new", "named"),
    [
        ("mymodel", "# comment", "# another", None),
        ("mymodel", "class Model(Base):", "\n\nclass Model(Base):", None),
        ("mymodel", "return 17", "return 18", None),  # nothing uses it
        ("helpers", "x + 2", "x + 3", None),
        ("mymodel", '{"a": 5}', '{"a": 6}', None),  # may be changed as the program runs
        ("mymodel", "COUNT = 0", "COUNT = 3", None),  # so is this
        ("helpers", "x + 1", "x + 5", "helpers.help"),
        ("helpers", "return 3", "return 5", "helpers.Base"),
        ("mymodel", "LIMIT + ", "LIMIT - ", "mymodel.Model"),
        ("mymodel", "LIMIT = 4", "LIMIT = 5", "mymodel.LIMIT"),
        ("mymodel", '("b", 6.0)', '("b", 6)', "mymodel.NAMES"),
        ("mymodel", "+ 7", "+ 8", "mymodel.wrapped"),
        ("mymodel", "x - 8", "x - 9", "mymodel.wrapped"),
        ("mymodel", "x * 9", "x * 8", "mymodel.part"),
        ("mymodel", "later(x)", "later(x + 1)", "mymodel.late"),
        ("mymodel", "level = 11", "level = 12", "mymodel.Thing.level"),
        ("mymodel", "return 12", "return 13", "mymodel.Thing"),
        ("mymodel", "return 13", "return 12", "mymodel.Thing"),
        ("mymodel", "by=14", "by=13", "mymodel.Thing"),
        ("mymodel", "again=15", "again=14", "mymodel.Thing"),
        ("mymodel", "y + 16", "y + 17", "mymodel.Thing"),
        ("mymodel", "class Model(Base)", "class Mode(Base)", "mymodel.Model"),
    ],
)
def test_what_counts(write, module, old, new, named):
    assert old in FILES[module]
    text = written(write(**FILES).Model())
    check_code(text, Files())
    write(**{**FILES, module: FILES[module].replace(old, new)})
    if named is None:
        check_code(text, Files())
    else:
        assert named in refusal(text)


def test_what_travels_by_value_is_not_asked_for_but_what_it_uses_is(write):
    module = write(**FILES)
    names = {"__name__": "__main__", "helpers": sys.modules["helpers"]}
    exec("def run(x):\n    return helpers.help(x)", names)
    text = written(names["run"])
    assert set(json.loads(text)) == {"helpers:", "helpers:help"}
    assert set(json.loads(written(module.part))) == {"mymodel:", "mymodel:cached"}
    assert written(SVC()) is None


def test_a_constant_that_a_program_has_set_is_other_code(write):
    for owner, name, value in (
        ("mymodel", "LIMIT", 5),
        ("mymodel", "LIMIT", np.ones(2)),
        ("mymodel.Thing", "level", 12),
    ):
        module = write(**FILES)
        setattr(module if owner == "mymodel" else module.Thing, name, value)
        text = written(module.Model())
        check_code(text, Files())
        write(**FILES)
        assert f"{owner}.{name} is other code here" in refusal(text)


def test_what_was_set_where_it_is_compared_says_nothing_of_the_file(write):
    text = written(write(**FILES).Model())
    module = write(**FILES)
    module.LIMIT = 5
    check_code(text, Files())


def test_what_code_of_the_file_sets_is_no_constant(write):
    module = write(**FILES)
    module.COUNT = 3
    assert "mymodel:COUNT" not in json.loads(written(module.Model()))


def test_a_method_that_was_patched_is_other_code(write):
    module = write(**FILES)
    module.Model.score = lambda self, x: x
    text = written(module.Model())
    write(**FILES)
    assert "mymodel.Model" in refusal(text)


def test_code_that_its_loader_has_changed_is_not_compared(write):
    """As pytest changes asserts: other processes load the plain file."""

    class Changing(importlib.machinery.SourceFileLoader):
        pass

    module = write(**FILES)
    module.__spec__.loader = Changing("mymodel", module.__file__)
    assert set(json.loads(written(module.Model()))) == {"mymodel:"}


def test_what_raises_when_it_is_looked_at_is_passed_over(write):
    module = write(**FILES)

    class Proxy:
        @property
        def __class__(self):
            raise RuntimeError("working outside of application context")

    module.TABLE = Proxy()
    assert "mymodel:Model" in json.loads(written(module.Model()))


def test_what_is_made_at_the_first_call_may_be_missing_elsewhere(write):
    write(**FILES)
    module = write(another="made = None\ndef run(x):\n    return made(x)\n")
    module.made = lambda x: x
    text = written(module.run)
    assert json.loads(text)["another:made"].startswith("?")
    module.made = None
    check_code(text, Files())


@pytest.mark.parametrize("how", ["missing", "broken", "exits"])
def test_a_module_that_cannot_be_imported_is_named(write, tmp_path, how):
    text = written(write(**FILES).Model())
    (tmp_path / "mymodel.py").unlink()
    texts = {"broken": "this is no Python", "exits": "raise SystemExit('no display')"}
    if how in texts:
        (tmp_path / "mymodel.py").write_text(texts[how])
    forget("mymodel")
    error = {"missing": "ModuleNotFoundError", "broken": "SyntaxError", "exits": "SystemExit"}[how]
    assert f"mymodel cannot be imported ({error}" in refusal(text)


EDITED = """
import functools
def decorated(function):
    @functools.wraps(function)
    def inner(*args, times=7):
        return function(*args)
    return inner
FACTOR = 2.0
LEVEL = 1
class Scale:
    by = 3
    made = 0
    def times(self, x, more=4):
        type(self).made += 1
        return x * self.by * more
    @decorated
    def less(self, x, by=8):
        return cached(x - by)
@functools.lru_cache
def cached(x, then=9):
    return x - then
def run(x, k=5, *, last=6):
    return Scale().times(x * k + last) * FACTOR * LEVEL
"""


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("FACTOR = 2.0", "FACTOR = 3.5", "another.FACTOR"),
        ("by = 3", "by = 33", "another.Scale.by"),
        ("more=4", "more=44", "another.Scale.times.__defaults__"),
        ("by=8", "by=88", "another.Scale.less.__wrapped__.__defaults__"),
        ("then=9", "then=99", "another.cached.__wrapped__.__defaults__"),
        ("k=5", "k=55", "another.run.__defaults__"),
        ("last=6", "last=66", "another.run.__kwdefaults__"),
    ],
)
def test_a_constant_that_was_edited_between_import_and_fit_counts(
    write, monkeypatch, tmp_path, kept, old, new, named
):
    """Whether or not Python keeps what it has compiled."""
    monkeypatch.setattr(sys, "dont_write_bytecode", not kept)
    module = write(another=EDITED)
    module.Scale.made = 7
    (tmp_path / "another.py").write_text(EDITED.replace(old, new))
    text = written(module.run)
    assert "another:Scale.made" not in json.loads(text)
    check_code(text, Files())
    forget("another")
    assert named in refusal(text)


def test_defaults_that_are_computed_are_no_constants(write, monkeypatch):
    """Though equal constants stand elsewhere in the file."""
    text = """
import os
def gpu():
    return os.environ.get("GPU") == "1"
def noisy(x, verbose=True, *, more=True):
    return x
def quiet(x, verbose=False, *, more=False):
    return x
def run(x, on=gpu()):
    return named(x) + either(x)
def named(x, *, on=gpu()):
    return x
def either(x, *, n=3 if gpu() else 4, last=5):
    return noisy(x) + quiet(x)
"""
    monkeypatch.setenv("GPU", "1")
    found = json.loads(written(write(another=text).run))
    assert sorted(key.partition(":")[2] for key, digest in found.items() if digest[:1] == "=") == [
        f"{name}.{part}"
        for name in ("noisy", "quiet")
        for part in ("__defaults__", "__kwdefaults__")
    ]
    monkeypatch.setenv("GPU", "0")
    forget("another")
    check_code(json.dumps(found), Files())


DECO = """
import functools
def retry(times):
    def deco(function):
        @functools.wraps(function)
        def inner(*args, **kwargs):
            return function(*args, **kwargs) if times else check(times)
        return inner
    return deco
def check(times):
    return times
"""
DECORATED = """
from deco import retry
@retry(3)
def run(x):
    return x + Model().fit(x)
class Model:
    @retry(4)
    def fit(self, x):
        return x - 1
"""


@pytest.fixture
def install(tmp_path):
    """Have a module of one's own be one of an installed distribution."""

    def forget_versions():
        versions._installed.cache_clear()
        versions._distributions.cache_clear()

    def install(name):
        folder = tmp_path / f"{name}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (folder / "RECORD").write_text(f"{name}.py,,\n")
        forget_versions()
        return lambda: ([file.unlink() for file in folder.iterdir()], forget_versions())

    yield install
    forget_versions()


def test_a_decorator_may_be_installed_on_one_side_only(write, install):
    plain = written(write(deco=DECO, another=DECORATED).run)
    uninstall = install("deco")
    check_code(plain, Files())
    installed = written(write(deco=DECO, another=DECORATED).run)
    assert not [key for key in json.loads(installed) if "@" in key]
    write(another=DECORATED.replace("x - 1", "x - 2"))
    assert "another.Model is" in refusal(plain)
    assert "another.Model is" in refusal(installed)
    uninstall()
    write(another=DECORATED)
    check_code(installed, Files())
    check_code(plain, Files())
    write(deco=DECO.replace("if times", "if not times"), another=DECORATED)
    assert "another.run (decorated by deco)" in refusal(plain)
    for gone in ("@retry(3)\n", "    @retry(4)\n"):
        write(deco=DECO, another=DECORATED.replace(gone, ""))
        refusal(plain)
        refusal(installed)


LAZY = """
def run(x, plot=False):
    if plot:
        import viz
        viz.show(x)
    return x
"""


def test_what_code_may_import_is_not_imported_but_compared_once_it_is(write, tmp_path):
    write(viz="def show(x):\n    return x\n")
    text = written(write(another=LAZY).run)
    assert "viz:show" in json.loads(text)
    forget("viz")
    (tmp_path / "viz.py").write_text("raise SystemExit('viz needs a display')")
    left = check_code(text, Files())
    assert set(left) == {"viz:show"}
    assert "viz" not in sys.modules
    write(viz="def show(x):\n    return -x\n")
    with pytest.raises(Refused, match=r"viz\.show is other code"):
        check_loaded(left, Files())


def test_what_a_class_sets_of_itself_is_not_compared_but_what_is_patched_is(write):
    text = """
class Model:
    def fit(self, x):
        type(self).helper = staticmethod(lambda y: y + 1)
        type(self).own = staticmethod(lambda y: y + 1)
        return self.helper(x)
    @staticmethod
    def own(y):
        return y
"""
    module = write(another=text)
    before = written(module.Model())
    module.Model.helper = staticmethod(lambda y: y + 1)
    assert written(module.Model()) == before
    for name in ("own", "other"):
        module = write(another=text)
        setattr(module.Model, name, staticmethod(lambda y: y - 1))
        patched = written(module.Model())
        write(another=text)
        assert "another.Model is" in refusal(patched)
