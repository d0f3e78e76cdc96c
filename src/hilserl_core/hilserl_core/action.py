# SPDX-License-Identifier: Apache-2.0
"""From an action to joint targets: the target pose integrates the last commanded pose, IK turns it into joints."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hilserl_core.kinematics import Kinematics
from hilserl_core.task import TaskSpec


@dataclass(frozen=True)
class Command:
    """Joint targets of one tick.

    joints: (J,) rad in the task's order. action: (A,) float32, what was carried out after clamping to [-1, 1].
    reached: False when IK could not follow and the last targets are held.
    """

    joints: np.ndarray
    action: np.ndarray
    reached: bool


class Controller:
    """Integrates actions into a commanded gripper pose.

    A zero action holds still under gravity, because the last *commanded* pose is what moves. The commanded pose is latched
    anew from the measured joints on `latch`, and by itself when the arm lags more than `max_lag_m` behind.
    """

    def __init__(self, task: TaskSpec, kinematics: Kinematics, max_lag_m: float = 0.06) -> None:
        self.task = task
        self.kinematics = kinematics
        self.max_lag_m = max_lag_m
        self.position: np.ndarray | None = None  # (3,) commanded gripper position, base frame [m]
        self.gripper = 0.0  # commanded gripper joint [rad]
        self._joints: np.ndarray | None = None

    def latch(self, joints: np.ndarray) -> None:
        """Start from measured joints, (J,) rad: on reset and on take-over."""
        self.position = self._clamp(self.kinematics.forward(joints).position)
        self.gripper = float(np.clip(joints[-1], self.task.gripper_min_rad, self.task.gripper_max_rad))
        self._joints = np.array(joints, dtype=float)

    def latch_position(self, joints: np.ndarray) -> None:
        """Start from the measured position but keep the gripper's command: one that squeezes an object lags with reason."""
        if self.position is None:
            self.latch(joints)
        else:
            self.position = self._clamp(self.kinematics.forward(joints).position)

    def command(self, action: np.ndarray, joints: np.ndarray) -> Command:
        """Joint targets for an action, (A,) in [-1, 1] (clipped; NaN counts as 0), given the measured joints (J,) rad.

        Never raises: where IK fails the last targets are held.
        """
        action = np.clip(np.nan_to_num(np.asarray(action, np.float32)), -1.0, 1.0)
        if self.position is None or np.linalg.norm(self.kinematics.forward(joints).position - self.position) > self.max_lag_m:
            self.latch_position(joints)
        target = self._clamp(self.position + self.task.action_scale_m * action[:3].astype(float))
        gripper = float(
            np.clip(
                self.gripper + self.task.gripper_step_rad * float(action[3]),
                self.task.gripper_min_rad,
                self.task.gripper_max_rad,
            )
        )
        result = self.kinematics.inverse(target, joints, self.task.wrist_roll_rad, gripper)
        if result.ok:
            self.position, self._joints = target, result.joints
        else:
            self._joints = np.append(self._joints[:-1], gripper)
        self.gripper = gripper
        return Command(joints=self._joints.copy(), action=action, reached=result.ok)

    def hold(self) -> np.ndarray | None:
        """The last joint targets, (J,) rad; None before the first."""
        return None if self._joints is None else self._joints.copy()

    def _clamp(self, position: np.ndarray) -> np.ndarray:
        return np.clip(np.asarray(position, float), self.task.workspace_min_m, self.task.workspace_max_m)
