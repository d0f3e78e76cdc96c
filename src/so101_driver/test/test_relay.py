# SPDX-License-Identifier: Apache-2.0
"""What passes on to somebody else's driver. Time is a number here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from so101_description import JOINTS, joint_limits
from so101_driver.arm import Command, Mode
from so101_driver.errors import SafetyError
from so101_driver.estop import EmergencyStop
from so101_driver.relay import Relay
from so101_driver.safety_config import CommandLimits

CYCLE_S = 0.01
REST = np.array([0.0, -0.9, 0.9, 0.9, 0.0, 0.1])


class Arm:
    """Somebody else's arm, which is where it was told to be; it keeps what it was sent."""

    def __init__(self, estop: EmergencyStop | None = None, **limits: float) -> None:
        self.relay = Relay(CommandLimits(**limits), estop or EmergencyStop())
        self.now_s, self.positions, self.sent = 100.0, REST.copy(), []
        self.refused = ""
        self.mode: Mode | None = None

    def run(
        self, seconds: float, wanted: np.ndarray | None = None, *, every: int = 10, age_s: float = 0.0, seen: bool = True
    ) -> Arm:
        """Cycles, with a command in every so many of them; seen: joint_states come."""
        for index in range(round(seconds / CYCLE_S)):
            self.now_s += CYCLE_S
            if seen:
                self.relay.see(self.now_s, self.positions)
            given = wanted is not None and index % every == 0
            command = Command(JOINTS, wanted.tolist(), age_s) if given else None
            decision, positions = self.relay.cycle(self.now_s, command)
            self.mode, self.refused = decision.mode, decision.refused or self.refused
            if positions is not None:
                self.sent.append(positions)
                self.positions = positions.copy()
        return self


def test_nothing_is_sent_before_somebody_commands_and_silence_is_a_hold_afterwards():
    arm = Arm().run(1.0)
    assert not arm.sent and arm.mode is Mode.HOLD
    arm.run(0.5, REST + 0.1)
    np.testing.assert_allclose(arm.sent[-1], REST + 0.1)
    count = len(arm.sent)
    arm.run(0.3)
    within_watchdog = len(arm.sent)
    assert count < within_watchdog <= count + 25
    arm.run(5.0)
    assert len(arm.sent) == within_watchdog and arm.mode is Mode.HOLD


def test_a_command_is_reached_evenly_within_the_ramp_and_no_goal_jumps():
    arm = Arm().run(0.1).run(0.2, REST + 0.1, every=20)
    path = np.array([REST, *arm.sent])
    steps = np.diff(path, axis=0)[:10]
    np.testing.assert_allclose(steps, 0.01, atol=1e-9)  # 0.1 rad in 0.1 s
    assert np.abs(path[10] - (REST + 0.1)).max() < 1e-9


def test_limits_of_position_and_speed_are_kept():
    arm = Arm(max_velocity_rad_s=1.0).run(0.1).run(6.0, np.array([9.0, -9.0, 9.0, -9.0, 9.0, 9.0]))
    lower, upper = np.array([joint_limits()[joint] for joint in JOINTS]).T
    path = np.array([REST, *arm.sent])
    assert (path >= lower - 1e-9).all() and (path <= upper + 1e-9).all()
    assert np.abs(np.diff(path, axis=0))[:, :-1].max() <= 1.0 * CYCLE_S + 1e-9
    np.testing.assert_allclose(path[-1], [upper[0], lower[1], upper[2], lower[3], upper[4], upper[5]])


def test_after_a_silence_it_begins_where_the_arm_is_since_somebody_else_may_have_moved_it():
    arm = Arm().run(0.1).run(0.5, REST + 0.1).run(1.0)
    arm.positions = REST + 0.6
    sent = len(arm.sent)
    arm.run(0.02, REST + 0.65)
    assert np.abs(arm.sent[sent] - (REST + 0.6)).max() < 0.02


def test_a_moment_without_positions_on_the_way_brings_no_jump_back():
    arm = Arm().run(0.1).run(0.1, REST + 0.3, every=10)
    arm.run(0.15, REST + 0.3, seen=False)
    arm.positions = arm.sent[-1] - 0.1  # the arm lags behind
    sent = len(arm.sent)
    arm.run(0.05, REST + 0.3, every=5)
    steps = np.diff(arm.sent[sent - 1 :], axis=0)
    assert len(steps) and (steps >= 0.0).all() and steps.max() < 0.08


def test_old_commands_and_a_silent_arm_move_nothing():
    arm = Arm().run(0.1).run(1.0, REST + 0.3, age_s=0.3)
    assert not arm.sent and "0.300 s old" in arm.refused
    arm = Arm().run(0.1)
    arm.run(0.5, REST + 0.3, seen=False)
    assert len(arm.sent) <= 10, "the positions were up to date for 0.1 s"
    arm.run(0.7, REST + 0.3, seen=False)
    assert arm.mode is Mode.STOPPED, "as with our driver, after lost_s it needs a person's consent"
    count = len(arm.sent)
    arm.run(1.0, REST + 0.3)
    assert len(arm.sent) == count + 1, "once where to stay"
    np.testing.assert_allclose(arm.sent[-1], arm.positions)
    arm.relay.clear(arm.now_s)
    arm.run(0.5, REST + 0.3)
    np.testing.assert_allclose(arm.sent[-1], REST + 0.3)


def test_an_emergency_stop_says_once_where_to_stay_and_outlives_a_restart(tmp_path: Path):
    arm = Arm(EmergencyStop(tmp_path / "stop")).run(0.1).run(0.05, REST + 0.3)
    arm.relay.safety.estop.stop("test")
    count, stood = len(arm.sent), arm.positions.copy()
    arm.run(1.0, REST + 0.3)
    assert len(arm.sent) == count + 1 and arm.mode is Mode.STOPPED
    np.testing.assert_allclose(arm.sent[-1], stood)

    again = Arm(EmergencyStop(tmp_path / "stop")).run(1.0, REST + 0.3)
    assert not again.sent and again.mode is Mode.STOPPED, "it begins stopped, and says nothing at all"
    again.relay.clear(again.now_s)
    again.run(0.3, REST + 0.3)
    assert again.sent and (tmp_path / "stop").read_text() == "clear\n"


def test_a_stop_is_not_cleared_while_nobody_says_where_the_arm_is():
    arm = Arm().run(0.1).run(2.0, seen=False)
    with pytest.raises(SafetyError, match="joint_states do not say where the arm is; start its driver"):
        arm.relay.clear(arm.now_s)
    assert arm.run(0.1).mode is Mode.STOPPED


def test_an_arm_in_degrees_or_from_another_zero_is_refused_and_begins_once_it_is_right():
    arm = Arm()
    arm.positions = np.degrees(REST)
    with pytest.raises(SafetyError, match=r"wrist_flex stands at 51\.57 rad.* or its driver counts in other units"):
        arm.run(0.1)
    assert not arm.relay.begun
    arm.positions = REST
    assert arm.run(0.3, REST + 0.1).sent


def test_what_was_pushed_out_of_its_limits_meanwhile_is_refused():
    arm = Arm().run(0.1)
    arm.positions = REST - 1.5 * np.eye(6)[1]
    arm.run(0.3, REST)
    assert not arm.sent and "shoulder_lift stands at -2.40 rad" in arm.refused
