# SPDX-License-Identifier: Apache-2.0
"""Cameras: whether they deliver pictures, and new ones."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from so101_driver.doctor.finding import Finding, Level, examine

_FRAMES = 15
_FIRST = 5  # a camera may need some to begin with
_LONGEST_S = 5.0
_FLAT = 2.0  # standard deviation of brightness below which there is nothing to see


def examine_cameras(names: Sequence[str]) -> Iterator[Finding]:
    """Each camera by its number or its device."""
    if not names:
        found = ", ".join(sorted(str(path) for path in Path("/dev").glob("video*"))) or "none"
        yield Finding("cameras", Level.SKIPPED, f"no --cameras were named (video devices here: {found})")
    for name in names:
        yield examine(f"camera {name}", lambda name=name: camera(name))


def camera(name: str) -> Finding:
    """Whether it gives pictures, how fast, and whether they change. Its resolution stays what it is."""
    import cv2

    check = f"camera {name}"
    device = Path(f"/dev/video{name}" if name.isdecimal() else name)
    if not device.exists():
        return Finding(check, Level.PROBLEM, f"there is no {device}", "plug the camera in; v4l2-ctl --list-devices names them")
    capture = cv2.VideoCapture(int(name) if name.isdecimal() else name)
    try:
        frames, times = [], []
        end = time.monotonic() + _LONGEST_S
        while len(frames) < _FRAMES and time.monotonic() < end:
            good, frame = capture.read()
            if not good:
                break
            frames.append(frame)
            times.append(time.monotonic())
    finally:
        capture.release()
    if len(frames) <= _FIRST:
        cure = f"stop other programs that use it ('fuser -v {device}'), join the group video, or use another USB port"
        return Finding(check, Level.PROBLEM, f"{device} gave {len(frames)} pictures in {_LONGEST_S:g} s", cure)
    frames, times = frames[_FIRST:], times[_FIRST:]
    height, width = frames[0].shape[:2]
    rate = (len(times) - 1) / max(times[-1] - times[0], 1e-6)
    seen = f"{width}x{height}, {rate:.0f} pictures a second"
    if frames[-1].std() < _FLAT:
        return Finding(check, Level.WARNING, f"{seen}, all of one colour", "take the cap off, or give it light")
    if all((frame == frames[0]).all() for frame in frames):
        return Finding(check, Level.WARNING, f"{seen}, always the same one", "unplug the camera and plug it in again")
    return Finding(check, Level.OK, seen)
