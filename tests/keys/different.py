# ruff: noqa: E501 - the texts are code of their own
"""Different work, by the name of the difference.

Each text has alternatives between « and », parted by ‖: each of them makes something else.
``made`` of the last module is what counts.
"""

#: Stands before each text.
IMPORTS = """
import abc, array, collections, copy, dataclasses, datetime, decimal, enum, fractions, functools
import operator, pathlib, re, types, typing, uuid, zoneinfo
import numpy as np, pandas as pd, scipy.sparse as sp, scipy.special, scipy.stats as stats
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.metrics import f1_score, get_scorer, make_scorer
"""

VALUES = {
    "exact types of numbers": """
        made = «1‖1.0‖True‖np.float64(1)‖np.int64(1)‖np.int32(1)‖np.float32(1)‖np.bool_(True)‖1 + 0j
        ‖decimal.Decimal(1)‖fractions.Fraction(1)‖np.longdouble(1)‖'1'‖b'1'‖bytearray(b'1')‖None»""",
    "signs of zeros": """
        made = «0‖0.0‖-0.0‖np.float64(0)‖np.float64(-0.0)‖0j‖complex(0.0, -0.0)‖complex(-0.0, 0.0)»""",
    "kinds of what is missing": """
        made = «float('nan')‖np.float64('nan')‖None‖pd.NA‖pd.NaT‖np.datetime64('NaT')
        ‖np.timedelta64('NaT')‖decimal.Decimal('nan')‖float('inf')‖float('-inf')»""",
    "large numbers": "made = «2**70‖2**70 + 1‖-2**70‖2.0**70»",
    "last bits of a float": "made = «0.3‖0.1 + 0.2»",
    "digits of a decimal": "made = decimal.Decimal(«'1.0'‖'1.00'‖'1E+1'‖'10'»)",
    "kinds of containers": """
        made = «[1, 2]‖(1, 2)‖{1, 2}‖frozenset({1, 2})‖[2, 1]‖[[1], 2]‖[1, [2]]‖{1: 2}
        ‖range(1, 3)‖collections.deque([1, 2])‖array.array('i', [1, 2])‖np.array([1, 2])»""",
    "where texts end": "made = «['ab', 'c']‖['a', 'bc']‖['abc']‖['ab', 'c', '']»",
    "texts that cannot be encoded": r"made = «'\ud800'‖'\udfff'‖'?'»",
    "order of a dict": "made = «{'a': 1, 'b': 2}‖{'b': 2, 'a': 1}‖{'a': 1}‖{0: 1, 'b': 2}»",
    "kinds of mappings": """
        made = «{'a': 1}‖collections.OrderedDict(a=1)‖collections.defaultdict(int, a=1)
        ‖collections.defaultdict(list, a=1)‖collections.Counter(a=1)
        ‖types.MappingProxyType({'a': 1})‖types.SimpleNamespace(a=1)»""",
    "length of a deque": "made = collections.deque([1], «None‖1‖2»)",
    "slices and ranges": """
        made = «slice(2)‖slice(0, 2)‖slice(0, 2, 1)‖range(2)‖range(0, 3, 2)‖range(0, 4, 2)‖...»""",
    "types": """
        made = «int‖float‖list‖list[int]‖list[float]‖int | None‖float | None‖typing.Any‖type
        ‖np.float64‖np.dtype('f8')‖type(None)»""",
    "moments": """
        made = «datetime.datetime(2020, 1, 1)‖datetime.date(2020, 1, 1)‖datetime.time(0)
        ‖datetime.datetime(2020, 1, 1, fold=1)‖pd.Timestamp(2020, 1, 1)
        ‖datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)
        ‖datetime.datetime(2020, 1, 1, tzinfo=zoneinfo.ZoneInfo('UTC'))
        ‖datetime.datetime(2020, 1, 1, tzinfo=zoneinfo.ZoneInfo('Europe/Paris'))
        ‖datetime.timedelta(1)‖datetime.timedelta(2)‖pd.Timedelta(1, 'D')»""",
    "time zones": """
        made = «datetime.timezone(datetime.timedelta(hours=1))
        ‖datetime.timezone(datetime.timedelta(hours=1), 'x')
        ‖datetime.timezone(datetime.timedelta(hours=2))‖zoneinfo.ZoneInfo('Europe/Paris')
        ‖zoneinfo.ZoneInfo('Europe/Rome')»""",
    "own time zones": """
        class Zone(datetime.tzinfo):
            def __init__(self, hours=0): self.hours = hours
            def utcoffset(self, at): return datetime.timedelta(hours=self.hours)
        made = datetime.datetime(2020, 1, 1, tzinfo=Zone(«1‖2»))""",
    "units of numpy's moments": """
        made = «np.datetime64('2020', 'Y')‖np.datetime64('2020-01-01', 'D')
        ‖np.datetime64('2020-01-01', 's')‖np.datetime64('2020-01-01', 'ns')
        ‖np.timedelta64(1, 'D')‖np.timedelta64(24, 'h')»""",
    "units of pandas's moments": """
        made = pd.Timestamp('2020-01-01').as_unit(«'s'‖'ms'‖'us'‖'ns'»)""",
    "pandas's scalars": """
        made = «pd.Interval(0, 1)‖pd.Interval(0, 1, 'left')‖pd.Interval(0.0, 1.0)
        ‖pd.Period('2020-01-01', 'D')‖pd.Period('2020-01', 'M')‖pd.offsets.Day(1)
        ‖pd.offsets.Day(2)‖pd.offsets.MonthEnd()»""",
    "kinds of paths": """
        made = «pathlib.PosixPath('a')‖pathlib.PurePosixPath('a')‖pathlib.PureWindowsPath('a')
        ‖pathlib.PosixPath('b')‖'a'»""",
    "flags of a regular expression": """
        made = «re.compile('a')‖re.compile('a', re.I)‖re.compile(b'a')‖re.compile('b')‖'a'»""",
    "identifiers": "made = uuid.UUID(int=«1‖2»)",
    "seeds and positions of a RandomState": """
        made = np.random.RandomState(«0‖1‖np.random.PCG64(0)‖np.random.MT19937(0)»)
        «0‖made.random()»""",
    "all items of a RandomState": """
        made = np.random.RandomState(0)
        made.standard_normal()
        kind, key, at, has, kept = made.get_state()
        key = key.copy()
        key[«0‖5»] += 1
        made.set_state((kind, key, at - «0‖1», «has‖0», kept + «0‖1e-9»))""",
    "what a Generator will draw": """
        made = np.random.Generator(«np.random.PCG64(0)‖np.random.PCG64(1)‖np.random.PCG64DXSM(0)
        ‖np.random.SFC64(0)‖np.random.MT19937(0)»)
        «0‖made.random()‖made.integers(9, dtype='i4')‖made.spawn(1)‖made.spawn(2)»""",
    "seed sequences": """
        made = np.random.SeedSequence(«1‖2‖[1, 2]»)
        «0‖made.spawn(1)»""",
    "itemgetters and the like": """
        made = «operator.itemgetter(1)‖operator.itemgetter(2)‖operator.itemgetter(1, 2)
        ‖operator.attrgetter('a')‖operator.attrgetter('b')‖operator.methodcaller('a')
        ‖operator.methodcaller('a', 1)‖operator.methodcaller('a', x=1)»""",
}

