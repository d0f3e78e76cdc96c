# SPDX-License-Identifier: Apache-2.0
"""This machine: disk, buffers, GPU, priority, versions."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from so101_driver.doctor.finding import Finding, Level, examine

RMEM_MAX = Path("/proc/sys/net/core/rmem_max")
_GB = 1e9
_FULL_GB, _TIGHT_GB = 2.0, 10.0
_BUFFER = 4 * 1024 * 1024  # several pictures of 640x480
_PRIORITY = 10  # what hilserl_ros.realtime asks for
_PYTHON = (3, 12)
_DISTRIBUTIONS = ("jazzy", "kilted")


def examine_machine(folder: Path) -> Iterator[Finding]:
    """folder: where runs are written."""
    yield examine("disk", lambda: disk(folder))
    yield examine("network buffers", buffers)
    yield examine("GPU", gpu)
    yield examine("real-time priority", priority)
    yield examine("Python", python)
    yield examine("ROS 2", ros)


def disk(folder: Path) -> Finding:
    """Room for bags and checkpoints."""
    free = shutil.disk_usage(folder).free / _GB
    text = f"{free:.0f} GB free for {folder}"
    if free >= _TIGHT_GB:
        return Finding("disk", Level.OK, text)
    return Finding("disk", Level.PROBLEM if free < _FULL_GB else Level.WARNING, text, "remove old runs, or use another disk")


def buffers(file: Path = RMEM_MAX) -> Finding:
    """What the kernel lets DDS keep of pictures on their way, also within this machine."""
    size = int(file.read_text())
    text = f"net.core.rmem_max is {size} bytes"
    if size >= _BUFFER:
        return Finding("network buffers", Level.OK, text)
    setting = f"net.core.rmem_max={_BUFFER}"
    cure = f"'sudo sysctl -w {setting}', and for good 'echo {setting} | sudo tee /etc/sysctl.d/60-reach-grasp.conf'"
    return Finding("network buffers", Level.WARNING, f"{text}; of a picture that has more, parts come late", cure)


def gpu() -> Finding | str:
    """What nvidia-smi says; the learner also runs without one."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return "none here (no nvidia-smi); a learner on this machine would use the processor"
    query = [program, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, timeout=20)
    said = " / ".join((done.stdout or done.stderr).strip().splitlines())
    if done.returncode:
        return Finding("GPU", Level.WARNING, f"nvidia-smi fails: {said}", "install the driver of this kernel, restart")
    return said


def priority() -> Finding | str:
    """Whether the nodes that move the arm may run before everything else."""
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(_PRIORITY))
    except PermissionError:
        cure = (
            f"'echo \"@dialout - rtprio {2 * _PRIORITY}\" | sudo tee /etc/security/limits.d/60-reach-grasp.conf', "
            "log out and log in again"
        )
        return Finding("real-time priority", Level.WARNING, "not allowed, so that other programs may delay the arm", cure)
    os.sched_setscheduler(0, policy, parameters)
    return "allowed"


def python() -> Finding | str:
    """The interpreter's version."""
    text = f"{platform.python_version()}, {sys.executable}"
    if sys.version_info[:2] >= _PYTHON:
        return text
    return Finding("Python", Level.PROBLEM, text, "use Python {}.{} or newer".format(*_PYTHON))


def ros() -> Finding | str:
    """The distribution, as far as the environment says it, and rclpy's version."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        client = f"rclpy {version('rclpy')}"
    except PackageNotFoundError:
        cure = "run 'make setup' in the project's folder, or source the setup.bash of an installed ROS 2"
        return Finding("ROS 2", Level.PROBLEM, "there is no rclpy", cure)
    distribution = os.environ.get("ROS_DISTRO", "")
    if distribution and distribution not in _DISTRIBUTIONS:
        return Finding("ROS 2", Level.WARNING, f"{distribution}, {client}", f"use {' or '.join(_DISTRIBUTIONS)}")
    return f"{distribution or 'no ROS_DISTRO set'}, {client}"
