# SPDX-License-Identifier: Apache-2.0
"""Who drives, cycle by cycle: taking hold, rest, requests, and that torque never stays on without a robot to follow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from so101_driver.errors import SafetyError
from so101_driver.handover import Handover, HandoverConfig, Sight, State

CYCLE_S = 0.01
CONFIG = HandoverConfig(hold_rad=0.2, hold_s=0.05, rest_rad=0.02, rest_s=1.0, follower_timeout_s=0.5, retry_s=0.5)
STEP_RAD = CONFIG.follow_velocity_rad_s * CYCLE_S


class Table:
    """A leader that goes where its goals are unless a hand has it, and a robot; time goes on cycle by cycle."""

    def __init__(self, config: HandoverConfig = CONFIG, leader: float = 0.0, robot: float = 0.0) -> None:
        self.handover = Handover(np.full(6, -1.5), np.full(6, 1.5), config)
        self.leader, self.robot = np.full(6, leader), np.full(6, robot)
        self.hand: float | None = None  # where it keeps the first joint
        self.robot_age_s = self.leader_age_s = 0.0
        self.now_s = 100.0
        self.astray: tuple[str, ...] = ()
        self.servo_rad = np.inf
        self.goals: list[np.ndarray | None] = []

    @property
    def state(self) -> State:
        return self.handover.state

    def cycles(self, count: int = 1) -> State:
        for _ in range(count):
            if self.hand is not None:
                self.leader = self.leader.copy()
                self.leader[0] = self.hand
            sight = Sight(self.leader, self.leader_age_s, self.robot, self.robot_age_s, self.astray)
            goal = self.handover.step(self.now_s, sight)
            self.goals.append(goal)
            if goal is not None:
                self.leader = self.leader + np.clip(goal - self.leader, -self.servo_rad, self.servo_rad)
            self.now_s += CYCLE_S
        return self.state

    def reset(self, begin: float, end: float) -> None:
        """An episode is reset: the robot goes from here to there within half a second, and each tick says so."""
        for place in np.linspace(begin, end, 50):
            self.handover.refuses = True
            self.handover.hand_back()
            self.robot = np.full(6, place)
            self.cycles()
        self.handover.refuses = False

    def held(self, angle: float = 0.5) -> Table:
        """The person has taken hold and drives."""
        self.cycles(2)
        self.hand = angle
        assert self.cycles(20) is State.FREE
        return self


def test_it_follows_the_robot_without_a_jump():
    table = Table(leader=-0.4, robot=0.3)
    assert table.cycles(200) is State.FOLLOWING
    steps = np.diff(np.array(table.goals), axis=0)
    assert np.abs(table.goals[0] + 0.4).max() < 1e-9 and np.abs(steps).max() <= STEP_RAD + 1e-9
    np.testing.assert_allclose(table.leader, 0.3)
    table.robot = np.full(6, 9.0)
    table.cycles(300)
    np.testing.assert_allclose(table.goals[-1], 1.5)


def test_a_pause_of_the_program_is_no_reason_to_jump():
    table = Table(replace(CONFIG, follow_velocity_rad_s=3.0), robot=1.0)
    table.cycles(2)
    table.now_s += 10.0
    table.cycles()
    assert np.abs(table.goals[-1] - table.goals[-2]).max() <= CONFIG.hold_rad / 2 + 1e-9


def test_taking_hold_makes_it_free_and_a_single_odd_reading_does_not():
    table = Table()
    table.cycles(3)
    for _ in range(5):
        table.hand = 0.5
        assert table.cycles(4) is State.FOLLOWING
        table.hand = None
        table.leader = np.zeros(6)
        assert table.cycles() is State.FOLLOWING
    table.hand = 0.5
    assert table.cycles(7) is State.FREE
    assert table.goals[-1] is None and table.handover.take_overs == 1


def test_it_follows_again_once_it_was_at_rest():
    table = Table().held()
    for angle in np.linspace(0.5, 0.9, 300):  # moved all the time
        table.hand = float(angle)
        assert table.cycles() is State.FREE
    assert table.cycles(80) is State.FREE
    assert table.cycles(25) is State.FOLLOWING
    assert abs(table.goals[-1][0] - 0.9) < 25 * STEP_RAD


def test_without_rest_it_follows_only_when_told_to():
    table = Table(replace(CONFIG, rest_s=0.0)).held()
    assert table.cycles(1000) is State.FREE
    table.hand = None
    assert table.handover.hand_back() and table.cycles() is State.FOLLOWING


def test_set_free_on_request_it_waits_for_the_person():
    table = Table()
    table.cycles(2)
    assert table.handover.take_over() and table.cycles(500) is State.FREE  # nobody has come to the arm yet
    table.hand = 0.1
    assert table.cycles(50) is State.FREE
    assert table.cycles(60) is State.FOLLOWING  # it came to rest


def test_after_a_reset_whoever_still_holds_it_drives_only_by_a_new_grip():
    table = Table().held()
    table.robot[0] = 0.5  # the robot is where the person has brought it
    table.reset(0.5, -0.3)
    for _ in range(1000):  # the hand holds on, for ten seconds
        assert table.cycles() is not State.FREE
    assert table.handover.reason.startswith("a hand holds it; let go") and table.handover.take_overs == 1
    assert sum(goal is not None for goal in table.goals[-1000:]) < 400, "it gives way, and only tries now and then"
    table.hand = None
    table.cycles(400)
    np.testing.assert_allclose(table.leader, -0.3)
    assert table.state is State.FOLLOWING and not table.handover.reason
    table.hand = 0.5
    assert table.cycles(10) is State.FREE


def test_during_a_reset_no_hand_is_a_grip():
    table = Table()
    table.cycles(5)
    table.handover.refuses = True
    table.hand = 0.5
    for _ in range(300):
        assert table.cycles() is not State.FREE
    table.hand, table.handover.refuses = None, False
    table.cycles(300)
    table.hand = 0.5
    assert table.cycles(10) is State.FREE


def test_a_hand_that_is_there_when_the_node_starts_does_not_make_the_robot_leap():
    table = Table(leader=1.2)
    table.hand = 1.2
    for _ in range(500):
        assert table.cycles() is not State.FREE
    assert table.handover.take_overs == 0


def test_a_leader_that_stands_beyond_its_limits_comes_back_and_is_in_nobodys_hand():
    table = Table(leader=1.79)
    table.servo_rad = 1.25 * STEP_RAD  # as fast as its servo may be
    assert table.cycles(400) is State.FOLLOWING and table.handover.take_overs == 0
    np.testing.assert_allclose(table.leader, 0.0, atol=1e-9)


def test_a_joint_past_its_seam_drives_on_but_follows_only_once_it_is_turned_back():
    table = Table().held()
    table.astray = ("wrist_roll",)
    assert table.cycles(5) is State.FREE
    table.handover.hand_back()
    assert table.cycles(5) is State.LIMP and all(goal is None for goal in table.goals[-10:])
    assert table.handover.reason.startswith("wrist_roll was turned past the end of its encoder; let it go and turn it back")
    table.astray = ()
    assert table.cycles() is State.FOLLOWING


def test_a_joint_that_leaps_by_more_than_half_a_turn_ends_the_drive():
    table = Table().held(3.1)
    table.hand = -3.1
    assert table.cycles() is State.LIMP and table.handover.reason == "a joint of the leader has leapt"
    for _ in range(200):
        assert table.cycles() is not State.FREE


def test_without_a_robot_it_is_limp_and_nobody_drives():
    table = Table()
    table.robot = None
    assert table.cycles(5) is State.LIMP and table.goals[-1] is None
    assert not table.handover.take_over() and table.cycles() is State.LIMP


def test_a_robot_that_falls_silent_is_let_go_of_and_followed_again_without_a_jump():
    table = Table()
    table.cycles(5)
    table.robot_age_s = 0.51
    assert table.cycles() is State.LIMP and table.goals[-1] is None
    assert "joint_states of the robot" in table.handover.reason
    table.robot_age_s, table.leader = 0.0, np.full(6, 0.7)
    assert table.cycles() is State.FOLLOWING and abs(table.goals[-1][0] - 0.7) <= STEP_RAD + 1e-9


def test_a_robot_that_falls_silent_while_the_person_drives_ends_that():
    table = Table().held()
    table.robot_age_s = 0.51
    assert table.cycles() is State.LIMP
    table.hand, table.robot_age_s = None, 0.0
    assert table.cycles() is State.FOLLOWING


@pytest.mark.parametrize(("age_s", "value"), [(0.26, 0.0), (np.inf, 0.0), (0.0, np.nan)])
def test_without_its_own_joints_nobody_could_take_hold_so_it_lets_go(age_s, value):
    table = Table()
    table.cycles(5)
    table.leader_age_s, table.leader = age_s, np.full(6, value)
    assert table.cycles() is State.LIMP and table.goals[-1] is None
    assert "the leader's joints" in table.handover.reason


def test_a_servo_that_did_not_switch_on_is_tried_again_later():
    table = Table()
    table.cycles(2)
    table.handover.fail(table.now_s, "servo 3 is silent")
    assert table.cycles(45) is State.LIMP and table.handover.reason == "servo 3 is silent"
    assert table.cycles(10) is State.FOLLOWING and not table.handover.reason


def test_a_request_counts_once_and_not_after_it_was_limp():
    table = Table()
    table.cycles(2)
    table.handover.take_over()
    table.robot_age_s = 1.0
    table.cycles()
    table.robot_age_s = 0.0
    assert table.cycles(3) is State.FOLLOWING


events = st.lists(
    st.tuples(
        st.sampled_from(["nothing", "take", "back", "fail"]),
        st.sampled_from([0.0, 0.1, 0.6]),  # ages of the robot's joints
        st.sampled_from([0.0, 0.3]),  # of its own
        st.sampled_from([None, 0.0, 0.6, -2.0]),  # a hand
        st.integers(1, 30),
    ),
    max_size=12,
)


@given(events)
def test_torque_is_on_only_while_it_follows_a_robot_and_a_hand_can_be_felt(story):
    table = Table()
    for what, robot_age_s, leader_age_s, hand, count in story:
        {"take": table.handover.take_over, "back": table.handover.hand_back}.get(what, lambda: None)()
        if what == "fail":
            table.handover.fail(table.now_s, "a servo is silent")
        table.robot_age_s, table.leader_age_s, table.hand = robot_age_s, leader_age_s, hand
        for _ in range(count):
            table.cycles()
            goal = table.goals[-1]
            assert (goal is not None) == (table.state is State.FOLLOWING)
            assert goal is None or (robot_age_s <= 0.5 and leader_age_s <= 0.25 and np.abs(goal).max() <= 1.5)
    table.robot_age_s = table.leader_age_s = 0.0  # all is well again: a hand frees it, whatever happened before
    table.hand = None
    table.cycles(500)  # it has come to the robot
    table.hand = 1.4 if table.leader[0] < 0 else -1.4
    assert table.cycles(20) is State.FREE


idle = st.lists(
    st.tuples(
        st.sampled_from(["nothing", "back", "fail", "reset", "pause"]),
        st.sampled_from([0.0, 0.6]),  # age of the robot's joints
        st.floats(-2.0, 2.0),  # where the robot goes, at 2 rad/s
        st.integers(1, 100),
    ),
    max_size=5,
)


@settings(max_examples=40)
@given(st.floats(-1.8, 1.8), idle)
def test_a_leader_that_nobody_touches_never_drives_whatever_the_robot_does(begin, story):
    table = Table(leader=begin)
    table.servo_rad = 1.25 * STEP_RAD
    for what, robot_age_s, goal, count in story:
        table.handover.refuses = what == "reset"
        if what in ("back", "reset"):
            table.handover.hand_back()
        if what == "fail":
            table.handover.fail(table.now_s, "a servo is silent")
        table.now_s += 5.0 if what == "pause" else 0.0
        table.robot_age_s = robot_age_s
        for _ in range(count):
            table.robot = table.robot + np.clip(goal - table.robot, -2.0 * CYCLE_S, 2.0 * CYCLE_S)
            assert table.cycles() is not State.FREE
    assert table.handover.take_overs == 0


def test_settings_that_are_not_allowed_are_named():
    with pytest.raises(SafetyError, match=r"handover.hold_rad is 5.0, allowed: 0.02 to 1.0"):
        HandoverConfig(hold_rad=5.0)
