"""Parts in chunks: an upload that was cut off is gone on with, whatever was left."""

import numpy as np
import pytest
from pymongo import MongoClient

from optomatic.planning.serialization import dump
from optomatic.results.summary import upload_lines
from optomatic.store import parts
from optomatic.store.connection import open_store


@pytest.fixture
def store(uri, monkeypatch):
    monkeypatch.setattr(parts, "CHUNK", 1000)
    with open_store(uri) as store:
        yield store


@pytest.fixture
def chunks(uri):
    with MongoClient(uri) as client:
        yield client.get_default_database()["chunks"]


@pytest.fixture
def part():
    return dump(np.random.default_rng(0).random(1000))


class Cut(Exception):
    pass


@pytest.mark.parametrize("after", [1, 4, 8])
def test_an_interrupted_upload_goes_on(store, chunks, part, after):
    def cut(done):
        if done >= 1000 * after:
            raise Cut

    with pytest.raises(Cut):
        store.parts.put(part, cut)
    assert store.parts.missing([part.sha]) == {part.sha}
    assert chunks.count_documents({}) == after
    before = {chunk["_id"]: chunk["at"] for chunk in chunks.find()}
    # Other bytes of the same number: they would be right again if they were sent again.
    mine = chunks.find_one({"_id": f"{part.sha}:0"})["data"]
    chunks.update_one({"_id": f"{part.sha}:0"}, {"$set": {"data": bytes(1000)}})
    store.parts.put(part)
    assert chunks.find_one({"_id": f"{part.sha}:0"})["data"] == bytes(1000)
    assert all(chunks.find_one({"_id": name})["at"] > at for name, at in before.items())
    chunks.update_one({"_id": f"{part.sha}:0"}, {"$set": {"data": mine}})
    assert store.parts.get(part.sha) == (part.kind, b"".join(part.buffers))


def test_chunks_of_another_size_are_sent_again(store, chunks, part, monkeypatch):
    store.parts.put(part)
    monkeypatch.setattr(parts, "CHUNK", 700)
    store.parts.put(part)
    assert store.parts.get(part.sha) == (part.kind, b"".join(part.buffers))


def test_a_large_upload_is_told_of_now_and_then():
    said = []
    told = upload_lines(250_000_000, said.append)
    for done in range(4_000_000, 250_000_000, 4_000_000):
        told(done)
    told(250_000_000)
    assert said == [f"{n} of 250 MB of data are in the database" for n in (100, 200, 250)]
    told = upload_lines(99_000_000, said.append)
    told(99_000_000)
    assert len(said) == 3


def test_the_process_that_has_a_part_does_not_read_it_back(store, chunks, part, tmp_path):
    store.parts.put(part)
    store.parts.own([part])
    chunks.delete_many({})
    kind = store.parts.fetch(part.sha, tmp_path / "part")
    assert kind == part.kind
    assert (tmp_path / "part").read_bytes() == b"".join(map(bytes, part.buffers))
