# SPDX-License-Identifier: Apache-2.0
"""The follower on an emulated arm: switching on and off, each fault and what it leads to, unplugging."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from so101_description import JOINTS
from so101_driver import motors, turns
from so101_driver.arm import Command, Mode
from so101_driver.bus import Bus
from so101_driver.errors import (
    BusError,
    CalibrationError,
    DriverError,
    MissingServoError,
    PortMissingError,
    SafetyError,
    SupplyError,
)
from so101_driver.finder import find_port
from so101_driver.follower import Follower, Report
from so101_driver.safety_config import SafetyConfig
from so101_sim.bus.emulator import INSTANT, BusEmulator, standard_arm
from so101_sim.bus.memory import Address

LONG_S = 30.0


class Station:
    """An arm and its driver. Time is real, but nothing depends on how fast the machine is."""

    def __init__(self, calibration, folder: Path) -> None:
        mountings, self.arm = standard_arm()
        self.emulator = BusEmulator(self.arm, mountings, line=INSTANT, port=folder / "arm")
        self.emulator.start()
        with Bus(self.emulator.device, reply_timeout_s=LONG_S) as bus:
            motors.store_calibration(bus, calibration)
        self.places = [folder / "arm", folder / "other"]
        self.follower = Follower(self.find, calibration, reply_timeout_s=LONG_S)

    def find(self) -> str:
        """As the driver does; on a busy machine an emulated arm may be slow to answer."""
        end = time.monotonic() + LONG_S
        while True:
            places = [str(place) for place in self.places if place.is_symlink()]
            try:
                return find_port(candidates=places)
            except PortMissingError:
                if not places or time.monotonic() > end:
                    raise

    def cycle(self, command: Command | None = None) -> Report:
        return self.follower.cycle(time.monotonic(), command)

    def until(self, condition: Callable[[Report], bool], command: Command | None = None) -> Report:
        end = time.monotonic() + LONG_S
        while not condition(report := self.cycle(command)):
            assert time.monotonic() < end, f"waited in vain, the last cycle was {report}"
            time.sleep(0.002)
        return report

    def goals(self) -> list[int]:
        return [servo.memory.word(Address.GOAL_POSITION) for servo in self.emulator.servos]

    def close(self) -> None:
        self.follower.close()
        self.emulator.stop()


@pytest.fixture
def station(calibration, tmp_path: Path) -> Iterator[Station]:
    found = Station(calibration, tmp_path)
    found.follower.open()
    yield found
    found.close()


@pytest.fixture
def active(station: Station) -> Station:
    station.follower.switch_on()
    station.cycle()
    return station


def at(angle: float) -> Command:
    return Command(JOINTS, [angle] * 6)


def near(angle: float) -> Callable[[Report], bool]:
    return lambda report: bool((np.abs(report.positions - angle) < 0.01).all())


def test_opened_it_looks_and_leaves_the_arm_limp(station):
    report = station.cycle(at(0.1))
    assert report.fresh and report.decision.mode is Mode.STOPPED and report.decision.goals is None
    assert all(servo.limp for servo in station.emulator.servos) and station.goals() == [0] * 6


def test_switched_on_it_does_not_jump_wherever_it_stands(station):
    for index in range(6):
        station.arm.push(index, 0.1 + 0.1 * index)
    station.emulator.advance(0.01)
    station.follower.switch_on()
    before = station.cycle().positions
    assert not any(servo.limp for servo in station.emulator.servos)
    station.emulator.advance(0.5)
    np.testing.assert_allclose(station.cycle().positions, before, atol=0.004)


def test_it_follows_commands(active):
    report = active.until(near(0.3), at(0.3))
    assert report.decision.mode is Mode.FOLLOW
    report = active.until(near(-0.1), at(-0.1))
    assert report.decision.mode is Mode.FOLLOW


def test_the_servos_have_lerobots_settings(active):
    memory = active.emulator.servo(6).memory
    assert (memory.byte(21), memory.byte(22), memory.byte(23)) == (16, 32, 0)
    assert (memory.word(16), memory.word(28), memory.byte(36)) == (500, 250, 25)


@pytest.mark.parametrize(
    ("config", "arm_rad_s", "gripper_rad_s"),
    [({}, 2.5, 5.0), ({"max_velocity_rad_s": 0.5}, 0.625, 5.0), ({"gripper_velocity_rad_s": 1.0}, 2.5, 1.25)],
)
def test_each_servo_has_a_limit_of_speed_25_percent_above_its_joints(station, calibration, config, arm_rad_s, gripper_rad_s):
    station.follower.close()
    station.follower = Follower(station.find, calibration, SafetyConfig(**config), reply_timeout_s=LONG_S)
    station.follower.open()
    station.follower.switch_on()
    limits = [servo.memory.word(Address.GOAL_VELOCITY) for servo in station.emulator.servos]
    counts_per_rad = 4095 / (2 * np.pi)
    np.testing.assert_allclose(limits, counts_per_rad * np.array([arm_rad_s] * 5 + [gripper_rad_s]), atol=3)


def test_a_gripper_of_another_range_has_a_limit_of_speed_in_its_own_counts(station, calibration):
    narrow = calibration | {"gripper": replace(calibration["gripper"], range_min=1421, range_max=2047)}
    station.follower.close()
    station.follower = Follower(station.find, narrow, reply_timeout_s=LONG_S)
    station.follower.open(write_calibration=True)
    station.follower.switch_on()
    assert station.emulator.servo(6).memory.word(Address.GOAL_VELOCITY) == pytest.approx(5.0 * 652 / 2, abs=2)


def test_going_home_takes_the_time_it_said_and_others_are_not_heard(active):
    active.until(near(0.3), at(0.3))
    assert active.follower.home(time.monotonic(), np.zeros(6), 0.6) == pytest.approx(0.5, abs=0.02)
    active.until(lambda _: not active.follower.homing, at(0.3))
    active.until(near(0.0))


def test_an_emergency_stop_writes_no_goal_after_the_next_cycle_and_wants_consent(active):
    active.until(lambda report: report.positions[0] > 0.1, at(1.0))
    active.follower.safety.stop("e-stop")
    assert active.cycle(at(1.0)).decision.goals is not None
    active.cycle(at(1.0))  # what it reads comes after what was written
    goals = active.goals()
    for _ in range(20):
        assert active.cycle(at(1.0)).decision.goals is None
    assert active.goals() == goals
    with pytest.raises(BusError, match="cannot go home: e-stop"):
        active.follower.home(time.monotonic(), np.zeros(6), 0.5)
    active.follower.switch_on()
    active.until(near(1.0), at(1.0))


def test_switched_off_it_is_limp(active):
    active.follower.switch_off()
    assert all(servo.limp for servo in active.emulator.servos)
    assert active.cycle(at(0.2)).decision.mode is Mode.STOPPED


def test_a_gripper_that_squeezes_is_eased_before_its_servo_gives_up(active):
    grip = Command(JOINTS, [0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    active.until(near(0.3), at(0.3))
    active.arm.obstruct(5, 0.25, 9.0)
    active.until(lambda report: any("eased" in reason for reason in report.decision.reasons), grip)
    report = active.until(lambda report: abs(active.follower.connection.health[6].load) < 0.3, grip)
    assert report.positions[-1] == pytest.approx(0.25, abs=0.05)
    active.until(near(0.4), at(0.4))


@pytest.mark.parametrize(
    ("change", "kind", "sentence"),
    [
        (lambda s: s.emulator.faults.change(supply_v=4.0), SupplyError, "servo 1 gets 4.0 V, expected 4.5 to 7.9 V"),
        (lambda s: s.emulator.servo(3).memory.put(31, 5, 2), CalibrationError, "elbow_flex is calibrated with offset 5"),
        (lambda s: s.emulator.servo(6).memory.put(11, 99, 2), CalibrationError, "gripper .* 1421 to 99 in its servo"),
    ],
)
def test_what_is_wrong_with_an_arm_is_said_when_it_is_opened(calibration, tmp_path: Path, change, kind, sentence):
    station = Station(calibration, tmp_path)
    change(station)
    with pytest.raises(kind, match=sentence):
        station.follower.open()
    assert station.follower.connection.bus is None
    station.close()


def test_missing_servos_are_said_when_it_is_opened(calibration, tmp_path: Path):
    station = Station(calibration, tmp_path)
    station.emulator.faults.change(dead=(2,))
    follower = Follower(lambda: station.emulator.device, calibration, reply_timeout_s=0.2)
    with pytest.raises(MissingServoError, match="no answer from servo 2"):
        follower.open()
    station.close()


def test_a_file_can_be_written_into_the_servos_for_good(calibration, tmp_path: Path):
    station = Station(calibration, tmp_path)
    other = calibration | {"elbow_flex": replace(calibration["elbow_flex"], homing_offset=-40, range_min=1000)}
    follower = Follower(station.find, other, reply_timeout_s=LONG_S)
    with pytest.raises(DriverError, match="set write_calibration to true once"):
        follower.open()
    follower.open(write_calibration=True)
    follower.close()
    station.emulator.power_cycle()
    follower.open()
    follower.close()
    station.close()


def test_a_joint_far_out_of_its_limits_is_not_switched_on(station):
    station.arm.push(1, -1.9)
    station.emulator.advance(0.01)
    with pytest.raises(SafetyError, match=r"shoulder_lift stands at -1.9"):
        station.follower.switch_on()
    assert all(servo.limp for servo in station.emulator.servos)


def test_a_joint_pushed_over_its_encoders_seam_stops_the_arm_and_its_servo_does_not_run_round(active, monkeypatch):
    monkeypatch.setattr(turns, "_GAP_S", LONG_S)
    wrist, to_end = JOINTS.index("wrist_roll"), Command(JOINTS, [0.0] * 4 + [2.8, 0.0])
    active.until(lambda report: report.positions[wrist] > 2.75, to_end)
    for angle in (2.9, 3.1, 3.3):
        active.arm.obstruct(wrist, angle, angle)
        report = active.cycle(to_end)
    assert report.positions[wrist] == pytest.approx(3.3, abs=0.02), "its angle goes on"
    assert (
        active.follower.safety.stopped
        == "wrist_roll was turned past the end of its encoder; let it go and turn it back by hand"
    )
    limits, servo = active.follower.limits, wrist + 1
    active.cycle(to_end)  # whose answers come after the goals have
    assert active.goals()[wrist] == limits.lowest[servo], "as its servo counts the nearest it may go"
    with pytest.raises(SafetyError, match=r"wrist_roll stands at 3.3. rad, its limits are .* move it inside by hand"):
        active.follower.switch_on()
    active.arm.obstruct(wrist, 2.7, 2.7)
    active.until(lambda report: report.positions[wrist] < 2.75)
    active.follower.switch_on()
    assert active.cycle().decision.mode is Mode.HOLD
