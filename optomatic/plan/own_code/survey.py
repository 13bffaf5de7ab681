"""The code of one's own that a worker must have, as the process that asks for scores has it.

A pickle only names what comes from a module, and a worker imports that by itself: from another
checkout, or from a file that was edited since.  Its scores are then those of other code, under
the key of this one.  So what is named, and all that this uses of modules which are not
installed, is written down beside the units, and workers compare before they score::

    {"model:": "",                  a module that must be there
     "model:Model": "<digest>",     a function or class there (plan/own_code/anatomy.py)
     "model:draw": "?<digest>",     the same of one that bears another name, and may come later
     "model:run@deco": "?<digest>", what a decorator of another package has made of one; where
                                    that is installed, its version says it all
     "model:FACTOR": "=<digest>"}   a constant of its file (plan/own_code/literals.py)

Only code and constants are compared.  What else globals hold may differ in a running program.
"""

from __future__ import annotations

import contextlib
import json
import sys
import types
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from optomatic.plan.keys.code_identity import codes_in, imported_names, loaded_names
from optomatic.plan.keys.versions import installed_versions
from optomatic.plan.own_code.anatomy import Anatomy, at_home, find, is_own, is_sent, shows_its_code
from optomatic.plan.own_code.literals import constants_in, digest_of, is_constant, literals_of

#: Distributions that every worker has.
_EVERYWHERE = frozenset(
    {"", "cloudpickle", "joblib", "numpy", "optomatic", "pandas", "scikit-learn", "scipy"}
)


@dataclass(slots=True)
class Named:
    """What pickles name instead of holding it, and functions that they hold.

    Filled by :func:`optomatic.plan.packing.bundle.dump`.
    """

    named: dict[int, Any] = field(default_factory=dict)
    held: dict[int, types.FunctionType] = field(default_factory=dict)

    def copy(self) -> Named:
        """Return one that can be filled further."""
        return Named(dict(self.named), dict(self.held))


def code_text(named: Named, known: Collection[str] = ()) -> str | None:
    """Write down the code that a worker needs for pickles; None if all of it is installed.

    Parameters
    ----------
    named : Named
        What was met as they were made.
    known : collection of str
        Distributions that a worker is asked for anyway.
    """
    survey = _Survey(_EVERYWHERE.union(known))
    survey.follow(named)
    return json.dumps(survey.code, sort_keys=True) if survey.code else None


def _unseen() -> contextlib.AbstractContextManager[object]:
    """Pass over what raises when it is looked at, as proxies do: it is not compared."""
    return contextlib.suppress(Exception)


class _Survey:
    """Follows code from what is named to what that uses."""

    def __init__(self, known: Collection[str]) -> None:
        self.code: dict[str, str] = {}
        self._known = known
        self._todo: list[types.FunctionType] = []
        self._met: set[int] = set()

    def follow(self, named: Named) -> None:
        for value in named.named.values():
            self._root(value)
        self._todo += named.held.values()
        while self._todo:
            function = self._todo.pop()
            if id(function) not in self._met:
                self._met.add(id(function))
                with _unseen():
                    self._uses(function)

    def _root(self, value: Any) -> None:
        """Note what a pickle names: its module must be there."""
        is_module = isinstance(value, types.ModuleType)
        module = value.__name__ if is_module else getattr(value, "__module__", None)
        if not isinstance(module, str) or module == "__main__" or is_sent(module):
            return
        found = installed_versions(module)
        if found is None:
            self.code[f"{module}:"] = ""
            if not is_module:
                self._add_home(value)
        elif found[0] not in self._known:
            self.code[f"{module.partition('.')[0]}:"] = ""

    def _add_home(self, value: Any) -> None:
        """Note a class or function under the name that it bears."""
        if is_own(getattr(value, "__module__", None)) and at_home(value):
            self._add(sys.modules[value.__module__], value.__qualname__, value)

    def _add(self, module: types.ModuleType, name: str, value: object) -> None:
        """Note what stands in a module under a name, if it is code; follow what it uses."""
        key = f"{module.__name__}:{name}"
        if key in self.code or not shows_its_code(module):
            return
        with _unseen():
            self._note(module, name, value)

    def _note(self, module: types.ModuleType, name: str, value: object) -> None:
        anatomy = Anatomy(value, module.__name__)
        key = f"{module.__name__}:{name}"
        self.code.update({f"{key}@{top}": f"?{made}" for top, made in anatomy.made.items()})
        if not anatomy.digest:
            self._claim(module, name, value)
            if not is_constant(value) and not isinstance(value, type):
                self._add_home(type(value))  # of an object, what its class does
            return
        bears = (getattr(value, "__module__", None), getattr(value, "__qualname__", None))
        home = bears == (module.__name__, name)
        self.code[key] = anatomy.digest if home else f"?{anatomy.digest}"
        if home:
            for part, held in constants_in(value):
                self._claim(module, f"{name}.{part}", held)
        self._todo += anatomy.functions
        for kind in anatomy.classes:
            self._add_home(kind)

    def _claim(self, module: types.ModuleType, name: str, value: object) -> None:
        """Note a constant of the file of a module, whatever it was set to since."""
        literals, constant = literals_of(module), is_constant(value)
        if literals.binds(name) or (constant and literals.has(name, value)):
            digest = digest_of(value) if constant else "none"
            self.code[f"{module.__name__}:{name}"] = f"={digest}"

    def _uses(self, function: types.FunctionType) -> None:
        """Note what a function uses of its module and of others of one's own."""
        space = function.__globals__
        codes = list(codes_in(function.__code__))
        touched = {name for code in codes for name in code.co_names}
        module = sys.modules.get(space.get("__name__", ""))
        named = module is not None and module.__dict__ is space and is_own(module.__name__)
        for name in {name for code in codes for name in loaded_names(code)} & space.keys():
            if isinstance(space[name], types.ModuleType):
                self._touch(space[name], touched, set())
            elif module is not None and named:
                self._add(module, name, space[name])
        package = space.get("__package__") or ""
        for name in {name for code in codes for name in imported_names(code, package)}:
            imported = sys.modules.get(name)
            if isinstance(imported, types.ModuleType):
                self._touch(imported, touched, set())

    def _touch(self, module: types.ModuleType, names: Iterable[str], seen: set[int]) -> None:
        """Note what may be used of a module, and of modules in it (``a.b.c``)."""
        if not is_own(module.__name__) or id(module) in seen:
            return
        seen.add(id(module))
        for name in names:
            held = module.__dict__.get(name)
            if isinstance(held, types.ModuleType):
                self._touch(held, names, seen)
            elif held is not None:
                self._add(module, name, held)


def differs(module: types.ModuleType, name: str, digest: str) -> bool | None:
    """Tell whether what a module has here under `name` is certainly other code.

    Parameters
    ----------
    digest : str
        As :func:`code_text` wrote it.

    Returns
    -------
    bool or None
        None for another value, of which the file here says neither that it stands there.
    """
    if not digest or not shows_its_code(module):
        return False
    name, _, maker = name.partition("@")
    found = find(module, name)
    if digest.startswith("="):
        if is_constant(found) and digest_of(found) == digest[1:]:
            return False
        # What is not what the file here says may have been set since.
        return True if literals_of(module).has(name, found) else None
    if found is None:  # what bears another name may be put there as the program runs
        return not digest.startswith("?")
    anatomy = Anatomy(found, module.__name__)
    here = anatomy.made.get(maker) if maker else anatomy.digest
    return bool(here) and here != digest.removeprefix("?")