#: A subclass whose repr says nothing, by what it comes from and two or more of its values.
OWN_REPR = {
    "int": "1‖3",
    "float": "1.5‖3.5‖-0.0",
    "complex": "1j‖3j",
    "str": "'a'‖'b'",
    "bytes": "b'a'‖b'b'",
    "bytearray": "b'a'‖b'b'",
    "tuple": "(1,)‖(3,)",
    "list": "[1]‖[3]",
    "dict": "{'a': 1}‖{'a': 3}",
    "set": "{1}‖{3}",
    "frozenset": "{1}‖{3}",
    "decimal.Decimal": "'1'‖'3'",
    "fractions.Fraction": "1, 2‖1, 3",
    "datetime.timedelta": "1‖3",
    "datetime.datetime": "2020, 1, 1‖2020, 1, 3",
    "datetime.date": "2020, 1, 1‖2020, 1, 3",
    "datetime.time": "1‖3",
    "np.float64": "1.0‖3.0",
    "np.int64": "1‖3",
    "np.str_": "'a'‖'b'",
    "collections.OrderedDict": "{'a': 1}‖{'a': 3}",
    "collections.deque": "[1]‖[3]",
    "collections.Counter": "{'a': 1}‖{'a': 3}",
    "types.SimpleNamespace": "a=1‖a=3",
    "Exception": "1‖3",
}

VALUES.update(
    {
        f"values of a subclass of {base} with a repr of its own": f"""
        class Level({base}):
            def __repr__(self): return '<Level>'
            __str__ = __repr__
        made = Level(«{values}»)"""
        for base, values in OWN_REPR.items()
    }
)
VALUES.update(
    {
        f"attributes of an instance of a subclass of {base}": f"""
        class Own({base}): pass
        made = Own()
        made.note = «1‖2»"""
        for base in ("int", "float", "str", "bytes", "tuple", "list", "dict", "set", "frozenset")
    }
)

