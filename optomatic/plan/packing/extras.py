"""What a scoring function returns beside its score <-> exact text.

It is written like params are, so that what comes back has the same types, and reading it never
runs anybody's code.  So it holds plain values: numbers, texts, dates, small arrays, and lists,
tuples, sets and dicts of them.
"""

from __future__ import annotations

from typing import Any

from optomatic.plan.packing import params

#: Characters.  Results are handed in by the dozen, in one message.
LARGEST = 1_000_000
_NAME = "extra"


def encode_extra(extra: object) -> str:
    """Write `extra` down.

    Raises
    ------
    TypeError
        If something in it is no plain value.
    ValueError
        If it is too long.
    """
    text = params.encode({_NAME: extra}, _refuse).text
    if len(text) > LARGEST:
        raise ValueError(
            f"the extra beside the score takes {len(text):,} characters, and at most {LARGEST:,} "
            "are kept; return less, and store large things where the function runs"
        )
    return text


def decode_extra(text: str | None) -> Any:
    """Return what :func:`encode_extra` wrote; None for None."""
    return None if text is None else params.decode(text, _refuse_to_load)[_NAME]


def _refuse(value: object) -> str:
    raise TypeError(
        f"the extra beside the score holds {type(value).__module__}.{type(value).__qualname__}, "
        "and only plain values are kept: numbers, texts, small arrays, and lists, tuples, sets and "
        "dicts of them; return .tolist() of a large array"
    )


def _refuse_to_load(sha: str) -> object:
    raise ValueError(f"a stored extra names the object {sha!r}; none does, so it was not loaded")
