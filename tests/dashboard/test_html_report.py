"""The report of a search, as one file."""

import re
import socket
import subprocess
import sys
import warnings

import browsers
import functions
import pytest

from optomatic import MongoSearch
from optomatic.commands.app import main


@pytest.fixture(scope="module")
def report(searched, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "ill.html"
    assert main(["report", "ill", "-o", str(path), "--db", searched]) == 0
    return path


def test_a_report_has_pictures_tables_errors_and_versions(report):
    text = report.read_text()
    assert {"history", "timeline", "importance"} <= set(re.findall(r'<img alt="(\w+)"', text))
    assert "two is too much" in text
    assert "functions:fails_at_two" in text
    assert "<td>numpy</td>" in text or "<td>python</td>" in text
    assert "optomatic-grid" in text
    for heading in ("Candidates, the best first", "Units", "Workers", "Errors", "Versions"):
        assert f"<h2>{heading}</h2>" in text
    assert re.search(rf"<td>client</td><td>\w*@{re.escape(socket.gethostname())}, process", text)


def test_a_report_needs_no_other_file(report):
    addresses = re.findall(r'(?:src|href|url)\s*[=(]\s*"?([^"\s)]{,30})', report.read_text())
    assert addresses
    assert all(one.startswith("data:image/") for one in addresses)


def test_a_report_opens_in_a_browser(report, browser):
    browser.get(report.as_uri())
    shown = browser.execute_script("return [...document.images].map(one => one.naturalWidth)")
    assert min(shown) > 100
    assert browsers.console(browser) == []
    assert browsers.hosts(browser) == set()


def test_a_report_follows_the_metric(uri, tmp_path, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        MongoSearch(functions.metrics, {"x": range(3)}, db=uri, name="two").run()
    path = tmp_path / "two.html"
    for metric, other in (("loss", "gain"), ("gain", "loss")):
        assert main(["report", "two", "-o", str(path), "--db", uri, "--metric", metric]) == 0
        text = path.read_text()
        assert f"<td>metric</td><td>{metric}</td>" in text
        assert re.search(rf"<th>{metric}</th>.*<th>{other}</th>", text)
    assert main(["report", "two", "-o", str(path), "--db", uri, "--metric", "bias"]) == 2
    assert "It has 'loss', 'gain'" in capsys.readouterr().err


def test_another_ending_is_wrong_usage(searched, tmp_path, capsys):
    assert main(["report", "ill", "-o", str(tmp_path / "x.pdf"), "--db", searched]) == 2
    assert "a report ends in .html" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("missing", "verb", "extra"),
    [("nicegui", ["dashboard"], "dashboard"), ("matplotlib", ["report", "six"], "plot")],
)
def test_a_missing_library_is_named_with_its_extra(searched, missing, verb, extra, tmp_path):
    source = (
        f"import sys; sys.modules[{missing!r}] = None; from optomatic.commands.app import main; "
        "sys.exit(main(sys.argv[1:]))"
    )
    output = ["-o", str(tmp_path / "x.html")] if verb[0] == "report" else []
    command = [sys.executable, "-c", source, *verb, *output, "--db", searched]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 1
    assert f'pip install "optomatic[{extra}]"' in found.stderr
