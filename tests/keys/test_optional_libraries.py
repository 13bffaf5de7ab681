"""Objects of other libraries have equal digests in every process if they are equal."""

import pickle
import subprocess
import sys
import textwrap

import pytest
from keys.elsewhere import answer, modules
from keys.sources import variants

from optomatic.errors import NotShippable
from optomatic.keys.digest import digest_of
from optomatic.planning.payload import Sender

#: By library: texts whose alternatives all make something else.
KINDS = {
    "torch": {
        "tensors": """
            import torch
            made = torch.tensor(«[1.0, 2]‖[1.0, 3]‖[[1.0, 2]]‖[1, 2]‖[True, False]»)""",
        "dtypes of tensors": """
            import torch
            made = torch.ones(2, dtype=torch.«float32‖float64‖bfloat16‖int8»)""",
        "tensors that own code uses": """
            import torch
            W = torch.arange(4.0) * «1‖2»
            def made(X): return (torch.tensor(X) * W).numpy()""",
        "gradients": """
            import torch
            made = torch.ones(2, requires_grad=«True‖False»)""",
        "modules": """
            import torch
            torch.manual_seed(«0‖1»)
            made = torch.nn.Sequential(torch.nn.Linear(2, «3‖4»), torch.nn.«ReLU‖Tanh»())""",
        "own modules": """
            import torch
            class Net(torch.nn.Module):
                def __init__(self, n=1):
                    super().__init__()
                    self.n = n
                    self.weight = torch.nn.Parameter(torch.ones(2))
                def forward(self, X): return X * self.weight * «1‖2»
            made = Net(«1‖2»)""",
        "classes of modules": """
            import torch
            class made(torch.nn.Module):
                def forward(self, X): return X * «1‖2»""",
        "dtypes and devices": """
            import torch
            made = torch.«float32‖float64‖device('cpu')‖device('cuda', 0)»""",
        "functions": "import torch\nmade = torch.«relu‖tanh‖nn.functional.relu»",
    },
    "numba": {
        "functions that are compiled": """
            import numba
            @numba.njit
            def made(X): return X * «1‖2‖1.0»""",
        "options": """
            import numba
            @numba.njit(«‖fastmath=True‖parallel=True‖error_model='numpy'»)
            def made(X): return X / 3""",
        "globals of what is compiled": """
            import numba
            K = «1‖2»
            @numba.njit
            def made(X): return X * K""",
        "what own code calls": """
            import numba
            @numba.njit
            def g(X): return X * «1‖2»
            def made(X): return g(X)""",
        "what compiled code calls": """
            import numba
            @numba.njit
            def g(X): return X * «1‖2»
            @numba.njit
            def made(X): return g(X)""",
        "ufuncs": """
            import numba
            @numba.vectorize«‖(['float64(float64)'])‖(identity=1)»
            def made(x): return x + «1‖2»""",
        "what ufuncs have compiled": """
            import numba
            @numba.vectorize
            def made(x): return x + 1
            «0‖made(1)‖made(1.0)»""",
        "ufuncs of arrays": """
            import numba
            @numba.guvectorize(['void(float64[:], float64[:])'«‖, 'void(int64[:], int64[:])'»],
                               '(n)->«(n)‖()»')
            def made(x, out): out[0] = «1‖2»""",
        "signatures": """
            import numba
            @numba.njit([«'float64[:](float64[:])'‖'float32[:](float32[:])'‖
                          'float64[:](float64[:])', 'float32[:](float32[:])'»])
            def made(X): return X * 2""",
        "types of local names": """
            import numba
            @numba.njit(locals={'y': numba.«float32‖float64»})
            def made(x):
                y = x * 2
                return y""",
        "types": """
            import numba
            made = numba.«float64[:]‖float64[:, :]‖types.UniTuple(numba.float64, 2)»""",
    },
    "pydantic": {
        "models": """
            import pydantic
            class Own(pydantic.BaseModel):
                k: «int‖float» = «1‖2»
            made = Own(k=«3‖4»)""",
        "classes of models": """
            import pydantic
            class made(pydantic.BaseModel):
                k: «int‖float» = «1‖2»
                other: str = pydantic.Field('a', max_length=«3‖4»)""",
        "validators": """
            import pydantic
            class Own(pydantic.BaseModel):
                k: int = 1
                @pydantic.field_validator('k')
                def check(cls, value): return value + «1‖2»
            made = Own(k=2)""",
        "models in models": """
            import pydantic
            class Inner(pydantic.BaseModel):
                k: «int‖float» = 1
            class Own(pydantic.BaseModel):
                inner: Inner = Inner()
            made = Own(inner=Inner(k=«3‖4»))""",
        "configuration": """
            import pydantic
            class Own(pydantic.BaseModel):
                model_config = pydantic.ConfigDict(«frozen=True‖frozen=False‖extra='allow'»)
                k: int = 1
            made = Own()""",
        "dataclasses": """
            import pydantic.dataclasses
            @pydantic.dataclasses.dataclass
            class Own:
                k: «int‖float» = 1
            made = Own(«3‖4»)""",
        "what dataclasses validate": """
            import pydantic.dataclasses
            @pydantic.dataclasses.dataclass(«‖frozen=True‖config={'extra': 'allow'}»)
            class made:
                k: int = pydantic.Field(1, gt=«3‖4»)
                @pydantic.field_validator('k')
                def check(cls, value): return value + «1‖2»""",
        "names that pydantic has as well": """
            import pydantic
            class made(pydantic.BaseModel):
                validator: int = «1‖2»
                def serializer(self): return «1‖2»""",
        "private attributes and serializers": """
            import pydantic
            class made(pydantic.BaseModel):
                k: int = 1
                _kept: int = «1‖2»
                @pydantic.field_serializer('k')
                def shown(self, value): return value + «1‖2»""",
        "adapters": """
            import pydantic
            class Own(pydantic.BaseModel):
                k: «int‖float» = 1
            made = pydantic.TypeAdapter(«list‖tuple»[Own])""",
        "functions that validate": """
            import pydantic
            class Own(pydantic.BaseModel):
                k: «int‖float» = 1
            @pydantic.validate_call(config={'strict': «True‖False»}, validate_return=«True‖False»)
            def made(x: «int‖float», own: Own) -> int: return x + own.k + «1‖2»""",
    },
    "scipy": {
        "frozen distributions of several dimensions": """
            made = stats.«multivariate_normal([0, 1])‖multivariate_normal([0, 2])
            ‖multivariate_normal([0, 1], 2.0)‖multivariate_t([0, 1], df=3)
            ‖multivariate_t([0, 1], df=4)‖dirichlet([1, 2])‖wishart(3, [[1, 0], [0, 2]])
            ‖invwishart(3, [[1, 0], [0, 2]])‖multinomial(3, [0.2, 0.8])‖ortho_group(3)
            ‖multivariate_hypergeom([3, 4], 2)‖random_correlation([0.5, 1.5])»""",
        "frozen distributions that own code uses": """
            PRIOR = stats.multivariate_normal([0, «1‖2»])
            def made(X): return PRIOR.pdf(X[:, :2])""",
        "distributions of several dimensions": """
            made = stats.«multivariate_normal‖multivariate_t‖dirichlet‖ortho_group»""",
        "distributions with seeds": """
            made = stats.multivariate_normal([0, 1], seed=«0‖1»)""",
    },
}
#: Texts that make the same, however they are used.
USED = {
    "torch": {
        "modules": """
            import torch
            made = torch.nn.Linear(2, 2)
            with torch.no_grad(): made.weight.fill_(1.0); made.bias.fill_(0.0)
            «0‖made(torch.ones(1, 2))‖torch.rand(2)‖made.zero_grad()»""",
    },
    "numba": {
        "functions": """
            import numba
            @numba.njit
            def made(X): return X * 2
            «0‖made(3)‖made(3.0), made(2)»""",
        "signatures": """
            import numba
            others = «0‖[numba.types.Array(numba.complex64, n, 'C') for n in range(12, 24)]»
            @numba.njit('int32[:, :, :, :, :](int32[:, :, :, :, :])')
            def made(X): return X
            «0‖made(np.ones((1, 1, 1, 1, 1), 'i4'))»""",
        "ufuncs": """
            import numba
            @numba.vectorize(['float64(float64)'])
            def made(x): return x * 2
            «0‖made(3)‖made(np.ones(3))»""",
    },
    "pydantic": {
        "models": """
            import pydantic
            class Own(pydantic.BaseModel):
                k: int = 1
                _kept: int = 2
            made = Own(k=2)
            «0‖made.model_dump()‖Own.model_json_schema()‖Own.model_validate({'k': 3})
            ‖made.model_copy()‖repr(made), made == Own(k=2)‖setattr(Own(), 'k', 2)»""",
        "models that are complete when they are used": """
            import pydantic
            class Own(pydantic.BaseModel):
                other: 'Other | None' = None
            class Other(pydantic.BaseModel, defer_build=True):
                k: int = 1
            made = [Own, Other]
            «0‖Own()‖Own(other={'k': 3})‖Other()‖Own.model_rebuild()»""",
        "dataclasses that are complete when they are used": """
            import pydantic.dataclasses
            @pydantic.dataclasses.dataclass
            class Own:
                other: 'Other | None' = None
            @pydantic.dataclasses.dataclass(config={'defer_build': True})
            class Other:
                k: int = 1
            made = [Own, Other]
            «0‖Own()‖Own(other={'k': 3})‖Other()»""",
        "adapters and functions": """
            import pydantic
            @pydantic.validate_call(config={'defer_build': True})
            def g(x: int): return x
            made = g, pydantic.TypeAdapter(list[int])
            «0‖g('1')‖made[1].validate_python(['1'])»""",
    },
    "scipy": {
        "distributions": """
            made = stats.multivariate_normal([0, 1])
            «0‖made.pdf([0, 1])‖made.rvs(random_state=0)‖stats.multivariate_normal.pdf([0, 1])»""",
    },
}
#: Scripts whose functions are sent, with values, and called elsewhere.
SENT = {
    "numba": {
        "functions": """
            import numba
            @numba.njit
            def g(x, k=2): return x * k
            @numba.njit(['float64(float64)', 'int64(int64)'], locals={'y': numba.float32})
            def h(x):
                y = g(x) / 3
                return y
            @numba.njit
            def descend(n, by=3): return 1 if n < by else n * descend(n - by)
            @numba.njit('int64(int64)')
            def signed(n): return 1 if n < 2 else n * signed(n - 1)
            values = [g]
            def made(x, g=None): return h(x), descend(x), signed(x), (g or globals()['g'])(x)""",
        "ufuncs": """
            import numba
            import numpy as np
            @numba.vectorize
            def dynamic(x): return x * 2
            @numba.vectorize(['float64(float64)'])
            def fixed(x): return x * 3
            @numba.guvectorize(['void(float64[:], float64[:])'], '(n)->(n)')
            def of_arrays(x, out): out[:] = x + 1
            @numba.njit
            def calls(x): return dynamic(x) + 1
            values = [dynamic]
            def made(x, own=None):
                return dynamic(x), fixed(x), of_arrays(np.array([x, 1.0])), calls(float(x))""",
    },
    "pydantic": {
        "models": """
            import pydantic, typing
            T = typing.TypeVar('T')
            class Inner(pydantic.BaseModel):
                z: int = 1
            class Own(pydantic.BaseModel, validate_assignment=True):
                k: int = pydantic.Field(1, gt=0, lt=50)
                inner: Inner = Inner()
                more: list[Inner] = pydantic.Field(default_factory=list)
                _kept: int = 3
                @pydantic.field_validator('k')
                @classmethod
                def check(cls, value): return value + 1
                @pydantic.model_validator(mode='after')
                def whole(self):
                    assert self.k != 6
                    return self
                @pydantic.computed_field
                @property
                def twice(self) -> int: return self.k * 2
            class Derived(Own):
                later: 'Later | None' = None
            class Later(pydantic.BaseModel, typing.Generic[T]):
                of: T
            values = [Own(k=3), Own]
            def failures(make, *each):
                for given in each:
                    try: yield make(**given)
                    except pydantic.ValidationError as error: yield len(error.errors())
            def made(x, own=Own(k=4), kind=Own):
                own.k = x
                found = list(failures(kind, {'k': 0}, {'k': 5}, {'inner': {'z': 'q'}}, {'k': x}))
                return found, own.model_dump(), Derived(k=x, later={'of': 3}), Later[int](of=x)""",
        "dataclasses": """
            import pydantic.dataclasses
            @pydantic.dataclasses.dataclass
            class Inner:
                z: int = 1
            @pydantic.dataclasses.dataclass(config={'validate_assignment': True})
            class Own:
                k: int = pydantic.Field(1, gt=0)
                inner: Inner = pydantic.Field(default_factory=Inner)
                later: 'Later | None' = None
                @pydantic.field_validator('k')
                @classmethod
                def check(cls, value): return value + 1
            @pydantic.dataclasses.dataclass(slots=True, frozen=True)
            class Later:
                k: int = 1
            values = [Own(3), Own]
            def made(x, own=None, kind=Own):
                try: kind(0)
                except pydantic.ValidationError as error: count = len(error.errors())
                return own, count, kind(x, {'z': '3'}, {'k': x}), kind(x) == kind(x)""",
        "adapters and functions": """
            import pydantic
            class Own(pydantic.BaseModel):
                z: int = 1
            adapter = pydantic.TypeAdapter(list[Own])
            @pydantic.validate_call(validate_return=True)
            def g(x: int, own: Own = Own()) -> str: return str(x + own.z)
            values = [adapter]
            def made(x, own=adapter): return own.validate_python([{'z': x}]), g(str(x))""",
    },
}
SENDS = """
import sys
from optomatic.planning.payload import Sender
sender = Sender({"function": made})
sent = sender.send(values)
assert sent.doubts == (), sent.doubts
open(sys.argv[1], "wb").write(sender.payload(sent.part.sha))
print(made(7, *values))
"""
LOADS = """
import sys
from optomatic.planning.payload import load_payload
loaded = load_payload(open(sys.argv[1], "rb").read(), None)
assert loaded.parted() is None, loaded.parted()
with loaded.installed():
    print(loaded.roles["function"](7, *loaded.values))
"""
#: What cannot travel, and what is said of it.
NOT_SENT = {
    "numba": {
        "a CFunc of numba": """
            import numba
            g = numba.cfunc('float64(float64)')(lambda x: x)
            def made(X): return g.ctypes(X)""",
        "a StencilFunc of numba": """
            import numba
            g = numba.stencil(lambda a: a[-1] + a[1])
            def made(X): return g(X)""",
        "a JitClassType of numba": """
            from numba.experimental import jitclass
            @jitclass([])
            class Own:
                def __init__(self): pass
            def made(X): return Own()""",
        "_MemInfo": """
            from numba.typed import List
            held = List([1, 2])
            def made(X): return held[0]""",
    },
}
CASES = [(library, name) for library, kinds in KINDS.items() for name in kinds]