DTYPES = {
    "numpy's dtypes": """
        made = np.dtype(«'f8'‖'f4'‖'>f8'‖'M8[ns]'‖'M8[s]'‖'M8[2s]'‖'m8[s]'‖'U3'‖'U4'‖'S3'‖'V3'
        ‖object‖[('a', 'f8')]‖[('b', 'f8')]‖[('a', 'f4')]‖[('a', 'f8', 2)]‖[(('t', 'a'), 'f8')]
        ‖{'names': ['a'], 'formats': ['f8'], 'offsets': [8]}
        ‖{'names': ['a'], 'formats': ['f8'], 'itemsize': 16}»)""",
    "strings of numpy with lengths of their own": """
        made = np.dtypes.StringDType(«‖na_object=None‖na_object=float('nan')‖coerce=False»)""",
    "categories of a dtype": """
        made = pd.CategoricalDtype(«['s', 'm']‖['m', 's']‖['s', 'm'], ordered=True‖['s']‖None
        ‖[1, 2]‖[1.0, 2.0]»)""",
    "categories of a dtype that a function uses": """
        CAT = pd.CategoricalDtype(«['s', 'm', 'l']‖['l', 's', 'm']», ordered=True)
        def made(X): return X.astype(CAT).apply(lambda column: column.cat.codes)""",
    "dtypes of moments": """
        made = «pd.DatetimeTZDtype('ns', 'UTC')‖pd.DatetimeTZDtype('s', 'UTC')
        ‖pd.DatetimeTZDtype('ns', 'Europe/Paris')‖pd.PeriodDtype('D')‖pd.PeriodDtype('M')
        ‖pd.PeriodDtype('2D')»""",
    "dtypes of intervals": """
        made = pd.IntervalDtype(«'int64', 'right'‖'int64', 'left'‖'float64', 'right'»)""",
    "fill values of a sparse dtype": """
        made = pd.SparseDtype(«float, 0.0‖float, np.nan‖float, 1.0‖int, 0‖'f4', 0.0»)""",
    "storage of strings": """
        made = pd.StringDtype(«'python'‖'pyarrow'‖'python', na_value=np.nan
        ‖'pyarrow', na_value=np.nan»)""",
    "dtypes with masks": """
        made = pd.«Int64Dtype‖Int32Dtype‖UInt64Dtype‖Float64Dtype‖BooleanDtype»()""",
    "dtypes of Arrow": """
        import pyarrow as pa
        made = pd.ArrowDtype(pa.«int64()‖int32()‖float64()‖string()‖large_string()‖bool_()
        ‖timestamp('ns')‖timestamp('us')‖timestamp('us', 'UTC')‖list_(pa.int64())
        ‖dictionary(pa.int32(), pa.string())‖decimal128(9, 2)‖decimal128(9, 3)
        ‖struct([('a', pa.int64())])‖struct([('b', pa.int64())])»)""",
    "dtypes of polars": """
        import polars as pl
        made = «pl.Int64‖pl.Int32‖pl.Datetime('ns')‖pl.Datetime('us')‖pl.Datetime('us', 'UTC')
        ‖pl.Duration('ns')‖pl.Duration('us')‖pl.Time‖pl.Date‖pl.Enum(['a', 'b'])‖pl.Enum(['b', 'a'])
        ‖pl.List(pl.Int64)‖pl.List(pl.Int32)‖pl.Array(pl.Int64, 2)‖pl.Array(pl.Int64, 3)
        ‖pl.Struct({'a': pl.Int64})‖pl.Struct({'b': pl.Int64})‖pl.Decimal(9, 2)‖pl.Decimal(9, 3)»""",
}

FUNCTIONS = {
    "constants": "def made(x): return x + «1‖2‖1.0‖True‖(1, 2)‖(1.0, 2)‖-0.0‖0.0‖'a'‖b'a'»",
    "what is called": "def made(x): return «len‖sum‖max‖np.sum‖np.max‖sp.linalg.norm»(x)",
    "lambdas": "made = lambda x: x «+‖-‖*‖//» 2",
    "defaults": "def made(x=«1‖2‖1.0‖[1]‖(1,)», y=3): return x",
    "defaults by keyword": "def made(*, x=«1‖2‖1.0»): return x",
    "which param is optional": "def made(«x, y=1‖x, *, y=1‖x, y, *args‖x, y, /‖x, y, **more»): return x",
    "annotations of a function": """
        def made(x: «int‖float‖'int'‖list[int]») -> «int‖float»: return x""",
    "attributes of a function": """
        def made(x): return x * made.factor
        made.factor = «1‖2»""",
    "globals": """
        K = «1‖2‖1.0‖[1]‖np.float64(1)»
        def made(x): return x * K""",
    "globals in an inner function": """
        K = «1‖2»
        def made(x): return [(lambda y: y * K)(z) for z in x]""",
    "globals of a helper's helper": """
        K = «1‖2»
        def inner(x): return x * K
        def helper(x): return inner(x)
        def made(x): return helper(x)""",
    "names that hide builtins": """
        «sum = max‖sum = min‖»
        def made(x): return sum(x)""",
    "order of a dict that is a global": """
        STEPS = «{'a': abs, 'b': np.sqrt}‖{'b': np.sqrt, 'a': abs}»
        def made(x):
            for step in STEPS.values(): x = step(x)
            return x""",
    "closures": """
        def make(n):
            def add(x): return x + n
            return add
        made = make(«1‖2‖1.0‖abs‖[1]»)""",
    "closures of closures": """
        def make(n):
            def add(x): return x + n
            def twice(x): return add(add(x))
            return twice
        made = make(«1‖2»)""",
    "cells that are shared": """
        def make():
            n = 0
            def put(value):
                nonlocal n
                n = value
            return put, lambda: n
        one, other = make(), make()
        made = (one[0], «one[1]‖other[1]»)""",
    "recursion": "def made(x): return x and made(x - «1‖2»)",
    "mutual recursion": """
        def other(x): return made(x) + «1‖2»
        def made(x): return x and other(x - 1)""",
    "who calls whom": """
        def f0(x): return f«1‖2‖0»(x - 1)
        def f1(x): return f«0‖2»(x - 1)
        def f2(x): return f0(x - 1)
        def made(x): return f0(x), f1(x), f2(x)""",
    "sets of functions": """
        def a(n): return b(n - 1)
        def b(n): return «2‖3» + a(n - 2)
        made = {a, b}""",
    "partials": """
        def f(*args, **more): return args, more
        made = functools.partial(«f, 1‖f, 2‖f, x=1‖f, y=1‖max, 1‖f, 1, 2»)""",
    "attributes of a partial": """
        made = functools.partial(abs)
        made.width = «1‖3»""",
    "subclasses of partial": """
        class Own(functools.partial):
            def __call__(self, X): return X[:, :self.width + «0‖1»]
        made = Own(abs)
        made.width = «1‖3»""",
    "decorators": """
        def by(n):
            def decorate(f):
                @functools.wraps(f)
                def wrapped(x): return f(x) * n
                return wrapped
            return decorate
        @by(«1‖2»)
        def made(x): return x + «1‖2»""",
    "functions that are cached": """
        @functools.lru_cache(None, typed=«True‖False»)
        def made(x): return x + «1‖2»""",
    "bound methods": """
        class Own:
            def __init__(self, n): self.n = n
            def f(self, x): return x * self.n
            def g(self, x): return x + self.n
        made = Own(«1‖2»).«f‖g»""",
    "methods of builtins": "made = «[1].append‖[2].append‖[1].extend‖'a'.join‖'b'.join‖dict.get»",
    "kinds of functions": """
        «def made(x): yield x‖def made(x): return x‖async def made(x): return x
        ‖async def made(x): yield x»""",
    "ufuncs of numpy and of scipy": """
        made = «np.exp2‖scipy.special.exp2‖np.log1p‖scipy.special.log1p‖np.expm1
        ‖scipy.special.expm1‖np.cbrt‖scipy.special.cbrt‖np.exp»""",
    "functions of one name": "made = «np.sum‖sum‖np.ma.sum‖np.nansum‖operator.add‖np.add»",
    "scorers": """
        made = «get_scorer('accuracy')‖get_scorer('f1')‖make_scorer(f1_score)
        ‖make_scorer(f1_score, average='macro')‖make_scorer(f1_score, greater_is_better=False)
        ‖make_scorer(f1_score, response_method='predict_proba')»""",
    "layout of arrays in own code": """
        W = np.array([[0.1, 0.2], [0.3, 1e3]], order=«'C'‖'F'»)
        def made(x): return x * W.ravel('K').cumsum()[1]""",
}

