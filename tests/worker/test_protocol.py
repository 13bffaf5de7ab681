"""Lines of JSON on a socket."""

import math
import socket
import struct

import numpy as np
import pytest

from optomatic.records import Failure, Result
from optomatic.worker.protocol import Channel, result_from_wire, result_to_wire


@pytest.fixture
def ends():
    ours, theirs = socket.socketpair()
    yield Channel(ours), Channel(theirs), theirs
    ours.close()
    theirs.close()


def test_values_arrive_in_order_and_whole(ends):
    ours, theirs, _ = ends
    values = [None, {"a": [1, "\ud800 \n"]}, "x" * 100_000]
    for value in values:
        theirs.send(value)
    assert ours.next(1.0) is None
    assert [ours.next(1.0), ours.next(1.0)] == values[1:]
    assert ours.next(0.0) is None
    assert ours.receive() == []


def test_every_bit_of_a_float_arrives(ends):
    ours, theirs, _ = ends
    bits = np.random.default_rng(0).integers(0, 2**64, 2000, dtype=np.uint64)
    floats = [x for x in bits.view(np.float64).tolist() if not math.isnan(x)]
    special = [0.0, -0.0, math.inf, -math.inf, 5e-324]
    result = Result(dict(enumerate_names(floats + special)), math.nan, 0.1, 0.2, 3)
    theirs.send(result_to_wire(result))
    arrived = result_from_wire(ours.next(1.0))
    assert pack(arrived.test.values()) == pack(result.test.values())
    assert math.isnan(arrived.train)


def enumerate_names(values):
    return ((f"metric {n}", value) for n, value in enumerate(values))


def pack(floats):
    return [struct.pack("<d", x) for x in floats]


def test_a_part_of_a_line_is_kept_until_the_rest_comes(ends):
    ours, _, raw = ends
    raw.sendall(b'[1]\n{"a":')
    assert ours.receive() == [[1]]
    assert ours.receive() == []
    raw.sendall(b"2}\n")
    assert ours.receive() == [{"a": 2}]


def test_messages_that_are_no_json_are_refused(ends):
    ours, _, raw = ends
    raw.sendall(b"\x80\x04pickle\n")
    with pytest.raises(ValueError, match=r"decode|Expecting"):
        ours.receive()


def test_the_last_words_are_read_before_the_end(ends):
    ours, theirs, raw = ends
    theirs.send("last")
    raw.close()
    assert ours.receive() == ["last"]
    with pytest.raises(EOFError):
        ours.receive()
    with pytest.raises(EOFError):
        ours.next(1.0)


def test_failures_arrive_and_long_texts_are_cut_in_the_middle():
    failure = Failure("fit", "builtins.ValueError", "t" * 10**6, "a" + "b" * 10**6 + "c", "auc")
    result = Result(None, None, 0.0, 0.0, 0, (failure,))
    arrived = result_from_wire(result_to_wire(result)).failures[0]
    assert (arrived.stage, arrived.type, arrived.metric) == ("fit", failure.type, "auc")
    assert len(arrived.text) < 9_000
    assert arrived.traceback[0] == "a"
    assert arrived.traceback[-1] == "c"
    assert "characters cut" in arrived.traceback
