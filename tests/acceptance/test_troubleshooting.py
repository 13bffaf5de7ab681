"""docs/troubleshooting.md has messages as they are in the code, and every class of errors."""

import ast
import builtins
import re
from pathlib import Path

import pytest

from optomatic import errors

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
MESSAGES = re.findall(r"^### `(.+)`$", PAGE, re.M)


def text_of(node):
    """Return a text of the code in which `\\0` stands for what is put in, or None."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        return "".join(
            str(part.value) if isinstance(part, ast.Constant) else "\0" for part in node.values
        )
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        sides = [text_of(node.left), text_of(node.right)]
        return None if sides == [None, None] else "".join(side or "\0" for side in sides)
    return None


def texts():
    found = []
    for path in sorted((ROOT / "optomatic").rglob("*.py")):
        nodes = list(ast.walk(ast.parse(path.read_text())))
        docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        found += [text_of(node) for node in nodes if id(node) not in docstrings]
    return [text for text in found if text]


@pytest.fixture(scope="module")
def source():
    return texts()


def pattern_of(message):
    """Return the pattern for a message of the page: `...` stands for anything."""
    start = "" if message.startswith("...") else "^"
    parts = [re.escape(part.strip()) for part in message.split("...") if part.strip()]
    return re.compile(start + ".*".join(parts), re.S)


@pytest.mark.parametrize("message", MESSAGES)
def test_every_message_is_in_the_code(message, source):
    # A message in a log has %s or %d where another one has a value.
    assert max(len(part) for part in message.split("...")) > 8
    found = pattern_of(message)
    assert any(found.search(text.removeprefix("\0")) for text in source)


def test_no_message_stands_there_twice():
    assert len(MESSAGES) > 35
    assert len(set(MESSAGES)) == len(MESSAGES)


def test_every_class_is_named_and_exists():
    ours = {
        name
        for name, kind in vars(errors).items()
        if isinstance(kind, type)
        and issubclass(kind, Exception)
        and kind.__module__ == errors.__name__
    }
    named = set(re.findall(r"`(\w+)`", PAGE))
    assert ours - named == set()
    kinds = {name for name in named if re.fullmatch(r"(?:[A-Z][a-z]+){2,}", name)}
    assert [name for name in kinds - ours if not hasattr(builtins, name)] == ["MongoSearch"]
