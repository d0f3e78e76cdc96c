# SPDX-License-Identifier: Apache-2.0
"""The fault table of docs/safety.md: what each fault of the bus or the arm leads to, and what happens when it has gone.

The follower's time and the emulated arm's are counted, not waited for, so that no row depends on how fast the machine is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from so101_description import JOINTS
from so101_driver.answers import Fault
from so101_driver.arm import Command, Mode
from so101_driver.errors import BusError, PortMissingError
from so101_driver.follower import UNPLUGGED, Follower, Report
from so101_sim.bus.emulator import INSTANT, BusEmulator, EmulatorError, standard_arm
from so101_sim.bus.memory import Address

TICK_S = 0.02
MOST_CYCLES = 500
LONG_S = 60.0


class Station:
    """An arm that was switched on and told to go to 0.3 rad."""

    def __init__(self, calibration, folder: Path) -> None:
        mountings, self.arm = standard_arm()
        self.folder, self.now_s = folder, 0.0
        self.emulator = BusEmulator(self.arm, mountings, line=INSTANT, port=folder / "arm", step_s=TICK_S)
        self.emulator.start()
        self.follower = Follower(self.find, calibration, reply_timeout_s=LONG_S, clock=lambda: self.now_s)

    def begin(self) -> None:
        self.follower.open(write_calibration=True)
        self.follower.switch_on()
        self.until(lambda report: near(report, 0.3), 0.3)

    def find(self) -> str:
        try:
            return self.emulator.device
        except EmulatorError as error:
            raise PortMissingError(str(error)) from error

    def cycle(self, angle: float) -> Report:
        self.now_s += TICK_S
        return self.follower.cycle(self.now_s, Command(JOINTS, [angle] * 6))

    def until(self, condition: Callable[[Report], bool], angle: float) -> Report:
        for _ in range(MOST_CYCLES):
            if condition(report := self.cycle(angle)):
                return report
        raise AssertionError(f"in vain, the last cycle was {report}")

    def goals(self) -> list[int]:
        return [servo.memory.word(Address.GOAL_POSITION) for servo in self.emulator.servos]

    def fault(self, **settings: object) -> None:
        self.emulator.faults.change(**settings)

    def stand_still(self, seconds: float) -> None:
        self.now_s += seconds

    def close(self) -> None:
        self.follower.close()
        self.emulator.stop()


def near(report: Report, angle: float) -> bool:
    return bool((np.abs(report.positions - angle) < 0.01).all())


@pytest.fixture
def arm(calibration, tmp_path: Path) -> Iterator[Station]:
    found = Station(calibration, tmp_path)
    yield found
    found.close()


@pytest.fixture
def station(arm, monkeypatch, patient_port) -> Station:
    """Answers are waited for until the emulator has dealt with the question."""
    monkeypatch.setattr("so101_driver.bus.Port", lambda *_: patient_port(arm.emulator))
    arm.begin()
    return arm


@dataclass(frozen=True)
class Row:
    """mode: what the fault leads to. says: part of the reason. stays: also when it is cured, until somebody consents."""

    begin: Callable[[Station], object]
    cure: Callable[[Station], object]
    mode: Mode = Mode.FOLLOW
    says: str = ""
    stays: bool = False


def bad_packets(kind: str, share: float = 0.05) -> Row:
    return Row(lambda s: s.fault(**{kind: share}, seed=2), lambda s: s.fault(**{kind: 0.0}))


def supply(volts: float) -> Row:
    return Row(lambda s: s.fault(supply_v=volts), lambda s: s.fault(supply_v=7.4), Mode.HOLD, f"gets {volts} V")


def silence(says: str, *servos: int) -> Row:
    return Row(lambda s: s.fault(dead=servos), lambda s: s.fault(dead=()), Mode.STOPPED, says, True)


def plugged(power: bool) -> Row:
    unplug = lambda s: s.emulator.unplug(power=power)  # noqa: E731
    return Row(unplug, lambda s: s.emulator.plug(s.folder / "other"), Mode.STOPPED, UNPLUGGED, True)


TABLE = {
    "answers lost": bad_packets("lost"),
    "answers corrupted": bad_packets("corrupted"),
    "answers truncated": bad_packets("truncated"),
    "requests lost": bad_packets("lost_requests"),
    "no answer at all": Row(
        lambda s: s.fault(lost=1.0), lambda s: s.fault(lost=0.0), Mode.STOPPED, "no positions for 1 s", True
    ),
    "a dead servo": silence("no positions for 1 s", 3),
    "the supply switched off": silence("no positions for 1 s", 1, 2, 3, 4, 5, 6),
    "the supply cut for a moment": Row(
        lambda s: s.emulator.power_cycle(), lambda s: None, Mode.STOPPED, "has lost its torque; look after its supply", True
    ),
    "the driver stood still for 6 s": Row(
        lambda s: s.stand_still(6.0), lambda s: None, Mode.STOPPED, "the driver stood still for 6.0 s", True
    ),
    "a hot servo": Row(lambda s: s.fault(hot=(4,), hot_c=63), lambda s: s.fault(hot=()), Mode.HOLD, "wrist_flex is hot"),
    "undervoltage": supply(4.2),
    "overvoltage": supply(8.0),
    "the gripper squeezes": Row(
        lambda s: s.arm.obstruct(5, 0.25, 0.32), lambda s: s.arm.clear(5), Mode.FOLLOW, "the gripper is eased"
    ),
    "unplugged": plugged(power=True),
    "unplugged without power": plugged(power=False),
}


@pytest.mark.parametrize("name", TABLE)
def test_each_fault_leads_to_the_documented_state(station, name):
    row = TABLE[name]
    row.begin(station)
    if row.says:
        report = station.until(lambda report: report.decision.mode is row.mode and bool(report.decision.reasons), 0.9)
        assert row.says in report.decision.reasons[0]
    else:
        station.until(lambda report: near(report, 0.6), 0.6)
        assert sum(station.follower.connection.bus.faults.values()) > 0 and station.follower.safety.stopped is None
    row.cure(station)
    if row.stays:
        _stays_until_consent(station)
    station.until(lambda report: near(report, 0.4) and report.decision.mode is Mode.FOLLOW, 0.4)


def _stays_until_consent(station: Station) -> None:
    station.until(lambda report: report.fresh, 0.5)
    goals = station.goals()
    for _ in range(20):
        assert station.cycle(0.5).decision.goals is None
    assert station.goals() == goals
    station.follower.switch_on()


def test_unplugged_it_cannot_be_switched_on(station):
    station.emulator.unplug()
    station.until(lambda report: report.decision.mode is Mode.STOPPED, 0.5)
    with pytest.raises(BusError, match="unplugged; plug it in again"):
        station.follower.switch_on()


def test_a_joint_that_pushes_too_long_is_eased_by_its_servo_and_only_said(station):
    """No state of the follower: the servo keeps a fifth of its torque until it is told to go back."""
    overloaded = lambda: station.follower.connection.health[2].status & 32  # noqa: E731
    station.arm.obstruct(1, 0.0, 0.35)
    station.until(lambda _: bool(overloaded()), 0.9)
    assert station.cycle(0.9).decision.mode is Mode.FOLLOW
    station.until(lambda _: not overloaded(), 0.0)
    station.until(lambda report: near(report, 0.1), 0.1)


def test_answers_that_all_come_late_make_it_hold_and_none_is_used(arm):
    """The one row where time is real: 50 ms are waited for what comes after 100."""
    arm.begin()
    port = arm.follower.connection.bus._port
    port.reply_timeout_s = 0.05
    arm.fault(delayed=1.0, delay_s=0.1)
    before = arm.cycle(0.3).positions
    report = arm.until(lambda report: report.decision.mode is Mode.HOLD, 0.9)
    assert report.decision.reasons == ("positions are not up to date",) and report.decision.goals is None
    np.testing.assert_array_equal(report.positions, before)
    arm.fault(delayed=0.0)
    port.reply_timeout_s = LONG_S
    arm.until(lambda report: near(report, 0.4), 0.4)
    bus = arm.follower.connection.bus
    told_apart = sum(count for (_, fault), count in bus.faults.items() if fault in (Fault.LENGTH, Fault.WRONG_ID))
    assert told_apart + bus.late_bytes > 0, "they came, in the time of another question or between two"
