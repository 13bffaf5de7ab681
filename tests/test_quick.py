"""What quick.py and slow.py name is there; quick.py covers each folder that has tests."""

from pathlib import Path

import pytest
from quick import QUICK
from slow import SLOW

import optomatic

TESTS = Path(__file__).parent
ROOMS = {path.parent.name for path in Path(optomatic.__file__).parent.glob("*/__init__.py")}


@pytest.mark.parametrize("file", QUICK)
def test_each_file_has_the_tests_that_are_named(file):
    text = (TESTS / file).read_text() + (TESTS / "conftest.py").read_text()
    assert [name for name in QUICK[file].split("|") if name not in text] == []


def test_slow_files_are_there_and_not_quick():
    assert [file for file in SLOW if not (TESTS / file).exists() or file in QUICK] == []


def test_each_folder_is_covered():
    covered = {file.partition("/")[0] for file in QUICK}
    assert {room for room in ROOMS if any((TESTS / room).glob("test_*.py"))} - covered <= {
        "progress"
    }
