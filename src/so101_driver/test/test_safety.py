# SPDX-License-Identifier: Apache-2.0
"""What happens to commands before they become goals. Time is a number here."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from so101_description import JOINTS
from so101_driver.arm import ArmState, Command, Decision, Mode
from so101_driver.calibration import MotorCalibration
from so101_driver.errors import SafetyError
from so101_driver.limits import Limits
from so101_driver.safety import Safety
from so101_driver.safety_config import SafetyConfig

TICK_S = 0.01
REST = np.zeros(6)


class Arm:
    """An arm that is where it was told to be, a cycle later."""

    def __init__(self, calibration: dict[str, MotorCalibration], **config: float) -> None:
        self.safety = Safety(Limits(calibration), SafetyConfig(**config))
        self.safety.reset(REST)
        self.state, self.now_s = ArmState(REST.copy()), 100.0
        self.decision: Decision | None = None
        self.step()

    def step(self, command: Command | None = None, follows: bool = True, **state: object) -> Decision:
        self.now_s += TICK_S
        self.state = replace(self.state, **state)
        self.decision = self.safety.step(self.now_s, self.state, command)
        if follows and self.decision.goals is not None:
            self.state = replace(self.state, positions=self.safety.limits.to_rad(self.decision.goals))
        return self.decision

    def run(self, seconds: float, command: Command | None = None, **kwargs: object) -> Decision:
        for _ in range(round(seconds / TICK_S)):
            self.step(command, **kwargs)
        return self.decision


def to(*positions: float, age_s: float = 0.0) -> Command:
    return Command(JOINTS, positions, age_s)


def all_at(angle: float) -> Command:
    return to(*[angle] * 6)


@pytest.fixture
def arm(calibration) -> Arm:
    return Arm(calibration)


def test_it_is_off_until_it_is_switched_on(calibration):
    safety = Safety(Limits(calibration))
    decision = safety.step(0.0, ArmState(REST), all_at(0.1))
    assert decision.goals is None and decision.mode is Mode.STOPPED and decision.refused == "not switched on"


def test_switched_on_it_holds_where_it_stands(calibration):
    safety, stand = Safety(Limits(calibration)), np.array([0.3, -0.4, 0.5, 0.1, -1.0, 0.6])
    safety.reset(stand)
    decision = safety.step(0.0, ArmState(stand))
    assert decision.mode is Mode.HOLD
    np.testing.assert_allclose(safety.limits.to_rad(decision.goals), stand, atol=0.001)


@pytest.mark.parametrize("stand", [[3.0, 0, 0, 0, 0, 0], [math.nan, 0, 0, 0, 0, 0], [0.0]])
def test_it_is_not_switched_on_where_it_cannot_be(calibration, stand):
    with pytest.raises(SafetyError, match=r"shoulder_pan stands at 3.00 rad, its limits|expected 6 finite numbers"):
        Safety(Limits(calibration)).reset(np.array(stand))


def test_a_command_is_followed_evenly_within_its_tick(arm):
    arm.step(all_at(0.1))
    for _ in range(4):
        arm.step()
    np.testing.assert_allclose(arm.decision.positions, 0.05, atol=0.002)
    for _ in range(6):
        arm.step()
    np.testing.assert_allclose(arm.decision.positions, 0.1, atol=1e-9)
    assert arm.decision.mode is Mode.FOLLOW and not arm.decision.clipped


def test_joints_are_taken_by_name(arm):
    names, values = JOINTS[::-1], [0.06, 0.05, 0.04, 0.03, 0.02, 0.01]
    arm.run(0.15, Command(names, values))
    np.testing.assert_allclose(arm.decision.positions, values[::-1], atol=1e-9)


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        (Command(JOINTS[:5], [0.1] * 5), "joints"),
        (Command((*JOINTS[:5], "jaw"), [0.1] * 6), "joints"),
        (Command((*JOINTS[:5], JOINTS[0]), [0.1] * 6), "joints"),
        (Command(JOINTS, [0.1] * 5), "joints"),
        (Command((), ()), "joints"),
        (all_at(math.nan), "not finite"),
        (to(0.1, 0.1, 0.1, 0.1, 0.1, math.inf), "not finite"),
        (to(*[0.1] * 6, age_s=0.3), "stale"),
        (to(*[0.1] * 6, age_s=-0.3), "stale"),
        (to(*[0.1] * 6, age_s=math.nan), "stale"),
    ],
)
def test_what_is_no_command_is_refused_and_counted(arm, command, kind):
    decision = arm.step(command)
    assert decision.refused and arm.safety.counts == {f"refused: {kind}": 1}
    arm.run(0.2)
    np.testing.assert_array_equal(arm.decision.positions, REST)


def test_positions_beyond_the_limits_are_clipped_and_reported(arm):
    decision = arm.step(all_at(9.0))
    assert set(decision.clipped) == set(JOINTS)
    assert arm.safety.counts["clipped: position of elbow_flex"] == 1
    arm.run(2.0, all_at(9.0))
    assert arm.decision.goals == arm.safety.limits.highest


def test_a_joint_is_never_told_to_move_faster_than_allowed(arm):
    before = REST
    for _ in range(100):
        positions = arm.step(all_at(1.5)).positions
        assert (np.abs(positions - before)[:5] <= 2.0 * TICK_S + 1e-9).all()
        assert abs(positions[5] - before[5]) <= 4.0 * TICK_S + 1e-9
        before = positions
    assert arm.safety.counts["clipped: velocity of wrist_roll"] > 0
    np.testing.assert_allclose(before, 1.5, atol=1e-6)


def test_a_late_cycle_does_not_make_a_jump(arm):
    arm.step(all_at(1.5))
    arm.now_s += 0.2
    before = arm.decision.positions
    assert np.abs(arm.step(all_at(1.5)).positions - before).max() <= arm.safety.config.max_step_rad + 1e-9


def test_silence_means_hold(arm):
    arm.step(all_at(1.5))
    arm.run(0.24)
    assert arm.decision.mode is Mode.FOLLOW
    arm.run(0.03)
    held = arm.decision.positions.copy()
    assert arm.decision.mode is Mode.HOLD and arm.decision.goals is not None and held[0] < 1.0
    arm.run(1.0)
    np.testing.assert_array_equal(arm.decision.positions, held)
    arm.run(0.1, all_at(1.5))
    assert arm.decision.mode is Mode.FOLLOW and arm.decision.positions[0] > held[0]


def test_an_emergency_stop_is_latched_and_nothing_is_written_after_the_next_cycle(arm):
    arm.run(0.05, all_at(1.0))
    arm.safety.stop("e-stop")
    stay = arm.step(all_at(1.0), positions=np.full(6, 0.02))
    assert stay.mode is Mode.STOPPED and stay.refused == "e-stop" and stay.reasons == ("e-stop",)
    np.testing.assert_allclose(arm.safety.limits.to_rad(stay.goals), 0.02, atol=0.001)
    for _ in range(200):
        assert arm.step(all_at(1.0)).goals is None
    arm.safety.stop("another reason")
    assert arm.safety.stopped == "e-stop"
    arm.safety.reset(arm.state.positions)
    assert arm.step().mode is Mode.HOLD
    np.testing.assert_allclose(arm.decision.positions, 0.02, atol=0.001)
    assert arm.step(all_at(1.0)).mode is Mode.FOLLOW


def test_blind_it_writes_nothing_and_after_a_while_it_stops(arm):
    arm.run(0.05, all_at(1.0))
    decision = arm.step(all_at(1.0), age_s=0.2)
    assert decision.goals is None and decision.mode is Mode.HOLD and "up to date" in decision.refused
    assert arm.step(age_s=0.0).goals is not None
    arm.step(age_s=1.1)
    assert arm.decision.mode is Mode.STOPPED and "no positions for 1 s" in arm.decision.reasons[0]
    assert arm.step(all_at(0.0), age_s=0.0).goals is not None  # once, where to stay
    assert arm.step(all_at(0.0)).goals is None


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ({"temperatures": {"elbow_flex": 61}}, r"elbow_flex is hot \(61 °C\)"),
        ({"voltages": {"gripper": 4.3}}, r"gripper gets 4.3 V, expected 4.5 to 7.9 V"),
        ({"voltages": {"gripper": 8.4}}, r"gripper gets 8.4 V"),
    ],
)
def test_a_servo_in_need_makes_the_arm_hold_before_the_servo_acts(arm, state, reason):
    arm.run(0.05, all_at(1.0))
    before = arm.decision.positions
    decision = arm.step(all_at(1.0), **state)
    assert decision.mode is Mode.HOLD and decision.goals is not None
    assert arm.safety.counts["refused: protected"] == 1
    np.testing.assert_array_equal(decision.positions, before)
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(decision.reasons[0])


def test_a_hot_servo_must_cool_down_well(arm):
    arm.step(temperatures={"elbow_flex": 60})
    assert arm.step(all_at(1.0), temperatures={"elbow_flex": 57}).mode is Mode.HOLD
    assert arm.step(all_at(1.0), temperatures={"elbow_flex": 54}).mode is Mode.FOLLOW


def _squeeze(arm: Arm, seconds: float, load: float = -0.6, jaw: float = 0.3, target: float = 0.0) -> Decision:
    """The gripper, told to close, stands on something."""
    for _ in range(round(seconds / TICK_S)):
        positions = arm.state.positions.copy()
        positions[-1] = jaw
        arm.step(to(0, 0, 0, 0, 0, target), follows=False, positions=positions, loads={"gripper": load})
    return arm.decision


def test_a_gripper_that_presses_too_long_is_eased_and_keeps_its_hold(calibration):
    arm = Arm(calibration)
    arm.safety.reset(np.array([0, 0, 0, 0, 0, 0.35]))
    assert _squeeze(arm, 0.9).positions[-1] == pytest.approx(0.0, abs=1e-6) and not arm.decision.reasons
    eased = _squeeze(arm, 0.3)
    assert eased.positions[-1] == pytest.approx(0.3, abs=0.001) and "eased" in eased.reasons[0] and eased.mode is Mode.FOLLOW
    held = _squeeze(arm, 2.0, load=-0.1)
    assert held.positions[-1] == pytest.approx(0.3 - 0.03, abs=0.001)


def test_an_eased_gripper_recovers_when_told_to_open_or_when_the_thing_is_gone(calibration):
    for jaw, target in ((0.3, 0.6), (0.01, 0.0)):
        arm = Arm(calibration)
        arm.safety.reset(np.array([0, 0, 0, 0, 0, 0.35]))
        _squeeze(arm, 1.5)
        decision = _squeeze(arm, 0.5, load=0.0, jaw=jaw, target=target)
        assert not decision.reasons and decision.positions[-1] == pytest.approx(target, abs=0.02)


def test_a_servo_that_has_cut_its_torque_is_eased_at_once(calibration):
    arm = Arm(calibration)
    arm.safety.reset(np.array([0, 0, 0, 0, 0, 0.35]))
    _squeeze(arm, 0.2, load=-0.2)
    arm.state = replace(arm.state, overloaded=frozenset({"gripper"}))
    assert _squeeze(arm, 0.1, load=-0.2).positions[-1] == pytest.approx(0.3, abs=0.001)


def test_settings_that_contradict_themselves_are_refused():
    with pytest.raises(SafetyError, match="cool_c must not be above hot_c"):
        SafetyConfig(hot_c=50.0, cool_c=55.0)
    with pytest.raises(SafetyError, match=r"safety.watchdog_s is 0.0, allowed: 0.02 to 10.0"):
        SafetyConfig(watchdog_s=0.0)


ANY = st.floats(allow_nan=True, allow_infinity=True)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.lists(ANY, min_size=4, max_size=7), ANY, st.floats(0, 2)), max_size=30))
def test_whatever_comes_whenever_it_stays_within_limits_and_steps(sequence):
    calibration = {joint: MotorCalibration(i + 1, 0, 0, 1000, 3000) for i, joint in enumerate(JOINTS)}
    arm = Arm(calibration)
    before = arm.safety.limits.to_goals(REST)
    for positions, age_s, pause_s in sequence:
        arm.now_s += pause_s
        decision = arm.step(Command(JOINTS[: len(positions)], positions, age_s))
        _check(arm, before, decision)
        before = decision.goals or before


def test_a_hundred_thousand_fuzzed_commands_leave_no_limit(calibration):
    arm, rng = Arm(calibration), random.Random(5)
    before, followed = arm.safety.limits.to_goals(REST), 0
    for _ in range(100_000):
        decision = arm.step(_fuzz(rng))
        _check(arm, before, decision)
        followed += decision.mode is Mode.FOLLOW and decision.goals != before
        before = decision.goals
    counts = arm.safety.counts
    assert followed > 50_000 and all(counts[f"refused: {kind}"] > 1000 for kind in ("joints", "not finite", "stale"))


def _fuzz(rng: random.Random) -> Command:
    scale = rng.choice((0.1, 1.0, 10.0, 1e6, 1e300))
    values = [rng.uniform(-scale, scale) for _ in range(6)]
    names, age_s = list(JOINTS), 0.0
    kind = rng.randrange(10)
    if kind == 0:
        values[rng.randrange(6)] = rng.choice((math.nan, math.inf, -math.inf))
    elif kind == 1:
        rng.choice((names, values)).pop()
    elif kind == 2:
        names[rng.randrange(6)] = "tail"
    elif kind == 3:
        age_s = rng.uniform(-100.0, 100.0)
    rng.shuffle(names)
    return Command(names, values, age_s)


def _check(arm: Arm, before: dict[int, int], decision: Decision) -> None:
    limits, step = arm.safety.limits, arm.safety.config.max_step_rad
    for index, (servo, goal) in enumerate((decision.goals or {}).items()):
        low, high = limits.lowest[servo], limits.highest[servo]
        assert low <= goal <= high
        assert abs(goal - before[servo]) <= step * (high - low) / (limits.upper[index] - limits.lower[index]) + 1
