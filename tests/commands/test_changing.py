"""Verbs that change something, and those that are refused."""

import builtins
import io
import json
import os
import stat
from threading import Thread

import functions
import pandas as pd
import pytest
import servers
from openpyxl import load_workbook
from waiting import wait_for
from workers import work_off

import optomatic
from optomatic import MongoSearch, attach
from optomatic.errors import SearchCancelled
from optomatic.results import export


@pytest.fixture
def failed(uri):
    """Return the address of a store with a search of which one unit of three has failed."""
    with pytest.warns(match="1 of 3 candidates failed"):
        MongoSearch(functions.fails_at_two, {"x": [1, 2, 3]}, db=uri, name="failed").run()
    return uri


def test_failed_units_are_queued_again_for_workers(failed, run):
    code, out, err = run("retry", "failed", db=failed)
    assert (code, err) == (0, "")
    assert out.startswith("1 unit is queued again. Have a worker score them:\n")
    assert attach("failed", db=failed).counts() == {"completed": 2, "queued": 1}
    assert optomatic.searches(failed)["state"].tolist() == ["left"]
    work_off(failed)
    assert attach("failed", db=failed).counts() == {"completed": 2, "failed": 1}
    assert optomatic.searches(failed)["state"].tolist() == ["completed"]
    assert optomatic.searches(failed)["failed"].tolist() == [1]


def test_given_up_units_get_a_clean_slate(uri, run):
    MongoSearch(functions.parabola, {"x": [1]}, db=uri, name="dead").submit()

    units = servers.units(uri)
    units.update_one({}, {"$set": {"state": "dead", "losses": 3, "wanted_by": []}})
    assert run("retry", "dead", db=uri)[0] == 0
    work_off(uri)
    assert attach("dead", db=uri).counts() == {"completed": 1}


def test_there_is_nothing_to_retry(failed, run):
    assert attach("failed", db=failed).retry() == 1
    assert run("retry", "failed", db=failed)[1] == (
        "failed has no failed units, so nothing is queued.\n"
    )


def test_retry_does_not_queue_units_that_no_worker_can_score(failed, run):
    from pymongo import MongoClient

    database = MongoClient(failed).get_default_database()
    database["bundles"].delete_many({})
    code, out, err = run("retry", "failed", db=failed)
    assert (code, out) == (1, "")
    assert "Nothing was queued, as no worker could score these units" in err
    assert database["units"].count_documents({"state": "queued"}) == 0


def test_a_search_is_cancelled_once(uri, run):
    MongoSearch(functions.parabola, {"x": [1, 2]}, db=uri, name="left").submit()
    code, out, _ = run("cancel", "left", db=uri)
    assert (code, out) == (0, "left is cancelled. 0 of 2 units are stored.\n")
    assert attach("left", db=uri).counts() == {"cancelled": 2}
    code, out, err = run("cancel", "left", db=uri)
    assert (code, out) == (0, "")
    assert "does not run (cancelled)" in err
    assert optomatic.searches(uri)[["state", "done"]].values.tolist() == [["cancelled", 0]]


@pytest.mark.parametrize("space", [{"x": [1, 2]}, iter([{"x": 1}, {"x": 2}])], ids=["grid", "any"])
def test_the_client_of_a_cancelled_search_ends(uri, run, space):
    # Cancelled as soon as it is seen, mostly before its units are queued.
    ended = []

    def client():
        try:
            MongoSearch(functions.parabola, space, db=uri, name="waits", n_jobs=0).run()
        except SearchCancelled as error:
            ended.append(error)

    waits = Thread(target=client)
    waits.start()
    wait_for(lambda: len(optomatic.searches(uri)))
    assert run("cancel", "waits", db=uri)[0] == 0
    waits.join(120)
    assert len(ended) == 1


def test_a_running_search_is_not_removed(uri, run):
    MongoSearch(functions.parabola, {"x": [1]}, db=uri, name="left").submit()
    code, out, err = run("rm", "left", "--yes", db=uri)
    assert (code, out) == (4, "")
    assert err.endswith("Nothing was removed. Cancel it first: optomatic cancel left\n")
    assert len(optomatic.searches(uri)) == 1


def test_removing_asks_first(failed, run, monkeypatch):
    code, out, err = run("rm", "failed", db=failed)
    assert (code, out) == (2, "")
    assert "Give --yes" in err
    terminal = io.StringIO("n\n")
    terminal.isatty = lambda: True
    monkeypatch.setattr("sys.stdin", terminal)
    code, out, err = run("rm", "failed", db=failed)
    assert (code, out) == (0, "Nothing was removed.\n")
    assert err.startswith("Remove 1 search, 3 units, ")
    assert err.endswith("[y/N] ")
    code, out, _ = run("rm", "failed", "--dry-run", db=failed)
    assert code == 0
    assert out.startswith("Would be removed: 1 search, 3 units, ")
    assert len(optomatic.searches(failed)) == 1
    code, out, _ = run("rm", "failed", "--yes", db=failed)
    assert code == 0
    assert out.startswith("Removed: 1 search, 3 units, ")
    assert optomatic.searches(failed).empty


