"""What a standalone worker says once a minute."""

import logging
import re
import threading
from collections import Counter

import pytest
from estimators import Sleeper
from waiting import wait_for

from optomatic.worker.report import Report, report_text
from optomatic.worker.reservations import CALLS


@pytest.mark.parametrize(
    ("did", "said"),
    [
        (
            (63, 1, 20.3, [("churn", 63, 216)]),
            "63 units scored (churn 63/216), 3.1/s, 1 failed",
        ),
        ((1, 0, 900.0, []), "1 unit scored, 4.0/h"),
        (
            (1_200, 0, 60.0, [("a\nb", 1_000, 2_000), (CALLS, 200, None)]),
            "1,200 units scored (a\\nb 1,000/2,000, calls of joblib 200), 20.0/s",
        ),
        (
            (7, 0, 60.0, [(str(n), 1, 1) for n in range(7)]),
            "7 units scored (0 1/1, 1 1/1, 2 1/1, 3 1/1, 4 1/1, 2 more searches), 7.0/min",
        ),
        ((3, 3, 0.0, []), "3 units scored, 3,000.0/s, 3 failed"),
    ],
)
def test_the_text_of_a_report(did, said):
    assert report_text(*did) == said


def test_a_worker_reports_what_it_scored_once_an_interval(queue, make_worker, caplog, monkeypatch):
    """And asks for the names of searches once a report, and never for what it did not do."""
    monkeypatch.setattr("optomatic.worker.report.REPORT_SECONDS", 0.3)
    caplog.set_level(logging.INFO)
    asked = []
    sizes_of = queue.store.searches.sizes_of
    monkeypatch.setattr(
        type(queue.store.searches), "sizes_of", lambda _, ids: asked.append(ids) or sizes_of(ids)
    )
    report = Report("w", lambda ids: queue.store.searches.sizes_of(ids))
    worker = make_worker(lasting=True, report=report)
    thread = threading.Thread(target=worker.run, args=(lambda: False,))
    thread.start()
    try:
        churn = queue.submit(
            Sleeper(seconds=0.05), [{"value": n} for n in [*range(14), "none"]], name="churn"
        )
        plain = queue.submit(Sleeper(), [{"value": 99}], name="plain")
        wait_for(lambda: queue.over(churn)() and queue.over(plain)())

        def reports():
            return [m for m in caplog.messages if re.search(r"units? scored \(", m)]

        def counted():
            return sum(int(re.search(r": (\d+) units? scored", m)[1]) for m in reports())

        wait_for(lambda: counted() == 32)
        number = len(reports())
        assert number >= 2
        assert any("plain 2/2" in m for m in reports())
        assert "churn 30/30" in next(m for m in reversed(reports()) if "churn" in m)
        assert sum(int(n) for m in reports() for n in re.findall(r"(\d+) failed", m)) == 2
        assert len(asked) == number
        threading.Event().wait(1.0)  # three intervals in which nothing is done
        assert len(reports()) == number
    finally:
        worker.stop(grace=0.0)
        thread.join(120)


def test_a_local_worker_reports_nothing(queue, make_worker, caplog, monkeypatch):
    monkeypatch.setattr("optomatic.worker.report.REPORT_SECONDS", 0.0)
    caplog.set_level(logging.INFO)
    search = queue.submit(Sleeper(), [{"value": 1}])
    make_worker().run(queue.over(search))
    assert not [m for m in caplog.messages if "unit" in m and "/s" in m]


class Counted:
    """The reservations of a worker, as a report sees them."""

    def __init__(self):
        self.scored = self.failed = 0
        self.by_search = Counter()


def test_the_rate_is_that_of_the_time_at_work_and_the_first_report_waits_a_minute(caplog):
    caplog.set_level(logging.INFO)
    now, done = [0.0], Counted()
    report = Report("w", lambda _: {}, clock=lambda: now[0])
    for now[0], scored, busy in [
        (3_600.0, 0, False),  # idle for an hour
        (3_601.0, 1, True),
        (3_620.0, 40, False),
        (3_659.0, 40, False),
        (3_660.0, 40, False),
        (3_700.0, 40, False),
        (3_701.0, 40, True),  # a unit of ten minutes
        (4_300.0, 41, True),
        (4_301.0, 41, True),
    ]:
        done.scored = scored
        report.look_at_counts(done, busy=busy)
    assert caplog.messages == [
        "worker w: 40 units scored, 2.0/s",
        "worker w: 1 unit scored, 6.0/h",
    ]
