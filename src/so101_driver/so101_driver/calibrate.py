# SPDX-License-Identifier: Apache-2.0
"""Guided calibration, as LeRobot's: the middle of every joint gives its homing offset, moving it by hand its range.

The servos keep what they have meanwhile; where they are after homing is computed here.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from so101_description import JOINTS
from so101_driver import motors
from so101_driver.bus import IDS, Bus
from so101_driver.calibration import LEAST_RANGE, MotorCalibration
from so101_driver.errors import CalibrationError, NoAnswerError
from so101_driver.registers import COUNTS, register

FULL_TURN = "wrist_roll"
HALF_TURN = (COUNTS - 1) // 2  # what a servo reads in the middle, as LeRobot has it
_SERVOS = dict(zip(JOINTS, IDS, strict=True))
_SILENCE_S = 1.0
_MIDDLE = "Put every joint in the middle of its range, the gripper half open, hold the arm there and press Enter: "
_MOVE = f"Move every joint from one end of its range to the other ({FULL_TURN} counts as a full turn). Press Enter when done."


@dataclass
class Sweep:
    """How far one joint was moved: counts of its servo once it is homed."""

    joint: str
    position: int
    lowest: int = 0
    highest: int = COUNTS - 1

    def __post_init__(self) -> None:
        if self.joint != FULL_TURN:
            self.lowest = self.highest = self.position

    def add(self, position: int) -> None:
        """Take the next position. Raises CalibrationError where it jumps across the seam between 4095 and 0."""
        before, self.position = self.position, position
        if self.joint == FULL_TURN:
            return
        if abs(position - before) > COUNTS // 2:
            raise CalibrationError(
                f"{self.joint} went across the seam of its servo (from {before} to {position}), since it was not in the middle "
                "of its range at the beginning; calibrate again and put it there first"
            )
        self.lowest, self.highest = min(self.lowest, position), max(self.highest, position)

    def check(self) -> None:
        """Raises CalibrationError when the joint was not moved."""
        if (moved := self.highest - self.lowest) < LEAST_RANGE:
            raise CalibrationError(
                f"{self.joint} was moved by {moved} counts only; calibrate again and move it from one end to the other"
            )


class Person(Protocol):
    """Who moves the arm."""

    def ask(self, text: str) -> str:
        """Say something and wait for Enter; what was typed before it."""

    def tell(self, text: str) -> None:
        """Say something."""

    def moved(self, sweeps: Mapping[str, Sweep]) -> bool:
        """Show how far each joint was moved, and return a moment later. True when the person pressed Enter."""


class Encoders:
    """Where the servos are, from 0 to 4095, whatever their homing offset."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._offsets = {joint: bus.read(servo, "Homing_Offset") for joint, servo in _SERVOS.items()}

    def read(self) -> dict[str, int]:
        """By joint. Raises NoAnswerError when a servo is silent for a second."""
        end = time.monotonic() + _SILENCE_S
        while not (cycle := self._bus.read_state()).fresh:
            if time.monotonic() > end:
                silent = ", ".join(map(str, cycle.missing))
                raise NoAnswerError(f"servo {silent} does not say where it is; check its cable and supply")
        samples = cycle.samples
        return {joint: (samples[servo].position + self._offsets[joint]) % COUNTS for joint, servo in _SERVOS.items()}

    def homed(self, offsets: Mapping[str, int]) -> dict[str, int]:
        """What the servos would read with these homing offsets, by joint."""
        return {joint: (position - offsets[joint]) % COUNTS for joint, position in self.read().items()}


def homing_offsets(middles: Mapping[str, int]) -> dict[str, int]:
    """Offsets with which the servos read half a turn where their encoders read `middles`.

    Raises CalibrationError where a servo cannot hold the offset.
    """
    offsets = {joint: middle - HALF_TURN for joint, middle in middles.items()}
    allowed = register("Homing_Offset")
    for joint, offset in offsets.items():
        if not allowed.lowest <= offset <= allowed.highest:
            raise CalibrationError(
                f"{joint} would need a homing offset of {offset}, and its servo can hold {allowed.lowest} to {allowed.highest}"
                "; calibrate again with this joint a little farther to either side"
            )
    return offsets


def find_by_hand(bus: Bus, person: Person) -> dict[str, MotorCalibration]:
    """Let the arm go and have a person move it. Writes nothing but the torque.

    Raises CalibrationError for what does not give a calibration, BusError for servos that do not take part.
    """
    if silent := motors.let_go(bus):
        raise NoAnswerError(f"servo {', '.join(map(str, silent))} did not confirm that it let go; check its cable and supply")
    encoders = Encoders(bus)
    person.ask(_MIDDLE)
    offsets = homing_offsets(encoders.read())
    person.tell(_MOVE)
    sweeps = {joint: Sweep(joint, position) for joint, position in encoders.homed(offsets).items()}
    done = False
    while not done:
        for joint, position in encoders.homed(offsets).items():
            sweeps[joint].add(position)
        done = person.moved(sweeps)
    for sweep in sweeps.values():
        sweep.check()
    return {
        joint: MotorCalibration(_SERVOS[joint], 0, offsets[joint], sweep.lowest, sweep.highest)
        for joint, sweep in sweeps.items()
    }
