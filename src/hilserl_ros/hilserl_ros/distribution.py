# SPDX-License-Identifier: Apache-2.0
"""Which ROS 2 distribution this is."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, version

UNKNOWN = "unknown"
# By rclpy's version, since ROS_DISTRO names the ROS that a shell has sourced, which need not be the one that runs.
_BY_RCLPY = {"7": "jazzy", "9": "kilted"}


def distribution() -> str:
    """Its name, such as jazzy; `unknown` where neither rclpy's version nor ROS_DISTRO says it."""
    try:
        major = version("rclpy").split(".")[0]
    except PackageNotFoundError:
        major = ""
    return _BY_RCLPY.get(major) or os.environ.get("ROS_DISTRO") or UNKNOWN
