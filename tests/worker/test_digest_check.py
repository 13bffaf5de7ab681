"""When a worker leaves work alone for a while, and when a new child of its is to try first."""

from optomatic.worker.digest_check import AGAIN, Choice, Refusal
from optomatic.worker.reservations import any_queue


def refused(child):
    return Refusal("the files of model are other ones here", child, None)


def test_what_a_new_child_refuses_is_left_alone():
    choice = Choice(lambda: ["one", "other"])
    assert choice.free
    assert choice.is_final("one", refused("fresh"), 1, [1, 2])
    assert choice.leave_alone("one", "w", "why")
    assert not choice.leave_alone("one", "w", "why")
    assert choice.queues() == ["other"]
    assert not Choice(any_queue).free


def test_children_that_were_there_before_are_replaced_and_their_successors_believed():
    """Also if these have scored other work meanwhile, so that it comes to an end."""
    choice = Choice(lambda: ["one"])
    assert not choice.is_final("one", refused("used"), 1, [1, 2])
    assert not choice.is_final("one", refused("used"), 2, [2, 3])
    assert choice.is_final("one", refused("used"), 3, [3, 4])
    assert not choice.is_final("one", refused("behind"), 4, [3, 4])


def test_a_worker_tries_again_after_a_while_and_says_the_same_only_once(caplog):
    now = [100.0]
    choice = Choice(lambda: ["one", "other"], lambda: now[0])
    assert not choice.is_final("one", refused("used"), 1, [1])
    assert choice.is_final("one", refused("fresh"), 2, [2])
    assert choice.leave_alone("one", "w", "why")
    now[0] += AGAIN - 1
    assert choice.queues() == ["other"]
    now[0] += 1
    assert choice.queues() == ["one", "other"]
    assert choice.is_trial("one")
    assert not choice.is_final("one", refused("used"), 3, [3])  # it may be behind
    assert choice.is_final("one", refused("fresh"), 4, [4])
    assert not choice.leave_alone("one", "w", "why")
    assert choice.queues() == ["other"]
    now[0] += AGAIN
    assert choice.queues() == ["one", "other"]
    assert choice.leave_alone("one", "w", "another reason")
    assert len(caplog.messages) == 2
    assert choice.take_up("one")
    assert not choice.take_up("one")
    assert not choice.is_trial("one")
