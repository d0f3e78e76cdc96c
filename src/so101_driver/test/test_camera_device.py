# SPDX-License-Identifier: Apache-2.0
"""Sources of frames: video files as OpenCV writes them, and made-up devices behind OpenCV's interface."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from so101_driver.camera_device import LiveDevice, VideoFile, configure, open_device
from so101_driver.camera_info import read_camera_info, uncalibrated
from so101_driver.errors import CameraInfoError, CameraLostError, CameraMissingError, CameraSizeError, VideoEndedError
from so101_driver.settings import CameraParameters

SIZE = (64, 48)


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now_s = 50.0

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


def write_video(path: Path, frames: int, fps: float = 20.0, size: tuple[int, int] = SIZE) -> Path:
    """Frame n is red of brightness 10 n."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), fps, size)
    for number in range(frames):
        writer.write(np.full((size[1], size[0], 3), (0, 0, 10 * number), np.uint8))
    writer.release()
    return path


def number_of(pixels: np.ndarray) -> int:
    """Which frame of `write_video` this is."""
    assert pixels[:, :, 1:].max() < 20, "red comes first"
    return round(float(pixels[:, :, 0].mean()) / 10)


def _play(video: VideoFile, frames: int) -> list[int]:
    numbers = []
    for _ in range(frames):
        video.grab()
        numbers.append(number_of(video.decode()))
    return numbers


def test_a_file_plays_at_its_own_rate_and_begins_again(tmp_path):
    clock = Clock()
    video = VideoFile(write_video(tmp_path / "a.avi", 5), True, clock, clock.sleep)
    assert _play(video, 12) == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1]
    assert clock.now_s == pytest.approx(50.0 + 11 / 20)


def test_a_late_reader_of_a_file_misses_frames_and_after_a_long_pause_it_goes_on(tmp_path):
    clock = Clock()
    video = VideoFile(write_video(tmp_path / "a.avi", 12), True, clock, clock.sleep)
    assert _play(video, 2) == [0, 1]
    clock.sleep(4.5 / 20)
    assert _play(video, 1) == [5]
    clock.sleep(100.0)
    assert _play(video, 2) == [6, 7]


def test_a_file_that_is_not_to_be_repeated_ends(tmp_path):
    clock = Clock()
    video = VideoFile(write_video(tmp_path / "a.avi", 3), False, clock, clock.sleep)
    assert _play(video, 3) == [0, 1, 2]
    with pytest.raises(VideoEndedError, match="loop:=true"):
        video.grab()


def test_a_file_that_is_no_video_and_one_that_is_not_there_are_said(tmp_path):
    (tmp_path / "text.avi").write_text("no video" * 100)
    for name, words in (("text.avi", "holds no video"), ("none.avi", "there is no video file")):
        with pytest.raises(CameraMissingError, match=words):
            open_device(CameraParameters(source=str(tmp_path / name)), SIZE)


def test_a_device_that_is_not_there_or_not_ours_is_said(monkeypatch):
    with pytest.raises(CameraMissingError, match="there is no camera /dev/v4l/by-id/none; plug it in"):
        open_device(CameraParameters(source="/dev/v4l/by-id/none"), SIZE)
    with pytest.raises(CameraMissingError, match="/dev/null cannot be opened"):
        open_device(CameraParameters(source="/dev/null"), SIZE)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(CameraMissingError, match="group video"):
        open_device(CameraParameters(source="/dev/null"), SIZE)


class FakeCapture:
    """OpenCV's capture of a device that takes only what is in `fixed` otherwise. waits: how long each grab takes."""

    def __init__(self, clock: Clock | None = None, fixed: dict[int, float] | None = None) -> None:
        self.values: dict[int, float] = {}
        self.fixed = fixed or {}
        self.clock, self.waits, self.grabbed = clock, [], 0

    def set(self, key: int, value: float) -> bool:
        self.values[key] = value
        return key not in self.fixed

    def get(self, key: int) -> float:
        return self.fixed.get(key, self.values.get(key, 0.0))

    def grab(self) -> bool:
        if not self.waits:
            return False
        self.clock.sleep(self.waits.pop(0))
        self.grabbed += 1
        return True


def test_a_device_is_asked_for_everything_the_format_first():
    capture = FakeCapture()
    assert configure(capture, CameraParameters(exposure=150, white_balance_k=4600), (640, 480)) == []
    assert next(iter(capture.values)) == cv2.CAP_PROP_FOURCC
    assert capture.values == {
        cv2.CAP_PROP_FOURCC: cv2.VideoWriter.fourcc(*"MJPG"),
        cv2.CAP_PROP_FRAME_WIDTH: 640,
        cv2.CAP_PROP_FRAME_HEIGHT: 480,
        cv2.CAP_PROP_FPS: 30.0,
        cv2.CAP_PROP_AUTO_EXPOSURE: 1,
        cv2.CAP_PROP_EXPOSURE: 150,
        cv2.CAP_PROP_AUTO_WB: 0,
        cv2.CAP_PROP_WB_TEMPERATURE: 4600,
    }


