# SPDX-License-Identifier: Apache-2.0
"""Decisions of the scripted hand, on the test's own clock and station: the robot follows the leader three ticks late."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from hilserl_core.kinematics import Kinematics
from hilserl_core.step import Mode
from hilserl_core.task import TaskSpec
from so101_description import urdf_path
from so101_sim.operator import Attempt, OperatorConfig
from so101_sim.station.hand import Eyes, Hand, HandConfig, Look, Phase, Status
from so101_sim.station.settings import StationError

TASK = TaskSpec()
KINEMATICS = Kinematics(urdf_path(), TASK.joints)
ABOVE = np.array([0.0, -0.3, 0.3, 1.55, TASK.wrist_roll_rad, 0.4])
CALM = OperatorConfig(noise=0.0, pause_probability=0.0, take_over_probability=0.0)


@dataclass
class Bench:
    """Hands, a leader that is where it is held, a robot, and a cube that stays where it is put."""

    leader: np.ndarray = field(default_factory=ABOVE.copy)
    robot: np.ndarray = field(default_factory=ABOVE.copy)
    cube: np.ndarray = field(default_factory=lambda: np.array([0.23, 0.03, 0.0125]))
    held: bool = False
    keys: list[str] = field(default_factory=list)
    placed: int = 0

    def __post_init__(self) -> None:
        self._late, self._caught = deque([self.robot.copy()] * 3), False

    def feel(self) -> Mapping[str, Mapping[str, float]]:
        return {"leader": dict(zip(TASK.joints, self.leader.tolist(), strict=True))}

    def hold(self, arm: str, joints: Mapping[str, float]) -> None:
        assert arm == "leader"
        self.held, self.leader = True, np.array([joints[name] for name in TASK.joints])

    def release(self, arm: str) -> None:
        self.held = False

    def place_cube(self, x: float, y: float, yaw: float) -> None:
        self.placed, self.cube = self.placed + 1, np.array([x, y, 0.0125])

    def press(self, key: str) -> None:
        self.keys.append(key)

    def follow(self) -> None:
        """A tick of a robot that goes where the held leader is; the cube keeps its jaws apart."""
        self._late.append(self.leader if self.held else self._late[-1])
        self.robot = self._late.popleft().copy()
        pose = KINEMATICS.forward(self.robot)
        between = np.linalg.norm(pose.position + 0.0125 * pose.rotation[:, 0] - self.cube) < 0.008
        self._caught = between and (self._caught or self.robot[-1] > 0.12)
        if self._caught:
            self.robot[-1] = max(self.robot[-1], 0.12)


class Evening:
    """A hand, its bench and the time."""

    def __init__(self, person: OperatorConfig = CALM, config: HandConfig | None = None) -> None:
        self.bench, self.now_s = Bench(), 0.0
        self.hand = Hand(config or HandConfig(), person, TASK, KINEMATICS, self.bench, seed=3)
        self.status = Status(Phase.ACTING, Mode.DEMONSTRATION, ("run", 0), 0)

    def tick(self, count: int = 1, **status: object) -> None:
        self.status = replace(self.status, **status)
        for _ in range(count):
            self.bench.follow()
            look = Look((self.bench.cube, np.array([0.0, 0.0, 0.0, 1.0])), self.bench.robot.copy())
            self.hand.step(self.now_s, self.status, look)
            self.now_s += 0.1

    def until_a_key(self, most: int) -> int:
        for count in range(most):
            if self.bench.keys:
                return count
            self.tick()
        raise AssertionError(f"no key was pressed within {most} ticks")


def test_the_cube_is_put_back_once_and_ready_is_said_when_the_leader_has_come():
    evening = Evening()
    evening.bench.leader = ABOVE + 0.5
    evening.tick(14, phase=Phase.SET_OUT)
    assert evening.bench.placed == 0
    evening.tick(4, phase=Phase.READY)
    assert evening.bench.placed == 1 and evening.bench.keys == []
    evening.bench.leader = ABOVE.copy()
    evening.tick(20)
    assert evening.bench.placed == 1 and evening.bench.keys == ["KEY_F5"] and not evening.bench.held
    evening.tick(15)
    assert evening.bench.keys == ["KEY_F5"] * 2, "nobody heard it"
    evening.tick(1, phase=Phase.ACTING)
    evening.tick(40, phase=Phase.SET_OUT)
    assert evening.bench.placed == 2


def test_in_an_evaluation_nobody_waits_for_the_leader():
    evening = Evening()
    evening.bench.leader = ABOVE + 0.5
    evening.tick(14, phase=Phase.SET_OUT, mode=Mode.EVALUATION)
    evening.tick(4, phase=Phase.READY)
    assert evening.bench.placed == 1 and evening.bench.keys == ["KEY_F5"]


def test_a_demonstration_ends_with_the_cube_in_the_jaws_and_one_success():
    evening = Evening()
    assert evening.until_a_key(200) > 20
    assert evening.bench.keys == ["KEY_F9"] and evening.hand.eyes.held()
    still = evening.bench.leader.copy()
    evening.tick(30)
    assert evening.bench.keys == ["KEY_F9"] and evening.bench.held and (evening.bench.leader == still).all(), "it keeps still"
    evening.tick(1, phase=Phase.SET_OUT)
    assert not evening.bench.held


def test_the_leader_is_taken_only_when_it_has_come_to_the_robot():
    evening = Evening()
    evening.bench.leader = ABOVE + 0.5
    evening.tick(30)
    assert not evening.bench.held
    evening.bench.leader = ABOVE.copy()
    evening.tick(2)
    assert evening.bench.held


@pytest.mark.parametrize(("gripper", "held"), [(0.0, False), (0.13, True), (0.27, True), (0.4, False)])
def test_a_cube_between_the_jaws_looks_held_across_its_faces_and_across_its_corners(gripper: float, held: bool):
    eyes, arm = Eyes(KINEMATICS), np.append(ABOVE[:-1], gripper)
    pose = KINEMATICS.forward(arm)
    for _ in range(4):
        eyes.take(Look((pose.position + 0.0125 * pose.rotation[:, 0], np.array([0.0, 0.0, 0.0, 1.0])), arm))
    assert eyes.held() is held


@pytest.mark.parametrize("number", range(5))
def test_what_is_to_be_no_success_ends_as_a_failure_and_the_word_is_about_what_is_seen(number):
    evening = Evening(replace(CALM, failures_every=1))
    evening.tick(1, number=number)
    attempt = evening.hand.operator.attempt
    assert attempt is not Attempt.GRASP
    evening.until_a_key(200)
    if attempt is Attempt.RELEASE:  # labels are made of these words: the cube is held from one to the other
        assert evening.bench.keys == ["KEY_F9"]
        assert evening.hand.eyes.held()
        evening.bench.keys.clear()
        assert evening.until_a_key(30) > 3
        assert not evening.hand.eyes.held()
    assert evening.bench.keys == ["KEY_F10"]
    evening.tick(10)
    assert evening.bench.keys == ["KEY_F10"]


def test_a_cube_that_was_caught_by_mistake_is_no_failure():
    """The hand gave up in the tick in which the jaws had closed on the cube: its frames were labelled as no success."""

    def nearly(failure_ticks: int) -> Evening:
        evening = Evening(replace(CALM, failures_every=1, failure_ticks=failure_ticks))
        evening.tick(1, number=0)
        assert evening.hand.operator.attempt is Attempt.NEARLY
        evening.hand.operator._miss[:] = 0.0
        return evening

    evening, ticks = nearly(1000), 1
    while not evening.hand.eyes.held():
        evening.tick()
        ticks += 1
        assert ticks < 200
    for late in range(-2, 4):
        evening = nearly(ticks + late)
        evening.until_a_key(200)
        assert evening.bench.keys == (["KEY_F10"] if late < 0 else ["KEY_F9"])
        assert evening.hand.eyes.held() is (late >= 0)


def test_in_training_hands_are_off_until_the_robot_is_stuck_and_off_again_after_success():
    person = replace(CALM, stuck_ticks=30)
    evening = Evening(person, HandConfig(overrule_s=-1.0))
    evening.tick(29, mode=Mode.TRAINING)
    assert not evening.bench.held
    evening.tick(5)
    assert evening.bench.held
    evening.tick(150)
    assert not evening.bench.held and evening.bench.keys == [], "the classifier judges"
    evening.tick(2, success=True)
    assert not evening.bench.held


def test_a_person_overrules_a_classifier_that_does_not_see_success():
    evening = Evening(replace(CALM, stuck_ticks=5), HandConfig(overrule_s=1.0))
    evening.tick(1, mode=Mode.TRAINING)
    evening.until_a_key(200)
    assert evening.bench.keys == ["KEY_F9"]


def grip(evening: Evening) -> None:
    """Put the cube between the robot's jaws, and these on it."""
    bench = evening.bench
    bench.robot[-1] = 0.12
    pose = KINEMATICS.forward(bench.robot)
    bench.cube = pose.position + 0.0125 * pose.rotation[:, 0]
    bench._late = deque([bench.robot.copy()] * 3)


def test_in_evaluation_the_person_only_judges():
    evening = Evening()
    evening.tick(40, mode=Mode.EVALUATION)
    assert not evening.bench.held and evening.bench.keys == []
    evening.tick(1, phase=Phase.VERDICT)
    assert evening.bench.keys == ["KEY_F10"]
    evening.tick(31, phase=Phase.SET_OUT)
    evening.bench.keys.clear()
    grip(evening)
    evening.tick(20, phase=Phase.ACTING, episode=("run", 1))
    assert evening.bench.keys == ["KEY_F9"] and not evening.bench.held


def test_nothing_is_done_while_nothing_concerns_the_person():
    evening = Evening()
    evening.tick(5)
    assert evening.bench.held
    evening.tick(50, phase=Phase.APART)
    assert not evening.bench.held and evening.bench.keys == [] and evening.bench.placed == 0


def test_a_range_the_wrong_way_round_is_one_sentence():
    with pytest.raises(StationError, match=r"hand\.cube_x_m is"):
        HandConfig(cube_x_m=(0.3, 0.2))
