"""Words as bash completes them: it takes them apart at ``:`` and ``=``, as addresses have them."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager, redirect_stdout

from optomatic import _config

_WORDS, _PLACE = "COMP_WORDS", "COMP_CWORD"


@contextmanager
def put_together(environ: MutableMapping[str, str]) -> Iterator[None]:
    """Put together the words of a line that bash completes, and answer as it needs it."""
    if not in_bash(environ):
        yield
        return
    before, typed = _glue(environ)
    names = io.StringIO()
    try:
        with redirect_stdout(names):
            yield
    finally:
        for name in names.getvalue().split("\n"):
            rest = name.removeprefix(before)
            quoted = typed[:1] in ("'", '"')  # bash closes the quotes
            sys.stdout.write((rest if quoted else _escaped(rest)) + "\n" if name else "")


def in_bash(environ: MutableMapping[str, str]) -> bool:
    """Return whether bash asks how a word goes on."""
    return _config.setting(_config.COMPLETE, environ) == "complete_bash"


def _glue(environ: MutableMapping[str, str]) -> tuple[str, str]:
    """Return what of the word stands before the part that bash replaces, and that part."""
    parts, place = environ[_WORDS].split("\n"), int(environ[_PLACE])
    words: list[str] = []
    before = typed = ""
    at, after_sign = place, False
    for n, part in enumerate(parts):
        sign = bool(part) and set(part) <= set(":=")
        glued = len(words) > 1 and (sign or after_sign)
        start = words.pop() if glued else ""
        if n == place:
            before, typed, at = (
                (start + part, "", len(words)) if sign else (start, part, len(words))
            )
        words.append(start + part)
        after_sign = sign
    environ[_WORDS], environ[_PLACE] = "\n".join(words), str(at)
    return re.sub(r"\\(.)", r"\1", before), typed


def _escaped(word: str) -> str:
    return re.sub(r"([^\w.@%+,/-])", r"\\\1", word)
