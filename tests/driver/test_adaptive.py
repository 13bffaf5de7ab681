"""Generators: asked as units finish, told what came of them, and replayed."""

import os
import signal
import threading
from itertools import count

import functions
import numpy as np
import pytest
import servers
from pymongo import MongoClient
from waiting import wait_for

from optomatic import MongoSearch
from optomatic.errors import GeneratorFailed, SearchCancelled
from optomatic.store.connection import open_store

ENGINES = [None, 2]


def run(space, uri, function=functions.parabola, **options):
    return MongoSearch(function, space, db=uri, **options).run()


class Climber:
    """Goes on from the best of what it was told, by a random step."""

    def __init__(self, seed=0):
        self.rng = np.random.default_rng(seed)
        self.best = (-np.inf, 0.0)
        self.seen = []

    def ask(self, n):
        return [{"x": self.best[1] + self.rng.normal()} for _ in range(n)]

    def tell(self, evaluations):
        self.seen += evaluations
        self.best = max([self.best, *((e.scores["score"], e.params["x"]) for e in evaluations)])


@pytest.mark.parametrize("n_jobs", ENGINES)
def test_an_adaptive_generator_is_asked_as_units_finish(uri, n_jobs):
    search = run(Climber(), uri, n_iter=12, n_jobs=n_jobs)
    assert search.summary_.scored == len(search.results_) == 12
    assert search.best_score_ == search.results_["score"].max()
    again = run(Climber(), uri, n_iter=12, n_jobs=None, replay=search.search_id_)
    assert again.summary_.scored == 0
    assert again.results_["param_x"].tolist() == search.results_["param_x"].tolist()


def test_in_this_process_each_candidate_knows_all_before(uri):
    alone = Climber()
    for _ in range(8):
        (candidate,) = alone.ask(1)
        score = functions.parabola(**candidate)
        alone.best = max(alone.best, (score, candidate["x"]))
        alone.seen.append(candidate)
    search = run(Climber(), uri, n_iter=8)
    assert search.results_["param_x"].tolist() == [c["x"] for c in alone.seen]


def test_a_search_over_a_generator_begins_anew_each_time(uri):
    search = MongoSearch(functions.parabola, Climber(), n_iter=4, db=uri)
    first = search.run().results_["param_x"].tolist()
    assert search.run().results_["param_x"].tolist() == first
    assert search.summary_.scored == 0


def test_a_replay_by_name_with_other_workers_and_an_empty_store(uri, standalone_uri):
    """What was seen, and when, is in the record; the scores are computed again if need be."""
    first = run(Climber(), uri, n_iter=9, n_jobs=2, name="climb")
    with open_store(uri) as source, open_store(standalone_uri) as target:
        events = source.searches.events(first.search_id_)
        record = {"n_units": 9, "n_candidates": 9}
        target.searches.extend("another", 0, [], [], events, **record)
        MongoClient(standalone_uri).get_default_database()["searches"].update_one(
            {"_id": "another"}, {"$set": {"name": "climb"}}, upsert=True
        )
    again = run(Climber(), standalone_uri, n_iter=9, replay="climb")
    assert again.summary_.scored == 9
    assert again.results_["param_x"].tolist() == first.results_["param_x"].tolist()
    assert sum(n for kind, n in events if kind == "ask") >= 9
    assert sorted(n for kind, told in events if kind == "tell" for n in told) == list(range(9))


def test_there_is_nothing_to_replay(uri):
    with pytest.raises(ValueError, match="no search with a generator of the name or id 'climb'"):
        run(Climber(), uri, n_iter=3, replay="climb")


def ask_halves(history):
    """Bisect for the zero of x - 3: a generator in a few lines."""
    if len(history) == 6:
        return None
    if "pending" in set(history.get("state", ())):
        return None
    low = history.loc[history["score"] < 0, "param_x"].max() if len(history) else 0.0
    high = history.loc[history["score"] > 0, "param_x"].min() if len(history) else 8.0
    low, high = np.nan_to_num(low, nan=0.0), np.nan_to_num(high, nan=8.0)
    return {"x": float(low + high) / 2}


@pytest.mark.parametrize("n_jobs", ENGINES)
def test_a_function_of_the_history_is_a_generator(uri, n_jobs):
    search = run(ask_halves, uri, function=lambda x: x - 2.9, n_jobs=n_jobs)
    assert search.results_["param_x"].tolist() == [4.0, 2.0, 3.0, 2.5, 2.75, 2.875]


def test_an_iterable_is_gone_through_no_further_than_needed(uri):
    taken = []

    def endless():
        for x in count():
            taken.append(x)
            yield {"x": x}

    assert len(run(endless, uri, n_iter=5).results_) == 5
    assert taken == [0, 1, 2, 3, 4]
    assert len(run(endless(), uri, n_iter=7).results_) == 7


def test_a_generator_function_may_have_options(uri):
    def counting(start=2):
        yield from ({"x": x} for x in range(start, start + 3))

    assert run(counting, uri).results_["param_x"].tolist() == [2, 3, 4]