CLASSES = {
    "names of classes": """
        «class One: pass
        made = One()‖class Two: pass
        made = Two()»""",
    "attributes of classes": """
        class Own: k = «1‖2‖1.0»
        made = Own""",
    "attributes of bases": """
        class Base: k = «1‖2»
        class Own(Base): pass
        made = Own()""",
    "order of bases": """
        class A: k = 1
        class B: k = 2
        class Own(«A, B‖B, A‖A‖B»): pass
        made = Own()""",
    "order of a class body": """
        class Steps:
            «def square(self, X): return X ** 2
            def add(self, X): return X + 1‖def add(self, X): return X + 1
            def square(self, X): return X ** 2»
        made = Steps""",
    "order of a class body that code goes through": """
        class Steps:
            «a = 1
            b = 2‖b = 2
            a = 1»
        def made(x): return [x * k for name, k in vars(Steps).items() if len(name) == 1]""",
    "annotations of a class": """
        class Settings:
            k: «int‖float‖'int'»
        made = Settings""",
    "annotations that code of a class reads": """
        class Settings:
            k: «int‖float»
            def __init__(self, **more):
                for name, kind in type(self).__annotations__.items():
                    setattr(self, name, kind(more[name]))
        def made(X): return X ** Settings(k=2.7).k""",
    "order of annotations": """
        class Settings:
            «a: int
            b: int‖b: int
            a: int»
        made = Settings""",
    "methods": """
        class Own:
            def f(self, x): return x + «1‖2»
        made = Own()""",
    "kinds of methods": """
        class Own:
            «@staticmethod‖@classmethod‖@property‖»
            def f(x): return 1
        made = Own""",
    "properties": """
        class Own:
            @property
            def f(self): return «1‖2»
            @f.setter
            def f(self, value): self.g = value + «1‖2»
        made = Own()""",
    "descriptors": """
        class Held:
            def __init__(self, n): self.n = n
            def __get__(self, instance, owner): return self.n
        class Own: f = Held(«1‖2»)
        made = Own()""",
    "properties that are cached": """
        class Own:
            @functools.cached_property
            def f(self): return «1‖2»
        made = Own()""",
    "methods that hold params": """
        class Own:
            def f(self, n, x): return n * x
            g = functools.partialmethod(f, «1‖2»)
        made = Own()""",
    "slots": """
        class Own:
            __slots__ = ('__a', '_b', '__c__')
            def __init__(self, a, b): self.__a, self._b, self.__c__ = a, b, 0
        made = Own(«1‖2», «1‖2»)""",
    "slots that are empty": """
        class Own:
            __slots__ = ('a', 'b')
        made = Own()
        «0‖made.a = 1‖made.b = 1‖made.a = None»""",
    "slots of a base": """
        class Base: __slots__ = ('a',)
        class Own(Base): __slots__ = ('b', '__dict__')
        made = Own()
        made.a, made.b, made.c = «1‖2», «1‖2», «1‖2»""",
    "metaclasses": """
        class Meta(type):
            def __call__(cls): return super().__call__(), «1‖2»
            factor = «1‖2»
        class Own(metaclass=Meta): pass
        made = Own""",
    "what makes subclasses": """
        class Base:
            def __init_subclass__(cls, k=0): cls.k = k
        class Own(Base, k=«1‖2»): pass
        made = Own""",
    "classes in classes": """
        class Own:
            class Inner: k = «1‖2»
        made = Own()""",
    "instances": """
        class Own:
            def __init__(self, k): self.k = k
        made = Own(«1‖2‖1.0‖[1]‖None»)""",
    "instances that are pickled in a way of their own": """
        class Own:
            def __init__(self, k): self.k = k
            def __reduce__(self): return Own, (self.k,)
        made = Own(«1‖2»)""",
    "instances that say their state": """
        class Own:
            def __init__(self, k): self.k = k
            def __getstate__(self): return {'k': self.k}
        made = Own(«1‖2»)""",
    "instances that look equal": """
        class Own:
            def __init__(self, k): self.k = k
            def __eq__(self, other): return True
            def __hash__(self): return 1
            def __repr__(self): return 'Own()'
        made = «[Own(1), Own(2)]‖[Own(2), Own(1)]‖[Own(1), Own(1)]»""",
    "loops": """
        class Own: pass
        one, other = Own(), Own()
        one.next, other.next = «other, one‖one, other‖other, other»
        made = one""",
    "members of an enum": """
        class Own(enum.«Enum‖Flag‖IntEnum‖IntFlag»):
            A = «1‖2»
            B = 4
        made = Own.«A‖B»""",
    "order of an enum's members": """
        class Own(enum.Enum):
            «A = 1
            B = 2‖B = 2
            A = 1»
        made = Own""",
    "values of an enum that cannot be hashed": """
        class Own(enum.Enum):
            A = «[1]‖[2]»
        made = Own.A""",
    "flags that are put together": """
        class Own(enum.«Flag‖IntFlag»):
            A = 1
            B = 4
        made = «Own.A‖Own.B‖Own.A | Own.B‖Own(0)»""",
    "attributes of an enum's members": """
        class Own(enum.Enum):
            A = 1
            B = 2
            def __init__(self, value): self.weight = value * «1‖2»
        made = Own.A""",
    "fields of a dataclass": """
        @dataclasses.dataclass
        class Own:
            a: «int‖float» = «1‖2»
            b: list = dataclasses.field(default_factory=«list‖dict», compare=«True‖False»)
        made = Own""",
    "options of a dataclass": """
        @dataclasses.dataclass(«‖frozen=True‖eq=False‖order=True‖kw_only=True‖slots=True»)
        class Own:
            a: int = 1
        made = Own""",
    "order of a dataclass's fields": """
        @dataclasses.dataclass
        class Own:
            «a: int = 1
            b: int = 1‖b: int = 1
            a: int = 1»
        made = Own""",
    "dataclasses in dataclasses": """
        @dataclasses.dataclass(frozen=True)
        class Inner: k: int
        @dataclasses.dataclass
        class Own: inner: Inner
        made = Own(Inner(«1‖2»))""",
    "named tuples": """
        made = collections.namedtuple('Own', «'a b'‖'b a'‖'a c'»)(«1, 2‖2, 1»)""",
    "defaults of named tuples": """
        class Own(typing.NamedTuple):
            a: «int‖float» = «1‖2»
        made = Own""",
    "abstract methods": """
        class Base(abc.ABC):
            «@abc.abstractmethod‖»
            def f(self): return «1‖2»
        made = Base""",
    "classes that refer to themselves": """
        class Own:
            def f(self): return super().__repr__(), __class__, Own, «1‖2»
        Own.itself = Own
        made = Own()""",
    "classes that are made by a call": """
        made = «type('Own', (), {'k': 1})‖type('Own', (), {'k': 2})
        ‖types.new_class('Own', (), {}, lambda held: held.update(k=3))»""",
    "classes whose module says that it is an installed one": """
        made = type('Pipeline', (), {'k': «1‖2», '__module__': 'sklearn.pipeline'})""",
    "estimators": """
        class Own(TransformerMixin, BaseEstimator):
            def __init__(self, p=None, n_jobs=None): self.p, self.n_jobs = p, n_jobs
            def fit(self, X, y=None): return self
            def transform(self, X): return X * «1‖2»
        made = Own(«1‖2‖1.0», n_jobs=«1‖2»)""",
    "values that an instance holds by a weird name": """
        made = types.SimpleNamespace()
        vars(made)[«'a b'‖'a'‖''»] = 1""",
    "type variables": "made = typing.TypeVar('T'«‖, bound=int‖, bound=float‖, covariant=True»)",
}

