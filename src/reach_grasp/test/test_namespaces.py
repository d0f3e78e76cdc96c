# SPDX-License-Identifier: Apache-2.0
"""Several systems in one ROS domain, each in a namespace of its own."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import rclpy
import yaml
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock

from hilserl_ros import qos
from hilserl_ros.convert import to_ns
from hilserl_ros.diagnostics import Diagnostics, status
from hilserl_ros.testing import Rig
from reach_grasp.process import node_command
from reach_grasp.running.monitor import Monitor
from reach_grasp.specs import NodeSpec
from reach_grasp.systems import nodes_of

PACES = {"left": "1.0", "right": "3.0"}


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig(0)
    yield rig
    rig.close()


def simulation(namespace: str, folder: Path) -> NodeSpec:
    """The node of the system `sim`, with small cameras."""
    file = folder / "small.yaml"
    file.write_text(yaml.safe_dump({"/**": {"ros__parameters": {"task": {"camera_sizes": [64, 64], "crops": [0, 0, 64, 64]}}}}))
    given = {"namespace": namespace, "real_time_factor": PACES[namespace], "config": str(file), "frames": "false"}
    (spec,) = nodes_of("sim", given)
    return spec


def test_two_simulations_in_one_domain_have_each_a_clock_of_their_own(rig, tmp_path):
    """Both told the time on /clock: for who listened it went backwards again and again."""
    specs = {namespace: simulation(namespace, tmp_path) for namespace in PACES}
    told: dict[str, list[int]] = {"/clock": [], "/left/clock": [], "/right/clock": []}

    def note(topic: str, message: Clock) -> None:
        told[topic].append(to_ns(message.clock))

    for topic in told:
        rig.node.create_subscription(Clock, topic, partial(note, topic), qos.newest(100))
    # A node of each system as it is started there, whose time is the simulation's.
    remapped = {name: [word for rule in spec.remappings for word in ("-r", ":=".join(rule))] for name, spec in specs.items()}
    members = {
        name: rclpy.create_node(
            "member",
            namespace=name,
            context=rig.context,
            cli_args=["--ros-args", *words],
            parameter_overrides=[Parameter("use_sim_time", value=True)],
        )
        for name, words in remapped.items()
    }
    heard: dict[str, list[int]] = {name: [] for name in members}
    for name, member in members.items():
        rig.executor.add_node(member)
        rig.spawn(node_command(specs[name], tmp_path))

    def both_went_on() -> bool:
        for name, member in members.items():
            heard[name].append(member.get_clock().now().nanoseconds)
        return all(len(told[f"/{name}/clock"]) > 20 and heard[name][-1] > 10**9 for name in members)

    rig.until(both_went_on, "both clocks")
    assert not told["/clock"] and not rig.node.get_publishers_info_by_topic("/clock")
    for name, member in members.items():
        assert told[f"/{name}/clock"] == sorted(told[f"/{name}/clock"]), name
        assert heard[name] == sorted(heard[name]), name
        (listener,) = [item for item in member.get_subscriptions_info_by_topic(f"/{name}/clock") if item.node_name == "member"]
        assert listener.node_namespace == f"/{name}"
        member.destroy_node()


@pytest.mark.parametrize("system", ["train", "sim"])
def test_every_node_of_a_simulation_takes_the_time_of_its_namespace(system, tmp_path, monkeypatch):
    for module in ("builder", "systems"):
        monkeypatch.setattr(f"reach_grasp.{module}.installed", lambda spec: True)  # rviz and robot_state_publisher
    for spec in nodes_of(system, {"namespace": "left", "use_rviz": "true"}):
        assert dict(spec.remappings)["/clock"] == "clock", spec.name


def test_a_real_arm_keeps_the_computers_time(tmp_path):
    assert not any(spec.remappings for spec in nodes_of("teleop", {"sim": "false", "namespace": "left"}))


def test_diagnostics_are_where_an_aggregator_looks_and_each_system_keeps_its_own(rig):
    """They were on <namespace>/diagnostics, which no aggregator reads, and named no hardware."""
    seen: dict[str, str] = {}
    subscribe = rig.node.create_subscription
    note = lambda message: seen.update({item.name: item.hardware_id for item in message.status})  # noqa: E731
    subscribe(DiagnosticArray, "/diagnostics", note, qos.DIAGNOSTICS)
    nodes = [rclpy.create_node("follower", namespace=name, context=rig.context) for name in ("left", "left/arm", "")]
    reports = [Diagnostics(node) for node in nodes]
    arm = [status("arm", DiagnosticStatus.OK, f"of {node.get_namespace()}", {"volts": 7.4}) for node in nodes]
    with Monitor(rig.domain, namespace="left") as monitor:

        def all_heard() -> bool:
            for report, item, hardware_id in zip(reports, arm, ("SO-101 1", "SO-101 2", ""), strict=True):
                item.name = "arm"
                report.publish([item], hardware_id)
            return len(seen) == 3 and "follower: arm" in monitor.told

        rig.until(all_heard, "diagnostics of three nodes")
        assert monitor.told == {"follower: arm": "of /left"} and monitor.diagnostics["follower: arm"] == {"volts": "7.4"}
    named = {"left/follower: arm": "SO-101 1", "left/arm/follower: arm": "SO-101 2", "follower: arm": platform.node()}
    assert seen == named and all(seen.values())
    for node in nodes:
        node.destroy_node()
