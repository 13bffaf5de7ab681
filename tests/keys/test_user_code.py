"""The reached globals, modules and imports of a function are sent, and count."""

import functools
import importlib
import sys
import types

import pytest
from keys.elsewhere import modules

from optomatic.keys.digest import digest_of
from optomatic.keys.environment import shipping, travels
from optomatic.keys.user_code import Reducer, has_docstring, reach_of, reads_docstrings


def code_of(text):
    """Return the code of the function `f` in a text."""
    space = {}
    exec(text, space)
    return space["f"].__code__


def key(value):
    found = digest_of(value)
    assert not found.doubts
    return found.hex


def key_of(sources):
    with modules(sources) as module:
        return key(module.f)


def sent_by(value, reducer=None):
    """Return the globals with which a function is sent."""
    return (reducer or Reducer(travels)).function(value)[2]["globals"]


# What byte code says


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ("return A + B", "A B"),
        ("A = 1; return A", ""),
        ("return (lambda: A)()", "A"),
        ("return [A for x in B if C]", "A B C"),
        ("def g():\n        def h(): return A\n        return h\n    return g", "A"),
        ("class G:\n        a = A\n        def m(self): return B\n    return G", "A B __name__"),
        ("global A; A = 1", "A"),
        ("global A; del A", "A"),
        ("global A; A += 1", "A"),
        ("return x.A", ""),
        ("return f'{A}'", "A"),
        ("return 'A'", ""),
        ("try:\n        return A\n    except B:\n        return C", "A B C"),
        ("async def g():\n        async with A: return await B\n    return g", "A B"),
        ("def g(x: A = B) -> C: return x\n    return g", "A B C"),
    ],
)
def test_globals_that_are_read_or_written_are_reached(body, names):
    assert reach_of(code_of(f"def f(x=0):\n    {body}")).names == tuple(names.split())


def test_globals_in_defaults_are_not_reached():
    """They are values by then."""
    assert reach_of(code_of("A = 1\ndef f(x=A): return x")).names == ()


@pytest.mark.parametrize(
    ("body", "chains"),
    [
        ("return A.b.c(A.d)", {"A": {("b", "c"), ("d",)}}),
        ("return A.b + A", {}),
        ("return A.b.c[0].d", {"A": {("b", "c")}}),
        ("return A.b().c", {"A": {("b",)}}),
        ("return A['b'].c", {}),
        ("A.b = 1", {}),
        ("return [A.b for _ in x], (lambda: A.c)", {"A": {("b",), ("c",)}}),
        ("return getattr(A, 'b')", {}),
        ("return A.b, B", {"A": {("b",)}}),
    ],
)
def test_attribute_chains_of_globals_are_reached(body, chains):
    found = reach_of(code_of(f"def f(x=0):\n    {body}")).chains
    assert {name: set(own) for name, own in found.items()} == chains


@pytest.mark.parametrize(
    ("statement", "imported"),
    [
        ("import a", (0, "a", ())),
        ("import a.b.c as d", (0, "a.b.c", ())),
        ("from a import b, c as d", (0, "a", ("b", "c"))),
        ("from . import a", (1, "", ("a",))),
        ("from ..a.b import c", (2, "a.b", ("c",))),
    ],
)
def test_imports_in_a_function_body_are_reached(statement, imported):
    for body in (statement, f"def g():\n        {statement}\n    return g"):
        assert reach_of(code_of(f"def f():\n    {body}")).imports == (imported,)


def test_long_functions_are_read_to_the_end():
    """Arguments above 255 take instructions of their own."""
    lines = [f"    x.a{n} = N{n}.b{n}" for n in range(400)]
    found = reach_of(code_of("\n".join(["def f(x):", *lines, "    from a import b399"])))
    assert len(found.names) == 400
    assert found.chains["N399"] == {("b399",)}
    assert found.imports == ((0, "a", ("b399",)),)