SCIPY = {
    "attributes of an own distribution": """
        class Own(stats.rv_continuous):
            def __init__(self, k=1, **more):
                super().__init__(a=0.0, b=1.0)
                self.k = k
            def _updated_ctor_param(self): return dict(super()._updated_ctor_param(), k=self.k)
            def _cdf(self, x): return x ** self.k
        made = Own(k=«1‖3»)""",
    "bounds of an own distribution": """
        class Own(stats.rv_continuous):
            def _cdf(self, x): return np.sqrt(x / 4)
        made = Own(a=0.0, b=«0.3‖0.9»)""",
    "code of an own distribution": """
        class Own(stats.rv_«continuous‖discrete»):
            def _cdf(self, x): return x ** «1‖3»
        made = Own(a=0.0, b=1.0)""",
    "frozen distributions": """
        made = «stats.loguniform(1, 10)‖stats.loguniform(1, 11)‖stats.uniform(1, 10)
        ‖stats.loguniform(1.0, 10)‖stats.norm(1, 10)‖stats.norm()‖stats.norm‖stats.expon»""",
    "frozen distributions of several dimensions": """
        made = stats.«multivariate_normal([0, 1])‖multivariate_normal([0, 2])
        ‖multivariate_normal([0, 1], [[1, 0], [0, 2]])‖multivariate_t([0, 1])‖dirichlet([1, 2])
        ‖dirichlet([2, 1])‖wishart(3, [[1, 0], [0, 2]])‖multinomial(3, [0.2, 0.8])»""",
    "distributions that are made of data": """
        made = «stats.rv_discrete(values=([1, 2], [0.5, 0.5]))
        ‖stats.rv_discrete(values=([1, 2], [0.1, 0.9]))‖stats.rv_histogram(np.histogram([0, 0, 1], 2))
        ‖stats.rv_histogram(np.histogram([0, 1, 1], 2))‖stats.gaussian_kde([0, 0.5, 1])
        ‖stats.gaussian_kde([0, 0.6, 1])»""",
    "interpolations": """
        import scipy.interpolate as si
        made = si.«CubicSpline([0, 1, 2], [0, 1, 4])‖CubicSpline([0, 1, 2], [0, 1, 5])
        ‖PchipInterpolator([0, 1, 2], [0, 1, 4])‖BSpline([0, 1, 2, 3], [1, 2], 1)»""",
}

