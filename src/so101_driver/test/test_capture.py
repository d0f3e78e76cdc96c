# SPDX-License-Identifier: Apache-2.0
"""What is done when a camera does not do what it should, on a made-up device and a made-up clock."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

import numpy as np
import pytest

from hilserl_core.task import TaskSpec
from so101_driver.capture import Camera, Frame, Reader
from so101_driver.errors import CameraLostError, CameraMissingError, VideoEndedError
from so101_driver.settings import CameraParameters

SIZE = (8, 4)


class FakeDevice:
    """Each step of its script is a frame to decode (None for a damaged one), or an error; every grab takes a period."""

    def __init__(self, bench: Bench) -> None:
        self.remarks = bench.remarks
        self._bench = bench
        self.closed = False

    def grab(self) -> None:
        bench = self._bench
        bench.now_s += bench.period_s
        self._next = bench.script.pop(0) if bench.script else picture(bench.number())
        if isinstance(self._next, Exception):
            raise self._next

    def decode(self) -> np.ndarray | None:
        self._bench.now_s += 0.005
        return self._next

    def close(self) -> None:
        self.closed = True


class Bench:
    """A camera to look at. script: what the device does next. refuse: what opening raises. told: what was said of it."""

    def __init__(self, **params: object) -> None:
        self.now_s, self.period_s = 100.0, 0.02
        self.script: list[object] = []
        self.refuse: Exception | None = None
        self.remarks: list[str] = []
        self.devices: list[FakeDevice] = []
        self.told: list[str] = []
        self._number = 0
        self.camera = Camera(
            CameraParameters(**params), SIZE, self._open, lambda: round(self.now_s * 1e9), self.told.append, self.told.append,
            lambda: self.now_s,
        )  # fmt: skip

    def number(self) -> int:
        self._number += 1
        return self._number

    def _open(self) -> FakeDevice:
        if self.refuse is not None:
            raise self.refuse
        self.devices.append(FakeDevice(self))
        return self.devices[-1]

    def steps(self, count: int) -> list[Frame | None]:
        """Several steps, with the pauses between them."""
        frames = []
        for _ in range(count):
            frame, pause_s = self.camera.step()
            self.now_s += pause_s
            frames.append(frame)
        return frames


def picture(value: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.full((size[1], size[0], 3), value % 256, np.uint8)


def test_a_frame_is_stamped_when_it_was_handed_over_and_not_when_it_was_decoded():
    bench = Bench()
    (frame,) = bench.steps(1)
    assert frame.stamp_ns == round(100.02e9) and bench.now_s == pytest.approx(100.025)
    assert frame.pixels.shape == (4, 8, 3) and bench.camera.problem is None


def test_alike_frames_make_a_camera_frozen_until_another_picture_comes():
    bench = Bench(frozen_frames=3)
    bench.steps(1)
    bench.script = [picture(7)] * 6
    frames = bench.steps(6)
    assert [frame is not None for frame in frames] == [True, True, False, False, False, False]
    assert len(bench.devices) == 4 and all(device.closed for device in bench.devices), "it is opened again each time"
    assert "its last 3 frames are alike" in bench.camera.problem and bench.camera.counts.frozen == 4
    assert len(bench.told) == 1, "it is said once"
    (frame,) = bench.steps(1)
    assert frame is not None and bench.camera.problem is None and "delivers again" in bench.told[-1]


def test_a_picture_that_differs_in_one_byte_is_no_frozen_one():
    bench = Bench(frozen_frames=2)
    other = picture(7)
    other[2, 5, 1] += 1
    bench.script = [picture(7), other] * 3
    assert all(bench.steps(6))


def test_a_picture_may_stand_still_where_it_is_said():
    bench = Bench(frozen_frames=0)
    bench.script = [picture(7)] * 200
    assert all(bench.steps(200))


def test_damaged_frames_are_left_out_and_too_many_of_them_reopen_it():
    bench = Bench(timeout_s=0.1)
    bench.script = [picture(200), None, None, picture(201), *[None] * 5]
    assert [frame is not None for frame in bench.steps(4)] == [True, False, False, True]
    bench.steps(4)
    assert len(bench.devices) == 1 and bench.camera.problem is None
    bench.steps(1)
    assert bench.devices[0].closed and "no whole frame for 0.1 s" in bench.camera.problem
    assert bench.steps(1)[0] is not None and bench.camera.counts.damaged == 7


def test_a_device_that_holds_the_reader_is_told_by_the_clock():
    bench = Bench(timeout_s=1.0)
    bench.steps(1)
    bench.now_s += 0.9
    assert bench.camera.problem is None
    bench.now_s += 0.2
    assert bench.camera.problem == "/dev/video0: no frame for 1.1 s"


def test_unplugged_it_is_tried_again_ever_more_rarely_and_said_once():
    bench = Bench()
    bench.steps(1)
    bench.script = [CameraLostError("gone")]
    bench.refuse = CameraMissingError("not there")
    pauses = [bench.camera.step()[1] for _ in range(6)]
    assert pauses == [0.5, 1.0, 2.0, 4.0, 4.0, 4.0] and bench.devices[0].closed
    assert bench.told == ["gone", "not there"] and bench.camera.problem == "not there"
    bench.refuse = None
    assert bench.steps(1)[0] is not None
    assert bench.told[2:] == ["/dev/video0 delivers again"] and bench.camera.counts.opened == 2
    bench.script = [CameraLostError("gone")]
    assert bench.camera.step() == (None, 0.5), "the pauses begin anew"


def test_another_size_than_expected_is_refused_with_the_cure():
    bench = Bench()
    bench.script = [picture(1, (16, 8))]
    assert bench.steps(1) == [None] and bench.devices[0].closed
    assert bench.told == [
        "/dev/video0 delivers 16x8, expected of camera 'wrist' is 8x4: set task.camera_sizes (width and height where the task "
        "does not name it), or take another camera"
    ]


def test_what_a_device_ignores_is_said():
    bench = Bench()
    bench.remarks = ["it ignores exposure"]
    bench.steps(3)
    assert bench.told == ["it ignores exposure"]


def test_a_file_that_has_ended_is_not_opened_again():
    bench = Bench()
    bench.script = [VideoEndedError("ended")]
    assert bench.camera.step() == (None, math.inf) and bench.camera.problem == "ended"


def test_frames_per_second():
    bench = Bench()
    bench.steps(50)
    assert bench.camera.fps == pytest.approx(40.0)


@pytest.mark.parametrize(("camera", "size"), [("wrist", (320, 240)), ("front", (128, 96)), ("side", (800, 600))])
def test_the_task_says_the_size_and_parameters_only_where_it_does_not(camera, size):
    task = TaskSpec(
        cameras=("wrist", "front"), camera_sizes=(320, 240, 128, 96), crops=(0, 0, 96, 96) * 2, rotations_deg=(90, 0)
    )  # fmt: skip
    assert CameraParameters(camera=camera, width=800, height=600).size(task) == size


@pytest.mark.parametrize("wrong", [{"camera": ""}, {"source": ""}, {"fourcc": "MJPEG"}, {"frozen_frames": 1}])
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        CameraParameters(**wrong)


class HandCamera:
    """Its frames come when the test lets them."""

    def __init__(self) -> None:
        self.gate = threading.Semaphore(0)
        self.stepped = threading.Semaphore(0)
        self.number, self.closed = 0, False
        self.pause_s = 0.0

    def step(self) -> tuple[Frame | None, float]:
        self.stepped.release()
        self.gate.acquire()
        self.number += 1
        return (None, self.pause_s) if self.pause_s else (Frame(picture(self.number), self.number), 0.0)

    def close(self) -> None:
        self.closed = True


def _let(camera: HandCamera, frames: int) -> None:
    """Let it deliver frames; when this returns the reader has them."""
    for _ in range(frames):
        camera.gate.release()
        assert camera.stepped.acquire(timeout=30.0)


def _end(camera: HandCamera, reader: Reader, finish: Callable[[], object]) -> None:
    closing = threading.Thread(target=reader.close)
    closing.start()
    finish()
    closing.join(30.0)
    assert not closing.is_alive() and camera.closed


def test_a_slow_taker_gets_the_newest_frame_and_no_queue():
    camera = HandCamera()
    reader = Reader(camera)
    assert camera.stepped.acquire(timeout=30.0)
    _let(camera, 4)
    assert reader.take(30.0).stamp_ns == 4 and reader.missed == 3
    assert reader.take(0.0) is None, "a frame is taken once"
    _let(camera, 1)
    assert reader.take(30.0).stamp_ns == 5
    _end(camera, reader, camera.gate.release)


def test_a_reader_ends_within_a_pause():
    camera = HandCamera()
    camera.pause_s = math.inf
    reader = Reader(camera)
    _end(camera, reader, camera.gate.release)
