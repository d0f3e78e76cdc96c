# SPDX-License-Identifier: Apache-2.0
"""What the systems and config/ set is what the nodes declare, within the limits they declare."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ament_index_python.packages import get_package_share_directory

from dataset_recorder.settings import PlayerParameters, RecorderParameters
from hilserl_actor.settings import ActorParameters
from hilserl_core.policy import PolicySpec
from hilserl_core.task import TaskSpec
from hilserl_learner.learner_node import TABLES as LEARNER_TABLES
from hilserl_learner.settings import LearnerParameters
from hilserl_ros.parameters import build, entries
from reach_grasp.frames_node import FramesParameters
from reach_grasp.overlay_node import OverlayParameters
from reach_grasp.systems import nodes_of
from reward_classifier_node.node_settings import ClassifierNodeParameters
from so101_driver.handover import HandoverConfig
from so101_driver.mapping import Mapping
from so101_driver.safety_config import CommandLimits, SafetyConfig
from so101_driver.settings import CameraParameters, FollowerParameters, GamepadParameters, LeaderParameters, RelayParameters
from so101_sim.config import WorldConfig
from so101_sim.operator import OperatorConfig
from so101_sim.operator_node import OperatorParameters
from so101_sim.sim_node import SimParameters

SHARED = {"task.": TaskSpec, "policy.": PolicySpec}
NODES: dict[str, dict[str, type]] = {
    "follower": {"": FollowerParameters, "safety.": SafetyConfig},
    "command_relay": {"": RelayParameters, "safety.": CommandLimits},
    "leader": {"": LeaderParameters, "handover.": HandoverConfig},
    "wrist_camera": {"": CameraParameters},
    "keyboard": {"": GamepadParameters, "mapping.": Mapping},
    "sim": {"": SimParameters, "world.": WorldConfig},
    "operator": {"": OperatorParameters, "person.": OperatorConfig},
    "actor": {"": ActorParameters},
    "learner": {"": LearnerParameters, **LEARNER_TABLES},
    "player": {"": PlayerParameters},
    "recorder": {"": RecorderParameters},
    "reward_classifier": {"": ClassifierNodeParameters},
    "frames": {"": FramesParameters},
    "overlay": {"": OverlayParameters},
}


def flat(section: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found = {}
    for key, value in section.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found


def check(values: dict[str, Any], tables: dict[str, type]) -> None:
    """Raises or fails when a value would stop the node."""
    values = {key: value for key, value in values.items() if key != "use_sim_time"}
    known = {entry.key for prefix, table in tables.items() for entry in entries(table, prefix)}
    assert set(values) <= known
    for prefix, table in tables.items():
        mine = {entry.key: values[entry.key] for entry in entries(table, prefix) if entry.key in values}
        # A task is only whole once all files are read: single values are enough here.
        if table is not TaskSpec:
            build(table, mine, prefix)


@pytest.mark.parametrize("name", ["task", "policy", "sim", "train", "record", "eval", "bus", "station", "original_sac"])
def test_every_key_of_a_file_is_declared_by_its_node(name):
    file = Path(get_package_share_directory("reach_grasp")) / "config" / f"{name}.yaml"
    for target, content in yaml.safe_load(file.read_text()).items():
        tables = SHARED if target == "/**" else NODES[target.removeprefix("/**/")]
        check(flat(content["ros__parameters"]), tables)


@pytest.mark.parametrize("system", ["train", "robot", "learner", "record", "replay", "eval", "sim"])
def test_every_parameter_of_a_system_is_declared_by_its_node(system, tmp_path):
    needed = {"eval": ("checkpoint",), "replay": ("bag", "classifier")}
    for spec in nodes_of(system, dict.fromkeys(needed.get(system, ()), str(tmp_path))):
        check(dict(spec.parameters), NODES[spec.name])


STATION = {"sim": "false", "events": "keyboard"}


@pytest.mark.parametrize("given", [STATION, STATION | {"driver": "external"}, {"driver": "bus"}, {"teleop": "keyboard"}])
def test_so_are_those_of_an_arm_with_a_driver(given):
    for spec in nodes_of("train", given):
        check(dict(spec.parameters), NODES[spec.name])


def test_the_files_of_a_simulated_system_make_a_whole_task():
    values: dict[str, Any] = {}
    for file in nodes_of("train", {})[0].parameter_files:
        values |= flat(yaml.safe_load(file.read_text()).get("/**", {}).get("ros__parameters", {}))
    task = build(TaskSpec, {key: value for key, value in values.items() if key.startswith("task.")}, "task.")
    assert task.camera_sizes == (128, 128) and task.image_size == 128
