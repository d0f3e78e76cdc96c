# SPDX-License-Identifier: Apache-2.0
"""What is asked of simulator and driver for a new world, and in which order."""

import numpy as np
from builtin_interfaces.msg import Time
from rclpy.task import Future
from std_srvs.srv import SetBool

from hilserl_actor.resetter import Resetter
from hilserl_interfaces.srv import ResetWorld


class Service:
    """A client whose requests the test answers."""

    def __init__(self, name: str, asked: list) -> None:
        self.srv_name, self._asked, self.there = name, asked, True

    def service_is_ready(self) -> bool:
        return self.there

    def call_async(self, request: object) -> Future:
        self._asked.append((self.srv_name, request, future := Future()))
        return future


class Case:
    """A resetter, what it has asked, complained about and done."""

    def __init__(self, arm: bool) -> None:
        self.asked, self.done, self.complaints = [], [], []
        self.services = services = Service("sim/reset", self.asked), Service("follower/suspend", self.asked)
        calls = self.done.append, self.complaints.append
        self.resetter = Resetter(services[0], np.zeros(6), *calls, services[1] if arm else None)

    def answer(self, success: bool = True, message: str = "") -> None:
        """The newest request."""
        name, _, future = self.asked[-1]
        kind = ResetWorld.Response if name == "sim/reset" else SetBool.Response
        response = kind(success=success, message=message)
        if name == "sim/reset":
            response.stamp = Time(sec=7)
        future.set_result(response)


def test_the_world_alone_is_asked_for_the_seed() -> None:
    case = Case(arm=False)
    case.resetter.begin(5)
    case.resetter.poll(None, 1.0)
    assert [(name, request.seed) for name, request, _ in case.asked] == [("sim/reset", 5)]
    case.answer()
    assert case.done == [7_000_000_000]


def test_an_arm_with_a_driver_is_suspended_before_and_let_go_on_after() -> None:
    case = Case(arm=True)
    case.resetter.begin(5)
    case.resetter.poll(None, 1.0)
    for _ in range(3):
        assert not case.done
        case.answer()
    assert [name for name, _, _ in case.asked] == ["follower/suspend", "sim/reset", "follower/suspend"]
    assert [case.asked[index][1].data for index in (0, 2)] == [True, False]
    assert case.done == [7_000_000_000]


def test_a_refusal_is_said_and_asked_again_where_it_came() -> None:
    case = Case(arm=True)
    case.resetter.begin(5)
    case.resetter.poll(None, 1.0)
    case.answer()
    case.answer(success=False, message="no such world")
    assert case.complaints == ["no reset: no such world"]
    case.resetter._asked_s = 0.0  # long ago
    case.resetter.poll(None, 1.0)
    assert [name for name, _, _ in case.asked] == ["follower/suspend", "sim/reset", "sim/reset"]


def test_an_answer_after_a_cancel_does_not_count() -> None:
    case = Case(arm=True)
    case.resetter.begin(5)
    case.resetter.poll(None, 1.0)
    case.resetter.cancel()
    case.answer()
    assert len(case.asked) == 1 and not case.done


def test_what_hinders_a_reset_is_known_until_it_no_longer_does() -> None:
    case = Case(arm=True)
    case.services[1].there = False
    case.resetter.begin(5)
    case.resetter.poll(None, 1.0)
    assert "follower/suspend is not there" in case.resetter.why and not case.asked
    case.services[1].there = True
    case.resetter.poll(None, 1.0)
    case.answer(success=False, message="the arm is stopped")
    assert "the arm is stopped" in case.resetter.why
    case.resetter._asked_s = 0.0  # long ago
    case.resetter.poll(None, 1.0)
    case.answer()
    assert case.resetter.why == ""
    case.resetter.cancel()
    assert case.resetter.why == ""


def test_an_arm_whose_joints_are_not_known_waits_for_them() -> None:
    resetter = Resetter(None, np.zeros(6), [].append, [].append)
    resetter.begin(5)
    resetter.poll(None, 1.0)
    assert "no joint_states" in resetter.why and resetter.targets() is None
    resetter.poll(np.ones(6), 1.0)
    assert resetter.why == "" and resetter.targets() is not None
    resetter.begin(5)
    for _ in range(5):
        resetter.poll(np.zeros(6), 1e-9)
        resetter.poll(None, 1e-9)
        assert resetter.targets() is None, "joints that stopped during the move"


def test_a_move_that_does_not_bring_the_arm_to_its_start_begins_again_from_where_it_is() -> None:
    """Before, the reset was done when its time was over: a stopped arm leapt to its start as soon as somebody cleared it."""
    done, complaints = [], []
    resetter = Resetter(None, np.zeros(6), done.append, complaints.append)
    resetter.begin(5)
    resetter.poll(np.array([0.4, 0.4, 0.5, 0.4, 0.4, 0.9]), 1e-9)
    resetter.targets()
    assert not done and "has not come to its start, elbow_flex is 29° off" in resetter.why and complaints == [resetter.why]
    resetter.poll(np.full(6, 0.4), 60.0)
    assert "has not come to its start" in resetter.why
    np.testing.assert_allclose(resetter.targets(), np.full(6, 0.4), atol=1e-3)
    for _ in range(2):
        resetter.cancel()
        resetter.begin(5)
        for _ in range(3):
            assert not done
            resetter.poll(np.full(6, 0.4), 1e-9)
            resetter.targets()
        assert done.pop() is None, "a jammed arm needs a person, who is not kept waiting for ever"
    resetter.begin(6)
    resetter.poll(np.array([0.1, 0.1, 0.1, 0.1, 0.1, 0.9]), 1e-9)  # its gripper is closed on something
    resetter.targets()
    assert done == [None] and resetter.why == ""
