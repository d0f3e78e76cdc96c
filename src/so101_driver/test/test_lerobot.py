# SPDX-License-Identifier: Apache-2.0
"""LeRobot's own bus, follower and leader, unchanged, on the emulated arm; and calibrations that either writes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import draccus
import pytest
from lerobot.motors import Motor, MotorNormMode, feetech, motors_bus
from lerobot.motors import MotorCalibration as TheirCalibration
from lerobot.robots.so_follower import SO101Follower, SO101FollowerConfig
from lerobot.teleoperators.so_leader import SO101Leader, SO101LeaderConfig

from so101_description import JOINTS
from so101_driver.backup import store
from so101_driver.bus import Bus
from so101_driver.calibrate import find_by_hand
from so101_driver.calibration import Conversion, read_calibration, write_calibration
from so101_sim.bus.emulator import INSTANT, BusEmulator, standard_arm
from so101_sim.bus.plant import COUNTS_PER_RAD, Mounting, SimpleArm


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but this is changed: the 50 ms LeRobot waits are too few on a machine that is busy with other tests."""

    def wait_long(port, _):
        port.setPacketTimeoutMillis(30_000)

    monkeypatch.setattr(feetech.feetech, "patch_setPacketTimeout", wait_long)


@pytest.fixture
def station() -> Iterator[tuple[BusEmulator, SimpleArm]]:
    mountings, arm = standard_arm()
    with BusEmulator(arm, mountings, line=INSTANT) as found:
        yield found, arm


def _store(emulator: BusEmulator, calibration) -> None:
    """Into the servos, where LeRobot looks whether the file is theirs."""
    with Bus(emulator.device, reply_timeout_s=30.0) as bus:
        for motor in calibration.values():
            bus.write(motor.id, "Min_Position_Limit", motor.range_min)
            bus.write(motor.id, "Max_Position_Limit", motor.range_max)
            bus.write(motor.id, "Homing_Offset", motor.homing_offset)


def test_their_bus_and_ours_read_the_same(station, calibration):
    emulator, arm = station
    for index in range(6):
        arm.push(index, 0.1 * index - 0.2)
    emulator.advance(0.01)
    with Bus(emulator.device, reply_timeout_s=30.0) as bus:
        ours = {servo: sample.position for servo, sample in bus.read_state().samples.items()}
        volts, firmware = bus.read(1, "Present_Voltage"), bus.read(1, "Firmware_Minor_Version")
    motors = {
        joint: Motor(i, "sts3215", MotorNormMode.RANGE_0_100 if joint == "gripper" else MotorNormMode.DEGREES)
        for i, joint in enumerate(JOINTS, start=1)
    }
    theirs = feetech.FeetechMotorsBus(
        emulator.device, motors, {joint: TheirCalibration(**vars(motor)) for joint, motor in calibration.items()}
    )
    theirs.connect()
    try:
        assert theirs.sync_read("Present_Position", normalize=False) == {joint: ours[motors[joint].id] for joint in JOINTS}
        assert theirs.read("Present_Voltage", "shoulder_pan") == volts
        assert theirs.read("Firmware_Minor_Version", "shoulder_pan") == firmware
        assert theirs.broadcast_ping() == dict.fromkeys(range(1, 7), 777)
        for joint, degrees in theirs.sync_read("Present_Position").items():
            counts, motor = ours[motors[joint].id], calibration[joint]
            if joint == "gripper":
                assert degrees == pytest.approx((counts - motor.range_min) / (motor.range_max - motor.range_min) * 100)
            else:
                angle = Conversion.of(joint, motor).to_rad(counts)
                assert degrees == pytest.approx(angle * 180 / 3.141592653589793)
    finally:
        theirs.disconnect()


def test_their_follower_connects_reads_moves_and_lets_go(station, calibration, tmp_path: Path):
    emulator, _ = station
    write_calibration(tmp_path / "mine.json", calibration)
    _store(emulator, calibration)
    robot = SO101Follower(SO101FollowerConfig(port=emulator.device, id="mine", calibration_dir=tmp_path))
    robot.connect()
    before = robot.get_observation()
    assert set(before) == {f"{joint}.pos" for joint in JOINTS}
    wanted = {f"{joint}.pos": before[f"{joint}.pos"] + 10.0 for joint in JOINTS}
    assert robot.send_action(wanted) == wanted
    robot.get_observation()  # the goals have arrived by then
    emulator.advance(1.0)
    after = robot.get_observation()
    assert after == pytest.approx(wanted, abs=0.2)
    robot.disconnect()
    assert all(servo.limp for servo in emulator.servos)
    assert emulator.servo(6).memory.word(16) == 500  # Max_Torque_Limit, by their configure()


