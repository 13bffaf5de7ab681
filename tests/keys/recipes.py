# ruff: noqa: E501 - the texts are code of their own
"""Searches as texts, with places at which one thing can be changed.

A recipe is made of pieces, each a text with places like «number»: there, one of the texts of that
pool stands.  ``_N`` is the number of the piece.  At places whose pool begins with ``=`` all texts
make the same work.  Each piece has a function ``step_N``, which turns rows into other rows, and
should do so differently for each text.
"""

import re
import textwrap
import zlib

PLACE = re.compile("«(.*?)»")

NUMBERS = """
1|1.0|True|2|2.0|0.5|3|np.float64(2)|np.float32(2)|np.int64(2)|np.int32(2)|0.3|0.1 + 0.2|-0.0|0.0|1e-3
2.5|1j|np.bool_(True)|np.longdouble(2)|10**20|float("inf")
"""
WORDS = "'a'|'b'|'ab'|'A'|''|'ß'|'a b'"
VALUES = r"""
None|...|b'a'|[1, 2]|(1, 2)|[2, 1]|[1, 2.0]|{1, 2}|frozenset({1, 2})|{'a': 1, 'b': 2}|{'b': 2, 'a': 1}
range(2)|range(3)|slice(2)|np.array([1, 2])|np.array([1.0, 2])|np.array([[1, 2]])|np.array(['a', 'b'])
np.array([1, 2], dtype='f4')|np.array([1, 2], dtype=object)|np.array([1, 2.0], dtype=object)
decimal.Decimal('1.5')|decimal.Decimal('1.50')|fractions.Fraction(1, 3)|fractions.Fraction(2, 3)
datetime.date(2020, 1, 1)|datetime.datetime(2020, 1, 1)|datetime.datetime(2020, 1, 1, fold=1)
datetime.timedelta(1)|datetime.timedelta(2)|datetime.timezone.utc|np.datetime64('2020-01-01')
np.datetime64('2020-01-01', 's')|np.timedelta64(1, 's')|pd.Timestamp(2020, 1, 1)|pd.NaT|pd.NA
pd.Timestamp(2020, 1, 1, tz='UTC')|pd.Timedelta(1, 's')|pd.Interval(0, 1)|pd.Interval(0, 1, 'left')
pd.Period('2020-01', 'M')|pathlib.PurePosixPath('a')|pathlib.PosixPath('a')|pathlib.PureWindowsPath('a')
re.compile('a')|re.compile('a', re.I)|re.compile('b')|int|float|list[int]|int | None|len|max
collections.OrderedDict(a=1)|collections.Counter(a=1)|collections.deque([1, 2])|[[1], [2]]|[[], [1, 2]]
types.SimpleNamespace(a=1)|types.SimpleNamespace(a=2)|np.dtype('f4')|np.dtype('>f4')|np.float32
np.dtype([('a', 'f8')])|np.dtype([('b', 'f8')])|operator.itemgetter(1)|operator.itemgetter(2)
"""
DTYPES = """
pd.CategoricalDtype(['a', 'b'])|pd.CategoricalDtype(['b', 'a'])|pd.CategoricalDtype(['a', 'b'], True)
pd.CategoricalDtype([1, 2])|pd.CategoricalDtype([1.0, 2.0])|pd.CategoricalDtype()|pd.PeriodDtype('D')
pd.PeriodDtype('M')|pd.DatetimeTZDtype('ns', 'UTC')|pd.DatetimeTZDtype('s', 'UTC')|pd.Int64Dtype()
pd.DatetimeTZDtype('ns', 'Europe/Paris')|pd.SparseDtype(float, 0.0)|pd.SparseDtype(float, 1.0)
pd.StringDtype('python')|pd.StringDtype('python', na_value=np.nan)|pd.IntervalDtype('i8', 'left')
pd.IntervalDtype('i8', 'right')|pd.Float64Dtype()|np.dtype('f8')|np.dtype('M8[s]')|np.dtype('M8[ns]')
"""


def _texts(pool):
    return tuple(text for line in pool.strip().splitlines() for text in line.split("|"))


#: Where `|` is a part of a text: types are parted in another way.
_VALUES = tuple(text.replace("int ¦ None", "int | None") for text in _texts(VALUES.replace("int | None", "int ¦ None")))  # fmt: skip

