"""Tags: what a search may require of a worker, and a worker may say of itself."""

from __future__ import annotations

import re
from collections.abc import Collection

from optomatic.errors import shown

_TAG = re.compile(r"[\w.+:=/-]+")


def tags_of(tags: Collection[str] | None) -> tuple[str, ...]:
    """Return tags in order, each once.

    Raises
    ------
    TypeError, ValueError
        If it is not a collection of words without blanks and commas.

    >>> tags_of({"gpu", "big"})
    ('big', 'gpu')
    """
    if tags is None:
        return ()
    if isinstance(tags, str) or not isinstance(tags, Collection):
        raise TypeError(f"requires is a set of tags such as {{'gpu'}}, not {shown(tags)}")
    for tag in tags:
        if not (isinstance(tag, str) and _TAG.fullmatch(tag)):
            raise ValueError(f"a tag is a word without blanks and commas, not {shown(tag)}")
    return tuple(sorted(set(tags)))
