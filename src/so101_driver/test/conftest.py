# SPDX-License-Identifier: Apache-2.0
"""Emulated arms to drive. On them time plays no part: an answer is waited for until the emulator has sent all of it."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterator

import pytest

from so101_description import JOINTS
from so101_driver.bus import Bus
from so101_driver.calibration import MotorCalibration
from so101_driver.port import Port
from so101_sim.bus.emulator import INSTANT, BusEmulator

LONG_S = 30.0


class PatientPort(Port):
    """Its time is over when the emulator has dealt with the question and everything it sent is here."""

    def __init__(self, emulator: BusEmulator) -> None:
        super().__init__(emulator.device, LONG_S)
        self._emulator = emulator
        self._asked, self._got = emulator.handled, emulator.sent_bytes

    def writePort(self, packet: list[int]) -> int:
        self._asked += 1
        return super().writePort(packet)

    def readPort(self, length: int) -> bytes:
        end = time.monotonic() + LONG_S
        while self._emulator.handled < self._asked:
            assert time.monotonic() < end, "the emulator does not answer"
            time.sleep(0.00005)
        if self._got >= self._emulator.sent_bytes:
            return b""
        data = super().readPort(length)
        self._got += len(data)
        return data

    def clearPort(self) -> None:
        with self._watched():
            while select.select([self.ser.fileno()], [], [], 0.0)[0]:
                data = self._take(4096)
                self._got, self.late_bytes = self._got + len(data), self.late_bytes + len(data)

    def drain(self, quiet_s: float) -> None:
        self.clearPort()


@pytest.fixture
def patient_port() -> type[PatientPort]:
    """The class of such ports."""
    return PatientPort


@pytest.fixture
def emulator() -> Iterator[BusEmulator]:
    """An arm on a serial device, without delays."""
    with BusEmulator(line=INSTANT) as found:
        yield found


@pytest.fixture
def connect() -> Iterator[Callable[[BusEmulator], Bus]]:
    """Makes buses that are open, and closes them in the end."""
    made: list[Bus] = []

    def make(emulator: BusEmulator) -> Bus:
        made.append(found := Bus(emulator.device))
        found._port = PatientPort(emulator)
        found.open()
        return found

    yield make
    for found in made:
        found.close()


@pytest.fixture
def bus(emulator: BusEmulator, connect: Callable[[BusEmulator], Bus]) -> Bus:
    """A bus on that arm."""
    return connect(emulator)


@pytest.fixture
def calibration() -> dict[str, MotorCalibration]:
    """That of an emulated arm."""
    ranges = {"wrist_roll": (0, 4095), "gripper": (1421, 2673)}
    return {
        joint: MotorCalibration(index, 0, 0, *ranges.get(joint, (900, 3195))) for index, joint in enumerate(JOINTS, start=1)
    }