POOLS = {
    "number": _texts(NUMBERS),
    "word": _texts(WORDS),
    "value": _texts(NUMBERS) + _texts(WORDS) + _VALUES,
    "dtype": _texts(DTYPES),
    "whole": ("0", "1", "2", "3", "7"),
    "type": ("int", "float", "str", "list[int]", "'int'"),
    "operator": ("+", "-", "*", "<", "//"),
    "order": ("C", "F"),
    "alias": ("A", "[1.0]"),
    "fields": ("a = 1; b = 2", "b = 2; a = 1", "a = 1; b = 3", "a = 1", "a = 1.0; b = 2"),
    "bases": ("P, Q", "Q, P", "P", "Q"),
    "kind of method": ("staticmethod", "functools.lru_cache(None)", "functools.cache", "abs_of"),
    "option": ("", "frozen=True", "eq=False", "order=True", "slots=True"),
    "enum": ("Enum", "IntEnum", "Flag", "IntFlag"),
    "ufunc": ("np.exp2", "special.exp2", "np.exp", "np.log1p", "special.log1p", "special.expm1"),
    "bit generator": ("PCG64", "PCG64DXSM", "MT19937", "SFC64", "Philox"),
    "distribution": ("norm(0, 1)", "norm(0, 2)", "norm", "uniform(0, 1)", "uniform(0, 2)", "expon",
                     "rv_histogram(([1, 2], [0, 1, 2]))", "rv_histogram(([1, 1], [0, 1, 2]))"),
    "builtin": ("max", "min", "len", "sum"),
    "base": ("int", "float", "str", "decimal.Decimal", "fractions.Fraction"),
    "alpha": ("1.0", "0.5", "1e-3", "2", "np.float64(1.0)"),
    "neighbors": ("1", "2", "3"),
    "weights": ("'uniform'", "'distance'", "one_over", "None"),
    "metric": ("'r2'", "'neg_mean_squared_error'", "'neg_max_error'", "scored"),
    "x dtype": ("f8", "f4", ">f8", "i8", "O", "g", "c16"),
    "change": ("0.0", "1e-15", "0.5", "-0.0"),
    "column": ("a", "b", "0"),
    "name": ("None", "'u'", "'v'"),
    "column kind": ("pd.Categorical(text, ['u', 'v'])", "pd.Categorical(text, ['v', 'u'])",
                    "pd.Categorical(text, ['u', 'v'], ordered=True)", "text.astype(object)",
                    "pd.Categorical(text, ['u', 'v', 'w'])", "pd.array(text, dtype='string')",
                    "pd.array(text, dtype=pd.StringDtype('python', na_value=np.nan))",
                    "pd.array(text, dtype=pd.StringDtype('pyarrow', na_value=np.nan))"),
    "number kind": ("'f8'", "'f4'", "'Int64'", "'Float64'", "'i8'", "'M8[s]'", "'M8[ns]'",
                    "'m8[s]'", "'Sparse[float]'", "object", "'datetime64[ns, UTC]'"),
    "attribute": ("{}", "{'unit': 'm'}", "{'unit': 'km'}"),
    "index": ("range(12)", "range(1, 13)", "[*range(12)]", "pd.RangeIndex(12, name='u')",
              "pd.date_range('2020', periods=12)", "[float(n) for n in range(12)]"),
    # Whatever stands at these places, the work is the same.
    "=line": ("", "# a comment\n\n\n", "UNUSED_N = 5\n", "def unused_N(): return 1\n"),
    "=comment": ("", "  # a comment", "    "),
    "=doc": ('"A text."', '"Another."'),
    "=n_jobs": ("None", "1"),
    "=verbose": ("False", "True and False"),
    "=set": ("{'a', 'b', 'c', 1}", "{1, 'c', 'b', 'a'}", "{'b', 1, 'a', 'c', 'a'}"),
    "=layout": ("np.ascontiguousarray", "np.asfortranarray", "strided", "mapped"),
    "=same text": ("'some text'", "''.join(['some', ' text'])"),
}  # fmt: skip

IMPORTS = """
import abc, collections, copy, dataclasses, datetime, decimal, enum, fractions, functools
import operator, pathlib, re, types, typing
import numpy as np, pandas as pd
from scipy import special, stats
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
"""

