"""The pages build without a warning.

Each link inside of them leads somewhere, and none loads anything from elsewhere.
"""

import os
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import optomatic
from optomatic import filters, generators, plots

ROOT = Path(__file__).parents[2]
MADE = ("auto_examples", "generated")
NEEDED = (
    *("sphinx", "myst_parser", "numpydoc", "sphinx_copybutton", "sphinx_gallery"),
    "pydata_sphinx_theme",
)


class Page(HTMLParser):
    """The anchors of a page, its links, and what it loads."""

    def __init__(self, path):
        super().__init__()
        self.anchors, self.links, self.loads = set(), set(), set()
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name == "id" or (tag == "a" and name == "name"):
                self.anchors.add(value)
            elif name == "href" and tag != "link":
                self.links.add(value)
            elif name == "src" or (name == "href" and dict(attributes).get("rel") == "stylesheet"):
                self.loads.add(value)


def build(clone):
    """Build a copy of the pages, and run no example; return the pages by path."""
    for path in ROOT.iterdir():
        if path.name not in ("build", "docs"):  # Sphinx writes there
            (clone / path.name).symlink_to(path)
    shutil.copytree(ROOT / "docs", clone / "docs", ignore=shutil.ignore_patterns(*MADE))
    options = ("-W", "--keep-going", "-q", "-D", "plot_gallery=0")
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, "docs", "build/docs"],
        cwd=clone,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    folder = clone / "build" / "docs"
    return {path: Page(path) for path in folder.rglob("*.html") if "_static" not in path.parts}


def is_broken(link, path, pages):
    parts = urlsplit(link)
    target = Path(os.path.normpath(path.parent / unquote(parts.path))) if parts.path else path
    if not parts.fragment or target not in pages:
        return not target.is_file()
    return unquote(parts.fragment) not in pages[target].anchors


@pytest.mark.timeout(900)
def test_links_lead_somewhere_and_nothing_is_loaded_from_elsewhere(tmp_path):
    for name in NEEDED:
        pytest.importorskip(name, reason=f'{name} is missing: pip install "optomatic[docs]"')
    pages = build(tmp_path)
    assert len(pages) > 20
    loads = {link for page in pages.values() for link in page.loads}
    assert [link for link in loads if urlsplit(link).netloc] == []
    broken = [
        f"{path.name}: {link}"
        for path, page in pages.items()
        for link in page.links | page.loads
        if not urlsplit(link).scheme and is_broken(link, path, pages)
    ]
    assert broken == []


def test_each_public_name_is_in_the_reference():
    reference = {line.strip() for line in (ROOT / "docs" / "api.md").read_text().splitlines()}
    displays = {name for name in vars(plots) if name.endswith("Display")}
    assert {*optomatic.__all__, *generators.__all__, *filters.__all__, *displays} <= reference
