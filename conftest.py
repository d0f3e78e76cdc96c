# SPDX-License-Identifier: Apache-2.0
"""Tests that run side by side are in ROS graphs of their own, and the longest begin first."""

from __future__ import annotations

import os
import random
import socket
import tempfile
from importlib.util import find_spec

import pytest

DOMAINS = 10  # that the tests of one process may use, from ROS_DOMAIN_ID on
LONGEST = (
    "test_station_walk.py",
    "test_training_system.py",
    "test_replay.py",
    "test_demo.py",
    "test_two_computers.py",
    "test_lerobot_train.py",
)

state = tempfile.TemporaryDirectory(prefix="reach-grasp-")
os.environ["XDG_STATE_HOME"] = state.name  # an emergency stop of a test is no user's

if find_spec("hilserl_ros"):  # hilserl_core and so101_description are tested without ROS, too
    from hilserl_ros.transport import use_udp

    use_udp(os.environ)


def take_domains(who: str = "reach-grasp tests") -> socket.socket:
    """Choose domains in which no other process tests, such as another worker's or package's under colcon test.

    They are taken until the answer is closed, which the kernel does for a process that ends. Any of the free ones is chosen,
    because a run that was killed may have left nodes behind. who: name of those that share no domain.
    """
    mark = socket.socket(socket.AF_UNIX)
    firsts = range(1, 100, DOMAINS)
    for first in random.sample(firsts, len(firsts)):
        try:
            mark.bind(f"\0{who}: ROS domain {first}")
        except OSError:
            continue
        os.environ["ROS_DOMAIN_ID"] = str(first)
        return mark
    raise pytest.UsageError("ten processes test on this computer, and each has ten of the ROS domains; wait for one to end")


mark = take_domains()
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"  # no robot of the network hears a test
for name in ("ROS_STATIC_PEERS", "ROS_DISCOVERY_SERVER"):
    os.environ.pop(name, None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A worker that begins a long file when the other is done leaves that one idle."""
    items.sort(key=lambda item: item.path.name not in LONGEST)