#: Turns a value into a number that other values do not have.
PROBE = (
    IMPORTS
    + '''
import zlib

def said(value):
    """Say all that code of one's own could ask of a value."""
    kind = type(value).__name__
    if isinstance(value, (pd.DataFrame, pd.Series, pd.Index)):
        return f"{kind}{[said(v) for v in value.to_numpy(object).ravel()]}"
    if isinstance(value, np.ndarray):
        return f"{kind}{value.dtype!r}{value.shape}{[said(v) for v in value.ravel('K').tolist()]}"
    if isinstance(value, dict):
        return f"{kind}{[(said(k), said(v)) for k, v in value.items()]}"
    if isinstance(value, (set, frozenset)):
        return f"{kind}{sorted(said(v) for v in value)}"
    if isinstance(value, (list, tuple, collections.deque)):
        return f"{kind}{[said(v) for v in value]}"
    if isinstance(value, (type, types.FunctionType, types.BuiltinFunctionType)):
        return f"{kind}{value.__name__}"
    if isinstance(value, pd.api.extensions.ExtensionDtype):
        names = ("storage", "na_value", "unit", "tz", "freq", "closed", "fill_value", "ordered")
        found = [said(getattr(value, name, None)) for name in names]
        return f"{kind}{value!r}{found}{said(getattr(value, 'categories', None))}"
    if isinstance(value, float):
        return f"{kind}{float(value).hex()}"
    if isinstance(value, datetime.datetime):
        return f"{kind}{value!r}{value.fold}"
    return f"{kind}{value!r}"

def feel(value):
    return zlib.crc32(said(value).encode()) / 2**32

def bend(X, value):
    return np.column_stack([X, np.sin(9 * X[:, 0] * (1 + feel(value)))])
'''
)