def test_a_follower_that_they_calibrate_is_calibrated_for_us(station, tmp_path: Path, monkeypatch):
    emulator, arm = station
    moves = _Hand(emulator, arm, monkeypatch)
    robot = SO101Follower(SO101FollowerConfig(port=emulator.device, id="mine", calibration_dir=tmp_path))
    robot.connect()
    assert moves.done
    ours = read_calibration(tmp_path / "mine.json")
    assert {joint: vars(motor) for joint, motor in ours.items()} == {
        joint: vars(motor) for joint, motor in robot.calibration.items()
    }
    assert ours["wrist_roll"].range_max == 4095
    for joint in (joint for joint in JOINTS if joint != "wrist_roll"):
        assert ours[joint].range_max - ours[joint].range_min == pytest.approx(1.0 * COUNTS_PER_RAD, abs=2)
    robot.disconnect()
    write_calibration(tmp_path / "ours.json", ours)
    with (tmp_path / "ours.json").open() as file, draccus.config_type("json"):
        assert draccus.load(dict[str, TheirCalibration], file) == robot.calibration
    assert (tmp_path / "ours.json").read_text() == (tmp_path / "mine.json").read_text()


def test_we_calibrate_as_they_do(tmp_path: Path, monkeypatch):
    mountings = [Mounting(zero) for zero in (2100, 400, 3700, 1500, 2900, 4000)]
    for name in ("theirs", "ours"):
        arm = SimpleArm([0.1, -0.2, 0.3, 0.0, 0.4, -0.05])
        with BusEmulator(arm, mountings, line=INSTANT) as emulator:
            hand = _Hand(emulator, arm, monkeypatch)
            if name == "ours":
                with Bus(emulator.device, reply_timeout_s=30.0) as bus:
                    store(bus, tmp_path / "ours.json", find_by_hand(bus, hand))
                assert hand.done
            robot = SO101Follower(SO101FollowerConfig(port=emulator.device, id=name, calibration_dir=tmp_path))
            robot.connect(calibrate=name == "theirs")
            assert hand.done and robot.is_calibrated
            robot.disconnect()
    assert (tmp_path / "ours.json").read_text() == (tmp_path / "theirs.json").read_text()


def test_their_leader_reads_the_arm(station, calibration, tmp_path: Path):
    emulator, arm = station
    write_calibration(tmp_path / "mine.json", calibration)
    _store(emulator, calibration)
    leader = SO101Leader(SO101LeaderConfig(port=emulator.device, id="mine", calibration_dir=tmp_path))
    leader.connect()
    first = leader.get_action()
    arm.push(0, arm.shafts()[0].position_rad + 0.1)
    emulator.advance(0.01)
    assert leader.get_action()["shoulder_pan.pos"] == pytest.approx(first["shoulder_pan.pos"] + 5.73, abs=0.1)
    leader.disconnect()


class _Hand:
    """A person who presses Enter, and moves every joint by half a radian to both sides before the last time."""

    def __init__(self, emulator: BusEmulator, arm: SimpleArm, monkeypatch: pytest.MonkeyPatch) -> None:
        self._emulator, self._arm = emulator, arm
        self._middle = [shaft.position_rad for shaft in arm.shafts()]
        self._places = [0.5, -0.5, 0.0]
        self.done = False
        monkeypatch.setattr("builtins.input", lambda prompt="": "")
        monkeypatch.setattr(motors_bus, "enter_pressed", self._pressed)

    def ask(self, text: str) -> str:
        return ""

    def tell(self, text: str) -> None:
        pass

    def moved(self, _: object) -> bool:
        return self._pressed()

    def _pressed(self) -> bool:
        if not self._places:
            self.done = True
            return True
        place = self._places.pop(0)
        for index, middle in enumerate(self._middle):
            self._arm.push(index, middle + place)
        self._emulator.advance(0.01)
        return False
