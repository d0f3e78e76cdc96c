# SPDX-License-Identifier: Apache-2.0
"""rviz's layout against a running system: each display gets messages of its type. rviz itself is not on the package index."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import rclpy
import yaml
from ament_index_python.packages import get_package_share_directory
from geometry_msgs.msg import PoseStamped
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import Image
from visualization_msgs.msg import Marker

from reach_grasp.process import background
from reach_grasp.specs import NodeSpec
from reach_grasp.systems import nodes_of

LAYOUT = Path(get_package_share_directory("so101_description")) / "rviz" / "so101.rviz"
REFERENCE = Path(__file__).parents[3] / "docs" / "reference.md"
# The message each class of display subscribes to, as rviz_default_plugins' plugins_description.xml says.
TYPES = {"Pose": PoseStamped, "Marker": Marker, "Image": Image}
WITHOUT_TOPIC = {"Grid", "TF"}  # TF listens to tf and tf_static


@pytest.fixture
def viewer(prefix) -> None:
    """Stand-ins for what comes with a full ROS 2: they start and do nothing."""
    for package in ("robot_state_publisher", "rviz2"):
        prefix.add(package, package, "time.sleep(600)")


def layout() -> dict[str, Any]:
    return yaml.safe_load(LAYOUT.read_text())["Visualization Manager"]


def displays() -> dict[str, dict[str, Any]]:
    """By name, those that subscribe to a topic which one of our nodes publishes."""
    items = [item for item in layout()["Displays"] if item["Class"].split("/")[1] not in WITHOUT_TOPIC | {"RobotModel"}]
    return {item["Name"]: item for item in items}


def quality(topic: dict[str, Any]) -> QoSProfile:
    """As rviz subscribes."""
    return QoSProfile(
        depth=topic["Depth"],
        reliability=QoSReliabilityPolicy[topic["Reliability Policy"].upper().replace(" ", "_")],
        durability=QoSDurabilityPolicy[topic.get("Durability Policy", "Volatile").upper().replace(" ", "_")],
    )


def specs() -> dict[str, NodeSpec]:
    return {spec.name: spec for spec in nodes_of("sim", {"use_rviz": "true", "namespace": "left"})}


def test_every_display_that_is_on_gets_messages_of_a_running_system(viewer, tmp_path, wait_for):
    domain = int(os.environ.get("ROS_DOMAIN_ID", "0"))
    context, seen = Context(), {}
    rclpy.init(context=context, domain_id=domain)
    node = rclpy.create_node("rviz2", namespace="left", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    shown = {name: item for name, item in displays().items() if item["Enabled"]}
    for name, item in shown.items():
        kind, topic = TYPES[item["Class"].split("/")[1]], item["Topic"]
        node.create_subscription(kind, topic["Value"], partial(seen.__setitem__, name), quality(topic))
    arguments, log = {"use_rviz": "true", "namespace": "left"}, tmp_path / "log.txt"
    try:
        with background("sim", arguments, log, {"ROS_DOMAIN_ID": str(domain)}) as process:

            def complete() -> bool:
                executor.spin_once(timeout_sec=0.2)
                whole = seen.keys() == shown.keys() and seen["Gripper trail"].points and "success" in seen["Reward"].text
                return whole or process.poll() is not None

            wait_for(complete, 200.0)
            assert process.poll() is None, log.read_text()
            assert seen.keys() == shown.keys(), f"silent: {shown.keys() - seen.keys()}"
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)
    frame = layout()["Global Options"]["Fixed Frame"]
    assert {seen[name].header.frame_id for name in ("Cube", "Reward", "Gripper trail")} == {frame}
    assert seen["Reward"].text == "success 0 %, reward 0"
    tip = seen["Gripper trail"].points[-1]
    assert 0.1 < tip.x < 0.4 and abs(tip.y) < 0.1 and 0.0 < tip.z < 0.3, "the gripper at rest before the arm"


def test_a_display_that_is_off_names_what_the_reference_has():
    rows = [line.split(" | ") for line in REFERENCE.read_text().splitlines() if line.startswith("| `")]
    types = {row[0].strip("|` "): row[1] for row in rows}
    off = [item for item in displays().values() if not item["Enabled"]]
    assert [item["Topic"]["Value"] for item in off] == ["reward/image"]
    for item in off:
        kind = TYPES[item["Class"].split("/")[1]]
        assert types[item["Topic"]["Value"]].split("/") == [kind.__module__.split(".")[0], kind.__name__]


def test_the_arm_is_the_description_that_robot_state_publisher_gets(viewer):
    (model,) = (item for item in layout()["Displays"] if item["Class"] == "rviz_default_plugins/RobotModel")
    topic = model["Description Topic"]
    # robot_state_publisher's own topic: its parameter of the same name, reliable and latched.
    assert (topic["Value"], topic["Durability Policy"]) == ("robot_description", "Transient Local")
    robot = ElementTree.fromstring(specs()["robot_state_publisher"].parameters["robot_description"])
    links = {link.get("name") for link in robot.iter("link")}
    assert layout()["Global Options"]["Fixed Frame"] in links
    assert {f"{camera}_camera_optical_frame" for camera in ("wrist", "front")} <= links
    for mesh in robot.iter("mesh"):
        package, _, file = mesh.get("filename").removeprefix("package://").partition("/")
        assert (Path(get_package_share_directory(package)) / file).is_file()
    assert any(robot.iter("visual"))


def test_rviz_opens_this_layout_where_the_system_is(viewer):
    started = specs()
    assert list(started) == ["sim", "robot_state_publisher", "overlay", "rviz2"]
    assert started["rviz2"].arguments == ("-d", str(LAYOUT))
    for name in ("robot_state_publisher", "rviz2"):
        assert started[name].namespace == "left" and dict(started[name].remappings)["/tf"] == "tf"
    topics = [item["Topic"]["Value"] for item in displays().values()]
    assert not [topic for topic in topics if topic.startswith("/")], "an absolute name would leave the namespace"
