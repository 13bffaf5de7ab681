"""Why a worker idles while units are queued: found out in the store, and said once."""

import secrets

import pytest
from estimators import Sleeper
from waiting import wait_for

from optomatic.keys.environment import required_versions, requirement
from optomatic.records import Queue, WorkerRecord
from optomatic.store.workers import this_process
from optomatic.worker.missing_workers import installs, missing_in, needs
from optomatic.worker.report import IdleReasons, Installed

ONE = [{"value": 1}]


@pytest.fixture
def reasons(queue):
    """Return why a worker that is registered, with such names, tags and versions, is idle."""

    def why(names=None, tags=(), **env):
        record = WorkerRecord(
            secrets.token_hex(8),
            "standalone",
            this_process(),
            1,
            {**required_versions({}), **env},
            tags,
        )
        queue.store.workers.register(record)
        installed = Installed()
        installed._known.update(env)
        named = None if names is None else lambda: names
        return IdleReasons(queue.store, record, installed, named)

    return why


def texts(reasons):
    return [reason.what + reason.more for reason in reasons()]


def ask_for(queue, **versions):
    """Have what is queued ask for other versions."""
    env = [list(pair) for pair in {**required_versions({}), **versions}.items()]
    queue.client.get_default_database()["queues"].update_many({}, {"$set": {"env": env}})


def test_with_nothing_queued_there_is_no_reason(reasons):
    assert texts(reasons()) == []
    assert texts(reasons(["nosuch"])) == []


def test_units_that_it_can_take_are_no_reason(queue, reasons):
    queue.submit(Sleeper(), ONE, name="churn")
    assert texts(reasons()) == []
    assert texts(reasons(["churn"])) == []


def test_versions_and_tags_that_it_lacks_are_named_with_the_searches(queue, reasons):
    queue.submit(Sleeper(), ONE, name="churn", requires=("gpu",))
    assert texts(reasons()) == ["needs --tag gpu (for churn)"]
    assert texts(reasons(tags=("gpu",))) == []
    ask_for(queue, **{"scikit-learn": "99.1"})
    here = required_versions({})["scikit-learn"]
    assert texts(reasons()) == [
        f"needs scikit-learn 99.1, this is {here}, and --tag gpu (for churn)"
    ]
    ask_for(queue, python="3.9", cloudpickle="9", xgboost="2.0")
    (said,) = texts(reasons(["churn"], tags=("gpu",), python="3.11", cloudpickle="3"))
    assert said == (
        "needs cloudpickle 9, this is 3, and python 3.9, this is 3.11, and xgboost 2.0, which is "
        "not installed here (for churn)"
    )


def test_those_who_wait_learn_what_is_not_installed(queue, reasons):
    """A worker registers only what every unit needs, and the rest once it was asked for it."""
    queue.submit(Sleeper(), ONE, name="churn")
    ask_for(queue, xgboost="2.0")
    why = reasons()
    queues = queue.store.workers.queues(list(queue.store.claims.queued_queues(5)))
    assert missing_in(queue.store.workers.alive(60.0), queues) is None
    assert why()
    alive = queue.store.workers.alive(60.0)
    assert "needed is xgboost 2.0 (it has none)" in missing_in(alive, queues)
    assert installs(alive, queues) == 'run pip install "xgboost==2.0" in its environment'


def test_a_name_that_no_search_has_is_said_with_those_that_there_are(queue, reasons):
    for number in range(7):
        queue.submit(Sleeper(), ONE, name=f"search{number}")
    (said,) = texts(reasons(["nosuch"]))
    assert said == (
        "no search named 'nosuch', searches here: search6, search5, search4, search3, search2, ..."
    )
    (reason,) = reasons(["nosuch"])()
    assert reason.what == "no search named 'nosuch'"  # other searches are no news


def test_a_search_of_which_nothing_is_queued_is_said_beside_an_unknown_one(queue, reasons):
    done = queue.submit(Sleeper(), ONE, name="done")
    queue.store.jobs.cancel(done)
    queue.submit(Sleeper(), ONE, name="churn")
    assert texts(reasons(["done"])) == ["nothing is queued for 'done', only for others"]
    unknown, known = texts(reasons(["done", "no\nsuch"]))
    assert unknown.startswith("no search named 'no\\nsuch', searches here: ")
    assert known == "nothing is queued for 'done', only for others"


def test_an_idle_worker_says_it_once_and_again_when_it_changes(queue, worker):
    queue.submit(Sleeper(), ONE, name="churn", requires=("gpu",))
    script = (
        "from optomatic.worker import __main__, dispatch, report\n"
        "report.EXPLAIN_SECONDS, dispatch.POLL_SUBSCRIBED = 0.1, 0.5\n"
        "__main__.main()\n"
    )
    process = worker(script=script)
    lines = []

    def said(text):
        while not lines or text not in lines[-1]:
            lines.append(process.stderr.readline())
            assert lines[-1], lines

    said("needs --tag gpu (for churn)")
    plain = queue.submit(Sleeper(), ONE, name="plain")  # it works, and is idle for that again
    wait_for(queue.over(plain), process)
    ask_for(queue, xgboost="2.0")
    said("xgboost")
    process.terminate()
    lines += process.communicate(timeout=120)[1].splitlines()
    assert [line.partition(": ")[2].strip() for line in lines if "cannot take" in line] == [
        "needs --tag gpu (for churn)",
        "needs xgboost 2.0, which is not installed here, and --tag gpu (for churn)",
    ]


@pytest.mark.parametrize(
    ("name", "version", "wanted"),
    [
        ("numpy", "2.3", "numpy==2.3.*"),
        ("scikit-learn", "1.9.1", "scikit-learn==1.9.1"),
        ("mine", "0.1+0123456789abcdef", ""),  # of a folder
        ("python", "3.12", ""),
        ("odd", '1"; rm -rf /', ""),
    ],
)
def test_the_commands_that_install_missing_packages(name, version, wanted):
    assert requirement(name, version) == wanted


def test_workers_of_other_versions_are_told_the_command():
    here = {**required_versions({}), "numpy": "1.0", "python": "3.9"}
    record = WorkerRecord("w", "standalone", this_process(), 1, here)
    queue = Queue("queue", {**required_versions({}), "numpy": "2.3", "python": "3.12"}, ())
    assert installs([record, record], [queue]) == (
        'run pip install "numpy==2.3.*" in its environment and use Python 3.12'
    )
    assert installs([], [queue]) == ""
    assert needs(here, (), Queue("queue", here, ())) == ""