def test_without_fixed_values_exposure_and_white_balance_become_automatic_again():
    capture = FakeCapture()
    assert configure(capture, CameraParameters(), (640, 480)) == []
    assert capture.values[cv2.CAP_PROP_AUTO_EXPOSURE] == 3 and capture.values[cv2.CAP_PROP_AUTO_WB] == 1
    assert cv2.CAP_PROP_EXPOSURE not in capture.values


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        (cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"YUYV"), "ignores fourcc MJPG and delivers YUYV"),
        (cv2.CAP_PROP_FPS, 15.0, "ignores fps 30 and delivers 15"),
        (cv2.CAP_PROP_EXPOSURE, 166.0, "ignores exposure 150 and stays at 166"),
        (cv2.CAP_PROP_AUTO_EXPOSURE, 3.0, "ignores exposure 150"),
        (cv2.CAP_PROP_WB_TEMPERATURE, 0.0, "ignores white_balance_k 4600 and stays at 0"),
    ],
)
def test_what_a_device_ignores_is_one_sentence(key, value, words):
    (remark,) = configure(FakeCapture(fixed={key: value}), CameraParameters(exposure=150, white_balance_k=4600), (640, 480))
    assert words in remark


def test_a_device_that_takes_another_size_is_refused():
    capture = FakeCapture(fixed={cv2.CAP_PROP_FRAME_WIDTH: 1280, cv2.CAP_PROP_FRAME_HEIGHT: 720})
    with pytest.raises(CameraSizeError, match="delivers 1280x720, expected of camera 'wrist' is 640x480"):
        configure(capture, CameraParameters(), (640, 480))


def test_old_frames_that_a_device_has_kept_are_passed_over():
    clock = Clock()
    capture = FakeCapture(clock)
    device = LiveDevice(capture, "/dev/video0", 30.0, [], clock)
    capture.waits = [0.03, 0.0, 0.0, 0.0, 0.0, 0.02, 0.03]
    device.grab()
    clock.sleep(0.2)
    device.grab()
    assert capture.grabbed == 6, "the fifth had to be waited for"
    clock.sleep(0.03)
    device.grab()
    assert capture.grabbed == 7


def test_a_frame_that_is_only_a_little_late_is_taken():
    clock = Clock()
    capture = FakeCapture(clock)
    device = LiveDevice(capture, "/dev/video0", 30.0, [], clock)
    capture.waits = [0.03, 0.0, 0.03]
    device.grab()
    clock.sleep(0.05)
    device.grab()
    assert capture.grabbed == 2


def test_a_device_that_gives_no_frame_is_lost():
    clock = Clock()
    with pytest.raises(CameraLostError, match="/dev/video0"):
        LiveDevice(FakeCapture(clock), "/dev/video0", 30.0, [], clock).grab()


CALIBRATION = """
image_width: 640
image_height: 480
camera_name: wrist
camera_matrix: {rows: 3, cols: 3, data: [600.5, 0, 320, 0, 601, 240, 0, 0, 1]}
distortion_model: plumb_bob
distortion_coefficients: {rows: 1, cols: 5, data: [0.1, -0.2, 0, 0.001, 0]}
rectification_matrix: {rows: 3, cols: 3, data: [1, 0, 0, 0, 1, 0, 0, 0, 1]}
projection_matrix: {rows: 3, cols: 4, data: [590, 0, 321, 0, 0, 595, 241, 0, 0, 0, 1, 0]}
"""


def test_a_calibration_becomes_camera_info(tmp_path):
    (tmp_path / "wrist.yaml").write_text(CALIBRATION)
    message = read_camera_info(tmp_path / "wrist.yaml", (640, 480))
    assert (message.width, message.height, message.distortion_model) == (640, 480, "plumb_bob")
    assert message.k[0] == 600.5 and list(message.d) == [0.1, -0.2, 0.0, 0.001, 0.0]
    assert message.p[5] == 595.0 and message.r[8] == 1.0


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("image_width: 640", "image_width: 1280", "was made for 1280x480, the camera has 640x480"),
        ("camera_matrix", "matrix", "lacks 'camera_matrix'"),
        ("[600.5, 0,", "[600.5,", "camera_matrix has 8 values, expected 9"),
        (CALIBRATION, "just words", "is no camera_info file"),
        (CALIBRATION, "{[", "is no camera_info file"),
    ],
)
def test_a_calibration_that_does_not_fit_is_refused(tmp_path, old, new, words):
    (tmp_path / "wrist.yaml").write_text(CALIBRATION.replace(old, new))
    with pytest.raises(CameraInfoError, match=words):
        read_camera_info(tmp_path / "wrist.yaml", (640, 480))


def test_a_calibration_that_is_not_there_is_said(tmp_path):
    with pytest.raises(CameraInfoError, match=r"none\.yaml cannot be read"):
        read_camera_info(tmp_path / "none.yaml", (640, 480))


def test_without_a_calibration_only_the_size_is_said():
    message = uncalibrated((640, 480))
    assert (message.width, message.height) == (640, 480) and not any(message.k) and list(message.d) == [0.0] * 5
