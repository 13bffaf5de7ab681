"""Make sources of modules from texts with alternatives."""

import re
import textwrap

from keys.different import IMPORTS

CHOICE = re.compile("«(.*?)»", re.DOTALL)


def _chosen(text, chosen):
    """Take the alternative of the number that `chosen` says for each place (0 for others)."""
    places = iter(range(len(CHOICE.findall(text))))

    def take(match):
        return match.group(1).split("‖")[chosen.get(next(places), 0)].rstrip()

    return CHOICE.sub(take, text)


def variants(texts):
    """Return sources by module, for all alternatives in turn where the others are the first."""
    if isinstance(texts, str):
        texts = {"own_code": texts}
    whole = "\0".join(texts.values())
    counts = [len(found.split("‖")) for found in CHOICE.findall(whole)]
    changes = [{}] + [{n: k} for n, count in enumerate(counts) for k in range(1, count)]
    return [_sources(texts, _chosen(whole, change)) for change in changes]


def _sources(texts, whole):
    made = [IMPORTS + textwrap.dedent(text) for text in whole.split("\0")]
    return dict(zip(texts, made, strict=True))


def first(texts):
    return variants(texts)[0]


def written_elsewhere(sources, beside=True):
    """Return the same code at other lines, `beside` other things that nothing uses."""
    more = "\n\ndef nothing_uses_this(x):\n    return x\n" if beside else ""
    return {name: f"# A comment.\n\n{text}{more}" for name, text in sources.items()}


def libraries(texts):
    """Return the optional libraries that the texts import."""
    whole = texts if isinstance(texts, str) else "\n".join(texts.values())
    names = set(re.findall(r"^\s*import (polars|pyarrow)", whole, re.MULTILINE))
    return names | ({"pyarrow"} if "'pyarrow'" in whole else set())
