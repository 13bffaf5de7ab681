"""What `verbose` shows while a search runs, of every kind, whoever scores it."""

import _thread
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from functools import partial
from threading import Thread

import joblib
import numpy as np
import pytest
import servers
import workers
from estimators import Gated
from functions import gated
from sklearn.model_selection import GridSearchCV
from waiting import wait_for

from optomatic import MongoHalvingGridSearchCV, MongoSearch, MongoSearchCV, attach
from optomatic.driver import following
from optomatic.errors import SearchCancelled, StoreError
from optomatic.progress import live
from optomatic.progress.tally import Cell
from optomatic.store.retry import Outage

X, Y = np.arange(80.0).reshape(40, 2), np.arange(40) % 2
VALUES = {"value": list(range(6))}  # those below 4 do not wait for the gate


class Shown:
    """A display that keeps what it is to show."""

    def __init__(self):
        self.standings, self.cells, self.ended = [], [], 0

    def begin(self, tally):
        self.show(tally)

    def show(self, tally):
        self.standings.append(tally.standing())
        self.cells.append(tally.cells())

    upload = show

    def end(self, tally):
        self.show(tally)
        self.ended += 1


@pytest.fixture
def shown(monkeypatch):
    """Displays of the searches that are fitted."""
    made = []
    monkeypatch.setattr(following, "display_here", lambda: made.append(Shown()) or made[-1])
    monkeypatch.setattr(following, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(following, "DRAW_SECONDS", 0.05)
    return made


class Fit:
    """A search of one kind, fitted in a thread of its own."""

    def __init__(self, kind, search, units=12):
        self.kind, self.search, self.units = kind, search, units

    def __call__(self):
        function = isinstance(self.search, MongoSearch)
        go = self.search.run if function else lambda: self.search.fit(X, Y)
        if self.kind != "joblib":
            return go()
        with joblib.parallel_config(backend="threading", n_jobs=2):
            return go()


def generated():
    yield from ({"value": n} for n in range(6))


def made(kind, uri, gate, **options):
    """Return a search of `kind`, of 6 candidates and 2 splits (a function has none)."""
    estimator = Gated(gate=str(gate))
    own = {"n_jobs": 2, "cv": 2, "db": uri, "name": "churn", **options}
    if kind in ("grid", "joblib", "standalone"):
        n_jobs = 0 if kind == "standalone" else own["n_jobs"]
        return Fit(kind, MongoSearchCV(estimator, VALUES, **{**own, "n_jobs": n_jobs}))
    if kind == "sampled":
        return Fit(kind, MongoSearchCV(estimator, VALUES, n_iter=6, **own))
    if kind == "generator":
        return Fit(kind, MongoSearchCV(estimator, generated(), **own, target_score=99))
    if kind == "filters":
        kept = [lambda candidates, _: [c["value"] != 1 for c in candidates]]
        return Fit(kind, MongoSearchCV(estimator, VALUES, filters=kept, **own), 10)
    if kind == "racing":
        return Fit(kind, MongoSearchCV(estimator, VALUES, racing=True, **{**own, "cv": 4}), None)
    if kind == "halving":
        found = MongoHalvingGridSearchCV(estimator, VALUES, min_resources=12, **own)
        return Fit(kind, found.set_params(return_train_score=False, random_state=0), None)
    own = {name: value for name, value in own.items() if name != "cv"}
    space = {"x": list(range(6)), "gate": [str(gate)]}
    return Fit(kind, MongoSearch(gated, space, **own), 6)


def without_times(lines):
    return [re.sub(r"\.{3,}", "...", re.sub(r"total time=.*", "", line)) for line in lines]


KINDS = ["grid", "sampled", "generator", "filters", "racing", "halving", "function", "joblib"]


@pytest.mark.parametrize("kind", [*KINDS, "standalone"])
def test_lines_come_while_other_units_are_being_scored(
    uri, shown, capsys, tmp_path, start_worker, kind
):
    """What waits for the gate ends only after the lines of all else were read."""
    fit, output = made(kind, uri, tmp_path / "gate", verbose=2), []
    thread, worker = Thread(target=fit), None
    if kind == "standalone":
        worker = start_worker(uri, "--max-idle", "60", stderr=subprocess.DEVNULL)
    thread.start()

    def lines():
        output.append(capsys.readouterr().out)
        return [line for line in "".join(output).splitlines() if " END " in line]

    try:
        # An engine of joblib hands in by the batch.
        early = {"function": 4, "filters": 6, "joblib": 2}.get(kind, 8)
        wait_for(lambda: len(lines()) >= early, seconds=120)
        wait_for(lambda: shown[0].standings[-1].workers >= 1)
        during = shown[0].standings[-1]
        (tmp_path / "gate").touch()
        thread.join(120)
    finally:
        (tmp_path / "gate").touch()
        if worker is not None:
            worker.terminate()
            worker.wait(120)
    assert during.done <= 12 - 2 or kind == "racing"
    units = fit.units or fit.search.summary_.units
    printed = without_times(lines())
    assert len(printed) == units
    if kind == "function":
        head = f"END gate={str(tmp_path / 'gate')!r}, x="
        assert set(printed) == {f"[{n + 1}/6] {head}{n}; score={n}.000 " for n in range(6)}
    else:
        grid = GridSearchCV(Gated(gate=str(tmp_path / "gate")), VALUES, cv=2, verbose=2)
        grid.fit(X, Y)
        assert set(printed) <= set(without_times(capsys.readouterr().out.splitlines()))
    check_displays(shown, units, kind)
    assert " units: 0 stored, " in "".join(output).splitlines()[-1]
    # What is stored has its lines at the end; verbose=0 prints nothing of all this.
    fit()
    again = capsys.readouterr().out.splitlines()
    assert sorted(without_times(line for line in again if " END " in line)) == sorted(printed)
    fit.search.set_params(verbose=0) if kind != "function" else setattr(fit.search, "verbose", 0)
    fit()
    assert capsys.readouterr() == ("", "")
    assert sum(display.standings[-1].stored for display in shown) == units


def check_displays(shown, units, kind):
    """Each display ended, and had counted all; the best is what is best."""
    last = [display.standings[-1] for display in shown]
    assert [display.ended for display in shown] == [1] * len(shown)
    assert {standing.name for standing in last} == {"churn"}
    assert sum(standing.scored for standing in last) == units
    assert last[0].best[0] == 5
    left_out = {"filters": 2}.get(kind)
    cells = [cell for row in shown[0].cells[-1] for cell in row]
    assert kind == "racing" or cells.count(Cell.LEFT_OUT) == (left_out or 0)
    assert cells.count(Cell.SCORED) == last[0].scored
    if kind != "generator":
        assert last[0].total == last[0].done


# How it ends

ENDS = {
    "outage": StoreError,
    "cancelled": SearchCancelled,
    "raised": ZeroDivisionError,
    "ctrl-c": KeyboardInterrupt,
}


class Unlucky(Gated):
    """Fails where it waited for the gate."""

    def fit(self, X, y):
        return super().fit(X, y) if self.value < 4 else 1 / (len(super().fit(X, y).gate) * 0)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.filterwarnings("error")
def test_watching_stops_at_every_end_of_a_search(mongod, tmp_path, monkeypatch, capfd, end):
    """Nothing is said of looks that fail, and of lines there is none after the end."""
    monkeypatch.setattr(following, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(following, "DRAW_SECONDS", 0.05)
    monkeypatch.setattr(live, "PLAIN_SECONDS", 0)
    monkeypatch.setattr("optomatic.store.connection.Outage", partial(Outage, 1.0))
    monkeypatch.setattr("optomatic.store.retry._SHORT_TRY", 0.3)
    gate, server = tmp_path / "gate", servers.standalone()
    uri, lines = server.uri("ends"), []

    def disturb():
        try:
            wait_for(lambda: lines.append(capfd.readouterr().err) or any(lines))
            with server.members[0].client() as client:
                wait_for(lambda: client["ends"]["units"].count_documents({}) == 12)
            if end == "outage":
                server.members[0].kill()
            elif end == "cancelled":
                attach("churn", db=uri).cancel()
            elif end == "ctrl-c":
                _thread.interrupt_main()
        finally:
            gate.touch()

    options = {"cv": 2, "verbose": 1, "error_score": "raise", "name": "churn", "refit": False}
    options["n_jobs"] = 0 if end in ("outage", "cancelled") else None
    kind = Unlucky if end == "raised" else Gated
    search = MongoSearchCV(kind(gate=str(gate)), VALUES, db=uri, **options)
    disturber = Thread(target=disturb)
    disturber.start()
    try:
        with pytest.raises(ENDS[end]):
            search.fit(X, Y)
        wait_for(lambda: not [t for t in threading.enumerate() if t.name == "follows churn"])
    finally:
        disturber.join()
        server.remove()
    lines.append(capfd.readouterr().err)
    assert [line for line in "".join(lines).splitlines() if not line.startswith("churn ")] == []


# What stands on a terminal, and what goes where

SCRIPT = """
import signal, sys, time, warnings
import numpy as np
from estimators import Sleeper
from optomatic import MongoSearchCV
from optomatic.progress import live
from optomatic.driver import following

signal.signal(signal.SIGINT, signal.default_int_handler)
live.PLAIN_SECONDS = float(sys.argv[2])
following.LOOK_SECONDS = following.DRAW_SECONDS = 0.05
X, y = np.arange(80.0).reshape(40, 2), np.arange(40) % 2


class Loud(Sleeper):
    def fit(self, X, y):
        if self.value == 1:
            print("a long line " * 12)
            print("to be ", end="", flush=True)
            time.sleep(0.3)
            print("continued")
            warnings.warn("a warning")
        return super().fit(X, y)


values = {"value": range(int(sys.argv[3]))}
options = {"verbose": 1, "refit": False, "db": sys.argv[1], "name": "churn"}
MongoSearchCV(Loud(seconds=0.1), values, cv=2, **options).fit(X, y)
"""
SUMMARY = re.compile(r"\d+ units: 0 stored, \d+ scored by 1 worker in [\d.]+ s")


def command(uri, plain_seconds=30, n_values=6):
    return [sys.executable, "-c", SCRIPT, uri, str(plain_seconds), str(n_values)]


def environment(**more):
    return workers.environment(**{"TERM": "xterm", **more})


def on_a_terminal(uri, *, ctrl_c=False, n_values=6, **env):
    """Return all that came to a terminal of 80 columns, which is stdout and stderr."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command(uri, n_values=n_values),
        env=environment(COLUMNS="80", **env),
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    came = b""
    while True:
        try:
            more = os.read(ours, 65536)
        except OSError:  # nobody has the other end any more
            break
        came += more
        if ctrl_c and re.search(rb"(?<!\d)([3-9]|\d\d)/120", came):
            process.send_signal(signal.SIGINT)
            ctrl_c = False
    os.close(ours)
    process.wait(120)
    return came.decode()


def screen_of(came):
    """Return what stands on the terminal in the end, and the lines that stood there meanwhile."""
    lines, column, erased = [""], 0, []
    for piece in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", came):
        if piece == "\n":
            lines.append("")
            column = 0
        elif piece == "\r":
            column = 0
        elif piece == "\x1b[2K":
            erased.append(lines[-1])
            lines[-1] = ""
        elif not piece.startswith("\x1b"):
            before = lines[-1].ljust(column)
            lines[-1] = before[:column] + piece + before[column + len(piece) :]
            column += len(piece)
    return lines, [line for line in erased if line]


def test_a_live_line_on_a_terminal_leaves_only_what_is_printed(uri):
    came = on_a_terminal(uri)
    lines, live = screen_of(came)
    header, long, parts, where, *rest = lines
    assert header == "Fitting 2 folds for each of 6 candidates, totalling 12 fits"
    assert long == "a long line " * 12
    assert parts == "to be continued"
    assert "UserWarning: a warning" in where, lines
    assert SUMMARY.fullmatch(rest[-2]), lines
    assert rest[-1] == ""
    seen = [re.match(r"churn [━─]+ (\d+)/12.*, 1 worker, [\d.]+/s, \d+ s left", x) for x in live]
    counts = [int(match[1]) for match in seen if match]
    assert len(set(counts)) >= 3, live
    assert any(re.search("best [0-5]", line) for line in live), live
    assert max(map(len, live)) < 80
    assert "\x1b[?25l" not in came  # the cursor stays, so that nothing has to bring it back
    assert "\x1b[1m" in came
    assert re.search(r"\x1b\[[0-9;]*3[0-9]m", came)


def test_ctrl_c_leaves_the_terminal_whole(uri):
    lines, live = screen_of(on_a_terminal(uri, ctrl_c=True, n_values=60))
    assert live
    assert not [line for line in lines if line.startswith("churn")], lines
    assert "KeyboardInterrupt" in lines, lines
    assert any("; interrupted" in line for line in lines)


def test_no_color_and_a_dumb_terminal_are_honoured(uri):
    came = on_a_terminal(uri, NO_COLOR="1", n_values=4)
    assert screen_of(came)[1]
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", came)
    assert "\x1b" not in on_a_terminal(uri, TERM="dumb", n_values=5)


def test_elsewhere_a_plain_line_now_and_then_on_stderr(uri):
    for seconds in (30, 0.3):
        done = subprocess.run(
            command(uri, seconds, 6 if seconds == 30 else 12),
            env=environment(),
            capture_output=True,
            text=True,
            timeout=120,
        )
        header, *_, summary = done.stdout.splitlines()
        assert header.startswith("Fitting 2 folds")
        assert "scored by 1 worker" in summary
        assert "churn" not in done.stdout
        plain = [line for line in done.stderr.splitlines() if line.startswith("churn")]
        assert not plain if seconds == 30 else len(plain) >= 2, done.stderr
        for line in plain:
            assert re.fullmatch(
                r"churn \d+/24 \(12 stored(, \d+ scored)?\), .*best \d+ \(.*\)", line
            )