ARRAYS = {
    "dtypes of arrays": """
        made = np.array([1, 2]).astype(«'f8'‖'f4'‖'>f8'‖'i8'‖'i4'‖'u8'‖'?'‖'c16'‖'M8[s]'‖'M8[ns]'
        ‖'m8[s]'‖'U1'‖'U2'‖'S1'‖object‖'g'»)""",
    "shapes of arrays": """
        made = np.zeros(«()‖0‖1‖(1, 1)‖(0, 3)‖(3, 0)‖(2, 3)‖(3, 2)‖6»)""",
    "values of arrays": "made = np.array(«[1.0, 2]‖[2, 1.0]‖[1.0, -2]‖[0.0, 2]‖[-0.0, 2]‖[[1.0, 2]]»)",
    "bits of what is not a number": """
        made = np.array([0x7FF8000000000000 + «0‖1‖2**63»], dtype='u8').view('f8')""",
    "fields of arrays": """
        made = np.array([(1, 2)], dtype=«[('a', 'i8'), ('b', 'i8')]‖[('b', 'i8'), ('a', 'i8')]
        ‖[('a', 'i8'), ('b', 'i4')]‖[('a', 'i8'), ('c', 'i8')]»)""",
    "kinds of arrays": """
        data = np.array([[1.0, 2]])
        made = «data‖np.matrix(data)‖np.ma.array(data)‖data.tolist()‖pd.DataFrame(data)‖sp.csr_array(data)»""",
    "own kinds of arrays": """
        class Own(np.ndarray):
            factor = «1‖2»
        made = np.array([1.0, 2]).view(Own)""",
    "arrays of an own kind and others": """
        class Own(np.ndarray): pass
        made = np.array([1.0, 2]).view(«Own‖np.ndarray»)""",
    "items of arrays of objects": """
        made = np.array([«1‖1.0‖True‖'1'‖None‖[1]‖np.float64(1)‖decimal.Decimal(1)», 2], dtype=object)""",
    "layout of arrays of three dimensions": """
        made = np.asarray(np.arange(24.0).reshape(2, 3, 4), order=«'C'‖'F'»)""",
    "masks": "made = np.ma.array([1, 2], mask=«[0, 1]‖[1, 0]‖[0, 0]‖[1, 1]»)",
    "values below masks": "made = np.ma.array([1, «2‖3»], mask=[0, 1])",
    "fill values": "made = np.ma.array([1, 2], mask=[0, 1], fill_value=«7‖8‖None»)",
    "masks that are hard": "made = np.ma.array([1, 2], mask=[0, 1], hard_mask=«True‖False»)",
    "the masked one": "made = «np.ma.masked‖np.ma.array(0.0)‖np.ma.array(0.0, mask=True)»",
    "kinds of sparse matrices": """
        made = sp.«csr_matrix‖csr_array‖csc_matrix‖csc_array‖coo_matrix‖coo_array‖lil_matrix
        ‖dok_matrix‖bsr_matrix‖dia_matrix»(np.diag([1.0, 2.0]))""",
    "dtypes of sparse matrices": "made = sp.csr_array(np.diag([1.0, 2.0]).astype(«'f8'‖'f4'‖'i8'»))",
    "zeros that are stored": """
        made = sp.csr_array(([1.0, «0.0‖2.0»], [0, 1], [0, 2]), shape=(1, «3‖2»))
        """,
    "zeros that are stored and that are not": """
        made = sp.csr_array(«([1.0, 0.0], [0, 1], [0, 2])‖([1.0], [0], [0, 1])», shape=(1, 3))""",
    "order of indices": """
        made = sp.csr_array((«[1.0, 2.0], [0, 1]‖[2.0, 1.0], [1, 0]», [0, 2]), shape=(1, 3))""",
}

