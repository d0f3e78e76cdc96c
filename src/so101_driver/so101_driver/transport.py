# SPDX-License-Identifier: Apache-2.0
"""Shared memory that holds whole images, for Fast DDS. It is the sender's, so that subscribers need nothing."""

from __future__ import annotations

from collections.abc import MutableMapping
from pathlib import Path

PROFILES = Path(__file__).with_name("transport.xml")
_NAMES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")  # since Kilted, up to Jazzy


def make_room(environment: MutableMapping[str, str]) -> None:
    """To be called before rclpy starts. Whoever has chosen profiles or transports keeps them."""
    if not any(environment.get(name) for name in (*_NAMES, "FASTDDS_BUILTIN_TRANSPORTS")):
        environment[_NAMES[environment.get("ROS_DISTRO") == "jazzy"]] = str(PROFILES)
