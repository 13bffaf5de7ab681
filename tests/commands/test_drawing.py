"""The verb that draws."""

import os
import sys

import pytest
from commands import many_searches

from optomatic.plots.displays import DISPLAYS

HEADS = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}


@pytest.mark.parametrize("kind", DISPLAYS)
def test_each_kind_is_drawn(filled, run, tmp_path, kind):
    path = tmp_path / "x.png"
    path.write_text("older")
    code, out, err = run("plot", "raced", kind, "-o", str(path), db=filled)
    assert (code, out, err) == (0, f"{kind} of raced is in {path}.\n", "")
    assert path.read_bytes().startswith(HEADS[".png"])
    assert os.listdir(tmp_path) == ["x.png"]


@pytest.mark.parametrize("name", many_searches.NAMES)
def test_each_search_is_drawn(filled, run, tmp_path, name):
    path = str(tmp_path / "x.png")
    assert run("plot", name, "history", "-o", path, "--by", "time", db=filled)[0] == 0


@pytest.mark.parametrize("suffix", HEADS)
def test_files_of_each_kind(filled, run, tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    options = ["--param", "C", "--metric", "score", "--theme", "dark"]
    assert run("plot", "done", "slice", "-o", str(path), *options, db=filled)[0] == 0
    assert path.read_bytes().startswith(HEADS[suffix])


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["done", "slice", "-o", "x.jpg"], 2, "ends in .png, .svg, .pdf"),
        (["done", "slice"], 2, "--output"),
        (["done", "pie", "-o", "x.png"], 2, "'history', 'slice'"),
        (["done", "slice", "-o", "x.png", "--by", "time"], 2, "--by is of history"),
        (["done", "history", "-o", "x.png", "--by", "days"], 2, "by is 'units' or 'time'"),
        (["done", "history", "-o", "x.png", "--param", "C"], 2, "no --param"),
        (["done", "slice", "-o", "x.png", "--param", "D"], 2, "no param 'D'"),
        (["done", "slice", "-o", "x.png", "--metric", "D"], 2, "no metric 'D'"),
        (["done", "slice", "-o", "x.png", "--theme", "red"], 2, "'light' or 'dark'"),
        (["doen", "slice", "-o", "x.png"], 3, "did you mean 'done'"),
        (["done", "slice", "-o", "nowhere/x.png"], 1, "nowhere"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else None,
)
def test_errors_are_a_line_and_an_exit_code(
    filled, run, tmp_path, monkeypatch, arguments, code, said
):
    monkeypatch.chdir(tmp_path)
    found, out, err = run("plot", *arguments, db=filled)
    assert (found, out) == (code, "")
    assert said in err
    assert err.count("\n") == 1
    assert os.listdir(tmp_path) == []


def test_the_extra_is_named(filled, run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, out, err = run("plot", "done", "slice", "-o", str(tmp_path / "x.png"), db=filled)
    assert (code, out) == (1, "")
    assert 'pip install "optomatic[plot]"' in err
