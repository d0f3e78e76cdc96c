# SPDX-License-Identifier: Apache-2.0
"""Decode messages: those of one instant into an observation, a TeleopCommand into what the person wants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hilserl_actor.teleop import Teleop
from hilserl_core.kinematics import Kinematics
from hilserl_core.observation import ObservationError, network_image, state_vector
from hilserl_core.step import Observation
from hilserl_core.task import TaskSpec
from hilserl_interfaces.msg import TeleopCommand
from hilserl_ros.convert import joint_maps
from hilserl_ros.images import image_to_rgb


def read_observation(
    stamp_ns: int, parts: Mapping[str, Any], task: TaskSpec, kinematics: Kinematics
) -> tuple[Observation, np.ndarray]:
    """The observation of one instant and the joints (J,) rad.

    parts: `joints` and each camera by name -> message. Raises ObservationError, ImageError.
    """
    positions, velocities = joint_maps(parts["joints"])
    missing = [joint for joint in task.joints if joint not in positions]
    if missing:
        raise ObservationError(f"joint_states lacks the position of {missing}")
    joints = np.array([positions[joint] for joint in task.joints])
    if not np.isfinite(joints).all():
        raise ObservationError(f"joint_states holds positions that are not finite: {positions}")
    pose = kinematics.forward(joints)
    state = state_vector(positions, velocities, pose.position, pose.euler, task)
    images = {camera: network_image(image_to_rgb(parts[camera]), camera, task) for camera in task.cameras}
    return Observation(stamp_ns, state, images), joints


def read_teleop(message: TeleopCommand, source: str, task: TaskSpec) -> Teleop:
    """Decode the command of a teleop source. Raises ObservationError for an action of another size."""
    if not message.active:
        return Teleop(False)
    if len(message.action) != task.action_size:
        raise ObservationError(f"teleop/{source} sends {len(message.action)} numbers, expected {task.action_size}")
    return Teleop(True, np.array(message.action, np.float32))
