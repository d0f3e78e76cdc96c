# SPDX-License-Identifier: Apache-2.0
"""States as LeRobot records them, in degrees and per cent, become states as this project's nodes publish them."""

from __future__ import annotations

import numpy as np

from hilserl_core.task import STATE_PARTS, TaskSpec
from reach_grasp.errors import CommandError
from so101_description import joint_limits, urdf_path

RADIANS, LEROBOT = "rad", "lerobot"
UNITS = (RADIANS, LEROBOT)

_FULL_TURN_RAD = 2 * np.pi


def in_radians(states: np.ndarray, task: TaskSpec, units: str) -> np.ndarray:
    """States (n, S) float32 in the units and the order of `task.state`.

    units: `rad` for states that are so already; `lerobot` for joints in degrees and a gripper from 0 (closed) to 100 (open).
    Of the latter the gripper frame's pose is computed from the joints, because its angles are recorded in several ways.
    Raises CommandError for joint positions that cannot be in these units.
    """
    parts = _parts(task)
    if units == LEROBOT:
        states = states.copy()
        scale, offset = _scale(task)
        for name, shift in (("joint_positions", offset), ("joint_velocities", 0.0)):
            if name in parts:
                states[:, parts[name]] = states[:, parts[name]] * scale + shift
        _set_pose(states, parts, task)
    if "joint_positions" in parts:
        _check(states[:, parts["joint_positions"]], task, units)
    return states


def _parts(task: TaskSpec) -> dict[str, slice]:
    """Slice of the state vector for each part, by the part's name."""
    ends = np.cumsum([STATE_PARTS[part] or len(task.joints) for part in task.state])
    return {part: slice(start, end) for part, start, end in zip(task.state, [0, *ends[:-1]], ends, strict=True)}


def _scale(task: TaskSpec) -> tuple[np.ndarray, np.ndarray]:
    """Factor and offset, (J,) each, from LeRobot's numbers to radians, as `so101_driver.calibration` has them."""
    low, high = joint_limits()[task.joints[-1]]
    factor, offset = np.full(len(task.joints), np.pi / 180), np.zeros(len(task.joints))
    factor[-1], offset[-1] = (high - low) / 100, low
    return factor, offset


def _set_pose(states: np.ndarray, parts: dict[str, slice], task: TaskSpec) -> None:
    """Write the gripper frame's pose that belongs to the joint positions [rad] into the states (n, S)."""
    from hilserl_core.kinematics import Kinematics  # `ros2 launch` needs no kinematics, and may lack MuJoCo

    if "joint_positions" not in parts or not {"gripper_position", "gripper_euler"} & set(parts):
        return
    arm = Kinematics(urdf_path(), task.joints)
    for state in states:
        pose = arm.forward(state[parts["joint_positions"]])
        for name, value in (("gripper_position", pose.position), ("gripper_euler", pose.euler)):
            if name in parts:
                state[parts[name]] = value


def _check(positions: np.ndarray, task: TaskSpec, units: str) -> None:
    """Raise CommandError when a joint of positions (n, J) [rad] turned further than it can."""
    furthest = np.abs(positions).max(0)
    worst = int(furthest.argmax())
    if furthest[worst] <= _FULL_TURN_RAD:
        return
    hint = "LeRobot's degrees need --joint-units lerobot" if units == RADIANS else "radians need --joint-units rad"
    raise CommandError(
        f"observation.state has {task.joints[worst]} at {furthest[worst]:.4g} rad with --joint-units {units}, more than a "
        f"whole turn: {hint}"
    )