#: Pieces of own code.  What stands before a line of dashes is a part of another own module.
STEPS = {
    "constant": "def step_N(X): return bend(X, «number»)«=comment»",
    "inner constant": "def step_N(X): return bend(X, [(lambda y: (y, «word»))(x) for x in (1, «number»)])",
    "operator": "def step_N(X): return bend(X, 7 «operator» 2)",
    "lambda": "step_N = lambda X: bend(X, «number»)",
    "default": "def step_N(X, k=«value»): return bend(X, k)",
    "default by keyword": "def step_N(X, *, k=«value»): return bend(X, k)",
    "attribute of a function": "def step_N(X): return bend(X, step_N.k)\nstep_N.k = «value»",
    "annotation of a function": """
        def used_N(x: «type») -> «type»: return x
        def step_N(X): return bend(X, str(used_N.__annotations__))""",
    "docstring that is read": 'def step_N(X):\n    "Says «column»."\n    return bend(X, step_N.__doc__)',
    "docstring": """
        def helper_N():
            «=doc»
            return «number»
        def step_N(X): return bend(X, helper_N())""",
    "global": "«=line»K_N = «value»\ndef step_N(X): return bend(X, K_N)",
    "dict": "D_N = {«word»: «number», «word»: «value»}\ndef step_N(X): return bend(X, D_N)",
    "set": "S_N = {«word», «number», «word»}\ndef step_N(X): return bend(X, S_N)",
    "order of a set": "S_N = «=set»\ndef step_N(X): return bend(X, S_N)",
    "texts twice": "T_N = ['some text', «=same text»]\ndef step_N(X): return bend(X, T_N)",
    "closure": """
        def make_N(k):
            def step(X): return bend(X, k)
            return step
        step_N = make_N(«value»)""",
    "cells": """
        def make_N():
            k = «number»
            def put(value):
                nonlocal k
                k = value
            return put, lambda: k
        put_N, get_N = make_N()
        def step_N(X): return bend(X, get_N())""",
    "helper": """
        def helper_N(x): return «number» if x else «number»
        «=line»def step_N(X): return bend(X, helper_N(«whole»))""",
    "helpers that call each other": """
        def one_N(n): return («number», two_N(n - 1)) if n > 0 else 0
        def two_N(n): return («number», one_N(n - 1)) if n > 0 else 1
        def step_N(X): return bend(X, one_N(«whole»))""",
    "name of a builtin": "chosen_N = «builtin»\ndef step_N(X): return bend(X, chosen_N([3, 1]))",
    "ufunc": "U_N = «ufunc»\ndef step_N(X): return bend(X, float(U_N(0.7)) + U_N.nin)",
    "partial": """
        def base_N(X, k, n): return bend(X, (k, n))
        step_N = functools.partial(base_N, k=«value», n=«number»)""",
    "decorator": """
        def by_N(k):
            def decorate(f):
                @functools.wraps(f)
                def wrapped(X): return bend(f(X), k)
                return wrapped
            return decorate
        @by_N(«value»)
        def step_N(X): return bend(X, «number»)""",
    "cache": """
        @functools.lru_cache(None)
        def cached_N(n): return n, «number»
        def step_N(X): return bend(X, cached_N(«whole»))""",
    "class": """
        class C_N:
            «=doc»
            k = «value»
            def f(self):
                «=doc»
                return self.k, «number»
        def step_N(X): return bend(X, C_N().f())""",
    "instance": """
        class C_N:
            def __init__(self, k): self.k = k
            def __call__(self, X): return bend(X, self.k)
        step_N = C_N(«value»)""",
    "method": """
        class C_N:
            def __init__(self, k): self.k = k
            def f(self, X): return bend(X, self.k)
        step_N = C_N(«value»).f""",
    "slots": """
        class C_N:
            __slots__ = ('k', '__n')
            def __init__(self, k, n): self.k, self.__n = k, n
            def __call__(self, X): return bend(X, (self.k, self.__n))
        step_N = C_N(«value», «number»)""",
    "property": """
        class C_N:
            @property
            def k(self): return «value»
            @functools.cached_property
            def n(self): return «number»
        def step_N(X): return bend(X, (C_N().k, C_N().n))""",
    "metaclass": """
        class M_N(type):
            k = «value»
            def __getattr__(cls, name): return cls.k, «number»
        class C_N(metaclass=M_N): pass
        def step_N(X): return bend(X, C_N.something)""",
    "bases": """
        class P: k = 1
        class Q: k = 2
        class C_N(«bases»): n = «number»
        def step_N(X): return bend(X, [(b.__name__, vars(b).get('k')) for b in C_N.__mro__[1:-1]])""",
    "class body": """
        class C_N: «fields»
        def step_N(X): return bend(X, [(n, v) for n, v in vars(C_N).items() if len(n) == 1])""",
    "annotations of a class": """
        class C_N:
            a: «type»
            b: «type» = «number»
        def step_N(X): return bend(X, str(C_N.__annotations__))""",
    "dataclass": """
        @dataclasses.dataclass(«option»)
        class C_N:
            a: «type» = «number»
            b: object = «whole»
        def step_N(X): return bend(X, (dataclasses.astuple(C_N()), '__lt__' in vars(C_N),
                                      C_N.__dataclass_params__.frozen, '__slots__' in vars(C_N),
                                      C_N.__dataclass_params__.eq, str(C_N.__annotations__)))""",
    "enum": """
        class E_N(enum.«enum»):
            A = «whole»
            B = 8
        def step_N(X): return bend(X, [m.value for m in E_N] + [type(E_N.B).__mro__[1]])""",
    "named tuple": """
        class C_N(typing.NamedTuple):
            a: int = «number»
            b: object = «word»
        def step_N(X): return bend(X, tuple(C_N()))""",
    "own repr": """
        class L_N(«base»):
            def __repr__(self): return '<L>'
        K_N = L_N(«whole»)
        def step_N(X): return bend(X, (L_N.__mro__[1], float(K_N)))""",
    "one object or two": """
        A = [1.0]
        B_N = (A, «alias»)
        def step_N(X): return bend(X, B_N[0] is B_N[1])""",
    "array": """
        W_N = np.array([«number», 0.5])
        def step_N(X): return bend(X, W_N)""",
    "layout of an array": """
        W_N = np.array(np.arange(6.0).reshape(2, 3) + «whole», order='«order»')
        def step_N(X): return bend(X, W_N)""",
    "dtype": "T_N = «dtype»\ndef step_N(X): return bend(X, T_N)",
    "random state": """
        R_N = np.random.RandomState(«whole»)
        def step_N(X): return bend(X, copy.deepcopy(R_N).random())""",
    "generator": """
        R_N = np.random.Generator(np.random.«bit generator»(«whole»))
        def step_N(X): return bend(X, copy.deepcopy(R_N).random())""",
    "distribution": "P_N = stats.«distribution»\ndef step_N(X): return bend(X, float(P_N.cdf(0.3)))",
    "own distribution": """
        class D_N(stats.rv_continuous):
            def __init__(self, k=1, **more):
                super().__init__(**more)
                self.k = k
            def _updated_ctor_param(self): return dict(super()._updated_ctor_param(), k=self.k)
            def _cdf(self, x): return x ** (self.k + «whole»)
        P_N = D_N(k=«whole», a=0.0, b=1.0 + «whole»)
        def step_N(X): return bend(X, float(P_N.cdf(0.3)))""",
    "module": """
        K_N = «value»
        ---
        import own_settings
        def step_N(X): return bend(X, own_settings.K_N)""",
    "function of a module": """
        «=line»def used_N(): return «number»
        ---
        import own_settings
        def step_N(X): return bend(X, own_settings.used_N())""",
    "name from a module": """
        K_N = «value»
        ---
        from own_settings import K_N
        def step_N(X): return bend(X, K_N)""",
    "module that is handed on": """
        K_N = «value»
        ---
        import own_settings
        def apply_N(X, given): return bend(X, given.K_N)
        def step_N(X): return apply_N(X, own_settings)""",
    "import in a function": """
        K_N = «value»
        ---
        def step_N(X):
            import own_settings
            return bend(X, own_settings.K_N)""",
    "import from in a function": """
        def used_N(): return «value»
        ---
        def step_N(X):
            from own_settings import used_N
            return bend(X, used_N())""",
    "class of a module": """
        class Base_N:
            k = «value»
            def f(self): return self.k, «number»
        ---
        import own_settings
        class C_N(own_settings.Base_N): pass
        def step_N(X): return bend(X, C_N().f())""",
    "dict of a module": """
        SEEN_N = {}
        def get_N(): return SEEN_N
        ---
        import own_settings
        own_settings.SEEN_N['a'] = «value»
        def step_N(X): return bend(X, own_settings.get_N())""",
    "value that is set in a module": """
        K_N = 1
        def get_N(): return K_N
        ---
        import own_settings
        own_settings.K_N = «value»
        def step_N(X): return bend(X, own_settings.get_N())""",
}  # fmt: skip

