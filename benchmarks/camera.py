# SPDX-License-Identifier: Apache-2.0
"""Two camera nodes over real DDS, from video files, and LeRobot's camera class on the same files in a process."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from unittest import mock

import cv2
import psutil
from lerobot.cameras.opencv import OpenCVCamera, OpenCVCameraConfig
from sensor_msgs.msg import Image

from benchmarks.peer import Peer, node_command, running
from benchmarks.registry import Options
from benchmarks.rows import Row, Target
from benchmarks.timing import percentile
from dataset_recorder.testing import bags
from hilserl_ros import qos

_WIDTH, _HEIGHT, _FPS = 640, 480, 30
_CAMERAS = ("wrist", "front")
_WARM_UP_S = 2.0
_OpenCv = cv2.VideoCapture


def run(options: Options) -> Iterator[Row]:
    """The rows of this group."""
    seconds = 6.0 if options.quick else 25.0
    files = {camera: _video(options.scratch / f"{camera}.avi", seed) for seed, camera in enumerate(_CAMERAS)}
    ours, ours_s = _nodes(files, seconds)
    theirs, theirs_s = _lerobot(list(files.values()), seconds)
    conditions = {
        "seconds": seconds,
        "percent": ours,
        "frames": len(ours_s),
        "frames_expected": round(len(_CAMERAS) * _FPS * seconds),
        "median_ms_ours": percentile(ours_s, 50) * 1e3,
        "median_ms_lerobot": percentile(theirs_s, 50) * 1e3,
        "frames_lerobot": len(theirs_s),
    }
    load = "Two cameras 640x480 at 30 Hz from MJPG files. Ours: a process each, and its messages into another process over DDS."
    yield Row(
        "camera_cpu",
        max(ours.values()),
        theirs / len(files),
        "% of a core",
        target=Target("at_most", 25.0),
        note=f"{load} LeRobot's: half of a process that holds both cameras and takes their frames, without any transport.",
        conditions=conditions,
    )
    yield Row(
        "camera_latency",
        percentile(ours_s, 99) * 1e3,
        percentile(theirs_s, 99) * 1e3,
        "ms",
        note=f"{load} From the frame's stamp (grabbed, not yet RGB) to its arrival as bytes. LeRobot's: to async_read.",
        conditions=conditions,
    )


def _video(path: Path, seed: int) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), _FPS, (_WIDTH, _HEIGHT))
    for pixels in bags.pictures(90, _HEIGHT, _WIDTH, seed):
        writer.write(cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    writer.release()
    return path


def _nodes(files: dict[str, Path], seconds: float) -> tuple[dict[str, float], list[float]]:
    """Percent of a core by camera, and the age [s] of each message when it came."""
    peer, ages = Peer("bench_viewer"), {camera: [] for camera in files}

    def take(camera: str, payload: bytes) -> None:
        stamp_s, rest_ns = struct.unpack_from("<iI", payload, 4)
        ages[camera].append(time.time() - stamp_s - rest_ns * 1e-9)

    try:
        for camera in files:
            peer.node.create_subscription(Image, f"{camera}/image_raw", partial(take, camera), qos.IMAGE, raw=True)
        with ExitStack() as stack:
            processes = {}
            for camera, file in files.items():
                command = node_command("so101_driver", "camera_node", f"camera:={camera}", f"source:={file}")
                process = stack.enter_context(running([*command, "-r", f"__node:={camera}_camera"]))
                processes[camera] = psutil.Process(process.pid)
            peer.until(lambda: all(ages.values()), "both cameras")
            _spin(peer, _WARM_UP_S)
            for found in ages.values():
                found.clear()
            before, start = {camera: _cpu_s(process) for camera, process in processes.items()}, time.monotonic()
            _spin(peer, seconds)
            wall_s = time.monotonic() - start
            percents = {camera: 100 * (_cpu_s(process) - before[camera]) / wall_s for camera, process in processes.items()}
    finally:
        peer.close()
    return percents, [age for found in ages.values() for age in found]


def _spin(peer: Peer, seconds: float) -> None:
    end = time.monotonic() + seconds
    peer.until(lambda: time.monotonic() > end, "the end")


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


class _PacedCapture:
    """OpenCV's capture of a file that is read at its own rate, and again from its beginning. grabbed_s: of the last frame."""

    def __init__(self, *arguments: object) -> None:
        self._capture = _OpenCv(*arguments)
        self._due_s = self.grabbed_s = time.monotonic()

    def __getattr__(self, name: str) -> object:
        return getattr(self._capture, name)

    def read(self) -> tuple[bool, object]:
        now_s = time.monotonic()
        self._due_s = max(self._due_s + 1 / _FPS, now_s - 1 / _FPS)  # a late reader finds at most one frame ready
        time.sleep(max(0.0, self._due_s - now_s))
        if not self._capture.grab():
            self._capture.set(cv2.CAP_PROP_POS_FRAMES, 0)
            self._capture.grab()
        self.grabbed_s = time.monotonic()
        return self._capture.retrieve()


def _lerobot(files: list[Path], seconds: float) -> tuple[float, list[float]]:
    """Percent of a core of this process while it takes the frames of all files, and the age [s] of each when it was taken."""
    with mock.patch.object(cv2, "VideoCapture", _PacedCapture):
        cameras = [OpenCVCamera(OpenCVCameraConfig(index_or_path=file)) for file in files]
        for camera in cameras:
            camera.connect()
        ages: list[float] = []
        end = time.monotonic() + seconds

        def take(camera: OpenCVCamera) -> None:
            while time.monotonic() < end:
                camera.async_read(timeout_ms=5000)
                ages.append(time.monotonic() - camera.videocapture.grabbed_s)

        before = time.process_time()
        takers = [threading.Thread(target=take, args=(camera,)) for camera in cameras]
        for taker in takers:
            taker.start()
        for taker in takers:
            taker.join()
        percent = 100 * (time.process_time() - before) / seconds
        for camera in cameras:
            camera.disconnect()
    return percent, ages
