"""CONTRIBUTING.md is one page, and what it says is so."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()


def section(title):
    return TEXT.partition(f"## {title}\n")[2].partition("\n## ")[0]


def rows(title):
    lines = [line for line in section(title).splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_map_is_short():
    assert 10 < len(rows("Where things are")) <= 25
    for row in rows("Where things are"):
        assert all(len(re.findall(r"[\w`./*]+", cell)) <= 15 for cell in row), row


def test_the_journey_is_short():
    assert 7 <= len(section("The journey of one unit").strip().splitlines()) <= 15


def named_files():
    for word in re.findall(r"`([\w./-]+)`", TEXT):
        if "/" in word or word.endswith((".py", ".md", ".toml")):
            yield word


@pytest.mark.parametrize("name", sorted({*named_files()}))
def test_every_file_that_is_named_exists(name):
    if "NAME" not in name:
        assert (ROOT / "optomatic" / name).exists() or (ROOT / name).exists()


def test_the_map_names_every_room():
    named = " ".join(row[1] for row in rows("Where things are"))
    rooms = [p.name for p in (ROOT / "optomatic").iterdir() if (p / "__init__.py").exists()]
    assert [room for room in rooms if f"{room}/" not in named] == []


#: Words that the glossary does not have, each with the word that is used in its place.
NOT_USED = {
    "lane": "queue",
    "terms": "constraints",
    "coroner": "outcomes",
    "bury": "reap",
    "warden": "limits",
    "intake": "reservations",
    "outbox": "reservations",
    "feeder": "dispatch",
    "parcel": "payload",
    "hungry": "idle",
    "surrender": "shutdown",
    "crew": "pool",
    "spawner": "fork server",
    "template": "fork server",
    "lookout": "availability",
    "ability": "availability",
    "patiently": "with retries",
    "ledger": "state",
    "openness": "adaptive",
    "caller": "client",
    "alarm": "notifier",
}


def words_of(name):
    """Return the words of an identifier, without plural."""
    parts = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)
    return {part.lower() for part in parts} | {part.lower().removesuffix("s") for part in parts}


def identifiers(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name


@pytest.mark.parametrize("path", sorted((ROOT / "optomatic").rglob("*.py")), ids=lambda p: p.name)
def test_names_use_the_words_of_the_glossary(path):
    used = {name for name in identifiers(path) if words_of(name) & NOT_USED.keys()}
    assert not used, {
        name: [NOT_USED[w] for w in words_of(name) & NOT_USED.keys()] for name in used
    }
