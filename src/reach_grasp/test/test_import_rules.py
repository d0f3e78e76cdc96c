# SPDX-License-Identifier: Apache-2.0
"""Who may import whom: arrows point one way, and what only moves data stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

ROS = {"rclpy", "ament_index_python", "builtin_interfaces", "sensor_msgs", "std_msgs", "std_srvs", "geometry_msgs"} | {
    "trajectory_msgs", "rcl_interfaces", "rosgraph_msgs", "diagnostic_msgs", "hilserl_interfaces", "hilserl_ros", "cv_bridge",
    "launch", "launch_ros", "visualization_msgs",
}  # fmt: skip
HEAVY = {"torch", "lerobot", "transformers", "tensorboard"}
NODES = {"dataset_recorder", "hilserl_actor", "hilserl_learner", "reward_classifier_node", "so101_driver", "so101_sim"}
# May import of ours; nothing else of ours is allowed.
ALLOWED = {
    "hilserl_core": {"so101_description"},
    "so101_description": set(),
    "hilserl_ros": {"hilserl_core", "hilserl_interfaces"},
    **{node: {"hilserl_core", "hilserl_interfaces", "hilserl_ros", "so101_description"} for node in NODES},
    "reach_grasp": NODES | {"hilserl_core", "hilserl_interfaces", "hilserl_ros", "so101_description"},
}
OURS = set(ALLOWED) | {"hilserl_interfaces"}
# Start fast and run on a small computer.
LIGHT = [
    "hilserl_core.task", "hilserl_core.observation", "hilserl_core.action", "hilserl_core.kinematics", "hilserl_core.step",
    "hilserl_core.step_log", "hilserl_core.delivery", "hilserl_ros.node", "hilserl_ros.convert", "hilserl_ros.images",
    "hilserl_ros.parameters", "so101_sim.sim_node", "so101_sim.operator_node", "reach_grasp.command", "reach_grasp.systems",
    "reach_grasp.frames_node",
    "reach_grasp.graph_server",
    "reach_grasp.overlay_node",
    "dataset_recorder.recorder_node",
    "dataset_recorder.player_node",
    "so101_driver.bus", "so101_driver.calibration", "so101_driver.finder", "so101_driver.safety",
    "so101_driver.follower_node",
    "so101_driver.command_relay_node",
    "so101_driver.leader_node",
    "so101_driver.backup", "so101_driver.doctor.station",
    "so101_driver.camera_node",
    "so101_driver.gamepad_node",
    "so101_sim.bus.emulator",
    "so101_sim.twin_node",
    "so101_sim.hand_node",
    "dataset_recorder.convert.conversion",
    "dataset_recorder.edit",
    "dataset_recorder.check",
    "dataset_recorder.review",
]  # fmt: skip


def files_of(package: str) -> list[Path]:
    (folder,) = find_spec(package).submodule_search_locations
    return sorted(Path(folder).rglob("*.py"))


def imports(file: Path) -> Iterator[str]:
    """Top-level names of every module that a file imports, at any depth of its code."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_a_package_imports_only_what_is_below_it(package):
    files = files_of(package)
    assert files
    wrong = {
        f"{file.name} imports {name}"
        for file in files
        for name in imports(file)
        if name in OURS and name != package and name not in ALLOWED[package]
    }
    assert not wrong


@pytest.mark.parametrize("package", ["hilserl_core", "so101_description"])
def test_the_core_knows_no_ros(package):
    assert not {f"{file.name} imports {name}" for file in files_of(package) for name in imports(file) if name in ROS}


@pytest.mark.parametrize("topic", ["twin/cube_seen", "twin/arm_seen", "twin/truth"])
def test_no_node_of_the_product_knows_what_only_the_twin_knows(topic):
    """The scripted hand sees what a person sees, and measurements know the truth; neither helps the robot."""
    readers = {
        file.name
        for package in OURS - {"hilserl_interfaces", "reach_grasp"}
        for file in files_of(package)
        if topic in file.read_text()
    }
    assert readers == ({"twin_node.py"} if topic == "twin/truth" else {"twin_node.py", "hand_node.py"})
    assert not {file.name for file in files_of("reach_grasp") if topic.endswith("_seen") and topic in file.read_text()}


def test_what_only_moves_data_loads_no_learning():
    """One after another in one process: the first that brings something heavy is named."""
    program = f"""
import importlib, sys
for module in {LIGHT!r}:
    importlib.import_module(module)
    if found := {{name.split(".")[0] for name in sys.modules}} & {HEAVY!r}:
        sys.exit(f"{{module}} loads {{sorted(found)}}")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_launch_files_need_only_what_an_installed_ros_has_itself():
    """`ros2 launch` runs with the system's Python, which does not see the virtual environment that nodes run in."""
    program = """
import sys
from importlib.metadata import packages_distributions
before = set(sys.modules)
import reach_grasp.launch_actions
from reach_grasp.systems import nodes_of
assert nodes_of("train", {"sim": "true"}) and nodes_of("robot", {"sim": "false", "events": "keyboard"})
print(*{name.split(".")[0] for name in set(sys.modules) - before} & set(packages_distributions()))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    others = set(done.stdout.split()) - OURS - ROS
    assert others - {"_yaml"} == {"numpy", "yaml"}


def test_no_verb_but_its_own_imports_from_the_demo():
    (folder,) = find_spec("reach_grasp").submodule_search_locations
    files = [file for part in ("verbs", "running") for file in (Path(folder) / part).glob("*.py") if file.name != "demo.py"]
    assert len(files) > 20
    assert not [file.name for file in files if "reach_grasp.demo." in file.read_text() and file.name != "__init__.py"]


def test_every_node_reports_through_the_module_that_names_topic_and_hardware():
    """The monitor only listens."""
    users = {
        f"{package}/{file.name}"
        for package in sorted(ALLOWED)
        for file in files_of(package)
        if "DiagnosticArray" in file.read_text()
    }
    assert users == {"hilserl_ros/diagnostics.py", "reach_grasp/monitor.py"}
