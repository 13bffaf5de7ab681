"""Every block of docs/ that can run here runs, and prints what stands below it.

`python` runs in one namespace a page; a block without a language right below it is its output.
`pycon` is a doctest.  `console` has commands of a shell after `$ `, with their output.  Text that
differs from run to run is replaced on both sides; `...` in a page stands for anything.  A block
that cannot run here is marked by `<!-- not run: REASON -->` in the line above it.  No block with
commands of a shell is without either.
"""

import contextlib
import doctest
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
BLOCK = re.compile(
    r"^(<!-- not run: .+? -->\n)?```(\w*)\n(.*?)^```$(?:\n\n```\n(.*?)^```$)?", re.M | re.S
)
FENCE = re.compile(r"^(<!-- not run: .+? -->\n)?^(`{3,})(\S*)\n(.*?)^\2$", re.M | re.S)
#: What differs from run to run, and what is compared in its place.
VARIES = (
    (r"\bin [\d.]+ s\b", "in TIME"),
    (r"\b[0-9a-f]{24,40}\b", "ID"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(,\d+)?", "DATE"),
    (r"\w+@[\w.-]+", "USER@HOST"),
    (r"\b\d+[smhd]\b", "AGE"),
    (r"\bbytes=\d+", "bytes=SIZE"),  # paths are in it
    (r"[ \t]+", " "),
)
CHECKER = doctest.OutputChecker()
LIKE = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def steady(text):
    for pattern, instead in VARIES:
        text = re.sub(pattern, instead, text)
    return text.strip() + "\n"


def compare(said, below, code):
    assert CHECKER.check_output(steady(below), steady(said), LIKE), (
        f"{code}\nprints\n{said}\nand not\n{below}"
    )


def run_python(code, below, names, page):
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(code, str(page), "exec"), names)
    if below or said.getvalue():
        compare(said.getvalue(), below, code)


def run_doctest(code, names, page):
    class Checker(doctest.OutputChecker):
        def check_output(self, want, got, flags):
            return super().check_output(steady(want), steady(got), flags)

    test = doctest.DocTestParser().get_doctest(code, names, page.name, str(page), 0)
    said = io.StringIO()
    runner = doctest.DocTestRunner(checker=Checker(), optionflags=LIKE)
    failed, _ = runner.run(test, out=said.write, clear_globs=False)
    assert not failed, said.getvalue()


def run_console(text, folder, environ):
    for command, below in re.findall(r"^\$ ((?:.*\\\n)*.*)\n((?:(?!\$ ).*\n)*)", text, re.M):
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=folder,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=250,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}"
        compare(done.stdout, below, command)


def run_page(page, uri, tmp_path, monkeypatch):
    monkeypatch.setenv("OPTOMATIC_DB", uri)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(tmp_path)
    bin_folder = str(Path(sys.executable).parent)
    path = os.pathsep.join([bin_folder, os.environ["PATH"]])
    environ = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
    names = {"__name__": "__main__"}
    for mark, language, text, below in BLOCK.findall(page.read_text()):
        if mark:
            continue
        if language == "pycon" or (language == "python" and text.startswith(">>>")):
            run_doctest(text, names, page)
        elif language == "python":
            run_python(text, below, names, page)
        elif language == "console":
            run_console(text, tmp_path, environ)


def forgotten_commands(page):
    return [
        text
        for mark, _, language, text in FENCE.findall(page.read_text())
        if not mark and (language == "console") != bool(re.search(r"^\$ ", text, re.M))
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_blocks_run_in_turn_and_print_what_is_said(page, uri, tmp_path, monkeypatch):
    run_page(page, uri, tmp_path, monkeypatch)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_of_a_shell_run_or_are_marked(page):
    assert forgotten_commands(page) == []
