"""Who may import whom; the contracts stand in pyproject.toml."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "optomatic"
#: The one place for the private names of each library: a module, or a package.
HOMES = {"sklearn": "_sklearn"}


def test_imports_go_down_the_ladder():
    # In a process of its own, as it switches off the logging of whoever calls it.
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"]
    found = subprocess.run([*command, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout


def private_imports(path, library):
    """Return the private names of `library` that a file imports."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == library:
            names = [*node.module.split("."), *(alias.name for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [n for a in node.names if a.name.split(".")[0] == library for n in [a.name]]
            names = [part for name in names for part in name.split(".")]
        else:
            continue
        found += [name for name in names if re.match(r"_(?!_)", name)]
    return found


@pytest.mark.parametrize("library", HOMES)
def test_private_names_of_a_library_stand_in_one_place(library):
    users = {
        path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for path in PACKAGE.rglob("*.py")
        if private_imports(path, library)
    }
    assert users == {HOMES[library]}


def test_a_worker_starts_without_importing_scikit_learn():
    # Its children need it; the parent would start some seconds later.
    source = "import sys, optomatic.worker.cli; print('sklearn' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True)
    assert found.stdout == "False\n", found.stderr
