# SPDX-License-Identifier: Apache-2.0
"""From camera images and joints to what the network sees: the only place that crops, resizes and lays out the state."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np

from hilserl_core.task import TaskSpec


class ObservationError(ValueError):
    """A camera image or a joint reading that cannot become an observation."""


def network_image(image: np.ndarray, camera: str, task: TaskSpec) -> np.ndarray:
    """Rotate, crop and resize a camera image as the task says.

    image: (H, W, 3) uint8 RGB of the size in `task.camera_sizes`. Returns (image_size, image_size, 3) uint8, contiguous.
    Raises ObservationError for another size or type.
    """
    index = task.cameras.index(camera)
    width, height = task.camera_sizes[2 * index : 2 * index + 2]
    if image.shape != (height, width, 3) or image.dtype != np.uint8:
        raise ObservationError(
            f"camera '{camera}' delivers {image.dtype} {image.shape}, the task expects uint8 {(height, width, 3)}: "
            "set the camera's resolution or task.camera_sizes"
        )
    image = np.rot90(image, k=-(task.rotations_deg[index] // 90))
    top, left, crop_height, crop_width = task.crops[4 * index : 4 * index + 4]
    image = image[top : top + crop_height, left : left + crop_width]
    size = task.image_size
    if (crop_height, crop_width) != (size, size):
        shrinks = crop_height >= size and crop_width >= size
        image = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return np.ascontiguousarray(image)


def state_vector(
    positions: Mapping[str, float],
    velocities: Mapping[str, float],
    gripper_position: np.ndarray,
    gripper_euler: np.ndarray,
    task: TaskSpec,
) -> np.ndarray:
    """Lay out the state as `task.state` says.

    positions, velocities: joint name -> rad, rad/s. gripper_position: (3,) m. gripper_euler: (3,) rad, extrinsic xyz.
    Returns (state_size,) float32. Raises ObservationError when a joint is missing or a value is not finite.
    """
    missing = [joint for joint in task.joints if joint not in positions or joint not in velocities]
    if missing:
        raise ObservationError(f"joint_states lacks position or velocity of {missing}")
    parts = {
        "joint_positions": [positions[joint] for joint in task.joints],
        "joint_velocities": [velocities[joint] for joint in task.joints],
        "gripper_position": gripper_position,
        "gripper_euler": gripper_euler,
    }
    for part in task.state:
        if not np.isfinite(parts[part]).all():
            raise ObservationError(f"joint_states gives {part} that are not finite: {list(map(float, parts[part]))}")
    return np.concatenate([np.asarray(parts[part], np.float32) for part in task.state])
