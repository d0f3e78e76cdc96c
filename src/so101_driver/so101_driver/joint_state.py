# SPDX-License-Identifier: Apache-2.0
"""What was read of an arm as a message."""

from __future__ import annotations

import array
import time

import numpy as np
from rclpy.clock import Clock
from sensor_msgs.msg import JointState

from hilserl_ros.convert import to_stamp
from so101_description import JOINTS


def joint_state(
    stamp_ns: int, positions: np.ndarray, velocities: np.ndarray, efforts: np.ndarray | None = None
) -> JointState | None:
    """The message; None while one of its values is not known. positions, velocities, efforts: (J,) rad, rad/s, N·m."""
    known = (positions, velocities) if efforts is None else (positions, velocities, efforts)
    if not all(np.isfinite(values).all() for values in known):
        return None
    message = JointState(name=list(JOINTS))
    message.header.stamp = to_stamp(stamp_ns)
    message.position = array.array("d", positions)
    message.velocity = array.array("d", velocities)
    if efforts is not None:
        message.effort = array.array("d", efforts)
    return message


def stamp_of(clock: Clock, time_s: float) -> int:
    """When something was read, at time_s on the steady clock, by `clock` [ns]."""
    return clock.now().nanoseconds - round((time.monotonic() - time_s) * 1e9)