@pytest.mark.parametrize(
    ("text", "has_one"),
    [
        ("def f():\n    'One.'\n    return 1", True),
        ("def f(): return 'One.'", False),
        ("def f():\n    return f'{1}One.'", False),
        ("def f():\n    'One.'\n    return 'One.'", False),  # a constant that is used
        ("def f():\n    x = 'One.'", False),
        ("f = lambda: 'One.'", False),
        ("def f():\n    'One.'", True),
        ("def f(): pass", False),
    ],
)
def test_docstrings_differ_from_constants(text, has_one):
    assert has_docstring(code_of(text)) == has_one


@pytest.mark.parametrize(
    ("body", "reads"),
    [
        ("return x.__doc__", True),
        ("return inspect.getdoc(x)", True),
        ("return getattr(x, '__doc__')", True),
        ("return x.doc", False),
        ("return 1", False),
    ],
)
def test_code_that_reads_docstrings_is_known(body, reads):
    assert reads_docstrings(code_of(f"def f(x):\n    {body}")) == reads


# What is sent with a function


def test_only_reached_globals_are_sent():
    space = {"__name__": "own_code", "A": 1, "B": 2, "C": 3, "len": max}
    exec("def f(x): return A + D + len(x)", space)
    assert sent_by(space["f"]) == {"A": 1, "len": max}


def test_globals_that_are_set_later_count_from_then_on():
    space = {"__name__": "own_code"}
    exec("def f(): return A", space)
    before = key(space["f"])
    space["A"] = 1
    assert key(space["f"]) != before
    del space["A"]
    assert key(space["f"]) == before


HELPERS = {
    "own_helpers": "K = {}\nOTHER = {}\ndef used(x): return x + K\ndef unused(x): return OTHER",
}


def helped(use, k=1, other=1):
    return {"own_helpers": HELPERS["own_helpers"].format(k, other), "own_code": use}


#: Each reaches ``used`` and ``K`` of the module, and nothing else.
USES = {
    "attribute": "import own_helpers\ndef f(x): return own_helpers.used(x)",
    "alias": "import own_helpers as h\ndef f(x): return h.used(x)",
    "name": "from own_helpers import used\ndef f(x): return used(x)",
    "another name": "from own_helpers import used as u\ndef f(x): return u(x)",
    "inner function": "import own_helpers\ndef f(x): return [own_helpers.used(y) for y in x]",
    "import from in the body": "def f(x):\n    from own_helpers import used\n    return used(x)",
    "method": "import own_helpers\nclass f:\n    def m(self, x): return own_helpers.used(x)",
    "default": "import own_helpers\ndef f(x, g=own_helpers.used): return g(x)",
    "partial": "import functools, own_helpers\nf = functools.partial(own_helpers.used, 1)",
    "decorator": "import own_helpers\nfrom functools import wraps\n"
    "@wraps(own_helpers.used)\ndef f(x): pass",
    "base class": "import own_helpers\nclass B:\n    m = own_helpers.used\nclass f(B): pass",
    "cell": "import own_helpers\ndef make(g): return lambda x: g(x)\nf = make(own_helpers.used)",
    "dict": "import own_helpers\nTABLE = {'a': own_helpers.used}\ndef f(x): return TABLE['a'](x)",
    "lru_cache": "import functools, own_helpers\nf = functools.lru_cache(own_helpers.used)",
    "property": "import own_helpers\nclass f:\n    p = property(own_helpers.used)",
}
#: Each reaches all of the module, as nobody knows what is used of it.
WHOLE = {
    "handed on": "import own_helpers\ndef g(m): return m.K\ndef f(): return g(own_helpers)",
    "getattr": "import own_helpers\ndef f(): return getattr(own_helpers, 'K')",
    "returned": "import own_helpers\ndef f(): return own_helpers",
    "set": "import own_helpers\ndef f(): own_helpers.K = 2",
    "default": "import own_helpers\ndef f(m=own_helpers): return m.K",
    "import in the body": "def f():\n    import own_helpers\n    return own_helpers.K",
    "instance": "import own_helpers\nclass C: pass\nf = C()\nf.module = own_helpers",
    "container": "import own_helpers\nf = [{'a': own_helpers}]",
    "attribute of a class": "import own_helpers\nclass f:\n    module = own_helpers",
}


