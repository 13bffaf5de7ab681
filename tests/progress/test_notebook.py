"""What a search shows in a notebook, which is run as `jupyter nbconvert --execute` runs it."""

import re
import subprocess
import sys

import nbformat
import pytest
import workers

CELL = """
import numpy as np
from estimators import Sleeper
from optomatic import MongoSearchCV
X, y = np.arange(80.0).reshape(40, 2), np.arange(40) % 2
options = {{"cv": 2, "verbose": 1, "n_jobs": 2, "refit": False, "name": "churn", "db": {uri!r}}}
MongoSearchCV(Sleeper(seconds=0.2), {{"value": range(12)}}, **options).fit(X, y);
"""


@pytest.fixture(scope="module")
def executed(module_uri, tmp_path_factory):
    """A notebook of two cells after its run: one searches, one finds everything stored."""
    folder = tmp_path_factory.mktemp("notebook")
    cells = [nbformat.v4.new_code_cell(CELL.format(uri=module_uri)) for _ in range(2)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / "churn.ipynb")
    home = {"IPYTHONDIR": str(folder / "ipython"), "JUPYTER_CONFIG_DIR": str(folder / "jupyter")}
    convert = [sys.executable, "-m", "nbconvert", "--execute", "--to"]
    subprocess.run(
        [*convert, "notebook", "--output", "done.ipynb", "churn.ipynb"],
        cwd=folder,
        env=workers.environment(**home),
        check=True,
        timeout=120,
    )
    return nbformat.read(folder / "done.ipynb", as_version=4)


@pytest.mark.parametrize("state", ["scored", "stored"])
def test_a_cell_has_one_display_that_was_updated_to_the_end(executed, state):
    header, display, summary = executed.cells[state == "stored"].outputs
    # No line of terminals, and nothing on the standard error stream.
    expected = "Fitting 2 folds for each of 12 candidates, totalling 24 fits\n"
    assert (header.name, header.text) == ("stdout", expected)
    assert summary.name == "stdout"
    assert re.fullmatch(rf"24 units: .*\b24 {state}\b.*\n", summary.text)
    assert display.output_type == "display_data"
    assert display.data["text/plain"].startswith("churn 24/24")
    assert "best 11 (value=11)" in display.data["text/plain"]
    html = display.data["text/html"]
    assert "churn 24/24" in html
    assert re.findall(r"width:([\d.]+)%", html) == ["100.00"]  # the bar
    assert f" 24 {state}</span>" in html  # the legend of the grid
    assert html.count("<text") == 12
    assert not re.search("<script|src=|href=|url", html)
    assert len(html) < 10_000
