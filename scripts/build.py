# SPDX-License-Identifier: Apache-2.0
"""Builds with colcon those packages under src/ whose files changed since they were last built."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

# The top-level folders that a package installs, beside its own.
EXTRA_FOLDERS = {"reach_grasp": ("launch", "config")}
# tf2_msgs is no wheel. This is the one message of it that is needed here; where ROS itself is installed, its package is used.
LACKING = {
    "tf2_msgs/package.xml": """<?xml version="1.0"?>
<package format="3">
  <name>tf2_msgs</name>
  <version>0.0.0</version>
  <description>The message of the topics tf and tf_static.</description>
  <maintainer email="maintainers@reach-grasp.example">reach-grasp maintainers</maintainer>
  <license>Apache-2.0</license>
  <buildtool_depend>ament_cmake</buildtool_depend>
  <buildtool_depend>rosidl_default_generators</buildtool_depend>
  <depend>geometry_msgs</depend>
  <exec_depend>rosidl_default_runtime</exec_depend>
  <member_of_group>rosidl_interface_packages</member_of_group>
  <export>
    <build_type>ament_cmake</build_type>
  </export>
</package>
""",
    "tf2_msgs/CMakeLists.txt": """cmake_minimum_required(VERSION 3.20)
project(tf2_msgs)
find_package(ament_cmake REQUIRED)
find_package(geometry_msgs REQUIRED)
find_package(rosidl_default_generators REQUIRED)
rosidl_generate_interfaces(${PROJECT_NAME} msg/TFMessage.msg DEPENDENCIES geometry_msgs)
ament_export_dependencies(rosidl_default_runtime)
ament_package()
""",
    "tf2_msgs/msg/TFMessage.msg": "geometry_msgs/TransformStamped[] transforms\n",
}
IGNORED = ("__pycache__", ".pytest_cache", ".hypothesis", "test")


class BuildError(RuntimeError):
    """A build that failed; the message holds what the tools printed."""


class Tree(NamedTuple):
    """What set-up makes of a checkout for one ROS distribution, beside the tree of another one."""

    root: Path
    ros: str  # the distribution's name
    suffix: str = ""  # of the names of its folders

    @property
    def venv(self) -> Path:
        return self.root / f".venv{self.suffix}"

    @property
    def build(self) -> Path:
        return self.root / f"build{self.suffix}"

    @property
    def install(self) -> Path:
        return self.root / f"install{self.suffix}"

    @property
    def generated(self) -> Path:
        """Where packages lie that ROS has and its wheels lack; colcon looks here only when it is told to."""
        return self.build / "generated"

    @property
    def python(self) -> Path:
        return self.venv / "bin" / "python"


def packages(root: Path, generated: Path | None = None) -> dict[str, Path]:
    """Name and folder of every package under src/, and under the folder of those that were generated."""
    found = {}
    for manifest in sorted([*(root / "src").glob("*/package.xml"), *(generated.glob("*/package.xml") if generated else ())]):
        try:
            name = ElementTree.parse(manifest).findtext("name")
        except ElementTree.ParseError as error:
            raise BuildError(f"{manifest.relative_to(root)} is not valid XML: {error}") from error
        found[(name or manifest.parent.name).strip()] = manifest.parent
    return found


def generate(tree: Tree) -> Path:
    """Write the packages that the wheels lack; the folder that holds them. What is there already is left as it is."""
    for name, text in LACKING.items():
        file = tree.generated / name
        if not file.is_file() or file.read_text() != text:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
    return tree.generated


def digest(folders: Iterable[Path], seed: str) -> str:
    """A hash of the names and contents of all files that an installation could depend on."""
    total = hashlib.sha256(seed.encode())
    for folder in folders:
        for file in sorted(folder.rglob("*")):
            parts = file.relative_to(folder).parts
            if file.is_file() and not any(part in IGNORED or part.endswith(".egg-info") for part in parts):
                total.update(f"{'/'.join(parts)}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()


def environment(tree: Tree) -> dict[str, str]:
    """The variables colcon and CMake need: the ROS 2 of the tree and nothing of another one."""
    foreign = ("PYTHONPATH", "LD_LIBRARY_PATH", "AMENT_PREFIX_PATH", "CMAKE_PREFIX_PATH", "COLCON_PREFIX_PATH")
    kept = {key: value for key, value in os.environ.items() if key not in foreign and not key.startswith("ROS_")}
    path = f"{tree.python.parent}{os.pathsep}{kept.get('PATH', os.defpath)}"
    return {**kept, "PATH": path, "AMENT_PREFIX_PATH": str(tree.venv)}


def build(tree: Tree, toolchain: str) -> list[str]:
    """Build what changed and return its names. `toolchain` names the versions everything was built with."""
    tree.build.mkdir(exist_ok=True)
    with (tree.build / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _build_locked(tree, toolchain)


def _build_locked(tree: Tree, toolchain: str) -> list[str]:
    record = tree.build / ".digests.json"
    try:
        before: dict[str, str] = json.loads(record.read_text())
    except (OSError, ValueError):
        before = {}
    found = packages(tree.root, generate(tree))
    now = {
        name: digest([folder, *(tree.root / extra for extra in EXTRA_FOLDERS.get(name, ()))], toolchain)
        for name, folder in found.items()
    }
    for gone in set(before) - set(now):
        shutil.rmtree(tree.install / gone, ignore_errors=True)
        shutil.rmtree(tree.build / gone, ignore_errors=True)
    changed = [name for name in now if before.get(name) != now[name] or not (tree.install / name).is_dir()]
    if changed:
        print(f"setup: building {', '.join(changed)}", flush=True)
        _colcon(tree, changed)
    record.write_text(json.dumps(now, indent=1, sort_keys=True))
    return changed


def _colcon(tree: Tree, names: list[str]) -> None:
    quiet = ["--event-handlers", "console_cohesion-", "console_stderr+", "summary+"]
    cmake = [
        "--no-warn-unused-cli",
        f"-DCMAKE_PROJECT_INCLUDE={tree.root / 'scripts' / 'drop_missing_includes.cmake'}",
        f"-DPython3_EXECUTABLE={tree.python}",
        "-DBUILD_TESTING=OFF",
    ]
    command = [str(tree.python), "-m", "colcon", "--log-base", "log", "build", "--base-paths", "src", str(tree.generated)]
    command += ["--build-base", tree.build.name, "--install-base", tree.install.name]
    command += ["--continue-on-error", *quiet, "--packages-select", *names, "--cmake-args", *cmake]
    done = subprocess.run(command, cwd=tree.root, env=environment(tree), capture_output=True, text=True)
    if done.returncode:
        raise BuildError(
            f"{done.stdout}{done.stderr}\ncolcon could not build the workspace; the reason is above and in log/latest."
        )
