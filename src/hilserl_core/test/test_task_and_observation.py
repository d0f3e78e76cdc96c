# SPDX-License-Identifier: Apache-2.0
"""The task specification and what is made by it."""

import dataclasses

import numpy as np
import pytest

from hilserl_core.observation import ObservationError, network_image, state_vector
from hilserl_core.step import Mode, Step, StepError, check_step
from hilserl_core.task import TaskError, TaskSpec

TASK = TaskSpec()


def test_digest_and_differences_name_what_differs():
    other = dataclasses.replace(TASK, crops=(0, 0, 480, 480))
    assert TASK.digest() == TaskSpec.from_dict(TASK.as_dict()).digest() != other.digest()
    assert TASK.differences(other) == ["task.crops: [0, 80, 480, 480] here, [0, 0, 480, 480] there"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"crops": (0, 200, 480, 480)}, "leaves the 640x480 image"),
        ({"crops": (0, 0, 480)}, "has 3 values, expected 4"),
        ({"rotations_deg": (45,)}, "allowed: 0, 90, 180, 270"),
        ({"workspace_min_m": (0.4, 0, 0)}, "is not below"),
        ({"state": ("joint_positions", "smell")}, "smell"),
        ({"cameras": ()}, "expected"),
    ],
)
def test_contradictions_are_named(change, sentence):
    with pytest.raises(TaskError, match=sentence):
        dataclasses.replace(TASK, **change)


def test_image_is_cropped_to_the_centre_square_then_resized():
    image = np.zeros((480, 640, 3), np.uint8)
    image[:, :80] = 255  # left of the crop
    image[:, 80:320] = (255, 0, 0)
    out = network_image(image, "wrist", TASK)
    assert out.shape == (128, 128, 3) and out.dtype == np.uint8 and out.flags.c_contiguous
    assert (out[:, :64] == (255, 0, 0)).all() and (out[:, 64:] == 0).all()


def test_rotation_by_180_degrees_turns_the_image_and_not_only_mirrors_it():
    image = np.zeros((480, 640, 3), np.uint8)
    image[:240, 80:320] = 255  # upper left quarter of the square
    turned = network_image(image, "wrist", dataclasses.replace(TASK, rotations_deg=(180,)))
    assert turned[100, 100].min() == 255 and turned[20, 20].max() == 0 and turned[100, 20].max() == 0


def test_an_image_of_another_size_is_refused_and_not_stretched():
    with pytest.raises(ObservationError, match=r"delivers uint8 \(240, 320, 3\), the task expects"):
        network_image(np.zeros((240, 320, 3), np.uint8), "wrist", TASK)


def test_state_is_laid_out_by_joint_name_not_by_order():
    positions = {joint: float(i) for i, joint in enumerate(TASK.joints)}
    shuffled = dict(reversed(positions.items()))
    state = state_vector(shuffled, dict.fromkeys(TASK.joints, 0.5), np.ones(3), np.zeros(3), TASK)
    assert state.shape == (18,) and state.dtype == np.float32
    assert state[:6].tolist() == [0, 1, 2, 3, 4, 5] and state[6:12].tolist() == [0.5] * 6 and state[12:15].tolist() == [1] * 3


def test_nan_and_missing_joints_are_refused():
    zeros = dict.fromkeys(TASK.joints, 0.0)
    with pytest.raises(ObservationError, match="not finite"):
        state_vector({**zeros, "gripper": float("nan")}, zeros, np.zeros(3), np.zeros(3), TASK)
    with pytest.raises(ObservationError, match="joint_states gives joint_velocities that are not finite"):
        state_vector(zeros, dict.fromkeys(TASK.joints, float("nan")), np.zeros(3), np.zeros(3), TASK)
    with pytest.raises(ObservationError, match="elbow_flex"):
        state_vector({k: v for k, v in zeros.items() if k != "elbow_flex"}, zeros, np.zeros(3), np.zeros(3), TASK)


def _step(**changes) -> Step:
    step = Step(
        run_id="r", sequence=1, episode=0, index=0, mode=Mode.TRAINING, stamp_ns=1, is_first=True, is_last=False,
        is_terminal=False, state=np.zeros(18, np.float32), images={"wrist": np.zeros((128, 128, 3), np.uint8)},
        action=np.zeros(4, np.float32), reward=0.0, intervention=False, success=False, policy_version=0,
    )  # fmt: skip
    return dataclasses.replace(step, **changes)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"sequence": 0}, "start at 1"),
        ({"state": np.zeros(17, np.float32)}, r"state has shape \(17,\), expected \(18,\)"),
        ({"state": np.full(18, np.nan, np.float32)}, "not finite"),
        ({"images": {"front": np.zeros((128, 128, 3), np.uint8)}}, "expected .*wrist"),
        ({"images": {"wrist": np.zeros((84, 84, 3), np.uint8)}}, "expected uint8"),
        ({"action": np.zeros(3, np.float32)}, "action has shape"),
        ({"action": np.array([0, 0, 2, 0], np.float32)}, "leaves"),
        ({"action": None}, "action has shape None"),
        ({"is_last": True}, "last step of an episode has no action"),
        ({"is_terminal": True}, "is_terminal without is_last"),
        ({"index": 3}, "is_first is True at index 3"),
        ({"reward": float("inf")}, "reward"),
    ],
)
def test_a_step_that_does_not_fit_is_named(change, sentence):
    check_step(_step(), TASK)
    with pytest.raises(StepError, match=sentence):
        check_step(_step(**change), TASK)
