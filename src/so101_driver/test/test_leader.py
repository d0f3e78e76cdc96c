# SPDX-License-Identifier: Apache-2.0
"""The leader on an emulated arm: what its torque registers really hold, and that it is never left locked."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from so101_description import JOINTS
from so101_driver import motors, turns
from so101_driver.arm import Command
from so101_driver.bus import Bus
from so101_driver.errors import BusError, CalibrationError, NoAnswerError
from so101_driver.follower import Follower
from so101_driver.handover import HandoverConfig, State
from so101_driver.leader import Leader, Report
from so101_sim.bus.emulator import INSTANT, BusEmulator, standard_arm
from so101_sim.bus.memory import Address

LONG_S = 120.0
CONFIG = HandoverConfig(follow_velocity_rad_s=2.0, rest_s=0.0, state_timeout_s=5.0, retry_s=0.05)
ROBOT = np.full(6, 0.3)


class Station:
    """An arm and its driver. Time is real, but nothing depends on how fast the machine is."""

    def __init__(self, calibration, folder: Path) -> None:
        mountings, self.arm = standard_arm()
        self.emulator = BusEmulator(self.arm, mountings, line=INSTANT, port=folder / "arm")
        self.emulator.start()
        with Bus(self.emulator.device, reply_timeout_s=LONG_S) as bus:
            motors.store_calibration(bus, calibration)
        self.leader = Leader(lambda: str(folder / "arm"), calibration, CONFIG, reply_timeout_s=LONG_S)
        self.robot: np.ndarray | None = ROBOT
        self.robot_age_s = 0.0

    def cycle(self) -> Report:
        return self.leader.cycle(time.monotonic(), self.robot, self.robot_age_s)

    def until(self, condition: Callable[[Report], bool]) -> Report:
        end = time.monotonic() + LONG_S
        while not condition(report := self.cycle()):
            assert time.monotonic() < end, f"waited in vain, the last cycle was {report}"
            time.sleep(0.002)
        return report

    def torque(self) -> list[int]:
        return [servo.memory.byte(Address.TORQUE_ENABLE) for servo in self.emulator.servos]

    def impatient(self) -> None:
        self.leader.connection.bus._port.reply_timeout_s = 0.02

    def hold(self, angle: float) -> None:
        """A hand keeps the first joint there."""
        self.arm.obstruct(0, angle, angle)

    def close(self) -> None:
        self.leader.close()
        self.emulator.stop()


@pytest.fixture
def station(calibration, tmp_path: Path) -> Iterator[Station]:
    found = Station(calibration, tmp_path)
    found.leader.open()
    yield found
    found.close()


@pytest.fixture
def following(station: Station) -> Station:
    station.until(near(0.3))
    assert station.torque() == [1] * 6
    return station


def near(angle: float) -> Callable[[Report], bool]:
    return lambda report: bool((np.abs(report.positions - angle) < 0.02).all())


def state(wanted: State) -> Callable[[Report], bool]:
    return lambda report: report.state is wanted


def test_opened_it_lets_go_whatever_a_program_before_it_left(calibration, tmp_path: Path):
    station = Station(calibration, tmp_path)
    with Bus(station.emulator.device, reply_timeout_s=LONG_S) as bus:
        for servo in bus.ids:
            bus.write(servo, "Torque_Enable", 1)
    station.leader.open()
    assert station.torque() == [0] * 6
    station.close()


def test_it_follows_the_robot_with_little_torque(following):
    memory = following.emulator.servo(2).memory
    assert memory.word(Address.TORQUE_LIMIT) == 500
    assert memory.word(Address.GOAL_VELOCITY) == round(2.0 * 1.25 * 4095 / (2 * np.pi))
    following.robot = np.full(6, -0.1)
    assert following.until(near(-0.1)).state is State.FOLLOWING


def test_whoever_takes_hold_drives_and_back_again(following):
    following.hold(1.0)
    assert following.until(state(State.FREE)).fresh
    assert following.torque() == [0] * 6
    following.arm.clear(0)
    following.arm.push(0, 0.8)
    following.until(lambda report: abs(report.positions[0] - 0.8) < 0.01)
    following.leader.handover.hand_back()
    following.until(near(0.3))
    assert following.torque() == [1] * 6


def test_after_a_reset_it_is_not_locked_and_drives_only_by_a_new_grip(following):
    following.hold(1.0)
    following.until(state(State.FREE))
    following.leader.handover.hand_back()  # as the node does when an episode is reset
    assert following.cycle().state is State.FOLLOWING
    following.until(state(State.LIMP))  # the hand is still there
    assert following.torque() == [0] * 6 and following.leader.handover.reason.startswith("a hand holds it; let go")
    following.arm.clear(0)
    following.robot = np.zeros(6)
    following.until(near(0.0))
    following.hold(1.0)
    following.until(state(State.FREE))
    assert following.leader.handover.take_overs == 2


def test_a_robot_that_falls_silent_leaves_it_limp(following):
    following.robot_age_s = 1.0
    assert following.cycle().state is State.LIMP
    assert following.torque() == [0] * 6


@pytest.mark.parametrize("power", [True, False])
def test_unplugged_and_plugged_in_again_it_lets_go_first(following, tmp_path: Path, power):
    following.emulator.unplug(power=power)
    following.until(state(State.LIMP))
    assert following.leader.unconfirmed == (1, 2, 3, 4, 5, 6)
    following.robot = None
    following.emulator.plug(tmp_path / "arm")
    following.until(lambda report: report.fresh)
    assert following.torque() == [0] * 6 and not following.leader.unconfirmed
    following.robot = np.full(6, 0.1)
    following.until(near(0.1))
    assert following.emulator.servo(2).memory.word(Address.TORQUE_LIMIT) == 500


def test_a_servo_that_does_not_confirm_is_told_again_until_it_does(following):
    following.impatient()
    following.emulator.faults.change(dead=(3,))
    following.robot_age_s = 1.0
    following.cycle()
    assert following.torque() == [0, 0, 1, 0, 0, 0] and following.leader.unconfirmed == (3,)
    following.cycle()
    assert following.leader.unconfirmed == (3,)
    following.emulator.faults.change(dead=())
    following.cycle()
    assert following.torque() == [0] * 6 and not following.leader.unconfirmed


def test_a_servo_that_does_not_switch_on_leaves_all_limp_until_it_does(station, monkeypatch):
    bus = station.leader.connection.bus
    write = bus.write

    def refuse(servo: int, name: str, value: int) -> None:
        if (servo, name, value) == (4, "Torque_Enable", 1):
            raise NoAnswerError("could not write Torque_Enable of servo 4")
        write(servo, name, value)

    monkeypatch.setattr(bus, "write", refuse)
    assert station.cycle().state is State.LIMP and station.torque() == [0] * 6
    assert "servo 4" in station.leader.handover.reason
    monkeypatch.undo()
    station.until(near(0.3))


def test_a_silent_servo_lets_all_others_go(following):
    following.leader.handover.config = replace(CONFIG, state_timeout_s=0.1)
    following.impatient()
    following.emulator.faults.change(dead=(5,))
    following.until(state(State.LIMP))
    assert following.torque() == [0, 0, 0, 0, 1, 0]  # it does not hear that either
    following.emulator.faults.change(dead=())
    following.until(near(0.3))


def test_a_supply_that_fails_for_a_moment_is_not_a_hand(following):
    following.emulator.power_cycle()
    following.arm.push(0, 1.0)  # it sinks
    said = following.until(lambda report: report.state is not State.FOLLOWING)
    assert said.state is State.LIMP and "has lost its torque" in following.leader.handover.reason
    following.until(near(0.3))
    assert following.torque() == [1] * 6 and following.leader.handover.take_overs == 0
    assert following.emulator.servo(2).memory.word(Address.TORQUE_LIMIT) == 500, "set anew"


def test_packets_that_get_lost_are_survived(following):
    following.impatient()
    following.emulator.faults.change(lost=0.05, corrupted=0.01, seed=2)
    following.robot = np.zeros(6)
    following.until(near(0.0))
    following.hold(1.0)
    following.until(state(State.FREE))
    following.until(lambda _: not following.leader.unconfirmed)
    assert following.torque() == [0] * 6


def test_in_the_end_it_lets_go_or_says_that_it_could_not(following):
    following.leader.let_go()
    assert following.torque() == [0] * 6
    following.until(near(0.3))
    following.impatient()
    following.emulator.faults.change(dead=(3,))
    with pytest.raises(BusError, match="servo 3 did not let go; switch the leader's supply off"):
        following.leader.let_go()
    assert following.torque() == [0, 0, 1, 0, 0, 0]
    following.emulator.unplug()
    with pytest.raises(BusError, match="unplugged: it may still hold"):
        following.leader.let_go()


def test_another_arms_calibration_is_refused(calibration, tmp_path: Path):
    station = Station(calibration, tmp_path)
    station.emulator.servo(3).memory.put(31, 5, 2)
    with pytest.raises(CalibrationError, match="elbow_flex is calibrated with offset 5"):
        station.leader.open()
    station.close()


def test_a_wrist_turned_over_its_encoders_seam_moves_the_follower_by_what_the_hand_moved_or_not_at_all(
    following, calibration, tmp_path: Path, monkeypatch
):
    """Leader and follower at their registers: counts go 4095 -> 0 at the leader, and the follower stays at its limit."""
    monkeypatch.setattr(turns, "_GAP_S", LONG_S)
    wrist, begin = JOINTS.index("wrist_roll"), 2.5
    other = Station(calibration, tmp_path / "other")
    other.arm.push(wrist, begin)
    other.emulator.advance(0.01)
    follower = Follower(lambda: other.emulator.device, calibration, reply_timeout_s=LONG_S)
    follower.open()
    follower.switch_on()
    following.leader.handover.take_over()
    following.until(state(State.FREE))
    goals, read = [], []
    angles = [*np.linspace(begin, 3.6, 60), *[3.6] * 20]
    for angle in angles:
        following.arm.push(wrist, float(angle))
        report = following.until(lambda report, angle=angle: report.fresh and abs(report.positions[wrist] - angle) < 0.01)
        assert report.state is State.FREE and following.torque() == [0] * 6
        read.append(following.emulator.servo(wrist + 1).memory.word(Address.PRESENT_POSITION))
        follower.cycle(time.monotonic(), Command(JOINTS, report.positions.tolist()))
        goals.append(other.emulator.servo(wrist + 1).memory.word(Address.GOAL_POSITION))
    assert max(read) > 4000 and read[-1] < 400, "its encoder went over the seam"
    assert min(goals) >= goals[0] and max(goals) <= follower.limits.highest[wrist + 1]
    follower.close()
    other.close()


def test_past_the_seam_a_leader_is_not_turned_the_long_way_round_but_waits_for_the_hand(following, monkeypatch):
    monkeypatch.setattr(turns, "_GAP_S", LONG_S)
    wrist = JOINTS.index("wrist_roll")
    following.leader.handover.take_over()
    following.until(state(State.FREE))
    for angle in (1.5, 2.8, 3.1, 3.4):
        following.arm.push(wrist, angle)
        following.until(lambda report, angle=angle: report.fresh and abs(report.positions[wrist] - angle) < 0.01)
    following.leader.handover.hand_back()
    for _ in range(20):
        assert following.cycle().state is State.LIMP and following.torque() == [0] * 6
    assert "wrist_roll was turned past the end of its encoder" in following.leader.handover.reason
    following.arm.push(wrist, 3.0)
    following.until(near(0.3))
    assert following.torque() == [1] * 6
