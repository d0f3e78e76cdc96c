# SPDX-License-Identifier: Apache-2.0
"""How Fast DDS sends what is large: here through shared memory, elsewhere over a network. Other middleware ignores it.

Both are the sender's, so that subscribers need nothing, and leave alone whoever has chosen profiles or transports already.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from pathlib import Path

PROFILES = Path(__file__).with_name("transport.xml")
_PROFILES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")  # since Kilted, up to Jazzy
_TRANSPORTS = "FASTDDS_BUILTIN_TRANSPORTS"


def make_room(environment: MutableMapping[str, str]) -> None:
    """Shared memory that holds whole images; to be called before rclpy starts."""
    if not _chosen(environment):
        environment[_PROFILES[environment.get("ROS_DISTRO") == "jazzy"]] = str(PROFILES)


def small_datagrams(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables for a process whose messages cross a network that loses frames.

    By itself Fast DDS sends datagrams of 64 KiB. The network cuts each into 45 frames, and one that is lost loses them all:
    where every tenth is, hardly any gets through. A datagram that fits into a frame is lost, and sent again, alone.
    """
    return {} if _chosen(environment) else {_TRANSPORTS: "DEFAULT?max_msg_size=1400B"}


def _chosen(environment: Mapping[str, str]) -> bool:
    return any(environment.get(name) for name in (*_PROFILES, _TRANSPORTS))
