"""Kinds of own code that each Python makes in its own way: they are what they were when sent."""

import datetime
import decimal
import sys

import pytest
from keys.elsewhere import modules
from planning.test_payload import opened

from optomatic.planning.payload import Sender

IMPORTS = """
import abc, collections, dataclasses, datetime, decimal, enum, functools, pathlib, typing
from dataclasses import dataclass, field
from enum import Enum, Flag, IntEnum, IntFlag, StrEnum
from typing import *
"""

OPTIONS = (
    *("", "slots=True", "frozen=True", "kw_only=True", "order=True", "eq=False"),
    *("slots=True, frozen=True", "slots=True, weakref_slot=True"),
)
CLASSES = {
    "slots": """
        class Own:
            __slots__ = ('a', '__b', '__dict__', '__weakref__')
            def __init__(self): self.a = self.__b = self.c = 1
        made = [Own, Own()]""",
    "metaclass": """
        class Meta(type):
            def kept(cls): return cls.k
        class Own(metaclass=Meta): k = 2
        made = [Own, Own()]""",
    "properties": """
        class Own:
            @property
            def a(self): return self.v
            @a.setter
            def a(self, value): self.v = value
            @functools.cached_property
            def b(self): return super().__repr__()
        made = [Own, Own()]""",
    "dataclasses": "made = []\n"
    + "\n".join(
        f"@dataclass({options})\nclass Own{n}:\n    a: int = 1\n"
        "    b: list = field(default_factory=list)\n"
        f"made += [Own{n}, Own{n}()]"
        for n, options in enumerate(OPTIONS)
    ),
    "enums": """
        class A(Enum):
            X = (1, 2); Y = (3, 4)
            def __init__(self, one, two): self.total = one + two
            @property
            def half(self): return self.total / 2
        class B(IntEnum): X = 1; Y = 2
        class C(StrEnum): X = 'x'; Y = enum.auto()
        class D(Flag): X = 1; Y = 2; XY = 3
        class E(IntFlag, boundary=enum.KEEP): X = 1; Y = 8
        class F(Enum): X = [1]; Y = {'a': 1}; Z = enum.nonmember(5)
        made = [A.X, B.X, C.Y, D.X, D.X | D.Y, ~D.X, E(12), F.X, A, B, C, D, E, F]""",
    "tuples with names": """
        class Own(NamedTuple):
            a: int
            b: str = 'x'
            def twice(self): return 2 * self.a
        made = [Own, Own(1), collections.namedtuple('Pair', 'a b', defaults=[2])(1)]""",
    "abstract classes": """
        class Base(abc.ABC):
            @abc.abstractmethod
            def f(self): pass
        class Own(Base):
            def f(self): return 1
        made = [Base, Own, Own()]""",
    "protocols": """
        T = TypeVar('T')
        @runtime_checkable
        class Base(Protocol[T]):
            def f(self) -> T: ...
        class Own(Base[int]):
            def f(self): return 1
        made = [Base, Own, Own(), isinstance(Own(), Base)]""",
    "generic classes": """
        T, U = TypeVar('T', bound='Own'), TypeVar('U', int, str)
        class Own(Generic[T, U]):
            def f(self, x: U) -> T: return x
        made = [Own, Own(), Own[int, str], T]""",
    "other parameters of types": """
        P, Ts, N = ParamSpec('P'), TypeVarTuple('Ts'), NewType('N', int)
        class Own(Generic[P]):
            def f(self, *args: P.args, **kwargs: P.kwargs): return N(1)
        def made(f: Callable[P, N], *args: *Ts): return Own""",
    "closures": """
        def wrapped(f):
            seen = []
            @functools.wraps(f)
            def inner(*args):
                nonlocal seen
                seen = [*seen, *args]
                return f(*args), [(lambda: (x, seen)) for x in args]
            return inner
        @wrapped
        def made(x: int = 1) -> 'str': "Say something."; return x""",
    "many names": "class K: a = 1\n"
    + "\n".join(f"K{n} = K" for n in range(300))
    + "\ndef made(x):\n    import os.path as p\n    from json import loads, dumps\n    return p, "
    + ", ".join(f"K{n}.a" for n in range(300)),
}

