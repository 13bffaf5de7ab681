"""Parts that only callers hold go with the last of them, whoever comes meanwhile."""

import random
import threading

import numpy as np
import pytest

from optomatic.errors import BundleDamaged
from optomatic.planning.serialization import dump
from optomatic.store import parts
from optomatic.store.connection import open_store
from optomatic.store.parts import SEARCHES


@pytest.fixture
def store(uri, monkeypatch):
    monkeypatch.setattr(parts, "CHUNK", 1000)
    with open_store(uri) as store:
        yield store


@pytest.fixture
def part():
    return dump(np.random.default_rng(0).random(500))


@pytest.fixture
def left(database, part):
    """Tell how many headers and chunks of the part there are."""
    return lambda: (
        database["bundles"].count_documents({"_id": part.sha}),
        database["chunks"].count_documents({}),
    )


class Cut(Exception):
    pass


def cut_after(size):
    """Return what ends an upload once so many bytes are stored."""

    def told(done):
        if done >= size:
            raise Cut

    return told


def is_whole(store, part):
    return store.parts.get(part.sha) == (part.kind, b"".join(part.buffers))


def need(store, part, holder):
    """Have a part in the store, as searches (all under one name) and callers do."""
    if store.parts.missing([part.sha], holder):
        store.parts.put(part, holder=holder)


def test_the_last_holder_takes_it_along(store, part, left):
    for holder in ("a/1", "b/1"):
        need(store, part, holder)
    assert store.parts.client_holders() == {"a/1", "b/1"}
    store.parts.release(["a/1"])
    assert is_whole(store, part)
    store.parts.release(["b/1"])
    assert left() == (0, 0)
    assert store.parts.missing([part.sha], "b/1") == {part.sha}
    need(store, part, "b/1")
    assert is_whole(store, part)


@pytest.mark.parametrize("first", ["caller", "search"])
@pytest.mark.parametrize("puts", [False, True])
def test_parts_that_a_search_needs_stay(store, part, first, puts):
    who = ["a/1", SEARCHES] if first == "caller" else [SEARCHES, "a/1"]
    for holder in who:
        if puts:
            store.parts.put(part, holder=holder)
        else:
            need(store, part, holder)
    store.parts.release(["a/1"])
    assert is_whole(store, part)
    assert store.parts.client_holders() == set()


def test_parts_without_holders_stay(store, database, part):
    store.parts.put(part)
    database["bundles"].update_one({}, {"$unset": {"marks": 1}})
    database["chunks"].update_many({}, {"$unset": {"marks": 1}})
    need(store, part, "a/1")
    store.parts.release(["a/1"])
    assert is_whole(store, part)


def test_an_interrupted_upload_is_removed_with_its_holder(store, part, left):
    with pytest.raises(Cut):
        store.parts.put(part, cut_after(2000), holder="a/1")
    assert left() == (1, 2)
    store.parts.release(["a/1"])
    assert left() == (0, 0)


def test_an_upload_whose_holder_is_taken_for_dead_begins_anew(store, part, left):
    told = []

    def dead_once(done):
        if not told:
            store.parts.release(["a/1"])
        told.append(done)

    store.parts.put(part, dead_once, holder="a/1")
    assert told.count(1000) == 2
    assert is_whole(store, part)
    store.parts.release(["a/1"])
    assert left() == (0, 0)


STEPS = {
    "nothing is done": ("headers", "update"),
    "it is no part any more": ("chunks", "delete"),
    "its chunks are gone": ("headers", "delete"),
}


def before(store, monkeypatch, step, act):
    """Have `act` happen in the midst of the next removal."""
    name, method = STEPS[step]
    patient = getattr(store.parts, name)
    original, times = getattr(patient, method), iter(range(10))
    # The first update takes a name from the holders: the one after it is of the removal.
    when = 1 if method == "update" else 0

    def interrupted(*args, **options):
        if next(times) == when:
            monkeypatch.setattr(patient, method, original)
            act()
        return original(*args, **options)

    monkeypatch.setattr(patient, method, interrupted)


