# SPDX-License-Identifier: Apache-2.0
"""Calibrating an emulated arm that a scripted hand moves, storing that, and having back what was before."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from so101_description import JOINTS
from so101_driver import backup, motors
from so101_driver.backup import Backup, backup_file, store
from so101_driver.bus import Bus
from so101_driver.calibrate import HALF_TURN, Sweep, find_by_hand
from so101_driver.calibration import read_calibration, write_calibration
from so101_driver.errors import CalibrationError, NoAnswerError
from so101_sim.bus.emulator import INSTANT, BusEmulator
from so101_sim.bus.memory import Address
from so101_sim.bus.plant import COUNTS_PER_RAD, Mounting, SimpleArm

HALF = [dict.fromkeys(range(6), place) for place in (0.5, -0.5, 0.0)]


class Hand:
    """Puts joints somewhere, one place after another [rad], each for one look."""

    def __init__(self, emulator: BusEmulator, places: list[dict[int, float]]) -> None:
        self._emulator, self._places = emulator, list(places)
        self.said: list[str] = []
        self.seen: list[tuple[int, int]] = []

    def ask(self, text: str) -> str:
        self.said.append(text)
        return ""

    def tell(self, text: str) -> None:
        self.said.append(text)

    def moved(self, sweeps: Mapping[str, Sweep]) -> bool:
        self.seen.append((sweeps["elbow_flex"].lowest, sweeps["elbow_flex"].highest))
        if not self._places:
            return True
        for index, place in self._places.pop(0).items():
            self._emulator.plant.push(index, place)
        self._emulator.advance(0.01)
        return False


@pytest.fixture
def make() -> Iterator[Callable[..., BusEmulator]]:
    """Emulated arms whose encoders read `zero` in the middle."""
    made: list[BusEmulator] = []

    def of(zero: int) -> BusEmulator:
        made.append(found := BusEmulator(SimpleArm([0.0] * 6), [Mounting(zero)] * 6, line=INSTANT))
        found.start()
        return found

    yield of
    for found in made:
        found.stop()


def held(bus: Bus) -> dict[str, object]:
    return {joint: motors.calibration_of(bus, servo) for joint, servo in zip(JOINTS, bus.ids, strict=True)}


@pytest.mark.parametrize("zero", [2048, 300, 3900])
def test_the_middle_becomes_half_a_turn_and_the_range_what_was_moved(make, connect, tmp_path, zero):
    emulator = make(zero)
    bus, file = connect(emulator), tmp_path / "arm.json"
    bus.write(3, "Homing_Offset", -321)  # of an earlier calibration, which does not matter
    bus.write(3, "Torque_Enable", 1)
    found = find_by_hand(bus, hand := Hand(emulator, HALF))
    assert {motor.homing_offset for motor in found.values()} == {zero - HALF_TURN}
    half = round(0.5 * COUNTS_PER_RAD)
    assert (found["elbow_flex"].range_min, found["elbow_flex"].range_max) == (HALF_TURN - half, HALF_TURN + half)
    assert (found["wrist_roll"].range_min, found["wrist_roll"].range_max) == (0, 4095)
    assert hand.seen == [(2047, 2047), (2047, 2373), (1721, 2373), (1721, 2373)]
    assert all(servo.limp for servo in emulator.servos)
    assert bus.read(3, "Homing_Offset") == -321  # nothing is written before it is stored
    store(bus, file, found)
    assert read_calibration(file) == found
    emulator.power_cycle()
    assert held(bus) == found and bus.read(3, "Present_Position") == HALF_TURN


def test_a_joint_that_crosses_the_seam_is_refused_with_what_to_do(emulator, bus):
    with pytest.raises(CalibrationError, match=r"elbow_flex went across the seam .* \(from 4003 to 102\).* put it there first"):
        find_by_hand(bus, Hand(emulator, [{2: 3.0}, {2: 3.3}]))


def test_wrist_roll_may_go_round(emulator, bus):
    found = find_by_hand(bus, Hand(emulator, [{4: 3.0}, {4: 3.3}, {4: 0.0}, *HALF]))
    assert (found["wrist_roll"].range_min, found["wrist_roll"].range_max) == (0, 4095)


def test_an_offset_that_no_servo_can_hold_is_refused_with_what_to_do(make, connect):
    emulator = make(4095)
    with pytest.raises(CalibrationError, match=r"shoulder_pan would need a homing offset of 2048, .* -2047 to 2047; calibrate"):
        find_by_hand(connect(emulator), Hand(emulator, HALF))


def test_a_joint_that_was_not_moved_is_refused(emulator, bus):
    places = [{joint: place for joint, place in step.items() if joint != 1} for step in HALF]
    with pytest.raises(CalibrationError, match="shoulder_lift was moved by 0 counts only"):
        find_by_hand(bus, Hand(emulator, places))


def test_a_silent_servo_ends_it(emulator, bus):
    emulator.faults.change(dead=(4,))
    with pytest.raises(NoAnswerError, match="servo 4 did not confirm that it let go"):
        find_by_hand(bus, Hand(emulator, HALF))


@pytest.fixture
def before(bus, calibration, tmp_path) -> Path:
    """The file of an arm that was calibrated earlier, servos and all."""
    file = tmp_path / "arm.json"
    motors.store_calibration(bus, calibration)
    write_calibration(file, calibration)
    return file


@pytest.fixture
def other(calibration) -> dict[str, object]:
    return {joint: replace(motor, homing_offset=40, range_min=motor.range_min + 5) for joint, motor in calibration.items()}


def fails(monkeypatch: pytest.MonkeyPatch, error: BaseException, first: Callable[[], object] = lambda: None) -> None:
    """The last thing that storing does, writing the file, goes wrong."""

    def write(*_: object) -> None:
        first()
        raise error

    monkeypatch.setattr(backup, "write_calibration", write)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), CalibrationError("the disk is full")])
def test_ctrl_c_and_errors_leave_file_and_servos_as_they_were(bus, before, calibration, other, monkeypatch, error):
    text = before.read_bytes()
    fails(monkeypatch, error)
    with pytest.raises(type(error)):
        store(bus, before, other)
    assert before.read_bytes() == text and held(bus) == calibration


def test_ctrl_c_does_not_disturb_the_restoring(bus, before, calibration, other, monkeypatch):
    write_file = backup.write_file

    def interrupted(*arguments: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        write_file(*arguments)

    fails(monkeypatch, CalibrationError("the disk is full"), lambda: monkeypatch.setattr(backup, "write_file", interrupted))
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        with pytest.raises(CalibrationError, match="the disk is full"):
            store(bus, before, other)
    finally:
        signal.signal(signal.SIGINT, usual)
    assert held(bus) == calibration == read_calibration(before)


def test_undo_brings_back_what_was_before_and_works_once(bus, emulator, before, calibration, other):
    before.write_text(text := before.read_text() + "\n")  # not as it would be written anew
    store(bus, before, other)
    assert read_calibration(before) == other == held(bus)
    kept = Backup.read(before)
    kept.restore(bus)
    kept.forget()
    emulator.power_cycle()
    assert before.read_text() == text and held(bus) == calibration
    with pytest.raises(CalibrationError, match="nothing to undo"):
        Backup.read(before)


def test_undo_of_a_first_calibration_removes_the_file(bus, other, tmp_path):
    factory = held(bus)
    store(bus, file := tmp_path / "new.json", other)
    Backup.read(file).restore(bus)
    assert not file.exists() and held(bus) == factory


def test_a_servo_that_is_silent_then_gets_its_values_by_a_later_undo(bus, emulator, before, calibration, other, monkeypatch):
    fails(monkeypatch, KeyboardInterrupt(), lambda: emulator.faults.change(dead=(4,)))
    with pytest.raises(CalibrationError, match=r"servo 4 did not get its old calibration back; .* with --undo"):
        store(bus, before, other)
    emulator.faults.change(dead=())
    assert bus.read(4, "Homing_Offset") == 40 and bus.read(5, "Homing_Offset") == 0
    Backup.read(before).restore(bus)
    assert held(bus) == calibration


def test_another_arm_gets_no_undo(bus, before, other, monkeypatch):
    monkeypatch.setattr(backup, "usb_serial_of", lambda _: "A1")
    store(bus, before, other)
    monkeypatch.setattr(backup, "usb_serial_of", lambda _: "B2")
    with pytest.raises(CalibrationError, match="is not this arm: its adapter has the serial number B2, not A1"):
        Backup.read(before).restore(bus)
    assert held(bus) == other


def test_a_servo_that_does_not_read_what_its_offset_should_give_is_no_success(bus, emulator, before, calibration, other):
    memory = emulator.servo(2).memory
    put = memory.put

    def twisted(address: int, value: int, size: int = 1) -> None:
        put(address, value + 10 * memory.word(Address.HOMING_OFFSET) if address == Address.PRESENT_POSITION else value, size)

    memory.put = twisted
    with pytest.raises(CalibrationError, match=r"shoulder_lift reads \d+ with its new homing offset, expected about \d+"):
        store(bus, before, other)
    assert held(bus) == calibration


def test_a_backup_that_is_none_is_named(before):
    backup_file(before).write_text("{}")
    with pytest.raises(CalibrationError, match=r"\.arm\.json\.before cannot be read"):
        Backup.read(before)


def test_release_frees_all_that_hear_it_and_names_the_others(bus, emulator):
    for servo in bus.ids:
        bus.write(servo, "Torque_Enable", 1)
    emulator.faults.change(dead=(4,))
    assert motors.let_go(bus) == (4,)
    assert [servo.id for servo in emulator.servos if not servo.limp] == [4]
    emulator.faults.change(dead=())
    assert motors.let_go(bus) == ()
    assert all(servo.limp for servo in emulator.servos)
