"""docs/files_on_disk.md lists every module that touches files."""

import ast
from pathlib import Path

import optomatic

PACKAGE = Path(optomatic.__file__).parent
#: Of os, shutil and tempfile.
FUNCTIONS = {
    *("remove", "removedirs", "rename", "renames", "replace", "truncate", "ftruncate", "makedirs"),
    *("fchmod", "lchmod", "chown", "fchown", "lchown", "link", "symlink", "mkfifo", "mknod"),
    *("rmtree", "move", "copy", "copy2", "copyfile", "copytree", "copymode", "copystat"),
    *("mkstemp", "mkdtemp", "NamedTemporaryFile", "TemporaryFile", "TemporaryDirectory"),
}
#: Of os and of paths.
METHODS = {
    *("unlink", "rmdir", "chmod", "rename", "mkdir", "write_text", "write_bytes", "touch"),
    *("symlink_to", "hardlink_to"),
}


def touches_a_file(call):
    """Tell whether a call writes, removes, renames, truncates or chmods a file."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    base = ast.unparse(call.func.value) if isinstance(call.func, ast.Attribute) else ""
    if base in ("os", "shutil", "tempfile") and name in FUNCTIONS:
        return True
    if name == "open":
        return writes(call, base)
    if name == "replace":  # that of a path; that of a text takes two
        return bool(base) and len(call.args) == 1 and not call.keywords
    return name in METHODS and not base.endswith(("_store.searches", "store.searches"))


def writes(call, base):
    if base == "os":
        flags = ast.unparse(call.args[1])
        return (
            "O_RDONLY" not in flags and flags != "_FOLDER" and "os.devnull" not in ast.unparse(call)
        )
    modes = [arg.value for arg in call.args if isinstance(arg, ast.Constant)]
    return any(isinstance(mode, str) and set(mode) & set("wax+") for mode in modes)


def listed():
    text = (PACKAGE.parent / "docs" / "files_on_disk.md").read_text()
    rows = [line.split("|") for line in text.splitlines() if line.startswith("| `")]
    assert all(cell.strip() for row in rows for cell in row[1:-1])
    return {row[1].strip(" `") for row in rows}


def test_only_what_is_listed_touches_files():
    found = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and touches_a_file(node)
    }
    assert found == listed()
