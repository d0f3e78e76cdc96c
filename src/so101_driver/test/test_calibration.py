# SPDX-License-Identifier: Apache-2.0
"""Calibration files and what they mean."""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from so101_description import joint_limits
from so101_driver.calibration import (
    Conversion,
    MotorCalibration,
    calibration_folder,
    find_calibration,
    read_calibration,
    write_calibration,
)
from so101_driver.errors import CalibrationError
from so101_driver.limits import Limits


def test_a_file_is_read_as_it_was_written(tmp_path: Path, calibration):
    file = tmp_path / "deep" / "arm.json"
    write_calibration(file, calibration)
    assert read_calibration(file) == calibration
    assert [path.name for path in file.parent.iterdir()] == ["arm.json"]


def test_the_middle_of_an_arm_joints_range_is_zero_and_degrees_are_lerobots():
    conversion = Conversion.of("elbow_flex", MotorCalibration(3, 0, 100, 1000, 3001))
    assert conversion.to_rad(2000.5) == 0.0
    assert math.degrees(conversion.to_rad(3000)) == pytest.approx((3000 - 2000.5) * 360 / 4095)


@pytest.mark.parametrize(("turned", "closed"), [(0, 1400), (1, 2700)])
def test_the_grippers_range_is_its_joints_range(turned, closed):
    conversion = Conversion.of("gripper", MotorCalibration(6, turned, 0, 1400, 2700))
    low, high = joint_limits()["gripper"]
    assert conversion.to_rad(closed) == pytest.approx(low)
    assert conversion.to_rad(4100 - closed) == pytest.approx(high)


@given(st.integers(0, 4095), st.sampled_from(["shoulder_pan", "gripper"]), st.integers(0, 1))
def test_counts_survive_the_way_to_angles_and_back(counts, joint, turned):
    conversion = Conversion.of(joint, MotorCalibration(1, turned, 0, 700, 3400))
    assert conversion.to_counts(conversion.to_rad(counts)) == pytest.approx(counts)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"gripper": None}, "holds .*, expected shoulder_pan, .*; calibrate the arm again"),
        ({"elbow_flex": {"range_min": 3000, "range_max": 2000}}, "elbow_flex.range_max is 2000, allowed: 3001 to 4095"),
        ({"elbow_flex": {"homing_offset": 2048}}, "elbow_flex.homing_offset is 2048, allowed: -2047 to 2047"),
        ({"elbow_flex": {"id": 0}}, "elbow_flex.id is 0, expected 3: servos are numbered 1 to 6 from the base"),
        ({"elbow_flex": {"id": 4}}, "elbow_flex.id is 4, expected 3"),
        ({"elbow_flex": {"id": 4}, "wrist_flex": {"id": 3}}, "elbow_flex.id is 4, expected 3"),
        ({"gripper": {"id": 7}}, "gripper.id is 7, expected 6"),
        ({"elbow_flex": {"range_min": 2047, "range_max": 2048}}, "elbow_flex has a range of 1 counts, expected at least 100"),
        ({"gripper": {"range_min": 2000, "range_max": 2099}}, "gripper has a range of 99 counts, expected at least 100"),
        ({"elbow_flex": {"id": 1.5}}, "elbow_flex.id is 1.5, expected a whole number"),
        ({"elbow_flex": {"model": 3}}, "elbow_flex is .*, expected the fields id, drive_mode"),
    ],
)
def test_a_file_that_makes_no_sense_is_named_with_the_place(tmp_path: Path, calibration, change, sentence):
    content = {joint: asdict(motor) for joint, motor in calibration.items()}
    for joint, values in change.items():
        content = {k: v for k, v in content.items() if k != joint} if values is None else content
        if values:
            content[joint] |= values
    file = tmp_path / "arm.json"
    file.write_text(json.dumps(content))
    with pytest.raises(CalibrationError, match=f"arm.json.*{sentence}"):
        read_calibration(file)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\0"])
def test_a_file_that_is_none_is_named(tmp_path: Path, text):
    file = tmp_path / "arm.json"
    file.write_text(text)
    with pytest.raises(CalibrationError, match=r"arm\.json .*; calibrate the arm again"):
        read_calibration(file)


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, calibration, monkeypatch):
    file = tmp_path / "arm.json"
    write_calibration(file, calibration)
    before = file.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    other = calibration | {"gripper": replace(calibration["gripper"], range_max=2000)}
    with pytest.raises(CalibrationError, match=r"arm\.json cannot be written: No space left"):
        write_calibration(file, other)
    assert file.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_files_are_where_lerobot_keeps_them(tmp_path: Path, calibration, monkeypatch):
    for name in ("HF_LEROBOT_CALIBRATION", "HF_LEROBOT_HOME", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    home = Path("~/.cache/huggingface/lerobot/calibration").expanduser()
    assert calibration_folder("follower") == home / "robots/so_follower"
    assert calibration_folder("leader") == home / "teleoperators/so_leader"
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    assert calibration_folder("leader") == tmp_path / "lerobot/calibration/teleoperators/so_leader"
    monkeypatch.setenv("HF_LEROBOT_CALIBRATION", str(tmp_path / "mine"))
    with pytest.raises(CalibrationError, match=r"the follower 'arm' is not calibrated: there is no .*/mine/robots/so_follower"):
        find_calibration("follower", "arm")
    old = tmp_path / "mine/robots/so101_follower/arm.json"
    write_calibration(old, calibration)
    assert find_calibration("follower", "arm") == old
    write_calibration(new := calibration_folder("follower") / "arm.json", calibration)
    assert find_calibration("follower", "arm") == new


def test_limits_are_what_calibration_and_description_both_allow(calibration):
    limits, described = Limits(calibration), joint_limits()
    assert (limits.lowest[2], limits.highest[2]) == (910, 3185)  # ±1.74533 rad about 2047.5
    assert (limits.lowest[1], limits.highest[1]) == (900, 3195)  # the calibration is narrower
    assert (limits.lowest[6], limits.highest[6]) == (1421, 2673)
    for joint, low, high in zip(limits.joints, limits.lower, limits.upper, strict=True):
        assert described[joint][0] - 1e-9 <= low < high <= described[joint][1] + 1e-9


def test_a_joint_without_room_is_named(calibration):
    narrow = calibration | {"wrist_roll": replace(calibration["wrist_roll"], range_min=0, range_max=1)}
    assert Limits(narrow)  # its middle is the joint's zero, however narrow the range
    far = calibration | {"gripper": replace(calibration["gripper"], range_min=5, range_max=6)}
    assert Limits(far)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=6, max_size=6))
def test_no_angle_gives_a_goal_outside_the_limits(angles):
    limits = Limits({joint: MotorCalibration(i + 1, 0, 0, 1000, 3000) for i, joint in enumerate(joint_limits())})
    for servo, counts in limits.to_goals(angles).items():
        assert limits.lowest[servo] <= counts <= limits.highest[servo]
