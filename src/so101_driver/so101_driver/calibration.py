# SPDX-License-Identifier: Apache-2.0
"""LeRobot's calibration files, and what they mean: counts of a servo <-> angles of a joint.

Arm joints, as LeRobot's degrees: angle = (counts - (range_min + range_max) / 2) · 2π / 4095. The gripper, as LeRobot's 0
(closed) to 100 (open): its range of counts is the range of its joint in the URDF, linearly, turned round where drive_mode is 1.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from so101_description import JOINTS, joint_limits
from so101_driver.errors import CalibrationError
from so101_driver.registers import COUNTS, register

GRIPPER = JOINTS[-1]
_COUNTS_PER_RAD = (COUNTS - 1) / (2 * math.pi)  # LeRobot takes a turn for 4095 counts
KINDS = ("follower", "leader")
LEAST_RANGE = 100  # counts, 9 degrees: a joint that was not moved gives less
_FOLDERS = {
    "follower": ("robots/so_follower", "robots/so101_follower"),
    "leader": ("teleoperators/so_leader", "teleoperators/so101_leader"),
}


@dataclass(frozen=True)
class MotorCalibration:
    """One motor of a calibration file: the fields and their order are LeRobot's."""

    id: int
    drive_mode: int
    homing_offset: int
    range_min: int
    range_max: int


Calibration = Mapping[str, MotorCalibration]
"""Motor of every joint, by the joint's name."""


@dataclass(frozen=True)
class Conversion:
    """Counts of one servo <-> angle of its joint [rad]: angle = (counts - zero) / counts_per_rad."""

    zero: float
    counts_per_rad: float

    @classmethod
    def of(cls, joint: str, motor: MotorCalibration) -> Conversion:
        """That of a joint."""
        if joint != GRIPPER:
            return cls((motor.range_min + motor.range_max) / 2, _COUNTS_PER_RAD)
        low, high = joint_limits()[GRIPPER]
        scale = (motor.range_max - motor.range_min) / (high - low)
        if motor.drive_mode:
            return cls(motor.range_max + low * scale, -scale)
        return cls(motor.range_min - low * scale, scale)

    def to_rad(self, counts: float) -> float:
        """The joint's angle."""
        return (counts - self.zero) / self.counts_per_rad

    def to_counts(self, angle_rad: float) -> float:
        """The servo's position, not rounded."""
        return self.zero + angle_rad * self.counts_per_rad


def calibration_folder(kind: str) -> Path:
    """Where LeRobot keeps calibrations of `follower` or `leader` arms."""
    return _root() / _FOLDERS[kind][0]


def calibration_files(kind: str) -> list[Path]:
    """Every file of `follower` or `leader` arms, at its place of today or of older versions of LeRobot."""
    return [file for folder in _FOLDERS[kind] for file in sorted((_root() / folder).glob("*.json"))]


def find_calibration(kind: str, name: str) -> Path:
    """The file of an arm, at its place of today or of older versions of LeRobot. Raises CalibrationError when there is none.

    name: what LeRobot calls the arm, or the path of a .json file, which is returned as it is.
    """
    if (file := Path(name).expanduser()).suffix == ".json":
        return file
    places = [_root() / folder / f"{name}.json" for folder in _FOLDERS[kind]]
    for place in places:
        if place.is_file():
            return place
    cure = f"calibrate it with 'reach-grasp calibrate {kind} --port PORT --id {name}'"
    raise CalibrationError(f"the {kind} '{name}' is not calibrated: there is no {places[0]}; {cure}")


def _root() -> Path:
    """As lerobot.utils.constants and huggingface_hub find it."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    hub = os.environ.get("HF_HOME") or f"{cache}/huggingface"
    home = os.environ.get("HF_LEROBOT_HOME") or f"{hub}/lerobot"
    return Path(os.path.expandvars(os.environ.get("HF_LEROBOT_CALIBRATION") or f"{home}/calibration")).expanduser()


def read_calibration(file: Path) -> dict[str, MotorCalibration]:
    """The calibration in a file. Raises CalibrationError with one sentence when it is not a whole and sensible one."""
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise CalibrationError(f"{file} cannot be read as a calibration ({error}); calibrate the arm again") from error
    if not isinstance(content, dict) or set(content) != set(JOINTS):
        found = ", ".join(content) if isinstance(content, dict) else type(content).__name__
        raise CalibrationError(f"{file} holds {found or 'nothing'}, expected {', '.join(JOINTS)}; calibrate the arm again")
    return {joint: _motor(content[joint], f"{file}: {joint}", servo) for servo, joint in enumerate(JOINTS, start=1)}


def _motor(content: object, where: str, servo: int) -> MotorCalibration:
    """servo: id that LeRobot gives this joint; with another one's, one joint would be driven by the limits of another."""
    names = [item.name for item in fields(MotorCalibration)]
    if not isinstance(content, dict) or set(content) != set(names):
        raise CalibrationError(f"{where} is {content!r}, expected the fields {', '.join(names)}; calibrate the arm again")
    for name, value in content.items():
        if type(value) is not int:
            raise CalibrationError(f"{where}.{name} is {value!r}, expected a whole number; calibrate the arm again")
    motor = MotorCalibration(**content)
    offset = register("Homing_Offset")
    limits = {
        "drive_mode": (0, 1), "homing_offset": (offset.lowest, offset.highest),
        "range_min": (0, COUNTS - 1), "range_max": (motor.range_min + 1, COUNTS - 1),
    }  # fmt: skip
    for name, (low, high) in limits.items():
        if not low <= getattr(motor, name) <= high:
            value = getattr(motor, name)
            raise CalibrationError(f"{where}.{name} is {value}, allowed: {low} to {high}; calibrate the arm again")
    if motor.id != servo:
        raise CalibrationError(
            f"{where}.id is {motor.id}, expected {servo}: servos are numbered 1 to 6 from the base to the gripper; "
            "calibrate the arm again"
        )
    if (counts := motor.range_max - motor.range_min) < LEAST_RANGE:
        raise CalibrationError(
            f"{where} has a range of {counts} counts, expected at least {LEAST_RANGE}; calibrate the arm again and move each "
            "joint from one end to the other"
        )
    return motor


def write_calibration(file: Path, calibration: Calibration) -> None:
    """As LeRobot writes it. A kill at any instant leaves the old file or the new one. Raises CalibrationError."""
    write_file(file, json.dumps({joint: asdict(calibration[joint]) for joint in JOINTS}, indent=4))


def write_file(file: Path, text: str) -> None:
    """A kill at any instant leaves the old file or the new one. Raises CalibrationError."""
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("w") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(file)
        folder = os.open(file.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
    except OSError as error:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        raise CalibrationError(f"{file} cannot be written: {error.strerror or error}") from error
