# SPDX-License-Identifier: Apache-2.0
"""How Fast DDS carries messages: UDP alone, also inside one machine. Other middleware ignores it.

Fast DDS's shared memory can make a node deaf for good. A process listens at "ports", segments in /dev/shm with known names. A
newcomer that opens one and finds it in use but unwell (its owner is starved, or was killed) replaces it by a new one
of the same name, under a lock that is broken after two seconds. Then the two hold different segments: they are
matched, and what is sent goes nowhere (seen with Fast DDS 3.2.2; `docs/architecture.md`).

Who has chosen profiles or transports already is left alone.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from pathlib import Path

from hilserl_ros.distribution import distribution

LOCAL = Path(__file__).with_name("local.xml")
NETWORK = Path(__file__).with_name("network.xml")
_PROFILES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
"""Fast DDS 3 (since Kilted) reads the first, and Kilted warns of the second; Fast DDS 2 (up to Jazzy) reads that alone."""
_TRANSPORTS = "FASTDDS_BUILTIN_TRANSPORTS"


def use_udp(environment: MutableMapping[str, str]) -> None:
    """No shared memory, and sockets that hold whole images; to be called before rclpy starts."""
    environment.update(_profile(environment, LOCAL))


def small_datagrams(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables for a process whose messages cross a network that loses frames.

    By itself Fast DDS sends datagrams of 64 KiB. The network cuts each into 45 frames, and one that is lost loses them all:
    where every tenth is, hardly any gets through. A datagram that fits into a frame is lost, and sent again, alone.
    """
    return _profile(environment, NETWORK)


def _profile(environment: Mapping[str, str], path: Path) -> dict[str, str]:
    if any(environment.get(name) not in (None, "", str(LOCAL)) for name in (*_PROFILES, _TRANSPORTS)):
        return {}
    return dict.fromkeys(_PROFILES[:1] if distribution() == "kilted" else _PROFILES, str(path))
