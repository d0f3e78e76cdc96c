# SPDX-License-Identifier: Apache-2.0
"""Frames out of a video file and into one.

Encoded is H.264 and not LeRobot's default AV1: x264's ultrafast preset needs about half the time of SVT-AV1's fastest at
640x480, with one thread where SVT-AV1 takes every core, and every reader decodes it. A key frame every second frame, as
LeRobot's default, keeps a random access at two decoded frames. No B-frames: order of decoding is order of time, so files join
by adding to their times. CRF 23: at 20 the files are two to three times as large, spent on the noise of the sensor, for an
error 3 % smaller.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

_CODEC, _PIXELS = "h264", "yuv420p"
_KEY_EVERY, _CRF, _PRESET = 2, 23, "ultrafast"
_OPTIONS = {"preset": _PRESET, "crf": str(_CRF), "g": str(_KEY_EVERY), "bf": "0", "threads": "1"}
# BT.601 in the range of video (16 to 235): the rows of Cb and Cr for R, G, B and 1.
_CHROMA = np.array([[-0.148223, -0.290993, 0.439216, 128], [0.439216, -0.367788, -0.071427, 128]])


class VideoError(OSError):
    """A video that cannot be read or written."""


def read_frames(path: Path, start_s: float, end_s: float, fps: float) -> Iterator[np.ndarray]:
    """The frames shown from `start_s` to before `end_s`, each (h, w, 3) uint8 RGB. Raises VideoError."""
    half = 0.5 / fps
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            container.seek(max(0, round(start_s / stream.time_base) - 1), backward=True, any_frame=False, stream=stream)
            for frame in container.decode(stream):
                if frame.pts is None:
                    continue
                at_s = float(frame.pts * stream.time_base)
                if at_s >= end_s - half:
                    break
                if at_s >= start_s - half:
                    yield frame.to_ndarray(format="rgb24")
    except (av.error.FFmpegError, OSError, IndexError) as error:
        raise VideoError(f"cannot decode the video {path}: {_said(error)}") from error


def count_frames(path: Path) -> int:
    """The frames a file holds, without decoding them. Raises VideoError."""
    try:
        with av.open(str(path)) as container:
            return sum(packet.size > 0 for packet in container.demux(video=0))
    except (av.error.FFmpegError, OSError, IndexError) as error:
        raise VideoError(f"cannot read the video {path}: {_said(error)}") from error


class VideoWriter:
    """Encodes frames one after the other into a new file, from memory and blocking. Close it to finish the file.

    frames, bytes: written so far.
    """

    def __init__(self, path: Path, fps: int, width: int, height: int) -> None:
        """Start the file. Raises VideoError."""
        self.path, self.frames, self.bytes = path, 0, 0
        self._packets = 0
        self.height, self.width = height, width
        if height % 2 or width % 2:
            raise VideoError(f"{path.stem} has images of {width}x{height} pixels, a video needs even numbers")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._container = av.open(str(path), "w", options={"movflags": "faststart"})
            self._stream = self._container.add_stream(_CODEC, fps, options=_OPTIONS)
            self._stream.pix_fmt, self._stream.width, self._stream.height = _PIXELS, width, height
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise VideoError(f"cannot start the video {path}: {_said(error)}") from error

    def write(self, image: np.ndarray) -> None:
        """Add a frame, (h, w, 3) uint8 RGB. Raises VideoError for another one."""
        if image.dtype != np.uint8:
            raise VideoError(f"{self.path.stem}: frame {self.frames} is {image.dtype}, expected uint8 from 0 to 255")
        if image.shape != (self.height, self.width, 3):
            first = (self.height, self.width, 3)
            raise VideoError(f"{self.path.stem}: frame {self.frames} is {image.shape}, the first was {first}")
        self._mux(av.VideoFrame.from_ndarray(_to_yuv(image), format=_PIXELS))
        self.frames += 1

    def close(self) -> None:
        """Finish the file. Raises VideoError when a frame is missing in it."""
        try:
            self._mux(None)
            self._container.close()
        except (av.error.FFmpegError, OSError) as error:
            self.abandon()
            raise VideoError(f"cannot finish the video {self.path}: {_said(error)}") from error
        if self._packets != self.frames:
            raise VideoError(f"the encoder made {self._packets} frames of {self.frames} for the video {self.path}")

    def abandon(self) -> None:
        """Close the file without finishing it."""
        with suppress(av.error.FFmpegError, OSError):  # of a full disk, for instance, which is known already
            self._container.close()

    def _mux(self, frame: av.VideoFrame | None) -> None:
        try:
            for packet in self._stream.encode(frame):
                self._container.mux(packet)
                self.bytes += packet.size
                self._packets += 1
        except (av.error.FFmpegError, OSError) as error:
            raise VideoError(f"cannot write frame {self.frames} of the video {self.path}: {_said(error)}") from error


def video_info(height: int, width: int, fps: int) -> dict[str, Any]:
    """What info.json says about a video that VideoWriter made."""
    return {
        "video.height": height,
        "video.width": width,
        "video.codec": _CODEC,
        "video.pix_fmt": _PIXELS,
        "video.fps": fps,
        "video.channels": 3,
        "has_audio": False,
        "video.g": _KEY_EVERY,
        "video.crf": _CRF,
        "video.preset": _PRESET,
        "video.fast_decode": 0,
        "video.video_backend": "pyav",
        "video.extra_options": {"bf": 0},
        "is_depth_map": False,
    }


def _to_yuv(image: np.ndarray) -> np.ndarray:
    """(height, width, 3) uint8 RGB as planar YUV 4:2:0, (height * 3 / 2, width): BT.601, the mean colour of each 2x2 block.

    The same as swscale's to one step of brightness, at a fifth of its cost.
    """
    image = np.ascontiguousarray(image)
    height, width = image.shape[:2]
    planes = cv2.cvtColor(image, cv2.COLOR_RGB2YUV_I420)
    half = cv2.resize(image, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    chroma = cv2.transform(half, _CHROMA)
    planes.reshape(-1)[height * width :] = np.moveaxis(chroma, 2, 0).ravel()
    return planes


def _said(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
