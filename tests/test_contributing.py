"""CONTRIBUTING.md is one page, and what it says is so."""

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
