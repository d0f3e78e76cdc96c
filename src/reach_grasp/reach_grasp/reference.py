# SPDX-License-Identifier: Apache-2.0
"""Writes docs/reference.md: topics and services as a running training has them, parameters as the nodes declare them."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import rclpy
import yaml
from rclpy.context import Context
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, ReliabilityPolicy

from dataset_recorder.settings import PlayerParameters, RecorderParameters
from hilserl_actor.settings import ActorParameters
from hilserl_core.policy import PolicySpec
from hilserl_core.sac import SacConfig
from hilserl_core.task import TaskSpec
from hilserl_core.training import TrainingConfig
from hilserl_learner.settings import LearnerParameters
from hilserl_ros.parameters import Entry, entries
from hilserl_ros.transport import use_udp
from reach_grasp.frames_node import FramesParameters
from reach_grasp.overlay_node import OverlayParameters
from reach_grasp.process import background
from reach_grasp.task_files import task_of
from reward_classifier_node.artifact import write_artifact
from reward_classifier_node.model import Classifier, Shape
from reward_classifier_node.node_settings import ClassifierNodeParameters
from reward_classifier_node.settings import ClassifierSettings
from reward_classifier_node.trunk import new_trunk
from so101_driver.handover import HandoverConfig
from so101_driver.mapping import Mapping
from so101_driver.safety_config import CommandLimits, SafetyConfig
from so101_driver.settings import CameraParameters, FollowerParameters, GamepadParameters, LeaderParameters, RelayParameters
from so101_sim.config import WorldConfig
from so101_sim.hand_node import HandParameters
from so101_sim.operator import OperatorConfig
from so101_sim.operator_node import OperatorParameters
from so101_sim.sim_node import SimParameters
from so101_sim.station.hand import HandConfig
from so101_sim.twin_node import TwinParameters

NODES = ("sim", "operator", "frames", "reward_classifier", "recorder", "actor", "learner")
TABLES: tuple[tuple[str, str, type], ...] = (
    ("Every node: the task", "task.", TaskSpec),
    ("Actor and learner: the network", "policy.", PolicySpec),
    ("actor", "", ActorParameters),
    ("learner", "", LearnerParameters),
    ("learner: the algorithm", "sac.", SacConfig),
    ("learner: from demonstrations to training", "training.", TrainingConfig),
    ("recorder", "", RecorderParameters),
    ("player", "", PlayerParameters),
    ("reward_classifier", "", ClassifierNodeParameters),
    ("sim", "", SimParameters),
    ("sim: the world", "world.", WorldConfig),
    ("operator", "", OperatorParameters),
    ("operator: the person", "person.", OperatorConfig),
    ("twin: what is true, and what a person sees of it", "", TwinParameters),
    ("hand: the scripted person beside the twin", "", HandParameters),
    ("hand: how they behave", "hand.", HandConfig),
    ("follower: the real arm", "", FollowerParameters),
    ("follower: what a command passes", "safety.", SafetyConfig),
    ("command_relay: before somebody else's driver", "", RelayParameters),
    ("command_relay: what a command passes", "safety.", CommandLimits),
    ("leader: the arm in the person's hand", "", LeaderParameters),
    ("leader: who drives", "handover.", HandoverConfig),
    ("gamepad: a gamepad or keyboard", "", GamepadParameters),
    ("gamepad: what its controls mean", "mapping.", Mapping),
    ("camera: a real camera", "", CameraParameters),
    ("frames: tf and robot_description", "", FramesParameters),
    ("overlay: reward and trail as markers", "", OverlayParameters),
)
TEXTS = {
    "/clock": "Simulated time; of a system in a namespace `<namespace>/clock`.",
    "cube_pose": "Where the cube is, for tools and the scripted person only; the policy never sees it.",
    "episode/event": "What the person says: success, failure, again, stop, pause, resume. Each acts once.",
    "episode/result": "How an episode ended, and who judged it; once, after its last step.",
    "episode/status": "What the actor is doing; stamped with the observation it belongs to.",
    "estop": "Whether the arm is stopped until a person clears it.",
    "front/camera_info": "Pinhole model of the front camera.",
    "front/image_raw": "The front camera, drawn only while somebody watches.",
    "joint_command": "One point per tick, stamped with the observation it answers.",
    "joint_states": "Positions, velocities and efforts, stamped when they were read.",
    "learner/status": "Phase, counters and the newest measures of the learner.",
    "policy": "The trained parameters the actor needs, as safetensors bytes.",
    "policy/frozen": "Image encoder and normalisation, which stay as they are during a run.",
    "reward": "What the image with this stamp says about success; without a classifier, sim publishes its truth here too.",
    "reward/image": "What the classifier saw, with its verdict, while somebody watches.",
    "steps": "Every step of every episode, numbered; sent again until acknowledged.",
    "steps/ack": "What the learner has journalled (without one: what the recorder has on disk), and what it lacks.",
    "truth": "What the simulator knows: probability 1 while the cube is pinched in this frame, success after three in a row.",
    "teleop": "What counted of the sources below, published by the actor once for each observation it takes.",
    "teleop/operator": "What this source wants, in the policy's action space; others: console, keyboard, gamepad, leader.",
    "wrist/camera_info": "Pinhole model of the wrist camera.",
    "wrist/image_raw": "The camera the policy sees.",
    "robot_description": "The arm as a URDF, by the node frames or robot_state_publisher.",
    "tf": "Where each link of the arm is, while somebody listens.",
    "tf_static": "Frames of the arm that do not move.",
    "/diagnostics": "What nodes of every namespace report: recorder (messages dropped), classifier (rate, latency), devices.",
    "leader/joint_states": "The leader arm's joints.",
    "learner/save_checkpoint": "Write a checkpoint now.",
    "reward_classifier/restart": "Forget every frame: what comes now follows none, and its time may be any.",
    "recorder/change_state": "Move the recorder to another lifecycle state.",
    "recorder/discard_episode": "Forget the episode that is being recorded.",
    "recorder/get_available_states": "The recorder's lifecycle states.",
    "recorder/get_available_transitions": "Transitions possible from the recorder's state.",
    "recorder/get_state": "The recorder's lifecycle state.",
    "recorder/get_transition_graph": "All transitions between the recorder's states.",
    "recorder/rerecord_episode": "Forget the episode that is being recorded and begin it again.",
    "recorder/start_episode": "Begin a bag by hand.",
    "recorder/stop_episode": "End the bag.",
    "recorder/transition_event": "Changes of the recorder's lifecycle state.",
    "sim/reset": "Put the world into the state a seed determines.",
}
_HIDDEN = ("/parameter_events", "/rosout")
_ABSOLUTE = ("/clock", "/diagnostics")
_HEAD = """# Reference