def sources_of(library, text):
    pytest.importorskip(library, reason=f"{library} is optional")
    return variants(text)


def found(sources):
    there = answer("described", sources)
    assert there["doubts"] == []
    return there["hex"]


@pytest.mark.parametrize(("library", "name"), CASES)
def test_digests_differ_for_different_objects_only(library, name):
    sources = sources_of(library, KINDS[library][name])
    hexes = [found(each) for each in sources]
    assert len(set(hexes)) == len(hexes)
    assert [found(each) for each in sources] == hexes


@pytest.mark.parametrize(("library", "name"), CASES)
def test_a_second_process_computes_the_same_digest(library, name, elsewhere):
    for each in sources_of(library, KINDS[library][name]):
        assert elsewhere.answer("described", each)["hex"] == found(each)


@pytest.mark.parametrize(
    ("library", "name"), [(library, name) for library, kinds in USED.items() for name in kinds]
)
def test_use_does_not_change_the_digest(library, name, elsewhere):
    sources = sources_of(library, USED[library][name])
    assert len({found(each) for each in sources}) == 1
    assert elsewhere.answer("described", sources[-1])["hex"] == found(sources[0])


@pytest.mark.parametrize(
    ("library", "name"),
    [
        ("torch", "tensors"),
        ("torch", "modules"),
        ("torch", "own modules"),
        ("pydantic", "models"),
        ("pydantic", "models in models"),
    ],
)
def test_a_pickled_copy_has_the_same_digest(library, name):
    for each in sources_of(library, KINDS[library][name]):
        with modules(each) as module:
            copied = pickle.loads(pickle.dumps(module.made))
            assert digest_of(copied).hex == digest_of(module.made).hex


