"""The key of a unit: what is computed, and by which versions.

::

    6c0f...9e (48 characters)         what: digests of all that a score depends on
    41aa...07 (16 characters)         by which versions of the libraries

Units that differ in versions only share the first part, so that a search can say why a score
was not reused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from optomatic.keys.digest import Digest
from optomatic.keys.environment import python_minor, versions
from optomatic.records import CONTENT

#: Modules whose versions count whatever the estimator is.
SCORING = ("sklearn", "numpy", "scipy")
_ENVIRONMENT = 16


def key_of(content: bytes, environment: str) -> str:
    """Return a key of 64 characters.

    Parameters
    ----------
    content : bytes
        All that says what is computed.
    environment : str
        As :func:`hash_of_environment` returns it.
    """
    return hashlib.sha256(content).hexdigest()[:CONTENT] + environment


def hash_of_environment(environment: Mapping[str, str]) -> str:
    """Return the part of a key that stands for versions."""
    text = json.dumps(sorted(environment.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:_ENVIRONMENT]


class Environments:
    """The versions that count for candidates, beside those of what they share.

    Parameters
    ----------
    common : Digest
        Of what all of them share.
    always : sequence of str
        Modules whose versions count anyway.
    """

    def __init__(self, common: Digest, always: tuple[str, ...] = SCORING) -> None:
        self._common = common
        self._always = always
        self._known: dict[tuple[frozenset[str], bool], tuple[dict[str, str], str]] = {}

    @property
    def known(self) -> dict[str, dict[str, str]]:
        """The versions that were asked for so far, by the part of keys that stands for them."""
        return {end: environment for environment, end in self._known.values()}

    def of(self, own: Digest) -> dict[str, str]:
        """Return the versions that count for a candidate, by distribution."""
        return self._found(own)[0]

    def hash_of(self, own: Digest) -> str:
        """Return the part of the keys of a candidate that stands for versions."""
        return self._found(own)[1]

    def _found(self, own: Digest) -> tuple[dict[str, str], str]:
        # A key never depends on other candidates, so each has the versions of its own modules.
        asked = own.modules, own.python
        if asked not in self._known:
            environment = versions([*self._always, *self._common.modules, *own.modules])
            if own.python or self._common.python:
                environment["python"] = python_minor()
            self._known[asked] = environment, hash_of_environment(environment)
        return self._known[asked]
