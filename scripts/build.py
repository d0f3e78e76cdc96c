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
from xml.etree import ElementTree

# The top-level folders that a package installs, beside its own.
EXTRA_FOLDERS = {"reach_grasp": ("launch", "config")}
IGNORED = ("__pycache__", ".pytest_cache", ".hypothesis", "test")


class BuildError(RuntimeError):
    """A build that failed; the message holds what the tools printed."""


def packages(root: Path) -> dict[str, Path]:
    """Name and folder of every package under src/."""
    found = {}
    for manifest in sorted((root / "src").glob("*/package.xml")):
        try:
            name = ElementTree.parse(manifest).findtext("name")
        except ElementTree.ParseError as error:
            raise BuildError(f"{manifest.relative_to(root)} is not valid XML: {error}") from error
        found[(name or manifest.parent.name).strip()] = manifest.parent
    return found


def digest(folders: Iterable[Path], seed: str) -> str:
    """A hash of the names and contents of all files that an installation could depend on."""
    total = hashlib.sha256(seed.encode())
    for folder in folders:
        for file in sorted(folder.rglob("*")):
            parts = file.relative_to(folder).parts
            if file.is_file() and not any(part in IGNORED or part.endswith(".egg-info") for part in parts):
                total.update(f"{'/'.join(parts)}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()


def environment(root: Path) -> dict[str, str]:
    """The variables colcon and CMake need: the ROS 2 in .venv and nothing of another one."""
    foreign = ("PYTHONPATH", "LD_LIBRARY_PATH", "AMENT_PREFIX_PATH", "CMAKE_PREFIX_PATH", "COLCON_PREFIX_PATH")
    kept = {key: value for key, value in os.environ.items() if key not in foreign and not key.startswith("ROS_")}
    venv = root / ".venv"
    return {**kept, "PATH": f"{venv / 'bin'}{os.pathsep}{kept.get('PATH', os.defpath)}", "AMENT_PREFIX_PATH": str(venv)}


def build(root: Path, toolchain: str) -> list[str]:
    """Build what changed and return its names. `toolchain` names the versions everything was built with."""
    (root / "build").mkdir(exist_ok=True)
    with (root / "build" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _build_locked(root, toolchain)


def _build_locked(root: Path, toolchain: str) -> list[str]:
    record = root / "build" / ".digests.json"
    try:
        before: dict[str, str] = json.loads(record.read_text())
    except (OSError, ValueError):
        before = {}
    found = packages(root)
    now = {
        name: digest([folder, *(root / extra for extra in EXTRA_FOLDERS.get(name, ()))], toolchain)
        for name, folder in found.items()
    }
    for gone in set(before) - set(now):
        shutil.rmtree(root / "install" / gone, ignore_errors=True)
        shutil.rmtree(root / "build" / gone, ignore_errors=True)
    changed = [name for name in now if before.get(name) != now[name] or not (root / "install" / name).is_dir()]
    if changed:
        print(f"setup: building {', '.join(changed)}", flush=True)
        _colcon(root, changed)
    record.write_text(json.dumps(now, indent=1, sort_keys=True))
    return changed


def _colcon(root: Path, names: list[str]) -> None:
    venv = root / ".venv"
    quiet = ["--event-handlers", "console_cohesion-", "console_stderr+", "summary+"]
    cmake = [
        "--no-warn-unused-cli",
        f"-DCMAKE_PROJECT_INCLUDE={root / 'scripts' / 'drop_missing_includes.cmake'}",
        f"-DPython3_EXECUTABLE={venv / 'bin' / 'python'}",
        "-DBUILD_TESTING=OFF",
    ]
    command = [str(venv / "bin" / "python"), "-m", "colcon", "--log-base", "log", "build", "--base-paths", "src"]
    command += ["--continue-on-error", *quiet, "--packages-select", *names, "--cmake-args", *cmake]
    done = subprocess.run(command, cwd=root, env=environment(root), capture_output=True, text=True)
    if done.returncode:
        raise BuildError(
            f"{done.stdout}{done.stderr}\ncolcon could not build the workspace; the reason is above and in log/latest."
        )