def test_removing_by_age(failed, run):
    assert "nothing to remove" in run("rm", "--older-than", "1d", "--yes", db=failed)[1]
    assert "1 search," in run("rm", "--older-than", "0s", "--yes", db=failed)[1]
    for arguments in (["--older-than", "soon"], ["--older-than", "-1d"], []):
        code, out, err = run("rm", *arguments, db=failed)
        assert (code, out) == (2, "")
        assert err.count("\n") == 1


def test_a_misspelt_name_removes_nothing(failed, run):
    code, out, err = run("rm", "failed", "faled", "--yes", db=failed)
    assert (code, out) == (3, "")
    assert err == "optomatic: no search 'faled'; did you mean 'failed'?\n"
    assert len(optomatic.searches(failed)) == 1


READ = {
    ".csv": pd.read_csv,
    ".json": lambda path: pd.DataFrame(json.loads(path.read_text())),
    ".parquet": pd.read_parquet,
    ".xlsx": pd.read_excel,
}


@pytest.mark.parametrize("kind", READ)
def test_results_are_exported(failed, run, kind, tmp_path):
    path = tmp_path / f"results{kind}"
    path.write_text("older")
    code, out, err = run("export", "failed", "-o", str(path), db=failed)
    assert (code, out, err) == (0, f"3 candidates are in {path}.\n", "")
    frame = READ[kind](path)
    assert frame["candidate"].tolist() == [0, 1, 2]
    assert frame["param_x"].tolist() == [1, 2, 3]
    assert frame["state"].tolist() == ["completed", "failed", "completed"]
    stored = attach("failed", db=failed).to_frame()
    assert frame["score"].tolist()[0] == stored["score"].tolist()[0]
    assert pd.isna(frame["score"][1])
    assert os.listdir(tmp_path) == [path.name]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


@pytest.mark.parametrize("kind", READ)
def test_a_file_is_whole_or_not_there(kind, tmp_path, monkeypatch):
    frame = pd.DataFrame({"x": [1, 2]})
    export.export(frame, tmp_path / f"x{kind}")
    before = (tmp_path / f"x{kind}").read_bytes()
    needed, _ = export._WRITERS[kind]

    def fails(frame, path):
        path.write_text("half of")
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(export._WRITERS, kind, (needed, fails))
    with pytest.raises(OSError, match="No space"):
        export.export(frame, tmp_path / f"x{kind}")
    assert os.listdir(tmp_path) == [f"x{kind}"]
    assert (tmp_path / f"x{kind}").read_bytes() == before


VALUES = ["=1+1", "a\x00b", "\ud800", "x" * 40_000, None, 1, 2.5, True, (1, "a"), len, 10**30]


@pytest.mark.parametrize("kind", READ)
def test_values_of_all_kinds_are_written(kind, tmp_path):
    path = tmp_path / f"x{kind}"
    frame = pd.DataFrame({"a": pd.Series(VALUES, dtype=object), "b": range(len(VALUES))})
    export.export(frame.rename_axis("candidate"), path)
    found = READ[kind](path)
    assert found["b"].tolist() == list(range(len(VALUES)))
    assert found["a"][0] == "=1+1"


def test_a_sheet_calculates_nothing(tmp_path):
    export.export(pd.DataFrame({"=A1": ["=1+1"]}), tmp_path / "x.xlsx")
    sheet = load_workbook(tmp_path / "x.xlsx")["results"]
    assert [[cell.data_type for cell in row] for row in sheet.rows] == [["s"], ["s"]]


def test_a_missing_library_is_named(failed, run, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "find_spec", lambda name: None)
    for kind in (".parquet", ".xlsx"):
        code, out, err = run("export", "failed", "-o", str(tmp_path / f"x{kind}"), db=failed)
        assert (code, out) == (1, "")
        assert 'pip install "optomatic[export]"' in err
    assert os.listdir(tmp_path) == []
    assert run("export", "failed", "-o", str(tmp_path / "x.csv"), db=failed)[0] == 0


@pytest.mark.parametrize("path", ["x.txt", "x", "folder.csv", "nowhere/x.csv"])
def test_an_unwritable_output_is_an_error(failed, run, tmp_path, path):
    (tmp_path / "folder.csv").mkdir()
    code, out, err = run("export", "failed", "-o", str(tmp_path / path), db=failed)
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert os.listdir(tmp_path) == ["folder.csv"]


def test_a_link_goes_on_to_lead_to_the_file(tmp_path):
    (tmp_path / "link.csv").symlink_to(tmp_path / "real.csv")
    export.export(pd.DataFrame({"x": [1]}), tmp_path / "link.csv")
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "real.csv").read_text() == "x\n1\n"


def test_a_defect_is_a_line_too(uri, run, monkeypatch):
    def defect(*args, **kwargs):
        raise builtins.RuntimeError("mongodb://ann:s3cr3t@host/x is odd")

    monkeypatch.setattr("optomatic.search.database.open_store", defect)
    code, out, err = run("list", db=uri)
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert "s3cr3t" not in err
