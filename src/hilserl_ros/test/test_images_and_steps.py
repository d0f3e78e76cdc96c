# SPDX-License-Identifier: Apache-2.0
"""Messages to core types and back, without loss and without believing what does not fit."""

import array
import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import Image

from hilserl_core.step import Mode, Step, StepError
from hilserl_core.task import TaskSpec
from hilserl_interfaces.msg import Step as StepMessage
from hilserl_ros.convert import joint_command, message_to_step, step_to_message, to_ns, to_stamp
from hilserl_ros.images import ImageError, image_to_rgb, rgb_to_image

TASK = TaskSpec(cameras=("wrist", "front"), camera_sizes=(640, 480) * 2, crops=(0, 80, 480, 480) * 2, rotations_deg=(0, 0))
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (6, 5, 3), np.uint8)


def _step(**changes) -> Step:
    images = {camera: RNG.integers(0, 256, (128, 128, 3), np.uint8) for camera in TASK.cameras}
    step = Step(
        run_id="run", sequence=7, episode=2, index=3, mode=Mode.TRAINING, stamp_ns=12_345_678_901, is_first=False,
        is_last=False, is_terminal=False, state=RNG.normal(size=18).astype(np.float32), images=images,
        action=np.array([0.5, -1, 0, 1], np.float32), reward=0.0, intervention=True, success=False, policy_version=9,
    )  # fmt: skip
    return dataclasses.replace(step, **changes)


def _same(a: Step, b: Step) -> bool:
    arrays = ("state", "images", "action")
    plain = {item.name for item in dataclasses.fields(Step)} - set(arrays)
    return (
        all(getattr(a, name) == getattr(b, name) for name in plain)
        and np.array_equal(a.state, b.state)
        and all(np.array_equal(a.images[camera], b.images[camera]) for camera in TASK.cameras)
        and (a.action is None) == (b.action is None)
        and (a.action is None or np.array_equal(a.action, b.action))
    )


@pytest.mark.parametrize("step", [_step(), _step(reward=None), _step(action=None, reward=None, is_last=True, is_terminal=True)])
def test_a_step_survives_the_wire_unchanged(step):
    wire = serialize_message(step_to_message(step, TASK))
    assert _same(message_to_step(deserialize_message(wire, StepMessage), TASK), step)


@pytest.mark.parametrize(
    ("break_it", "sentence"),
    [
        (lambda m: setattr(m, "task_digest", "other"), "start every node with the same config/task.yaml"),
        (lambda m: m.images.pop(), "has 1 images"),
        (lambda m: setattr(m, "mode", 9), "mode 9"),
        (lambda m: setattr(m, "state", array.array("f", [0.0] * 3)), "state has shape"),
        (lambda m: setattr(m.images[0], "data", array.array("B", b"short")), "holds 5 bytes"),
        (lambda m: setattr(m.images[0], "encoding", "bayer"), "encoding 'bayer' is not supported"),
        (lambda m: setattr(m, "action", array.array("f", [float("nan")] * 4)), "leaves"),
    ],
)
def test_a_step_message_that_does_not_fit_is_refused_with_the_reason(break_it, sentence):
    message = step_to_message(_step(), TASK)
    break_it(message)
    with pytest.raises(StepError, match=sentence):
        message_to_step(message, TASK)


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "rgba8", "bgra8", "mono8"])
@pytest.mark.parametrize("padding", [0, 3])
def test_every_encoding_gives_the_same_pixels(encoding, padding):
    alpha = np.full((*PIXELS.shape[:2], 1), 7, np.uint8)
    stored = {
        "rgb8": PIXELS, "bgr8": PIXELS[:, :, ::-1], "rgba8": np.concatenate([PIXELS, alpha], 2),
        "bgra8": np.concatenate([PIXELS[:, :, ::-1], alpha], 2), "mono8": PIXELS[:, :, :1],
    }[encoding]  # fmt: skip
    rows = np.pad(stored.reshape(6, -1), ((0, 0), (0, padding)))
    message = Image(height=6, width=5, encoding=encoding, step=rows.shape[1])
    message.data = array.array("B", rows.tobytes())
    expected = np.repeat(PIXELS[:, :, :1], 3, 2) if encoding == "mono8" else PIXELS
    np.testing.assert_array_equal(image_to_rgb(message), expected)


def test_pixels_survive_the_way_there_and_back_and_floats_are_refused():
    message = rgb_to_image(PIXELS[:, ::-1], to_stamp(5), "wrist")
    np.testing.assert_array_equal(image_to_rgb(message), PIXELS[:, ::-1])
    with pytest.raises(ImageError, match="float"):
        rgb_to_image(PIXELS.astype(np.float32))


@given(st.integers(0, 2**31 * 10**9 - 1))
def test_stamps_are_exact(nanoseconds):
    assert to_ns(to_stamp(nanoseconds)) == nanoseconds


def test_a_joint_command_names_its_joints():
    message = joint_command(to_stamp(3), {"b": 1.0, "a": 2.0}, 0.1)
    assert list(message.joint_names) == ["b", "a"] and list(message.points[0].positions) == [1.0, 2.0]
    assert message.points[0].time_from_start.nanosec == 100_000_000
