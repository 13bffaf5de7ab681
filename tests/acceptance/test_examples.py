"""Each file of examples/ runs, and prints what it is about."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPTS = sorted(path.name for path in EXAMPLES.glob("*.py"))
NOTEBOOKS = sorted(path.name for path in EXAMPLES.glob("*.ipynb"))

#: What each script prints, in this order.
PRINTED = {
    "digits_forest.py": [
        "totalling 120 fits",
        "120 units: 0 stored, 120 scored by 1 worker",
        r"{'max_depth': .*'min_samples_leaf': \d} 0\.[89]",
    ],
    "driver.py": [
        "6 units: 0 stored, 6 scored",
        "it stopped after [0-9]+ iterations",
        "4 units: 0 stored, 4 scored",
        "8 units: 4 stored, 4 scored",
        r"best: {'activation': .*} with 0\.9",
    ],
    "gallery.py": ["boosting: .* scored by", "raced: .* stopped", "halved: .* scored by"],
    "generators.py": [
        "a quasi-random sequence:\n  48 units: 0 stored",
        "a generator of one's own:\n  36 units: 0 stored",
        r"\d+ of 40 left out: .*\d+ unpromising",
        "until twelve in a row .*\n.*12 candidates were no better",
        "successive halving .*\n.* units",
        "Optuna's TPE:\n  60 units: .*\n  best: {.*} with 0.9",
    ],
    "joblib_calls.py": [
        r"cross_val_score: 0\.9\d\d\n",
        "2 calls at the same time",
        r"the pixel that matters most: \d+\n",
    ],
    "quickstart.py": [
        r"30 units: 0 stored, 30 scored by 1 worker .*\n  best: {.*} with 0\.9560",
        "50 units: 30 stored, 20 scored by 1 worker",
        "50 units: 50 stored, 0 scored in",
    ],
    "real_job.py": [
        "1500 customers, 31% left; 8% of cells missing",
        "customers: 36 units: 0 stored, 36 scored by",
        "customers, wider: 96 units: 36 stored, 60 scored by",
        r"\n\d+ +HistGradientBoostingClassifier .* 0\.8\d+ +-0\.\d+\n",
        r"best: HistGradientBoostingClassifier, AUC 0\.8\d+ in cross-validation",
        r"AUC 0\.[78]\d+ on rows",
    ],
    "scoring.py": [r"log-loss 0\.1\d+, stopped after \d+", r"accuracy 0\.9\d+, last loss 0\.0"],
    "search_on_dask.py": ["30 units: 0 stored, 30 scored by [12] worker", r"best: .* with 0\.9"],
}
#: Texts of scripts that would take a minute, with those that take their place.
SMALLER = {
    "digits_forest.py": {"n_estimators=200": "n_estimators=5"},
    "gallery.py": {"n_iter=60": "n_iter=12", '"n_iter": 30, "cv": 10': '"n_iter": 8, "cv": 5'},
}
#: Modules of extras, and the commands that install them.
NEEDED = [
    ("gallery.py", "matplotlib", 'pip install "optomatic[plot]"'),
    ("generators.py", "optuna", 'pip install "optomatic[optuna]"'),
    ("real_job.py", "matplotlib", 'pip install "optomatic[plot]"'),
    ("search_on_dask.py", "dask", "pip install distributed"),
]


@pytest.fixture
def folder(tmp_path):
    """A copy of the scripts: some write beside themselves, or into ../docs."""
    copies = tmp_path / "examples"
    copies.mkdir()
    (tmp_path / "docs").mkdir()
    for name in SCRIPTS:
        shutil.copy(EXAMPLES / name, copies)
    return copies


def start(folder, *command, **environ):
    """Run Python in `folder` to its end."""
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env={**os.environ, "MPLBACKEND": "agg", **environ},
        capture_output=True,
        text=True,
        timeout=280,
    )


def run(folder, *command, **environ):
    """Run Python in `folder`; return what it prints."""
    done = start(folder, *command, **environ)
    assert done.returncode == 0, done.stderr
    return done.stdout


def make_smaller(folder, name):
    text = (folder / name).read_text()
    for old, new in SMALLER.get(name, {}).items():
        assert old in text
        text = text.replace(old, new)
    (folder / name).write_text(text)


@pytest.mark.parametrize("name", SCRIPTS)
def test_each_script_prints_what_it_is_about(name, uri, folder, start_worker):
    make_smaller(folder, name)
    if name == "digits_forest.py":
        start_worker(uri)
    said = run(folder, name, OPTOMATIC_DB=uri)
    assert re.search("(?s:.*)".join(PRINTED[name]), said), said
    if name == "gallery.py":
        assert len(list((folder.parent / "docs" / "pictures").glob("*.svg"))) == 16
    if name == "real_job.py":
        pictures = [folder / f"customers-{kind}.png" for kind in ("history", "parallel", "heatmap")]
        assert all(picture.read_bytes().startswith(b"\x89PNG") for picture in pictures)


def test_workers_do_the_units_that_the_driver_leaves(uri, folder):
    said = run(folder, "driver.py", "--leave", OPTOMATIC_DB=uri)
    (command,) = re.findall(r"terminals: python (.*)", said)
    # The worker is told of no database: it finds the definition.
    run(folder, *command.split(), OPTOMATIC_CACHE_DIR=str(folder / "cache"))
    said = run(folder, "driver.py", OPTOMATIC_DB=uri)
    assert re.findall(r"(\d+) stored, (\d+) scored", said) == [("6", "0"), ("4", "0"), ("8", "0")]


@pytest.mark.parametrize(("name", "module", "command"), NEEDED)
def test_a_missing_extra_is_named(name, module, command, uri, folder):
    (folder / "sitecustomize.py").write_text(f"import sys\nsys.modules[{module!r}] = None\n")
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    done = start(folder, name, OPTOMATIC_DB=uri, PYTHONPATH=path)
    assert done.returncode == 1
    assert command in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", SCRIPTS)
def test_each_script_begins_with_a_title_and_says_what_it_needs(name):
    text = ast.get_docstring(ast.parse((EXAMPLES / name).read_text()))
    title, underline, empty, *rest = text.splitlines()
    assert (underline, empty) == ("=" * len(title), "")
    assert re.search(r"\bneeds?\b|without\na database", "\n".join(rest))


@pytest.mark.parametrize("name", [*SCRIPTS, *NOTEBOOKS])
def test_the_table_has_each_example(name):
    assert f"| [{name}]({name}) |" in (EXAMPLES / "README.md").read_text()


def steady(text):
    """Replace what differs from run to run."""
    text = re.sub(r"(, [\d.,]+/(s|min|h))?, best", ", best", text)
    return re.sub(r"\d+ workers?|in [\d.]+ s", "...", text)


def texts(notebook):
    """Return what each cell of code printed and showed."""
    return [
        steady("".join(output.get("text") or output.data["text/plain"] for output in cell.outputs))
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_shows_what_its_cells_give(name, uri, tmp_path):
    home = {
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "JUPYTER_CONFIG_DIR": str(tmp_path / "jupyter"),
    }
    convert = ["-m", "nbconvert", "--execute", "--to", "notebook", "--output-dir", str(tmp_path)]
    home["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
    run(EXAMPLES, *convert, name, OPTOMATIC_DB=uri, **home)
    kept = nbformat.read(EXAMPLES / name, as_version=4)
    done = nbformat.read(tmp_path / name, as_version=4)
    cells = [cell for cell in kept.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert texts(kept) == texts(done)
    shown = [output.get("data", {}) for cell in cells for output in cell.outputs]
    assert any("image/png" in data for data in shown)
    assert sum('class="optomatic-grid"' in data.get("text/html", "") for data in shown) == 2