Topics and services as a running training has them, parameters as the nodes declare them. Names without a slash in front
are relative: the whole suite moves under any namespace. Generated by `python -m reach_grasp.reference docs/reference.md`.
"""


def graph(domain: int, timeout_s: float = 240.0) -> tuple[list[list[str]], list[list[str]]]:
    """Start a training, read its ROS graph. Returns the rows of the table of topics and of that of services.

    Raises TimeoutError when a node does not come up.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        context = Context()
        use_udp(os.environ)
        rclpy.init(context=context, domain_id=domain)
        node = rclpy.create_node("reference", context=context)
        config = path / "all.yaml"  # a simulation leaves out what is only drawn for the recorder
        everything = {"/**/recorder": {"ros__parameters": {"topics": list(RecorderParameters().topics)}}}
        config.write_text(yaml.safe_dump(everything))
        _write_classifier(path / "classifier")
        arguments = {"run": path / "run", "record": "true", "config": config, "classifier": path / "classifier"}
        try:
            with background("train", arguments, path / "log.txt", {"ROS_DOMAIN_ID": str(domain)}):
                end = time.monotonic() + timeout_s
                wanted = {name.split("/")[-1] for name in NODES}
                while not (wanted <= set(node.get_node_names()) and _services(node, "learner") and _all_recorded(node)):
                    if time.monotonic() > end:
                        raise TimeoutError(f"the nodes did not come up: {(path / 'log.txt').read_text()[-2000:]}")
                    time.sleep(0.5)  # each look costs the nodes time too
                return _topics(node), [row for name in NODES for row in _services(node, name)]
        finally:
            node.destroy_node()
            rclpy.shutdown(context=context)