@pytest.mark.parametrize("library", KINDS)
def test_the_library_is_in_the_digest(library):
    sources = sources_of(library, next(iter(KINDS[library].values())))[0]
    met = {name.partition(".")[0] for name in answer("described", sources)["modules"]}
    assert library in met


@pytest.mark.parametrize(
    ("library", "name"), [(library, name) for library, kinds in SENT.items() for name in kinds]
)
def test_sent_objects_work_in_another_process(library, name, tmp_path):
    pytest.importorskip(library, reason=f"{library} is optional")
    (tmp_path / "sends.py").write_text(textwrap.dedent(SENT[library][name]) + SENDS)
    (tmp_path / "loads.py").write_text(LOADS)
    here, there = (
        subprocess.run(
            [sys.executable, tmp_path / f"{what}.py", tmp_path / "payload"],
            capture_output=True,
            text=True,
        )
        for what in ("sends", "loads")
    )
    assert (here.returncode, there.returncode) == (0, 0), here.stderr + there.stderr
    assert there.stdout == here.stdout


@pytest.mark.parametrize(
    ("library", "said"), [(library, said) for library, kinds in NOT_SENT.items() for said in kinds]
)
def test_objects_that_cannot_be_sent_are_named(library, said):
    [source] = sources_of(library, NOT_SENT[library][said])
    with modules(source) as module:
        [doubt] = digest_of(module.made).doubts
        assert said in str(doubt)
        sent = Sender({"function": module.made}).send([])  # the module goes by its name instead
        assert said in str(sent.doubts[0])
        module.made.__module__ = "__main__"
        vars(module)["__name__"] = "__main__"
        with pytest.raises(NotShippable, match=said):
            Sender({"function": module.made}).send([])
