# SPDX-License-Identifier: Apache-2.0
"""A person shows the task to an arm that the real driver moves: every node, over DDS and an emulated servo bus."""

from __future__ import annotations

import os
import time
from pathlib import Path

from rclpy.serialization import deserialize_message
from rosbags.rosbag2 import Reader
from sensor_msgs.msg import JointState

from reach_grasp.process import background

TIMEOUT_S = 200.0


def test_a_demonstration_through_the_driver_is_recorded(tmp_path: Path) -> None:
    run, log = tmp_path / "run", tmp_path / "log.txt"
    arguments = {"driver": "bus", "demonstrations": 1, "run": run}
    bags, end = run / "bags", time.monotonic() + TIMEOUT_S
    with background("record", arguments, log, {"ROS_DOMAIN_ID": os.environ.get("ROS_DOMAIN_ID", "0")}) as process:
        while not list(bags.rglob("metadata.yaml")):
            assert process.poll() is None and time.monotonic() < end, log.read_text()
            time.sleep(0.1)
    (bag,) = (item.parent for item in bags.rglob("metadata.yaml"))
    with Reader(bag) as reader:
        joints = [raw for connection, _, raw in reader.messages() if connection.topic == "/joint_states"]
        steps = [raw for connection, _, raw in reader.messages() if connection.topic == "/steps"]
    efforts = [deserialize_message(raw, JointState).effort for raw in joints]
    assert len(steps) > 30 and len(joints) >= len(steps), "the demonstration, and 30 ticks after success"
    assert abs(efforts[-1][-1]) > 0.5, "the gripper presses on the cube, as its servo says"
