# SPDX-License-Identifier: Apache-2.0
"""From the leader's joints to actions, and that these bring the robot's target there."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from hilserl_core.action import Controller
from hilserl_core.kinematics import Kinematics
from hilserl_core.task import TaskSpec
from so101_description import JOINTS, urdf_path
from so101_driver.steering import steer

TASK = TaskSpec()
ROBOT = np.array([0.0, -0.5, 0.6, 1.2, 1.56, 0.2])


@cache
def kinematics() -> Kinematics:
    return Kinematics(urdf_path(), JOINTS)


def moved(**by: float) -> np.ndarray:
    joints = ROBOT.copy()
    for joint, angle in by.items():
        joints[JOINTS.index(joint)] += angle
    return joints


def action(leader: np.ndarray) -> np.ndarray:
    return steer(leader, ROBOT, TASK, kinematics())


def test_the_same_pose_asks_for_nothing():
    np.testing.assert_allclose(action(ROBOT), 0.0, atol=1e-6)


def test_an_action_is_the_way_to_the_leader_in_units_of_the_task():
    leader = moved(shoulder_pan=0.03)
    way = kinematics().forward(leader).position - kinematics().forward(ROBOT).position
    found = action(leader)
    assert found.dtype == np.float32 and 0.1 < np.abs(found).max() < 1.0
    np.testing.assert_allclose(found[:3] * TASK.action_scale_m, way, atol=1e-6)
    np.testing.assert_allclose(action(moved(gripper=-0.06))[3], -0.06 / TASK.gripper_step_rad, rtol=1e-5)


def test_a_long_way_is_asked_for_as_fast_as_the_task_allows():
    found = action(moved(shoulder_pan=0.4, gripper=0.5))
    assert abs(found[1]) == 1.0 and found[3] == 1.0


def test_outside_the_workspace_it_asks_for_the_border():
    high = np.array([0.0, -1.7, 0.2, 0.2, 1.56, 1.7])
    assert kinematics().forward(high).position[2] > TASK.workspace_max_m[2]
    at_border = ROBOT.copy()
    at_border[-1] = TASK.gripper_max_rad
    below = TASK.workspace_max_m[2] - kinematics().forward(at_border).position[2]
    assert steer(high, at_border, TASK, kinematics())[2] == pytest.approx(min(1.0, below / TASK.action_scale_m))
    assert steer(high, at_border, TASK, kinematics())[3] == 0.0


def test_tick_by_tick_the_robots_target_comes_to_the_leaders_pose_and_stays():
    controller, leader = Controller(TASK, kinematics()), moved(shoulder_pan=0.3, shoulder_lift=0.1, gripper=0.3)
    controller.latch(ROBOT)
    joints = ROBOT
    for _ in range(15):
        joints = controller.command(steer(leader, joints, TASK, kinematics()), joints).joints
    np.testing.assert_allclose(controller.position, kinematics().forward(leader).position, atol=0.004)
    assert controller.gripper == pytest.approx(leader[-1], abs=1e-3)
    assert np.abs(steer(leader, joints, TASK, kinematics())).max() < 0.2