def test_ask_may_want_the_history_or_have_options(uri):
    class WithHistory:
        def ask(self, n, history):
            return [{"x": len(history)}] if len(history) < 3 else []

    class WithOption:
        asked = 0

        def ask(self, n, most=3):
            self.asked += 1
            return [{"x": self.asked}] if self.asked <= most else []

    assert run(WithHistory(), uri).results_["param_x"].tolist() == [0, 1, 2]
    assert run(WithOption(), uri).results_["param_x"].tolist() == [1, 2, 3]


def test_a_generator_knows_the_pending_candidates(uri):
    seen = []

    def one_more(history, n):
        seen.append((n, list(history["state"]) if len(history) else []))
        return [{"x": float(len(history) + k)} for k in range(n)] if len(history) < 8 else None

    run(one_more, uri, function=functions.slow, n_jobs=2)
    assert seen[0] == (3, [])
    assert any("pending" in states and "completed" in states for _, states in seen)


def test_failures_are_told(uri):
    generator = Failing()
    with pytest.warns(match="1 of 4 candidates failed"):
        run(generator, uri, function=functions.fails_at_two)
    assert [e.state for e in Failing.told] == ["completed", "completed", "failed", "completed"]
    assert "two is too much" in Failing.told[2].error


class Failing:
    told = []

    def __init__(self):
        self.asked = 0

    def ask(self, n):
        self.asked += n
        return [{"x": x} for x in range(self.asked - n, min(self.asked, 4))]

    def tell(self, evaluations):
        self.told += evaluations


class Nonsense(Climber):
    """Goes well for three candidates, and then not."""

    def __init__(self, give):
        super().__init__()
        self.give = give

    def ask(self, n):
        return self.give() if len(self.seen) >= 3 else super().ask(n)


def fall_over():
    raise RuntimeError("out of ideas")


@pytest.mark.parametrize(
    ("give", "message"),
    [
        (fall_over, "The generator Nonsense raised RuntimeError: out of ideas"),
        (lambda: [3], "The generator Nonsense gave 3 .int., which is no candidate"),
        (lambda: "C", "The generator Nonsense gave 'C'"),
        (lambda: [{"gamma": 1}], r"The generator Nonsense gave .* the params \['gamma'\]"),
    ],
    ids=["raises", "no dict", "text", "unknown param"],
)
@pytest.mark.parametrize("n_jobs", ENGINES)
def test_a_generator_that_fails_is_named_and_what_is_finished_stays(uri, n_jobs, give, message):
    with pytest.raises(GeneratorFailed, match=message):
        run(Nonsense(give), uri, n_iter=200, n_jobs=n_jobs)
    assert servers.units(uri).count_documents({"state": "completed"}) >= 3
    assert servers.units(uri).count_documents({"state": {"$in": ["queued", "running"]}}) == 0


def test_the_record_says_what_was_asked(uri):
    search = run(Climber(), uri, n_iter=5, name="climb")
    database = servers.database(uri)
    (record,) = database["searches"].find()
    assert (record["_id"], record["state"]) == (search.search_id_, "completed")
    assert (record["n_units"], record["n_candidates"]) == (5, 5)
    pages = database["search_units"].find({"_id": {"$regex": f"^{search.search_id_}:"}})
    assert {i for page in pages for i in page["ids"]} == {
        u["_id"] for u in servers.units(uri).find()
    }


class Interrupted(Climber):
    """Somebody presses Ctrl-C when it has heard of three candidates."""

    def ask(self, n):
        if len(self.seen) >= 3:
            os.kill(os.getpid(), signal.SIGINT)
        return super().ask(n)


@pytest.mark.parametrize("n_jobs", ENGINES)
def test_ctrl_c_keeps_what_is_finished_and_withdraws_the_rest(uri, n_jobs):
    with pytest.raises(KeyboardInterrupt):
        run(Interrupted(), uri, n_iter=9, n_jobs=n_jobs)
    finished = servers.units(uri).count_documents({"state": "completed"})
    assert finished >= 3
    assert servers.units(uri).count_documents({"state": {"$in": ["queued", "running"]}}) == 0
    (record,) = servers.database(uri)["searches"].find()
    assert record["state"] == "interrupted"
    assert run(Climber(), uri, n_iter=9).summary_.stored >= (3 if n_jobs is None else 1)


@pytest.mark.parametrize("n_jobs", ENGINES)
def test_a_search_that_is_withdrawn_ends(uri, n_jobs):
    def withdraw():
        wait_for(lambda: servers.units(uri).count_documents({"state": "completed"}) >= 2)
        with open_store(uri) as store:
            (record,) = servers.database(uri)["searches"].find()
            store.searches.withdraw(record["_id"])
            store.jobs.cancel(record["_id"])

    canceller = threading.Thread(target=withdraw)
    canceller.start()
    with pytest.raises(SearchCancelled, match="All finished scores are stored"):
        run(({"x": x} for x in count()), uri, function=functions.slow, n_jobs=n_jobs, n_iter=5000)
    canceller.join()
    assert servers.units(uri).count_documents({"state": {"$in": ["queued", "running"]}}) == 0


def test_candidates_that_come_again_are_one_unit(uri):
    search = run(({"x": n % 3} for n in range(9)), uri)
    assert (len(search.results_), search.summary_.units, search.summary_.scored) == (9, 3, 3)


def test_a_generator_that_gives_nothing(uri):
    with pytest.raises(ValueError, match=r"No candidate was completed .the generator gave none."):
        run(iter(()), uri)
