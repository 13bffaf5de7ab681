"""docs/design.md names files that exist, and the numbers of formats as they are."""

import re
from pathlib import Path

import pytest

from optomatic import definition, records
from optomatic.keys import digest
from optomatic.store.connection import timing_of

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
TEXT = (DOCS / "design.md").read_text()


@pytest.mark.parametrize("name", ["design.md", "measurements.md", "troubleshooting.md"])
def test_every_link_and_path_leads_to_a_file(name):
    text = (DOCS / name).read_text()
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)
    paths = re.findall(r"\b(?:tests|benchmarks)/[\w/]+\.py", text)
    assert [link for link in links if not (DOCS / link).exists()] == []
    assert [path for path in paths if not (ROOT / path).is_file()] == []


def test_every_row_of_the_crash_table_names_its_test():
    table = TEXT.partition("## When something fails")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (?!---|event)(.+?) \|.*\| (.+?) \|$", table, re.M)
    assert len(rows) > 15
    for event, shown in rows:
        assert re.findall(r"\(\.\./tests/[\w/]+/test_\w+\.py\)", shown), event


def test_the_numbers_are_those_of_the_code():
    formats = TEXT.partition("## Stored formats")[2]
    found = dict(re.findall(r"^\| (`\w+`[\w ]*) \| (\d+) \|", formats, re.M))
    now = {
        "`SCHEMA`": records.SCHEMA,
        "`KEY_VERSION`": digest.KEY_VERSION,
        "`SCHEMA` of definition files": definition.SCHEMA,
    }
    assert {name: int(number) for name, number in found.items()} == now
    timing = timing_of(None)
    assert (timing.lease, timing.unstarted, timing.max_losses) == (30, 3, 3)