FRAMES = {
    "columns of a frame": """
        made = pd.DataFrame({«'a': [1, 2], 'b': [3, 4]‖'b': [3, 4], 'a': [1, 2]‖'a': [1, 2]
        ‖'a': [1, 2], 'c': [3, 4]‖'a': [1.0, 2], 'b': [3, 4]‖'a': [1, 3], 'b': [3, 4]‖0: [1, 2]»})""",
    "dtypes of a column": """
        made = pd.Series([1, 2]).astype(«'f8'‖'f4'‖'i8'‖'i4'‖'Int64'‖'Float64'‖object‖'category'
        ‖'Sparse[float]'‖'Sparse[int]'‖'datetime64[ns]'‖'datetime64[s]'‖'timedelta64[s]'»)""",
    "missing values of a column": """
        made = pd.Series([1, «None‖2», 3], dtype=«'Int64'‖'Float64'‖object»)""",
    "kinds of missing values among objects": """
        made = pd.Series([1, «None‖float('nan')‖pd.NA‖pd.NaT»], dtype=object)""",
    "kinds of objects of a column": """
        made = pd.Series([«1‖1.0‖True‖'1'‖b'1'‖[1]‖(1,)‖{'a': 1}‖datetime.date(2020, 1, 1)», 'x'],
                         dtype=object)""",
    "storage of a column of texts": """
        made = pd.DataFrame({'s': pd.Series(['½', None], dtype=«pd.StringDtype('python')
        ‖pd.StringDtype('pyarrow')‖pd.StringDtype('python', na_value=np.nan)
        ‖pd.StringDtype('pyarrow', na_value=np.nan)‖object»)})""",
    "categories of a column": """
        made = pd.Series(pd.Categorical(['a', 'b'], «['a', 'b']‖['b', 'a']‖['a', 'b', 'c']
        ‖['a', 'b'], ordered=True‖['a']»))""",
    "dtypes of categories": """
        made = pd.Series(pd.Categorical.from_codes([0, 1], pd.Index(«[1, 2]‖[1.0, 2.0]‖['1', '2']»)))""",
    "time zones of a column": """
        made = pd.Series(pd.to_datetime(['2020-01-01'])).dt.tz_localize(«None‖'UTC'‖'Europe/Paris'»)""",
    "units of a column's moments": """
        made = pd.DataFrame({'t': pd.to_datetime(['2020-01-01']).as_unit(«'s'‖'ms'‖'us'‖'ns'»)})""",
    "columns of Arrow": """
        import pyarrow as pa
        made = pd.Series([1, «None‖2‖3»], dtype=pd.ArrowDtype(pa.«int64()‖int32()‖float64()»))""",
    "columns of intervals and of periods": """
        made = pd.Series(«pd.interval_range(0, 2)‖pd.interval_range(0, 2, closed='left')
        ‖pd.period_range('2020', periods=2, freq='D')‖pd.period_range('2020', periods=2, freq='M')»)""",
    "index of a frame": """
        made = pd.DataFrame({'a': [1, 2]}, index=«[0, 2]‖[0, 3]‖[0.0, 2.0]‖['a', 'b']
        ‖pd.MultiIndex.from_tuples([(0, 1), (0, 2)])
        ‖pd.MultiIndex.from_tuples([(0, 1), (0, 2)], names=['u', 'v'])
        ‖pd.MultiIndex.from_tuples([(0, 1), (1, 2)])»)""",
    "names of the index and of the columns": """
        made = pd.DataFrame({'a': [1, 2]})
        made.«index‖columns».name = «'x'‖'y'‖0»""",
    "frequency of an index": """
        made = pd.Series([1, 2], index=pd.date_range('2020', periods=2))
        made.index.freq = «None‖'D'»""",
    "names of series": "made = pd.Series([1, 2], name=«None‖'a'‖'b'‖0»)",
    "series and frames": "made = pd.Series([1, 2], name='a')«‖.to_frame()‖.array‖.to_numpy()‖.index»",
    "attributes of frames": """
        made = pd.«DataFrame({'a': [1, 2]})‖Series([1, 2])»
        made.attrs.update(«{}‖unit='m'‖unit='km'»)""",
    "own kinds of frames": """
        Base = pd.«DataFrame‖Series»
        class Own(Base):
            _metadata = [*Base._metadata, 'unit']
            @property
            def _constructor(self): return type(self)
            factor = «1‖2»
        made = Own([1.0, 2.0])
        made.unit = «'m'‖'km'»""",
    "layout of a frame": """
        made = pd.DataFrame(np.asarray(np.arange(6.0).reshape(2, 3), order=«'C'‖'F'»), copy=False)""",
    "layout of a block beside other columns": """
        made = pd.DataFrame(np.asarray(np.arange(6.0).reshape(2, 3), order=«'C'‖'F'»), copy=False)
        made['c'] = pd.Categorical(['u', 'v'])""",
    "two columns of one name": """
        made = pd.DataFrame([[1, 2.0]], columns=[«'a', 'a'‖'a', 'b'»])""",
    "nanoseconds of polars": """
        import polars as pl
        made = pl.DataFrame({'t': pl.Series([1000, 1000 + «1‖900»]).cast(pl.«Datetime('ns')
        ‖Duration('ns')‖Time‖Datetime('us')‖Duration('us')‖Int64»)})""",
    "columns of polars": """
        import polars as pl
        made = pl.DataFrame({«'a': [1, 2], 'b': [3, 4]‖'b': [3, 4], 'a': [1, 2]‖'a': [1, 2]
        ‖'a': [1.0, 2.0]‖'a': [1, 3]‖'a': [1, None]‖'b': [1, 2]»})""",
    "missing values of polars": """
        import polars as pl
        made = pl.Series([1.0, «None‖float('nan')‖0.0‖-0.0»])""",
    "categories of polars": """
        import polars as pl
        made = pl.Series([«'a', 'b'‖'b', 'a'‖'a', 'c'»]).cast(pl.Categorical)""",
    "values and categories of polars' enums": """
        import polars as pl
        made = pl.Series([«'a', 'b'‖'b', 'a'»], dtype=pl.Enum([«'a', 'b'‖'b', 'a'»]))""",
    "nested values of polars": """
        import polars as pl
        made = pl.Series([[1, 1], [2, «3‖4»]])«‖.list.to_array(2)‖.list.to_struct(fields=['a', 'b'])»
        """,
    "names and kinds of polars": """
        import polars as pl
        made = pl.Series(«'a'‖'b'», [1, 2])«‖.to_frame()»""",
}

