# SPDX-License-Identifier: Apache-2.0
"""What a person who moves the leader wants of the robot, in the policy's action space."""

from __future__ import annotations

import numpy as np

from hilserl_core.kinematics import Kinematics
from hilserl_core.task import TaskSpec


def steer(leader: np.ndarray, robot: np.ndarray, task: TaskSpec, kinematics: Kinematics) -> np.ndarray:
    """The action (A,) float32 in [-1, 1] that moves the robot's target pose towards the leader's pose.

    leader: (J,) rad, measured. robot: (J,) rad, as commanded, since actions add to the commanded pose. What the leader shows
    outside the task's workspace counts as its border, so that an action never asks for what is not carried out.
    """
    wanted = np.clip(kinematics.forward(leader).position, task.workspace_min_m, task.workspace_max_m)
    gripper = np.clip(leader[-1], task.gripper_min_rad, task.gripper_max_rad)
    error = (wanted - kinematics.forward(robot).position) / task.action_scale_m
    action = np.append(error, (gripper - robot[-1]) / task.gripper_step_rad)
    return np.clip(action, -1.0, 1.0).astype(np.float32)
