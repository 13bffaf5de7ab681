"""A bit that changes in the database, in a call or in what it returned: the right value comes.

OPTOMATIC_EXAMPLES says how many flipped bits of each kind are tried, 60 without it.  How many of
them were seen is printed:
``OPTOMATIC_EXAMPLES=344 pytest -n 0 -s tests/joblib_backend/test_damage.py``.
"""

import os
import random
import threading

import bson
import numpy as np
import pytest
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from functions import echo, look_at, refuse
from waiting import wait_for

from optomatic.errors import BundleDamaged
from optomatic.joblib_backend.client import Client
from optomatic.joblib_backend.run import Run
from optomatic.store.connection import open_store

EXAMPLES = int(os.environ.get("OPTOMATIC_EXAMPLES", "60"))
VALUES = [1234.5678, "some text", [3, 1, 4, 1, 5], {"a": (2.5, None)}, b"bytes"]
#: A text need not be one after a flip.
_RAW = CodecOptions(RawBSONDocument, unicode_decode_error_handler="replace")
#: Neither fits into the record of its call.
LARGE = bytes(range(256)) * 2000


class Calling:
    """Sends calls, and waits for what comes of them."""

    def __init__(self, own):
        self.database = own.database
        self.client = Client(open_store(own.uri))
        self.sent = []
        self._run = Run(self.client, level=1, threads=None, large=1000, mmap_mode="r")
        self._told = threading.Semaphore(0)

    def send(self, function, *args):
        """Queue a call; return its id once it is stored."""
        sent = self._run.submit([(function, args, {})], lambda _: self._told.release())
        self.sent.append(sent)
        call_id = sent.call.unit.id
        wait_for(lambda: self.database["units"].count_documents({"_id": call_id}))
        return call_id

    def ends(self):
        """Return what each call returned, or the arguments of what it raised."""
        for _ in self.sent:
            assert self._told.acquire(timeout=120)
        return [s.error.args if s.error else s.result()[0] for s in self.sent]

    def seen(self):
        """Return how often each call was damaged."""
        return [sent.damaged for sent in self.sent]

    def flip(self, call_id, content, bit):
        """Flip one bit of some bytes in the record of a call, whatever then stands there."""
        before = bson.encode(self.database["units"].find_one({"_id": call_id}))
        assert before.count(content) == 1
        after = before.replace(content, flipped(content, bit))
        self.database["units"].replace_one({"_id": call_id}, RawBSONDocument(after, _RAW))


@pytest.fixture
def calling(own):
    """No worker is there yet."""
    calling = Calling(own)
    yield calling
    calling.client.close()


def flipped(content, bit):
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def drawn(content, draw=random.Random(0)):  # noqa: B008  # one for all: other bits each time
    return draw.randrange(8 * len(content))


def flip_part(calling, kind):
    """Flip one bit of the only part of some kind."""
    (part,) = calling.database["bundles"].find({"kind": {"$regex": kind}})
    (chunk,) = calling.database["chunks"].find({"_id": f"{part['_id']}:0"})
    data = flipped(chunk["data"], drawn(chunk["data"]))
    calling.database["chunks"].update_one({"_id": chunk["_id"]}, {"$set": {"data": data}})


def before_reading(calling, monkeypatch, ids, damage):
    """Call `damage` with the record of each of these calls before its client reads it."""
    calls, done = calling.client.store.calls, set()
    finished = calls.finished

    def damaging(client):
        query = {"_id": {"$in": [*ids - done]}, "state": {"$in": ["completed", "failed"]}}
        for document in calling.database["units"].find(query):
            damage(document)
            done.add(document["_id"])
        return [end for end in finished(client) if end.id not in ids - done]

    monkeypatch.setattr(calls, "finished", damaging)


def test_no_flipped_bit_of_a_call_runs_another(own, calling, caplog, capsys):
    expected = [(n, VALUES[n % len(VALUES)]) for n in range(EXAMPLES)]
    for values in expected:
        call_id = calling.send(echo, *values)
        text = calling.sent[-1].call.unit.params_text.encode()
        calling.flip(call_id, text, drawn(text))
    worker = own.start()
    assert calling.ends() == expected
    assert calling.seen() == [1] * EXAMPLES
    assert worker.poll() is None
    assert "damaged on the way, and are sent again" in caplog.text
    say(capsys, "calls", calling)


@pytest.mark.parametrize("function", [echo, refuse])
def test_no_flipped_bit_of_what_a_call_came_to_is_loaded(
    own, calling, monkeypatch, capsys, function
):
    expected = [(n, VALUES[n % len(VALUES)]) for n in range(EXAMPLES)]
    ids = {calling.send(function, *values) for values in expected}

    def damage(document):
        data = document["result"]["data"]
        calling.flip(document["_id"], data, drawn(data))

    before_reading(calling, monkeypatch, ids, damage)
    own.start()
    assert calling.ends() == expected
    assert calling.seen() == [1] * EXAMPLES
    say(capsys, f"what {function.__name__} came to", calling)


def say(capsys, what, calling):
    with capsys.disabled():
        print(f"\n{what}: {sum(calling.seen())} of {len(calling.sent)} flipped bits seen", end=" ")


def test_all_that_is_stored_of_a_call_is_verified(own, calling):
    changes = ({"options.level": 3}, {"options.mmap_mode": "c"}, {"spec.initializer": "0" * 64})
    for n, change in enumerate(changes):
        call_id = calling.send(echo, n, 2)
        calling.database["units"].update_one({"_id": call_id}, {"$set": change})
    own.start()
    assert calling.ends() == [(n, 2) for n in range(3)]
    assert calling.seen() == [1, 1, 1]


def test_arguments_that_are_a_part_are_sent_again(own, calling):
    calling.send(echo, 1, LARGE)
    flip_part(calling, "pickle")
    own.start()
    assert calling.ends() == [(1, LARGE)]
    assert calling.seen() == [1]
    wait_for(lambda: not calling.database["bundles"].count_documents({}))
    wait_for(lambda: not calling.database["chunks"].count_documents({}))


def test_a_damaged_large_result_is_computed_again(own, calling, monkeypatch):
    ids = {calling.send(echo, 1, LARGE)}
    before_reading(calling, monkeypatch, ids, lambda _: flip_part(calling, "returned"))
    own.start()
    assert calling.ends() == [(1, LARGE)]
    assert calling.seen() == [1]


def test_an_array_that_stays_damaged_is_an_error_in_the_end(own, calling):
    """It is stored once for all calls, and its object may be gone."""
    calling.send(look_at, np.arange(1000.0), 0)
    flip_part(calling, "npy")
    worker = own.start()
    calling.ends()
    (sent,) = calling.sent
    assert isinstance(sent.error, BundleDamaged)
    assert "damaged on the way 4 times in a row" in str(sent.error)
    assert "does not match its hash" in str(sent.error)
    assert worker.poll() is None


def test_a_call_that_is_withdrawn_is_not_sent_again(own, calling, monkeypatch):
    ids = {calling.send(echo, 1, 2)}

    def damage(document):
        calling.flip(document["_id"], document["result"]["data"], 0)
        calling.client.withdraw(calling.sent[0].run)

    before_reading(calling, monkeypatch, ids, damage)
    own.start()
    wait_for(lambda: not own.calls())
    assert calling.client._outgoing == []
    assert calling.client._pending == {}