DATA = {
    "array": """
        X = RANDOM.rand(12, 3) * 9
        X[3, 1] = 2.5 + «change»
        X[5, 2] = «change»
        X = «=layout»(X.astype('«x dtype»'))
        def read(X): return bend(np.asarray(X, dtype=complex).real, X.dtype.str)""",
    "array of three dimensions": """
        X = np.array(RANDOM.rand(12, 3, 4) * 9, order='«order»')
        X[3, 1] += «change»
        def read(X): return bend(X.sum(axis=2), np.argsort(X.strides).tolist())""",
    "masked array": """
        X = np.ma.array(RANDOM.rand(12, 3), mask=np.arange(36).reshape(12, 3) % 7 == «whole»)
        X.data[3, 1] = «change»
        def read(X): return bend(np.where(X.mask, 0.5, X.data), X.data)""",
    "frame": """
        X = pd.DataFrame({'a': RANDOM.randint(0, 9, 12), 'n': RANDOM.rand(12)})
        text = np.array(['u', 'v', 'u'] * 4)
        X['a'] = X['a'].astype(«number kind»)
        X['c'] = «column kind»
        X.columns = ['«column»', 'n', 'c']
        X.columns.name = «name»
        X.index = «index»
        X.attrs = «attribute»
        def read(X):
            first = X.iloc[:, 0]
            number = first.astype('i8') if first.dtype.kind in 'mM' else first
            code = [len(said(value)) + ord(str(value)[0]) for value in X['c']]
            base = np.column_stack([np.asarray(number, dtype=float), X['n'], code]).astype(float)
            told = [list(X.dtypes), list(X.columns), X.columns.name, X.index[0], X.attrs,
                    type(X.index), X.index.name]
            return bend(base, told)""",
    "blocks of a frame": """
        X = pd.DataFrame(np.array(RANDOM.rand(12, 3), order='«order»'), copy=False)
        X.columns = ['a', 'b', 'c']
        X['k'] = pd.Categorical(['u', 'v', 'u'] * 4, categories=[«word», 'u', 'v'])
        X.iloc[3, 0] += «change»
        def read(X):
            base = X[['a', 'b', 'c']].to_numpy()
            told = [X['k'].cat.categories.tolist(), base.flags.c_contiguous]
            return bend(np.c_[base, X['k'].cat.codes], told)""",
}  # fmt: skip

