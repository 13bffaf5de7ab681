"""Environment variables and defaults stand in one module, and in the documentation."""

import ast
import re
from pathlib import Path

import pytest

from optomatic import _config
from optomatic.worker.cli import parser

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "optomatic"
NAMES = {name for name, held in vars(_config).items() if str(held).strip("_").startswith("OPTO")}


def environment_reads(tree):
    """Return the keys that are read from something called environ."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
            held, key = node.value, node.slice
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
            held, key = node.func.value, node.args[0]
        elif isinstance(node, ast.Compare):
            held, key = node.comparators[0], node.left
        else:
            continue
        if ast.unparse(held) in ("environ", "os.environ", "os"):
            yield ast.unparse(key)


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: p.name)
def test_no_other_module_reads_a_variable(path):
    if path.name == "_config.py":
        return
    tree = ast.parse(path.read_text())
    texts = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)]
    assert not [t for t in texts if isinstance(t, str) and re.fullmatch("_?OPTOMATIC_[A-Z_]+", t)]
    assert not [key for key in environment_reads(tree) if key.rpartition(".")[2] in NAMES]


def test_each_variable_has_a_line():
    named = {held for name, held in vars(_config).items() if str(held).startswith("OPTOMATIC_")}
    assert named - {_config.PREFIX} == set(_config.VARIABLES)


def test_each_option_of_a_worker_has_a_variable():
    options = {action.dest for action in parser({})._actions} - {"help", "version"}
    assert {_config.variable_of(option) for option in options} <= set(_config.VARIABLES)


@pytest.mark.parametrize("variable", _config.VARIABLES)
def test_the_documentation_names_each_variable(variable):
    assert f"`{variable}`" in (ROOT / "docs" / "command_line.md").read_text()
