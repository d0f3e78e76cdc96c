# SPDX-License-Identifier: Apache-2.0
"""Joints turned over the seam of their encoders: what the leader's hand moved is what the follower moves, or nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from so101_description import JOINTS
from so101_driver.arm import ArmState, Command
from so101_driver.calibration import MotorCalibration
from so101_driver.limits import Limits
from so101_driver.safety import Safety
from so101_driver.turns import Turns

WRIST = JOINTS.index("wrist_roll")
SPEED = 10  # counts a cycle
CYCLE_S = 0.01


@pytest.fixture
def limits(calibration: dict[str, MotorCalibration]) -> Limits:
    return Limits(calibration)


def readings(limits: Limits, wrist: float) -> np.ndarray:
    """Readings (J,) rad of an arm in its middle, the wrist's encoder at `wrist` counts, which begin again after 4095."""
    return limits.to_rad(dict.fromkeys(limits.servos, 2047) | {limits.servos[WRIST]: wrist % 4096})


def turned(limits: Limits, turns: Turns, counts: list[int], begin_s: float = 0.0) -> list[float]:
    times = (np.full(6, begin_s + CYCLE_S * index) for index in range(len(counts)))
    return [turns.follow(readings(limits, place), now_s)[WRIST] for place, now_s in zip(counts, times, strict=False)]


@given(st.lists(st.integers(-1900, 1900), min_size=1, max_size=30))
def test_angles_go_on_by_what_was_turned_however_often_the_seam_is_crossed(steps):
    calibration = {joint: MotorCalibration(servo, 0, 0, 0, 4095) for servo, joint in enumerate(JOINTS, start=1)}
    limits = Limits(calibration)
    places = np.cumsum([2047, *steps]).tolist()
    angles = turned(limits, Turns(limits), places)
    np.testing.assert_allclose(np.diff(angles), np.diff(places) * 2 * np.pi / 4095, atol=1e-9)


def test_past_the_seam_a_joint_is_astray_until_it_is_turned_back(limits):
    turns = Turns(limits)
    assert turned(limits, turns, [3900, 4095, 4096])[-1] > np.pi and turns.astray == ("wrist_roll",)
    turned(limits, turns, [4096, 4090], 0.03)
    assert turns.astray == ()


def test_where_nobody_knows_the_side_of_the_seam_a_joint_is_astray_until_it_stands_within_its_limits(limits):
    turns = Turns(limits)
    turned(limits, turns, [20])
    assert turns.astray == ("wrist_roll",)
    turned(limits, turns, [20, 4090, 4000, 3900], 0.01)
    assert turns.astray == () and turned(limits, turns, [3900], 0.05)[0] == pytest.approx(2.84, abs=0.01)


def test_after_a_gap_or_when_the_joints_were_put_elsewhere_nothing_is_taken_for_a_turn(limits):
    turns = Turns(limits)
    turned(limits, turns, [3900, 4100])
    assert turned(limits, turns, [1000], 1.0)[0] == pytest.approx(readings(limits, 1000)[WRIST]) and not turns.astray
    turns.forget()
    assert turned(limits, turns, [3500], 1.01)[0] == pytest.approx(readings(limits, 3500)[WRIST]) and not turns.astray


def test_a_joint_with_stops_that_reads_over_the_seam_is_where_it_is(calibration):
    """A range that begins close to 0: a little play, and the servo reads 4090."""
    near = calibration | {"elbow_flex": MotorCalibration(3, 0, 0, 10, 2400)}
    limits = Limits(near)
    counts = dict.fromkeys(limits.servos, 2047)
    before, after = limits.to_rad(counts | {3: 2}), limits.to_rad(counts | {3: 4090})
    assert after[2] - before[2] == pytest.approx(-8 * 2 * np.pi / 4095)


@pytest.mark.parametrize("way", [1, -1])
def test_a_stream_of_commands_over_the_seam_leaves_the_follower_at_its_limit(limits, way):
    """The commands come from a sender that reads one turn of an encoder only."""
    safety, now_s = Safety(limits), 0.0
    begin = 2047 + way * 1500
    at = readings(limits, begin)
    safety.reset(at)
    travelled = []
    for step in range(1000):
        now_s += CYCLE_S
        wanted = readings(limits, begin + way * min(SPEED * step, 700))
        decision = safety.step(now_s, ArmState(at), Command(JOINTS, wanted.tolist()))
        at = limits.to_rad(decision.goals)
        travelled.append(at[WRIST] * way)
    assert min(travelled) >= travelled[0] - 1e-6, "it never goes the other way"
    assert travelled[-1] == pytest.approx(abs((limits.upper if way > 0 else limits.lower)[WRIST]), abs=2e-3)


def test_after_a_pause_a_far_command_is_one(limits):
    safety = Safety(limits)
    safety.reset(readings(limits, 3700))
    safety.step(0.0, ArmState(readings(limits, 3700)), Command(JOINTS, readings(limits, 3700).tolist()))
    at, far = readings(limits, 3700), readings(limits, 400)
    for step in range(500):
        decision = safety.step(1.0 + CYCLE_S * step, ArmState(at), Command(JOINTS, far.tolist()))
        at = limits.to_rad(decision.goals)
    np.testing.assert_allclose(at, far, atol=2e-3)
