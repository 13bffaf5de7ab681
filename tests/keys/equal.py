# ruff: noqa: E501 - the texts are code of their own
"""Equal work that is written, made or used in other ways.

Read as the texts of work that differs; here all alternatives make the same.
"""

EQUAL = {
    "docstrings of functions": """
        def made(x):
            «"One."‖"Another."‖'A third,\\n\\nof lines.'»
            return x + 1""",
    "docstrings of methods and classes": """
        class Own:
            «"One."‖"Another."»
            def f(self, x):
                «"One."‖"Another."»
                return x + 1
            @property
            def g(self):
                «"One."‖"Another."»
                return 1
        made = Own()""",
    "docstrings of modules": {
        "helpers": "'«One‖Another».'\nK = 1\ndef used(x): return x + K",
        "own_code": "'«One‖Another».'\nimport helpers\ndef made(x): return helpers, helpers.used(x)",
    },
    "docstrings of inner functions and lambdas' lines": """
        def made(x):
            def inner(y):
                «"One."‖"Another."»
                return y«‖  # comment»
            return inner(x)""",
    "comments and blank lines": """
        «‖# comment

        # another


        »
        K = 1«‖  # comment»
        def made(x):«‖  # comment
            # another»
            return «x + K‖(x
                + K)‖(x + K)»""",
    "places of lambdas": """
        one, other = (lambda x: x + 1), (lambda x: x + 1); third = lambda x: x + 1
        made = «one‖other‖third»""",
    "globals that nothing uses": """
        «‖other = 5‖import json‖def another(): return K»
        K = 1
        def made(x): return x + K
        «‖last = {}»""",
    "order of definitions in a module": """
        «def f(x): return x + 1
        K = 2‖K = 2
        def f(x): return x + 1»
        def made(x): return f(x) * K""",
    "what is not used of a module": {
        "helpers": "«‖other = 5»\ndef used(x): return x + 1\n«‖def another(x): return x»",
        "own_code": "import helpers\ndef made(x): return helpers.used(x)",
    },
    "functions that were called": """
        K = [1]
        def made(x): return sum(n * x for n in range(3)) + K[0]
        «0‖made(1)‖[made(n) for n in range(200)]»""",
    "functions whose calls are cached": """
        @functools.lru_cache
        def made(x): return x + 1
        «0‖made(1)»""",
    "classes that were used": """
        class Own:
            a: int = 1
            def __init__(self): self.k = 1
            def f(self): return self.k
        made = Own
        «0‖Own().f()‖[Own().f() for n in range(200)]‖copy.copy(Own())‖copy.deepcopy(Own())
        ‖import pickle, cloudpickle; cloudpickle.dumps(Own())‖typing.get_type_hints(Own)
        ‖isinstance(Own(), collections.abc.Sized)‖class Another(Own): pass»""",
    "abstract classes that were used": """
        class Base(abc.ABC):
            @abc.abstractmethod
            def f(self): return 1
        class Own(Base):
            def f(self): return 2
        made = Own
        «0‖isinstance(1, Base)‖issubclass(Own, Base)»""",
    "dataclasses and enums that were used": """
        @dataclasses.dataclass
        class Data: a: int = 1
        class Own(enum.Enum):
            A = 1
            B = 2
        made = [Data, Own.A, Own]
        «0‖dataclasses.fields(Data), repr(Data()), Data() == Data()‖Own(2), Own['B'], list(Own)»""",
    "ways to a member of an enum": """
        class Own(enum.Enum):
            A = 1
            B = 2
        made = «Own.A‖Own(1)‖Own['A']»""",
    "order of sets": """
        made = {«'a', 'b', 'c'‖'c', 'b', 'a'‖'b', 'a', 'c', 'a'»}""",
    "order of sets whose items collide": "made = frozenset([«0, 8, 16, 24‖24, 16, 8, 0»])",
    "order of sets of many kinds": """
        made = {«('x', 1), None, 'b', 2.5, frozenset('ab'), b'a'‖b'a', None, frozenset('ba'), 'b', 2.5,
        ('x', 1)»}""",
    "order of sets of classes and functions": """
        def a(n): return b(n)
        def b(n): return a(n) + 1
        class C: pass
        class D: pass
        made = {«a, b, C, D, int‖int, D, C, b, a»}""",
    "order of sets in constants": "def made(x): return x in {«1, 'a', 'b', None‖None, 'b', 'a', 1»}",
    "texts and numbers that are one object or two": """
        one = 'some text'
        made = [one, «one‖''.join(['some', ' ', 'text'])‖'some text'»]""",
    "numbers that are one object or two": """
        one, two, three = 2.0**70, 10**30, b'some bytes'
        made = [one, two, three, «one‖2.0**35 * 2.0**35», «two‖10**15 * 10**15», «three‖b' '.join([b'some', b'bytes'])»]""",
    "names of dtypes": "made = np.dtype(«'f8'‖'float64'‖'d'‖float‖'<f8'‖'=f8'‖np.float64»)",
    "names of ufuncs and functions": "made = [«np.abs, np.pow‖np.absolute, np.power»]",
    "partials of partials": """
        def f(*args): return args
        made = «functools.partial(f, 1, 2)‖functools.partial(functools.partial(f, 1), 2)»""",
    "regular expressions that were used": """
        made = re.compile('a+')
        «0‖made.match('aa')‖re.purge(); made = re.compile('a+')»""",
    "paths that were used": """
        made = pathlib.PosixPath(«'a/b'‖'a', 'b'‖'a//b'‖'a/./b'»)
        «0‖str(made), hash(made), made.parts, made.parent.name, made < made»""",
    "ranges": "made = «range(3)‖range(0, 3)‖range(0, 3, 1)»",
    "zones of one name": """
        made = zoneinfo.ZoneInfo('Europe/Paris')
        «0‖datetime.datetime(2020, 1, 1, tzinfo=made).utcoffset()»""",
    "random states of one seed": """
        made = np.random.RandomState(3)
        «0‖made = copy.deepcopy(made)‖copy.deepcopy(made).random()»""",
    "generators of one seed": """
        made = np.random.default_rng(3)
        «0‖made = copy.deepcopy(made)‖made = np.random.Generator(np.random.PCG64(3))»""",
    "distributions that were drawn from": """
        made = [stats.loguniform(1, 10), stats.norm, stats.multivariate_normal([0, 1])]
        «0‖made[0].rvs(3, random_state=0)‖stats.norm.rvs(size=3)‖stats.norm.cdf(0)
        ‖made[2].rvs(random_state=0)‖np.random.random()»""",
    "distributions in a clone": """
        from sklearn.base import clone
        class Own(BaseEstimator):
            def __init__(self, p=None): self.p = p
        made = clone(Own([stats.loguniform(1, 10), stats.norm, stats.multivariate_normal([0, 1])]))
        «0‖made = clone(made)‖np.random.random(); made = clone(made)»""",
    "arrays of one dimension that are views": """
        y = np.arange(4.0)
        made = «y‖np.repeat(y, 2)[::2]‖y[::-1][::-1]‖np.arange(8.0).reshape(4, 2)[:, 0] / 2»""",
    "arrays in files": """
        import tempfile
        made = np.arange(12.0).reshape(4, 3)
        «0‖with tempfile.TemporaryFile() as file:
            held = np.memmap(file, 'f8', 'w+', shape=(4, 3)); held[:] = made; made = held»""",
    "padding of long doubles": r"""
        X = np.frombuffer(b'«\x00‖\xff»' * 64, np.longdouble).copy()
        X[...] = [1, 2.5, -0.0, float('inf')]
        made = X""",
    "padding of complex long doubles": r"""
        X = np.frombuffer(b'«\x00‖\xff»' * 64, np.clongdouble).copy()
        X[...] = [1 + 2j, 2.5]
        made = X""",
    "padding of long doubles that are scalars": r"""
        X = np.frombuffer(b'«\x00‖\xff»' * 16, np.longdouble).copy()
        X[...] = 1
        made = X[0]""",
    "padding of fields": r"""
        kind = np.dtype([('a', 'i1'), ('b', 'f8')], align=True)
        X = np.frombuffer(b'«\x00‖\xff»' * 32, kind).copy()
        X['a'], X['b'] = 1, 2.0
        made = X""",
    "fill values that were asked for": """
        made = np.ma.array([1.0, 2], mask=[0, 1])
        «0‖made.fill_value‖made.filled()»""",
    "arrays of objects that were used": """
        made = np.array(['a', 'b', 1.5, None], dtype=object)
        «0‖made = made.copy()‖made = np.array([''.join(['a']), 'b', 3 / 2, None], dtype=object)»""",
    "sparse matrices that were used": """
        made = sp.csr_matrix(np.diag([1.0, 2.0]))
        «0‖made.has_sorted_indices, made.has_canonical_format‖made @ made‖made = made.copy()
        ‖made.nnz, made.T‖made = sp.csr_matrix(np.diag([1.0, 2.0])[:, ::-1][:, ::-1])»""",
    "frames that were used": """
        made = pd.DataFrame({'a': [1, 2], 'b': [1.0, 2.0], 'c': pd.Categorical(['u', 'v'])})
        «0‖made['a'], made.loc[0], made.iloc[[1]], made.columns.is_unique, made.index.is_unique
        ‖made = made.copy()‖made.columns.get_loc('b'), hash(made['c'].dtype), made.dtypes
        ‖made.groupby('c', observed=True).sum(), made.describe(), repr(made)»""",
    "series that are parts of others": """
        made = «pd.Series([1, 2, 3])‖pd.Series([1, 2, 3])[:]‖pd.Series([1, 2, 3, 4])[:3]
        ‖pd.Series([1, 2, 3]).copy()»""",
    "texts of Arrow that are parts of others": """
        import pyarrow as pa
        kind = pd.StringDtype('pyarrow')
        made = «pd.array(['a', None, 'b'], dtype=kind)
        ‖pd.array(['x', 'y', 'a', None, 'b', 'z'], dtype=kind)[2:5]»""",
    "frames of polars that are parts of others": """
        import polars as pl
        made = «pl.DataFrame({'a': [1, None, 3], 's': ['u', None, 'w']})
        ‖pl.DataFrame({'a': [0, 1, None, 3, 4], 's': ['t', 'u', None, 'w', 'x']})[1:4]
        ‖pl.DataFrame({'a': [1, None, 3], 's': ['u', None, 'w']}).clone()»""",
    "values below what is missing in polars": """
        import polars as pl
        made = «pl.Series([1, None, 3])‖pl.select(pl.when(pl.Series([True, False, True]))
        .then(pl.Series([1, 9, 3]))).to_series().alias('')»""",
    "categories of polars that others made before": """
        import polars as pl
        «0‖pl.Series(['z', 'b']).cast(pl.Categorical)»
        made = pl.Series(['a', 'b']).cast(pl.Categorical)""",
    "scorers that are made again": """
        made = «get_scorer('accuracy')‖get_scorer('accuracy')‖copy.deepcopy(get_scorer('accuracy'))»""",
}
