"""When a worker leaves work alone for good, and when a new child of its is to try first."""

from estimators import Sleeper

from optomatic.worker.intake import any_lane
from optomatic.worker.refusal import Choice, Refusal


def refused(child):
    return Refusal("model.Model is other code here", child, None)


def test_what_a_new_child_refuses_is_left_alone():
    choice = Choice(lambda: ["one", "other"])
    assert choice.free
    assert choice.is_final("one", refused("fresh"), 1, [1, 2])
    assert choice.leave_alone("one", "w", "why")
    assert not choice.leave_alone("one", "w", "why")
    assert choice.lanes() == ["other"]
    assert not Choice(any_lane).free


def test_children_that_were_there_before_are_replaced_and_their_successors_believed():
    """Also if these have scored other work meanwhile, so that it comes to an end."""
    choice = Choice(lambda: ["one"])
    assert not choice.is_final("one", refused("used"), 1, [1, 2])
    assert not choice.is_final("one", refused("used"), 2, [2, 3])
    assert choice.is_final("one", refused("used"), 3, [3, 4])
    assert not choice.is_final("one", refused("behind"), 4, [3, 4])


def test_work_of_versions_that_name_no_code_is_scored(queue, supervisor):
    search = queue.submit(Sleeper(), [{"value": 1}])
    assert queue.units.find_one()["spec"]["code"]
    queue.units.update_many({}, {"$unset": {"spec.code": 1}})
    lanes = queue.client.get_default_database("optomatic")["lanes"]
    assert [lane["v"] for lane in lanes.find()] == [2]
    lanes.update_many({}, {"$set": {"v": 1}, "$unset": {"code": 1}})
    able = supervisor(lanes=lambda: queue.store.workers.lanes_for(dict(lanes.find_one()["env"])))
    able.run(queue.over(search))
    assert queue.states() == {"completed": 2}
