# SPDX-License-Identifier: Apache-2.0
"""Cameras: whether they deliver pictures, and new ones."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from so101_driver.camera_device import open_stream
from so101_driver.doctor.finding import Finding, Level, examine

_FRAMES = 15
_FIRST = 5  # a camera may need some to begin with
_LONGEST_S = 5.0
_FLAT = 2.0  # standard deviation of brightness below which there is nothing to see


def examine_cameras(names: Sequence[str]) -> Iterator[Finding]:
    """Examine cameras. names: of each its number, device, stream address or the path of a video file."""
    if not names:
        yield Finding("cameras", Level.SKIPPED, f"no --cameras were named (video devices here: {_devices()})")
    for name in names:
        yield examine(f"camera {name}", lambda name=name: camera(name))


def _devices() -> str:
    return ", ".join(sorted(str(path) for path in Path("/dev").glob("video*"))) or "none"


def camera(name: str) -> Finding:
    """Whether it gives pictures, how fast, and whether they change. Its resolution stays what it is."""
    check, source = f"camera {name}", f"/dev/video{name}" if name.isdecimal() else name
    stream = "://" in source
    if not stream and not Path(source).exists():
        text = f"there is no {source} (video devices here: {_devices()})"
        return Finding(check, Level.PROBLEM, text, "plug the camera in, or name one that is there")
    if not stream and not os.access(source, os.R_OK):
        cure = "'sudo usermod -aG video $USER', log out and log in again"
        return Finding(check, Level.PROBLEM, f"this user may not open {source}", cure)
    frames, times = _pictures(source)
    if len(frames) <= _FIRST:
        cure = f"stop other programs that use it ('fuser -v {shlex.quote(source)}' shows them), or use another USB port"
        if stream:
            cure = "start its sender, and see that the address is right and leads to this camera"
        return Finding(check, Level.PROBLEM, f"{source} gave {len(frames)} pictures in {_LONGEST_S:g} s", cure)
    frames, times = frames[_FIRST:], times[_FIRST:]
    height, width = frames[0].shape[:2]
    rate = (len(times) - 1) / max(times[-1] - times[0], 1e-6)
    seen = f"{width}x{height}, {rate:.0f} pictures a second"
    if frames[-1].std() < _FLAT:
        return Finding(check, Level.WARNING, f"{seen}, all of one colour", "take the cap off, or give it light")
    if all((frame == frames[0]).all() for frame in frames):
        cure = "start its sender again" if stream else "unplug the camera and plug it in again"
        return Finding(check, Level.WARNING, f"{seen}, always the same one", cure)
    return Finding(check, Level.OK, seen)


def _pictures(source: str) -> tuple[list[np.ndarray], list[float]]:
    """Some pictures and the time each came [s]; fewer where the source does not deliver."""
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # failures are reported as findings
    capture = open_stream(source) if "://" in source else cv2.VideoCapture(source)
    frames, times = [], []
    try:
        end = time.monotonic() + _LONGEST_S
        while len(frames) < _FRAMES and time.monotonic() < end:
            good, frame = capture.read()
            if not good:
                break
            frames.append(frame)
            times.append(time.monotonic())
    finally:
        capture.release()
    return frames, times
