# SPDX-License-Identifier: Apache-2.0
"""One camera: opened, read, checked, opened again. Only the newest frame is kept."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from so101_driver.camera_device import Device, wrong_size
from so101_driver.errors import CameraError, CameraFrozenError, CameraLostError, CameraSizeError, VideoEndedError
from so101_driver.settings import CameraParameters

_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 4.0  # between attempts to open
_ROWS = 48  # every so many rows are compared first


@dataclass(frozen=True)
class Frame:
    """pixels: (height, width, 3) uint8 RGB. stamp_ns: when the device handed it over, before it was decoded."""

    pixels: np.ndarray
    stamp_ns: int


@dataclass
class Counts:
    """Since the start. damaged: frames that could not be decoded. frozen: frames withheld. opened: how often it was opened."""

    frames: int = 0
    damaged: int = 0
    frozen: int = 0
    opened: int = 0


class Camera:
    """One thread calls `step`; any may ask for `problem`, `fps` and `counts`.

    open_device: makes a Device or raises CameraError. size: width and height it must have. now_ns: time of stamps.
    warn, inform: are told each sentence once, not at every attempt. clock: steady seconds.
    """

    def __init__(
        self,
        params: CameraParameters,
        size: tuple[int, int],
        open_device: Callable[[], Device],
        now_ns: Callable[[], int],
        warn: Callable[[str], None],
        inform: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.params, self.size, self.counts = params, size, Counts()
        self._open_device, self._now_ns, self._warn, self._inform, self._clock = open_device, now_ns, warn, inform, clock
        self._device: Device | None = None
        self._error: CameraError | None = None
        self._said: set[str] = set()
        self._pause_s = _PAUSE_S
        self._good_s = clock()  # when the last good frame came
        self._deadline_s = math.inf  # when the next one must have come
        self._last: np.ndarray | None = None
        self._alike = 0
        self._times: deque[float] = deque(maxlen=60)

    @property
    def problem(self) -> str | None:
        """Why no fresh frames come; None while they do."""
        error, silent_s = self._error, self._clock() - self._good_s
        if error is not None:
            return str(error)
        return f"{self.params.source}: no frame for {silent_s:.1f} s" if silent_s > self.params.timeout_s else None

    @property
    def fps(self) -> float:
        """Good frames a second, over the last two seconds or so."""
        times = list(self._times)
        return (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 and times[-1] > times[0] else 0.0

    def step(self) -> tuple[Frame | None, float]:
        """The newest frame once it is there, and how long [s] to wait before the next step.

        None: a damaged frame, or a camera that is away, frozen or of the wrong size. It never raises CameraError.
        """
        try:
            if self._device is None:
                self._device = self._opened()
            self._device.grab()
            stamp_ns = self._now_ns()
            pixels = self._device.decode()
            if pixels is None:
                self._note_damage()
                return None, 0.0
            self._check(pixels)
        except CameraError as error:
            return None, self._failed(error)
        self._well()
        return Frame(pixels, stamp_ns), 0.0

    def _opened(self) -> Device:
        device = self._open_device()
        self.counts.opened += 1
        self._deadline_s = self._clock() + self.params.timeout_s
        for remark in device.remarks:
            self._say_once(remark)
        return device

    def _note_damage(self) -> None:
        self.counts.damaged += 1
        if self._clock() > self._deadline_s:
            raise CameraLostError(
                f"{self.params.source} has delivered no whole frame for {self.params.timeout_s:g} s; try another cable or port"
            )

    def _check(self, pixels: np.ndarray) -> None:
        found = pixels.shape[1], pixels.shape[0]
        if found != self.size:
            raise CameraSizeError(wrong_size(self.params, found, self.size))
        last, self._last = self._last, pixels
        alike = last is not None and np.array_equal(last[::_ROWS], pixels[::_ROWS]) and np.array_equal(last, pixels)
        self._alike = self._alike + 1 if alike else 1
        if 0 < self.params.frozen_frames <= self._alike:
            self.counts.frozen += 1
            raise CameraFrozenError(
                f"{self.params.source} is frozen, its last {self.params.frozen_frames} frames are alike; plug it in again "
                "(frozen_frames:=0 where a picture may stand still)"
            )

    def _failed(self, error: CameraError) -> float:
        """Close it; how long to wait. A camera that stays frozen stays so until it delivers another picture."""
        self.close()
        self._error = error
        self._say_once(str(error))
        if isinstance(error, VideoEndedError):
            return math.inf
        pause_s, self._pause_s = self._pause_s, min(2 * self._pause_s, _LONGEST_PAUSE_S)
        return pause_s

    def _well(self) -> None:
        now_s = self._clock()
        self.counts.frames += 1
        self._times.append(now_s)
        self._good_s, self._deadline_s, self._pause_s = now_s, now_s + self.params.timeout_s, _PAUSE_S
        if self._error is not None:
            self._error = None
            self._said.clear()
            self._inform(f"{self.params.source} delivers again")

    def _say_once(self, sentence: str) -> None:
        if sentence not in self._said:
            self._said.add(sentence)
            self._warn(sentence)

    def close(self) -> None:
        """Give the device back; the next step opens it again."""
        device, self._device = self._device, None
        if device is not None:
            device.close()


class Reader:
    """A thread that reads a camera all the time and keeps the newest frame. missed: frames that nobody took in time."""

    def __init__(self, camera: Camera) -> None:
        self.missed = 0
        self._camera = camera
        self._frame: Frame | None = None
        self._news = threading.Condition()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="camera")
        self._thread.start()

    def _run(self) -> None:
        while not self._ending.is_set():
            frame, pause_s = self._camera.step()
            if frame is not None:
                with self._news:
                    self.missed += self._frame is not None
                    self._frame = frame
                    self._news.notify()
            elif pause_s:
                self._ending.wait(pause_s if math.isfinite(pause_s) else None)
        self._camera.close()

    def take(self, timeout_s: float) -> Frame | None:
        """The newest frame that was not taken yet; None when there is none for so long."""
        with self._news:
            self._news.wait_for(lambda: self._frame is not None, timeout_s)
            frame, self._frame = self._frame, None
            return frame

    def close(self) -> None:
        """End the thread, which gives the device back; a silent one is waited for."""
        self._ending.set()
        self._thread.join()
