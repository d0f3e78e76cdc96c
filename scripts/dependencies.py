# SPDX-License-Identifier: Apache-2.0
"""What a package needs, read from its files, as the keys that a package.xml names: ROS packages and keys of rosdep."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
ROS = frozenset(
    {
        "ament_cmake", "ament_index_python", "builtin_interfaces", "diagnostic_msgs", "geometry_msgs", "launch", "launch_ros",
        "lifecycle_msgs", "rcl_interfaces", "rclpy", "robot_state_publisher", "rosgraph_msgs", "rosidl_default_generators",
        "rosidl_default_runtime", "rviz2", "sensor_msgs", "std_msgs", "std_srvs", "tf2_msgs", "trajectory_msgs",
        "visualization_msgs",
    }
)  # fmt: skip
"""Packages of ROS 2 that are used here. A module of this name comes from them."""
ROSDISTRO = {
    "PIL": "python3-pil",
    "cv2": "python3-opencv",
    "evdev": "python3-evdev",
    "hypothesis": "python3-hypothesis",
    "jinja2": "python3-jinja2",
    "matplotlib": "python3-matplotlib",
    "mujoco": "python3-mujoco-pip",
    "numba": "python3-numba",
    "numpy": "python3-numpy",
    "psutil": "python3-psutil",
    "pytest": "python3-pytest",
    "qpsolvers": "python3-qpsolvers-pip",
    "rich": "python3-rich",
    "rosbags": "python3-rosbags-pip",
    "scipy": "python3-scipy",
    "serial": "python3-serial",
    "torch": "python3-pytorch-pip",  # not python3-torch: Ubuntu 24.04 has 2.1, LeRobot needs 2.7
    "torch.utils.tensorboard": "python3-tensorboard-pip",
    "transformers": "python3-transformers-pip",
    "wandb": "python3-wandb-pip",
    "yaml": "python3-yaml",
}
"""The key, in rosdep/python.yaml of ros/rosdistro, of the package that brings a module."""
REACH_GRASP = {
    "av": "python3-av-pip",
    "backports.zstd": "python3-backports-zstd-pip",
    "draccus": "python3-draccus-pip",
    "foxglove": "python3-foxglove-sdk-pip",
    "honcho": "python3-honcho-pip",
    "lerobot": "python3-lerobot-pip",
    "mcap": "python3-mcap-pip",
    "mcap_ros2": "python3-mcap-ros2-support-pip",
    "mink": "python3-mink-pip",
    "pyarrow": "python3-pyarrow-pip",
    "safetensors": "python3-safetensors-pip",
    "scservo_sdk": "python3-feetech-servo-sdk-pip",
    "websockets": "python3-websockets-pip",  # not python3-websockets: Ubuntu 24.04 has 10.4, without websockets.sync
}
"""The same in rosdep/reach-grasp.yaml, for what rosdistro has no key for."""
MODULES = ROSDISTRO | REACH_GRASP
EVERY_TEST = ("pytest", "hypothesis")
"""Modules that pytest's options in pyproject.toml need."""


class UnknownModule(Exception):
    """An import of a module that no key is known for."""


def own_keys() -> frozenset[str]:
    """The keys that rosdep/reach-grasp.yaml defines."""
    return frozenset(yaml.safe_load((ROOT / "rosdep" / "reach-grasp.yaml").read_text()))


def keys_of(module: str, workspace: frozenset[str]) -> set[str]:
    """Keys that importing this module needs; nothing for the standard library.

    module: with dots, such as torch.utils.tensorboard. workspace: names of the packages beside it. Raises UnknownModule.
    """
    parts = module.split(".")
    if parts[0] in sys.stdlib_module_names:
        return set()
    if parts[0] in ROS | workspace:
        return {parts[0]}
    found = {MODULES[name] for n in range(len(parts)) if (name := ".".join(parts[: n + 1])) in MODULES}
    if not found:
        raise UnknownModule(module)
    return found


@cache
def imports(folder: Path) -> dict[str, Path]:
    """Every module that the Python files of a folder import at any depth of their code, and a file that does.

    Modules that lie in the folder itself are left out. `from a import b` counts as a.b, which may be a module or not.
    """
    found: dict[str, Path] = {}
    for file, node in _nodes(folder):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            top = name.split(".")[0]
            if top != folder.name and not (folder / f"{top}.py").is_file():
                found.setdefault(name, file)
    return found


@cache
def mentions(folder: Path) -> dict[str, Path]:
    """Every text that a call in a folder's Python files has as its first argument or as `package`, and a file that has it.

    That is how specifications of nodes, launch actions and look-ups in ament's index name a package.
    """
    found: dict[str, Path] = {}
    texts: dict[tuple[Path, str], str] = {}  # of variables
    calls: list[tuple[Path, ast.Call]] = []
    for file, node in _nodes(folder):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            texts |= {(file, target.id): node.value.value for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.Call):
            calls.append((file, node))
    for file, call in calls:
        for value in [*call.args[:1], *(word.value for word in call.keywords if word.arg == "package")]:
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                found.setdefault(value.value, file)
            elif isinstance(value, ast.Name) and (file, value.id) in texts:
                found.setdefault(texts[file, value.id], file)
    return found


def _nodes(folder: Path) -> Iterator[tuple[Path, ast.AST]]:
    for file in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(), str(file))):
            yield file, node


def needs(package: Path, workspace: frozenset[str]) -> tuple[dict[str, dict[str, Path]], list[str]]:
    """What a package needs when it is built, run and tested, and what is wrong with its imports, one sentence each.

    package: its folder. workspace: names of all packages beside it, itself included.
    The first answer holds, under "build", "run" and "test", each key and a file that needs it; "test" only what "run" has not.
    """
    folders = {"run": [package / package.name, package / "launch"], "test": [package / "test"]}
    needed: dict[str, dict[str, Path]] = {"build": {}, "run": {}, "test": {}}
    wrong = []
    for kind, places in folders.items():
        for place in places:
            for module, file in imports(place).items():
                try:
                    needed[kind] |= dict.fromkeys(keys_of(module, workspace), file)
                except UnknownModule:
                    wrong.append(f"{file}: imports {module}, and scripts/dependencies.py knows no rosdep key that brings it")
            needed[kind] |= {name: file for name, file in mentions(place).items() if name in ROS | workspace}
    if any((package / "test").glob("test_*.py")):
        needed["test"] = {MODULES[module]: Path("pyproject.toml") for module in EVERY_TEST} | needed["test"]
    cmake = package / "CMakeLists.txt"
    if cmake.is_file():
        text = cmake.read_text()
        needed["build"] |= dict.fromkeys(re.findall(r"find_package\((\w+)", text), cmake)
        for exported in re.findall(r"ament_export_dependencies\(([^)]*)\)", text):
            needed["run"] |= dict.fromkeys(exported.split(), cmake)
    needed["test"] = {key: file for key, file in needed["test"].items() if key not in needed["run"]}
    for keys in needed.values():
        keys.pop(package.name, None)
    return needed, wrong
