"""What is written down of code, and what is told apart by it."""

import importlib
import importlib.machinery
import json
import sys

import pytest
from sklearn.svm import SVC

from optomatic.plan.own_code.survey import Named, code_text
from optomatic.plan.packing import bundle
from optomatic.worker.same_code import Files, Refused, check_code

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
FILES = {"helpers": HELPERS, "mymodel": MODEL}


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write modules, and import them anew; return the first."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(**files):
        for name, text in files.items():
            (tmp_path / f"{name}.py").write_text(text)
        importlib.invalidate_caches()
        forget(*files)
        return next(importlib.import_module(name) for name in reversed(files))

    yield write
    forget(*FILES, "another")


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


def test_values_that_a_program_has_set_are_not_compared(write):
    module = write(**FILES)
    module.LIMIT = 5
    module.Thing.level = 12
    text = written(module.Model())
    assert not {"mymodel:LIMIT", "mymodel:Thing.level"} & set(json.loads(text))
    module = write(**FILES)
    text = written(module.Model())
    assert {"mymodel:LIMIT", "mymodel:Thing.level"} <= set(json.loads(text))
    module.LIMIT = 5
    check_code(text, Files())


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


@pytest.mark.parametrize("how", ["missing", "broken"])
def test_a_module_that_cannot_be_imported_is_named(write, tmp_path, how):
    text = written(write(**FILES).Model())
    (tmp_path / "mymodel.py").unlink()
    if how == "broken":
        (tmp_path / "mymodel.py").write_text("this is no Python")
    forget("mymodel")
    error = {"missing": "ModuleNotFoundError", "broken": "SyntaxError"}[how]
    assert f"mymodel cannot be imported ({error}" in refusal(text)