def _write_classifier(folder: Path) -> None:
    """One that knows nothing: its node is there for its topics."""
    settings, task = ClassifierSettings(), task_of(None)
    write_artifact(folder, Classifier(Shape.of(settings, task), new_trunk(settings)), task, 0.5, {})


def _all_recorded(node: Node) -> bool:
    """Whether the classifier has begun, and the recorder has found every topic that somebody publishes."""
    taken = {topic.removeprefix("/") for topic, _ in node.get_subscriber_names_and_types_by_node("recorder", "/")}
    judged = node.get_publisher_names_and_types_by_node("reward_classifier", "/")
    found = all(topic.removeprefix("/") in taken or not node.count_publishers(topic) for topic in RecorderParameters().topics)
    moved = node.get_subscriber_names_and_types_by_node("frames", "/")  # begins when the recorder listens
    return found and "/reward/image" in dict(judged) and "/joint_states" in dict(moved)


def _topics(node: Node) -> list[list[str]]:
    users: dict[str, tuple[set[str], set[str]]] = defaultdict(lambda: (set(), set()))
    kinds: dict[str, str] = {}
    for name in NODES:
        for side, query in enumerate((node.get_publisher_names_and_types_by_node, node.get_subscriber_names_and_types_by_node)):
            for topic, types in query(name, "/"):
                if topic not in _HIDDEN:
                    users[topic][side].add(name)
                    kinds[topic] = types[0].replace("/msg/", "/")
    rows = []
    for topic in sorted(users):
        offers = node.get_publishers_info_by_topic(topic)
        name = topic if topic in _ABSOLUTE else topic.removeprefix("/")
        publishers, subscribers = (", ".join(sorted(side)) for side in users[topic])
        quality = _quality(offers[0].qos_profile) if offers else "as its publisher"
        rows.append([f"`{name}`", kinds[topic], publishers or "the person", subscribers or "tools", quality, TEXTS[name]])
    return rows


def _quality(profile: object) -> str:
    reliable = "reliable" if profile.reliability == ReliabilityPolicy.RELIABLE else "best effort"
    return reliable + (", latched" if profile.durability == DurabilityPolicy.TRANSIENT_LOCAL else "")


def _services(node: Node, name: str) -> list[list[str]]:
    own = [
        (service.removeprefix("/"), types[0].replace("/srv/", "/"))
        for service, types in node.get_service_names_and_types_by_node(name, "/")
        if "rcl_interfaces" not in types[0] and "type_description" not in types[0]
    ]
    return [[f"`{service}`", kind, TEXTS[service]] for service, kind in own]


def _parameters(prefix: str, table: type) -> list[list[str]]:
    def default(entry: Entry) -> str:
        value = list(entry.default) if isinstance(entry.default, tuple) else entry.default
        return f"`{value}`" if value != "" else "empty"

    return [
        [f"`{entry.key}`", default(entry), entry.allowed + (", while running" if entry.tunable else ""), entry.text]
        for entry in entries(table, prefix)
    ]


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]) + "\n"


def page(domain: int) -> str:
    """The reference as Markdown."""
    topics, services = graph(domain)
    parts = [_HEAD, "## Topics\n", _table(["topic", "type", "from", "to", "quality of service", "what"], topics)]
    parts += ["## Services\n", _table(["service", "type", "what"], services), "## Parameters\n"]
    for title, prefix, table in TABLES:
        parts += [f"### {title}\n", _table(["parameter", "default", "allowed", "what"], _parameters(prefix, table))]
    return "\n".join(parts)


def main(arguments: list[str] | None = None) -> int:
    """Command line: where to write, or `-`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", help="where to write the page; - for standard output")
    parser.add_argument("--domain", type=int, default=99, help="ROS domain to start the training in")
    chosen = parser.parse_args(arguments)
    text = page(chosen.domain)
    if chosen.file == "-":
        sys.stdout.write(text)
    else:
        Path(chosen.file).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