@pytest.mark.parametrize("who", ["search", "caller"])
@pytest.mark.parametrize("step", STEPS)
def test_a_new_holder_during_a_removal_has_a_whole_part(
    store, uri, part, left, monkeypatch, step, who
):
    holder = "b/1" if who == "caller" else SEARCHES
    need(store, part, "a/1")
    with open_store(uri) as other:
        before(store, monkeypatch, step, lambda: need(other, part, holder))
        store.parts.release(["a/1"])
        assert is_whole(other, part)
        store.parts.release(["b/1"])
        assert left() == ((0, 0) if who == "caller" else (1, 5))


@pytest.mark.parametrize("who", ["search", "caller"])
@pytest.mark.parametrize("step", STEPS)
def test_an_upload_under_way_during_a_removal_comes_to_a_whole_part(
    store, uri, part, monkeypatch, step, who
):
    """It began beside that of a caller which has gone since, and ends after the removal."""
    holder = "b/1" if who == "caller" else SEARCHES
    need(store, part, "a/1")
    with open_store(uri) as other:
        before(store, monkeypatch, step, lambda: half(other))

        def half(other):
            with pytest.raises(Cut):
                other.parts.put(part, cut_after(2000), holder=holder)

        store.parts.release(["a/1"])
        store.parts.release([])
        need(other, part, holder)
        assert is_whole(other, part)


@pytest.mark.parametrize("holder", [None, SEARCHES, "a/1", "b/1"])
def test_an_upload_that_lost_its_holder_is_not_mixed_up_with_the_next_one(store, uri, part, holder):
    """The next one begins anew, and is cut off: what is there now are pieces of both."""
    with open_store(uri) as other:

        def dead_once(done):
            if done == 2000 and not told:
                told.append(done)
                other.parts.release(["a/1"])
                with pytest.raises(Cut):
                    other.parts.put(part, cut_after(1000), holder=holder)

        told = []
        store.parts.put(part, dead_once, holder="a/1")
        assert is_whole(store, part)
        other.parts.release(["a/1"])
        if holder != "a/1":
            need(other, part, holder)
            assert is_whole(other, part)


@pytest.mark.parametrize("step", STEPS)
def test_a_removal_that_is_cut_off_is_finished_by_the_next(store, part, left, monkeypatch, step):
    def cut():
        raise Cut

    need(store, part, "a/1")
    before(store, monkeypatch, step, cut)
    with pytest.raises(Cut):
        store.parts.release(["a/1"])
    store.parts.release([])
    assert left() == (0, 0)


@pytest.mark.parametrize(
    ("seen", "stays"),
    [("$$NOW", True), ({"$subtract": ["$$NOW", 2 * 86_400_000]}, False), (None, False)],
)
def test_a_sweep_takes_what_only_those_hold_that_are_gone(store, database, part, seen, stays):
    if seen is not None:
        change = [{"$set": {"seen_at": seen}}]
        database["workers"].update_one({"_id": "client"}, change, upsert=True)
    need(store, part, "client/3")
    store.calls.sweep()
    assert store.parts.missing([part.sha], "other/1") == (set() if stays else {part.sha})


def test_a_sweep_of_calls_leaves_what_searches_need(store, part):
    need(store, part, SEARCHES)
    store.calls.sweep()
    assert is_whole(store, part)


def test_many_that_come_and_go_always_have_a_whole_part(uri, store, part, left):
    """Among them some that are taken for dead in the midst of an upload, and go on."""
    failed = []

    def come_and_go(number):
        rng = random.Random(number)
        try:
            with open_store(uri) as mine:
                for n in range(40):
                    holder = f"{number}/{n}"

                    def dead(_, holder=holder):
                        if rng.random() < 0.05:
                            mine.parts.release([holder])

                    if mine.parts.missing([part.sha], holder):
                        mine.parts.put(part, dead, holder=holder)
                    if not is_whole(mine, part):
                        failed.append(holder)
                    mine.parts.release([holder])
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=come_and_go, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120.0)
    assert failed == []
    store.parts.release([])
    assert left()[0] == 0
    with pytest.raises(BundleDamaged):
        store.parts.get(part.sha)