@pytest.mark.parametrize("use", USES)
def test_only_the_reached_part_of_a_module_counts(use):
    before = key_of(helped(USES[use]))
    assert key_of(helped(USES[use], other=2)) == before
    assert key_of(helped(USES[use], k=2)) != before


@pytest.mark.parametrize("use", WHOLE)
def test_a_whole_module_counts_if_it_is_used_as_an_object(use):
    keys = [key_of(helped(WHOLE[use], *values)) for values in ((1, 1), (1, 1), (2, 1), (1, 2))]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3


def test_a_whole_module_counts_if_it_has_getattr():
    text = "def __getattr__(name): return {}\nK = {}"
    use = "import own_lazy\ndef f(): return own_lazy.anything"
    found = [
        key_of({"own_lazy": text.format(*values), "own_code": use})
        for values in ((1, 1), (2, 1), (1, 2))
    ]
    assert len(set(found)) == 3


def test_missing_names_of_a_module_are_passed_over():
    use = "import own_helpers\ndef f(): return own_helpers.no_such, own_helpers.used"
    assert key_of(helped(use)) == key_of(helped(use, other=2))


def test_a_module_without_a_file_counts_by_its_content():
    def holding(k):
        module = types.ModuleType("own_module_that_is_held")
        module.K = k
        return [module]

    assert key(holding(1)) == key(holding(1)) != key(holding(2))


PACKAGE = {
    "own_package": "P = {p}",
    "own_package.part": "def used(): return {k}\ndef unused(): return {other}",
    "own_package.inner": "I = 1",
    "own_package.inner.part": "def used(): return {k}\ndef unused(): return {other}",
}
#: The module that is the user's, and its text.
IN_PACKAGE = {
    "dotted name": ("own_code", "import own_package.part\ndef f(): return own_package.part.used()"),
    "deep dotted name": (
        "own_code",
        "import own_package.inner.part\ndef f(): return own_package.inner.part.used()",
    ),
    "from": ("own_code", "from own_package import part\ndef f(): return part.used()"),
    "relative": ("own_package.user", "from . import part\ndef f(): return part.used()"),
    "relative name": ("own_package.user", "from .part import used\ndef f(): return used()"),
    "from in the body": (
        "own_code",
        "def f():\n    from own_package.part import used\n    return used()",
    ),
    "relative name in the body": (
        "own_package.user",
        "def f():\n    from .part import used\n    return used()",
    ),
    "from above in the body": (
        "own_package.inner.user",
        "def f():\n    from ..part import used\n    return used()",
    ),
}


@pytest.mark.parametrize("use", IN_PACKAGE)
def test_only_the_reached_part_of_a_package_counts(use):
    name, text = IN_PACKAGE[use]

    def made(k=1, other=1, p=1):
        texts = {m: t.format(k=k, other=other, p=p) for m, t in PACKAGE.items()}
        return key_of({**texts, name: text})

    before = made()
    assert made(other=2) == made(p=2) == before
    assert made(k=2) != before


def test_reached_names_of_a_packages_own_module_count():
    name, text = "own_code", "import own_package\ndef f(): return own_package.P"
    texts = [{m: t.format(k=1, other=1, p=p) for m, t in PACKAGE.items()} for p in (1, 2)]
    assert key_of({**texts[0], name: text}) != key_of({**texts[1], name: text})


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write modules, which imports find until the test is over."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)

    def write(**texts):
        for name, text in texts.items():
            (tmp_path / f"{name}.py").write_text(text)
        importlib.invalidate_caches()

    yield write
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(
            sys.modules[name].__file__
        ):
            del sys.modules[name]


LATE = "def f(x):\n    from own_late import times\n    return times(x)"


def test_a_key_is_the_same_before_and_after_the_first_call(write):
    """So what a function is going to import is imported as it is digested."""
    write(own_late="def times(x): return 2 * x", own_code=LATE)
    f = importlib.import_module("own_code").f
    before = key(f)
    assert f(3) == 6
    assert key(f) == before


