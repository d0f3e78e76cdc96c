# SPDX-License-Identifier: Apache-2.0
"""The real driver moves the simulated world's arm, through an emulated bus and in simulated time."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hilserl_core.action import Controller
from hilserl_core.step import Mode
from hilserl_core.task import TaskSpec
from so101_driver.arm import Command
from so101_driver.calibration import read_calibration
from so101_driver.errors import PortLostError
from so101_driver.follower import Follower, Report
from so101_driver.lockstep import Lockstep
from so101_sim.bus_arm import BusArm
from so101_sim.operator import OperatorConfig, ScriptedOperator
from so101_sim.world import World

TASK = TaskSpec()
TICK_NS = round(TASK.tick_s * 1e9)
CALIBRATION = Path(__file__).parents[3] / "config" / "emulated_arm.json"


class Station:
    """World, bus and driver without ROS; what the nodes say to one another is called."""

    def __init__(self, port: Path) -> None:
        self.world = World(task=TASK)
        self.arm = BusArm(self.world, port, 0.01)
        self.lockstep = Lockstep(TICK_NS, 100.0)
        calibration = read_calibration(CALIBRATION)
        self.follower = Follower(lambda: str(port), calibration, reply_timeout_s=10.0, clock=self.lockstep.clock)
        self.follower.open(write_calibration=True)
        self.follower.switch_on()
        self.cycles: list[Report] = []

    def reset(self, seed: int) -> Report:
        """As the actor asks for it: stop, a new world, go on."""
        self.follower.safety.stop("reset")
        self.arm.reset(seed)
        self.follower.switch_on()
        return self.lockstep.time(self.lockstep.stamp_ns + TICK_NS, self.follower)

    def command(self, joints: np.ndarray) -> Report:
        """One tick."""
        wish = Command(TASK.joints, joints.tolist())
        report = self.lockstep.command(self.lockstep.stamp_ns, wish, self.follower, self.cycles.append)
        with self.arm.still():
            self.world.end_tick()
        return report

    def close(self) -> None:
        """Give everything back."""
        self.follower.close()
        self.arm.close()
        self.world.close()


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    """Ready to be reset."""
    made = Station(tmp_path / "arm")
    yield made
    made.close()


def _demonstrate(station: Station, seed: int) -> list[np.ndarray]:
    """Joints at each tick of a demonstration."""
    report, world = station.reset(seed), station.world
    person = ScriptedOperator(OperatorConfig(), TASK, world.kinematics)
    person.begin(Mode.DEMONSTRATION, seed)
    controller = Controller(TASK, world.kinematics)
    controller.latch(report.positions)
    seen = [report.positions]
    while not world.success and len(seen) < TASK.max_ticks:
        _, action = person.act(report.positions, world.cube_pose)
        report = station.command(controller.command(action, report.positions).joints)
        seen.append(report.positions)
    return seen


def test_a_person_grasps_through_the_driver_and_the_world_agrees(station: Station) -> None:
    seen = _demonstrate(station, 1)
    assert station.world.success
    assert len(station.cycles) == 10 * (len(seen) - 1)
    assert all(report.fresh for report in station.cycles)
    resolution = 2 * np.pi / 4095
    np.testing.assert_allclose(seen[-1], station.world.joint_positions, atol=2 * resolution)
    assert station.cycles[-1].loads[-1] == pytest.approx(-0.5, abs=0.02), "it presses with all that the driver allows"


def test_lockstep_repeats(tmp_path: Path) -> None:
    def run(name: str) -> str:
        station = Station(tmp_path / name)
        try:
            seen = _demonstrate(station, 2)
            image = station.world.render("wrist", 64, 64)
        finally:
            station.close()
        return hashlib.sha256(np.concatenate(seen).tobytes() + image.tobytes()).hexdigest()

    assert run("first") == run("second")


def test_after_a_reset_the_arm_stands_where_the_new_world_begins(station: Station) -> None:
    _demonstrate(station, 3)
    report = station.reset(4)
    fresh = World(task=TASK)
    fresh.reset(4)
    np.testing.assert_allclose(report.positions, fresh.joint_positions, atol=0.01)
    for _ in range(5):
        report = station.command(report.positions)
    np.testing.assert_allclose(report.positions, fresh.joint_positions, atol=0.02)


def test_only_the_answer_to_the_newest_observation_moves_the_arm(station: Station) -> None:
    station.reset(5)
    lockstep, wish = station.lockstep, Command(TASK.joints, station.world.joint_positions.tolist())
    for stamp_ns in (lockstep.stamp_ns - TICK_NS, lockstep.stamp_ns + TICK_NS):
        assert lockstep.command(stamp_ns, wish, station.follower, station.cycles.append) is None
    assert not station.cycles


def test_who_missed_where_the_arm_is_hears_it_again(station: Station) -> None:
    report = station.reset(6)
    lockstep = station.lockstep
    assert lockstep.time(lockstep.stamp_ns, station.follower) is report, "the world has said this stamp twice"
    report = station.command(report.positions)
    assert lockstep.time(lockstep.stamp_ns, station.follower) is None, "the world has only now come to this stamp"
    assert lockstep.time(lockstep.stamp_ns, station.follower) is report


def test_the_driver_keeps_its_limits_in_simulated_time(station: Station) -> None:
    report = station.reset(7)
    begin = report.positions
    report = station.command(begin + np.array([3.0, 0.0, 0.0, 0.0, 0.0, 0.0]))
    assert 0.05 < report.positions[0] - begin[0] <= 0.2 + 0.01, "2 rad/s for a tenth of a second, wherever it is told to go"


def test_a_bus_that_goes_away_is_said(station: Station) -> None:
    station.reset(8)
    station.arm.close()
    station.follower.cycle(station.lockstep.now_s)
    with pytest.raises(PortLostError, match="unplugged"):
        station.lockstep.time(station.lockstep.stamp_ns + TICK_NS, station.follower)


def test_the_device_is_a_link_that_ends_with_the_world(station: Station, tmp_path: Path) -> None:
    assert (tmp_path / "arm").is_symlink()
    station.arm.close()
    assert not os.path.lexists(tmp_path / "arm")
