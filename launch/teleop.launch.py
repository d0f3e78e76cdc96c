# SPDX-License-Identifier: Apache-2.0
"""ros2 launch reach_grasp teleop.launch.py; its nodes are described in reach_grasp.systems."""

from launch import LaunchDescription
from reach_grasp.launch_actions import launch_description


def generate_launch_description() -> LaunchDescription:
    return launch_description("teleop")