MODELS = {
    "ridge": "model, grid = Ridge(alpha=«alpha»), {'MODEL__fit_intercept': [True]}",
    "ridge by candidate": "model, grid = Ridge(), {'MODEL__alpha': [«alpha»]}",
    "neighbors": """
        model = KNeighborsRegressor(weights=«weights», n_jobs=«=n_jobs»)
        grid = {'MODEL__n_neighbors': [«neighbors»]}""",
    "own transformer": """
        model = make_pipeline(Own(«value»), Ridge(alpha=«alpha»), verbose=«=verbose»)
        grid = {'MODEL__own__n': [«value»]}""",
    "keywords": """
        model = make_pipeline(FunctionTransformer(with_k, kw_args={'k': «value»}), Ridge())
        grid = {'MODEL__ridge__alpha': [«alpha»]}""",
}

CODE = (
    IMPORTS
    + """
from own_probe import bend, feel, said
RANDOM = np.random.RandomState(0)
def strided(X): return np.repeat(X, 2, axis=0)[::2]
def mapped(X):
    if X.dtype.hasobject: return X
    import tempfile
    with tempfile.TemporaryFile() as file: made = np.memmap(file, X.dtype, 'w+', shape=X.shape)
    made[:] = X
    return made
def one_over(distances): return 1 / (distances + 1)
def with_k(X, k): return bend(X, k)
class Own(TransformerMixin, BaseEstimator):
    def __init__(self, k=None, n=None): self.k, self.n = k, n
    def fit(self, X, y=None): return self
    def transform(self, X): return bend(X, [self.k, self.n])
"""
)
END = """
y = np.sin(np.arange(12.0)) + «change»
def scored(estimator, X, y): return estimator.score(X, y) * (1 + feel(«number»))
scoring = «metric»
steps = [FunctionTransformer(step) for step in [read, STEPS]]
estimator = make_pipeline(*steps, model)
NAME = estimator.steps[-1][0]
params = {name.replace('MODEL', NAME): values[0] for name, values in grid.items()}
"""

#: So many numbers choose the texts of all places; places beyond them take them again.
NUMBERS_OF_A_RECIPE = 16


def skeleton(steps, data, model):
    """Return the texts of a recipe's modules, with their places."""
    settings, code = IMPORTS, CODE
    for number, name in enumerate(steps):
        text = textwrap.dedent(STEPS[name]).replace("_N", f"_{number}")
        of_module, dashes, own = text.partition("---\n")
        settings += of_module + "\n" if dashes else ""
        code += (own if dashes else text) + "\n"
    end = END.replace("STEPS", ", ".join(f"step_{number}" for number in range(len(steps))))
    code += "\n".join(textwrap.dedent(text) for text in (DATA[data], MODELS[model], end))
    return [settings, code]


def places(texts):
    """Return the pools of all places."""
    return [pool for text in texts for pool in PLACE.findall(text)]


def filled(texts, chosen):
    """Return the texts with that of each pool at each place which `chosen` has the number of."""
    numbers = iter(chosen)

    def take(match):
        return POOLS[match.group(1)][next(numbers)].replace("_N", "_")

    return [PLACE.sub(take, text) for text in texts]


def choices(pools, numbers):
    """Return the number of a text for each place."""
    return [
        (numbers[n % len(numbers)] + n // len(numbers)) % len(POOLS[pool])
        for n, pool in enumerate(pools)
    ]


def sources(settings, code, tag):
    """Return a recipe's modules; the names of its own ones end with `tag`."""
    texts = {"own_probe": PROBE, "own_settings": settings, "own_code": code}
    names = re.compile("own_(settings|code)")
    return {
        names.sub(rf"own_\1_{tag}", name): names.sub(rf"own_\1_{tag}", text)
        for name, text in texts.items()
    }


def tag_of(texts):
    """Return a short name for what stands in texts."""
    return f"{zlib.crc32(''.join(texts).encode()):08x}"


def shown(texts):
    """Return the lines of a recipe that are its own."""
    return "\n".join(texts).replace(CODE, "").replace(IMPORTS, "").split("\n")
