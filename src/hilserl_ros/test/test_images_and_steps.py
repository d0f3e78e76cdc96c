# SPDX-License-Identifier: Apache-2.0
"""Messages to core types and back, without loss and without believing what does not fit."""

import array
import dataclasses

import cv2
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


def image_message(pixels: np.ndarray, encoding: str, padding: int = 0, big_endian: bool = False) -> Image:
    """(height, width, channels) uint8 or uint16 pixels as a message, each row followed by so many bytes."""
    stored = np.ascontiguousarray(pixels.astype(pixels.dtype.newbyteorder(">" if big_endian else "<")))
    rows = np.pad(stored.view(np.uint8).reshape(len(pixels), -1), ((0, 0), (0, padding)), constant_values=99)
    message = Image(height=pixels.shape[0], width=pixels.shape[1], encoding=encoding, step=rows.shape[1])
    message.is_bigendian, message.data = int(big_endian), array.array("B", rows.tobytes())
    return message


# What cv_bridge asks of OpenCV (its getConversionCodes), and the channels it gives: None is the same pixels again.
CODES = {
    "rgb": (None, 3), "bgr": (cv2.COLOR_BGR2RGB, 3), "rgba": (cv2.COLOR_RGBA2RGB, 4), "bgra": (cv2.COLOR_BGRA2RGB, 4),
    "mono": (cv2.COLOR_GRAY2RGB, 1),
    "bayer_rggb": (cv2.COLOR_BayerBG2RGB, 1), "bayer_bggr": (cv2.COLOR_BayerRG2RGB, 1),
    "bayer_gbrg": (cv2.COLOR_BayerGR2RGB, 1), "bayer_grbg": (cv2.COLOR_BayerGB2RGB, 1),
    "yuv422": (cv2.COLOR_YUV2RGB_UYVY, 2), "uyvy": (cv2.COLOR_YUV2RGB_UYVY, 2),
    "yuv422_yuy2": (cv2.COLOR_YUV2RGB_YUY2, 2), "yuyv": (cv2.COLOR_YUV2RGB_YUY2, 2),
}  # fmt: skip
YUV = ("yuv422", "uyvy", "yuv422_yuy2", "yuyv")
ENCODINGS = [name + bits for name in CODES for bits in (("",) if name in YUV else ("8", "16"))]


def noise(encoding: str) -> np.ndarray:
    """Pixels (6, 8, channels) that differ, in the type of an encoding."""
    kind = np.uint16 if encoding.endswith("16") else np.uint8
    return np.random.default_rng(1).integers(0, np.iinfo(kind).max + 1, (6, 8, CODES[encoding.rstrip("168")][1]), kind)


@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding_gives_the_pixels_of_opencv(encoding, padding, big_endian):
    pixels, code = noise(encoding), CODES[encoding.rstrip("168")][0]
    expected = pixels if code is None else cv2.cvtColor(pixels, code)
    if encoding.endswith("16"):
        expected = np.rint(expected.astype(float) * 255 / 65535).astype(np.uint8)
    np.testing.assert_array_equal(image_to_rgb(image_message(pixels, encoding, padding, big_endian)), expected)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_cv_bridge_gives_the_same_pixels(encoding):
    """Only where cv_bridge is installed and imports."""
    bridge = pytest.importorskip("cv_bridge", exc_type=ImportError).CvBridge()
    known = {"uyvy": "yuv422", "yuyv": "yuv422_yuy2"}.get(encoding, encoding)  # it does not know the new names
    expected = bridge.imgmsg_to_cv2(image_message(noise(encoding), known, padding=24), "rgb8")
    np.testing.assert_array_equal(image_to_rgb(image_message(noise(encoding), encoding, padding=24)), expected)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("colour", ["red", "blue"])
def test_a_red_and_a_blue_surface_keep_their_colours(encoding, colour):
    """By what the encodings mean, written down by hand: a wrong order of channels or of a Bayer pattern shows."""
    rgb = {"red": (255, 0, 0), "blue": (0, 0, 255)}[colour]
    red, green, blue = rgb
    luma, cb, cr = {"red": (82, 90, 240), "blue": (41, 240, 110)}[colour]  # BT.601
    first_rows = {
        "rgb": [rgb], "bgr": [(blue, green, red)], "rgba": [(*rgb, 7)], "bgra": [(blue, green, red, 7)], "mono": [(76,)],
        "uyvy": [(cb, luma), (cr, luma)], "yuyv": [(luma, cb), (luma, cr)],
    }  # fmt: skip
    name = {"yuv422": "uyvy", "yuv422_yuy2": "yuyv"}.get(encoding, encoding.rstrip("168"))
    if name.startswith("bayer_"):
        letters = [{"r": red, "g": green, "b": blue}[letter] for letter in name.removeprefix("bayer_")]
        block = np.array(letters, np.uint8).reshape(2, 2, 1)
    else:
        block = np.array([first_rows[name]], np.uint8)
    pixels = np.tile(block, (8 // block.shape[0], 8 // block.shape[1], 1))
    if encoding.endswith("16"):
        pixels = pixels.astype(np.uint16) * 257
    expected = np.broadcast_to((76, 76, 76) if name == "mono" else rgb, (8, 8, 3))
    np.testing.assert_allclose(image_to_rgb(image_message(pixels, encoding)), expected, atol=2)


@pytest.mark.parametrize(
    ("encoding", "shape", "sentence"),
    [
        ("16UC1", (4, 4, 2), "'16UC1' holds distances and no colours"),
        ("32FC1", (4, 4, 4), "'32FC1' holds distances and no colours"),
        ("8UC3", (4, 4, 3), "'8UC3' is not supported, allowed: rgb8, .*bayer_rggb16.*, yuyv"),
        ("yuyv", (4, 5, 2), "5x4 yuyv has an odd width"),
        ("mono16", (4, 4, 1), "4x4 mono16 with step 4 holds 16 bytes"),
    ],
)
def test_what_holds_no_colours_or_does_not_fit_is_refused(encoding, shape, sentence):
    with pytest.raises(ImageError, match=sentence):
        image_to_rgb(image_message(np.zeros(shape, np.uint8), encoding))


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
