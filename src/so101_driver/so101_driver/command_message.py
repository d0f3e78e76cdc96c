# SPDX-License-Identifier: Apache-2.0
"""A joint command as it comes over the network: its size is looked at before anything is made of it."""

from __future__ import annotations

from rclpy.serialization import deserialize_message
from trajectory_msgs.msg import JointTrajectory

from hilserl_ros.convert import to_ns
from so101_driver.arm import Command
from so101_driver.errors import MessageError

MOST_BYTES = 4096
"""Room for six joints with long names; one of 200 bytes is usual."""


def read_command(data: bytes) -> tuple[int, Command]:
    """Stamp [ns] and command of a serialized JointTrajectory. Raises MessageError.

    A command of several points, or of none, has no positions.
    """
    if len(data) > MOST_BYTES:
        raise MessageError(f"it has {len(data)} bytes, expected at most {MOST_BYTES}")
    try:
        message = deserialize_message(data, JointTrajectory)
    except RuntimeError as error:
        raise MessageError(f"its {len(data)} bytes are no JointTrajectory") from error
    positions = message.points[0].positions if len(message.points) == 1 else ()
    return to_ns(message.header.stamp), Command(list(message.joint_names), list(positions))
