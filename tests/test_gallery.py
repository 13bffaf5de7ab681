"""docs/gallery.md has every picture, and every picture that is named exists."""

import re
from pathlib import Path

import pytest

from optomatic.plots.displays import DISPLAYS

ROOT = Path(__file__).parents[1]
GALLERY = (ROOT / "docs" / "gallery.md").read_text()
NAMED = re.compile(r'!\[[^]]*\]\(([^)]+)\)|(?:src|srcset)="([^"]+)"')


def pictures(path):
    """Return the pictures that a page names."""
    return {(path.parent / "".join(found)).resolve() for found in NAMED.findall(path.read_text())}


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_picture_that_a_page_names_exists(path):
    assert [picture for picture in pictures(path) if not picture.is_file()] == []


def test_each_picture_is_on_a_page():
    shown = set().union(*map(pictures, PAGES))
    assert shown == set((ROOT / "docs" / "pictures").iterdir())


@pytest.mark.parametrize("kind", DISPLAYS)
def test_each_display_is_in_the_gallery(kind):
    (section,) = re.findall(rf"^## {kind.title()}\n(.*?)(?=^## )", GALLERY, re.M | re.S)
    assert f'"pictures/{kind}-light.svg"' in section
    assert f'"pictures/{kind}-dark.svg"' in section
    assert re.search(rf"`optomatic plot \w+ {kind} -o ", section)
    assert f"{DISPLAYS[kind].__name__}.from_search(" in section
