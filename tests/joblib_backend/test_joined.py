"""Calls that take milliseconds are sent several at a time, and each comes to its own end."""

import threading

import numpy as np
import pytest
from functions import (
    count,
    crash_at,
    echo,
    fail,
    look_at,
    note_and_fork,
    square,
    wait,
    wait_and_tell,
)
from joblib import Parallel, delayed
from waiting import wait_for

from optomatic.errors import CallLost
from optomatic.joblib_backend.client import Client
from optomatic.joblib_backend.run import Run
from optomatic.store.connection import open_store


class Consumed:
    """Calls that joblib takes one by one; tells how far it was ahead of what has run."""

    def __init__(self, note, values):
        self._note, self._values, self.ahead = note, values, 0
        note.touch()

    def __iter__(self):
        for taken, value in enumerate(self._values, 1):
            self.ahead = max(self.ahead, taken - self._note.stat().st_size)
            yield delayed(count)(self._note, value)


@pytest.fixture
def client(own):
    client = Client(open_store(own.uri))
    yield client
    client.close()


def short_run(client):
    """Return the calls of a Parallel, of which is known that they take a millisecond."""
    run = Run(client, level=1, threads=None, large=1000, mmap_mode="r", n_jobs=1)
    run.sizing.measured(0.001)
    return run


def sent(client, calls, monkeypatch):
    """Send short calls in one turn; return them and what is told once each has its end."""
    told, packed = threading.Semaphore(0), []
    run = short_run(client)
    with monkeypatch.context() as patch:
        patch.setattr(client, "send", packed.append)
        futures = [run.submit([call], lambda _: told.release()) for call in calls]
    with client._news:
        for future in packed:
            client.send(future)
    return futures, told


def ended(futures, told):
    for _ in futures:
        assert told.acquire(timeout=120)
    return [future.error if future.error is not None else future.result() for future in futures]


def documents(executed):
    """Return how many documents workers have finished."""
    executed.note("this")
    return executed.by_test["this"]


@pytest.mark.parametrize("options", [{}, {"batch_size": 1}])
def test_short_calls_take_few_documents(workers, executed, options):
    n = 600
    values = Parallel(n_jobs=2, **options)(delayed(square)(i) for i in range(n))
    assert values == [i * i for i in range(n)]
    assert documents(executed) < n / 4


def test_long_calls_are_not_joined(workers, executed):
    Parallel(n_jobs=2, batch_size=1)(delayed(wait)(0.2, i) for i in range(8))
    assert documents(executed) == 8


def test_long_calls_behind_short_ones_do_not_wait_for_each_other(workers):
    seconds = [0.0] * 60 + [1.0] * 6
    pids = Parallel(n_jobs=2, batch_size=1)(delayed(wait_and_tell)(s) for s in seconds)
    assert len(set(pids[60:])) == 2


def test_a_forked_copy_does_not_run_the_rest(own, client, monkeypatch, tmp_path):
    note = tmp_path / "note"
    calls = [(note_and_fork, (n, n == 0, note), {}) for n in range(5)]
    futures, told = sent(client, calls, monkeypatch)
    own.start()
    assert ended(futures, told) == [[n] for n in range(5)]
    assert sorted(note.read_text().split()) == list("01234")


def test_joined_calls_come_to_their_own_ends(own, client, monkeypatch):
    array = np.arange(1000.0)
    calls = [(echo, (n, "text"), {}) for n in range(20)] + [(look_at, (array, 1), {})] * 2
    futures, told = sent(client, calls, monkeypatch)
    wait_for(lambda: own.calls())
    assert own.calls() == 1
    own.start()
    ends = ended(futures, told)
    assert ends[:20] == [[(n, "text")] for n in range(20)]
    assert ends[20:] == [[("memmap", False, array.sum() + 1)]] * 2


def test_an_error_is_of_its_own_call_and_those_behind_it_run(own, client, monkeypatch):
    futures, told = sent(client, [(fail, (n, 7 * (n // 7)), {}) for n in range(20)], monkeypatch)
    own.start()
    ends = ended(futures, told)
    errors = {n: str(end) for n, end in enumerate(ends) if isinstance(end, LookupError)}
    assert errors == {n: f"no {n} here" for n in (0, 7, 14)}
    assert [end for n, end in enumerate(ends) if n not in errors] == [
        [n] for n in range(20) if n not in errors
    ]


def test_calls_beside_one_that_ends_its_process_return(own, client, monkeypatch, tmp_path):
    note = tmp_path / "note"
    futures, told = sent(client, [(crash_at, (n, 5, note), {}) for n in range(10)], monkeypatch)
    own.start()
    ends = ended(futures, told)
    assert isinstance(ends[5], CallLost)
    assert ends[:5] + ends[6:] == [[n] for n in range(10) if n != 5]
    # Three times alone, and before that at most three times among others.
    assert 3 <= len(note.read_text()) <= 6


def test_short_calls_are_handed_over_in_advance(workers, tmp_path):
    calls = Consumed(tmp_path / "note", range(400))
    assert Parallel(n_jobs=2, batch_size=1)(calls) == list(range(400))
    assert calls.ahead > 20


def test_no_more_than_the_user_said_are_handed_over_in_advance(workers, tmp_path):
    calls = Consumed(tmp_path / "note", range(60))
    assert Parallel(n_jobs=2, batch_size=1, pre_dispatch=5)(calls) == list(range(60))
    assert calls.ahead <= 2 * 5 + 2


def test_little_is_handed_over_in_advance_where_each_call_has_large_data(
    workers, monkeypatch, tmp_path
):
    monkeypatch.setattr("optomatic.joblib_backend.run._MOST_BYTES", 4 << 20)
    arrays = (np.full(1 << 17, float(n)) for n in range(60))  # 1 MB each
    calls = Consumed(tmp_path / "note", arrays)
    assert len(Parallel(n_jobs=2, batch_size=1, max_nbytes=1000)(calls)) == 60
    assert calls.ahead <= 2 * 4 + 2
