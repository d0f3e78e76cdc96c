# SPDX-License-Identifier: Apache-2.0
"""What frames come from: a V4L2 device, a network stream or a video file, all through OpenCV."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from so101_driver.errors import CameraLostError, CameraMissingError, CameraSizeError, VideoEndedError
from so101_driver.settings import CameraParameters

_BUFFERS = 4  # OpenCV asks V4L2 for as many; that many old frames may lie there after a pause
_MANUAL_EXPOSURE, _AUTO_EXPOSURE = 1, 3  # V4L2_EXPOSURE_MANUAL, V4L2_EXPOSURE_APERTURE_PRIORITY
_STREAM_TIMEOUT_MS = 3000
_LONGEST_SKIP_S = 1.0


class Device(Protocol):
    """An open source of frames.

    remarks: what was asked of it and is not so, a sentence each.
    """

    remarks: list[str]

    def grab(self) -> None:
        """Wait for the newest frame. Raises CameraLostError, VideoEndedError."""

    def decode(self) -> np.ndarray | None:
        """The frame that was grabbed, (height, width, 3) uint8 RGB; None when it is damaged."""

    def close(self) -> None:
        """Give the device back."""


class LiveDevice:
    """A device or stream that goes on whether it is read or not. Raises CameraMissingError where `capture` is not open."""

    def __init__(
        self,
        capture: cv2.VideoCapture,
        source: str,
        fps: float,
        remarks: list[str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.remarks = remarks
        self._capture, self._source, self._clock = capture, source, clock
        self._period_s = 1.0 / fps
        self._grabbed_s = clock()

    def grab(self) -> None:
        """After a pause, frames that lie ready are old: they are passed over until one had to be waited for."""
        late = self._clock() - self._grabbed_s > 2 * self._period_s
        for _ in range(_BUFFERS + 1 if late else 1):
            asked_s = self._clock()
            if not self._capture.grab():
                raise CameraLostError(f"{self._source} delivers nothing any more; plug it in, it is looked for")
            self._grabbed_s = self._clock()
            if self._grabbed_s - asked_s > self._period_s / 4:
                break

    def decode(self) -> np.ndarray | None:
        """(height, width, 3) uint8 RGB; None when it is damaged."""
        return _decoded(self._capture)

    def close(self) -> None:
        """Give the device back."""
        self._capture.release()


class VideoFile:
    """A file that plays at its own rate; a reader that is late misses frames, as with a device.

    Raises CameraMissingError for a file that is not there or no video.
    """

    def __init__(
        self,
        path: Path,
        loop: bool,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.remarks: list[str] = []
        self._path, self._loop, self._clock, self._sleep = path, loop, clock, sleep
        if not path.is_file():
            raise CameraMissingError(f"there is no video file {path}; mend the parameter source")
        self._capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
        if not self._capture.isOpened() or not self._capture.grab():
            raise CameraMissingError(f"{path} holds no video that can be read; give another file")
        self._rewind()
        self._period_s = 1.0 / (self._capture.get(cv2.CAP_PROP_FPS) or 30.0)
        self._due_s = clock()

    def grab(self) -> None:
        """Wait until the next frame is due. After a pause of more than a second it goes on where it was."""
        now_s = self._clock()
        if now_s - self._due_s > _LONGEST_SKIP_S:
            self._due_s = now_s
        while self._due_s + self._period_s <= now_s:
            self._next()
        self._sleep(max(0.0, self._due_s - now_s))
        self._next()

    def _next(self) -> None:
        self._due_s += self._period_s
        if self._capture.grab():
            return
        if not self._loop:
            raise VideoEndedError(f"{self._path} has ended; loop:=true begins it again")
        self._rewind()
        if not self._capture.grab():
            raise CameraLostError(f"{self._path} can no longer be read")

    def _rewind(self) -> None:
        self._capture.set(cv2.CAP_PROP_POS_FRAMES, 0)

    def decode(self) -> np.ndarray | None:
        """(height, width, 3) uint8 RGB; None when it is damaged."""
        return _decoded(self._capture)

    def close(self) -> None:
        """Close the file."""
        self._capture.release()


def _decoded(capture: cv2.VideoCapture) -> np.ndarray | None:
    good, pixels = capture.retrieve()
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB) if good and pixels.ndim == 3 else None


def open_device(params: CameraParameters, size: tuple[int, int]) -> Device:
    """Open what `source` names and ask for a size (width, height) and the settings.

    Raises CameraMissingError, and CameraSizeError when a device refuses that size.
    """
    cv2.setNumThreads(1)
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # what fails is said here, and once
    source = params.source
    if source.startswith("/dev/"):
        return _open_v4l2(params, size)
    if "://" not in source:
        return VideoFile(Path(source).expanduser(), params.loop)
    capture = open_stream(source)
    if not capture.isOpened():
        raise CameraMissingError(f"no stream comes from {source}; start its sender, or mend the parameter source")
    return LiveDevice(capture, source, params.fps, [])


def open_stream(address: str) -> cv2.VideoCapture:
    """A network stream, which is not open where none comes; a silent one holds its reader for some seconds only."""
    options = {
        cv2.CAP_PROP_N_THREADS: 1,
        cv2.CAP_PROP_OPEN_TIMEOUT_MSEC: _STREAM_TIMEOUT_MS,
        cv2.CAP_PROP_READ_TIMEOUT_MSEC: _STREAM_TIMEOUT_MS,
    }
    return cv2.VideoCapture(address, cv2.CAP_FFMPEG, [number for pair in options.items() for number in pair])


def _open_v4l2(params: CameraParameters, size: tuple[int, int]) -> LiveDevice:
    source = params.source
    if not Path(source).exists():
        raise CameraMissingError(f"there is no camera {source}; plug it in, or mend the parameter source")
    if not os.access(source, os.R_OK | os.W_OK):
        raise CameraMissingError(f"this user may not open {source}; add the user to the group video and log in again")
    os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "3")  # [s] how long a silent device holds its reader; else 10
    capture = cv2.VideoCapture(source, cv2.CAP_V4L2)
    if not capture.isOpened():
        raise CameraMissingError(f"{source} cannot be opened; end the program that uses it, or give the path of a camera")
    try:
        remarks = configure(capture, params, size)
    except CameraSizeError:
        capture.release()
        raise
    return LiveDevice(capture, source, params.fps, remarks)


def configure(capture: cv2.VideoCapture, params: CameraParameters, size: tuple[int, int]) -> list[str]:
    """Ask a device for format, size (width, height), rate, exposure and white balance, and read them back.

    Returns a sentence for each that it ignores. Raises CameraSizeError when it is the size.
    """
    code = cv2.VideoWriter.fourcc(*params.fourcc)
    wishes = {cv2.CAP_PROP_FOURCC: code, cv2.CAP_PROP_FRAME_WIDTH: size[0], cv2.CAP_PROP_FRAME_HEIGHT: size[1]}
    for key, value in (wishes | {cv2.CAP_PROP_FPS: params.fps}).items():  # the format first: it decides on sizes and rates
        capture.set(key, value)
    found = round(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), round(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
    if found != size:
        raise CameraSizeError(wrong_size(params, found, size))
    remarks = []
    if round(capture.get(cv2.CAP_PROP_FOURCC)) != code:
        letters = round(capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little").decode("ascii", "replace")
        remarks.append(f"{params.source} ignores fourcc {params.fourcc} and delivers {letters}")
    if abs(capture.get(cv2.CAP_PROP_FPS) - params.fps) > 0.01 * params.fps:
        remarks.append(f"{params.source} ignores fps {params.fps:g} and delivers {capture.get(cv2.CAP_PROP_FPS):g}")
    return remarks + _lock(capture, params)


def _lock(capture: cv2.VideoCapture, params: CameraParameters) -> list[str]:
    """Fix exposure and white balance, or leave them to the camera, which keeps what another program set."""
    remarks = []
    for name, value, automatic, manual, on, off in (
        ("exposure", params.exposure, cv2.CAP_PROP_AUTO_EXPOSURE, cv2.CAP_PROP_EXPOSURE, _AUTO_EXPOSURE, _MANUAL_EXPOSURE),
        ("white_balance_k", params.white_balance_k, cv2.CAP_PROP_AUTO_WB, cv2.CAP_PROP_WB_TEMPERATURE, 1, 0),
    ):
        capture.set(automatic, off if value else on)
        if not value:
            continue
        capture.set(manual, value)
        if round(capture.get(automatic)) != off or round(capture.get(manual)) != value:
            remarks.append(f"{params.source} ignores {name} {value} and stays at {capture.get(manual):g}")
    return remarks


def wrong_size(params: CameraParameters, found: tuple[int, int], size: tuple[int, int]) -> str:
    """The sentence for a camera that delivers another size (width, height) than is expected."""
    return (
        f"{params.source} delivers {found[0]}x{found[1]}, expected of camera '{params.camera}' is {size[0]}x{size[1]}: "
        "set task.camera_sizes (width and height where the task does not name it), or take another camera"
    )
