"""When a worker skips a queue for a while, and when a new child of its is to try first."""

from collections import deque
from types import SimpleNamespace

import pytest

from optomatic.errors import OtherCode
from optomatic.worker.dispatch import AGAIN, SkippedQueues
from optomatic.worker.protocol import Refusal


class Skipping:
    """Skipped queues of a worker that may claim `allowed`, and of what the store is told."""

    def __init__(self, *allowed):
        self.now = 100.0
        self.told, self.refused_queues = [], []
        reservations = SimpleNamespace(worker="worker", owe=lambda errand: errand())
        workers = SimpleNamespace(
            refuses=lambda *told: self.told.append(told),
            accepts=lambda *told: self.told.append(told),
        )
        idle = SimpleNamespace(refused=self.refused_queues.append)
        free = (lambda: list(allowed)) if allowed else None
        self.queues = SkippedQueues(free, workers, reservations, idle, lambda: self.now)

    def refuse(self, state, pid, pids, why="other files", queue="one"):
        """Have child `pid` of `pids` refuse `queue`; return whether it is skipped then."""
        children = [SimpleNamespace(pid=number, sent=deque()) for number in pids]
        child = next(child for child in children if child.pid == pid)
        one = SimpleNamespace(job=SimpleNamespace(queue=queue))
        self.queues.refused(child, one, Refusal(why, state, None), children)
        return queue not in self.queues.claimable()


def test_a_queue_that_a_new_child_refuses_is_skipped():
    skipping = Skipping("one", "other")
    assert skipping.refuse("fresh", 1, [1, 2])
    assert skipping.refuse("fresh", 2, [1, 2])
    assert skipping.queues.claimable() == ["other"]
    assert skipping.told == [("worker", "one", "other files")]
    assert skipping.refused_queues == ["one", "one"]


def test_a_search_whose_own_workers_refuse_ends():
    skipping = Skipping()
    assert skipping.queues.claimable() is None
    with pytest.raises(OtherCode, match="other files"):
        skipping.refuse("fresh", 1, [1])


def test_children_that_were_there_before_are_replaced_and_their_successors_believed():
    """Also if these have scored other work meanwhile, so that it comes to an end."""
    skipping = Skipping("one")
    assert not skipping.refuse("used", 1, [1, 2])
    assert not skipping.refuse("used", 2, [2, 3])
    assert not skipping.refuse("behind", 3, [3, 4])
    assert skipping.refuse("used", 3, [3, 4])


def test_a_worker_tries_again_after_a_while_and_says_the_same_only_once(caplog):
    skipping = Skipping("one", "other")
    assert not skipping.refuse("used", 1, [1])
    assert skipping.refuse("fresh", 2, [2])
    skipping.now += AGAIN - 1
    assert skipping.queues.claimable() == ["other"]
    skipping.now += 1
    assert skipping.queues.claimable() == ["one", "other"]
    assert skipping.queues.is_trial("one")
    assert not skipping.refuse("used", 3, [3])  # it may be behind
    assert skipping.refuse("fresh", 4, [4])
    skipping.now += AGAIN
    assert skipping.queues.claimable() == ["one", "other"]
    assert skipping.refuse("fresh", 5, [5], "another reason")
    assert len(caplog.messages) == len(skipping.told) == 2
    skipping.queues.accepted("one")
    skipping.queues.accepted("one")
    assert skipping.told[2:] == [("worker", "one")]
    assert not skipping.queues.is_trial("one")