SCIPY.update({f"{name}, frozen": f"{SCIPY[name]}()" for name in list(SCIPY) if " own " in name})

#: Texts of several modules, the last one's ``made`` counts.
MODULES = {
    "values of a module": {
        "settings": "K = «1‖3»",
        "own_code": "import settings\ndef made(X): return X[:, :settings.K]",
    },
    "values that are imported from a module": {
        "settings": "K = «1‖3»",
        "own_code": "from settings import K\ndef made(X): return X[:, :K]",
    },
    "functions of a module": {
        "helpers": "def used(x): return x + «1‖2»",
        "own_code": "import helpers\ndef made(x): return helpers.used(x)",
    },
    "parts of a package": {
        "own_package": "",
        "own_package.part": "def used(x): return x + «1‖2»",
        "own_code": "import own_package.part\ndef made(x): return own_package.part.used(x)",
    },
    "parts of a package by their place": {
        "own_package": "",
        "own_package.part": "def used(x): return x + «1‖2»",
        "own_package.user": "from . import part\ndef made(x): return part.used(x)",
    },
    "modules that refer to each other": {
        "left": "import right\nK = «1‖2»\ndef f(x): return right.g(x) + K",
        "right": "import left\ndef g(x): return x and left.f(x - 1) + «1‖2»",
        "own_code": "import left\ndef made(x): return left.f(x)",
    },
    "classes of a module": {
        "helpers": "class Base:\n    k = «1‖2»\n    def f(self): return «1‖2»",
        "own_code": "import helpers\nclass Own(helpers.Base): pass\nmade = Own()",
    },
    "what a module's dict is filled with": {
        "helpers": "SEEN = {}\ndef used(x): return SEEN.get(x, 0)",
        "own_code": """
import helpers
helpers.SEEN['a'] = «1‖2»
def made(x): return helpers.used(x)""",
    },
    "what is set in a module": {
        "helpers": "K = 1\ndef used(x): return x * K",
        "own_code": "import helpers\nhelpers.K = «1‖2»\ndef made(x): return helpers.used(x)",
    },
}

#: Modules of which all counts, as nobody knows what is used of them.
HANDED_ON = {
    "a module that is handed on": {
        "settings": "K = «1‖3»",
        "own_code": """
import settings
def apply(X, given): return X[:, :given.K]
def made(X): return apply(X, settings)""",
    },
    "a module in a container": {
        "settings": "K = «1‖3»",
        "own_code": "import settings\nmade = {'a': [settings]}",
    },
    "a module in a default": {
        "settings": "K = «1‖3»",
        "own_code": "import settings\ndef made(X, given=settings): return X[:, :given.K]",
    },
    "a module in an instance": {
        "settings": "K = «1‖3»",
        "own_code": """
import settings
class Own:
    def __init__(self): self.settings = settings
made = Own()""",
    },
    "a module in a closure": {
        "settings": "K = «1‖3»",
        "own_code": """
import settings
def make(given): return lambda X: X[:, :given.K]
made = make(settings)""",
    },
    "what a function imports as it runs": {
        "settings": "K = «1‖3»",
        "own_code": "def made(X):\n    import settings\n    return X[:, :settings.K]",
    },
    "names that a function imports as it runs": {
        "settings": "K = «1‖3»",
        "own_code": "def made(X):\n    from settings import K\n    return X[:, :K]",
    },
    "parts of a package that a function imports": {
        "own_package": "",
        "own_package.part": "def used(x): return x + «1‖2»",
        "own_package.user": """
def made(x):
    from .part import used
    return used(x)""",
    },
}

DIFFERENT = {
    **VALUES,
    **DTYPES,
    **FUNCTIONS,
    **CLASSES,
    **SCIPY,
    **ARRAYS,
    **FRAMES,
    **MODULES,
    **HANDED_ON,
}
