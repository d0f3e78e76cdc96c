# SPDX-License-Identifier: Apache-2.0
"""The camera as a process over DDS, from video files that the test writes."""

from __future__ import annotations

import signal
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from hilserl_ros import qos
from hilserl_ros.convert import to_ns
from hilserl_ros.images import image_to_rgb
from hilserl_ros.testing import Rig

LONG_S = 120.0
TASK = ("task.camera_sizes:=[64, 48]", "task.crops:=[0, 0, 48, 48]", "task.image_size:=48")


def write_video(path: Path, size: tuple[int, int]) -> None:
    """A second of red frames that grow brighter; it appears whole."""
    part = path.with_suffix(".part.avi")
    writer = cv2.VideoWriter(str(part), cv2.VideoWriter.fourcc(*"MJPG"), 20.0, size)
    for number in range(20):
        writer.write(np.full((size[1], size[0], 3), (0, 0, 60 + 8 * number), np.uint8))
    writer.release()
    part.replace(path)


class Viewer(Rig):
    """Looks at a camera's topics."""

    def __init__(self) -> None:
        super().__init__(2, LONG_S)
        self.seen: dict[str, dict[int, object]] = defaultdict(dict)
        self.status = DiagnosticStatus()
        self.node.create_subscription(DiagnosticArray, "diagnostics", self._note, qos.DIAGNOSTICS)

    def _note(self, message: DiagnosticArray) -> None:
        (self.status,) = message.status

    def watch(self, kind: type, topic: str) -> None:
        def note(message: object) -> None:
            self.seen[topic][to_ns(message.header.stamp)] = message

        self.node.create_subscription(kind, topic, note, qos.IMAGE)

    def start(self, *parameters: str) -> subprocess.Popen:
        return self.run("so101_driver", "camera_node", (*TASK, *parameters))

    def common(self) -> list[int]:
        """Stamps that every topic watched has had."""
        return sorted(set.intersection(*map(set, self.seen.values()))) if len(self.seen) == 3 else []


@pytest.fixture
def viewer() -> Iterator[Viewer]:
    found = Viewer()
    yield found
    found.close()


def test_a_file_becomes_images_jpegs_and_camera_info_with_the_same_stamps(viewer, tmp_path):
    write_video(tmp_path / "clip.avi", (64, 48))
    viewer.watch(Image, "wrist/image_raw")
    viewer.watch(CompressedImage, "wrist/image_raw/compressed")
    viewer.watch(CameraInfo, "wrist/camera_info")
    process = viewer.start(f"source:={tmp_path / 'clip.avi'}")
    begun_ns = viewer.node.get_clock().now().nanoseconds
    viewer.until(lambda: len(viewer.common()) >= 5, "five frames on all topics")
    stamps = viewer.common()
    assert begun_ns < stamps[0] and stamps[-1] < viewer.node.get_clock().now().nanoseconds
    topics = ("wrist/image_raw", "wrist/image_raw/compressed", "wrist/camera_info")
    image, packed, info = (viewer.seen[topic][stamps[0]] for topic in topics)
    assert image.encoding == "rgb8" and {image.header.frame_id, packed.header.frame_id, info.header.frame_id} == {
        "wrist_camera_optical_frame"
    }
    pixels = image_to_rgb(image)
    assert pixels.shape == (48, 64, 3) and pixels[..., 0].min() > 50 and pixels[..., 1:].max() < 20
    decoded = cv2.imdecode(np.frombuffer(packed.data, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert packed.format == "rgb8; jpeg compressed bgr8" and np.abs(decoded.astype(int) - pixels).max() < 12
    assert (info.width, info.height) == (64, 48)
    viewer.until(lambda: viewer.status.message == "delivers", "diagnostics")
    assert viewer.status.name == "camera: wrist" and viewer.status.level == DiagnosticStatus.OK
    assert viewer.status.hardware_id == str(tmp_path / "clip.avi")
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=LONG_S) == 0


def test_it_waits_for_a_source_refuses_another_size_and_goes_on_by_itself(viewer, tmp_path):
    clip = tmp_path / "clip.avi"
    viewer.watch(Image, "wrist/image_raw")
    process = viewer.start(f"source:={clip}")
    _read_until(process, f"there is no video file {clip}")
    write_video(clip, (32, 24))
    _read_until(process, "delivers 32x24, expected of camera 'wrist' is 64x48")
    viewer.until(lambda: "delivers 32x24" in viewer.status.message, "the same in diagnostics")
    assert viewer.status.level == DiagnosticStatus.ERROR and not viewer.seen
    write_video(clip, (64, 48))
    viewer.until(lambda: viewer.seen["wrist/image_raw"], "images")
    assert {(image.width, image.height) for image in viewer.seen["wrist/image_raw"].values()} == {(64, 48)}
    viewer.until(lambda: viewer.status.level == DiagnosticStatus.OK, "good diagnostics")


def _read_until(process: subprocess.Popen, words: str) -> None:
    for line in process.stderr:
        if words in line:
            return
    raise AssertionError(f"it ended without saying '{words}'")


def test_a_calibration_that_cannot_be_read_ends_it_with_one_sentence(viewer, tmp_path):
    process = viewer.start(f"camera_info:={tmp_path / 'none.yaml'}")
    assert process.wait(timeout=LONG_S) == 2
    text = process.stderr.read()
    assert "none.yaml cannot be read" in text and "Traceback" not in text
