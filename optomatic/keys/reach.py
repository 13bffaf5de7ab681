"""Read byte code: the globals that a function reaches, its imports, its docstring."""

from __future__ import annotations

import dis
import functools
import inspect
import types
from collections.abc import Iterator
from dataclasses import dataclass

_LOADS = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})
#: Written globals count too: another function may read their earlier values.
_STORES = frozenset({"STORE_GLOBAL", "DELETE_GLOBAL"})
_ATTRIBUTES = frozenset({"LOAD_ATTR", "LOAD_METHOD"})
_HAS_DOCSTRING = 0x4000000  # CO_HAS_DOCSTRING, since Python 3.13
_FUNCTION = inspect.CO_OPTIMIZED | inspect.CO_NEWLOCALS


@dataclass(frozen=True, slots=True)
class Reach:
    """Names that a function reaches.

    ``names`` are globals, sorted.  ``chains`` has the attributes that follow a global
    (``pkg.sub.f``: ``("sub", "f")``), if none of its uses is without one.  ``imports`` are
    level, module and names of each import statement.
    """

    names: tuple[str, ...]
    chains: dict[str, frozenset[tuple[str, ...]]]
    imports: tuple[tuple[int, str, tuple[str, ...]], ...]


@functools.lru_cache(maxsize=4096)
def reach_of(code: types.CodeType) -> Reach:
    """Return the names that `code` and all code in it reach."""
    used: dict[str, set[tuple[str, ...]]] = {}
    imports: list[tuple[int, str, tuple[str, ...]]] = []
    for inner in codes_in(code):
        instructions = [i for i in dis.get_instructions(inner) if i.opname != "EXTENDED_ARG"]
        _read(instructions, used, imports)
    chains = {name: frozenset(own) for name, own in used.items() if () not in own}
    return Reach(tuple(sorted(used)), chains, tuple(dict.fromkeys(imports)))


def _read(
    instructions: list[dis.Instruction],
    used: dict[str, set[tuple[str, ...]]],
    imports: list[tuple[int, str, tuple[str, ...]]],
) -> None:
    for index, instruction in enumerate(instructions):
        if instruction.opname in _LOADS:
            chain = tuple(_attributes_after(instructions, index))
            used.setdefault(instruction.argval, set()).add(chain)
        elif instruction.opname in _STORES:
            used.setdefault(instruction.argval, set()).add(())
        elif instruction.opname == "IMPORT_NAME":
            # Two instructions before it push the level and the names after "import".
            level, names = (instructions[index - back].argval for back in (2, 1))
            level = level if isinstance(level, int) else 0
            imports.append((level, instruction.argval, tuple(names or ())))


def _attributes_after(instructions: list[dis.Instruction], index: int) -> Iterator[str]:
    for instruction in instructions[index + 1 :]:
        if instruction.opname not in _ATTRIBUTES:
            return
        yield instruction.argval


def codes_in(code: types.CodeType) -> Iterator[types.CodeType]:
    """Yield `code` and all code in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from codes_in(constant)


@functools.lru_cache(maxsize=4096)
def has_docstring(code: types.CodeType) -> bool:
    """Return whether the first constant of `code` is only its docstring."""
    first = code.co_consts[0] if code.co_consts else None
    if not isinstance(first, str) or code.co_flags & _FUNCTION != _FUNCTION:
        return False
    # Before 3.13 the first constant of a function is its docstring or None.
    is_one = code.co_flags & _HAS_DOCSTRING or (
        not _HAS_DOCSTRING_IS_SET_HERE and not code.co_name.startswith("<")
    )
    return bool(is_one) and not any(
        instruction.opcode in dis.hasconst and instruction.arg == 0
        for instruction in dis.get_instructions(code)
    )


def _documented() -> None:
    """Have a docstring."""


_HAS_DOCSTRING_IS_SET_HERE = bool(_documented.__code__.co_flags & _HAS_DOCSTRING)


def reads_docstrings(code: types.CodeType) -> bool:
    """Return whether `code` may read docstrings."""
    return "__doc__" in code.co_names or "getdoc" in code.co_names or "__doc__" in code.co_consts
