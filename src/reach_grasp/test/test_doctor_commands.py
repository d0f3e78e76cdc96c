# SPDX-License-Identifier: Apache-2.0
"""Every command that the doctor prints can be run as printed: its own parser takes it, or a program of that name is there."""

from __future__ import annotations

import errno
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from reach_grasp import command
from reach_grasp.verbs import VERBS
from so101_description import JOINTS
from so101_driver import bus as driver_bus
from so101_driver import motors
from so101_driver.calibration import MotorCalibration, calibration_folder, write_calibration
from so101_driver.doctor import arm, cameras, machine, network
from so101_driver.doctor.finding import Finding, Level, examine
from so101_driver.port import Port
from so101_sim.bus.emulator import INSTANT, BusEmulator

ROOT = Path(__file__).parents[3]
COMMAND = re.compile(r"(?<!\w)'([^']+)'(?!\w)")
BUILT_IN = {"export", "echo"}
HARMLESS = {"fuser", "export"}
SYSTEM = {"sudo"}  # not in every container


def commands(finding: Finding) -> list[str]:
    """Commands that a cure quotes. Names of arms and hosts are quoted too, but have no space."""
    return [found for found in COMMAND.findall(finding.cure) if " " in found]


def check(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails where a shell, the program or its parser would not take this line."""
    assert subprocess.run(["bash", "-nc", line]).returncode == 0, line
    for part in line.split(" | "):
        words = shlex.split(part)
        if words[0] in SYSTEM:
            words = words[1:]
        if words[0] == "reach-grasp":
            for verb in VERBS:
                monkeypatch.setattr(type(verb), "run", lambda *_: 0)
            assert command.main(words[1:]) == 0, line
        elif words[0] not in BUILT_IN:
            assert shutil.which(words[0], path=f"{os.environ['PATH']}:/usr/sbin:/sbin"), line
    if words[0] == "make":
        assert subprocess.run([*words, "--dry-run"], cwd=ROOT, capture_output=True).returncode == 0
    if words[0] in HARMLESS:
        assert subprocess.run(["bash", "-c", line], capture_output=True).returncode in (0, 1), line


@pytest.fixture
def emulator(tmp_path: Path, monkeypatch) -> Iterator[BusEmulator]:
    """An arm with a calibration, and a place of its own for files."""
    monkeypatch.setattr(driver_bus, "_PATIENCE_S", 30.0)
    monkeypatch.setenv("HF_LEROBOT_CALIBRATION", str(tmp_path))
    with BusEmulator(line=INSTANT) as found:
        values = {joint: MotorCalibration(servo, 0, 0, 900, 3195) for servo, joint in enumerate(JOINTS, start=1)}
        with driver_bus.Bus(found.device) as bus, bus.patiently():
            motors.store_calibration(bus, values)
        write_calibration(calibration_folder("follower") / "mine.json", values)
        wrong = values | {"elbow_flex": replace(values["elbow_flex"], range_min=1000)}
        write_calibration(calibration_folder("follower") / "changed.json", wrong)
        yield found


def arm_findings(emulator: BusEmulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Finding]:
    """A well arm without a file, with another's, with ill servos; one too hot; ports that cannot be opened."""
    port = emulator.device
    for name in ("none", "changed", "/nowhere/else.json"):
        yield from arm.examine_arm("follower", port, name)
    (calibration_folder("follower") / "mine.json").unlink()
    yield from arm.examine_arm("follower", port, "changed")
    for servo, status in zip(emulator.servos, (1, 2, 4, 8, 32, 64), strict=True):
        monkeypatch.setattr(servo, "_protect", lambda *_, s=servo, bit=status: setattr(s, "_status", bit))
    emulator.faults.change(hot=(1,), hot_c=61, supply_v=12.0)
    yield from arm.examine_arm("follower", port, "changed")
    for number in (errno.EACCES, errno.EBUSY, errno.ENOENT):
        error = Port(port, 0.0)._reason(OSError(number, "no"))
        monkeypatch.setattr(driver_bus.Bus, "open", lambda _, error=error: (_ for _ in ()).throw(error))
        yield from arm.examine_arm("leader", port, "none")


def station_findings(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Finding]:
    """Cameras and a machine that lack everything, a network that is closed."""
    (folder / "dark.avi").touch()
    yield from cameras.examine_cameras(["99", str(folder / "dark.avi"), "http://127.0.0.1:9/wrist"])
    monkeypatch.setattr(os, "access", lambda *_: False)
    yield from cameras.examine_cameras([str(folder / "dark.avi")])
    (folder / "rmem_max").write_text("212992")
    yield machine.buffers(folder / "rmem_max")
    monkeypatch.setattr(os, "sched_setscheduler", lambda *_: (_ for _ in ()).throw(PermissionError(1, "no")))
    yield examine("priority", machine.priority)
    monkeypatch.setattr("importlib.metadata.version", lambda name: (_ for _ in ()).throw(PackageNotFoundError(name)))
    yield examine("ROS 2", machine.ros)
    for reach in ("LOCALHOST", "OFF"):
        monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", reach)
        yield examine("learner host", lambda: network.host("192.0.2.1"))
    yield Finding("learner clock", Level.WARNING, "it differs", network._SYNC)


def test_every_command_of_every_cure_can_be_run_as_printed(emulator, tmp_path, monkeypatch):
    findings = [*arm_findings(emulator, monkeypatch), *station_findings(tmp_path, monkeypatch)]
    monkeypatch.undo()
    found = {line for finding in findings for line in commands(finding)}
    assert {line.split()[1] for line in found if line.startswith("reach-grasp ")} == {"calibrate", "release"}
    assert len(found) >= 12, found
    assert not any("write_calibration" in finding.text + finding.cure for finding in findings)
    for line in sorted(found):
        check(line, monkeypatch)
