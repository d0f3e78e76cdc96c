# SPDX-License-Identifier: Apache-2.0
"""Which frames are a success: in a row, with hysteresis, gated, and always the same whether live or recorded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from classifier_fixtures import TASK, make_classifier, make_frames
from hypothesis import given
from hypothesis import strategies as st

from reward_classifier_node.api import judge_frames
from reward_classifier_node.artifact import read_artifact, write_artifact
from reward_classifier_node.decision import Gate, Judge, Rule, decide
from reward_classifier_node.errors import ClassifierError, DataError


def said(probabilities: str, rule: Rule, **more) -> str:
    """Digits are tenths of a probability; the answer has 1 for a success."""
    found = decide(np.array([int(digit) / 10 for digit in probabilities]), rule, **more)
    return "".join("1" if value else "0" for value in found)


def test_a_success_begins_with_the_third_frame_in_a_row():
    assert said("0990999900", Rule(0.8, debounce=3)) == "0000001100"


def test_one_frame_is_enough_without_debounce():
    assert said("0909", Rule(0.8, debounce=1)) == "0101"


def test_the_lower_threshold_ends_a_success_and_does_not_begin_one():
    rule = Rule(0.8, debounce=2, hysteresis=0.5)
    assert said("99556499", rule) == "01111001"
    assert said("555555", rule) == "000000"


def test_after_its_end_a_success_has_to_be_seen_in_a_row_again():
    assert said("9999099", Rule(0.8, debounce=3, hysteresis=0.0)) == "0011000"


def test_a_threshold_is_not_above_itself():
    assert said("8888", Rule(0.8, debounce=1)) == "0000"


def test_full_hysteresis_still_ends_at_zero():
    assert said("990", Rule(0.8, debounce=1, hysteresis=1.0)) == "110"


def test_a_gripper_that_is_open_moves_or_does_not_press_holds_nothing():
    rule = Rule(0.8, debounce=2, gate=Gate(0.1, 0.3, min_effort=0.9, max_speed=0.2))
    held = (0.2, 0.0, -1.0)
    readings = np.array([held, held, (0.5, 0.0, 1.0), held, held, (0.05, 0.0, 1.0), held, held, (0.2, 0.0, 0.5), held, held,
                         (0.2, -0.3, 1.0), held])  # fmt: skip
    assert said("9" * len(readings), rule, grippers=readings) == "0100100100100"
    readings = np.array([(0.2, 9.0, 0.0), (0.4, 0.0, 0.0)])
    assert said("99", Rule(0.8, debounce=1, gate=Gate(0.1, 0.3)), grippers=readings) == "10"
    with pytest.raises(ClassifierError, match="what the gripper reports"):
        said("9", rule)
    with pytest.raises(ClassifierError, match="lowest first"):
        Gate(0.3, 0.1)


def test_an_episode_begins_anew():
    assert said("999999", Rule(0.8, debounce=3), episodes=np.array([0, 0, 0, 1, 1, 1])) == "001001"


def test_a_probability_that_is_no_number_ends_a_success():
    judge = Judge(Rule(0.5, debounce=1))
    assert judge.judge(0.9) and not judge.judge(float("nan"))


@given(st.lists(st.floats(0, 1, width=32), max_size=60), st.integers(1, 5), st.floats(0.01, 0.99))
def test_without_hysteresis_a_success_is_exactly_a_row_of_frames_above(probabilities, count, threshold):
    found = decide(np.array(probabilities), Rule(threshold, count, hysteresis=0.0))
    above = [value > threshold for value in probabilities]
    assert found.tolist() == [row + 1 >= count and all(above[row + 1 - count : row + 1]) for row in range(len(above))]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"threshold": 1.5}, "threshold is 1.5"),
        ({"threshold": 0.5, "debounce": 0}, "debounce is 0"),
        ({"threshold": 0.5, "hysteresis": -0.1}, "hysteresis is -0.1"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(wrong, message):
    with pytest.raises(ClassifierError, match=message):
        Rule(**wrong)


def test_lengths_that_differ_are_refused():
    with pytest.raises(ClassifierError, match="2 probabilities and 3 episodes"):
        decide(np.zeros(2), Rule(0.5), episodes=np.zeros(3))


def test_recorded_frames_are_judged_at_any_size_episode_by_episode(tmp_path):
    task = replace(TASK, camera_sizes=(256, 256), crops=(64, 64, 128, 128), success_reward=2.0)
    write_artifact(tmp_path / "a", make_classifier(task), task, 0.0, {})
    artifact = read_artifact(tmp_path / "a", task)
    seen = make_frames(2, task=task).images[:, 0]
    camera = np.pad(seen, ((0, 0), (64, 64), (64, 64), (0, 0)))
    episodes = np.repeat([0, 1], 8)
    expected = artifact.classifier.probabilities(seen[:, None])
    assert expected.std() > 1e-3
    for frames in (seen, camera):
        found = judge_frames(artifact, {"wrist": frames}, episodes)
        np.testing.assert_array_equal(found.probabilities, expected)
        assert found.success.tolist() == [index % 8 >= 2 for index in range(16)]
        assert found.rewards.tolist() == [2.0 * value for value in found.success]


def test_frames_of_another_camera_or_size_are_refused(tmp_path):
    write_artifact(tmp_path / "a", make_classifier(), TASK, 0.5, {})
    artifact = read_artifact(tmp_path / "a", TASK)
    with pytest.raises(DataError, match="expected as many of each of"):
        judge_frames(artifact, {"front": np.zeros((1, 128, 128, 3), np.uint8)})
    with pytest.raises(DataError, match="100x100"):
        judge_frames(artifact, {"wrist": np.zeros((1, 100, 100, 3), np.uint8)})


def test_an_artifact_is_known_by_name_and_content(tmp_path):
    for name, seed in (("a", 0), ("b", 1)):
        write_artifact(tmp_path / name, make_classifier(seed=seed), TASK, 0.5, {})
    first, second = (read_artifact(tmp_path / name, TASK).identity for name in "ab")
    assert first.startswith("a ") and second.startswith("b ") and first[2:] != second[2:] and len(first) == 14
