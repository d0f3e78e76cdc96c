# SPDX-License-Identifier: Apache-2.0
"""Kinematics of the arm: limits, jumps, garbage, accuracy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hilserl_core.kinematics import Kinematics, KinematicsError, euler_of
from so101_description import JOINTS, urdf_path

ROLL = 1.5612
KINEMATICS = Kinematics(urdf_path(), JOINTS)
ANY = st.floats(allow_nan=True, allow_infinity=True)
REACHABLE = st.tuples(st.floats(0.16, 0.29), st.floats(-0.12, 0.12), st.floats(0.0, 0.12)).map(np.array)
ANYWHERE = st.tuples(*[st.floats(-2, 2)] * 3).map(np.array)
SHARES = st.lists(st.floats(0.0, 1.0), min_size=6, max_size=6).map(np.array)


def _walk(position: np.ndarray, joints: np.ndarray) -> np.ndarray:
    """Joints for a position, in steps of 2 cm as a controller takes them."""
    for _ in range(60):
        way = position - KINEMATICS.forward(joints).position
        distance = np.linalg.norm(way)
        target = position if distance < 0.02 else KINEMATICS.forward(joints).position + way * 0.02 / distance
        result = KINEMATICS.inverse(target, joints, ROLL, 0.3)
        assert result.ok, f"lost the way to {position} at {KINEMATICS.forward(joints).position}"
        joints = result.joints
        if distance < 0.02:
            return joints
    raise AssertionError(f"{position} was not reached")


START = _walk(np.array([0.225, 0.0, 0.10]), np.array([0.0, -0.5, 0.6, 1.4, ROLL, 0.1]))


def _rotation(roll: float, pitch: float, yaw: float) -> np.ndarray:
    (cr, cp, cy), (sr, sp, sy) = np.cos([roll, pitch, yaw]), np.sin([roll, pitch, yaw])
    about_x = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
    about_y = np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
    about_z = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


# Origins of the joints of the real arm, xyz in m and rpy in rad, then the gripper frame on the last link of the arm.
ORIGINS = (
    (0.0388353, 0, 0.0624, np.pi, 0, -np.pi),
    (-0.0303992, -0.0182778, -0.0542, -np.pi / 2, -np.pi / 2, 0),
    (-0.11257, -0.028, 0, 0, 0, np.pi / 2),
    (-0.1349, 0.0052, 0, 0, 0, -np.pi / 2),
    (0, -0.0611, 0.0181, np.pi / 2, 0.0486795, np.pi),
)
GRIPPER_FRAME = np.array([-0.0079, -0.000218, -0.0981274])


@settings(max_examples=50, deadline=None)
@given(shares=SHARES)
def test_forward_agrees_with_the_table_of_joint_origins(shares: np.ndarray) -> None:
    joints = KINEMATICS.lower + shares * (KINEMATICS.upper - KINEMATICS.lower)
    rotation, position = np.eye(3), np.zeros(3)
    for origin, angle in zip(ORIGINS, joints[:5], strict=True):
        position = position + rotation @ origin[:3]
        rotation = rotation @ _rotation(*origin[3:]) @ _rotation(0, 0, angle)
    pose = KINEMATICS.forward(joints)
    np.testing.assert_allclose(pose.position, position + rotation @ GRIPPER_FRAME, atol=1e-6)
    np.testing.assert_allclose(pose.rotation, rotation, atol=1e-6)


def test_a_gripper_pointing_down_has_an_orientation_that_does_not_wrap() -> None:
    pose = KINEMATICS.forward(START)
    assert np.abs(pose.euler[:2]).max() < 0.1
    assert np.abs(pose.euler[2]) < 2.6


@settings(max_examples=60, deadline=None)
@given(target=REACHABLE)
def test_reachable_positions_are_met_within_a_millimetre(target: np.ndarray) -> None:
    joints = _walk(target, START)
    assert np.linalg.norm(KINEMATICS.forward(joints).position - target) < 1e-3
    assert abs(joints[4] - ROLL) < 0.1
    assert joints[5] == pytest.approx(0.3)


@settings(max_examples=40, deadline=None)
@given(x=st.floats(0.165, 0.285), y=st.floats(-0.10, 0.10), z=st.floats(0.0, 0.03))
def test_the_gripper_points_down_where_cubes_lie(x: float, y: float, z: float) -> None:
    joints = _walk(np.array([x, y, z]), START)
    assert KINEMATICS.tilt(KINEMATICS.forward(joints).rotation) < 0.1


@settings(max_examples=150, deadline=None)
@given(
    target=st.tuples(*[st.floats(-2, 2)] * 3).map(np.array), shares=SHARES, roll=st.floats(-10, 10), gripper=st.floats(-10, 10)
)
def test_limits_are_never_exceeded_and_the_arm_never_jumps(target, shares, roll, gripper) -> None:
    seed = KINEMATICS.lower + shares * (KINEMATICS.upper - KINEMATICS.lower)
    result = KINEMATICS.inverse(target, seed, roll, gripper)
    assert (result.joints >= KINEMATICS.lower - 1e-12).all()
    assert (result.joints <= KINEMATICS.upper + 1e-12).all()
    assert np.abs(result.joints[:-1] - seed[:-1]).max() <= KINEMATICS.options.max_step_rad + 1e-12
    if result.ok:
        assert result.position_error_m <= KINEMATICS.options.tolerance_m
    else:
        np.testing.assert_allclose(result.joints, seed, atol=1e-12)


@settings(max_examples=150, deadline=None)
@given(target=st.lists(ANY, min_size=3, max_size=3), seed=st.lists(ANY, min_size=6, max_size=6), roll=ANY, gripper=ANY)
def test_garbage_never_raises(target, seed, roll, gripper) -> None:
    result = KINEMATICS.inverse(np.array(target), np.array(seed), roll, gripper)
    assert result.joints.shape == (6,)
    if not np.isfinite([*target, *seed, roll, gripper]).all():
        assert not result.ok
        np.testing.assert_array_equal(result.joints, seed)


@pytest.mark.parametrize("target", [np.zeros(2), np.zeros((3, 3)), np.array([])])
def test_a_target_of_another_shape_is_refused(target: np.ndarray) -> None:
    assert not KINEMATICS.inverse(target, START, ROLL, 0.0).ok


@settings(max_examples=30, deadline=None)
@given(target=REACHABLE)
def test_standing_at_the_target_holds_still(target: np.ndarray) -> None:
    joints = _walk(target, START)
    again = KINEMATICS.inverse(target, joints, ROLL, 0.3)
    assert np.abs(again.joints - joints).max() < 5e-3


def test_the_same_call_gives_the_same_joints_whatever_came_before() -> None:
    target = np.array([0.21, 0.03, 0.06])
    first = KINEMATICS.inverse(target, START, ROLL, 0.2).joints
    KINEMATICS.inverse(np.array([0.3, -0.1, 0.0]), START + 0.1, 0.5, 0.7)
    np.testing.assert_array_equal(KINEMATICS.inverse(target, START, ROLL, 0.2).joints, first)


@settings(max_examples=50, deadline=None)
@given(angles=st.tuples(st.floats(-3, 3), st.floats(-1.5, 1.5), st.floats(-3, 3)))
def test_euler_angles_describe_the_rotation(angles: tuple[float, float, float]) -> None:
    np.testing.assert_allclose(euler_of(_rotation(*angles)), angles, atol=1e-9)


def test_another_arm_is_refused_by_name() -> None:
    with pytest.raises(KinematicsError, match="shoulder_pan"):
        Kinematics(urdf_path(), ["a", "b"])
    with pytest.raises(FileNotFoundError, match=r"absent\.urdf"):
        Kinematics("absent.urdf", JOINTS)
