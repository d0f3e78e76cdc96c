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


def joint_state(clock: Clock, time_s: float, positions: np.ndarray, velocities: np.ndarray) -> JointState:
    """positions, velocities: (J,) rad, rad/s, read at time_s on the steady clock, which becomes a stamp of `clock`."""
    age_ns = round((time.monotonic() - time_s) * 1e9)
    message = JointState(name=list(JOINTS))
    message.header.stamp = to_stamp(clock.now().nanoseconds - age_ns)
    message.position = array.array("d", positions)
    message.velocity = array.array("d", velocities)
    return message
