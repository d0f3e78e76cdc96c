# SPDX-License-Identifier: Apache-2.0
"""Tests that run side by side are in ROS graphs of their own, and the longest begin first."""

from __future__ import annotations

import os
import tempfile
from importlib.util import find_spec

import pytest

DOMAINS = 10  # that the tests of one worker may use, from ROS_DOMAIN_ID on
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

worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
if find_spec("hilserl_ros"):  # hilserl_core and so101_description are tested without ROS, too
    from hilserl_ros.transport import use_udp

    use_udp(os.environ)
os.environ["ROS_DOMAIN_ID"] = str(int(os.environ.get("ROS_DOMAIN_ID") or 0) + DOMAINS * int(worker))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A worker that begins a long file when the other is done leaves that one idle."""
    items.sort(key=lambda item: item.path.name not in LONGEST)