NEWER = {
    "generic functions": """
        def made[T: (int, str), *Ts, **P](x: T, f: Callable[P, int], *args: *Ts) -> T:
            return T.__name__""",
    "generic classes in brackets": """
        class Own[T: int]:
            a: T
            def f[U](self, x: U) -> T: return T, U
        class Below[T](Own[int]): pass
        made = [Own, Own(), Own[int], Below()]""",
    "classes in their own brackets": """
        class Own[T: list[Own]]:
            def f[U: Own](self): return T, U
        made = [Own, Own()]""",
    "generic dataclasses": """
        @dataclass(slots=True, frozen=True)
        class Own[T]: a: T
        made = [Own, Own(1)]""",
    "aliases of types": """
        type A = int | str
        type B[T] = list[T]
        type C = list[C] | dict[str, D]
        type D = list[C]
        def made(x: A, y: B[int], z: C) -> D: return A.__value__""",
}
if sys.version_info >= (3, 12):
    CLASSES |= NEWER
if sys.version_info >= (3, 13):
    CLASSES["defaults of types"] = "class made[T = None, **P = [int]]: pass"


def sent(text):
    """Return what a source makes, and what it is after it was sent; nothing is doubted."""
    with modules({"own_code": IMPORTS + "\n".join(map(_outdented, text.split("\n")))}) as module:
        sender = Sender({})
        found = sender.send([module.made])
        assert not found.doubts
        return module.made, opened(sender, found).values[0]


def _outdented(line):
    return line.removeprefix(" " * 8)


@pytest.mark.parametrize("name", CLASSES)
def test_sent_code_computes_the_same(name):
    sent(CLASSES[name])


ENUMS = {
    "bytes": """
        class Own(bytes, Enum):
            def __new__(cls, value, label):
                made = bytes.__new__(cls, [value])
                made._value_, made.label = value, label
                return made
            A = (1, 'a'); B = (2, 'b'); C = (1, 'a')
            __repr__ = object.__repr__
        made = Own""",
    "numbers": """
        class Own(IntEnum):
            def __new__(cls, value):
                made = int.__new__(cls, 10 * value)
                made._value_ = value
                return made
            A = 1; B = 2
        made = Own""",
    "days": "class made(datetime.date, Enum): A = 2020, 1, 1; B = 2021, 1, 1",
    "decimal numbers": "class made(decimal.Decimal, Enum): A = '1.5'; B = '2.50'",
    "tuples with names": """
        class Pair(NamedTuple):
            a: int
            b: int
        class made(Pair, Enum): A = 1, 2; B = 3, 4""",
    "data": """
        @dataclass(unsafe_hash=True)
        class Data:
            a: int
            b: int = 2
        class made(Data, Enum): A = 1; B = 3, 4""",
    "slots": """
        class Data: __slots__ = ('a',)
        class made(Data, Enum):
            A = 1; B = 2
            def __init__(self, a): self.a = a""",
    "functions": """
        class made(Enum):
            A = enum.member(len)
            @enum.member
            def B(self): return 1
            def c(self): return 2""",
}


@pytest.mark.parametrize("name", ENUMS)
def test_members_are_found_by_name_and_by_value_and_hold_what_they_held(name):
    own, there = sent(ENUMS[name])
    assert [*own.__members__] == [*there.__members__]
    for member, other in zip(own, there, strict=True):
        assert there[member.name] is other is there(other.value)
        assert vars(member).keys() == vars(other).keys()
        for kind in (bytes, int, decimal.Decimal, datetime.date, tuple):
            if isinstance(member, kind):
                assert kind.__eq__(member, other) is True
        assert getattr(member, "a", None) == getattr(other, "a", None)


def test_types_of_dicts_have_their_keys_and_parameters():
    own, there = sent("""
        T = TypeVar('T')
        class Base(TypedDict): a: int
        class made(Base, Generic[T], total=False):
            b: T
            c: Required[int]""")
    for name in ("__required_keys__", "__optional_keys__", "__total__"):
        assert getattr(there, name) == getattr(own, name)
    assert there.__annotations__.keys() == own.__annotations__.keys()
    assert there[int](a=1) == {"a": 1}


@pytest.mark.skipif(sys.version_info < (3, 12), reason="there is no such syntax before")
def test_a_generic_alias_that_is_made_of_itself_is_named():
    with modules({"own_code": "type Own[T] = list[Own[T]]\ndef made(x: Own): pass"}) as module:
        (doubt,) = Sender({"scorer": module.made}).digests["scorer"].doubts
    assert doubt.reason == "Own, a generic type that is made of itself"