@pytest.mark.parametrize("text", ["raise SystemExit(1)", "1 / 0", "this is no Python", None])
def test_a_module_that_cannot_be_imported_does_not_count(write, text):
    """The function may never import it."""
    code = "def f(plot=False):\n    if plot:\n        import own_late\n    return plot"
    write(own_code=code, **({} if text is None else {"own_late": text}))
    f = importlib.import_module("own_code").f
    assert key(f) == key_of({"own_code": code})


def test_modules_imported_by_a_function_are_sent_with_it(write):
    write(own_late="def times(x): return 2 * x", own_code=LATE)
    reducer = Reducer(travels)
    reducer.function(importlib.import_module("own_code").f)
    assert set(reducer.modules) == {"own_late"}


def test_packages_above_an_imported_module_are_sent_with_it():
    text = "def f():\n    import own_package.inner.part\n    return own_package.inner.part.used()"
    texts = {name: part.format(k=1, other=1, p=1) for name, part in PACKAGE.items()}
    with modules({**texts, "own_code": text}) as module:
        reducer = Reducer(travels)
        reducer.function(module.f)
    assert set(reducer.modules) == {
        *("own_package", "own_package.inner", "own_package.inner.part"),
    }


def test_used_submodules_of_libraries_are_sent():
    """Where workers have not imported them, these attributes are not there."""
    space = {"__name__": "own_code"}
    exec("import scipy.linalg\ndef f(x): return scipy.linalg.norm(x)", space)
    state = Reducer(travels).function(space["f"])[2]
    assert state["globals"] == {"scipy": sys.modules["scipy"]}
    assert state["imports"] == [sys.modules["scipy.linalg"]]


def test_functions_of_one_module_share_a_namespace():
    with modules({"own_code": "K = []\ndef f(): return K\ndef g(): return K"}) as module:
        reducer = Reducer(travels)
        one, other = (reducer.function(own) for own in (module.f, module.g))
    assert one[1][1] is other[1][1]
    assert one[2]["globals"]["K"] is other[2]["globals"]["K"]


# What travels, and what goes by name


def test_library_code_goes_by_name_and_user_code_by_value():
    reducer = Reducer(travels)
    assert reducer.reduce(functools.wraps) is None
    assert reducer.reduce(pytest.fixture) is None
    assert reducer.reduce(key) is not None
    assert reducer.reduce(lambda: 1) is not None


def test_user_code_set_in_a_library_travels():
    """It is not what workers find there."""
    patched = types.FunctionType((lambda x: x).__code__, vars(functools), "wraps")
    patched.__module__, patched.__qualname__ = "functools", "wraps"
    assert Reducer(travels).reduce(patched) is not None
    assert key(patched) != key(functools.wraps)


def test_modules_that_are_not_shipped_go_by_name_and_count():
    with modules(helped(USES["attribute"])) as module:
        whole = digest_of(module.f)
        with shipping(["own_code"]):
            assert digest_of(module.f) == whole
            assert sent_by(module.f)["own_helpers"] is sys.modules["own_helpers"]
        with shipping([]):
            assert digest_of(module.f) == whole
            assert Reducer(travels).reduce(module.f) is None


def test_modules_below_a_named_one_travel_too():
    with modules({"own_package": "", "own_package.part": "f = len"}), shipping(["own_package"]):
        assert travels("own_package.part")
        assert not travels("own_packages")
        assert travels("__main__")
    with pytest.raises(ImportError), shipping(["no_such_module_anywhere"]):
        pass
    for wrong in ("own_package", [3], 3):
        with pytest.raises(TypeError, match="ship_modules"), shipping(wrong):
            pass


def test_the_environment_of_the_process_is_never_sent(monkeypatch):
    monkeypatch.setenv("OWN_PASSWORD", "hunter2")
    with modules(
        {"own_code": "from os import environ\ndef f(x): return environ.get('A', x)"}
    ) as own:
        before = digest_of(own.f)
        assert Reducer(travels).reduce(sent_by(own.f)["environ"])[1][1] == "environ"
        monkeypatch.setenv("OWN_PASSWORD", "other")
        assert digest_of(own.f) == before
